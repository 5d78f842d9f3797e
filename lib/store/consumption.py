"""How much was asked of each campaign, by windows of five minutes: what a bill is made of."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Column, Connection, Integer, String, Table, bindparam, select, update

from lib.store.tables import LONG, metadata

WINDOW_SECONDS = 300

consumption = Table(
    "consumption",
    metadata,
    Column("window", LONG, primary_key=True, autoincrement=False),  # epoch seconds of its beginning
    Column("resource_arn", String(256), primary_key=True),
    Column("requests", Integer, nullable=False),
    Column("provisioned_tps", Integer, nullable=False),  # the highest minimum in the window
)

_ADD = (
    update(consumption)
    .where(consumption.c.window == bindparam("at"), consumption.c.resource_arn == bindparam("arn"))
    .values(requests=consumption.c.requests + bindparam("more"))
)


class Asked(NamedTuple):
    """One request.  window: where it begins, epoch seconds.  provisioned_tps: what the campaign has at least."""

    window: int
    resource_arn: str
    provisioned_tps: int


@dataclass(frozen=True, slots=True)
class Window:
    """What was asked of a campaign in five minutes.  start: epoch seconds."""

    start: int
    resource_arn: str
    requests: int
    provisioned_tps: int

    @property
    def consumed_tps(self) -> float:
        """Requests a second, averaged over the window."""
        return self.requests / WINDOW_SECONDS


def window_of(at: float) -> int:
    """Where the window begins that a moment lies in, epoch seconds."""
    return int(at // WINDOW_SECONDS) * WINDOW_SECONDS


def add(tx: Connection, asked: Sequence[Asked]) -> None:
    """Count requests; a step of ``Commits``."""
    table = consumption.c
    for (window, arn, tps), more in Counter(asked).items():
        if tx.execute(_ADD, {"at": window, "arn": arn, "more": more}).rowcount:
            here = (table.window == window) & (table.resource_arn == arn) & (table.provisioned_tps < tps)
            tx.execute(update(consumption).where(here).values(provisioned_tps=tps))
        else:
            row = {"window": window, "resource_arn": arn, "requests": more, "provisioned_tps": tps}
            tx.execute(consumption.insert(), row)


def windows(tx: Connection, start: float, end: float) -> list[Window]:
    """The windows in which anything was asked, of those that begin in [start, end), by time and campaign."""
    table = consumption.c
    query = select(table.window, table.resource_arn, table.requests, table.provisioned_tps)
    query = query.where(table.window >= start, table.window < end)
    return [Window(*row) for row in tx.execute(query.order_by(table.window, table.resource_arn))]
