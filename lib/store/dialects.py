"""What SQLite and PostgreSQL do differently; all other code is one.

Both keep the same promises.  An ended transaction survives ``kill -9`` and power loss.  Writers, also those of other
processes, take turns from their first statement on, so that what one has read still holds when it writes.  Readers see
one state and wait for nobody.
"""

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError

CONNECTIONS = 60  # of a service's processes together: a server allows 100, and jobs and locks have theirs
ONE_PROCESS_CONNECTIONS, MINIMUM_CONNECTIONS = 20, 4
BUSY_SECONDS = 30  # as long as a writer waits for its turn
WRITERS_LOCK = 0x506572736F6E616C  # any number will do, as long as all writers of a database agree

# A transaction that reads first and writes later would fail if another wrote in between: writers queue at once.
_BEGIN_WRITING = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock({WRITERS_LOCK})",
}
_BEGIN_READING = {"sqlite": "BEGIN", "postgresql": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"}
_STAMP = {"sqlite": "PRAGMA data_version", "postgresql": "SELECT changes FROM store"}


def sqlite(path: Path) -> Engine:
    """SQLite in write-ahead mode, every commit brought to disk."""
    engine = create_engine(
        f"sqlite:///{path}",
        pool_size=16,
        max_overflow=64,
        pool_use_lifo=True,  # each connection keeps pages and statements of its own: few are kept warm, not all
        connect_args={"timeout": BUSY_SECONDS},
    )
    opening = threading.Lock()

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say so
        with opening:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    event.listen(engine, "begin", _begin)
    return engine


def postgresql(url: URL, processes: int = 1) -> Engine:
    """PostgreSQL through psycopg; a connection that the server has given up is replaced when it is next needed.

    processes: that share the connections which a server allows.
    """
    connections = max(MINIMUM_CONNECTIONS, min(ONE_PROCESS_CONNECTIONS, CONNECTIONS // processes))
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",  # transactions begin where we say so
        pool_size=connections // 2,
        max_overflow=connections - connections // 2,
        pool_pre_ping=True,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: object) -> None:
        connection.execute(  # a machine that lost its power holds what it holds for a minute, not for hours
            "SELECT set_config('lock_timeout', %s, false), set_config('tcp_keepalives_idle', '30', false),"
            " set_config('tcp_keepalives_interval', '10', false), set_config('tcp_keepalives_count', '3', false)",
            [f"{BUSY_SECONDS}s"],
        )
        connection.execute(  # answers wait for the disk, whatever the server's settings say
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )

    event.listen(engine, "begin", _begin)
    return engine


def end_writing(connection: Connection) -> None:
    """The last step of a transaction that may have written.

    PostgreSQL has no number that moves with every change to a database: its transactions count themselves, if they
    have changed anything.  SQLite has one.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            "UPDATE store SET changes = changes + 1 WHERE pg_current_xact_id_if_assigned() IS NOT NULL"
        )


def watcher(engine: Engine) -> tuple[Callable[[], Any], str, type[Exception] | tuple[()]]:
    """How to hear of changes: what opens a connection for it, what to ask there, and what is raised if it is lost.

    Nothing of this keeps the engine alive.
    """
    question = _STAMP[engine.dialect.name]
    if engine.dialect.name == "sqlite":
        opened = partial(sqlite3.connect, engine.url.database, check_same_thread=False, isolation_level=None)
        return opened, question, ()
    _, options = engine.dialect.create_connect_args(engine.url)
    driver = engine.dialect.loaded_dbapi
    return partial(driver.connect, **options, autocommit=True), question, driver.OperationalError


@contextmanager
def holding(engine: Engine, name: str, *, wait: bool) -> Iterator[bool]:
    """Hold a lock of a PostgreSQL database during the block, if it is free; it ends with the connection."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
    with engine.connect() as connection:
        with connection.begin():
            if wait:
                connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            lock = "pg_advisory_lock(%s) IS NOT NULL" if wait else "pg_try_advisory_lock(%s)"
            got = connection.exec_driver_sql(f"SELECT {lock}", (key,)).scalar_one()
        try:
            yield got
        finally:
            if got:
                _give_back(connection, key)


def _give_back(connection: Connection, key: int) -> None:
    try:
        with connection.begin():
            connection.exec_driver_sql("SELECT pg_advisory_unlock(%s)", (key,))
    except OperationalError:  # the connection was lost, and the lock with it
        connection.invalidate()


def refuse_unfit(connection: Connection) -> None:
    """Raise ValueError for a server whose databases cannot hold all text."""
    if connection.dialect.name == "postgresql":
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise ValueError(f"the database's encoding is {encoding}: create it with ENCODING 'UTF8'")


def copy_aside(connection: Connection, path: Path) -> None:
    """Copy a SQLite database as it stands before this transaction; a server's are its operator's to copy."""
    if connection.dialect.name == "sqlite":
        with (
            closing(sqlite3.connect(connection.engine.url.database)) as source,
            closing(sqlite3.connect(path)) as target,
        ):
            source.backup(target)


def _begin(connection: Connection) -> None:
    begin = _BEGIN_WRITING if connection.get_execution_options().get("writes", False) else _BEGIN_READING
    # without parameters psycopg sends both of PostgreSQL's statements at once
    connection.exec_driver_sql(begin[connection.dialect.name], execution_options={"no_parameters": True})
