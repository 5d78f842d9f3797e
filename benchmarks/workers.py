"""What a second worker brings and costs: rates, processor time and memory of one, two and more side by side.

The same service with one process and with several, asked by the same clients for users whose history has not changed.
Memory is what Linux tells of each process: what it has written to itself (Private_Dirty), and that together with its
share of what several have mapped (Pss).
"""

import argparse
import tempfile
import time
from pathlib import Path

import orjson
import psutil
from serving import CLIENTS, USERS, deploy
from soak import cpu, own_and_shared, serving

from lib import load

N_ITEMS = 10_000
REQUESTS = 6_000
WARM_SECONDS = 10
FEW = 200  # requests a second on each core, where some are to be refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=N_ITEMS)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        asked, clicks = deploy(Path(name), options.items)
        questions = [orjson.dumps(one) for one in asked(None)]
        puts = [orjson.dumps(body) for body in clicks]
        print(f"{options.items} items, {CLIENTS} clients")
        for workers in options.workers:
            with serving(Path(name), workers) as (process, url):
                measure(process, url, questions, puts, options.requests, workers)
        with serving(Path(name), 2, f"--quota=transactions_per_second_per_core={FEW}") as (_, url):
            overload(url, questions, options.requests)


def measure(
    process: psutil.Process, url: str, questions: list[bytes], puts: list[bytes], requests: int, workers: int
) -> None:
    """One number of workers."""
    if workers == 1:
        load.measure(url, "/events", puts, clients=CLIENTS, requests=USERS)
    until_warm(url, questions[:1])
    loaded = own_and_shared(process)
    until_warm(url, questions)
    used = cpu(process)
    seen = load.measure(url, "/recommendations", questions, clients=CLIENTS, requests=requests)
    cost = (cpu(process) - used) / requests
    known = own_and_shared(process)
    shares = [sum(one.cpu_times()[:2]) for one in (process.children() or [process])]
    p50, p99 = seen.percentile(50), seen.percentile(99)
    print(
        f"  {workers} workers  {seen.requests_per_second:6.0f}/s  {1e6 * cost:5.0f} us of processor time a request  "
        f"p50 {p50:5.1f} p99 {p99:6.1f} ms  errors {sum(seen.errors.values())}  "
        f"least to most busy worker {min(shares) / max(shares):.2f}"
    )
    for (title, own, shared), (_, own_later, shared_later) in zip(loaded, known):
        print(
            f"    {title:14} MiB of its own {own:5.0f}, with its share of the rest {shared:5.0f}; with {USERS} users' "
            f"scores {own_later:5.0f}, {shared_later:5.0f}"
        )


def until_warm(url: str, questions: list[bytes]) -> None:
    """Ask until connections are shared out and each worker knows what is asked."""
    begun = time.monotonic()
    while time.monotonic() < begun + WARM_SECONDS:
        load.measure(url, "/recommendations", questions, clients=CLIENTS, requests=USERS)


def overload(url: str, questions: list[bytes], requests: int) -> None:
    """More than may pass is asked of two workers."""
    load.measure(url, "/recommendations", questions, clients=CLIENTS, requests=USERS)
    seen = load.measure(url, "/recommendations", questions, clients=CLIENTS, requests=requests)
    refused = seen.errors.get(429, 0)
    passed = (len(seen.milliseconds) - refused) / seen.seconds
    print(
        f"  throttled at {FEW} a second and core: asked {seen.requests_per_second:.0f}/s, answered {passed:.0f}/s, "
        f"errors {seen.errors}"
    )


if __name__ == "__main__":
    main()
