"""The store keeps what was answered, whoever else works on it."""

import subprocess
import sys
import threading
from urllib.parse import unquote

import pytest
from sqlalchemy import insert, make_url, select, update
from sqlalchemy.exc import InternalError, OperationalError

from lib.store import tables
from lib.store.changes import Changes
from lib.store.database import Store, is_full


def count(store: Store, name: str) -> int:
    with store.read() as tx:
        return tx.execute(select(tables.counters.c.value).where(tables.counters.c.name == name)).scalar_one()


def add_one(store: Store, name: str) -> None:
    with store.transaction() as tx:
        value = tx.execute(select(tables.counters.c.value).where(tables.counters.c.name == name)).scalar_one()
        tx.execute(update(tables.counters).where(tables.counters.c.name == name).values(value=value + 1))


@pytest.fixture
def store(place):
    store = Store.open(*place)
    with store.transaction() as tx:
        tx.execute(insert(tables.counters).values(name="n", value=0))
    yield store
    store.close()


def test_a_transaction_that_raises_leaves_nothing(store):
    with pytest.raises(RuntimeError), store.transaction() as tx:
        tx.execute(update(tables.counters).values(value=7))
        raise RuntimeError
    assert count(store, "n") == 0


def test_writers_of_two_processes_take_turns(store, place):
    other = Store.open(*place)
    threads = [
        threading.Thread(target=lambda s=s: [add_one(s, "n") for _ in range(20)]) for s in (store, other, store, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(store, "n") == 80
    other.close()


def test_a_reader_sees_one_state_while_a_writer_works(store):
    with store.read() as reader:
        before = reader.execute(select(tables.counters.c.value)).scalar_one()
        add_one(store, "n")
        assert reader.execute(select(tables.counters.c.value)).scalar_one() == before
    assert count(store, "n") == before + 1


def test_an_ended_transaction_survives_kill_9(place):
    program = (
        "import os, signal, sys; from sqlalchemy import insert; from lib.store import tables\n"
        "from lib.store.database import Store\n"
        "store = Store.open(*sys.argv[1:])\n"
        "with store.transaction() as tx: tx.execute(insert(tables.counters).values(name='kept', value=3))\n"
        "with store.transaction() as tx:\n"
        "    tx.execute(insert(tables.counters).values(name='lost', value=4))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, *map(str, place)]).returncode == -9
    store = Store.open(*place)
    with store.read() as tx:
        assert tx.execute(select(tables.counters.c.name, tables.counters.c.value)).all() == [("kept", 3)]
    store.close()


def test_every_connection_to_sqlite_is_fully_synchronised(tmp_path):
    store = Store.open(tmp_path / "store")
    with store.read() as tx:
        assert tx.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert tx.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    store.close()


def test_commits_to_postgresql_wait_for_the_disk_whatever_the_server_is_set_to(postgresql, tmp_path):
    url = postgresql.database()
    postgresql.run(f"ALTER DATABASE {make_url(url).database} SET synchronous_commit = off")
    store = Store.open(url, tmp_path)
    with store.read() as tx:
        assert tx.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    store.close()


def test_a_reader_writes_nothing(postgresql, tmp_path):
    store = Store.open(postgresql.database(), tmp_path)
    with pytest.raises(InternalError, match="read-only transaction"), store.read() as tx:
        tx.execute(update(tables.counters).values(value=7))
    store.close()


def test_a_connection_that_the_server_ended_is_replaced(postgresql, tmp_path):
    store = Store.open(postgresql.database(), tmp_path)
    changes = Changes(store)
    before = changes.stamp()
    postgresql.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with store.transaction() as tx:
        tx.execute(insert(tables.counters).values(name="n", value=0))
    assert changes.stamp() == before + 1
    changes.close()
    store.close()


def test_a_database_that_cannot_hold_all_text_is_refused(postgresql, tmp_path):
    url = postgresql.database("ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    with pytest.raises(ValueError, match="encoding is LATIN1"):
        Store.open(url, tmp_path)


def test_a_database_is_held_to_the_folder_of_its_files(postgresql, tmp_path):
    first, second = postgresql.database(), postgresql.database()
    Store.open(first, tmp_path / "files").close()
    Store.open(first, tmp_path / "files").close()
    with pytest.raises(ValueError, match=r"does not hold the files of .*: name the folder whose store.id says \w{32}"):
        Store.open(first, tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="holds the files of another store: name a new folder"):
        Store.open(second, tmp_path / "files")


def test_a_folder_of_files_that_was_never_taken_is_taken_at_the_next_opening(postgresql, tmp_path):
    url = postgresql.database()
    with pytest.raises(ValueError, match="another store"):
        (tmp_path / "files").mkdir()
        Store.open(url, tmp_path)
    Store.open(url, tmp_path / "mine").close()
    assert len((tmp_path / "mine" / "store.id").read_text()) == 32


@pytest.mark.parametrize("given", ["postgresql://postgres:geheim@/{}", "postgresql://postgres@/{}&password=geheim"])
def test_a_password_is_kept_out_of_command_lines(postgresql, tmp_path, given):
    url = postgresql.database()
    given = given.format(url.partition("@/")[2])
    store = Store.open(given, tmp_path)
    assert [unquote(option) for option in store.options()] == ["--store", url, "--files", str(tmp_path)]
    assert store.secrets() == {"PGPASSWORD": "geheim"}
    store.close()


def test_a_server_that_does_not_answer_is_told_without_its_password(tmp_path):
    with pytest.raises(ConnectionError, match="cannot be opened: connection is bad") as told:
        Store.open(f"postgresql://me:geheim@/news?host={tmp_path}", tmp_path)
    assert "geheim" not in str(told.value)


@pytest.mark.parametrize(
    ("location", "files", "told"),
    [
        ("mysql://me@host/news", "files", r"mysql://… names no store: give a folder, or postgresql://user@host/data"),
        ("postgresql://me:geheim@host", "files", "postgresql://… names no store"),
        ("postgresql://me:geheim@host/news", None, r"postgresql://me@host/news is a database: name the folder"),
        ("here", "files", "here is a folder, where the files lie too"),
    ],
)
def test_what_names_no_store_is_refused(tmp_path, location, files, told):
    with pytest.raises(ValueError, match=told):
        Store.open(location, files and tmp_path / files)


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match="a store is a folder"):
        Store.open(tmp_path / "notes.txt")


def test_a_full_disk_is_told_from_other_troubles(tmp_path):
    store = Store.open(tmp_path)
    with pytest.raises(OperationalError) as full, store.transaction() as tx:
        tx.exec_driver_sql("PRAGMA max_page_count = 1")  # no room for what is not there yet
        for number in range(1000):
            tx.execute(insert(tables.counters).values(name=f"{number}" * 1000, value=0))
    with pytest.raises(OperationalError) as other, store.read() as tx:
        tx.exec_driver_sql("SELECT nothing FROM nowhere")
    store.close()
    assert is_full(full.value) and is_full(OSError(28, "No space left on device"))
    assert not is_full(other.value) and not is_full(OSError(2, "No such file or directory"))
