"""Imports, trainings and other long work, outside the caller's process.

A job is a row of the store.  A worker process holds the lock of a *slot* while it works, so a running job whose slot
nobody holds belonged to a process that was killed: the next holder of the slot runs it again, once, or marks it failed.
Slots bound how much runs at a time: trainings one (they use all cores), imports a few beside it.  They are the store's:
machines that share one, PostgreSQL and a bucket or a folder that keeps locks across machines, share its slots and take
over from each other, so what a second machine adds is answers, not trainings side by side.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row

from lib import reproducible
from lib.recipes.recipe import Progress
from lib.resources import (
    batch_jobs,
    data_deletion_jobs,
    dataset_export_jobs,
    dataset_import_jobs,
    metric_attributions,
    recommenders,
    records,
    schedule,
    solution_versions,
)
from lib.resources.account import Account, no_wake
from lib.resources.batch_jobs import BatchInferenceJob, BatchSegmentJob
from lib.resources.data_deletion_jobs import DataDeletionJob
from lib.resources.dataset_export_jobs import DatasetExportJob
from lib.resources.dataset_import_jobs import DatasetImportJob
from lib.resources.errors import ApiError
from lib.resources.lifecycle import Status
from lib.resources.metric_attributions import MetricAttribution
from lib.resources.quotas import quotas
from lib.resources.recommenders import Recommender
from lib.resources.solution_versions import SolutionVersion
from lib.store import jobs
from lib.store.bucket import connect
from lib.store.database import Store, is_full
from lib.store.jobs import State

Tell = Callable[[Progress], None]
Publish = Callable[[Connection], None]

SLOTS = {"import": 5, "training": 1}  # lane -> jobs at a time
ATTEMPTS = 2
LINGER_SECONDS = 5.0  # as long as it takes to start another worker
REPORT_SECONDS = 0.3
POLL_SECONDS = 0.05
START_SECONDS = 3.0  # a worker that was just started has this long to take a job before another one is started


@dataclass(frozen=True, slots=True)
class Work:
    """What one kind of job is: the resource whose status it moves, and the function that does it.

    part: the resource's field whose status it moves instead, where the resource itself stays ACTIVE.
    """

    noun: type
    run: Callable[[Account, str, Tell], Publish]
    in_progress: Status = Status.CREATE_IN_PROGRESS
    done: Status = Status.ACTIVE
    failed: Status = Status.CREATE_FAILED
    part: str | None = None

    def status(self, record: Any) -> Status:
        """How far the record says that the job has come."""
        return (record if self.part is None else getattr(record, self.part)).status

    def moved(self, record: Any, status: Status, reason: str | None, now: datetime) -> Any:
        """The record with the job's new status."""
        changes = {"status": status, "failure_reason": reason, "last_updated_date_time": now}
        if self.part is None:
            return replace(record, **changes)
        return replace(record, **{self.part: replace(getattr(record, self.part), **changes)})


WORK: dict[str, Work] = {
    work.noun.KIND: work
    for work in (
        Work(DatasetImportJob, dataset_import_jobs.run),
        Work(SolutionVersion, solution_versions.run),
        Work(BatchInferenceJob, batch_jobs.run),
        Work(BatchSegmentJob, batch_jobs.run_segment),
        Work(Recommender, recommenders.run),
        Work(MetricAttribution, metric_attributions.run),
        Work(DatasetExportJob, dataset_export_jobs.run),
        Work(DataDeletionJob, data_deletion_jobs.run, Status.IN_PROGRESS, Status.COMPLETED, Status.FAILED),
    )
}
WORK[recommenders.UPDATE] = Work(Recommender, recommenders.run_update, part="latest_recommender_update")
WORK[recommenders.RETRAINING] = Work(Recommender, recommenders.run_retraining, part="latest_retraining")


class Stopped(Exception):
    """Somebody asked for the job to stop."""


class Terminated(BaseException):
    """The worker was told to end; its job waits for another one."""


def open_account(
    location: str | Path,
    *,
    files: str | Path | None = None,
    cache: str | Path | None = None,
    region: str = "us-east-1",
    account_id: str = "123456789012",
    buckets: Mapping[str, str | Path] | None = None,
    changed_quotas: Mapping[str, float] | None = None,
    seed: int = 0,
    settling: timedelta = timedelta(milliseconds=200),
    processes: int = 1,
) -> Account:
    """The account of a store, with the machine's clock, whose pending jobs are worked on by processes of their own.

    location, files, cache, processes: as ``Store.open`` takes them.
    """
    store = Store.open(location, files, cache, processes)
    folders = {name: Path(folder).absolute() for name, folder in (buckets or {}).items()}
    command = [sys.executable, "-m", "lib.jobs", *store.options(), "--region", region]
    command += ["--account-id", account_id, "--seed", str(seed), "--settling", str(settling.total_seconds())]
    command += ["--linger", str(LINGER_SECONDS)]
    for name, folder in folders.items():
        command += ["--bucket", f"{name}={folder}"]
    for name, value in (changed_quotas or {}).items():
        command += ["--quota", f"{name}={value}"]
    return Account(
        store=store,
        region=region,
        account_id=account_id,
        now=lambda: datetime.now(UTC),
        quotas=quotas(changed_quotas or {}),
        wake=_Waker(store, command),
        buckets=folders,
        s3=connect,
        seed=seed,
        settling=settling,
    )


