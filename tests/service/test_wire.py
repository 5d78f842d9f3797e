"""Requests as bytes: what no client library would send."""

import asyncio
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.resources.errors import ApiError
from lib.service import http, model, wire
from lib.service.dispatch import Dispatcher
from lib.store.commits import Commits, Outdated
from tests.service.doors import CAMPAIGN, OPERATIONS, allow, listening

TARGET = "AmazonPersonalize."


def ask(method="POST", target="/", headers=None, body=b"{}", operations=OPERATIONS):
    answered = wire.answer(Dispatcher({}, operations), method, target, headers or {}, body, request_id="id")
    return answered.status, dict(answered.headers), answered.body


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "status", "code"),
    [
        ("POST", "/", {}, b"{}", 400, "UnknownOperationException"),
        ("POST", "/", {"x-amz-target": "AmazonPersonalize.Nothing"}, b"{}", 400, "UnknownOperationException"),
        ("POST", "/", {"x-amz-target": "DynamoDB_20120810.ListTables"}, b"{}", 400, "UnknownOperationException"),
        ("POST", "/", {"x-amz-target": TARGET + "ListFilters"}, b"{}", 400, "UnknownOperationException"),
        ("POST", "/", {"x-amz-target": TARGET + "ListSchemas"}, b"{", 400, "SerializationException"),
        ("POST", "/", {"x-amz-target": TARGET + "ListSchemas"}, b"[]", 400, "SerializationException"),
        ("POST", "/", {"x-amz-target": TARGET + "ListSchemas"}, b'{"a":"\xff"}', 400, "SerializationException"),
        ("POST", "/", {"x-amz-target": TARGET + "ListSchemas"}, b"[" * 100_000, 400, "SerializationException"),
        ("POST", "/", {"x-amz-target": TARGET + "ListSchemas"}, b'{"maxResults":0}', 400, "InvalidInputException"),
        ("GET", "/", {"x-amz-target": TARGET + "ListSchemas"}, b"", 405, "UnknownOperationException"),
    ],
)
def test_json_1_1_errors_name_their_code_in_the_body(method, target, headers, body, status, code):
    answered, told, content = ask(method, target, headers, body)
    assert (answered, told["content-type"]) == (status, "application/x-amz-json-1.1")
    assert orjson.loads(content).keys() == {"__type", "message"}
    assert orjson.loads(content)["__type"] == code


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "code"),
    [
        ("POST", "/nowhere", b"{}", 404, "UnknownOperationException"),
        ("POST", "/items", b'{"datasetArn":"arn:aws:personalize:::a","items":[]}', 404, "UnknownOperationException"),
        ("GET", "/recommendations", b"", 405, "UnknownOperationException"),
        ("POST", "/recommendations", b"no JSON", 400, "SerializationException"),
        ("POST", "/recommendations", b'{"numResults":"5"}', 400, "InvalidInputException"),
        ("POST", "/recommendations", b'{"campaignArn":"arn:aws:personalize:::a"}', 404, "ResourceNotFoundException"),
        ("POST", "/events", b"", 400, "InvalidInputException"),
    ],
)
def test_rest_errors_name_their_code_in_a_header(method, target, body, status, code):
    answered, told, content = ask(method, target, {}, body)
    assert (answered, told["content-type"], told["x-amzn-errortype"]) == (status, "application/json", code)
    assert orjson.loads(content).keys() == {"message"}


def test_a_wrong_method_is_told_the_right_one():
    assert ask("PUT", "/events")[1]["allow"] == "POST"


def test_no_body_is_a_request_without_members():
    assert ask(headers={"x-amz-target": TARGET + "ListSchemas"}, body=b"")[2] == b'{"schemas":[]}'


def test_a_query_does_not_change_the_way():
    body = orjson.dumps({"campaignArn": CAMPAIGN, "numResults": 0})
    assert ask(target="/recommendations?x=1", body=body)[2] == b'{"itemList":[],"recommendationId":"RID-1"}'


def test_nobody_who_may_not_call_learns_what_there_is():
    class AccessDeniedException(ApiError):
        pass

    def refuse(*_):
        raise AccessDeniedException("no")

    for target, status in (("/", 400), ("/nowhere", 403)):
        answered = wire.answer(Dispatcher({}, {}), "POST", target, {}, b"{", request_id="id", authorise=refuse)
        assert (answered.status, answered.error) == (status, "AccessDeniedException")


