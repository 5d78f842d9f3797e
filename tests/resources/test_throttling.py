"""Token buckets of one process, and of several that share their counts."""

import mmap
import multiprocessing

from lib.resources import throttling
from lib.resources.throttling import Throttle


def shared(processes):
    memory = bytearray(throttling.size(processes))
    return [Throttle(memory, number) for number in range(processes)]


def passed(throttle, rate, now, times, arn="popular"):
    return sum(throttle.take(arn, rate, now) for _ in range(times))


def test_a_seconds_worth_passes_at_once_and_then_what_the_rate_says():
    throttle = Throttle()
    assert passed(throttle, 3, 100.0, 10) == 3
    assert passed(throttle, 3, 101.0, 10) == 3
    assert passed(throttle, 3, 101.4, 10) == 1


def test_a_clock_that_goes_back_gives_nothing():
    for throttle, other in ([Throttle()] * 2, shared(2)):
        assert passed(throttle, 3, 100.0, 10) == 3
        assert passed(other, 3, 99.0, 10) == 0
        assert passed(throttle, 3, 100.4, 10) == 1


def test_processes_together_let_pass_what_one_alone_would():
    throttles = shared(3)
    assert sum(throttles[n % 3].take("popular", 7, 100.0) for n in range(60)) == 7
    assert sum(throttles[n % 3].take("popular", 7, 101.0) for n in range(60)) == 7


def test_one_that_is_asked_alone_may_have_all_that_the_others_leave():
    one, other = shared(2)
    assert passed(one, 10, 100.0, 4) == 4
    assert passed(other, 10, 100.0, 1) == 1  # from here on it knows of the first
    assert passed(other, 10, 100.5, 20) == 10
    assert passed(one, 10, 100.5, 20) == 0


def test_campaigns_do_not_take_from_each_other():
    one, other = shared(2)
    assert passed(one, 2, 100.0, 5, "popular") == 2
    assert passed(other, 2, 100.0, 5, "similar") == 2


def test_one_that_was_not_asked_for_long_takes_no_more_and_no_less_than_there_is():
    one, other = shared(2)
    assert passed(one, 10, 100.0, 1) == 1
    assert [passed(other, 10, 100.0 + n, 30) for n in range(1, 9)] == [10] * 8
    assert passed(one, 10, 108.5, 30) == 5


def test_one_that_was_started_again_goes_on_counting_where_it_was():
    memory = bytearray(throttling.size(2))
    one, other = Throttle(memory, 0), Throttle(memory, 1)
    assert passed(one, 5, 100.0, 2) == 2 and passed(other, 5, 100.0, 1) == 1
    again = Throttle(memory, 0)
    assert passed(again, 5, 100.0, 1) == 1
    assert passed(other, 5, 100.0, 5) == 1


def test_more_campaigns_than_there_is_room_for_are_counted_by_each_process(monkeypatch):
    monkeypatch.setattr(throttling, "ROWS", 2)
    memory = bytearray(throttling.size(2))
    one, other = Throttle(memory, 0), Throttle(memory, 1)
    names = ("first", "second", "third")
    assert [passed(one, 2, 100.0, 5, name) for name in names] == [2, 2, 2]
    assert [passed(other, 2, 100.0, 5, name) for name in names] == [0, 0, 2]


def asked(memory, number, ready, answers):
    ready.wait()
    answers.put(passed(Throttle(memory, number), 1000, 100.0, 2000))


def test_processes_that_do_nothing_but_ask_pass_fewer_than_each_would_alone():
    processes = 2
    fork = multiprocessing.get_context("fork")
    memory, ready, answers = mmap.mmap(-1, throttling.size(processes)), fork.Barrier(processes), fork.Queue()
    running = [fork.Process(target=asked, args=(memory, number, ready, answers)) for number in range(processes)]
    for one in running:
        one.start()
    total = sum(answers.get() for _ in running)
    for one in running:
        one.join()
    assert 1000 <= total < 2000