def run_pending(account: Account) -> int:
    """Work on jobs in this process until none can be taken; how many were taken."""
    taken = 0
    while _take_one(account):
        taken += 1
    return taken


def keep_time(account: Account) -> threading.Thread:
    """Begin what is due by the clock, now and several times a minute, in a thread that ends with the process."""

    def run() -> None:
        while True:
            try:
                schedule.tick(account)
            except Exception:  # the next time may do better; nobody waits for an answer
                traceback.print_exc()
            time.sleep(schedule.TICK_SECONDS)

    thread = threading.Thread(target=run, name="schedule", daemon=True)
    thread.start()
    return thread


def progress(account: Account, arn: str) -> dict[str, Any] | None:
    """How far the newest job about a resource has come: step, steps, measures; None before its first report."""
    with account.store.read() as tx:
        job = jobs.of_resource(tx, arn)
    return job.progress if job else None


class _Waker:
    """Starts a worker where a job waits and a slot for it is free."""

    def __init__(self, store: Store, command: list[str]):
        self._store, self._command = store, command
        self._lock = threading.Lock()
        self._workers: list[subprocess.Popen] = []
        self._started = -START_SECONDS

    def __call__(self) -> None:
        with self._lock:
            self._workers = [worker for worker in self._workers if worker.poll() is None]
            starting = self._workers and time.monotonic() - self._started < START_SECONDS
            if starting or not _needed(self._store):
                return
            log = self._store.location / "logs" / "jobs.log"
            log.parent.mkdir(exist_ok=True)
            with log.open("ab") as output:
                worker = subprocess.Popen(
                    self._command,
                    env=_environment() | self._store.secrets(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C in a notebook is not meant for it
                )
            self._workers.append(worker)
            self._started = time.monotonic()

    def join(self) -> int | None:
        """Wait until the workers started here have ended; the last one's exit status, None where there was none."""
        with self._lock:
            workers, self._workers = self._workers, []
        return [worker.wait() for worker in workers][-1] if workers else None


def _environment() -> dict[str, str]:
    environment = reproducible.environment()
    root = str(Path(__file__).resolve().parents[1])
    path = environment.get("PYTHONPATH")
    return {**environment, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}


def _needed(store: Store) -> bool:
    """Whether a job waits for a free slot, or runs in one that nobody holds any more."""
    with store.read() as tx:
        unfinished = jobs.unfinished(tx)
    for lane in {job.lane for job in unfinished}:
        free = [slot for slot in _slots(lane) if not _held(store, slot)]
        abandoned = any(job.lane == lane and job.slot in free for job in unfinished if job.state == State.RUNNING)
        with store.read() as tx:
            if abandoned or (free and jobs.first_waiting(tx, lane)):
                return True
    return False


def _slots(lane: str) -> list[str]:
    return [f"{lane}-{number}" for number in range(SLOTS[lane])]


def _held(store: Store, slot: str) -> bool:
    with store.holding(slot) as got:
        return not got


def _take_one(account: Account) -> bool:
    """Take the next job of any lane with a free slot and work on it; False where there is none."""
    for lane in SLOTS:
        for slot in _slots(lane):
            with account.store.holding(slot) as got:
                if not got:
                    continue
                _recover(account, slot)
                job = _claim(account, lane, slot)
                if job is not None:
                    _work(account, job, slot)
                    return True
    return False


def _recover(account: Account, slot: str) -> None:
    """Put back, or give up, what a killed process left in this slot."""
    with account.store.transaction() as tx:
        for job in jobs.of_slot(tx, slot):
            if job.attempt < ATTEMPTS:
                jobs.change(tx, job.id, state=State.PENDING, slot=None, attempt=job.attempt + 1)
            else:
                _end(
                    tx,
                    account,
                    job,
                    WORK[job.kind].failed,
                    f"The process that worked on it was killed {ATTEMPTS} times, for want of memory perhaps: "
                    "make the data smaller or the machine larger, and create it again.",
                )


def _claim(account: Account, lane: str, slot: str) -> Row | None:
    with account.store.transaction() as tx:
        job = jobs.first_waiting(tx, lane)
        if job is None:
            return None
        jobs.change(tx, job.id, state=State.RUNNING, slot=slot)
        work = WORK[job.kind]
        record = records.get(tx, account, work.noun, job.arn)
        if not job.stop and work.status(record) is not work.in_progress:
            records.save(tx, work.moved(record, work.in_progress, None, account.now()))
        return job


def _work(account: Account, job: Row, slot: str) -> None:
    """Do a job and say how it ended, in one transaction with what it made."""
    work = WORK[job.kind]
    reporter = _Reporter(account.store, job)

    def end(change: Callable[[Connection], None]) -> None:
        with account.store.transaction() as tx:
            # A lock in the database goes with its connection, and somebody may have taken the job over since.
            if any((row.id, row.attempt) == (job.id, job.attempt) for row in jobs.of_slot(tx, slot)):
                change(tx)

    def ended(status: Status, reason: str | None = None) -> Callable[[Connection], None]:
        return lambda tx: _end(tx, account, job, status, reason)

    def done(tx: Connection) -> None:
        reporter.check(jobs.is_to_stop(tx, job.id))  # asked since the last step
        publish(tx)
        _end(tx, account, job, work.done, None)

    try:
        reporter.check(job.stop)
        publish = work.run(account, job.arn, reporter)
        end(done)
    except Stopped:
        end(ended(Status.CREATE_STOPPED))
    except Terminated:
        end(lambda tx: jobs.change(tx, job.id, state=State.PENDING, slot=None))
        raise
    except (ValueError, ApiError, ConnectionError, PermissionError) as error:
        _log(account, job)
        end(ended(work.failed, str(error)))
    except Exception as error:
        if is_full(error):
            reason = f"No space is left where the store is, {account.store.location}: free some, and create it again."
            end(ended(work.failed, reason))
            return
        log = _log(account, job)
        reason = f"Internal error: {type(error).__name__}: {str(error)[:200]}. The traceback is in {log}."
        end(ended(work.failed, reason))


def _end(tx: Connection, account: Account, job: Row, status: Status, reason: str | None) -> None:
    work = WORK[job.kind]
    record = records.get(tx, account, work.noun, job.arn)
    records.save(tx, work.moved(record, status, reason, account.now()))
    jobs.change(tx, job.id, state=State.OVER, slot=None)


def _log(account: Account, job: Row) -> str:
    """Keep the traceback of the error at hand, and say where in the store it lies."""
    name = f"logs/{job.kind}-{job.id}.log"
    path = account.store.location / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{job.arn}\n{traceback.format_exc()}")
    return name


class _Reporter:
    """Writes a job's progress to the store a few times a second, and ends the job when it is asked to stop."""

    def __init__(self, store: Store, job: Row):
        self._store, self._job, self._next = store, job.id, 0.0

    def __call__(self, step: Progress) -> None:
        if time.monotonic() < self._next:
            return
        report = {"step": step.step, "steps": step.steps, "measures": dict(step.measures)}
        with self._store.transaction() as tx:
            stop = jobs.report(tx, self._job, report)
        self._next = time.monotonic() + REPORT_SECONDS
        self.check(stop)

    def check(self, stop: bool) -> None:
        if stop:
            raise Stopped


def main(arguments: list[str] | None = None) -> None:
    """Work on the jobs of a store until there is none left, and a little longer."""
    parser = argparse.ArgumentParser(prog="python -m lib.jobs", description=main.__doc__)
    parser.add_argument("--store", required=True, help="the store's folder, or the URL of its PostgreSQL database")
    parser.add_argument("--files", help="the folder or bucket for the files of a store in a database")
    parser.add_argument("--cache", help="the folder for copies of files in a bucket")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--account-id", default="123456789012")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settling", type=float, default=0.2, help="seconds until a resource without a job is ACTIVE")
    parser.add_argument("--linger", type=float, default=LINGER_SECONDS, help="seconds to wait for more jobs")
    parser.add_argument("--bucket", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--quota", action="append", default=[], metavar="NAME=NUMBER")
    given = parser.parse_args(arguments)

    def terminate(*_: object) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        account = open_account(
            given.store,
            files=given.files,
            cache=given.cache,
            region=given.region,
            account_id=given.account_id,
            buckets=dict(entry.split("=", 1) for entry in given.bucket),
            changed_quotas={name: float(value) for name, value in (entry.split("=", 1) for entry in given.quota)},
            seed=given.seed,
            settling=timedelta(seconds=given.settling),
        )
        keep_time(replace(account, wake=no_wake))  # this worker will take what is begun
        idle_since = time.monotonic()
        while True:
            if _needed(account.store) and run_pending(account):
                idle_since = time.monotonic()
            if time.monotonic() - idle_since >= given.linger:
                return
            time.sleep(POLL_SECONDS)
    except Terminated:
        return


if __name__ == "__main__":
    main()
