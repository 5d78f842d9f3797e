"""Whether anybody has changed the database, told in microseconds.

SQLite is asked, rather than its files read: whoever closes one of them takes away all locks that its process holds on
it (sqlite.org/howtocorrupt.html, 2.2), and then others' commits are lost.
"""

import threading
import time

from lib.store import dialects
from lib.store.database import Store


class Changes:
    """A connection that only watches.  Threads may share it."""

    def __init__(self, store: Store, seconds: float = 0.0):
        """seconds: for which an answer may hold that another process has made old; the store's own is told at once."""
        self._open, self._question, self._lost = dialects.watcher(store.engine)
        self._connection = self._open()
        self._alone = threading.Lock()
        self._seconds, self._told, self._until = seconds, 0, 0.0
        self._watchers = store.watchers
        self._watchers.append(self._changed)

    def stamp(self) -> int:
        """A number that differs from the one before if, and only if, somebody has committed a change in between."""
        if time.monotonic() < self._until:
            return self._told
        with self._alone:
            asked = time.monotonic()
            try:
                self._told = self._ask()
            except self._lost:
                self._connection = self._open()
                self._told = self._ask()
            self._until = asked + self._seconds
            return self._told

    def close(self) -> None:
        """Give the connection back."""
        self._watchers.remove(self._changed)
        self._connection.close()

    def _changed(self) -> None:
        with self._alone:  # who is asking at this moment may be told the state before
            self._until = 0.0

    def _ask(self) -> int:
        return self._connection.execute(self._question).fetchone()[0]
