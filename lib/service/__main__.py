"""Amazon Personalize's three services on one port: ``python -m lib.service --store FOLDER``."""

import argparse
import errno
import math
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from lib import jobs, resources
from lib.resources import runtime
from lib.resources.account import Account
from lib.resources.quotas import DEFAULTS, quotas
from lib.service import http, sigv4, workers
from lib.service.dispatch import Dispatcher
from lib.store import consumption
from lib.store import jobs as store_jobs
from lib.store.database import Store
from lib.store.jobs import State

MOST_WORKERS = 256
PROVISION_SECONDS = 2.0
LAST_WRITE_SECONDS = 1.0  # for what nobody waits for, when the service ends


def main(arguments: list[str] | None = None) -> None:
    """Listen until told to end.  Raises SystemExit with one line that says what to do if it cannot."""
    options = _options().parse_args(arguments)
    try:
        keys = sigv4.read_keys(options.credentials) if options.credentials else sigv4.environment_keys(os.environ)
        if not keys and not _is_loopback(options.host):
            sys.exit(
                f"lib.service: {options.host} can be reached from other machines: say who may call with "
                "--credentials FILE, or listen on 127.0.0.1"
            )
        listener = _listen(options.host, options.port)
        account = _open(options)
        url = _url(listener)
        if options.ready_file:
            _write_aside(options.ready_file, url)
    except (OSError, ValueError) as error:
        sys.exit(f"lib.service: {error}")
    access = "callers must sign with a known key" if keys else "no credentials: programs of this machine may call"
    _log(http.line(event="listening", url=url, store=account.store.options()[1], access=access))
    least, most = options.workers
    if most == 1:
        _serve(account, keys, listener)
    else:
        account.store.close()  # whoever forks has it open no longer; each worker opens its own
        workers.run(partial(_work, options, keys, listener), least=least, most=most, log=_log_line)


def _open(options: argparse.Namespace, processes: int = 1) -> Account:
    return jobs.open_account(
        options.store,
        files=options.files,
        cache=options.cache,
        region=options.region,
        account_id=options.account,
        buckets=dict(options.bucket),
        changed_quotas=dict(options.quota),
        processes=processes,
    )


def _work(
    options: argparse.Namespace, keys: Mapping[str, sigv4.Key], listener: socket.socket, place: workers.Place
) -> None:
    """What one worker of several does."""
    http.share_metrics(place.folder, place.number)
    try:
        most = options.workers[1]
        account = _open(options, processes=most)
        account = replace(account, throttle=place.throttle(), workers=most, worker=place.number)
    except (OSError, ValueError) as error:
        _log_line(event="worker cannot start", worker=place.number, error=str(error))
        os._exit(1)
    _serve(account, keys, listener, place)


def _serve(
    account: Account, keys: Mapping[str, sigv4.Key], listener: socket.socket, place: workers.Place | None = None
) -> None:
    """Answer until this process is told to end."""
    if place is None or place.number == 0:
        account.wake()
        jobs.keep_time(account)
    if place is not None and place.number == 0:
        threading.Thread(target=_provision, args=(account, place.board), daemon=True).start()
    application = http.Application(
        Dispatcher(account, resources.OPERATIONS),
        authorise=http.signed_by(keys, account.region, account.now) if keys else http.no_browser,
        log=_log,
        at_hand=partial(runtime.at_hand, account),
        bring_to_hand=partial(runtime.bring_to_hand, account),
        commits=account.store.commits,
        jobs_by_state=lambda: _jobs_by_state(account.store),
        campaign_tps=lambda: _campaign_tps(account.store, account.now().timestamp()),
        workers=lambda: 1 if place is None else len(place.board.answering()),
    )

    # uvicorn answers what it has accepted, for a few seconds, then passes the signal on; whatever an operation is still
    # at could be killed at any instant, so nobody waits for it, but what was answered is written
    def end(*_: object) -> None:
        application.tell()
        writing = threading.Thread(target=account.store.commits.flush, daemon=True)
        writing.start()
        writing.join(LAST_WRITE_SECONDS)
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    (http.server(application) if place is None else place.server(application)).run(sockets=[listener])
    end()


