"""How many requests of each campaign may pass in a second, counted over all processes that answer at one port.

There is one token bucket for each campaign.  Processes that share memory keep its state there: each writes what it has
left in the bucket, and when, to a row of its own, and goes on from the newest row of all.  So nobody waits for a lock
and none can die holding one; two that ask within the same microseconds may both take the last token.
"""

import hashlib
import math
import threading
from dataclasses import dataclass

ROWS = 4096
"""Campaigns that are counted together; of any further one each process counts its own requests only."""

_ROW = 3  # a campaign's key, when it was last asked, what that left in the bucket
_MICRO = 1_000_000  # times and tokens are kept as whole millionths


def size(processes: int) -> int:
    """Bytes of the memory that so many processes share; all are zero at first."""
    return processes * ROWS * _ROW * 8


@dataclass(slots=True)
class _Bucket:
    """A second's worth of requests may pass at once, and as many as the rate says in the long run.

    key: of the campaign.  own: where this process has its row.  rows: of all that have one.  strangers: processes that
    had none yet.
    """

    key: int
    own: int | None
    rows: list[int]
    strangers: list[int]
    at: float = -math.inf
    tokens: float = math.inf


class Throttle:
    """The buckets of one process.  Threads may share it."""

    def __init__(self, memory: bytearray | memoryview | None = None, number: int = 0):
        """memory: of ``size``, which lasts as long as any of the processes.  number: which of them this is."""
        self._cells = memoryview(bytearray(size(1)) if memory is None else memory).cast("q")
        self._number, self._processes = number, len(self._cells) // (ROWS * _ROW)
        self._buckets: dict[str, _Bucket] = {}
        self._alone = threading.Lock()

    def take(self, arn: str, rate: float, now: float) -> bool:
        """Whether one more request of a campaign may pass.  rate: in a second.  now: epoch seconds."""
        with self._alone:
            bucket = self._buckets.get(arn)
            if bucket is None:
                bucket = self._buckets[arn] = self._begin(arn)
            if bucket.own is not None and self._processes > 1:
                self._catch_up(bucket)
            now = max(now, bucket.at)  # whoever asked later may be here sooner
            tokens = min(rate, bucket.tokens + (now - bucket.at) * rate)
            passes = tokens >= 1
            bucket.at, bucket.tokens = now, tokens - passes
            if bucket.own is not None and self._processes > 1:
                self._cells[bucket.own + 2] = int(bucket.tokens * _MICRO)
                self._cells[bucket.own + 1] = int(now * _MICRO)  # last, for whoever looks meanwhile goes by it
            return passes

    def _begin(self, arn: str) -> _Bucket:
        key = int.from_bytes(hashlib.sha256(arn.encode()).digest()[:8]) >> 1 | 1  # never 0
        own = self._row(key, self._number)
        others = [number for number in range(self._processes) if number != self._number]
        if own is None:
            return _Bucket(key, None, [], [])
        self._cells[own] = key
        return _Bucket(key, own, [own], others)

    def _catch_up(self, bucket: _Bucket) -> None:
        """Take over the newest state."""
        for number in bucket.strangers[:]:
            row = self._row(bucket.key, number)
            if row is not None and self._cells[row]:
                bucket.strangers.remove(number)
                bucket.rows.append(row)
        cells = self._cells
        at, less = max([(cells[row + 1], -cells[row + 2]) for row in bucket.rows])
        if at:
            bucket.at, bucket.tokens = at / _MICRO, -less / _MICRO

    def _row(self, key: int, number: int) -> int | None:
        """Where a process counts, or would count, a campaign; None where it has no room."""
        for step in range(ROWS):
            row = (number * ROWS + (key + step) % ROWS) * _ROW
            if self._cells[row] in (0, key):
                return row
        return None
