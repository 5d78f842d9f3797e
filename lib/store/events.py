"""What arrived through the Put* operations: live interactions, and single items, users and actions.

Rows are kept under the ARN of their dataset, shaped by its schema.  Every function is a step of somebody's transaction.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
import orjson
import pandas as pd
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Row,
    String,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    select,
    union_all,
    update,
)

from lib.data.schema import Schema
from lib.store import recommendations
from lib.store.tables import LONG, insert, metadata

NEWEST = 500
"""Live events of one user and event type that a request looks at: models remember as many, filters fewer."""

live = Table(
    "live",
    metadata,
    Column("dataset_arn", String(256), primary_key=True),
    Column("changes", LONG, nullable=False),  # how many puts there were
    Column("newest", Float),  # epoch seconds of the newest event
)

live_events = Table(
    "live_events",
    metadata,
    Column("sequence", LONG, primary_key=True, autoincrement=True),
    Column("dataset_arn", String(256), nullable=False),
    Column("session_id", String(256), nullable=False),
    Column("user_id", String(256)),  # None until the session meets its user
    Column("anonymous", Boolean, nullable=False),  # it came with a session alone
    Column("event_id", String(256)),
    Column("repeated", Boolean, nullable=False),  # an event with this id was there before
    Column("item_id", String(256)),
    Column("event_type", String(256), nullable=False),
    Column("sent_at", Float, nullable=False),  # epoch seconds
    Column("received_at", Float, nullable=False),
    Column("row", JSON, nullable=False),  # the dataset's columns, but for the user's
    Column("impression", JSON),
    Column("recommendation_id", String(40)),
    Column("source", String(1024)),  # eventAttributionSource
    Index("live_events_of_a_user", "dataset_arn", "user_id", "event_type", "sequence"),
    Index("live_events_in_order", "dataset_arn", "sequence"),
    sqlite_autoincrement=True,
)
_ANONYMOUS = live_events.c.anonymous.is_(True)  # an event that tells its user is not the session's
Index(
    "live_events_of_a_session",
    *(live_events.c[name] for name in ("dataset_arn", "session_id", "event_type", "sequence")),
    sqlite_where=_ANONYMOUS,
    postgresql_where=_ANONYMOUS,
)
_HAS_ID = live_events.c.event_id.is_not(None)  # most have none, and are never searched by it
Index(
    "live_events_by_id",
    live_events.c.dataset_arn,
    live_events.c.event_id,
    sqlite_where=_HAS_ID,
    postgresql_where=_HAS_ID,
)

live_sessions = Table(
    "live_sessions",
    metadata,
    Column("dataset_arn", String(256), primary_key=True),
    Column("session_id", String(256), primary_key=True),
    Column("user_id", String(256), nullable=False),
)

live_records = Table(
    "live_records",
    metadata,
    Column("sequence", LONG, primary_key=True, autoincrement=True),  # grows with every replacement
    Column("dataset_arn", String(256), nullable=False),
    Column("id", String(256), nullable=False),
    Column("row", JSON, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("replaced", Boolean, nullable=False),  # by a later one of that id, or an import: only exports ask for it
    Index("live_records_by_id", "dataset_arn", "id"),
    Index("live_records_in_order", "dataset_arn", "sequence"),
    sqlite_autoincrement=True,
)
_PRESENT = live_records.c.replaced.is_(False)
Index(
    "live_records_present",
    live_records.c.dataset_arn,
    live_records.c.id,
    unique=True,
    sqlite_where=_PRESENT,
    postgresql_where=_PRESENT,
)


# A clock of a client that runs ahead must not make all that others did look old: no event is later than its arrival.
_SENT_AT = case(
    (live_events.c.sent_at > live_events.c.received_at, live_events.c.received_at), else_=live_events.c.sent_at
).label("sent_at")
_READ = {**live_events.c, "sent_at": _SENT_AT}

# Statements on the way of every request are made once: making one costs more than running it.
_SEEN = select(live_events.c.event_id).where(
    live_events.c.dataset_arn == bindparam("dataset_arn"), live_events.c.event_id.in_(bindparam("ids", expanding=True))
)
_USERS = select(live_sessions.c.session_id, live_sessions.c.user_id).where(
    live_sessions.c.dataset_arn == bindparam("dataset_arn"),
    live_sessions.c.session_id.in_(bindparam("sessions", expanding=True)),
)
_NAMED = ("sequence", "session_id", "user_id", "event_type", "sent_at", "item_id", "received_at")
_COUNTED = select(*(_READ[name] for name in _NAMED)).where(live_events.c.repeated.is_(False))
# Two indexed searches: one with OR would be free to walk the whole dataset.
_OF_OWNER = [
    and_(live_events.c.dataset_arn == bindparam("dataset_arn"), owner == bindparam("owner"), *conditions)
    for owner, *conditions in ((live_events.c.user_id,), (live_events.c.session_id, _ANONYMOUS))
]
_SOME = union_all(*(select(_COUNTED.where(its).limit(bindparam("most")).subquery()) for its in _OF_OWNER))
_NEWEST = [
    (
        select(func.min(live_events.c.event_type)).where(its, live_events.c.event_type > bindparam("event_type")),
        _COUNTED.where(its, live_events.c.event_type == bindparam("event_type"))
        .order_by(live_events.c.sequence.desc())
        .limit(bindparam("most")),
    )
    for its in _OF_OWNER
]
_LIST = ("sequence", "session_id", "user_id", "item_id", "sent_at", "received_at", "impression", "recommendation_id")
_AFTER = (
    select(*(_READ[name] for name in _LIST))
    .where(
        live_events.c.dataset_arn == bindparam("dataset_arn"),
        live_events.c.sequence > bindparam("sequence"),
        live_events.c.repeated.is_(False),
    )
    .order_by(live_events.c.sequence)
)
_MEET = live_sessions.insert().values(
    dataset_arn=bindparam("dataset"), session_id=bindparam("session"), user_id=bindparam("user")
)
_ADOPT = (
    update(live_events)
    .where(
        live_events.c.dataset_arn == bindparam("dataset"),
        live_events.c.session_id == bindparam("session"),
        _ANONYMOUS,
        live_events.c.user_id.is_(None),
    )
    .values(user_id=bindparam("user"))
)
_STATE = select(live.c.dataset_arn, live.c.changes, live.c.newest).where(
    live.c.dataset_arn.in_(bindparam("dataset_arns", expanding=True))
)
_MOVE = (
    update(live)
    .where(live.c.dataset_arn == bindparam("dataset"))
    .values(
        changes=live.c.changes + 1,
        newest=case(
            (live.c.newest > bindparam("at"), live.c.newest), else_=func.coalesce(bindparam("at"), live.c.newest)
        ),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEvent:
    """One event.  item_id: an item, or an action.  row: the dataset's columns, but for the user's.  Epoch seconds.

    received_at: when it arrived, of one that is kept; sent_at is then no later than that.
    """

    session_id: str
    user_id: str | None
    event_type: str
    sent_at: float
    item_id: str | None = None
    event_id: str | None = None
    row: Mapping[str, object] = field(default_factory=dict)
    impression: Sequence[str] | None = None
    recommendation_id: str | None = None
    source: str | None = None
    received_at: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Events of one call, to one dataset.  received_at: epoch seconds."""

    dataset_arn: str
    events: Sequence[LiveEvent]
    received_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An event, and the list it answered: the one it told of, else that of its recommendation id, else none."""

    session_id: str
    user_id: str | None
    item_id: str | None
    at: float
    shown: Sequence[str] = ()
    recommendation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """How far a dataset's puts have come.

    newest: epoch seconds of the newest event, or of its arrival if that was earlier; None before the first event.
    """

    changes: int
    newest: float | None


@dataclass(frozen=True, slots=True)
class Arrived:
    """An event as it arrived.  sequence: grows with every event.  sent_at <= received_at, epoch seconds."""

    sequence: int
    event_type: str
    sent_at: float
    received_at: float
    item_id: str | None
    row: Mapping[str, object]
    recommendation_id: str | None
    source: str | None


def append(tx: Connection, dataset_arn: str, events: Sequence[LiveEvent], received_at: float) -> None:
    """Keep the events of one call."""
    append_all(tx, [Sent(dataset_arn=dataset_arn, events=events, received_at=received_at)])


def append_all(tx: Connection, calls: Sequence[Sent]) -> None:
    """Keep events.  One whose id was seen before is kept too, but never counts.

    An anonymous event belongs to its session; the first user that the session meets gets all its anonymous events.
    """
    rows = []
    for dataset_arn in dict.fromkeys(call.dataset_arn for call in calls):
        its = [call for call in calls if call.dataset_arn == dataset_arn]
        events = [event for call in its for event in call.events]
        ids = [event.event_id for event in events if event.event_id is not None]
        seen = set(tx.execute(_SEEN, {"dataset_arn": dataset_arn, "ids": ids}).scalars()) if ids else set()
        users = _meet(tx, dataset_arn, events)
        for call in its:
            for event in call.events:
                user_id = event.user_id if event.user_id is not None else users.get(event.session_id)
                rows.append(
                    (
                        dataset_arn,
                        event.session_id,
                        user_id,
                        event.user_id is None,
                        event.event_id,
                        event.event_id in seen,
                        event.item_id,
                        event.event_type,
                        event.sent_at,
                        call.received_at,
                        orjson.dumps(event.row).decode(),
                        None if event.impression is None else orjson.dumps(event.impression).decode(),
                        event.recommendation_id,
                        event.source,
                    )
                )
                if event.event_id is not None:
                    seen.add(event.event_id)
        _moved(tx, dataset_arn, max(min(call.received_at, max(event.sent_at for event in call.events)) for call in its))
    insert(tx, live_events, rows)


def after(tx: Connection, dataset_arn: str, sequence: int, until: float = math.inf) -> tuple[list[Answered], int]:
    """The events that count and came after a sequence number, oldest first, and the last such number.

    until: epoch seconds; from the first event on that arrived later, all are left for another time.
    """
    rows = tx.execute(_AFTER, {"dataset_arn": dataset_arn, "sequence": sequence}).all()
    rows = list(takewhile(lambda row: row.received_at <= until, rows))
    ids = {row.recommendation_id for row in rows if row.recommendation_id is not None and row.impression is None}
    lists = recommendations.of_ids(tx, ids)
    found = []
    for row in rows:
        listed = lists.get(row.recommendation_id) if row.impression is None else None
        found.append(
            Answered(
                session_id=row.session_id,
                user_id=row.user_id,
                item_id=row.item_id,
                at=row.sent_at,
                shown=row.impression or (listed.item_ids if listed else ()),
                recommendation_id=row.recommendation_id,
            )
        )
    return found, rows[-1].sequence if rows else sequence


def newest(tx: Connection, dataset_arn: str, user_id: str, limit: int = NEWEST) -> list[LiveEvent]:
    """The newest events of each type, oldest first; rows and impressions are left out.

    They are a user's, or those that came with the session of that name alone, also where that has met a user since.
    """
    asked = {"dataset_arn": dataset_arn, "owner": user_id}
    rows = tx.execute(_SOME, {**asked, "most": limit + 1}).all()
    if len(rows) > limit:  # so there may be more
        rows = list(_newest_by_type(tx, asked, limit))
    found = {
        sequence: LiveEvent(
            session_id=session_id,
            user_id=user,
            event_type=event_type,
            sent_at=sent_at,
            item_id=item_id,
            received_at=received_at,
        )
        for sequence, session_id, user, event_type, sent_at, item_id, received_at in rows
    }
    return [found[sequence] for sequence in sorted(found)]


def arrivals(tx: Connection, dataset_arn: str) -> tuple[np.ndarray, np.ndarray]:
    """Users and sessions with events, (U,) str, and when the last of each arrived, (U,) epoch seconds."""
    table = live_events.c
    owner = func.coalesce(table.user_id, table.session_id)
    query = select(owner, func.max(table.received_at)).where(table.dataset_arn == dataset_arn).group_by(owner)
    rows = tx.execute(query).all()
    return np.array([user for user, _ in rows], dtype=str), np.array([at for _, at in rows], dtype=np.float64)


def interactions(
    tx: Connection, dataset_arn: str, schema: Schema, *, anonymous: bool = False, as_sent: bool = False
) -> pd.DataFrame:
    """Live interactions as rows of the dataset, oldest first, once each; without an item they do not count.

    anonymous: with the events of sessions that never met a user, under the session's id (training leaves them out).
    as_sent: with the times that were sent; else none is later than its arrival.
    """
    table = live_events.c
    query = select(table.user_id, table.session_id, table.row, table.received_at).where(
        table.dataset_arn == dataset_arn, table.repeated.is_(False), table.item_id.is_not(None)
    )
    if not anonymous:
        query = query.where(table.user_id.is_not(None))
    rows = [
        {
            **row,
            "USER_ID": session_id if user_id is None else user_id,
            "TIMESTAMP": row["TIMESTAMP"] if as_sent else min(row["TIMESTAMP"], int(received_at)),
        }
        for user_id, session_id, row, received_at in tx.execute(query.order_by(table.sequence))
    ]
    return (
        frame(rows, schema)
        .drop_duplicates(ignore_index=True)
        .sort_values("TIMESTAMP", kind="stable", ignore_index=True)
    )


def put(tx: Connection, dataset_arn: str, rows: Mapping[str, Mapping[str, object]], received_at: float) -> None:
    """Keep items, users or actions by id, each in place of an older one with that id."""
    table = live_records.c
    older = and_(table.dataset_arn == dataset_arn, table.id.in_(list(rows)), _PRESENT)
    there = tx.execute(select(table.sequence, table.id, table.row).where(older)).all()
    same = [sequence for sequence, id, row in there if row == rows[id]]
    tx.execute(delete(live_records).where(table.sequence.in_(same)))
    tx.execute(update(live_records).where(older).values(replaced=True))
    kept = [
        {"dataset_arn": dataset_arn, "id": id, "row": dict(row), "received_at": received_at, "replaced": False}
        for id, row in rows.items()
    ]
    tx.execute(live_records.insert(), kept)
    _moved(tx, dataset_arn, None)


def give_way(tx: Connection, dataset_arn: str, ids: Iterable[str], until: float) -> None:
    """Let newer records of these ids count in place of those put by then (epoch seconds)."""
    table, newer = live_records.c, set(ids)
    put = select(table.sequence, table.id).where(table.dataset_arn == dataset_arn, table.received_at <= until, _PRESENT)
    older = [{"older": sequence} for sequence, id in tx.execute(put) if id in newer]
    if older:
        tx.execute(update(live_records).where(table.sequence == bindparam("older")).values(replaced=True), older)


def put_times(tx: Connection, dataset_arn: str, after: int = 0) -> dict[str, float]:
    """When the rows were put, epoch seconds, of those that were put after a sequence number."""
    table = live_records.c
    query = select(table.id, table.received_at).where(
        table.dataset_arn == dataset_arn, table.sequence > after, _PRESENT
    )
    return dict(tuple(row) for row in tx.execute(query.order_by(table.sequence)))


def records(tx: Connection, dataset_arn: str, after: int = 0) -> tuple[dict[str, dict[str, object]], int]:
    """Rows by id that were put after a sequence number, in the order they were put, and the last such number."""
    table = live_records.c
    query = select(table.sequence, table.id, table.row).where(
        table.dataset_arn == dataset_arn, table.sequence > after, _PRESENT
    )
    rows = {}
    for sequence, id, row in tx.execute(query.order_by(table.sequence)):
        rows[id], after = row, sequence
    return rows, after


def put_rows(tx: Connection, dataset_arn: str) -> list[dict[str, object]]:
    """Every row that was put, also those that others replaced, oldest first."""
    table = live_records.c
    return list(
        tx.execute(select(table.row).where(table.dataset_arn == dataset_arn).order_by(table.sequence)).scalars()
    )


def last(tx: Connection, dataset_arn: str) -> int:
    """The sequence number of the record that was put last, 0 before the first."""
    table = live_records.c
    return tx.execute(select(func.max(table.sequence)).where(table.dataset_arn == dataset_arn)).scalar() or 0


def last_event(tx: Connection, dataset_arn: str) -> int:
    """The sequence number of the event that came last, 0 before the first."""
    table = live_events.c
    return tx.execute(select(func.max(table.sequence)).where(table.dataset_arn == dataset_arn)).scalar() or 0


def state(tx: Connection, dataset_arns: Iterable[str]) -> dict[str, Live]:
    """How far the puts of datasets have come; datasets without any are left out."""
    rows = tx.execute(_STATE, {"dataset_arns": list(dataset_arns)})
    return {dataset_arn: Live(changes, at) for dataset_arn, changes, at in rows}


def arrived(tx: Connection, dataset_arn: str, after: int, until: float, limit: int) -> list[Arrived]:
    """The oldest events beyond a sequence number that arrived before ``until`` (epoch seconds), each event id once."""
    table = live_events.c
    query = (
        select(*(_READ[name] for name in Arrived.__dataclass_fields__))
        .where(
            table.dataset_arn == dataset_arn,
            table.sequence > after,
            table.received_at < until,
            table.repeated.is_(False),
        )
        .order_by(table.sequence)
        .limit(limit)
    )
    return [Arrived(*row) for row in tx.execute(query)]


def last_arrival(tx: Connection, dataset_arn: str, until: float | None = None) -> tuple[int, float] | None:
    """Sequence number and time (epoch seconds) of the event that arrived last, by ``until`` if given; None for none."""
    table = live_events.c
    query = select(table.sequence, table.received_at).where(table.dataset_arn == dataset_arn)
    if until is not None:
        query = query.where(table.received_at <= until)
    found = tx.execute(query.order_by(table.sequence.desc()).limit(1)).first()
    return None if found is None else (found.sequence, found.received_at)


def put_records(tx: Connection, dataset_arn: str) -> list[tuple[str, tuple[dict[str, object], float]]]:
    """Each id with its row and when that was put, epoch seconds."""
    table = live_records.c
    query = select(table.id, table.row, table.received_at).where(table.dataset_arn == dataset_arn, _PRESENT)
    return [(id, (row, at)) for id, row, at in tx.execute(query.order_by(table.sequence))]


def forget(tx: Connection, dataset_arn: str) -> None:
    """Leave nothing of a dataset that is being deleted."""
    for table in (live, live_events, live_sessions, live_records):
        tx.execute(delete(table).where(table.c.dataset_arn.in_((dataset_arn, losses(dataset_arn)))))


def forget_users(tx: Connection, dataset_arn: str, user_ids: Iterable[str]) -> int:
    """Leave nothing of these users in a dataset; how many rows that were."""
    found = 0
    for user_id in user_ids:
        for table, column in (
            (live_events, live_events.c.user_id),
            (live_sessions, live_sessions.c.user_id),
            (live_records, live_records.c.id),
        ):
            gone = tx.execute(delete(table).where(table.c.dataset_arn == dataset_arn, column == user_id)).rowcount
            found += 0 if table is live_sessions else gone
    if found:
        _moved(tx, dataset_arn, None)
        _moved(tx, losses(dataset_arn), None)
    return found


def losses(dataset_arn: str) -> str:
    """The name under which ``state`` tells how often users were taken out of a dataset."""
    return f"{dataset_arn} without users"


def frame(rows: Sequence[Mapping[str, object]], schema: Schema) -> pd.DataFrame:
    """Rows as a table with the schema's columns, typed as imported tables are; what a row lacks is null."""
    types = {
        "string": "str",
        "boolean": "bool",
        "int": "int64",
        "long": "int64",
        "float": "float64",
        "double": "float64",
    }
    with_null = {"int64": "Int64", "bool": "object"}
    columns = {}
    for described in schema.fields:
        values = [row.get(described.name) for row in rows]
        kind = types[described.type]
        columns[described.name] = pd.Series(values, dtype=with_null.get(kind, kind) if None in values else kind)
    return pd.DataFrame(columns)


