"""Rows of work to do: imports, trainings and other jobs, and who works on them."""

from collections.abc import Collection, Mapping
from enum import StrEnum

from sqlalchemy import Connection, Row, delete, insert, select, update

from lib.store.tables import jobs


class State(StrEnum):
    """A job waits, is worked on by the holder of its slot's lock, or is over."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    OVER = "OVER"


def add(tx: Connection, arn: str, kind: str, lane: str, subject: str) -> None:
    """One more job, in place of an earlier one of its kind about the same resource that is over.

    lane: which workers take it.  subject: of one subject's jobs only one runs at a time, in order.
    """
    tx.execute(delete(jobs).where(jobs.c.arn == arn, jobs.c.kind == kind, jobs.c.state == State.OVER))
    tx.execute(
        insert(jobs).values(
            arn=arn, kind=kind, lane=lane, subject=subject, state=State.PENDING, attempt=1, stop=False, progress=None
        )
    )


def unfinished(tx: Connection) -> list[Row]:
    """Jobs that wait or run, oldest first."""
    return list(tx.execute(select(jobs).where(jobs.c.state != State.OVER).order_by(jobs.c.id)))


def first_waiting(tx: Connection, lane: str) -> Row | None:
    """The oldest job of a lane that waits, and whose subject no running or older job is about."""
    taken = set()
    for job in tx.execute(select(jobs).where(jobs.c.state != State.OVER, jobs.c.lane == lane).order_by(jobs.c.id)):
        if job.state == State.PENDING and job.subject not in taken:
            return job
        taken.add(job.subject)
    return None


def of_slot(tx: Connection, slot: str) -> list[Row]:
    """Jobs that the holder of a slot is, or was, working on."""
    return list(tx.execute(select(jobs).where(jobs.c.state == State.RUNNING, jobs.c.slot == slot)))


def of_resource(tx: Connection, arn: str) -> Row | None:
    """The newest job about a resource."""
    return tx.execute(select(jobs).where(jobs.c.arn == arn).order_by(jobs.c.id.desc())).first()


def change(tx: Connection, job: int, **values: object) -> None:
    """Set columns of a job."""
    tx.execute(update(jobs).where(jobs.c.id == job).values(**values))


def request_stop(tx: Connection, arn: str) -> None:
    """Ask whoever works on the resource's job to stop."""
    tx.execute(update(jobs).where(jobs.c.arn == arn, jobs.c.state != State.OVER).values(stop=True))


def report(tx: Connection, job: int, progress: Mapping[str, object]) -> bool:
    """Keep how far a job has come; True if it is asked to stop."""
    tx.execute(update(jobs).where(jobs.c.id == job).values(progress=dict(progress)))
    return is_to_stop(tx, job)


def is_to_stop(tx: Connection, job: int) -> bool:
    """Whether a job is asked to stop."""
    return bool(tx.execute(select(jobs.c.stop).where(jobs.c.id == job)).scalar())


def forget(tx: Connection, arns: Collection[str]) -> None:
    """Remove the jobs of resources that are gone."""
    tx.execute(delete(jobs).where(jobs.c.arn.in_(list(arns))))
