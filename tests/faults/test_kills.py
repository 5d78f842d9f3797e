"""Services and workers are killed again and again while everybody writes: nothing is lost, torn or doubled."""

import json
import os
import socket
import threading
import time
from collections import Counter, defaultdict
from functools import partial
from types import SimpleNamespace
from urllib.request import urlopen

import numpy as np
import pandas as pd
import psutil
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.faults import processes
from tests.service.doors import remote
from tests.wire.serving import serving, until
from tests.wire.site import ITEMS, ROLE, Site

KILLS = int(os.environ.get("KILLS", "200"))
SEED = 20
PAUSE = 0.1  # seconds between two kills, on average
SERVICES, WORKERS, WRITERS = 2, 2, 4
JOBS = 40  # of each kind, at most
ROWS = 20  # of an import
NO_QUOTAS = [f"--quota={name}=inf" for name in ("schemas", "pending_import_jobs", "pending_solution_versions")]
QUOTAS = [*NO_QUOTAS, f"--quota=minimum_interactions={ROWS}", "--quota=minimum_users=5"]


class Process:
    """Something that is killed and started again."""

    def __init__(self, kind, target, log, *command):
        self.kind, self._start = kind, partial(processes.start, target, log, *command, *QUOTAS)
        self.start()

    def start(self):
        self.process = self._start()

    def kill(self):
        self.process.kill()
        self.process.join()


