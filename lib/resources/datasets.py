"""Datasets: the tables of a dataset group, one a type."""

import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import pandas as pd
from sqlalchemy import Connection

from lib.data import schema as avro
from lib.data import tables
from lib.data.datasets import Arrivals, Datasets, combine
from lib.resources import records
from lib.resources.account import Account
from lib.resources.dataset_groups import DatasetGroup
from lib.resources.errors import InvalidInputException, ResourceInUseException
from lib.resources.lifecycle import Status
from lib.resources.schemas import Schema
from lib.store import events, jobs

DAY = 86_400  # seconds
IDENTIFIED = ("ITEMS", "USERS", "ACTIONS")  # datasets with one record an id
NO_INTERACTIONS = pd.DataFrame({"USER_ID": [], "ITEM_ID": [], "TIMESTAMP": []}).astype(
    {"USER_ID": "str", "ITEM_ID": "str", "TIMESTAMP": "int64"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetUpdate:
    """A change of schema."""

    schema_arn: str
    creation_date_time: datetime
    last_updated_date_time: datetime
    status: Status = Status.CREATE_PENDING
    rests: datetime | None = None
    failure_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One table.

    parts: names of the Parquet files it consists of, in the order they were imported.  imported: when each of them was,
    epoch seconds; () in a store that has not kept it.
    """

    KIND: ClassVar = "dataset"
    PARENT: ClassVar = "dataset_group_arn"
    UPDATE: ClassVar = "latest_dataset_update"

    name: str
    dataset_arn: str
    dataset_group_arn: str
    dataset_type: str
    schema_arn: str
    creation_date_time: datetime
    last_updated_date_time: datetime
    status: Status = Status.CREATE_PENDING
    rests: datetime | None = None
    failure_reason: str | None = None
    latest_dataset_update: DatasetUpdate | None = None
    tracking_id: str | None = None
    parts: tuple[str, ...] = ()
    imported: tuple[float, ...] = ()

    def updated(self, update: DatasetUpdate) -> Self:
        """With an update in force."""
        return replace(self, schema_arn=update.schema_arn)


def create_dataset(
    account: Account,
    *,
    name: str,
    schema_arn: str,
    dataset_group_arn: str,
    dataset_type: str,
    tags: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """Make an empty dataset of a type the group does not have yet."""
    try:
        kind = avro.canonical_type(dataset_type)
    except ValueError as error:
        raise InvalidInputException(str(error)) from error
    now = account.now()
    with account.store.transaction() as tx:
        group = records.get(tx, account, DatasetGroup, dataset_group_arn)
        schema = records.get(tx, account, Schema, schema_arn)
        records.require_active(group)
        _check_fit(group, schema, kind)
        arn = account.arn(Dataset.KIND, f"{group.name}/{kind}")
        new = Dataset(
            name=name,
            dataset_arn=arn,
            dataset_group_arn=dataset_group_arn,
            dataset_type=kind,
            schema_arn=schema_arn,
            creation_date_time=now,
            last_updated_date_time=now,
            rests=now + account.settling,
            tracking_id=_tracking_id(tx, arn) if kind == "ACTION_INTERACTIONS" else None,
        )
        records.add(tx, account, new, tags)
    return {"datasetArn": arn}


def describe_dataset(account: Account, *, dataset_arn: str) -> dict[str, Any]:
    """The dataset, its status and its latest change of schema."""
    return {"dataset": records.find(account, Dataset, dataset_arn)}


def list_datasets(
    account: Account,
    *,
    dataset_group_arn: str | None = None,
    next_token: str | None = None,
    max_results: int | None = None,
) -> dict[str, Any]:
    """All datasets, or those of a group, oldest first."""
    return records.page(account, Dataset, "datasets", dataset_group_arn, next_token, max_results)


def update_dataset(account: Account, *, dataset_arn: str, schema_arn: str) -> dict[str, Any]:
    """Give a dataset a schema that has all the fields of its own one and further ones that permit null."""
    now = account.now()
    with account.store.transaction() as tx:
        dataset = records.get(tx, account, Dataset, dataset_arn)
        records.require_active(dataset)
        schema = records.get(tx, account, Schema, schema_arn)
        _check_fit(records.get(tx, account, DatasetGroup, dataset.dataset_group_arn), schema, dataset.dataset_type)
        present = records.get(tx, account, Schema, dataset.schema_arn)
        try:
            avro.check_extends(present.parsed(), schema.parsed())
        except ValueError as error:
            raise InvalidInputException(f"{schema_arn} cannot replace {present.schema_arn}: {error}") from error
        update = DatasetUpdate(
            schema_arn=schema_arn,
            creation_date_time=now,
            last_updated_date_time=now,
            rests=now + account.settling,
        )
        records.save(tx, replace(dataset, latest_dataset_update=update))
    return {"datasetArn": dataset_arn}


def delete_dataset(account: Account, *, dataset_arn: str) -> dict[str, Any]:
    """Delete a dataset that nothing uses, and its data."""
    with account.store.transaction() as tx:
        dataset = records.get(tx, account, Dataset, dataset_arn)
        records.refuse_moving(dataset)
        _check_unused(tx, account, dataset)
        events.forget(tx, dataset_arn)
        records.gone(tx, account, dataset)
    account.store.files.remove(folder_name(dataset))
    return {}


def folder_name(dataset: Dataset) -> str:
    """Where the store keeps a dataset's Parquet files."""
    group = dataset.dataset_group_arn.rpartition("/")[2]
    return f"datasets/{group}/{dataset.dataset_type}"


def of_group(tx: Connection, account: Account, dataset_group_arn: str) -> dict[str, Dataset]:
    """The datasets of a group by type."""
    return {d.dataset_type: d for d in records.every(tx, account, Dataset, dataset_group_arn)}


def schemas(tx: Connection, account: Account, dataset_group_arn: str) -> dict[str, avro.Schema]:
    """The columns of each dataset of a group, by type."""
    return {
        kind: records.get(tx, account, Schema, dataset.schema_arn).parsed()
        for kind, dataset in of_group(tx, account, dataset_group_arn).items()
    }


def load(account: Account, dataset_group_arn: str, *, live_interactions: bool = True) -> Datasets:
    """All data of a group as it is now: what was imported, and what came in one by one since.

    live_interactions: false for the imported interactions alone; campaigns read the live ones at each request.
    A group without an INTERACTIONS dataset has a table of interactions without rows.
    """
    with account.store.read() as tx:
        found = of_group(tx, account, dataset_group_arn)
        columns = schemas(tx, account, dataset_group_arn)
        frames = {
            kind: table(tx, account, dataset, "ALL" if live_interactions or kind in IDENTIFIED else "BULK")
            for kind, dataset in found.items()
        }
    return Datasets(
        interactions=frames.get("INTERACTIONS", NO_INTERACTIONS),
        items=frames.get("ITEMS"),
        users=frames.get("USERS"),
        schemas=columns,
        actions=frames.get("ACTIONS"),
        action_interactions=frames.get("ACTION_INTERACTIONS"),
    )


def arrivals(account: Account, dataset: Dataset | None) -> Arrivals:
    """Whose interactions, or action interactions, were imported when; where that is not known, at the end of time."""
    if dataset is None or not dataset.imported:
        return ((None, math.inf),)
    paths = [account.store.files.path(part) for part in dataset.parts[1:]]
    users = [tables.read([path], ["USER_ID"])["USER_ID"].unique() for path in paths]
    return ((None, dataset.imported[0]), *zip(users, dataset.imported[1:]))


def remembered_from(account: Account) -> float:
    """Epoch seconds: of whom nothing has come in since then, filters ignore what they did."""
    return account.now().timestamp() - DAY * account.quotas["days_that_filters_remember"]


def table(
    tx: Connection, account: Account, dataset: Dataset, ingestion_mode: str, *, exported: bool = False
) -> pd.DataFrame:
    """A dataset's rows: those imported (BULK), those put one by one (PUT), or both (ALL); of one id the last counts.

    exported: as exports have them.  Live interactions have the times that were sent, else none is later than its
    arrival; and of BULK and PUT all rows of one id count that differ.
    """
    schema = records.get(tx, account, Schema, dataset.schema_arn).parsed()
    key = avro.KEYS.get(schema.name)
    all_that_differ = exported and key is not None and ingestion_mode != "ALL"
    bulk = put = events.frame([], schema)
    if ingestion_mode != "PUT" and dataset.parts:
        bulk = tables.read([account.store.files.path(part) for part in dataset.parts])
        new = [column.name for column in schema.fields if column.type in avro.INTEGERS and column.name not in bulk]
        bulk = bulk.reindex(columns=list(schema.columns)).astype(dict.fromkeys(new, "Int64"))
        if len(dataset.parts) > 1 and not all_that_differ:  # within one import all rows differ
            bulk = combine(bulk.iloc[:0], bulk, key)
    if ingestion_mode != "BULK" and key is None:
        put = events.interactions(tx, dataset.dataset_arn, schema, as_sent=exported)
    elif ingestion_mode != "BULK":
        rows, _ = events.records(tx, dataset.dataset_arn)
        put = events.frame(events.put_rows(tx, dataset.dataset_arn) if all_that_differ else [*rows.values()], schema)
    if all_that_differ:
        own = bulk if ingestion_mode == "BULK" else put
        return own.drop_duplicates().sort_values(key, kind="stable", ignore_index=True)
    return combine(bulk, put, key)


def _tracking_id(tx: Connection, arn: str) -> str:
    return str(UUID(records.digest("tracking", arn, records.next_number(tx, f"tracking {arn}"))[:32], version=4))


def _check_fit(group: DatasetGroup, schema: Schema, kind: str) -> None:
    if schema.domain != group.domain:
        raise InvalidInputException(
            f"{schema.schema_arn} is for domain {schema.domain or '(none)'}, the dataset group for "
            f"{group.domain or '(none)'}: create the schema with the group's domain."
        )
    try:
        avro.parse(schema.schema, kind, group.domain)
    except ValueError as error:
        raise InvalidInputException(f"{schema.schema_arn} does not fit: {error}") from error


def _check_unused(tx: Connection, account: Account, dataset: Dataset) -> None:
    """Filters, the tracker, metric attributions, jobs and campaigns hold on to a dataset."""
    arn, group, kind = dataset.dataset_arn, dataset.dataset_group_arn, dataset.dataset_type
    held_by = [
        f"filter {name}"
        for name, document in records.children(tx, group, "filter")
        if kind in document["datasets_read"]
    ]
    if kind == "INTERACTIONS":
        held_by += [name for name, _ in records.children(tx, group, "event-tracker", "metric-attribution")]
    for solution, _ in records.children(tx, group, "solution"):
        for campaign, document in records.children(tx, solution, "campaign"):
            if document["status"] != Status.CREATE_FAILED:
                held_by.append(campaign)
    held_by += [job.arn for job in jobs.unfinished(tx) if job.subject in (arn, group)]
    if held_by:
        raise ResourceInUseException(f"{arn} is used by {', '.join(held_by)}: delete that, or wait for it, first.")


OPERATIONS = {
    operation.__name__: operation
    for operation in (create_dataset, describe_dataset, list_datasets, update_dataset, delete_dataset)
}
