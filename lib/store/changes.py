"""Whether anybody has changed the database, told in microseconds.

SQLite is asked, rather than its files read: whoever closes one of them takes away all locks that its process holds on
it (sqlite.org/howtocorrupt.html, 2.2), and then others' commits are lost.
"""

import threading

from lib.store import dialects
from lib.store.database import Store


class Changes:
    """A connection that only watches.  Threads may share it."""

    def __init__(self, store: Store):
        self._open, self._question, self._lost = dialects.watcher(store.engine)
        self._connection = self._open()
        self._alone = threading.Lock()

    def stamp(self) -> int:
        """A number that differs from the one before if, and only if, somebody has committed a change in between."""
        with self._alone:
            try:
                return self._ask()
            except self._lost:
                self._connection = self._open()
                return self._ask()

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    def _ask(self) -> int:
        return self._connection.execute(self._question).fetchone()[0]
