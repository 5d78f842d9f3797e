"""Several worker processes behind one port."""

import http.client
import itertools
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil
import psycopg
import pytest

from lib import load
from lib.service import workers
from lib.service.__main__ import main
from lib.store import consumption
from lib.store.database import Store
from tests.faults import processes
from tests.resources.workflow import Personalize, interactions
from tests.service.doors import remote
from tests.wire.serving import until

PATHS = ("/recommendations", "/events")
NUMBERS = itertools.count()
UNSEEN = 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("click")'


class Port:
    """A service with workers: its first process, its URL, its log, and the campaign that it has."""

    def __init__(self, folder, *arguments, target=processes.serve, store=None):
        number = next(NUMBERS)
        self.log, ready = folder / f"log-{number}", folder / f"ready-{number}"
        options = ["--port", "0", "--store", store or str(folder / "store"), "--ready-file", str(ready), *arguments]
        self.process = processes.start(target, self.log, *options)
        until(lambda there: there, ready.exists)
        self.url = ready.read_text()

    def workers(self):
        """The processes that answer."""
        return [child for child in psutil.Process(self.process.pid).children() if child.status() != "zombie"]

    def lines(self, event):
        return [line for line in map(json.loads, self.log.read_text().splitlines()) if line["event"] == event]

    def post(self, path, members):
        """Over a connection of its own: status and answer."""
        with caller(self.url) as call:
            return call(path, members)

    def answering(self):
        return self.counted("personalize_workers")

    def counted(self, name):
        """The sum over the metrics whose line begins so."""
        with urlopen(f"{self.url}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    @contextmanager
    def callers(self):
        """Of each worker a connection that it has accepted, as functions (path, members) -> status and answer."""
        found, others = {}, []
        try:
            while len(found) < len(self.workers()):
                one = caller(self.url)
                call = one.__enter__()
                call("/health", None)
                others.append(one)
                found.setdefault(self._owner(call.port), call)
            yield list(found.values())
        finally:
            for one in others:
                one.__exit__(None, None, None)

    def _owner(self, port):
        for worker in self.workers():
            if any(one.raddr and one.raddr.port == port for one in worker.net_connections(kind="tcp")):
                return worker.pid
        raise LookupError(port)


@contextmanager
def caller(url):
    """A connection that is kept: a function (path, members) -> status and answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.connect()

    def call(path, members):
        method, body = ("GET", None) if members is None else ("POST", json.dumps(members))
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")

    call.port = connection.sock.getsockname()[1]
    try:
        yield call
    finally:
        connection.close()


@contextmanager
def serving(folder, *arguments, **options):
    port = Port(folder, *arguments, **options)
    try:
        yield port
    finally:
        port.process.terminate()
        port.process.join()


def furnished(folder, place=None):
    """A store with a campaign and a filter: the account, and what to ask of the campaign."""
    personalize = Personalize.open(folder, place)
    solution, version = personalize.trained()
    (found,) = personalize.list_dataset_groups()["datasetGroups"]
    group = found.dataset_group_arn
    made = personalize.create_filter(name="unseen", dataset_group_arn=group, filter_expression=UNSEEN)
    campaign = personalize.create_campaign(name="c", solution_version_arn=version)["campaignArn"]
    tracker = personalize.create_event_tracker(name="t", dataset_group_arn=group)["trackingId"]
    asked = {"campaignArn": campaign, "filterArn": made["filterArn"], "userId": "reader", "numResults": 40}
    return personalize, solution, group, asked, tracker


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A store with a campaign of two versions and a filter: its folder, what to ask, and where events go."""
    folder = tmp_path_factory.mktemp("workers")
    personalize, solution, group, asked, tracker = furnished(folder)
    (dataset,) = personalize.list_datasets(dataset_group_arn=group)["datasets"]
    backwards = interactions()
    backwards["ITEM_ID"] = backwards["ITEM_ID"].map(dict(zip(*popular_first(backwards))))
    assert personalize.load(dataset.dataset_arn, backwards, "backwards").status == "ACTIVE"
    personalize.create_solution_version(solution_arn=solution)
    personalize.work()
    personalize.account.store.close()
    return folder, asked, tracker


@pytest.fixture(scope="module")
def port(site):
    with serving(site[0], "--workers", "2", "--quota=transactions_per_second_per_core=1000000") as port:
        until(lambda count: count == 2, port.answering)
        yield port


def popular_first(table):
    """Items from the most to the least popular one, and the other way round."""
    order = table["ITEM_ID"].value_counts().index.tolist()
    return order, order[::-1]


def items(answer):
    status, told = answer
    assert status == 200, told
    return [item["itemId"] for item in told["itemList"]]


def test_an_event_told_to_one_worker_is_known_to_the_other_within_100_milliseconds(port, site):
    _, asked, tracker = site
    seconds = []
    with port.callers() as (here, there):
        for n in range(20):
            visitor = {**asked, "userId": f"visitor-{n}"}
            first = items(there("/recommendations", visitor))[0]
            click = {"eventType": "click", "itemId": first, "sentAt": 1_700_000_000}
            put = {"trackingId": tracker, "sessionId": "s", "userId": f"visitor-{n}", "eventList": [click]}
            assert here("/events", put)[0] == 200
            answered_at = time.monotonic()
            assert first not in items(there("/recommendations", visitor))
            seconds.append(time.monotonic() - answered_at)
    assert sorted(seconds)[len(seconds) // 2] < 0.1


def test_what_was_asked_of_all_workers_is_counted_and_billed_together(port, site):
    folder, asked, _ = site
    arn = asked["campaignArn"]

    def requests():
        return port.counted('personalize_requests_total{operation="GetRecommendations"')

    def billed():
        with store.read() as tx:
            found = consumption.windows(tx, 0, datetime.now(UTC).timestamp() + 1)
        return sum(one.requests for one in found if one.resource_arn == arn)

    store = Store.open(folder / "store")
    until(lambda both: both[0] == both[1], lambda: (requests(), billed()))
    before = billed()
    with port.callers() as calls:
        for call in calls * 20:
            items(call("/recommendations", asked))
    until(lambda found: found == before + 40, requests)
    until(lambda found: found == before + 40, billed)
    store.close()


def test_a_worker_that_is_killed_has_a_follower_at_once_and_the_other_answers_meanwhile(port, site):
    _, asked, _ = site
    before = port.workers()
    assert len(before) == 2
    victim = before[0]
    died = len(port.lines("worker ended"))
    victim.kill()
    killed_at = time.monotonic()
    assert len(items(port.post("/recommendations", asked))) > 0
    until(lambda now: len(now) == 2 and victim not in now, port.workers)
    assert time.monotonic() - killed_at < 2
    (told,) = until(lambda lines: len(lines) > died, lambda: port.lines("worker ended"))[died:]
    assert (told["process"], told["exit"], told["again_in_seconds"]) == (victim.pid, -signal.SIGKILL, 0)
    until(lambda count: count == 2, port.answering)


def test_connections_are_shared_out(port):
    held = [caller(port.url) for _ in range(24)]
    calls = [one.__enter__() for one in held]

    def counts():
        for call in calls:
            assert call("/health", None)[0] == 200  # http.client opens another where the service has closed one
        return sorted(
            sum(one.status == "ESTABLISHED" for one in worker.net_connections(kind="tcp")) for worker in port.workers()
        )

    try:
        until(lambda found: found[0] >= 8, counts, seconds=30)
    finally:
        for one in held:
            one.__exit__(None, None, None)


def test_versions_are_switched_under_load_without_a_failed_request(port, site):
    _, asked, _ = site
    personalize = remote("personalize", port.url)
    campaign = personalize.describe_campaign(campaignArn=asked["campaignArn"])["campaign"]
    solution = campaign["solutionVersionArn"].rpartition("/")[0]
    versions = [one["solutionVersionArn"] for one in personalize.list_solution_versions()["solutionVersions"]]
    assert len(versions) == 2 and {one.rpartition("/")[0] for one in versions} == {solution}
    nobody = {"campaignArn": asked["campaignArn"], "userId": "nobody", "numResults": 5}
    body = json.dumps(nobody).encode()
    told = {}

    def served():
        found = personalize.describe_campaign(campaignArn=asked["campaignArn"])["campaign"]
        return found["solutionVersionArn"], found.get("latestCampaignUpdate", found)["status"]

    with ThreadPoolExecutor(1) as threads, port.callers() as calls:
        for version in (versions + versions)[:3]:
            options = {"clients": 8, "requests": 100_000, "seconds": 1.5}
            loading = threads.submit(load.measure, port.url, "/recommendations", [body], **options)
            personalize.update_campaign(campaignArn=asked["campaignArn"], solutionVersionArn=version)
            until(
                lambda found: (
                    "latestCampaignUpdate" not in found or found["latestCampaignUpdate"]["status"] == "ACTIVE"
                ),
                lambda: personalize.describe_campaign(campaignArn=asked["campaignArn"])["campaign"],
            )
            answers = [items(call("/recommendations", nobody)) for call in calls]
            assert answers[0] == answers[1] and told.setdefault(version, answers[0]) == answers[0]
            assert loading.result().errors == {}
    assert len({tuple(answer) for answer in told.values()}) == 2


def test_workers_share_the_connections_that_a_server_allows(tmp_path, postgresql):
    url = postgresql.database()
    personalize, *_, asked, tracker = furnished(tmp_path, (url, tmp_path / "files"))
    personalize.account.store.close()
    click = {"eventType": "click", "itemId": "i1", "sentAt": 1_700_000_000}
    users = [f"user-{n}" for n in range(200)]
    put = [{"trackingId": tracker, "sessionId": user, "userId": user, "eventList": [click]} for user in users]
    bodies = [[json.dumps(body).encode() for body in many] for many in ([{**asked, "userId": u} for u in users], put)]
    arguments = ["--files", str(tmp_path / "files"), "--workers", "4"]
    with serving(tmp_path, *arguments, store=url) as port, ThreadPoolExecutor(2) as threads:
        until(lambda count: count == 4, port.answering)
        options = {"clients": 64, "requests": 400}
        loading = [threads.submit(load.measure, port.url, *what, **options) for what in zip(PATHS, bodies)]
        assert [one.result().errors for one in loading] == [{}, {}]
        with psycopg.connect(url) as connection:
            (used,) = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE state IS NOT NULL").fetchone()
        assert used <= 80


def test_requests_are_throttled_over_all_workers_together(site):
    folder, asked, _ = site
    with serving(folder, "--workers", "2", f"--quota=transactions_per_second_per_core={20 / workers.cores()}") as port:
        until(lambda count: count == 2, port.answering)
        with port.callers() as calls:
            begun = time.monotonic()
            answers = [calls[n % 2]("/recommendations", asked) for n in range(100)]
            lasted = time.monotonic() - begun
    throttled = [told for status, told in answers if status == 429]
    assert 20 <= len(answers) - len(throttled) <= 20 + 20 * lasted + 1
    assert all("more than 20 times a second" in told["message"] for told in throttled)


def test_all_end_with_the_first_process_when_it_is_told(site):
    port = Port(site[0], "--workers", "3")
    until(lambda count: count == 3, port.answering)
    running = port.workers()
    port.process.terminate()
    port.process.join(10)
    assert port.process.exitcode == 0
    assert [one for one in running if one.is_running()] == []
    assert port.lines("worker ended") == []


def test_workers_end_where_the_first_process_was_killed(site):
    port = Port(site[0], "--workers", "2")
    until(lambda count: count == 2, port.answering)
    running = port.workers()
    port.process.kill()
    port.process.join()
    gone, alive = psutil.wait_procs(running, timeout=10)
    assert len(gone) == 2 and alive == []


def test_a_worker_is_added_for_what_campaigns_have_at_least(site):
    with serving(site[0], "--workers", "auto", "--quota=transactions_per_second_per_worker=0.5") as port:
        until(lambda count: count == min(2, workers.cores()), port.answering)


def looks(demand, used, working, times, floor=1, most=4):
    return [demand.look(used, working, floor, most) for _ in range(times)]


def test_a_worker_more_is_wanted_where_all_are_busy_for_a_while():
    assert looks(workers.Demand(1), 0.9, 1, workers.BUSY_LOOKS) == [1] * (workers.BUSY_LOOKS - 1) + [2]
    assert looks(workers.Demand(2), 0.9, 2, 100) == [2] * 100


def test_no_more_are_wanted_than_there_may_be():
    assert looks(workers.Demand(4), 4.0, 4, 100) == [4] * 100


def test_a_moment_of_rest_begins_the_count_anew():
    demand = workers.Demand(1)
    assert looks(demand, 1.0, 1, workers.BUSY_LOOKS - 1) + looks(demand, 0.1, 1, 1) == [1] * workers.BUSY_LOOKS
    assert looks(demand, 1.0, 1, workers.BUSY_LOOKS)[-1] == 2


def test_a_worker_less_is_wanted_where_fewer_would_do_for_long_but_never_below_what_is_provisioned():
    assert looks(workers.Demand(3), 0.2, 3, workers.IDLE_LOOKS)[-1] == 2
    assert looks(workers.Demand(3), 0.2, 3, workers.IDLE_LOOKS, floor=3)[-1] == 3
    assert looks(workers.Demand(1), 0.0, 1, 10 * workers.IDLE_LOOKS)[-1] == 1


def test_what_is_provisioned_is_there_at_once():
    assert looks(workers.Demand(1), 0.0, 1, 1, floor=3) == [3]


def test_workers_come_with_load_and_go_after_it_and_no_request_fails(site):
    _, asked, _ = site
    arguments = ["--workers", "auto", "--quota=transactions_per_second_per_core=1000000"]
    with serving(site[0], *arguments, target=processes.serve_restlessly) as port:
        until(lambda count: count == 1, port.answering)
        bodies = [json.dumps({**asked, "userId": f"user-{n}"}).encode() for n in range(100)]

        def loaded(seconds):
            return load.measure(
                port.url, "/recommendations", bodies, clients=16, requests=100_000, seconds=seconds
            ).errors

        def changes():
            return [(line["before"], line["now"]) for line in port.lines("workers")]

        until(lambda _: port.answering() == 2, lambda: loaded(0.5))
        assert loaded(3) == {}
        until(lambda found: (2, 1) in found, changes)
        until(lambda running: len(running) == 1, port.workers)
        assert changes()[0] == (1, 2) and port.lines("worker ended") == []


def test_one_that_dies_before_it_answers_is_started_less_and_less_often(tmp_path, monkeypatch):
    lines, pauses = [], []
    monkeypatch.setattr(workers, "FIRST_PAUSE_SECONDS", 0.01)

    def log(**members):
        lines.append(members)
        if members["event"] == "worker ended":
            pauses.append(members["again_in_seconds"])
        if len(pauses) == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    workers.run(lambda place: os._exit(3), least=1, most=1, log=log)
    assert pauses == [0.01, 0.02, 0.04, 0.08]
    assert {line["exit"] for line in lines} == {3} and {line["when"] for line in lines} == {"before it answered"}


def test_a_number_of_workers_that_makes_no_sense_is_refused(capsys, tmp_path):
    for wrong in ("0", "many", "-1", "1000"):
        with pytest.raises(SystemExit):
            main(["--store", str(tmp_path), f"--workers={wrong}"])
        assert f"{wrong!r} is no number of workers: give auto, or 1 to 256" in capsys.readouterr().err
