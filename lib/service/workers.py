"""Worker processes: several answer at one port, as many as the load asks for and the cores allow.

The first process binds the port and answers nothing itself.  It forks workers, which accept connections of the one
listening socket, starts another for each that dies, and tells them when it ends.  Forked workers begin in milliseconds
and share the memory of all that was imported before; one socket for all means that a connection waits for whoever lives
and has time, while sockets of their own (``SO_REUSEPORT``) would take those that wait at a dead worker down with it.

uvicorn's own supervisor starts each worker as a new program (2 s of processor time and 106 MB, 228 MB with torch,
instead of 0.1 s and a few MB), kills one that computes for five seconds, and makes no pause before the next where one
cannot live.
"""

import gc
import importlib
import math
import mmap
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import uvicorn

from lib.resources import throttling
from lib.resources.throttling import Throttle
from lib.service import http

HEAVY = ("lib.recipes.sequences",)  # imports torch
LOOK_SECONDS = 1.0  # between two looks at the load
BUSY, BUSY_LOOKS = 0.8, 3  # of a core, by each worker: so many times in a row, and there is one more
IDLE, IDLE_LOOKS = 0.5, 60  # if all were done by one worker less: so many times in a row, and there is one less
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 10.0  # before another is started where one died before it answered
LEAVE_SECONDS = http.KEEP_ALIVE_SECONDS + 5.0  # for the connections of one that leaves to be given up by their clients
UNEVEN = 4  # a worker gives connections away from a quarter above its share on

_fork = multiprocessing.get_context("fork")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Board:
    """What the processes tell each other, in memory that they share.  Each cell is written by one of them.

    wanted: workers that what is provisioned asks for.
    """

    PID, READY, LEAVING, CONNECTIONS, CELLS = range(5)

    def __init__(self, places: int):
        self.places = places
        self._cells = memoryview(mmap.mmap(-1, 8 * (1 + places * self.CELLS))).cast("q")
        self.counts = mmap.mmap(-1, throttling.size(places))

    @property
    def wanted(self) -> int:
        return self._cells[0]

    @wanted.setter
    def wanted(self, workers: int) -> None:
        self._cells[0] = workers

    def get(self, number: int, cell: int) -> int:
        return self._cells[1 + number * self.CELLS + cell]

    def set(self, number: int, cell: int, value: int) -> None:
        self._cells[1 + number * self.CELLS + cell] = value

    def answering(self) -> list[int]:
        """Numbers of the workers that accept connections."""
        return [
            number
            for number in range(self.places)
            if self.get(number, self.PID) and self.get(number, self.READY) and not self.get(number, self.LEAVING)
        ]


@dataclass(frozen=True, slots=True)
class Place:
    """A worker's place among the others.  number: 0 is always there.  folder: of the metrics of all."""

    number: int
    board: Board
    folder: Path
    parent: int

    def throttle(self) -> Throttle:
        """Counts with the others."""
        return Throttle(memoryview(self.board.counts), self.number)

    def server(self, application: http.Application) -> uvicorn.Server:
        """What runs the application: ``run(sockets=[listener])`` returns when the worker shall end."""
        return _Server(application, self)


