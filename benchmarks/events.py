"""How fast events are taken, each call on disk before its answer, and what that costs recommendations: prints ratios.

The limit beside it is SQLite alone, which writes as many rows from one thread: one commit a call, then 64 calls a
commit.
"""

import sqlite3
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
from serving import CLIENTS, EVENTS, USERS, Found, deploy, process

N_ITEMS = 10_000
CALLS = 6_000


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asked, clicks = deploy(folder, N_ITEMS)
        questions = [orjson.dumps(one) for one in asked(None)]
        puts = [orjson.dumps(body) for body in clicks]
        show("SQLite alone, one commit a call", by_hand(folder / "one.db", 1), None)
        limit = by_hand(folder / "many.db", CLIENTS)
        show(f"SQLite alone, {CLIENTS} calls a commit", limit, None)
        with process("-m", "lib.service", "--workers", "1", "--port", "0", "--store", f"{name}/store") as server:
            server.measure("/events", puts, USERS)
            alone = server.measure("/events", puts, CALLS)
            show("PutEvents", alone.rate, limit)
            server.measure("/recommendations", questions, 1)
            server.measure("/recommendations", questions, USERS)
            full = server.measure("/recommendations", questions, CALLS)
            quarter = {"per_second": full.rate / 4, "seconds": 10}
            told(
                "recommendations at a quarter of their rate",
                server.measure("/recommendations", questions, CALLS, **quarter),
            )
            with ThreadPoolExecutor(1) as threads:
                strangers = [orjson.dumps({**body, "userId": f"other-{n}"}) for n, body in enumerate(clicks)]
                load = {"per_second": alone.rate / 2, "seconds": 12}
                writing = threads.submit(server.measure, "/events", strangers, 10 * CALLS, **load)
                time.sleep(1)
                told(
                    "… beside PutEvents at half theirs", server.measure("/recommendations", questions, CALLS, **quarter)
                )
                told("those PutEvents", writing.result())


def by_hand(path: Path, calls: int) -> float:
    """Calls a second of ten rows each, ``calls`` of them in each durable transaction."""
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE events (sequence INTEGER PRIMARY KEY, user, session, item, type, at, row)")
        connection.execute("CREATE INDEX of_a_user ON events (user, sequence)")
        connection.execute("CREATE INDEX of_a_session ON events (session, sequence)")
        written, begin = 0, time.perf_counter()
        while written < CALLS // 4:
            connection.execute("BEGIN IMMEDIATE")
            rows = [(f"u{n}", f"s{n}", "i", "click", 1.0, "{}") for n in range(calls * EVENTS)]
            connection.executemany(
                "INSERT INTO events (user, session, item, type, at, row) VALUES (?, ?, ?, ?, ?, ?)", rows
            )
            connection.execute("COMMIT")
            written += calls
        return written / (time.perf_counter() - begin)


def show(title: str, rate: float, limit: float | None) -> None:
    print(f"{title:40} {rate:7.0f}/s" + (f"  {100 * rate / limit:5.1f} % of SQLite alone" if limit else ""), flush=True)


def told(title: str, found: Found) -> None:
    p50, p99 = found.seen.percentile(50), found.seen.percentile(99)
    errors = sum(found.seen.errors.values())
    print(f"{title:40} {found.rate:7.0f}/s  p50 {p50:6.1f} p99 {p99:6.1f} ms  errors {errors}", flush=True)


if __name__ == "__main__":
    main()
