"""The store: a SQL database for everything that is small and changes, a folder for everything that is large.

SQLite in write-ahead mode with full synchronisation: once a transaction has ended, its rows survive ``kill -9`` and
power loss; readers never wait for writers; writers, also those of other processes, take turns.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select

from lib.store import consumption, events, recommendations, tables
from lib.store.commits import Commits
from lib.store.files import Files

BUSY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Store:
    """An open store.  Threads may share it; each process opens its own.

    commits: for small writes of many callers, which it puts into one transaction.
    """

    location: Path
    engine: Engine
    files: Files
    commits: Commits = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "commits", Commits(self.transaction))

    @classmethod
    def open(cls, location: str | Path) -> "Store":
        """Open or create the store in a folder: ``store.db`` and ``files/``.

        Raises ValueError for a store of another version, and for a location that is not a folder.
        """
        folder = Path(location).absolute()
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file; a store is a folder: name a folder that exists or can be made")
        folder.mkdir(parents=True, exist_ok=True)
        engine = _engine(folder / "store.db")
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            _create_or_check(connection, folder)
        return cls(folder, engine, Files(folder / "files"))

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Read and write, alone: all of it is on disk when the block ends, nothing of it if the block raises."""
        with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Read one consistent state, without waiting for anybody."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Write what is still to be written, and give the database's connections back."""
        self.commits.flush()
        self.engine.dispose()


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", pool_size=16, max_overflow=64, connect_args={"timeout": BUSY_SECONDS})
    opening = threading.Lock()

    @event.listens_for(engine, "connect")
    def configure(connection, record) -> None:
        connection.isolation_level = None  # transactions begin where we say so, see below
        with opening:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # One that reads first and writes later would fail if another wrote in between: writers queue at once.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _create_or_check(connection: Connection, folder: Path) -> None:
    found = None
    if inspect(connection).has_table(tables.store_version.name):
        found = connection.execute(select(tables.store_version.c.version)).scalar()
    if found is not None and found != tables.VERSION:
        raise ValueError(
            f"{folder} holds a store of version {found}, this program reads version {tables.VERSION}: "
            "use the program that wrote it, or name another folder"
        )
    for module in (consumption, events, recommendations):  # each hangs its tables on the same metadata
        module.metadata.create_all(connection)
    if found is None:
        connection.execute(insert(tables.store_version).values(version=tables.VERSION))