EVERYTHING = {operation.function: lambda account, **members: None for operation in model.operations().values()}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(derandomize=True)
@given(
    method=st.sampled_from(["POST", "POST", "POST", "GET", "DELETE"]),
    target=st.sampled_from([*model.paths(), "/", "/"]) | st.text().map("/".__add__),
    name=st.sampled_from(list(model.targets())) | st.text(),
    body=JSON.map(json.dumps).map(str.encode) | st.binary(),
)
def test_whatever_is_sent_is_answered_and_is_not_our_fault(method, target, name, body):
    status, _, _ = ask(method, target, {"x-amz-target": name}, body, EVERYTHING)
    assert 200 <= status < 500


# --- over a socket --------------------------------------------------------------------------------------------------


HELD = (
    b"POST /recommendations HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{"  # nobody but the connection knows of it
)


def raw(url, *pieces):
    """Send bytes as they are; all that comes back until the service closes the connection."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        for piece in pieces:
            connection.sendall(piece)
        received = b""
        while more := connection.recv(65536):
            received += more
    return received


def post(path, body, *headers):
    lines = [f"POST {path} HTTP/1.1", "Host: here", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_an_oversized_body_is_refused_and_the_service_lives_on(url):
    refused = raw(url, post("/events", b"x" * (http.BODY_BYTES + 1)))
    assert refused.startswith(b"HTTP/1.1 413 ")
    assert b"x-amzn-errortype: RequestEntityTooLargeException" in refused
    assert raw(url, post("/", b"{}", f"X-Amz-Target: {TARGET}ListSchemas")).startswith(b"HTTP/1.1 200 ")


def test_a_body_of_just_the_limit_is_read(url):
    body = b"{}" + b" " * (http.BODY_BYTES - 2)
    assert raw(url, post("/", body, f"X-Amz-Target: {TARGET}ListSchemas")).startswith(b"HTTP/1.1 200 ")


def test_a_body_in_chunks_is_read(url):
    head = f"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nX-Amz-Target: {TARGET}"
    chunks = b'c\r\n{"maxResults\r\n', b'4\r\n":1}\r\n0\r\n\r\n'
    assert raw(url, f"{head}ListSchemas\r\n\r\n".encode(), *chunks).startswith(b"HTTP/1.1 200 ")


def test_a_request_that_stalls_is_cut_off(url, monkeypatch):
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.05)
    for stalled in (b"", b"POST /events HT", b"POST /events HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{", HELD):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(stalled)
            assert connection.recv(100) == b""


def test_a_head_without_end_is_cut_off(url):
    line = b"X-Padding: " + b"x" * 8000 + b"\r\n"
    assert raw(url, b"GET / HTTP/1.1\r\n", *[line] * 9).startswith(b"HTTP/1.1 400 ")


def test_what_is_not_http_is_refused(url):
    assert raw(url, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def metrics_of(url):
    """Whoever asks for them is told of all requests until then, as is the log."""
    return raw(url, b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").decode()


def test_health_is_told_and_metrics_count_by_operation(url):
    raw(url, post("/", b"{}", f"X-Amz-Target: {TARGET}ListSchemas"))
    raw(url, post("/recommendations", b'{"campaignArn":"arn:aws:personalize:::a"}'))
    assert b'{"status":"ok"}' in raw(url, b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    metrics = metrics_of(url)
    runtime = 'operation="GetRecommendations",service="personalize-runtime"'
    assert 'personalize_requests_total{operation="ListSchemas",service="personalize"} 1.0' in metrics
    assert f'personalize_errors_total{{error="ResourceNotFoundException",{runtime}}} 1.0' in metrics
    assert f"personalize_request_seconds_count{{{runtime}}} 1.0" in metrics


def test_a_mistake_of_ours_is_told_to_the_log_alone(url, log):
    told = raw(url, post("/recommendations", orjson.dumps({"campaignArn": CAMPAIGN, "userId": "bug"})))
    assert told.startswith(b"HTTP/1.1 500 ")
    assert b"x-amzn-errortype: InternalFailure" in told
    assert b"Traceback" not in told and b"only the log" not in told
    metrics_of(url)
    failure, request = (orjson.loads(line) for line in log)
    assert "a bug that only the log may tell of" in failure["traceback"]
    assert failure["request"] == request["request"] and request["request"].encode() in told


def test_the_log_has_a_line_for_each_request_and_nothing_of_its_members(url, log):
    raw(url, post("/recommendations", orjson.dumps({"campaignArn": CAMPAIGN, "userId": "someone in particular"})))
    metrics_of(url)
    (line,) = log
    assert b"someone" not in line
    told = orjson.loads(line)
    assert (told["service"], told["operation"], told["status"]) == ("personalize-runtime", "GetRecommendations", 200)
    assert told.keys() == {
        *("time", "event", "request", "service", "operation"),
        *("status", "error", "milliseconds", "bytes"),
    }


def test_more_requests_than_can_be_answered_are_throttled_and_the_rest_is_answered(account, log):
    entered, leave = threading.Event(), threading.Event()

    def list_schemas(account):
        entered.set()
        leave.wait(10)
        return {"schemas": []}

    application = http.Application(
        Dispatcher(account, {"list_schemas": list_schemas}), authorise=allow, log=log.append, requests_in_flight=1
    )
    request = post("/", b"{}", f"X-Amz-Target: {TARGET}ListSchemas")
    first = []
    with listening(application) as url:
        thread = threading.Thread(target=lambda: first.append(raw(url, request)))
        thread.start()
        assert entered.wait(10)
        second, third = raw(url, request), raw(url, post("/events", b"{}"))
        leave.set()
        thread.join()
        assert raw(url, request).startswith(b"HTTP/1.1 200 ")
    assert first[0].startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 400 ") and b"ThrottlingException" in second
    assert third.startswith(b"HTTP/1.1 429 ") and b"x-amzn-errortype: ThrottlingException" in third


def test_one_connection_carries_many_requests(url):
    last = post("/", b"{}", f"X-Amz-Target: {TARGET}ListSchemas")
    keep = last.replace(b"Connection: close\r\n", b"")
    assert raw(url, keep, keep, last).count(b"HTTP/1.1 200 OK") == 3


def test_a_web_page_is_answered_nothing_by_a_service_without_credentials(account, log):
    application = http.Application(Dispatcher(account, OPERATIONS), authorise=http.no_browser, log=log.append)
    with listening(application) as url:
        assert raw(url, post("/events", b"{}", "Origin: http://evil.example")).startswith(b"HTTP/1.1 403 ")
        assert raw(url, post("/events", b"{}")).startswith(b"HTTP/1.1 400 ")


def test_what_is_at_hand_is_answered_without_a_thread_of_its_own(account, log):
    threads = {}

    def get_recommendations(account, *, user_id=None):
        threads[user_id] = threading.current_thread().name
        return {"itemList": []}

    application = http.Application(
        Dispatcher(account, {"get_recommendations": get_recommendations}),
        authorise=allow,
        log=log.append,
        at_hand=lambda members: members.get("user_id") == "near",
    )
    with listening(application) as url:
        for body in (b'{"userId": "near"}', b'{"userId": "far"}'):
            assert raw(url, post("/recommendations", body)).startswith(b"HTTP/1.1 200 ")
        for body in (b"[1]", b"{", b""):
            assert b"500" not in raw(url, post("/recommendations", body)).splitlines()[0]
    assert threads["far"].startswith("operation") and not threads["near"].startswith("operation")


@pytest.fixture
def ways(account, log, monkeypatch):
    """The URL of a service that has "near" at hand, and what became of each request for recommendations."""
    took = []
    application = http.Application(
        Dispatcher(account, OPERATIONS),
        authorise=http.no_browser,
        log=log.append,
        at_hand=lambda members: members.get("user_id") in ("near", "bug") or members["campaign_arn"] != CAMPAIGN,
    )
    at_once = application.at_once

    def noting(headers, body):
        answered = at_once(headers, body)
        took.append("at once" if answered else "through ASGI")
        return answered

    monkeypatch.setattr(application, "at_once", noting)
    with listening(application) as url:
        yield url, took


def wanted(user, *headers, close=False, campaign=CAMPAIGN, **members):
    body = orjson.dumps({"campaignArn": campaign, "userId": user, **members})
    sent = post("/recommendations", body, *headers)
    return sent if close else sent.replace(b"Connection: close\r\n", b"")


def answers(received):
    """Status, headers and body of each answer on a connection."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers["content-length"])
        found.append((status, headers, orjson.loads(rest[:length])))
        received = rest[length:]
    return found


