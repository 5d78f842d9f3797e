"""States of a resource, and how one that needs no computing passes through them as time goes by."""

from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """What ``status`` may say, spelt as on the wire."""

    CREATE_PENDING = "CREATE PENDING"
    CREATE_IN_PROGRESS = "CREATE IN_PROGRESS"
    ACTIVE = "ACTIVE"
    CREATE_FAILED = "CREATE FAILED"
    CREATE_STOPPING = "CREATE STOPPING"
    CREATE_STOPPED = "CREATE STOPPED"
    DELETE_PENDING = "DELETE PENDING"
    DELETE_IN_PROGRESS = "DELETE IN_PROGRESS"
    STOP_PENDING = "STOP PENDING"
    STOP_IN_PROGRESS = "STOP IN_PROGRESS"
    INACTIVE = "INACTIVE"
    START_PENDING = "START PENDING"
    START_IN_PROGRESS = "START IN_PROGRESS"
    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


UNDER_WAY = {
    Status.CREATE_PENDING: (Status.CREATE_IN_PROGRESS, Status.ACTIVE),
    Status.DELETE_PENDING: (Status.DELETE_IN_PROGRESS, Status.DELETE_IN_PROGRESS),
    Status.STOP_PENDING: (Status.STOP_IN_PROGRESS, Status.INACTIVE),
    Status.START_PENDING: (Status.START_IN_PROGRESS, Status.ACTIVE),
}
UNDER_WAY |= {midway: (midway, final) for midway, final in UNDER_WAY.values()}  # something else of it was kept midway
UNFINISHED = {
    Status.CREATE_PENDING,
    Status.CREATE_IN_PROGRESS,
    Status.CREATE_STOPPING,
    Status.PENDING,
    Status.IN_PROGRESS,
}
MOVING = UNFINISHED | {
    Status.DELETE_PENDING,
    Status.DELETE_IN_PROGRESS,
    Status.STOP_PENDING,
    Status.STOP_IN_PROGRESS,
    Status.START_PENDING,
    Status.START_IN_PROGRESS,
}


def at(record: Any, now: datetime) -> Any:
    """The record as it stands at a time: ``rests`` is when its status, or that of its latest update, comes to rest."""
    if getattr(record, "rests", None) is not None:
        record = _moved(record, now)
    update = getattr(record, getattr(type(record), "UPDATE", ""), None)
    if update is not None and update.rests is not None:
        update = _moved(update, now)
        record = replace(record, **{type(record).UPDATE: update})
        if update.status is Status.ACTIVE:
            record = replace(record.updated(update), last_updated_date_time=update.last_updated_date_time)
    return record


def _moved(record: Any, now: datetime) -> Any:
    midway, final = UNDER_WAY[record.status]
    if now >= record.rests:
        return replace(record, status=final, last_updated_date_time=record.rests, rests=None)
    if now >= record.last_updated_date_time + (record.rests - record.last_updated_date_time) / 2:
        return replace(record, status=midway)
    return record
