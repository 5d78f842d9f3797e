"""What comes in one by one: events, items, users, actions.  What was answered is on disk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from sqlalchemy import Connection, Engine

from lib.data import schema as avro
from lib.resources import records
from lib.resources.account import Account
from lib.resources.datasets import Dataset, of_group
from lib.resources.errors import InvalidInputException, ResourceNotFoundException
from lib.resources.event_trackers import EventTracker
from lib.resources.schemas import Schema
from lib.store import events
from lib.store.commits import Outdated

MAX_EVENT_BYTES = 10 * 1024
ACTION_EVENT_TYPES = {"viewed": "VIEWED", "taken": "TAKEN", "nottaken": "NOT_TAKEN"}
MEMBERS = (  # of an event, that are columns too
    "eventtype",
    "eventvalue",
    "itemid",
    "actionid",
    "timestamp",
    "impression",
    "recommendationid",
    "eventattributionsource",
)
RESERVED = ("userid", "sessionid", "eventtype", "timestamp", "recommendationid", "impression")


@dataclass(frozen=True, slots=True)
class _Way:
    """Where the events of a tracking id go.  documents: ARN -> what this was read from, for as long as it holds."""

    dataset_arn: str
    schema: avro.Schema
    without_item: avro.Schema
    documents: Mapping[str, bytes]


_WAYS: WeakKeyDictionary[Engine, dict[tuple[str, str], _Way]] = WeakKeyDictionary()


def put_events(
    account: Account,
    *,
    tracking_id: str,
    session_id: str,
    event_list: Sequence[Mapping[str, Any]],
    user_id: str | None = None,
) -> dict[str, Any]:
    """Keep what a user, or a session that has no user yet, did."""
    given = [_properties(f"eventList[{n}]", event) for n, event in enumerate(event_list)]

    def check(way: _Way) -> list[events.LiveEvent]:
        return [
            _event(f"eventList[{n}]", event, properties, way, session_id, user_id)
            for n, (event, properties) in enumerate(zip(event_list, given))
        ]

    _keep(account, tracking_id, _of_tracker, check)
    return {}


def put_action_interactions(
    account: Account, *, tracking_id: str, action_interactions: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Keep what users did about actions.  tracking_id: that of the Action_Interactions dataset."""
    given = [_properties(f"actionInteractions[{n}]", event) for n, event in enumerate(action_interactions)]

    def check(way: _Way) -> list[events.LiveEvent]:
        sent = []
        for n, (event, properties) in enumerate(zip(action_interactions, given)):
            named = {**event, "eventType": _action_event_type(f"actionInteractions[{n}]", event["eventType"])}
            sent.append(
                _event(f"actionInteractions[{n}]", named, properties, way, event["sessionId"], event.get("userId"))
            )
        return sent

    _keep(account, tracking_id, _of_actions, check)
    return {}


def _keep(
    account: Account,
    tracking_id: str,
    find: Callable[[Connection, Account, str], _Way],
    check: Callable[[_Way], list[events.LiveEvent]],
) -> None:
    """Check events and write them, together with those of whoever writes at this moment; returns with them on disk."""
    ways = _WAYS.setdefault(account.store.engine, {})
    key = (find.__name__, tracking_id)
    while True:
        way = ways.get(key)
        if way is None:
            with account.store.read() as tx:
                way = find(tx, account, tracking_id)
            if way.documents:
                ways[key] = way
        sent = events.Sent(dataset_arn=way.dataset_arn, events=check(way), received_at=account.now().timestamp())
        try:
            account.store.commits.write(_append, (way, sent))
            return
        except Outdated:
            ways.pop(key, None)


def _append(tx: Connection, given: Sequence[tuple[_Way, events.Sent]]) -> None:
    """A step of ``Commits``.  Raises Outdated where a dataset, its tracker or its schema is another than was read."""
    documents: dict[str, bytes] = {}
    for way, _ in given:
        if any(documents.setdefault(arn, document) != document for arn, document in way.documents.items()):
            raise Outdated
    if records.documents(tx, documents) != documents:
        raise Outdated
    events.append_all(tx, [sent for _, sent in given])


def _of_tracker(tx: Connection, account: Account, tracking_id: str) -> _Way:
    tracker = next((one for one in records.every(tx, account, EventTracker) if one.tracking_id == tracking_id), None)
    if tracker is None:
        raise InvalidInputException(f"No event tracker has the trackingId {tracking_id}.")
    dataset = of_group(tx, account, tracker.dataset_group_arn).get("INTERACTIONS")
    if dataset is None:
        raise InvalidInputException(
            f"{tracker.dataset_group_arn} has no INTERACTIONS dataset that events could go to: create one."
        )
    return _way(tx, account, dataset, tracker.event_tracker_arn)


def _of_actions(tx: Connection, account: Account, tracking_id: str) -> _Way:
    found = [dataset for dataset in records.every(tx, account, Dataset) if dataset.tracking_id == tracking_id]
    if not found:
        raise ResourceNotFoundException(
            f"No ACTION_INTERACTIONS dataset has the trackingId {tracking_id}; DescribeDataset tells it."
        )
    return _way(tx, account, found[0])


def _way(tx: Connection, account: Account, dataset: Dataset, *needed: str) -> _Way:
    schema = _schema(tx, account, dataset)

    def without(*names: str) -> avro.Schema:
        return replace(schema, fields=tuple(column for column in schema.fields if column.name not in names))

    arns = (dataset.dataset_arn, dataset.schema_arn, *needed)
    update = dataset.latest_dataset_update
    changing = update is not None and update.rests is not None  # its schema changes as time goes by
    return _Way(
        dataset.dataset_arn,
        without("USER_ID"),
        without("USER_ID", "ITEM_ID"),
        {} if changing else records.documents(tx, arns),
    )


