"""Nouns as rows: a frozen dataclass a kind, kept as JSON under its ARN.

A noun's class says ``KIND`` (as ARNs spell it), ``PARENT`` (the field that lists of it are filtered by, "" for none)
and its field ``<kind>_arn``.  Fields bear the names boto3 gives them; nested structures stay as the wire spells them.
"""

import base64
import binascii
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import orjson
from sqlalchemy import Connection, Select, bindparam, delete, func, insert, or_, select, update

from lib.resources.account import Account
from lib.resources.errors import (
    InvalidInputException,
    InvalidNextTokenException,
    LimitExceededException,
    ResourceAlreadyExistsException,
    ResourceInUseException,
    ResourceNotFoundException,
    TooManyTagsException,
)
from lib.resources.lifecycle import MOVING, Status, at
from lib.store import tables

Noun = TypeVar("Noun")
TABLE = tables.resources
PAGE = 100
_DOCUMENTS = select(TABLE.c.arn, TABLE.c.document).where(
    TABLE.c.arn.in_(bindparam("arns", expanding=True)), TABLE.c.gone_after.is_(None)
)


def arn_of(record: Any) -> str:
    """The record's own ARN."""
    return getattr(record, f"{type(record).KIND.replace('-', '_')}_arn")


def add(tx: Connection, account: Account, record: Any, tags: Sequence[Mapping[str, str]] | None = None) -> None:
    """Keep a new record, and its tags.  Raises ResourceAlreadyExistsException where its ARN is taken."""
    arn = arn_of(record)
    now = account.now().timestamp()
    tx.execute(delete(TABLE).where(TABLE.c.gone_after <= now))
    if tx.execute(select(TABLE.c.arn).where(TABLE.c.arn == arn)).first():
        raise ResourceAlreadyExistsException(f"Another resource with Arn {arn} already exists.")
    tx.execute(insert(TABLE).values(arn=arn, kind=type(record).KIND, **_columns(record)))
    put_tags(tx, account, arn, tags or ())


def save(tx: Connection, record: Any) -> None:
    """Keep the changed record in place of the one with its ARN."""
    tx.execute(update(TABLE).where(TABLE.c.arn == arn_of(record)).values(**_columns(record)))


def get(tx: Connection, account: Account, kind: type[Noun], arn: str) -> Noun:
    """The record as it stands now.  Raises ResourceNotFoundException."""
    now = account.now()
    row = tx.execute(_alive(select(TABLE.c.document), kind, now).where(TABLE.c.arn == arn)).first()
    if row is None:
        raise ResourceNotFoundException(f"The given {kind.KIND.replace('-', ' ')} does not exist: {arn}")
    return at(decode(kind, row.document), now)


def kind_of(tx: Connection, account: Account, arn: str) -> str:
    """What an ARN names.  Raises ResourceNotFoundException."""
    alive = or_(TABLE.c.gone_after.is_(None), TABLE.c.gone_after > account.now().timestamp())
    kind = tx.execute(select(TABLE.c.kind).where(TABLE.c.arn == arn, alive)).scalar()
    if kind is None:
        raise ResourceNotFoundException(f"Resource Arn {arn} does not exist.")
    return kind


def document(tx: Connection, arn: str) -> dict[str, Any]:
    """The fields of whatever an ARN names, {} for nothing."""
    found = tx.execute(select(TABLE.c.document).where(TABLE.c.arn == arn)).scalar()
    return orjson.loads(found) if found else {}


def documents(tx: Connection, arns: Iterable[str]) -> dict[str, bytes]:
    """What the store says of resources, unread, by ARN; those that are not there, or being deleted, are left out."""
    return {row.arn: row.document for row in tx.execute(_DOCUMENTS, {"arns": list(arns)})}


def find(account: Account, kind: type[Noun], arn: str) -> Noun:
    """``get`` in a transaction of its own."""
    with account.store.read() as tx:
        return get(tx, account, kind, arn)


