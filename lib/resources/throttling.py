"""How many requests of each campaign may pass in a second, counted over all processes that answer at one port.

Every process keeps a token bucket of its own for each campaign and takes out of it also what the others let pass.  What
each has let pass stands in memory that they share: a row, written by one process alone, so that nobody waits for a
lock and none can die holding one.
"""

import hashlib
import math
import threading
from dataclasses import dataclass, field

ROWS = 4096
"""Campaigns that are counted together; of any further one each process counts its own requests only."""

_ROW = 4  # a campaign's key, how many of its requests have passed, when the last came, what it left in the bucket
_MICRO = 1_000_000  # times and tokens are kept as whole millionths


def size(processes: int) -> int:
    """Bytes of the memory that so many processes share; all are zero at first."""
    return processes * ROWS * _ROW * 8


@dataclass(slots=True)
class _Bucket:
    """A second's worth of requests may pass at once, and as many as the rate says in the long run.

    own: where its row is.  others: [where theirs is, how many passed there as far as is known] of processes that know
    the campaign.  strangers: those that did not yet.
    """

    key: int
    own: int | None
    strangers: list[int]
    others: list[list[int]] = field(default_factory=list)
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
            tokens = min(rate, bucket.tokens + max(0.0, now - bucket.at) * rate)
            if self._processes > 1:
                tokens = max(0.0, tokens - self._elsewhere(bucket))
            passes = tokens >= 1
            bucket.at, bucket.tokens = now, tokens - passes
            if self._processes > 1 and bucket.own is not None:
                own, cells = bucket.own, self._cells
                cells[own + 1] += passes
                cells[own + 2], cells[own + 3] = int(now * _MICRO), int(bucket.tokens * _MICRO)
            return passes

    def _begin(self, arn: str) -> _Bucket:
        """A bucket as full as the process that was asked last has left it."""
        key = int.from_bytes(hashlib.sha256(arn.encode()).digest()[:8]) >> 1 | 1  # never 0
        own = self._row(key, self._number)
        if own is not None:
            self._cells[own] = key
        bucket = _Bucket(key, own, [number for number in range(self._processes) if number != self._number])
        self._elsewhere(bucket)
        rows = [row for row, _ in bucket.others] if own is None else [own, *(row for row, _ in bucket.others)]
        at, less = max(((self._cells[row + 2], -self._cells[row + 3]) for row in rows), default=(0, 0))
        if at:
            bucket.at, bucket.tokens = at / _MICRO, -less / _MICRO
        return bucket

    def _elsewhere(self, bucket: _Bucket) -> int:
        """How many have passed in other processes since this was last asked."""
        passed = 0
        for other in bucket.others:
            count = self._cells[other[0] + 1]
            passed, other[1] = passed + count - other[1], count
        for number in bucket.strangers[:]:
            row = self._row(bucket.key, number)
            if row is not None and self._cells[row]:
                bucket.strangers.remove(number)
                bucket.others.append([row, self._cells[row + 1]])
                passed += self._cells[row + 1]
        return passed

    def _row(self, key: int, number: int) -> int | None:
        """Where a process counts, or would count, a campaign; None where it has no room."""
        for step in range(ROWS):
            row = (number * ROWS + (key + step) % ROWS) * _ROW
            if self._cells[row] in (0, key):
                return row
        return None
