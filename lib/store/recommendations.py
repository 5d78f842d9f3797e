"""What was recommended: the list behind each recommendation id, and the chance each item had to stand where it stood.

Events that carry the id tell which lists were seen, and off-policy evaluation divides by the chances.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import orjson
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Float,
    Index,
    Row,
    String,
    Table,
    bindparam,
    delete,
    func,
    select,
)

from lib.store.tables import LONG, insert, metadata

KEPT = 200_000  # newest ones, of all campaigns together
ASKED_AT_ONCE = 10_000  # ids; a statement cannot have many more parameters
SPARE = 20_000  # more than that may be there until they are taken away together

recommendations = Table(
    "recommendations",
    metadata,
    Column("sequence", LONG, primary_key=True, autoincrement=True),
    Column("recommendation_id", String(40), nullable=False),
    Column("resource_arn", String(256), nullable=False),
    Column("user_id", String(256)),
    Column("at", Float, nullable=False),  # epoch seconds
    Column("item_ids", JSON, nullable=False),
    Column("propensities", JSON(none_as_null=True)),
    Index("recommendations_by_id", "recommendation_id"),  # ids that grow with time touch few of its pages
    sqlite_autoincrement=True,
)

_OF_IDS = select(recommendations).where(recommendations.c.recommendation_id.in_(bindparam("ids", expanding=True)))


class Recommendation(NamedTuple):
    """One answered request.  item_ids: or their JSON, where it is there already; read, always ids.  at: epoch seconds.

    propensities: as ``campaigns.Recommended`` has them.
    """

    recommendation_id: str
    resource_arn: str
    user_id: str | None
    at: float
    item_ids: Sequence[str] | orjson.Fragment
    propensities: Sequence[float | None] | None


def append(tx: Connection, given: Sequence[Recommendation]) -> None:
    """Keep recommendations; beyond ``KEPT`` the oldest go."""
    rows = [
        (
            one.recommendation_id,
            one.resource_arn,
            one.user_id,
            one.at,
            orjson.dumps(one.item_ids).decode(),
            None if one.propensities is None else orjson.dumps(list(one.propensities)).decode(),
        )
        for one in given
    ]
    insert(tx, recommendations, rows)
    sequence = recommendations.c.sequence
    # one at a time: SQLite finds either at an end of the table, but reads all of it to find both
    first, last = (tx.scalar(select(end(sequence))) for end in (func.min, func.max))
    if last - first > KEPT + SPARE:
        tx.execute(delete(recommendations).where(sequence <= last - KEPT))


def of_ids(tx: Connection, ids: Collection[str]) -> dict[str, Recommendation]:
    """Those of these ids that are kept, by id."""
    found, wanted = {}, list(ids)
    for start in range(0, len(wanted), ASKED_AT_ONCE):
        for row in tx.execute(_OF_IDS, {"ids": wanted[start : start + ASKED_AT_ONCE]}):
            found[row.recommendation_id] = _read(row)
    return found


def of_resource(tx: Connection, resource_arn: str) -> Iterator[Recommendation]:
    """All that are kept of a campaign, oldest first."""
    table = recommendations.c
    return map(
        _read, tx.execute(select(recommendations).where(table.resource_arn == resource_arn).order_by(table.sequence))
    )


def forget_users(tx: Connection, resource_arns: Collection[str], user_ids: Iterable[str]) -> None:
    """Leave nothing of what these campaigns recommended to these users."""
    table, named = recommendations.c, list(user_ids)
    for start in range(0, len(named), ASKED_AT_ONCE):
        theirs = table.user_id.in_(named[start : start + ASKED_AT_ONCE])
        tx.execute(delete(recommendations).where(theirs, table.resource_arn.in_(resource_arns)))


def _read(row: Row) -> Recommendation:
    return Recommendation(
        recommendation_id=row.recommendation_id,
        resource_arn=row.resource_arn,
        user_id=row.user_id,
        at=row.at,
        item_ids=row.item_ids,
        propensities=row.propensities,
    )
