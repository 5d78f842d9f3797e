"""The door for everyone else: the dispatcher behind a port, for any AWS client.

One ASGI application without a framework on the path of operations, since a recommendation costs less than a framework
does; ``/health`` and ``/metrics`` are called rarely and have one.  Operations run in a few threads, so that loading a
model or waiting for the disk holds nobody else up.  A recommendation that is at hand is answered where its last byte is
read, without ASGI in between.
"""

import asyncio
import ctypes
import gc
import itertools
import logging
import os
import sys
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from lib.resources.errors import ApiError, ThrottlingException
from lib.service import model, sigv4, wire
from lib.service.dispatch import Dispatcher, Prepared
from lib.store.commits import Commits, Outdated
from lib.store.database import is_full

BODY_BYTES = 4 * 2**20  # ten items with properties of 32,000 characters, each escaped to twelve bytes
DISCARDED_BYTES = 4 * BODY_BYTES  # read and dropped, so that whoever sent too much can still read why it was refused
HEADER_BYTES = 2**16
REQUEST_SECONDS = 20.0  # for a request to arrive, from its first byte to its last
KEEP_ALIVE_SECONDS = 65
SHUTDOWN_SECONDS = 3
REQUESTS_IN_FLIGHT = 256
THREADS = 32
GATHER_SECONDS = 0.01  # a transaction costs as much as five calls in it, and campaigns look at the store after each
GATHERED_AT_ONCE = 32  # calls; where so many wait, no more are waited for
SWITCH_SECONDS = 0.0005  # after which a thread lets others compute: ten times as often as Python's own default
UNTOLD_SECONDS = 0.1  # after which what was answered is logged and counted
M_ARENA_MAX = -8  # in malloc.h
HEAPS = 2  # with one for each thread, what was given back lay about in all of them: 2 kB more a request
GARBAGE = 50_000  # new objects after which circles of them are sought; at Python's 700 that took a tenth of the time
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"  # Prometheus' client library finds its folder there
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)  # seconds

RECOMMENDATIONS = "/recommendations"
ASKED_AT_ONCE = {"method": "POST", "path": RECOMMENDATIONS}
ANSWERED_AT_ONCE = 8  # requests: the first waits for so many others, each takes a tenth of a millisecond
REMEMBERED, REMEMBERED_BYTES = 10_000, 1_024  # requests for recommendations that need not be read again, and their size
GATHERED = ("/events", "/action-interactions")  # whose events are written together with those of others

Log = Callable[[bytes], object]


class AccessDeniedException(ApiError):
    """This caller may not call."""


class InternalFailure(ApiError):
    """Our fault."""


class RequestEntityTooLargeException(ApiError):
    """The body is over the limit."""


def signed_by(keys: Mapping[str, sigv4.Key], region: str, now: Callable[[], datetime]) -> wire.Authorise:
    """Let in whoever signs with one of the keys."""

    def authorise(method: str, target: str, headers: Mapping[str, str], body: bytes) -> None:
        sigv4.verify(keys, region, method, target, headers, body, now())

    return authorise


