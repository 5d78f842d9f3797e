"""Writes of many callers in one transaction: what costs is the wait for the disk, and they wait for it together.

Whoever finds nobody writing takes along all who wait (DeWitt et al., SIGMOD 1984: group commit).  A write has returned
only when it is on disk.  One that nobody waits for rides along with the next, or goes by itself a little later.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import Connection


class Outdated(Exception):
    """What a write was made of has changed: nothing of it is kept, and it is to be made anew."""


Write = Callable[[Connection, Sequence[Any]], None]
LATER_SECONDS = 0.05  # rarer and larger ones hold up those who are answered meanwhile
HELD = 10_000  # writes nobody waits for; whoever adds one more has to wait


class Commits:
    """The writes of one store in this process.  Threads may share it."""

    def __init__(self, transaction: Callable[[], AbstractContextManager[Connection]]):
        self._transaction = transaction
        self._guard, self._turn = threading.Lock(), threading.Lock()
        self._waiting: list[Waiting] = []
        self._riding: list[tuple[Write, Any]] = []
        self._timer: threading.Timer | None = None
        self._putting_off = threading.local()

    def write(self, write: Write, item: Any) -> None:
        """Have ``write`` called with a transaction and a list in which ``item`` is; returns when that is on disk.

        Items of the same function come to it together, in the order they were given, at most once each.  Raises what
        ``write`` raises for this item alone; others are not harmed.
        """
        mine = Waiting(write, item)
        with self._guard:
            self._waiting.append(mine)
        begun = getattr(self._putting_off, "begun", None)
        if begun is not None:
            begun.append(mine)
            return
        with self._turn:
            if not mine.done:
                self._commit()
        if mine.error is not None:
            raise mine.error

    @contextmanager
    def put_off(self) -> Iterator[list["Waiting"]]:
        """Within the block ``write`` returns at once, in this thread: what it was given is on disk after ``flush``.

        Gives the writes that were begun; their errors are told there, by nobody else.
        """
        self._putting_off.begun = begun = []
        try:
            yield begun
        finally:
            self._putting_off.begun = None

    def later(self, write: Write, item: Any) -> None:
        """Have ``write`` called as above, before all that is waited for; returns at once."""
        with self._guard:
            self._riding.append((write, item))
            held = len(self._riding)
            if self._timer is None:
                self._timer = threading.Timer(LATER_SECONDS, self.flush)
                self._timer.daemon = True
                self._timer.start()
        if held >= HELD:
            self.flush()

    def flush(self) -> None:
        """Write what was given until now, by whomever; returns when it is on disk."""
        with self._turn:
            self._commit()

    def _commit(self) -> None:
        with self._guard:
            waiting, self._waiting = self._waiting, []
            riding, self._riding = self._riding, []
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        if not waiting and not riding:
            return
        error: BaseException | None = RuntimeError("the writing ended before its time")
        try:
            try:
                self._perform([*riding, *((one.write, one.item) for one in waiting)])
            except Exception:
                self._one_by_one(riding, waiting)
            error = None
        finally:
            for one in waiting:
                one.done = True
                one.error = one.error or error

    def _perform(self, writes: Sequence[tuple[Write, Any]]) -> None:
        items: dict[Write, list[Any]] = {}
        for write, item in writes:
            items.setdefault(write, []).append(item)
        with self._transaction() as tx:
            for write, its in items.items():
                write(tx, its)

    def _one_by_one(self, riding: Sequence[tuple[Write, Any]], waiting: Sequence["Waiting"]) -> None:
        """After one write, or the disk, has failed: each by itself, so that each learns what became of its own."""
        for write, item in riding:
            try:
                self._perform([(write, item)])
            except Exception:
                continue  # nobody waits for it, nobody was told that it is kept
        for one in waiting:
            try:
                self._perform([(one.write, one.item)])
            except Exception as error:
                one.error = error


class Waiting:
    """A write somebody waits for.  error: what became of it, once it is done."""

    __slots__ = ("done", "error", "item", "write")

    def __init__(self, write: Write, item: Any):
        self.write, self.item, self.done = write, item, False
        self.error: BaseException | None = None