def every(tx: Connection, account: Account, kind: type[Noun], parent: str | None = None) -> list[Noun]:
    """All records of a kind, of one parent if given, oldest first.  Those being deleted are not among them."""
    query = select(TABLE.c.document).where(TABLE.c.kind == kind.KIND, TABLE.c.gone_after.is_(None))
    if parent is not None:
        query = query.where(TABLE.c.parent == parent)
    return [at(decode(kind, row.document), account.now()) for row in tx.execute(query.order_by(TABLE.c.sequence))]


def count(tx: Connection, kind: type, parent: str | None = None) -> int:
    """How many there are of a kind, of one parent if given, but for those being deleted."""
    query = select(func.count()).where(TABLE.c.kind == kind.KIND, TABLE.c.gone_after.is_(None))
    return tx.execute(query if parent is None else query.where(TABLE.c.parent == parent)).scalar_one()


def children(tx: Connection, parent: str, *kinds: str) -> list[tuple[str, dict[str, Any]]]:
    """ARN and document of each resource of these kinds that belongs to a parent and is not being deleted."""
    query = select(TABLE.c.arn, TABLE.c.document).where(
        TABLE.c.parent == parent, TABLE.c.kind.in_(kinds), TABLE.c.gone_after.is_(None)
    )
    return [(row.arn, orjson.loads(row.document)) for row in tx.execute(query.order_by(TABLE.c.sequence))]


def page(
    account: Account,
    kind: type,
    key: str,
    parent: str | None,
    next_token: str | None,
    max_results: int | None,
    *,
    newest_first: bool = False,
) -> dict[str, Any]:
    """One page of a list under ``key``, and ``nextToken`` where more follows.

    The order is that of creation, so a resource created or deleted between two pages neither repeats nor hides another.
    Raises InvalidNextTokenException for a token of another list.
    """
    now = account.now()
    query = _alive(select(TABLE.c.sequence, TABLE.c.document), kind, now)
    if parent is not None:
        query = query.where(TABLE.c.parent == parent)
    if next_token:
        after = token_position(f"{key}|{parent}", next_token)
        query = query.where(TABLE.c.sequence < after if newest_first else TABLE.c.sequence > after)
    size = max_results or PAGE
    order = TABLE.c.sequence.desc() if newest_first else TABLE.c.sequence
    with account.store.read() as tx:
        rows = tx.execute(query.order_by(order).limit(size + 1)).all()
    answer: dict[str, Any] = {key: [at(decode(kind, row.document), now) for row in rows[:size]]}
    if len(rows) > size:
        answer["nextToken"] = token(f"{key}|{parent}", rows[size - 1].sequence)
    return answer


def token(listed: str, position: int) -> str:
    """An opaque page token that only the same list takes back."""
    text = f"{position}|{hashlib.sha256(f'{listed}|{position}'.encode()).hexdigest()[:16]}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def token_position(listed: str, text: str) -> int:
    """Where the page goes on.  Raises InvalidNextTokenException for a token of another list, or none at all."""
    try:
        position = int(base64.urlsafe_b64decode(text.encode()).decode().split("|")[0])
    except (ValueError, binascii.Error):
        position = -1
    if token(listed, position) != text:
        raise InvalidNextTokenException("The nextToken was not issued by this list: leave it out to start again.")
    return position


def gone(tx: Connection, account: Account, record: Any) -> None:
    """Begin to delete a record: for a short while it is shown as DELETE PENDING, then it is not found."""
    now = account.now()
    rests = now + account.settling
    if hasattr(record, "status"):
        save(tx, replace(record, status=Status.DELETE_PENDING, last_updated_date_time=now, rests=rests))
    else:
        rests = now
    arn = arn_of(record)
    tx.execute(update(TABLE).where(TABLE.c.arn == arn).values(gone_after=rests.timestamp()))
    tx.execute(delete(TABLE).where(TABLE.c.gone_after <= now.timestamp()))
    tx.execute(delete(tables.tags).where(tables.tags.c.arn == arn))


def refuse_moving(record: Any) -> None:
    """Raise ResourceInUseException while the status of a record, or of its latest update, is changing."""
    update = getattr(record, getattr(type(record), "UPDATE", ""), None)
    for status in (record.status, update.status if update else None):
        if status in MOVING:
            raise ResourceInUseException(f"{arn_of(record)} is in state {status}: wait until it is at rest.")


