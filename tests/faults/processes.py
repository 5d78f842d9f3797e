"""Services and workers that start in milliseconds, to be killed: forked from a process that has imported everything."""

import multiprocessing
import os
from multiprocessing.process import BaseProcess
from pathlib import Path

from lib import jobs
from lib.service import __main__ as service
from lib.service import workers

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


def start(target, log: Path, *arguments: str) -> BaseProcess:
    """``target`` with its command line in a process of its own, which appends to a log whatever it prints."""
    process = _context.Process(target=_run, args=(target, log, arguments), daemon=False)
    process.start()
    return process


def serve(arguments: list[str]) -> None:
    """A service."""
    service.main(arguments)


def serve_restlessly(arguments: list[str]) -> None:
    """A service that takes the machine for one of two cores, and adds and ends workers within a second."""
    workers.cores = lambda: 2
    workers.LOOK_SECONDS, workers.BUSY, workers.IDLE_LOOKS = 0.1, 0.05, 5
    service.main(arguments)


def work(arguments: list[str]) -> None:
    """A worker that ends where there is nothing to do."""
    jobs.main(arguments)


def _run(target, log: Path, arguments: tuple[str, ...]) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    target(list(arguments))
