"""Tables of the database.  A module that adds tables of its own hangs them on the same ``metadata``."""

from collections.abc import Sequence
from functools import cache
from itertools import chain

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

VERSION = "0007"
"""Of these tables: the newest of ``lib.store.migrations``."""

INSERTED_AT_ONCE = 32
"""Rows: between two statements SQLite lets go of Python's interpreter, which a busy process gives back late."""

metadata = MetaData()

LONG = BigInteger().with_variant(Integer, "sqlite")  # SQLite's integers are long, and must be called so to count up

store_version = Table("store_version", MetaData(), Column("version_num", String(32), primary_key=True))  # Alembic's

store = Table(
    "store",
    metadata,
    Column("id", String(32), primary_key=True),  # there is one row
    Column("changes", LONG, nullable=False),  # how many transactions have changed something, where they count it
)

resources = Table(
    "resources",
    metadata,
    Column("sequence", LONG, primary_key=True, autoincrement=True),  # order of creation, the order of every list
    Column("arn", String(256), nullable=False, unique=True),
    Column("kind", String(64), nullable=False),
    Column("parent", String(256)),  # ARN of the resource that lists are filtered by
    Column("name", String(128), nullable=False),
    Column("gone_after", Float),  # epoch seconds from which a deleted resource is no longer shown
    Column("document", LargeBinary, nullable=False),  # JSON of the noun's dataclass
    Index("resources_of_a_parent", "kind", "parent", "sequence"),
    sqlite_autoincrement=True,  # a sequence number is never given twice
)

tags = Table(
    "tags",
    metadata,
    Column("arn", String(256), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("value", String(256), nullable=False),
)

counters = Table(
    "counters",
    metadata,
    Column("name", String(512), primary_key=True),
    Column("value", LONG, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", LONG, primary_key=True, autoincrement=True),
    Column("arn", String(256), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("lane", String(16), nullable=False),
    Column("subject", String(256), nullable=False),  # of the jobs of one subject only one runs at a time
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("slot", String(32)),  # the lock file whose holder works on it
    Column("stop", Boolean, nullable=False),
    Column("progress", JSON),
    UniqueConstraint("arn", "kind"),
    Index("jobs_of_a_lane", "state", "lane", "id"),
    sqlite_autoincrement=True,
)


def insert(tx: Connection, table: Table, rows: Sequence[tuple]) -> None:
    """Insert rows of a numbered table, given as tuples of all columns but ``sequence``, JSON as text.

    For what comes by the thousand: most of the time went into naming the columns of every row again.
    """
    columns = [column.name for column in table.columns if column.name != "sequence"]
    statement, positional = _insertion(table, tx.dialect)
    if not positional:
        tx.exec_driver_sql(statement, [dict(zip(columns, row)) for row in rows])
        return
    whole = len(rows) - len(rows) % INSERTED_AT_ONCE
    if whole:
        lots = [tuple(chain.from_iterable(rows[n : n + INSERTED_AT_ONCE])) for n in range(0, whole, INSERTED_AT_ONCE)]
        head, _, values = statement.rpartition(" VALUES ")
        tx.exec_driver_sql(f"{head} VALUES {', '.join([values] * INSERTED_AT_ONCE)}", lots)
    if whole < len(rows):
        tx.exec_driver_sql(statement, list(rows[whole:]))


@cache
def _insertion(table: Table, dialect: Dialect) -> tuple[str, bool]:
    """The statement, and whether its parameters go by their position."""
    columns = [column.name for column in table.columns if column.name != "sequence"]
    compiled = table.insert().inline().compile(dialect=dialect, column_keys=columns)
    if compiled.positional and compiled.positiontup != columns:
        raise ValueError(f"{dialect.name} takes {compiled.positiontup}, the rows hold {columns}")
    return str(compiled), compiled.positional
