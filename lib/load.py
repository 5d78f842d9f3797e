"""Load on an HTTP service of this machine: how long requests take and how many are answered per second.

One thread, one connection a client, each kept open and asked again as soon as it has answered (a closed loop), so the
client costs little of the processor that it shares with the service.
"""

import asyncio
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

import httptools
import numpy as np
import uvloop

MOST_CLIENTS = 256
MOST_REQUESTS = 1_000_000
SILENT_SECONDS = 30.0  # without any answer: then the measurement ends in an error


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the clients saw.

    milliseconds: (N,) float64, of each answered request in the order of their answers.  seconds: of the whole
    measurement.  errors: status of answers that were no success -> how many; they count as answered.
    """

    milliseconds: np.ndarray
    seconds: float
    errors: dict[int, int]

    @property
    def requests_per_second(self) -> float:
        """Answered requests in a second."""
        return len(self.milliseconds) / self.seconds

    def percentile(self, percent: float) -> float:
        """Milliseconds within which ``percent`` of the requests were answered."""
        return float(np.percentile(self.milliseconds, percent))


def measure(
    url: str,
    path: str,
    bodies: Sequence[bytes],
    *,
    clients: int,
    requests: int,
    seconds: float = math.inf,
    per_second: float = math.inf,
    headers: Sequence[tuple[str, str]] = (("Content-Type", "application/json"),),
) -> Measurement:
    """POST ``bodies`` in turn, over and over, ``requests`` times in all, from ``clients`` at once.

    url: scheme, host and port of a service on this machine.  seconds: after which no more is asked, if sooner.
    per_second: how many are asked in a second at most, evenly; one that is late counts from when it was due.  Runs
    in a thread of its own, so notebooks, which have an event loop already, may call it.  Raises ValueError for what it
    will not do, ConnectionError if the service is not there or goes away, TimeoutError if it is silent for half a
    minute.
    """
    host, port = _loopback(url)
    if not 1 <= clients <= MOST_CLIENTS or not 1 <= requests <= MOST_REQUESTS or not bodies:
        raise ValueError(
            f"{clients} clients, {requests} requests, {len(bodies)} bodies: there may be 1 to {MOST_CLIENTS} clients, "
            f"1 to {MOST_REQUESTS} requests, and at least one body"
        )
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}:{port}", *(f"{name}: {value}" for name, value in headers)]
    head = "\r\n".join(lines)
    messages = [f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    with ThreadPoolExecutor(1, thread_name_prefix="load") as thread:
        return thread.submit(
            uvloop.run, _measure(host, port, messages, min(clients, requests), requests, seconds, per_second)
        ).result()


def first_and_again(
    url: str, path: str, bodies: Sequence[bytes], *, clients: Sequence[int], requests: int
) -> dict[str, dict[int, Measurement]]:
    """``measure`` for each number of clients, with bodies asked for the first time, and then with the same ones again.

    The first body is asked before any clock starts, for a service loads a model when it is asked for it.  Each number
    of clients has bodies of its own, ``requests`` of them or as many as there are for each.
    """
    measure(url, path, bodies[:1], clients=1, requests=1)
    each = max(1, min(requests, (len(bodies) - 1) // len(clients)))
    measured: dict[str, dict[int, Measurement]] = {"first time": {}, "again": {}}
    for n, start in zip(clients, range(1, 1 + each * len(clients), each)):
        for of_time in measured.values():
            of_time[n] = measure(url, path, bodies[start : start + each], clients=n, requests=each)
    return measured


def _loopback(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    try:
        local = parts.scheme == "http" and parts.port is not None and ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ValueError(f"{url}: load is only put on this machine; give a URL such as http://127.0.0.1:8400")
    return host, parts.port


async def _measure(
    host: str, port: int, messages: list[bytes], clients: int, requests: int, seconds: float, per_second: float
) -> Measurement:
    work = _Work(itertools.cycle(messages), requests, math.inf, 1 / per_second)
    connected = [_Client(work, host, port) for _ in range(clients)]
    for client in connected:
        await client.connect()
    started = time.perf_counter()
    work.due, work.until = started, started + seconds
    try:
        for client in connected:
            client.ask()
        await _finish(connected)
    finally:
        for client in connected:
            client.done.cancel()
            client.transport.abort()
    answers = sorted(answer for client in connected for answer in client.answers)
    lasted = answers[-1][0] - started
    errors: dict[int, int] = {}
    for _, _, status in answers:
        if not 200 <= status < 300:
            errors[status] = errors.get(status, 0) + 1
    return Measurement(np.array([milliseconds for _, milliseconds, _ in answers]), lasted, errors)


@dataclass(slots=True)
class _Work:
    """What the clients share: the messages, how many may still be sent, until when, and when the next one is due."""

    messages: Iterator[bytes]
    left: int
    until: float
    interval: float
    due: float = 0.0


class _Client(asyncio.Protocol):
    """One connection that asks again as soon as it has its answer; another where the service says it was the last.

    answers: (when, milliseconds, status).
    """

    def __init__(self, work: _Work, host: str, port: int):
        self.work, self.host, self.port = work, host, port
        self.answers: list[tuple[float, float, int]] = []
        self.done = asyncio.get_running_loop().create_future()
        self.last = False

    async def connect(self) -> None:
        """Open a connection."""
        self.parser, self.last = httptools.HttpResponseParser(self), False
        await asyncio.get_running_loop().create_connection(lambda: self, self.host, self.port)

    def ask(self) -> None:
        self.asked = time.perf_counter()
        if self.work.left == 0 or self.asked > self.work.until:
            self.done.set_result(None)
            return
        self.work.left -= 1
        if self.work.interval:
            self.work.due, due = self.work.due + self.work.interval, self.work.due
            wait, self.asked = due - self.asked, due
            if wait > 0:
                asyncio.get_running_loop().call_later(wait, self._send)
                return
        self._send()

    def _send(self) -> None:
        self.asked = min(self.asked, time.perf_counter())  # a timer may be early by its grain
        self.transport.write(next(self.work.messages))

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self.answers.append((now, (now - self.asked) * 1000, self.parser.get_status_code()))
        self.last = not self.parser.should_keep_alive()
        if self.last:
            self.transport.close()
        else:
            self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if self.last:
            self.connecting = asyncio.get_running_loop().create_task(self._go_on())
        else:
            self.done.set_exception(ConnectionError("the service closed a connection before it had answered"))

    async def _go_on(self) -> None:
        try:
            await self.connect()
        except OSError as error:
            self.done.set_exception(ConnectionError(f"the service takes no connection any more: {error}"))
        else:
            self.ask()


async def _finish(clients: list[_Client]) -> None:
    waiting = {client.done for client in clients}
    answered = -1
    while waiting:
        done, waiting = await asyncio.wait(waiting, timeout=SILENT_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
        for future in done:
            future.result()
        before, answered = answered, sum(len(client.answers) for client in clients)
        if waiting and answered == before:
            raise TimeoutError(f"no answer for {SILENT_SECONDS:.0f} seconds, after {answered} that came")
