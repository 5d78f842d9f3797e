"""Whether anybody has changed the database, told in microseconds."""

import sqlite3
import threading

from lib.store.database import Store


class Changes:
    """A connection that only watches.  Threads may share it."""

    def __init__(self, store: Store):
        self._connection = sqlite3.connect(store.location / "store.db", check_same_thread=False, isolation_level=None)
        self._alone = threading.Lock()

    def stamp(self) -> int:
        """A number that differs from the one before if, and only if, somebody has committed a change in between."""
        with self._alone:
            return self._connection.execute("PRAGMA data_version").fetchone()[0]

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()