def no_browser(method: str, target: str, headers: Mapping[str, str], body: bytes) -> None:
    """Let in every program of this machine, but no web page that its user happens to have open."""
    if "origin" in headers:
        raise AccessDeniedException("A service without credentials answers no web pages; start it with --credentials")


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP over a connection, closed when a request takes too long to arrive or its head grows too large.

    What an ``Application`` can answer at once is answered here, together with what others asked in the same moment, for
    then each step finds its code in the processor's caches; uvicorn does not hear of such a request.
    """

    arriving: asyncio.TimerHandle | None = None
    head_bytes = 0
    in_head = in_message = False
    last = False  # whether the next answer is to be the last of this connection
    held: list[bytes] | None = None  # what has come of the body of a request that uvicorn has not heard of

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.application = self.app if isinstance(self.app, Application) else None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.arriving = self.loop.call_later(REQUEST_SECONDS, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self.held = None
        self._arrived()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if not self.in_message:
            self.tell(self.ask())
        super().shutdown()

    def on_message_begin(self) -> None:
        self.tell(self.ask())  # the request before this one, if it waits
        self.in_head = self.in_message = True
        self.head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.in_head = False
        if self.url == RECOMMENDATIONS.encode() and self._may_answer():
            self.held = []
        else:
            self._tell_head()

    def on_body(self, body: bytes) -> None:
        if self.held is None:
            super().on_body(body)
        else:
            self.held.append(body)

    def on_message_complete(self) -> None:
        self.in_message = False
        self._arrived()
        if self.held is None:
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        if not self.in_message:
            if self.held is not None:
                self.application.gather(self)
            return
        if self.held is not None:
            self._tell_held()  # the rest of it may take its time
        if self.arriving is None:
            self.arriving = self.loop.call_later(REQUEST_SECONDS, self.timeout_keep_alive_handler)
        if self.in_head:
            self.head_bytes += len(data)
            if self.head_bytes > HEADER_BYTES:
                self.send_400_response(f"The head of a request may have {HEADER_BYTES} bytes.")

    def ask(self) -> wire.Answer | None:
        """The answer to what is held; None where there is nothing, or uvicorn is to answer."""
        return None if self.held is None or self.last else self.application.at_once(self.headers, b"".join(self.held))

    def tell(self, answered: wire.Answer | None) -> None:
        """Send what ``ask`` gave, or leave the request to uvicorn."""
        if self.held is None:
            return
        if answered is None:
            self._tell_held()
            super().on_message_complete()
            return
        self.held = None
        lines = [STATUS_LINE[answered.status]]
        for name, value in self.server_state.default_headers:
            lines += (name, b": ", value, b"\r\n")
        lines += [f"{name}: {value}\r\n".encode() for name, value in answered.headers]
        self.transport.write(b"".join([*lines, b"\r\n", answered.body]))
        self.on_response_complete()

    def _may_answer(self) -> bool:
        """Whether a request whose head has come may be answered here: an ordinary one, that waits for no other."""
        return (
            self.application is not None
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()
            and not (self.last or self.expect_100_continue or self.flow.write_paused)
            and (self.cycle is None or self.cycle.response_complete)
        )

    def _tell_head(self) -> None:
        super().on_headers_complete()
        if self.last:
            self.cycle.keep_alive = False

    def _tell_held(self) -> None:
        """Let uvicorn hear of what has come of the request."""
        held, self.held = self.held, None
        self._tell_head()
        super().on_body(b"".join(held))

    def _arrived(self) -> None:
        if self.arriving is not None:
            self.arriving.cancel()
            self.arriving = None


class Metrics:
    """What Prometheus may ask for."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("service", "operation")
        self.requests = Counter("personalize_requests", "Requests answered.", labels, registry=self.registry)
        self.errors = Counter(
            "personalize_errors", "Requests answered with an error.", (*labels, "error"), registry=self.registry
        )
        self.seconds = Histogram(
            "personalize_request_seconds",
            "Time from the last byte of a request to its answer.",
            labels,
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._counters: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

    def count(self, done: "Done") -> None:
        """Count one answer."""
        labels = (done.operation.service, done.operation.name) if done.operation else ("", "")
        counters = self._counters.get(labels)
        if counters is None:
            counters = self._counters[labels] = (self.requests.labels(*labels), self.seconds.labels(*labels))
        counters[0].inc()
        counters[1].observe(done.seconds)
        if done.error is not None:
            self.errors.labels(*labels, done.error).inc()

    def told(self, present: "Present") -> bytes:
        """What was counted, by all workers where there are several, and how things stand at present."""
        registry = CollectorRegistry()
        registry.register(present)
        counted = self.registry
        if MULTIPROCESS in os.environ:
            counted = CollectorRegistry()
            MultiProcessCollector(counted)
        return generate_latest(counted) + generate_latest(registry)


def share_metrics(folder: Path, number: int) -> None:
    """Let this process, one worker of several, count in files of a folder that is theirs.

    Call it before an ``Application`` is made.  number: of the worker; the next one with it goes on counting.
    """
    os.environ[MULTIPROCESS] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: number)


class Present:
    """How things stand, for whoever asks for metrics: read when they ask."""

    def __init__(
        self,
        jobs_by_state: Callable[[], Mapping[str, int]],
        campaign_tps: Callable[[], Mapping[str, tuple[float, float]]],
        workers: Callable[[], int],
    ):
        self.jobs_by_state, self.campaign_tps, self.workers = jobs_by_state, campaign_tps, workers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What Prometheus' client library asks a collector for."""
        yield GaugeMetricFamily("personalize_workers", "Processes that answer at this port.", self.workers())
        rates = GaugeMetricFamily(
            "personalize_campaign_tps",
            "Requests a second of the present five minutes, and the minimum that is provisioned.",
            labels=("campaign", "kind"),
        )
        for campaign, (consumed, provisioned) in self.campaign_tps().items():
            rates.add_metric((campaign, "consumed"), consumed)
            rates.add_metric((campaign, "provisioned"), provisioned)
        yield rates
        jobs = GaugeMetricFamily("personalize_jobs", "Imports, trainings and other jobs.", labels=("state",))
        for state, count in self.jobs_by_state().items():
            jobs.add_metric((state,), count)
        yield jobs


