"""A store of an older version is brought up to date with everything in it, or refused with a word."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, insert, inspect, select, update
from sqlalchemy.engine import make_url

from lib.store import events, migrations, tables
from lib.store.database import Store

FIRST = Path(__file__).with_name("first.sql")  # a store as its first version made it


@pytest.fixture
def first(tmp_path):
    """A store of the first version that holds a counter."""
    with closing(sqlite3.connect(tmp_path / "store.db")) as database:
        database.executescript(FIRST.read_text())
    return tmp_path


def counters(store):
    with store.read() as tx:
        return tx.execute(select(tables.counters.c.name, tables.counters.c.value)).all()


def layout(store):
    """Tables, columns, indexes and constraints, as the database tells them."""
    with store.read() as tx:
        found = inspect(tx)
        return {
            table: (
                {column["name"]: (str(column["type"]), column["nullable"]) for column in found.get_columns(table)},
                found.get_pk_constraint(table)["constrained_columns"],
                sorted((index["name"], index["column_names"], index["unique"]) for index in found.get_indexes(table)),
                [constraint["column_names"] for constraint in found.get_unique_constraints(table)],
            )
            for table in found.get_table_names()
        }


def refuse(*_, **__):
    raise OSError("no space left on device")


def test_the_first_version_is_brought_up_to_date_with_everything_in_it(first):
    store = Store.open(first)
    assert counters(store) == [("n", 7)]
    with store.transaction() as tx:
        assert tx.execute(select(tables.store_version.c.version_num)).scalars().all() == [tables.VERSION]
        tx.execute(update(tables.counters).values(value=8))
    store.close()
    again = Store.open(first)
    assert counters(again) == [("n", 8)]
    again.close()
    assert not list(first.glob("store.db.*before*"))


def test_events_of_no_user_are_still_their_sessions(first):
    with closing(sqlite3.connect(first / "store.db")) as database:
        for sequence, user in enumerate((None, "ann")):
            database.execute(
                "INSERT INTO live_events VALUES (?, 'd', 's', ?, NULL, 0, 'i', 'view', 0, 0, '{}', NULL, NULL, NULL)",
                (sequence, user),
            )
        database.commit()
    store = Store.open(first)
    with store.read() as tx:
        assert [[one.user_id for one in events.newest(tx, "d", owner)] for owner in ("s", "ann")] == [[None], ["ann"]]
    store.close()


def test_an_older_store_ends_up_with_the_tables_of_a_new_one(first, tmp_path):
    older, new = Store.open(first), Store.open(tmp_path / "new")
    assert layout(older) == layout(new)
    older.close()
    new.close()


def test_an_older_database_ends_up_with_the_tables_of_a_new_one(postgresql, tmp_path):
    url = postgresql.database()
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        migrations.migrate(connection, None, "0001")
        connection.execute(insert(tables.counters).values(name="n", value=7))
    engine.dispose()
    older, new = Store.open(url, tmp_path / "older"), Store.open(postgresql.database(), tmp_path / "new")
    assert counters(older) == [("n", 7)]
    assert layout(older) == layout(new)
    older.close()
    new.close()


def test_the_newest_migration_is_the_version_that_is_written(place):
    assert migrations.known()[-1] == tables.VERSION
    store = Store.open(*place)
    with store.read() as tx:
        context = MigrationContext.configure(tx, opts={"version_table": tables.store_version.name})
        assert compare_metadata(context, tables.metadata) == []
    store.close()


def test_until_a_migration_is_done_a_copy_is_kept_and_the_store_is_as_it_was(first, monkeypatch):
    before = sqlite_rows(first / "store.db")
    with monkeypatch.context() as failing:
        failing.setattr("uuid.uuid4", refuse)
        with pytest.raises(OSError, match="no space left"):
            Store.open(first)
    assert sqlite_rows(first / "store.db") == sqlite_rows(first / "store.db.before") == before
    Store.open(first).close()
    assert not (first / "store.db.before").exists()


def sqlite_rows(file):
    with closing(sqlite3.connect(file)) as database:
        return list(database.iterdump())


def test_a_store_of_a_newer_version_is_refused_and_left_alone(place):
    store = Store.open(*place)
    with store.transaction() as tx:
        tx.execute(update(tables.store_version).values(version_num="0099"))
    with pytest.raises(ValueError, match=r"version 0099, this program reads version \d+ and older ones"):
        Store.open(*place)
    with store.read() as tx:
        assert tx.execute(select(tables.store_version.c.version_num)).scalar_one() == "0099"
    store.close()


def test_a_program_of_the_first_version_does_not_take_a_newer_store_for_its_own(first):
    Store.open(first).close()
    with closing(sqlite3.connect(first / "store.db")) as database, pytest.raises(sqlite3.OperationalError):
        database.execute("SELECT version FROM store_version")


def test_tables_of_something_else_are_left_alone(postgresql, tmp_path):
    url = postgresql.database()
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE jobs (title text)")
    engine.dispose()
    with pytest.raises(ValueError, match=r"holds tables \(jobs\) of something that is no store"):
        Store.open(url, tmp_path)


def test_a_file_that_is_no_database_is_left_alone(tmp_path):
    (tmp_path / "store.db").write_text("my notes, quite a lot of them" * 100)
    with pytest.raises(ValueError, match="is no store, and none can be made there: file is not a database"):
        Store.open(tmp_path)


def test_a_store_that_is_up_to_date_is_opened_without_alembic(tmp_path, monkeypatch):
    Store.open(tmp_path).close()
    monkeypatch.setattr(migrations, "migrate", refuse)
    Store.open(tmp_path).close()
