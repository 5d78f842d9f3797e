"""Versions of the database: how an older one is brought up to date.

A version is a file in ``versions/``, named by its number; ``lib.store.tables.VERSION`` is the newest one, and new
stores are made as ``lib.store.tables`` and ``lib.store.events`` describe them.  To change the tables: change them
there, raise ``VERSION``, and write the next file, which makes the same change to a store that holds data.  A test
compares what both ways lead to.
"""

import threading
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Connection, insert, inspect, select

from lib.store import consumption, events, tables
from lib.store.dialects import copy_aside

FOLDER = Path(__file__).parent
_ONE_AT_A_TIME = threading.Lock()  # Alembic keeps the migration under way in a global variable


def known() -> list[str]:
    """Every version, oldest first."""
    return sorted(file.name.partition("_")[0] for file in (FOLDER / "versions").glob("[0-9]*.py"))


def bring_up_to_date(connection: Connection, folder: Path, name: str) -> Path:
    """Create the tables of a new store, or change those of an older one, within the caller's transaction.

    Returns where a copy of the older one was put aside; it may go once the transaction has ended.
    Raises ValueError for a database of a version that is not known here, and for one that is no store.
    """
    found = _version(connection, name)
    aside = folder / "store.db.before"
    if found is None:
        for module in (consumption, events):  # which hang their tables on one metadata
            module.metadata.create_all(connection)
        tables.store_version.create(connection)
        connection.execute(insert(tables.store_version).values(version_num=tables.VERSION))
        connection.execute(insert(tables.store).values(id=uuid4().hex, changes=0))
    elif found != tables.VERSION:
        aside.unlink(missing_ok=True)
        copy_aside(connection, aside)
        migrate(connection, found)
    return aside


def migrate(connection: Connection, found: str | None, to: str = tables.VERSION) -> None:
    """Change the tables from one version, None for no tables at all, to a later one."""
    from alembic import command  # rarely needed, and slow to import
    from alembic.config import Config

    if found == "0001" and "version" in _columns(connection, tables.store_version.name):
        tables.store_version.drop(connection)  # the first stores wrote their version in another way
        tables.store_version.create(connection)
        connection.execute(insert(tables.store_version).values(version_num=found))
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    with _ONE_AT_A_TIME:
        command.upgrade(config, to)


def _version(connection: Connection, name: str) -> str | None:
    present = set(inspect(connection).get_table_names())
    if tables.store_version.name not in present:
        if foreign := present & {tables.store_version.name, *events.metadata.tables}:
            raise ValueError(
                f"{name} holds tables ({', '.join(sorted(foreign))}) of something that is no store: name another place"
            )
        return None
    if "version" in _columns(connection, tables.store_version.name):
        found = f"{connection.exec_driver_sql('SELECT version FROM store_version').scalar_one():04}"
    else:
        found = connection.execute(select(tables.store_version.c.version_num)).scalar_one()
    if found not in known():
        raise ValueError(
            f"{name} holds a store of version {found}, this program reads version {tables.VERSION} and older ones: "
            "use the program that wrote it, or name another place"
        )
    return found


def _columns(connection: Connection, table: str) -> set[str]:
    return {column["name"] for column in inspect(connection).get_columns(table)}
