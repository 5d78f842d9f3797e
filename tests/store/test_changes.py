"""A watcher of the database hears of every committed change, and of nothing else."""

import subprocess
import sys

import pytest

from lib.store import events
from lib.store.changes import Changes
from lib.store.database import Store


@pytest.fixture
def store(place):
    store = Store.open(*place)
    yield store
    store.close()


def put(store, dataset="d"):
    with store.transaction() as tx:
        events.put(tx, dataset, {"a": {}}, received_at=0)


def test_the_stamp_moves_with_every_commit_of_any_process(store, place):
    changes = Changes(store)
    stamps = [changes.stamp()]
    put(store)
    stamps.append(changes.stamp())
    other = Store.open(*place)
    put(other)
    other.close()
    stamps.append(changes.stamp())
    assert len(set(stamps)) == 3
    changes.close()


def test_the_stamp_stands_while_others_read_or_take_back_what_they_wrote(store):
    changes = Changes(store)
    put(store)
    before = changes.stamp()
    with store.read() as tx:
        events.state(tx, ["d"])
    with pytest.raises(KeyError), store.transaction() as tx:
        events.put(tx, "d", {"a": {}}, received_at=0)
        raise KeyError
    assert changes.stamp() == before
    changes.close()


def test_what_others_write_may_wait_and_what_this_store_writes_is_told_at_once(tmp_path):
    store, other = Store.open(tmp_path), Store.open(tmp_path)
    patient, eager = Changes(store, seconds=1000), Changes(store)
    first, seen = patient.stamp(), eager.stamp()
    put(other)
    assert patient.stamp() == first and eager.stamp() != seen
    put(store)
    assert patient.stamp() != first
    patient.close()
    put(store)  # tells only those who still watch
    for opened in (eager, store, other):
        opened.close()


def test_watching_leaves_this_process_the_locks_that_sqlite_holds(tmp_path):
    """Without the one on byte 128 of the log's index whoever comes next begins it anew, and commits are lost."""
    store = Store.open(tmp_path)
    changes = Changes(store)
    put(store)
    changes.stamp()
    (index,) = tmp_path.glob("*-shm")
    take = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)"
    tried = subprocess.run([sys.executable, "-c", take, str(index)], capture_output=True, text=True)
    assert "BlockingIOError" in tried.stderr
    changes.close()
    store.close()
