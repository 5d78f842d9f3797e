"""A service in a process of its own, for tests that only its port can pass."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
NO_AWS = {  # so that no test depends on what a machine may reach
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
START_SECONDS = 60.0  # for a machine that is doing something else
REST_SECONDS = 240.0
PASSING = ("PENDING", "IN_PROGRESS", "STOPPING")  # how the states end that something else follows


class Service:
    """A running service: its process, its URL, and the lines it has written, errors too."""

    def __init__(self, store: Path, *arguments: str, environment: dict[str, str] | None = None):
        command = [sys.executable, "-m", "lib.service", "--port", "0", "--store", str(store), *arguments]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PERSONALIZE_"))}
        self.process = subprocess.Popen(
            command,
            env={**inherited, **NO_AWS, "PYTHONPATH": str(ROOT), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log: list[str] = []
        self._first: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        first = self._first.get(timeout=START_SECONDS)
        if not first.startswith("{"):
            self.end()
            raise RuntimeError(f"the service did not start:\n{''.join(self.log)}")
        self.url: str = json.loads(first)["url"]

    def _read(self) -> None:
        for line in self.process.stdout:
            self.log.append(line)
            self._first.put(line)
        self._first.put("")

    def client(self, service: str, **options: object):
        """A boto3 client that asks once and does not sign."""
        config = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}, **options)
        return boto3.Session(region_name=REGION).client(service, endpoint_url=self.url, config=config)

    def kill(self) -> None:
        """End it as a power failure would."""
        self.process.kill()
        self.end()

    def end(self) -> None:
        """Wait for its end and for the last line of its log."""
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()


@contextmanager
def serving(store: Path, *arguments: str, environment: dict[str, str] | None = None) -> Iterator[Service]:
    """A service that ends with the block."""
    service = Service(store, *arguments, environment=environment)
    try:
        yield service
    finally:
        service.process.terminate()
        service.end()


def until(done: Callable[[Any], bool], ask: Callable[[], Any], seconds: float = REST_SECONDS) -> Any:
    """Ask until the answer will do; that answer."""
    end = time.monotonic() + seconds
    while not done(answer := ask()):
        if time.monotonic() > end:
            raise TimeoutError(f"still so after {seconds:g} seconds: {answer}")
        time.sleep(0.03)  # the other side of a port cannot tell when it is done
    return answer


def rest(describe: Callable[[], dict]) -> dict:
    """The resource that ``describe`` answers with, once its status is one that nothing else follows."""

    def resource() -> dict:
        (found,) = (value for key, value in describe().items() if key != "ResponseMetadata")
        return found

    return until(lambda found: not found["status"].endswith(PASSING), resource)
