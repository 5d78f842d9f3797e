"""Tables of the database.  A module that adds tables of its own hangs them on the same ``metadata``."""

from functools import cache

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
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

VERSION = 1

metadata = MetaData()

store_version = Table("store_version", metadata, Column("version", Integer, primary_key=True))

resources = Table(
    "resources",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),  # order of creation, the order of every list
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
    Column("value", Integer, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
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


@cache
def insertion(table: Table, dialect: Dialect) -> str:
    """What inserts rows of a numbered table, given as tuples of all columns but ``sequence``, JSON as text.

    For what comes by the thousand: most of the time went into naming the columns of every row again.
    """
    columns = [column.name for column in table.columns if column.name != "sequence"]
    compiled = table.insert().compile(dialect=dialect, column_keys=columns)
    if compiled.positiontup != columns:
        raise ValueError(f"{dialect.name} takes {compiled.positiontup}, the rows hold {columns}")
    return str(compiled)