def _meet(tx: Connection, dataset_arn: str, events: Sequence[LiveEvent]) -> dict[str, str]:
    """Session -> user for the sessions of these events, as known after them."""
    sessions = list(dict.fromkeys(event.session_id for event in events))
    rows = tx.execute(_USERS, {"dataset_arn": dataset_arn, "sessions": sessions})
    known = dict(map(tuple, rows))
    met = []
    for event in events:
        if event.user_id is not None and event.session_id not in known:
            known[event.session_id] = event.user_id
            met.append({"dataset": dataset_arn, "session": event.session_id, "user": event.user_id})
    if met:
        tx.execute(_MEET, met)
        tx.execute(_ADOPT, met)
    return known


def _newest_by_type(tx: Connection, asked: Mapping[str, str], limit: int) -> Iterator[Row]:
    """Type by type, so that it takes no longer with all the others that there may be."""
    for next_type, newest_of_type in _NEWEST:
        event_type = ""
        while (event_type := tx.execute(next_type, {**asked, "event_type": event_type}).scalar()) is not None:
            yield from tx.execute(newest_of_type, {**asked, "event_type": event_type, "most": limit})


def _moved(tx: Connection, dataset_arn: str, newest: float | None) -> None:
    if not tx.execute(_MOVE, {"dataset": dataset_arn, "at": newest}).rowcount:
        tx.execute(live.insert().values(dataset_arn=dataset_arn, changes=1, newest=newest))