class Done(NamedTuple):
    """What is told of one request.  at: epoch seconds of its answer.  size: bytes of it."""

    at: float
    request_id: str
    operation: model.Operation | None
    status: int
    error: str | None
    seconds: float
    size: int


class Application:
    """The ASGI application.

    authorise: raises ApiError for who may not call.  log: takes lines of JSON, one for each operation called.
    at_hand: whether a GetRecommendations, of members as its function has them, can be answered in less time than a
    thread takes to begin.  bring_to_hand: makes that true of many, in a thread.
    commits: through which events are written; None where each call of the dispatcher has written when it returns.
    jobs_by_state, campaign_tps, workers: for whoever asks for metrics, how many jobs wait and run, of each campaign
    that is used what it consumes and what is provisioned, and how many processes answer.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        authorise: wire.Authorise,
        log: Log,
        at_hand: Callable[[Mapping[str, Any]], bool] = lambda members: False,
        bring_to_hand: Callable[[Sequence[Mapping[str, Any]]], None] = lambda asked: None,
        commits: Commits | None = None,
        jobs_by_state: Callable[[], Mapping[str, int]] = dict,
        campaign_tps: Callable[[], Mapping[str, tuple[float, float]]] = dict,
        workers: Callable[[], int] = lambda: 1,
        requests_in_flight: int = REQUESTS_IN_FLIGHT,
    ):
        self.dispatcher, self.authorise, self.log = dispatcher, authorise, log
        self.metrics, self.present = Metrics(), Present(jobs_by_state, campaign_tps, workers)
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="operation")
        self.at_hand, self.bring_to_hand = at_hand, bring_to_hand
        self.read = lru_cache(REMEMBERED)(partial(wire.read, dispatcher, model.paths()[RECOMMENDATIONS]))
        self.missing: list[tuple[Mapping[str, Any], asyncio.Future]] = []  # by bring_to_hand
        self.bringing: asyncio.Task | None = None
        self.gathered: list[Protocol] = []
        self.commits = commits
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="events")
        self.unwritten: list[asyncio.Future] = []
        self.writing: asyncio.Task | None = None
        self.request_ids = _request_ids()
        self.requests_in_flight, self.in_flight = requests_in_flight, 0
        self.untold: list[Done] = []
        self.pages = Starlette(routes=[Route("/health", self._health), Route("/metrics", self._metrics)])

    async def __call__(self, scope: Mapping[str, Any], receive: Callable, send: Callable) -> None:
        if scope["path"] in ("/health", "/metrics"):
            await self.pages(scope, receive, send)
            return
        request_id = next(self.request_ids)
        started = time.perf_counter()
        if self._is_full():
            error = ThrottlingException(f"{self.in_flight} requests are being answered; try again in a moment")
            answered = wire.refuse(scope["method"], scope["path"], error, request_id=request_id)
        else:
            self.in_flight += 1
            try:
                body = await _body(receive)
                if body is None:
                    return
                started = time.perf_counter()
                if scope["path"] == RECOMMENDATIONS:
                    answered = self._prepare(scope, body, request_id)
                    if isinstance(answered, Prepared):
                        if self._is_at_hand(answered) or await self._brought_to_hand(answered):
                            answered = self._perform(scope, answered, request_id)
                        else:
                            answered = await _in(self.threads, self._perform, scope, answered, request_id)
                elif scope["path"] in GATHERED and self.commits is not None:
                    answered = await self._gathered(scope, body, request_id)
                else:
                    answered = await _in(self.threads, self._answer, scope, body, request_id)
            finally:
                self.in_flight -= 1
        self._note(request_id, answered, started)
        await _send(send, answered)

    def gather(self, protocol: Protocol) -> None:
        """Answer what a connection holds, with what others do: by the end of this round of the event loop."""
        self.gathered.append(protocol)
        if len(self.gathered) == 1:
            asyncio.get_running_loop().call_soon(self._answer_gathered)
        elif len(self.gathered) == ANSWERED_AT_ONCE:
            self._answer_gathered()

    def _answer_gathered(self) -> None:
        gathered, self.gathered = list(dict.fromkeys(self.gathered)), []
        answers = [protocol.ask() for protocol in gathered]
        for protocol, answered in zip(gathered, answers):
            protocol.tell(answered)

    def at_once(self, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> wire.Answer | None:
        """Answer GetRecommendations where that is at hand; None where it is for ASGI to answer, or to refuse."""
        started = time.perf_counter()
        if self._is_full() or len(body) > REMEMBERED_BYTES:
            return None
        try:
            self.authorise("POST", RECOMMENDATIONS, _decoded(headers), body)
            prepared = self.read(body)
        except Exception:
            return None
        if not self._is_at_hand(prepared):
            return None
        request_id = next(self.request_ids)
        answered = self._perform(ASKED_AT_ONCE, prepared, request_id)
        self._note(request_id, answered, started)
        return answered

    def _is_full(self) -> bool:
        return self.in_flight >= self.requests_in_flight

    def _note(self, request_id: str, answered: wire.Answer, started: float) -> None:
        if not self.untold:
            asyncio.get_running_loop().call_later(UNTOLD_SECONDS, self.tell)
        status, _, content, operation, error = answered
        seconds = time.perf_counter() - started
        self.untold.append(Done(time.time(), request_id, operation, status, error, seconds, len(content)))

    def _is_at_hand(self, prepared: Prepared) -> bool:
        try:
            return self.at_hand(prepared.members)
        except Exception:
            return False  # what is wrong shows, and is told, where the operation is performed

    async def _brought_to_hand(self, prepared: Prepared) -> bool:
        """Wait, with all others who wait, until they are at hand: one thread asks for all.  Whether this one is."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self.missing.append((prepared.members, done))
        if self.bringing is None:
            self.bringing = loop.create_task(self._bring())
        await done
        return self._is_at_hand(prepared)

    async def _bring(self) -> None:
        while self.missing:
            missing, self.missing = self.missing, []
            with suppress(Exception):  # as above
                await _in(self.threads, self.bring_to_hand, [members for members, _ in missing])
            for _, done in missing:
                if not done.done():  # whoever waited may have gone away
                    done.set_result(None)
        self.bringing = None

    async def _gathered(self, scope: Mapping[str, Any], body: bytes, request_id: str) -> wire.Answer:
        """Answer once the disk has what the call writes, with all others who wait for that: no thread waits."""
        with self.commits.put_off() as begun:
            answered = self._answer(scope, body, request_id)
        if begun:
            await self._written()
        for one in begun:
            if isinstance(one.error, Outdated):
                return await _in(self.threads, self._answer, scope, body, request_id)
            if one.error is not None or not one.done:
                return self._failure(scope, request_id, one.error or RuntimeError("nothing was written"))
        return answered

    async def _written(self) -> None:
        """Wait until all that was begun is on disk, or has failed."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self.unwritten.append(done)
        if self.writing is None:
            self.writing = loop.create_task(self._write())
        await done

    async def _write(self) -> None:
        while self.unwritten:
            waiting, self.unwritten = self.unwritten, []
            with suppress(Exception):  # whoever waited looks at what became of its own
                await _in(self.writer, self.commits.flush)
            for done in waiting:
                if not done.done():  # whoever waited may have gone away
                    done.set_result(None)
            if 0 < len(self.unwritten) < GATHERED_AT_ONCE:
                await asyncio.sleep(GATHER_SECONDS)
        self.writing = None

    def _answer(self, scope: Mapping[str, Any], body: bytes, request_id: str) -> wire.Answer:
        prepared = self._prepare(scope, body, request_id)
        return self._perform(scope, prepared, request_id) if isinstance(prepared, Prepared) else prepared

    def _prepare(self, scope: Mapping[str, Any], body: bytes, request_id: str) -> Prepared | wire.Answer:
        method, query = scope["method"], scope["query_string"]
        if len(body) > BODY_BYTES:
            error = RequestEntityTooLargeException(f"The body is too large; it may have {BODY_BYTES} bytes")
            return wire.refuse(method, scope["path"], error, request_id=request_id)
        target = (scope["raw_path"] + b"?" + query if query else scope["raw_path"]).decode("latin-1")
        headers = _decoded(scope["headers"])
        try:
            return wire.prepare(
                self.dispatcher, method, target, headers, body, request_id=request_id, authorise=self.authorise
            )
        except Exception as fault:
            return self._failure(scope, request_id, fault)

    def _perform(self, scope: Mapping[str, Any], prepared: Prepared, request_id: str) -> wire.Answer:
        try:
            return wire.perform(self.dispatcher, prepared, scope["method"], scope["path"], request_id=request_id)
        except Exception as fault:
            return self._failure(scope, request_id, fault)

    def _failure(self, scope: Mapping[str, Any], request_id: str, fault: Exception) -> wire.Answer:
        self.log(line(event="failure", request=request_id, traceback="".join(traceback.format_exception(fault))))
        error = InternalFailure(
            "No space is left where the service keeps its store: free some, and send the request again"
            if is_full(fault)
            else f"The service failed; its log says why under request {request_id}"
        )
        return wire.refuse(scope["method"], scope["path"], error, request_id=request_id)

    def tell(self) -> None:
        """Log and count what was answered: for many requests together, or each would wait for the log's file."""
        untold, self.untold = self.untold, []
        for done in untold:
            self.metrics.count(done)
        if untold:
            self.log(b"".join(map(_told, untold)))

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        self.tell()
        told = await asyncio.to_thread(self.metrics.told, self.present)
        return Response(told, media_type=CONTENT_TYPE_LATEST)


