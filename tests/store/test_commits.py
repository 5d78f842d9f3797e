"""Writes of many callers in one transaction: what is kept, and who learns of what fails."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.store.database import Store
from lib.store.tables import counters


@pytest.fixture
def store(tmp_path):
    store = Store.open(tmp_path / "store")
    yield store
    store.close()


class Groups:
    """A write that remembers which items came together; it can be held up, and dislikes negative numbers."""

    def __init__(self):
        self.seen, self.begun, self.go = [], threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, tx, items):
        self.begun.set()
        self.go.wait(10)
        self.seen.append(list(items))
        if any(item < 0 for item in items):
            raise ValueError(f"{items} are too few")
        tx.execute(counters.insert(), [{"name": str(item), "value": item} for item in items])


def kept(store):
    with store.read() as tx:
        return sorted(tx.execute(counters.select()).scalars().all(), key=int)


def held_up(store, write, *items):
    """Write 0, and the items while that is under way; what became of each item."""
    write.go.clear()
    with ThreadPoolExecutor(len(items) + 1) as threads:
        first = threads.submit(store.commits.write, write, 0)
        write.begun.wait(10)
        futures = [threads.submit(store.commits.write, write, item) for item in items]
        while len(store.commits._waiting) < len(items):
            threading.Event().wait(0.001)
        write.go.set()
        first.result(10)
        return [future.exception(10) for future in futures]


def test_a_write_is_there_when_it_returns(store):
    store.commits.write(Groups(), 1)
    assert kept(store) == ["1"]


def test_those_who_wait_are_written_together(store):
    write = Groups()
    assert held_up(store, write, *range(1, 9)) == [None] * 8
    assert [len(items) for items in write.seen] == [1, 8]
    assert kept(store) == [str(n) for n in range(9)]


def test_what_is_put_off_is_written_together_and_each_tells_what_became_of_it(store):
    write = Groups()
    with store.commits.put_off() as begun:
        for item in (1, -2, 3):
            store.commits.write(write, item)
    assert kept(store) == [] and not any(one.done for one in begun)
    store.commits.flush()
    assert kept(store) == ["1", "3"] and write.seen[0] == [1, -2, 3]
    assert [type(one.error) for one in begun] == [type(None), ValueError, type(None)]
    store.commits.write(write, 4)
    assert kept(store) == ["1", "3", "4"]


def test_other_threads_put_nothing_off(store):
    with store.commits.put_off() as begun, ThreadPoolExecutor(1) as threads:
        threads.submit(store.commits.write, Groups(), 1).result(10)
    assert begun == [] and kept(store) == ["1"]


def test_one_that_fails_harms_no_other(store):
    told = held_up(store, Groups(), 1, -2, 3)
    assert [type(error) for error in told] == [type(None), ValueError, type(None)]
    assert str(told[1]) == "[-2] are too few"
    assert kept(store) == ["0", "1", "3"]


def test_what_nobody_waits_for_rides_along_before_the_others(store):
    write, other = Groups(), Groups()
    store.commits.later(write, 1)
    store.commits.later(write, 2)
    assert write.seen == []
    store.commits.write(other, 3)
    assert write.seen == [[1, 2]] and other.seen == [[3]]
    assert kept(store) == ["1", "2", "3"]


def test_what_nobody_waits_for_goes_by_itself_a_little_later(store):
    write = Groups()
    store.commits.later(write, 1)
    assert write.begun.wait(10)
    store.commits.flush()
    assert kept(store) == ["1"]


def test_a_failure_of_what_nobody_waits_for_is_nobody_elses(store):
    store.commits.later(Groups(), -1)
    store.commits.later(Groups(), 1)
    store.commits.write(Groups(), 2)
    assert kept(store) == ["1", "2"]


def test_closing_writes_what_is_left(tmp_path):
    store = Store.open(tmp_path / "store")
    store.commits.later(Groups(), 1)
    store.close()
    again = Store.open(tmp_path / "store")
    assert kept(again) == ["1"]
    again.close()


def test_one_that_is_interrupted_leaves_nobody_waiting(store):
    def interrupted(tx, items):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.commits.write(interrupted, 1)
    store.commits.write(Groups(), 2)
    assert kept(store) == ["2"]
