"""The store: a SQL database for everything that is small and changes, a folder or bucket for everything that is large.

Once a transaction has ended, its rows survive ``kill -9`` and power loss; readers never wait for writers; writers, also
those of other processes, take turns.
"""

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from sqlite3 import SQLITE_FULL

from sqlalchemy import URL, Connection, Engine, make_url, select, update
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

from lib.store import dialects, migrations
from lib.store.bucket import SCHEME, Bucket
from lib.store.commits import Commits
from lib.store.files import Files
from lib.store.tables import store as identity

SCHEMES = ("postgresql", "postgres")
POSTGRESQL_FULL = "53100"  # disk_full


@dataclass(frozen=True, slots=True)
class Store:
    """An open store.  Threads may share it; each process opens its own.

    location: the folder of everything that is not in the database: ``files/``, and jobs' locks and logs; where a bucket
    has the files, this machine's copies of them, and its logs.
    commits: for small writes of many callers, which it puts into one transaction.
    watchers: called whenever a transaction of this object has ended.
    """

    location: Path
    engine: Engine
    files: Files
    commits: Commits = field(init=False)
    watchers: list[Callable[[], None]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "commits", Commits(self.transaction))

    @classmethod
    def open(
        cls,
        location: str | Path,
        files: str | Path | None = None,
        cache: str | Path | None = None,
        processes: int = 1,
    ) -> "Store":
        """Open or create a store; one of an older version is brought up to date.

        location: a folder, for ``store.db`` and ``files/``; or the URL of a PostgreSQL database,
        ``postgresql://user@host/database``, and then ``files`` is the folder, or ``s3://bucket/prefix``.  All processes
        of a store use one folder or bucket.  cache: with a bucket, the folder for this machine's copies of files, by
        default one in ``~/.cache/personalize``; the bucket has everything, so that it may be lost.  processes: that
        open it like this one does, and share the connections that a server allows.
        Raises ValueError for what is no store, or one of a version that is unknown here, OSError for a folder that
        cannot be written, ConnectionError for a server that does not answer, and what ``Bucket`` does.
        """
        url = database_url(location)
        if (url is None) != (files is None):
            raise ValueError(
                f"{location} is a folder, where the files lie too: leave the folder for files out"
                if url is None
                else f"{shown(url)} is a database: name the folder or bucket for its files too (--files)"
            )
        bucket = Bucket.open(files) if isinstance(files, str) and files.startswith(SCHEME) else None
        if cache is not None and bucket is None:
            raise ValueError(f"{cache} would hold copies of files in a bucket, but they are not in one: leave it out")
        if bucket is not None:
            files = cache or _default_cache(f"{shown(url)} {bucket.location}")
        folder = Path(location if url is None else files).absolute()
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file; a store is a folder: name a folder that exists or can be made")
        if url is None:
            _refuse_other_folder(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"{folder} cannot be made: {error.strerror}: name a folder that you may write to") from None
        _refuse_unwritable(folder)
        opened = cls(
            folder,
            dialects.sqlite(folder / "store.db") if url is None else dialects.postgresql(url, processes),
            Files(folder / "files", bucket),
        )
        try:
            opened._prepare(str(folder) if url is None else shown(url))
        except BaseException:
            opened.close()
            raise
        return opened

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Read and write, alone: all of it is on disk when the block ends, nothing of it if the block raises."""
        with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection
            dialects.end_writing(connection)
        for changed in self.watchers:
            changed()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Read one consistent state, without waiting for anybody."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def holding(self, name: str, *, wait: bool = False) -> Iterator[bool]:
        """Hold a lock of the store during the block, if it is free; the system gives it back when a process dies.

        The machines of a store share its folder, and the locks of files there; or else its database, and locks there.
        wait: until it is free.
        """
        if self.files.bucket is not None:
            with dialects.holding(self.engine, name, wait=wait) as got:
                yield got
            return
        path = self.location / "locks" / name
        path.parent.mkdir(exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True

    def options(self) -> list[str]:
        """How a program is told of this store on its command line.  A password is not among it: see ``secrets``."""
        if self.engine.dialect.name == "sqlite":
            return ["--store", str(self.location)]
        database = ["--store", shown(self.engine.url)]
        if self.files.bucket is not None:
            return [*database, "--files", self.files.bucket.location, "--cache", str(self.location)]
        return [*database, "--files", str(self.location)]

    def secrets(self) -> dict[str, str]:
        """What such a program needs in its environment, where other users of the machine cannot read it."""
        return {"PGPASSWORD": str(self.engine.url.password)} if self.engine.url.password else {}

    def close(self) -> None:
        """Write what is still to be written, and give the database's connections back."""
        self.commits.flush()
        self.engine.dispose()

    def _prepare(self, name: str) -> None:
        try:
            with self.transaction() as tx:
                dialects.refuse_unfit(tx)
                aside = migrations.bring_up_to_date(tx, self.location, name)
            if self.engine.dialect.name == "postgresql":
                self._hold_to_files(name)
        except OperationalError as error:
            raise ConnectionError(f"{name} cannot be opened: {_told(error)}") from error
        except DatabaseError as error:
            raise ValueError(f"{name} is no store, and none can be made there: {_told(error)}") from error
        aside.unlink(missing_ok=True)

    def _hold_to_files(self, name: str) -> None:
        """Raise ValueError unless folder or bucket is the one that all processes of this database use.

        Files and locks of two folders would know nothing of each other.
        """
        bucket = self.files.bucket
        kind, place = ("folder", str(self.location)) if bucket is None else ("bucket", bucket.location)
        with self.read() as tx:
            own = tx.execute(select(identity.c.id)).scalar_one()
        if bucket is not None:
            self._hold_to_copies(own)
        if self._holder() == own:
            return
        with self.transaction() as tx:
            found, changes = self._holder(), tx.execute(select(identity.c.changes)).scalar_one()
            if found == own:  # by now
                return
            if changes > 1:  # so somebody has opened it before
                raise ValueError(
                    f"{place} does not hold the files of {name}: name the {kind} whose store.id says {own}"
                )
            if found or (self.files.root.exists() if bucket is None else bucket.below("names/", deep=False)):
                raise ValueError(f"{place} holds the files of another store: name a new {kind} for {name}")
            if bucket is None:
                with Files(self.location).writing("store.id") as aside:
                    aside.write_text(own)
            else:
                bucket.write("store.id", own.encode())
            tx.execute(update(identity).values(changes=changes + 1))

    def _holder(self) -> str | None:
        """The id of the store whose files are where this one's shall be."""
        if self.files.bucket is not None:
            return (self.files.bucket.read("store.id") or b"").decode() or None
        file = self.location / "store.id"
        return file.read_text() if file.exists() else None

    def _hold_to_copies(self, own: str) -> None:
        """Raise ValueError for a folder of anything but copies of this store's files: they would replace it."""
        file = self.location / "cache.id"
        with self.transaction():  # one process at a time
            others = sorted(path.name for path in self.location.iterdir() if not path.name.startswith("."))
            if file.name not in others:
                if others:
                    raise ValueError(
                        f"{self.location} holds {', '.join(others[:5])}: name an empty folder with --cache"
                    )
                with Files(self.location).writing(file.name) as aside:
                    aside.write_text(own)
        if file.read_text() != own:
            raise ValueError(f"{self.location} holds copies of another store's files: name another folder with --cache")


