"""Filters: expressions that say which items, users or actions an answer may hold."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Connection

from lib import filters
from lib.resources import datasets, records
from lib.resources.account import Account
from lib.resources.dataset_groups import DatasetGroup
from lib.resources.errors import InvalidInputException, ResourceInUseException
from lib.resources.lifecycle import Status
from lib.store import jobs

READ_BY = {"CURRENTUSER": "USERS", "CURRENTITEM": "ITEMS"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """An expression.  It is ACTIVE at once.  datasets_read: types of the datasets whose columns it names."""

    KIND: ClassVar = "filter"
    PARENT: ClassVar = "dataset_group_arn"

    name: str
    filter_arn: str
    dataset_group_arn: str
    filter_expression: str
    creation_date_time: datetime
    last_updated_date_time: datetime
    status: Status = Status.ACTIVE
    rests: datetime | None = None
    failure_reason: str | None = None
    datasets_read: tuple[str, ...] = ()


def create_filter(
    account: Account,
    *,
    name: str,
    dataset_group_arn: str,
    filter_expression: str,
    tags: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """Keep an expression after checking its grammar, and its fields against the group's schemas."""
    now = account.now()
    arn = account.arn(Filter.KIND, name)
    with account.store.transaction() as tx:
        records.require_active(records.get(tx, account, DatasetGroup, dataset_group_arn))
        existing = records.every(tx, account, Filter, dataset_group_arn)
        parsed = _checked(tx, account, dataset_group_arn, filter_expression, existing)
        new = Filter(
            name=name,
            filter_arn=arn,
            dataset_group_arn=dataset_group_arn,
            filter_expression=filter_expression,
            creation_date_time=now,
            last_updated_date_time=now,
            datasets_read=tuple(sorted({READ_BY.get(c.dataset, c.dataset) for c in parsed.conditions})),
        )
        records.add(tx, account, new, tags)
        records.limit(account, "filters_per_group", len(existing), "More than {} resources in ACTIVE state")
    return {"filterArn": arn}


def describe_filter(account: Account, *, filter_arn: str) -> dict[str, Any]:
    """The filter and its expression."""
    return {"filter": records.find(account, Filter, filter_arn)}


def list_filters(
    account: Account,
    *,
    dataset_group_arn: str | None = None,
    next_token: str | None = None,
    max_results: int | None = None,
) -> dict[str, Any]:
    """All filters, or those of a group, oldest first; under ``Filters``, as the wire has it."""
    return records.page(account, Filter, "Filters", dataset_group_arn, next_token, max_results)


def delete_filter(account: Account, *, filter_arn: str) -> dict[str, Any]:
    """Delete a filter that no unfinished batch job uses."""
    with account.store.transaction() as tx:
        found = records.get(tx, account, Filter, filter_arn)
        records.refuse_moving(found)
        for job in jobs.unfinished(tx):
            if records.document(tx, job.arn).get("filter_arn") == filter_arn:
                raise ResourceInUseException(f"{filter_arn} is used by {job.arn}: wait until that has ended.")
        records.gone(tx, account, found)
    return {}


def _checked(
    tx: Connection, account: Account, dataset_group_arn: str, text: str, existing: list[Filter]
) -> filters.Filter:
    try:
        parsed = filters.parse(text)
        filters.check(
            parsed,
            datasets.schemas(tx, account, dataset_group_arn),
            [filters.parse(other.filter_expression) for other in existing],
            fields_per_filter=account.quotas["fields_per_filter"],
            fields_per_group=account.quotas["filter_fields_per_group"],
        )
    except ValueError as error:
        raise InvalidInputException(f"Could not create filter. {error}") from error
    return parsed


OPERATIONS = {
    operation.__name__: operation for operation in (create_filter, describe_filter, list_filters, delete_filter)
}
