"""Load against a server of a few lines."""

import asyncio
import threading
from contextlib import contextmanager

import pytest

from lib import load


@contextmanager
def server(answer):
    """A server on a thread of its own: ``answer`` gets each request as it came; the URL and the requests seen."""
    seen, ready = [], threading.Event()

    async def serve():
        async def connected(reader, writer):
            while True:
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError:
                    break
                body = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                seen.append((head, body))
                reply = answer(len(seen))
                if reply is None:
                    break
                writer.write(reply)
            writer.close()

        serving = await asyncio.start_server(connected, "127.0.0.1", 0)
        state.update(loop=asyncio.get_running_loop(), stop=asyncio.Event(), port=serving.sockets[0].getsockname()[1])
        ready.set()
        await state["stop"].wait()
        serving.close()

    state = {}
    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{state['port']}", seen
    finally:
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join()


def reply(status):
    return f"HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\n{{}}".encode()


def test_a_connection_that_the_service_closes_with_an_answer_is_followed_by_another():
    closed = reply(200).replace(b"Content", b"Connection: close\r\nContent")
    with server(lambda n: closed if n % 3 == 0 else reply(200)) as (url, seen):
        measured = load.measure(url, "/recommendations", [b"1"], clients=2, requests=20)
    assert len(seen) == len(measured.milliseconds) == 20 and measured.errors == {}


def test_every_request_is_sent_once_and_timed():
    with server(lambda n: reply(200)) as (url, seen):
        measured = load.measure(url, "/recommendations", [b"1", b"22"], clients=3, requests=10)
    assert sorted(body for _, body in seen) == [b"1"] * 5 + [b"22"] * 5
    assert all(head.startswith(b"POST /recommendations HTTP/1.1\r\n") for head, _ in seen)
    assert measured.milliseconds.shape == (10,) and (measured.milliseconds > 0).all()
    assert measured.requests_per_second == pytest.approx(10 / measured.seconds)
    assert measured.percentile(0) <= measured.percentile(50) <= measured.percentile(100)
    assert measured.errors == {}


def test_answers_that_are_errors_are_counted_by_status():
    with server(lambda n: reply(429 if n % 4 == 0 else 200)) as (url, _):
        measured = load.measure(url, "/", [b""], clients=2, requests=12)
    assert measured.errors == {429: 3}
    assert len(measured.milliseconds) == 12


def test_time_may_end_a_measurement_before_the_requests_do():
    with server(lambda n: reply(200)) as (url, _):
        measured = load.measure(url, "/", [b""], clients=1, requests=1_000_000, seconds=0.1)
    assert 0 < len(measured.milliseconds) < 1_000_000
    assert 0.05 < measured.seconds < 5


def test_requests_come_as_evenly_as_they_are_wanted():
    with server(lambda n: reply(200)) as (url, seen):
        measured = load.measure(url, "/", [b""], clients=4, requests=21, per_second=100)
    assert len(seen) == 21 and measured.seconds >= 0.19 and measured.milliseconds.min() > 0


def test_a_service_that_goes_away_is_told():
    with (
        server(lambda n: reply(200) if n < 5 else None) as (url, _),
        pytest.raises(ConnectionError, match="before it had answered"),
    ):
        load.measure(url, "/", [b""], clients=1, requests=10)


def test_a_service_that_falls_silent_is_told(monkeypatch):
    monkeypatch.setattr(load, "SILENT_SECONDS", 0.05)
    with server(lambda n: reply(200) if n < 5 else b"") as (url, _), pytest.raises(TimeoutError, match="after 4"):
        load.measure(url, "/", [b""], clients=1, requests=10)


def test_a_service_that_is_not_there_is_told():
    with pytest.raises(ConnectionError):
        load.measure("http://127.0.0.1:1", "/", [b""], clients=1, requests=1)


@pytest.mark.parametrize(
    "url",
    ["http://example.com:80", "http://127.0.0.1", "https://127.0.0.1:8400", "127.0.0.1:8400", "http://10.0.0.1:80"],
)
def test_load_is_only_put_on_this_machine(url):
    with pytest.raises(ValueError, match="only put on this machine"):
        load.measure(url, "/", [b""], clients=1, requests=1)


@pytest.mark.parametrize(("clients", "requests", "bodies"), [(0, 1, [b""]), (257, 1, [b""]), (1, 0, [b""]), (1, 1, [])])
def test_load_is_bounded(clients, requests, bodies):
    with pytest.raises(ValueError, match="there may be"):
        load.measure("http://127.0.0.1:8400", "/", bodies, clients=clients, requests=requests)


def test_load_can_be_put_from_inside_an_event_loop():
    async def notebook(url):
        return load.measure(url, "/", [b""], clients=2, requests=4)

    with server(lambda n: reply(200)) as (url, _):
        assert len(asyncio.run(notebook(url)).milliseconds) == 4


def test_users_are_asked_for_first_and_again_after_a_request_that_is_not_counted():
    bodies = [b"%d" % n for n in range(12)]
    with server(lambda n: reply(200)) as (url, seen):
        measured = load.first_and_again(url, "/", bodies, clients=[1, 2], requests=4)
    asked = [body for _, body in seen]
    assert asked[:9] == [b"0", *bodies[1:5], *bodies[1:5]]
    assert sorted(asked[9:13]) == sorted(asked[13:]) == bodies[5:9]
    assert [list(of_clients) for of_clients in measured.values()] == [[1, 2], [1, 2]]
    assert all(len(each.milliseconds) == 4 for of_clients in measured.values() for each in of_clients.values())


def test_fewer_users_than_requests_are_shared_among_the_numbers_of_clients():
    with server(lambda n: reply(200)) as (url, seen):
        load.first_and_again(url, "/", [b"%d" % n for n in range(7)], clients=[1, 8], requests=600)
    assert [body for _, body in seen[:7]] == [b"0", *[b"1", b"2", b"3"] * 2]
    assert len(seen) == 13