def database_url(location: str | Path) -> URL | None:
    """The URL of a store's database, None for a store in a folder.  Raises ValueError for any other database."""
    if isinstance(location, Path) or "://" not in location:
        return None
    try:
        url = make_url(location)
    except ArgumentError:
        url = None
    if url is None or url.drivername not in SCHEMES or not url.database:
        raise ValueError(
            f"{location.partition('://')[0]}://… names no store: give a folder, or postgresql://user@host/database"
        )
    password = url.query.get("password")  # another way of giving it
    return url.difference_update_query(["password"]).set(password=password) if password else url


def is_full(error: BaseException) -> bool:
    """Whether something went wrong because no space is left."""
    if isinstance(error, DatabaseError):
        told = getattr(error.orig, "sqlite_errorcode", None), getattr(error.orig, "sqlstate", None)
        return told[0] == SQLITE_FULL or told[1] == POSTGRESQL_FULL
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _default_cache(store: str) -> Path:
    return Path("~/.cache/personalize").expanduser() / hashlib.sha256(store.encode()).hexdigest()[:16]


def _refuse_other_folder(folder: Path) -> None:
    """Raise ValueError for a folder of something else: a store made there by mistake would look empty."""
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if found and "store.db" not in found:
        inside = next((path.parent for path in sorted(folder.glob("*/store.db"))), None)
        remedy = f"did you mean {inside}?" if inside else "name a store, or a folder that is empty or can be made"
        raise ValueError(f"{folder} is no store: it holds {', '.join(found[:5])}; {remedy}")


def _refuse_unwritable(folder: Path) -> None:
    """Raise OSError for a folder that may be read alone: SQLite opens such a database, and fails at each write."""
    for path in (folder, folder / "store.db", folder / "files"):
        if path.exists() and not os.access(path, os.W_OK):
            raise OSError(f"{path} cannot be written: give this user the right to, or name another folder")


def shown(url: URL) -> str:
    """A database's URL without the password."""
    return url.set(drivername="postgresql")._replace(password=None).render_as_string()


def _told(error: DatabaseError) -> str:
    return " ".join(str(error.orig).split())