class _Lines(logging.Handler):
    """What uvicorn has to say, as lines of the application's log."""

    def __init__(self, log: Log):
        super().__init__(logging.WARNING)
        self.write = log

    def emit(self, record: logging.LogRecord) -> None:
        told = {"traceback": "".join(traceback.format_exception(*record.exc_info))} if record.exc_info else {}
        self.write(line(event="server", level=record.levelname, message=record.getMessage(), **told))


def server(application: Application) -> uvicorn.Server:
    """What runs the application: ``run(sockets=[listener])`` returns when its process is told to end."""
    return uvicorn.Server(configuration(application))


def configuration(application: Application) -> uvicorn.Config:
    """How uvicorn is to run the application; sets up this process for it."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(GARBAGE)
    if hasattr(ctypes.CDLL(None), "mallopt"):  # glibc; others have no heap for each thread
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, HEAPS)
    logger = logging.getLogger("uvicorn.error")
    logger.handlers, logger.propagate = [_Lines(application.log)], False
    return uvicorn.Config(
        application,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def line(at: float | None = None, **members: Any) -> bytes:
    """One line of the log: the time, and what there is to say.  at: epoch seconds; now, if not given."""
    if at is None:
        at = time.time()
    told = f"{_second(int(at))}.{int(at % 1 * 1000):03}+00:00"
    return orjson.dumps({"time": told, **members}, option=orjson.OPT_APPEND_NEWLINE)


def _told(done: Done) -> bytes:
    return line(
        done.at,
        event="request",
        request=done.request_id,
        service=done.operation and done.operation.service,
        operation=done.operation and done.operation.name,
        status=done.status,
        error=done.error,
        milliseconds=round(done.seconds * 1000, 3),
        bytes=done.size,
    )


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _request_ids() -> Iterator[str]:
    """Shaped like UUIDs: what a process draws once, and a count."""
    drawn = str(uuid.uuid4())[:24]
    return (f"{drawn}{count:012x}" for count in itertools.count())


def _in(threads: ThreadPoolExecutor, perform: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
    return asyncio.get_running_loop().run_in_executor(threads, perform, *arguments)


def _decoded(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


async def _body(receive: Callable[[], Awaitable[Mapping[str, Any]]]) -> bytes | None:
    """A request's body, of which no more is kept than shows that it is too large.  None: the caller went away."""
    message = await receive()
    if message["type"] == "http.request" and not message["more_body"]:
        return message["body"]
    kept, size = bytearray(), 0
    while message["type"] == "http.request":
        size += len(message["body"])
        if len(kept) <= BODY_BYTES:
            kept += message["body"]
        if not message["more_body"] or size > DISCARDED_BYTES:
            return bytes(kept)
        message = await receive()
    return None


async def _send(send: Callable[[Mapping[str, Any]], Awaitable[None]], answered: wire.Answer) -> None:
    headers = [(name.encode(), value.encode()) for name, value in answered.headers]
    if answered.status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answered.status, "headers": headers})
    await send({"type": "http.response.body", "body": answered.body})
