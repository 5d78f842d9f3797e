"""Jobs end, whatever happens to the processes that work on them."""

import fcntl
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest

from lib import jobs
from lib.store import jobs as rows
from tests.resources.workflow import Clock, Personalize, interactions

HEAD = """
import os, signal, sys
from dataclasses import replace
from lib import jobs
kind = sys.argv[2]
"""
KILLED = "def run(account, arn, tell): os.kill(os.getpid(), signal.SIGKILL)\n"
WAITS = "def run(account, arn, tell): print('working', flush=True); signal.pause()\n"
WORK = "jobs.WORK[kind] = replace(jobs.WORK[kind], run=run)\njobs.main(['--store', sys.argv[1], *sys.argv[3:]])\n"


def worker(personalize, body, kind="solution-version"):
    """A worker process whose jobs of one kind do something else."""
    store, *options = personalize.account.store.options()[1:]
    options += ["--linger", "0", f"--bucket=data={personalize.data}"]
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + body + WORK, store, kind, *options], stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def personalize(tmp_path, place):
    personalize = Personalize.open(tmp_path, place)
    yield personalize
    personalize.account.store.close()


@pytest.fixture
def version(personalize):
    """A version whose training waits."""
    solution = personalize.solution(personalize.filled())
    return personalize.create_solution_version(solution_arn=solution)["solutionVersionArn"]


def described(personalize, version):
    return personalize.describe_solution_version(solution_version_arn=version)["solutionVersion"]


def row(personalize, version):
    with personalize.account.store.read() as tx:
        return rows.of_resource(tx, version)


def test_a_job_whose_worker_was_killed_is_done_by_the_next(personalize, version):
    assert worker(personalize, KILLED).wait() == -signal.SIGKILL
    assert described(personalize, version).status == "CREATE IN_PROGRESS"
    personalize.work()
    assert described(personalize, version).status == "ACTIVE"
    assert row(personalize, version).attempt == 2


def test_a_job_that_kills_two_workers_fails_with_a_reason(personalize, version):
    for _ in range(2):
        assert worker(personalize, KILLED).wait() == -signal.SIGKILL
    personalize.work()
    failed = described(personalize, version)
    assert failed.status == "CREATE FAILED"
    assert "killed 2 times" in failed.failure_reason


def test_a_killed_import_leaves_the_former_data_and_is_repeated(personalize):
    group = personalize.filled()
    dataset = personalize.list_datasets(dataset_group_arn=group)["datasets"][0]
    source = personalize.put(interactions(1500), "second.csv")
    arn = personalize.create_dataset_import_job(job_name="second", dataset_arn=dataset.dataset_arn, data_source=source)[
        "datasetImportJobArn"
    ]
    assert worker(personalize, KILLED, "dataset-import-job").wait() == -signal.SIGKILL
    assert personalize.list_datasets()["datasets"][0].parts == dataset.parts
    personalize.work()
    assert personalize.describe_dataset_import_job(dataset_import_job_arn=arn)["datasetImportJob"].status == "ACTIVE"
    assert personalize.list_datasets()["datasets"][0].parts != dataset.parts


def test_a_worker_that_is_told_to_end_puts_its_job_back(personalize, version):
    process = worker(personalize, WAITS)
    assert process.stdout.readline() == "working\n"
    began = time.monotonic()
    process.terminate()
    assert process.wait() == 0
    assert time.monotonic() - began < 5
    assert (row(personalize, version).state, row(personalize, version).attempt) == ("PENDING", 1)
    personalize.work()
    assert described(personalize, version).status == "ACTIVE"


def test_one_training_runs_at_a_time_and_imports_beside_it(personalize, version):
    dataset = personalize.list_datasets()["datasets"][0].dataset_arn
    lock = personalize.account.store.location / "locks" / "training-0"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert personalize.load(dataset, interactions(1100), "beside").status == "ACTIVE"
        assert described(personalize, version).status == "CREATE PENDING"
    personalize.work()
    assert described(personalize, version).status == "ACTIVE"


def test_two_imports_of_one_dataset_keep_their_order(personalize):
    dataset = personalize.dataset(personalize.group())
    for name in ("first", "second"):
        personalize.create_dataset_import_job(
            job_name=name, dataset_arn=dataset, data_source=personalize.put(interactions(), f"{name}.csv")
        )
    with personalize.account.store.transaction() as tx:
        first = rows.first_waiting(tx, "import")
        rows.change(tx, first.id, state="RUNNING", slot="import-0")
        assert first.arn.endswith("/first") and rows.first_waiting(tx, "import") is None
    personalize.work()
    assert [part.rpartition("/")[2] for part in personalize.list_datasets()["datasets"][0].parts] == ["second"]


def test_progress_can_be_read_while_a_training_runs(personalize, version, monkeypatch):
    monkeypatch.setattr(jobs, "REPORT_SECONDS", 0)
    assert jobs.progress(personalize.account, version) is None
    personalize.work()
    progress = jobs.progress(personalize.account, version)
    assert progress["step"] == progress["steps"] > 1


def test_an_account_starts_a_worker_that_does_its_jobs_and_ends(tmp_path, place, monkeypatch):
    monkeypatch.setattr(jobs, "LINGER_SECONDS", 0.1)
    (tmp_path / "data").mkdir()
    account = jobs.open_account(
        place[0], files=place[1] if place[1:] else None, buckets={"data": tmp_path / "data"}, settling=timedelta(0)
    )
    personalize = Personalize(account, Clock())
    dataset = personalize.dataset(personalize.group())
    arn = personalize.create_dataset_import_job(
        job_name="first", dataset_arn=dataset, data_source=personalize.put(interactions(), "first.csv")
    )["datasetImportJobArn"]
    assert account.wake.join() == 0
    assert personalize.describe_dataset_import_job(dataset_import_job_arn=arn)["datasetImportJob"].status == "ACTIVE"
    account.wake()
    assert account.wake.join() is None  # nothing to do, so nobody was started
    account.store.close()


FULL = "def run(account, arn, tell): raise OSError(28, 'No space left on device')\n"


def test_a_job_that_found_no_space_says_where_and_what_would_do(personalize, version):
    assert worker(personalize, FULL).wait() == 0
    found = described(personalize, version)
    place = personalize.account.store.location
    assert (found.status, found.failure_reason) == (
        "CREATE FAILED",
        f"No space is left where the store is, {place}: free some, and create it again.",
    )