def put_items(account: Account, *, dataset_arn: str, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Keep items, each in place of an older one with its id."""
    return _put(account, dataset_arn, "ITEMS", "items", "itemId", items)


def put_users(account: Account, *, dataset_arn: str, users: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Keep users, each in place of an older one with its id."""
    return _put(account, dataset_arn, "USERS", "users", "userId", users)


def put_actions(account: Account, *, dataset_arn: str, actions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Keep actions, each in place of an older one with its id."""
    return _put(account, dataset_arn, "ACTIONS", "actions", "actionId", actions)


def _put(
    account: Account, dataset_arn: str, kind: str, member: str, key: str, given: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    properties = [_properties(f"{member}[{n}]", record) for n, record in enumerate(given)]
    with account.store.transaction() as tx:
        dataset = records.get(tx, account, Dataset, dataset_arn)
        if dataset.dataset_type != kind:
            raise InvalidInputException(f"{dataset_arn} is a dataset of {dataset.dataset_type}, {member} go to {kind}.")
        records.require_active(dataset)
        schema = _schema(tx, account, dataset)
        rows = {}
        for n, (record, values) in enumerate(zip(given, properties)):
            row = _row(f"{member}[{n}]", schema, {**values, key: record[key]})
            rows[record[key]] = {name: value for name, value in row.items() if value is not None}
        events.put(tx, dataset_arn, rows, account.now().timestamp())
    return {}


def _event(
    where: str,
    event: Mapping[str, Any],
    properties: Mapping[str, Any],
    way: _Way,
    session_id: str,
    user_id: str | None,
) -> events.LiveEvent:
    """An event of either kind as the store keeps it; what stands in its own members wins over its properties."""
    for name in properties:
        if name.replace("_", "").lower() in RESERVED:
            raise InvalidInputException(f"{where}: properties may not hold {name!r}; give it as a member of its own.")
    size = len(orjson.dumps(event))
    if size > MAX_EVENT_BYTES:
        raise InvalidInputException(f"{where} is {size} bytes large, at most {MAX_EVENT_BYTES} are allowed.")
    sent_at = event["sentAt" if "sentAt" in event else "timestamp"].timestamp()
    if not 0 <= sent_at <= avro.LAST_SECOND:
        raise InvalidInputException(f"{where}: the time is {sent_at:.0f}, expected seconds since 1970; divide by 1000.")
    folded = {name.replace("_", "").lower(): value for name, value in properties.items()} if properties else {}
    item_id = event.get("itemId", event.get("actionId", folded.get("itemid")))
    if "\0" in str(item_id):
        raise InvalidInputException(f"{where}: ITEM_ID must hold no NUL character, found {item_id!r}.")
    impression = event.get("impression")
    source = event.get("metricAttribution", {}).get("eventAttributionSource")
    members = {
        "eventType": event["eventType"],
        "eventValue": event.get("eventValue", folded.get("eventvalue")),
        "itemId": item_id,
        "actionId": item_id,
        "timestamp": int(sent_at),
        "impression": None if impression is None else "|".join(impression),
        "recommendationId": event.get("recommendationId"),
        "eventAttributionSource": source,
    }
    given = {name: value for name, value in members.items() if value is not None}
    if properties:
        given |= {name: value for name, value in properties.items() if name.replace("_", "").lower() not in MEMBERS}
    row = _row(where, way.without_item if item_id is None else way.schema, given)
    return events.LiveEvent(
        session_id=session_id,
        user_id=user_id or None,
        event_type=event["eventType"],
        sent_at=sent_at,
        item_id=row.get("ITEM_ID", row.get("ACTION_ID")),
        event_id=event.get("eventId"),
        row={name: value for name, value in row.items() if value is not None},
        impression=impression,
        recommendation_id=event.get("recommendationId"),
        source=source,
    )


def _action_event_type(where: str, given: str) -> str:
    """VIEWED, TAKEN or NOT_TAKEN, however it is spelt."""
    found = ACTION_EVENT_TYPES.get(given.replace(" ", "").replace("_", "").lower())
    if found is None:
        expected = ", ".join(ACTION_EVENT_TYPES.values())
        raise InvalidInputException(f"{where}: eventType is {given!r}, expected one of {expected}.")
    return found


def _row(where: str, schema: avro.Schema, properties: Mapping[str, object]) -> dict[str, object]:
    try:
        return avro.row(schema, properties)
    except ValueError as error:
        raise InvalidInputException(f"{where}: {error}") from error


def _properties(where: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object in ``properties``, {} for none."""
    text = record.get("properties")
    if text is None:
        return {}
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise InvalidInputException(
            f"Error parsing properties json: {where}.properties is {text[:80]!r}, no JSON object."
        )
    return found


def _schema(tx: Connection, account: Account, dataset: Dataset) -> avro.Schema:
    found = records.get(tx, account, Schema, dataset.schema_arn)
    return _parsed(found.schema, found.domain)


@lru_cache(maxsize=256)
def _parsed(text: str, domain: str | None) -> avro.Schema:
    return avro.parse(text, domain=domain)


OPERATIONS = {
    operation.__name__: operation
    for operation in (put_events, put_items, put_users, put_actions, put_action_interactions)
}