def require_active(record: Any) -> None:
    """Raise where a record may not be built upon: ResourceInUseException while it is changing, else InvalidInput."""
    refuse_moving(record)
    if record.status is not Status.ACTIVE:
        raise InvalidInputException(f"{arn_of(record)} is in state {record.status}, it should be ACTIVE.")


def require_begun(record: Any) -> None:
    """``require_active``, but what is being created will do: work on it waits its turn anyway."""
    if record.status not in (Status.CREATE_PENDING, Status.CREATE_IN_PROGRESS):
        require_active(record)


def limit(account: Account, quota: str, existing: int, message: str) -> None:
    """Raise LimitExceededException where one more would exceed a quota; ``{}`` in the message stands for the quota."""
    allowed = account.quotas[quota]
    if existing + 1 > allowed:
        raise LimitExceededException(message.format(f"{allowed:g}"))


def next_number(tx: Connection, name: str) -> int:
    """1, 2, 3, …: numbers of a counter, never given twice."""
    counters = tables.counters
    number = (tx.execute(select(counters.c.value).where(counters.c.name == name)).scalar() or 0) + 1
    if number == 1:
        tx.execute(insert(counters).values(name=name, value=1))
    else:
        tx.execute(update(counters).where(counters.c.name == name).values(value=number))
    return number


def digest(*parts: object) -> str:
    """64 hex digits that follow from the parts: ids that Amazon draws by chance are derived, and come again."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def put_tags(tx: Connection, account: Account, arn: str, given: Sequence[Mapping[str, str]]) -> None:
    """Add tags to an ARN; an existing key gets the new value.  Raises TooManyTagsException, InvalidInputException."""
    table = tables.tags
    for tag in given:
        if tag["tagKey"].lower().startswith("aws:"):
            raise InvalidInputException(f"Tag key {tag['tagKey']!r}: keys that start with aws: are reserved.")
        tx.execute(delete(table).where(table.c.arn == arn, table.c.key == tag["tagKey"]))
        tx.execute(insert(table).values(arn=arn, key=tag["tagKey"], value=tag["tagValue"]))
    number = tx.execute(select(func.count()).select_from(table).where(table.c.arn == arn)).scalar_one()
    if number > account.quotas["tags_per_resource"]:
        allowed = account.quotas["tags_per_resource"]
        raise TooManyTagsException(f"{arn} would carry {number} tags, {allowed:g} are allowed.")


def encode(record: Any) -> bytes:
    """A record as JSON."""
    return orjson.dumps(record)


def decode(kind: type[Noun], document: bytes) -> Noun:
    """The record of a JSON document."""
    return _build(kind, orjson.loads(document))


def _columns(record: Any) -> dict[str, Any]:
    kind = type(record)
    name = getattr(record, "name", None) or getattr(record, "job_name", None) or arn_of(record).rsplit("/")[-1]
    update = getattr(record, getattr(kind, "UPDATE", ""), None)
    settled = record if update is None else record.updated(update)  # lists go by where it moves to
    parent = getattr(settled, kind.PARENT) if kind.PARENT else None
    return {"parent": parent, "name": name, "document": encode(record)}


def _alive(query: Select, kind: type, now: datetime) -> Select:
    return query.where(
        TABLE.c.kind == kind.KIND, or_(TABLE.c.gone_after.is_(None), TABLE.c.gone_after > now.timestamp())
    )


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _build(hint: Any, value: Any) -> Any:
    if get_origin(hint) is UnionType:
        (hint,) = set(get_args(hint)) - {NoneType}
    if value is None:
        return None
    if is_dataclass(hint):
        return hint(**{name: _build(of, value[name]) for name, of in _hints(hint).items() if name in value})
    if hint is datetime:
        return datetime.fromisoformat(value)
    if get_origin(hint) is tuple:
        return tuple(value)
    return hint(value) if isinstance(hint, type) and issubclass(hint, StrEnum) else value