def test_an_answer_is_the_same_whichever_way_it_takes(ways):
    url, took = ways
    for user, campaign in [("near", CAMPAIGN), ("bug", CAMPAIGN), ("near", CAMPAIGN + "-2")]:
        kept, last = answers(raw(url, wanted(user, campaign=campaign), wanted(user, campaign=campaign, close=True)))
        (status, headers, body), (last_status, last_headers, last_body) = kept, last
        assert status == last_status
        assert list(headers) == [name for name in last_headers if name != "connection"]
        differs = {"x-amzn-requestid", "date"}
        assert {name: headers[name] for name in headers.keys() - differs} == {
            name: last_headers[name] for name in headers.keys() - differs
        }
        requests = headers["x-amzn-requestid"], last_headers["x-amzn-requestid"]
        assert orjson.dumps(body).replace(*map(str.encode, requests)) == orjson.dumps(last_body)
    assert took == ["at once"] * 3


def test_answers_come_in_the_order_of_the_requests_whichever_way_each_takes(ways):
    url, took = ways
    asked = [("near", 1), ("far", 2), ("near", 3), ("near", 4), ("far", 5)]
    sent = b"".join(wanted(user, numResults=n) for user, n in asked)
    found = answers(raw(url, sent + wanted("near", numResults=6, close=True)))
    assert [len(body["itemList"]) for _, _, body in found] == [1, 2, 3, 4, 5, 6]
    assert took[:2] == ["at once", "through ASGI"]