def _provision(account: Account, board: workers.Board) -> None:
    """Say, every few seconds, how many workers the campaigns' minimum asks for."""
    each = account.quotas["transactions_per_second_per_worker"]
    while True:
        try:
            board.wanted = math.ceil(runtime.provisioned_tps(account) / each) if each else 1
        except Exception:  # the next time may do better; nobody waits for an answer
            traceback.print_exc()
        time.sleep(PROVISION_SECONDS)


def _url(listener: socket.socket) -> str:
    address, port = listener.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _write_aside(file: Path, text: str) -> None:
    """Whoever waits for the file finds all of it."""
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    aside.write_text(text)
    aside.replace(file)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lib.service",
        description="Amazon Personalize's three services on one port.",
        epilog="Without --credentials, PERSONALIZE_ACCESS_KEY_ID, PERSONALIZE_SECRET_ACCESS_KEY and "
        "PERSONALIZE_SESSION_TOKEN of the environment say who may call; without those, programs of this machine may.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=_port, default=8400, help="port to listen on, 0 for any that is free (%(default)s)")
    add(
        "--store",
        required=True,
        metavar="FOLDER",
        help="where everything is kept; or postgresql://user@host/database, with --files",
    )
    add("--files", metavar="FOLDER", help="where the files of a store in a database are kept; or s3://bucket/prefix")
    add("--cache", metavar="FOLDER", help="for copies of files in a bucket (in ~/.cache/personalize)")
    add("--credentials", type=Path, metavar="FILE", help="access keys, as in ~/.aws/credentials or JSON")
    add(
        "--bucket",
        type=_bucket,
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="a folder to read as s3://NAME",
    )
    add(
        "--quota",
        type=_quota,
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="change a quota of Amazon Personalize; inf lifts it: " + ", ".join(DEFAULTS),
    )
    add(
        "--workers",
        type=_workers,
        default="auto",
        metavar="auto|NUMBER",
        help="processes that answer; auto: as many as campaigns' minProvisionedTPS and the load ask for, one for each "
        "core at most (%(default)s)",
    )
    add("--region", default="us-east-1", help="of the ARNs and signatures (%(default)s)")
    add("--account", type=_account, default="123456789012", help="twelve digits, of the ARNs (%(default)s)")
    add("--ready-file", type=Path, metavar="FILE", help="where to write the URL once it listens")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 0 to 65535")
    return int(text)


def _workers(text: str) -> tuple[int, int]:
    """The least and the most."""
    if text == "auto":
        return 1, workers.cores()
    if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of workers: give auto, or 1 to {MOST_WORKERS}")
    return int(text), int(text)


def _bucket(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not name or not separator or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} names no folder: write NAME=FOLDER, of a folder that exists")
    return name, Path(folder).absolute()


def _quota(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        value = float(number)
        quotas({name: value})
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}; write NAME=NUMBER") from None
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: a quota is 0 or more, or inf")
    return name, value


def _account(text: str) -> str:
    if len(text) != 12 or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no account: give twelve digits")
    return text


def _is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach every address of a host."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise OSError(f"host {host!r} is unknown ({error.strerror}): give an address of this machine") from None
    return all(ip_address(address[0].partition("%")[0]).is_loopback for *_, address in found)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket: callers that come before the store is open wait for their answer."""
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    try:
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(
                f"port {port} of {host} is in use: end what listens there, or choose another with --port"
            ) from None
        raise


def _jobs_by_state(store: Store) -> Mapping[str, int]:
    with store.read() as tx:
        found = Counter(str(job.state) for job in store_jobs.unfinished(tx))
    return {state: found[state] for state in (State.PENDING, State.RUNNING)}


def _campaign_tps(store: Store, now: float) -> Mapping[str, tuple[float, float]]:
    store.commits.flush()
    with store.read() as tx:
        found = consumption.windows(tx, now - consumption.WINDOW_SECONDS, now + 1)
    return {window.resource_arn: (window.consumed_tps, window.provisioned_tps) for window in found}


def _log_line(**members: Any) -> None:
    _log(http.line(**members))


def _log(line: bytes) -> None:
    """One line to standard output; nobody there to read it costs no answer."""
    try:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    except OSError:
        return


if __name__ == "__main__":
    main()
