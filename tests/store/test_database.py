"""The store keeps what was answered, whoever else works on it."""

import subprocess
import sys
import threading

import pytest
from sqlalchemy import insert, select, update

from lib.store import tables
from lib.store.database import Store


def count(store: Store, name: str) -> int:
    with store.read() as tx:
        return tx.execute(select(tables.counters.c.value).where(tables.counters.c.name == name)).scalar_one()


def add_one(store: Store, name: str) -> None:
    with store.transaction() as tx:
        value = tx.execute(select(tables.counters.c.value).where(tables.counters.c.name == name)).scalar_one()
        tx.execute(update(tables.counters).where(tables.counters.c.name == name).values(value=value + 1))


@pytest.fixture
def store(tmp_path):
    store = Store.open(tmp_path / "store")
    with store.transaction() as tx:
        tx.execute(insert(tables.counters).values(name="n", value=0))
    yield store
    store.close()


def test_a_transaction_that_raises_leaves_nothing(store):
    with pytest.raises(RuntimeError), store.transaction() as tx:
        tx.execute(update(tables.counters).values(value=7))
        raise RuntimeError
    assert count(store, "n") == 0


def test_writers_of_two_stores_on_one_folder_take_turns(store):
    other = Store.open(store.location)
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


def test_an_ended_transaction_survives_kill_9(tmp_path):
    program = (
        "import os, signal, sys; from sqlalchemy import insert; from lib.store import tables\n"
        "from lib.store.database import Store\n"
        "store = Store.open(sys.argv[1])\n"
        "with store.transaction() as tx: tx.execute(insert(tables.counters).values(name='kept', value=3))\n"
        "with store.transaction() as tx:\n"
        "    tx.execute(insert(tables.counters).values(name='lost', value=4))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path / "store")]).returncode == -9
    store = Store.open(tmp_path / "store")
    with store.read() as tx:
        assert tx.execute(select(tables.counters.c.name, tables.counters.c.value)).all() == [("kept", 3)]
    store.close()


def test_every_connection_is_fully_synchronised(store):
    with store.read() as tx:
        assert tx.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert tx.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_a_store_of_another_version_is_refused_with_a_word(store):
    with store.transaction() as tx:
        tx.execute(update(tables.store_version).values(version=99))
    with pytest.raises(ValueError, match=r"version 99, this program reads version \d+"):
        Store.open(store.location)


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match="a store is a folder"):
        Store.open(tmp_path / "notes.txt")