def test_a_request_that_waits_when_the_service_ends_is_answered(ways, monkeypatch):
    url, took = ways
    monkeypatch.setattr(http.Application, "gather", lambda application, protocol: protocol.shutdown())
    ((status, _, body),) = answers(raw(url, wanted("near", numResults=3)))
    assert status == "HTTP/1.1 200 OK" and len(body["itemList"]) == 3 and took == ["at once"]


class Waiting:
    """A connection that holds a request, and what was done with it."""

    def __init__(self, done):
        self.done = done

    def ask(self):
        self.done.append(("ask", self))
        return "answer"

    def tell(self, answered):
        self.done.append((answered, self))


def test_connections_are_asked_and_told_together_each_once_by_the_end_of_the_round(application):
    done = []
    waiting = [Waiting(done) for _ in range(http.ANSWERED_AT_ONCE + 2)]

    async def moment():
        for one in [waiting[0], *waiting]:
            application.gather(one)
        await asyncio.sleep(0)

    asyncio.run(moment())
    first, rest = waiting[: http.ANSWERED_AT_ONCE - 1], waiting[http.ANSWERED_AT_ONCE - 1 :]
    assert done == [(what, one) for part in (first, rest) for what in ("ask", "answer") for one in part]


@pytest.mark.parametrize("cut", [1, 60, -40, -1])
def test_a_request_in_pieces_is_answered(ways, cut):
    url, _ = ways
    sent = wanted("near", numResults=3)
    found = answers(raw(url, sent[:cut], sent[cut:], wanted("near", numResults=4, close=True)))
    assert [len(body["itemList"]) for _, _, body in found] == [3, 4]


def test_what_is_no_ordinary_request_is_left_to_uvicorn(ways):
    url, took = ways
    assert b"HTTP/1.1 200 OK" in raw(url, wanted("near", "Expect: 100-continue", close=True)) and not took
    old = wanted("near").replace(b"HTTP/1.1", b"HTTP/1.0")
    assert raw(url, old).startswith(b"HTTP/1.1 200 ") and not took


def test_nobody_gets_at_once_what_is_refused_otherwise(ways):
    url, took = ways
    refused, answered = answers(raw(url, wanted("near", "Origin: http://evil.example"), wanted("near", close=True)))
    assert (refused[0], answered[0]) == ("HTTP/1.1 403 Forbidden", "HTTP/1.1 200 OK")
    assert took == ["through ASGI"]
    for members, status in [({"numResults": "many"}, 400), ({"unknown": "x" * http.REMEMBERED_BYTES}, 200)]:
        found, _ = answers(raw(url, wanted("near", **members), wanted("near", close=True)))
        assert found[0].startswith(f"HTTP/1.1 {status} ")
    assert took == ["through ASGI"] * 3