class _Server(uvicorn.Server):
    """uvicorn's server, which gives connections away where others have fewer."""

    def __init__(self, application: http.Application, place: Place):
        super().__init__(http.configuration(application))
        self.place = place

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        board, number = self.place.board, self.place.number
        if os.getppid() != self.place.parent:
            self.should_exit = True
        elif board.get(number, Board.LEAVING):
            for server in self.servers:
                server.close()
            self._give_away(len(self.server_state.connections))
            self.should_exit = self.should_exit or not self.server_state.connections
        else:
            board.set(number, Board.CONNECTIONS, len(self.server_state.connections))
            board.set(number, Board.READY, 1)
            if counter % 10 == 0:
                self._share()
        return await super().on_tick(counter)

    def _share(self) -> None:
        board = self.place.board
        counts = [board.get(number, Board.CONNECTIONS) for number in board.answering()]
        fair = math.ceil(sum(counts) / len(counts))
        if len(self.server_state.connections) > fair + max(1, fair // UNEVEN):
            self._give_away(len(self.server_state.connections) - fair)

    def _give_away(self, many: int) -> None:
        """Let so many connections end with their next answer, which says so: who has more to ask opens another."""
        connections = [one for one in self.server_state.connections if isinstance(one, http.Protocol)]
        going = sum(one.last for one in connections)
        for connection in [one for one in connections if not one.last][: max(0, many - going)]:
            connection.last = True


@dataclass(slots=True, kw_only=True)
class _Worker:
    """A running worker.  since: when it was started.  seconds: of processor time it had used at the last look."""

    process: BaseProcess
    since: float
    seconds: float = 0.0
    leaving_since: float | None = None


@dataclass(slots=True)
class Demand:
    """How many workers there shall be.  busy, idle: looks in a row that spoke for more, or fewer."""

    target: int
    busy: int = 0
    idle: int = 0

    def look(self, used: float, working: int, floor: int, most: int) -> int:
        """The target, after one more look at the load.

        used: cores that the workers kept busy since the last look.  working: of how many.  floor: for what is
        provisioned.
        """
        self.busy = self.busy + 1 if used > BUSY * working else 0
        self.idle = self.idle + 1 if used < IDLE * (working - 1) else 0
        before, self.target = self.target, max(self.target, floor)
        if self.busy >= BUSY_LOOKS:
            self.target = min(most, self.target + 1)
        elif self.idle >= IDLE_LOOKS:
            self.target = max(floor, self.target - 1)
        if self.target != before:
            self.busy = self.idle = 0
        return self.target


def run(work: Callable[[Place], None], *, least: int, most: int, log: Callable[..., None]) -> None:
    """Have between ``least`` and ``most`` workers until this process is told to end.

    work: what a worker does, which does not return before it shall end.  log: takes members of a line.
    """
    with tempfile.TemporaryDirectory(prefix="personalize-") as folder, _told() as told:
        _Crew(work, least, most, log, Path(folder)).run(told)


@contextmanager
def _told() -> Iterator[socket.socket]:
    """A socket that can be read from once this process was told to end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield ours
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        ours.close()
        theirs.close()


class _Crew:
    """The workers of one port."""

    def __init__(self, work: Callable[[Place], None], least: int, most: int, log: Callable[..., None], folder: Path):
        self.work, self.least, self.most, self.log, self.folder = work, least, most, log, folder
        self.board = Board(2 * most)  # some may be leaving
        self.running: dict[int, _Worker] = {}
        self.demand, self.looked = Demand(least), time.monotonic()
        self.died_early, self.not_before = 0, 0.0

    def run(self, told: socket.socket) -> None:
        try:
            while True:
                self._bury()
                self._fill()
                sentinels = [worker.process.sentinel for worker in self.running.values()]
                pause = self.not_before - time.monotonic()
                if told in wait([told, *sentinels], min(LOOK_SECONDS, pause) if pause > 0 else LOOK_SECONDS):
                    return
                if time.monotonic() - self.looked >= LOOK_SECONDS:
                    self._look()
        finally:
            self._end()

    def _bury(self) -> None:
        """Take note of those who died."""
        for number, worker in list(self.running.items()):
            if worker.process.exitcode is None:
                continue
            del self.running[number]
            if worker.leaving_since is None:
                early = not self.board.get(number, Board.READY)
                self.died_early = self.died_early + 1 if early else 0
                pause = 0.0
                if early:
                    pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (self.died_early - 1))
                    self.not_before = time.monotonic() + pause
                self.log(
                    event="worker ended",
                    worker=number,
                    process=worker.process.pid,
                    exit=worker.process.exitcode,
                    when="before it answered" if early else "while it answered",
                    again_in_seconds=pause,
                )
            for cell in range(Board.CELLS):
                self.board.set(number, cell, 0)
            worker.process.close()

    def _fill(self) -> None:
        """Start what is missing, once nothing speaks against it."""
        while self._staying() < self.demand.target and time.monotonic() >= self.not_before:
            if self.running:  # whoever is alone shall not wait for this
                for module in HEAVY:
                    importlib.import_module(module)
            self._start(min(set(range(self.board.places)) - self.running.keys()))

    def _staying(self) -> int:
        return sum(worker.leaving_since is None for worker in self.running.values())

    def _start(self, number: int) -> None:
        place = Place(number, self.board, self.folder, os.getpid())
        gc.collect()
        gc.freeze()  # so that collecting garbage in a worker does not make its memory its own
        process = _fork.Process(target=_begin, args=(self.work, place), name=f"worker-{number}")
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until the child can tell that they are meant for it
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        self.board.set(number, Board.PID, process.pid)
        self.running[number] = _Worker(process=process, since=time.monotonic())

    def _look(self) -> None:
        """Decide how many there shall be."""
        elapsed = time.monotonic() - self.looked
        self.looked += elapsed
        used = 0.0
        for worker in self.running.values():
            try:
                seconds = sum(psutil.Process(worker.process.pid).cpu_times()[:2])
            except psutil.NoSuchProcess:
                continue
            used += (seconds - worker.seconds) / elapsed
            worker.seconds = seconds
            if worker.leaving_since is not None and self.looked - worker.leaving_since > LEAVE_SECONDS:
                worker.process.terminate()
        before, floor = self.demand.target, max(self.least, min(self.board.wanted, self.most))
        target = self.demand.look(used, self._staying(), floor, self.most)
        if target != before:
            self.log(event="workers", before=before, now=target, cores_used=round(used, 2), provisioned_for=floor)
        for number in sorted(self.running, reverse=True):
            if self._staying() > target and self.running[number].leaving_since is None:
                self.running[number].leaving_since = self.looked
                self.board.set(number, Board.LEAVING, 1)

    def _end(self) -> None:
        """Tell all; whoever has not ended when the time for answers is over is killed."""
        for worker in self.running.values():
            worker.process.terminate()
        until = time.monotonic() + http.SHUTDOWN_SECONDS + 2
        for worker in self.running.values():
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()


def _begin(work: Callable[[Place], None], place: Place) -> None:
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    work(place)