def seat(options, log):
    """A port behind which there is nearly always a service: its process and URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return Process(
        "service", processes.serve, log, "--workers", "1", "--port", str(port), *options
    ), f"http://127.0.0.1:{port}"


class Ledger:
    """What was asked for and what was answered: kind -> names."""

    def __init__(self):
        self.asked, self.answered, self.refused, self.unheard = defaultdict(set), defaultdict(set), [], 0

    def note(self, kind, names, call):
        """Call; the answer, None where nobody lived to give it, or where it was a refusal."""
        self.asked[kind].update(names)
        try:
            answer = call()
        except BotoCoreError:  # nobody there, or somebody who was killed before the answer was out
            self.unheard += 1
            return None
        except ClientError as error:
            self.refused.append((kind, names, str(error)))
            return None
        self.answered[kind].update(names)
        return answer


class Writer(threading.Thread):
    """Creates, deletes and puts without a pause, through a random service each time."""

    def __init__(self, number, urls, made, data):
        super().__init__(daemon=True)
        self.number, self.made, self.data = number, made, data
        self.rng = np.random.default_rng([SEED, number])
        options = {"retries": {"total_max_attempts": 1}, "connect_timeout": 30, "read_timeout": 30}
        self.clients = [
            {name: remote(name, url, **options) for name in ("personalize", "personalize-events")} for url in urls
        ]
        self.ledger, self.count, self.enough = Ledger(), 0, threading.Event()
        self.failure = None

    def run(self):
        # a put is done far more often than a job is asked for, as in life
        actions = [self.events] * 6 + [self.items] * 6 + [self.schema] * 4 + [self.no_schema] * 2
        actions += [self.import_job, self.version]
        try:
            while not self.enough.is_set():
                self.count, unheard = self.count + 1, self.ledger.unheard
                actions[self.rng.integers(len(actions))](self.clients[self.rng.integers(len(self.clients))])
                if self.ledger.unheard > unheard:
                    self.enough.wait(0.05)  # for the next service to start
        except Exception as error:
            self.failure = error

    def name(self, what):
        return f"{what}-{self.number}-{self.count}"

    def events(self, client):
        names = [f"{self.name('event')}-{n}" for n in range(self.rng.integers(1, 10))]
        sent = [{"eventType": "click", "itemId": name, "eventId": name, "sentAt": 1_700_000_000} for name in names]
        put = client["personalize-events"].put_events
        call = partial(put, trackingId=self.made["tracking_id"], sessionId="s", userId="u", eventList=sent)
        self.ledger.note("events", names, call)

    def items(self, client):
        item = f"item-{self.number}-{self.rng.integers(5)}"
        put = [{"itemId": item, "properties": json.dumps({"genre": str(self.count)})}]
        call = partial(client["personalize-events"].put_items, datasetArn=self.made["items"], items=put)
        self.ledger.note("items", [(item, self.count)], call)

    def schema(self, client):
        name = self.name("schema")
        self.ledger.note("schema", [name], partial(client["personalize"].create_schema, name=name, schema=AVRO))

    def no_schema(self, client):
        left = sorted(self.ledger.answered["schema"] - self.ledger.asked["no schema"])
        if left:
            name = left[0]
            arn = self.made["schema"].rpartition("/")[0] + f"/{name}"
            self.ledger.note("no schema", [name], partial(client["personalize"].delete_schema, schemaArn=arn))

    def import_job(self, client):
        if len(self.ledger.asked["import"]) >= JOBS // WRITERS:
            return
        name = self.name("import")
        interactions(name).to_csv(self.data / f"{name}.csv", index=False)
        call = partial(
            client["personalize"].create_dataset_import_job,
            jobName=name,
            datasetArn=self.made["interactions"],
            dataSource={"dataLocation": f"s3://data/{name}.csv"},
            roleArn=ROLE,
            importMode="INCREMENTAL",
        )
        self.ledger.note("import", [name], call)

    def version(self, client):
        if len(self.ledger.asked["version"]) >= JOBS // WRITERS:
            return
        name = self.name("version")
        call = partial(client["personalize"].create_solution_version, solutionArn=self.made["solution"], name=name)
        self.ledger.note("version", [name], call)


AVRO = json.dumps(ITEMS)


def interactions(name):
    """Rows that tell which import they came in with."""
    rows = range(ROWS)
    return pd.DataFrame(
        {
            "USER_ID": [f"u{n % 10}" for n in rows],
            "ITEM_ID": [f"{name}-{n}" for n in rows],
            "TIMESTAMP": [1_700_000_000 + n for n in rows],
            "EVENT_TYPE": "click",
        }
    )


def furnish(folder, data):
    """What the writers write to."""
    with serving(folder, "--bucket", f"data={data}", *QUOTAS) as service:
        site = Site(service, data)
        group = site.group()
        made = {"interactions": site.dataset(group), "items": site.dataset(group, ITEMS, "Items")}
        made["schema"] = site.describe(made["items"])["dataset"]["schemaArn"]
        assert site.load(made["interactions"], interactions("first"))["status"] == "ACTIVE"
        made["solution"] = site.solution(group)
        made["tracking_id"] = site.api.create_event_tracker(name="t", datasetGroupArn=group)["trackingId"]
        return made


def started_by_services(store):
    """Workers that services have started themselves, also such services as have been killed since."""
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "lib.jobs" in command and str(store) in command:
            yield process


@pytest.fixture(scope="module")
def battered(tmp_path_factory):
    """A site after many kills: what was there before, its writers, how many were killed of each kind, their log."""
    folder = tmp_path_factory.mktemp("faults")
    store, data, log = folder / "store", folder / "data", folder / "log"
    data.mkdir()
    made = furnish(store, data)
    options = ["--store", str(store), "--bucket", f"data={data}"]
    services, urls = zip(*(seat(options, log) for _ in range(SERVICES)))
    victims = [*services, *(Process("worker", processes.work, log, "--linger", "60", *options) for _ in range(WORKERS))]
    writers = [Writer(number, urls, made, data) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    rng = np.random.default_rng(SEED)
    killed = Counter()
    for _ in range(KILLS):
        time.sleep(rng.exponential(PAUSE))  # a random instant
        victim = victims[rng.integers(len(victims))]
        victim.kill()
        victim.start()
        killed[victim.kind] += 1
        for process in started_by_services(store):
            process.kill()
    for writer in writers:
        writer.enough.set()
    for writer in writers:
        writer.join()
    for victim in victims:
        victim.kill()
    with serving(store, "--bucket", f"data={data}", *QUOTAS) as service:
        yield SimpleNamespace(site=Site(service, data), made=made, writers=writers, killed=killed, log=log)


@pytest.fixture(scope="module")
def site(battered):
    return battered.site


@pytest.fixture(scope="module")
def made(battered):
    return battered.made


@pytest.fixture(scope="module")
def ledgers(battered):
    return [writer.ledger for writer in battered.writers]


def together(ledgers, what, kind):
    return set().union(*(getattr(ledger, what)[kind] for ledger in ledgers))


def listed(operation, key, **members):
    """Everything of a list, in pages."""
    found, token = [], {}
    while token is not None:
        page = operation(maxResults=7, **members, **token)
        found += page[key]
        token = {"nextToken": page["nextToken"]} if "nextToken" in page else None
    return found


@pytest.fixture(scope="module")
def ended(site, made):
    """Imports and versions, once all have come to an end."""
    lists = {
        "import": (site.api.list_dataset_import_jobs, "datasetImportJobs", {}, "datasetImportJobArn"),
        "version": (site.api.list_solution_versions, "solutionVersions", {}, "solutionVersionArn"),
    }
    found = {}
    for kind, (operation, key, members, arn) in lists.items():
        arns = [one[arn] for one in listed(operation, key, **members)]
        assert len(arns) == len(set(arns))
        found[kind] = [site.rest(arn) for arn in arns]
    return found


def test_processes_were_killed_while_much_was_answered(battered, ledgers):
    assert [writer.failure for writer in battered.writers] == [None] * WRITERS
    assert battered.killed["service"] and battered.killed["worker"] and battered.killed.total() == KILLS
    for kind in ("events", "items", "schema", "no schema", "import", "version"):
        assert len(together(ledgers, "answered", kind)) >= WRITERS
    assert [refusal for ledger in ledgers for refusal in ledger.refused] == []
    assert "Traceback" not in battered.log.read_text()


def test_schemas_that_were_answered_are_there_once_and_deleted_ones_are_not(site, ledgers):
    names = [schema["name"] for schema in listed(site.api.list_schemas, "schemas") if schema["name"][-1].isdigit()]
    names = [name for name in names if name.count("-") == 2]
    assert len(names) == len(set(names))
    gone, perhaps = together(ledgers, "answered", "no schema"), together(ledgers, "asked", "no schema")
    assert together(ledgers, "answered", "schema") - perhaps <= set(names)
    assert set(names) <= together(ledgers, "asked", "schema") - gone


def test_events_that_were_answered_are_there_once(site, made, ledgers, ended):
    rows = site.export(made["interactions"], "PUT")["ITEM_ID"].tolist()
    assert len(rows) == len(set(rows))
    assert together(ledgers, "answered", "events") <= set(rows) <= together(ledgers, "asked", "events")


def test_events_of_one_call_came_in_together_or_not_at_all(site, made, ledgers, ended):
    rows = set(site.export(made["interactions"], "PUT")["ITEM_ID"])
    calls = defaultdict(set)
    for name in together(ledgers, "asked", "events"):
        calls[name.rpartition("-")[0]].add(name)
    assert [call for call, names in calls.items() if names & rows not in (set(), names)] == []


def test_items_are_as_they_were_put_last(site, made, ledgers):
    shown = site.export(made["items"], "PUT").set_index("ITEM_ID")["GENRE"].astype(int).to_dict()
    for ledger in ledgers:
        for item in {item for item, _ in ledger.answered["items"]}:
            last = max(number for one, number in ledger.answered["items"] if one == item)
            later = {number for one, number in ledger.asked["items"] if one == item and number >= last}
            assert shown[item] in later


def test_every_job_ends_and_an_import_is_there_wholly_or_not_at_all(site, made, ledgers, ended):
    states = {job["jobName"]: job["status"] for job in ended["import"]}
    assert together(ledgers, "answered", "import") <= set(states) - {"import-3"}
    assert set(states.values()) <= {"ACTIVE", "CREATE FAILED"}
    rows = site.export(made["interactions"], "BULK")["ITEM_ID"].str.rpartition("-")[0].value_counts().to_dict()
    active = {name for name, status in states.items() if status == "ACTIVE" and name.count("-") == 2}
    assert rows == dict.fromkeys({*active, "first"}, ROWS)


def test_every_training_ends_and_what_is_active_answers(site, made, ledgers, ended):
    versions = ended["version"]
    assert together(ledgers, "answered", "version") <= {version["name"] for version in versions}
    assert {version["status"] for version in versions} <= {"ACTIVE", "CREATE FAILED"}
    assert len({version["name"] for version in versions}) == len(versions)
    trained = [version["solutionVersionArn"] for version in versions if version["status"] == "ACTIVE"]
    for arn in trained:
        assert site.api.get_solution_metrics(solutionVersionArn=arn)["metrics"]
    if not trained:  # all were killed twice: a busy machine gives them little time in between
        trained = [site.active(site.version(made["solution"])["solutionVersionArn"])]
    assert len(site.recommend(site.campaign(trained[-1]), numResults=5)) == 5


def test_whoever_failed_was_killed_twice(ended):
    reasons = {one["failureReason"] for kind in ended.values() for one in kind if one["status"] == "CREATE FAILED"}
    assert [reason for reason in reasons if "killed 2 times" not in reason] == []


def test_no_job_is_left_over(site):
    until(lambda text: 'jobs{state="PENDING"} 0.0' in text and 'jobs{state="RUNNING"} 0.0' in text, partial(told, site))


def told(site):
    """What the service tells Prometheus."""
    with urlopen(site.api.meta.endpoint_url + "/metrics") as answer:
        return answer.read().decode()