def test_what_is_not_at_hand_is_brought_there_with_all_others_that_wait_or_answered_by_a_thread(account, log):
    threads, there, lots = {}, set(), []

    def get_recommendations(account, *, user_id=None):
        threads[user_id] = threading.current_thread().name
        return {"itemList": []}

    def bring_to_hand(asked):
        lots.append({members["user_id"] for members in asked})
        if "broken" in lots[-1]:
            raise OSError("no database")
        there.update(lots[-1])

    application = http.Application(
        Dispatcher(account, {"get_recommendations": get_recommendations}),
        authorise=allow,
        log=log.append,
        at_hand=lambda members: members["user_id"] in there,
        bring_to_hand=bring_to_hand,
    )
    with listening(application) as url:
        for user in ("broken", "u", "u"):
            body = orjson.dumps({"userId": user})
            assert raw(url, post("/recommendations", body)).startswith(b"HTTP/1.1 200 ")
    assert lots == [{"broken"}, {"u"}]
    assert threads["broken"].startswith("operation") and not threads["u"].startswith("operation")


def test_what_fails_while_it_is_looked_for_is_answered_by_a_thread(account, log):
    def broken(members):
        raise OSError("no database")

    operations = {"get_recommendations": lambda account, *, user_id=None: {"itemList": []}}
    application = http.Application(Dispatcher(account, operations), authorise=allow, log=log.append, at_hand=broken)
    with listening(application) as url:
        assert raw(url, post("/recommendations", b'{"userId": "u"}')).startswith(b"HTTP/1.1 200 ")


def test_events_are_written_together_and_each_call_learns_what_became_of_its_own(account, log):
    entered, leave, groups, performed = threading.Event(), threading.Event(), [], []

    def write(tx, items):
        entered.set()
        assert leave.wait(10)
        groups.append(list(items))
        for item in items:
            if item == "full":
                raise OSError("the disk is full")
            if item == "moved" and performed.count("moved") == 1:
                raise Outdated

    def put_events(account, *, tracking_id, **members):
        performed.append(tracking_id)
        commits.write(write, tracking_id)

    commits = Commits(nullcontext)
    application = http.Application(
        Dispatcher(account, {"put_events": put_events}), authorise=allow, log=log.append, commits=commits
    )

    def put(tracking_id):
        event = {"eventType": "click", "sentAt": 1}
        body = {"trackingId": tracking_id, "sessionId": "s", "eventList": [event]}
        return raw(url, post("/events", orjson.dumps(body))).split(b"\r\n")[0]

    with listening(application) as url, ThreadPoolExecutor(4) as threads:
        first = threads.submit(put, "first")
        assert entered.wait(10)
        others = {name: threads.submit(put, name) for name in ("good", "full", "moved")}
        while len(performed) < 4:
            threading.Event().wait(0.001)
        assert not first.done()
        leave.set()
        told = {name: other.result(10).split()[1] for name, other in others.items()}
        assert (first.result(10).split()[1], told) == (b"200", {"good": b"200", "full": b"500", "moved": b"200"})
    assert groups[0] == ["first"] and set(groups[1]) == {"good", "full", "moved"}
    assert performed.count("moved") == 2 and performed.count("full") == 1
    assert [b"the disk is full" in line for line in log if b"failure" in line] == [True]


def test_metrics_tell_what_campaigns_consume(account, log):
    application = http.Application(
        Dispatcher(account, OPERATIONS), authorise=allow, log=log.append, campaign_tps=lambda: {"arn:c": (2.5, 1.0)}
    )
    with listening(application) as url:
        told = raw(url, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b'personalize_campaign_tps{campaign="arn:c",kind="consumed"} 2.5' in told
    assert b'personalize_campaign_tps{campaign="arn:c",kind="provisioned"} 1.0' in told


def test_what_is_not_http_leaves_one_line_of_json_in_the_log(url, log):
    raw(url, b"no request\r\n\r\n")
    (line,) = log
    told = orjson.loads(line)
    assert (told["event"], told["message"]) == ("server", "Invalid HTTP request received.")
