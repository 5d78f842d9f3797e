"""A watcher of the database hears of every committed change, and of nothing else."""

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
