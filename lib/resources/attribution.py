"""What recommendations brought about: events and values, counted by window and source, as CSV files.

Events that are put are counted when a window of 15 minutes is over; windows begin with the attribution.  An event is
counted once, among the metrics that stood when it arrived.  Rows of an import are counted when it ends.  Files go into
the store, and to the destination of the attribution where Amazon Personalize writes them too.

What is counted lies in the store before the transaction that says so, under a name that a second try gives it again;
from there it is delivered outside of any transaction, again and again until that went well, as the same file.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection

from lib.data import tables
from lib.resources import datasets, locations, records
from lib.resources.account import Account
from lib.resources.campaigns import Campaign
from lib.resources.dataset_import_jobs import DatasetImportJob
from lib.resources.datasets import Dataset
from lib.resources.errors import InvalidInputException, ResourceNotFoundException
from lib.resources.lifecycle import Status
from lib.resources.metric_attributions import SUM, MetricAttribution
from lib.resources.recommenders import Recommender
from lib.resources.solutions import Solution
from lib.store import events

WINDOW = 900  # seconds
RECENT = 14 * 86_400  # seconds; older rows of an import are counted where the caller asks for it alone
AT_ONCE = 100_000  # events
UNNAMED = "SOURCE_NAME_UNDEFINED"
COLUMNS = ["METRIC_NAME", "EVENT_TYPE", "VALUE", "MATH_FUNCTION", "EVENT_ATTRIBUTION_SOURCE", "TIMESTAMP"]
ITEM = "Items."  # begins the columns that are an item's


def count(table: pd.DataFrame, metrics: Sequence[Mapping[str, str]], *, since: int) -> pd.DataFrame:
    """Each metric's value by window and source: a table with ``COLUMNS``, in the order of windows, metrics, sources.

    table: events, with EVENT_TYPE, TIMESTAMP (epoch seconds), SOURCE, the columns of Interactions, and those of their
    items as ``Items.<COLUMN>``.  since: epoch seconds at which a window begins; TIMESTAMP of the result is where the
    row's window does.  An event without the value that is summed is not counted.
    """
    types = table["EVENT_TYPE"].fillna("").str.lower()
    found = []
    for number, metric in enumerate(metrics):
        rows = table[types == metric["eventType"].lower()]
        column = summed(metric)
        values = pd.Series(1.0, rows.index) if column is None else pd.to_numeric(rows[column]).astype(np.float64)
        window = since + WINDOW * ((rows["TIMESTAMP"].astype(np.int64) - since) // WINDOW)
        keys = {"TIMESTAMP": window, "EVENT_ATTRIBUTION_SOURCE": rows["SOURCE"]}
        sums = pd.DataFrame({**keys, "VALUE": values}).dropna().groupby(list(keys))["VALUE"].sum().reset_index()
        found.append(
            sums.assign(
                NUMBER=number,
                METRIC_NAME=metric["metricName"].upper(),
                EVENT_TYPE=metric["eventType"].upper(),
                MATH_FUNCTION="samplecount" if column is None else "sum",
            )
        )
    if not found:
        return pd.DataFrame(columns=COLUMNS)
    whole = pd.concat(found, ignore_index=True)
    return whole.sort_values(["TIMESTAMP", "NUMBER", "EVENT_ATTRIBUTION_SOURCE"], ignore_index=True)[COLUMNS]


def summed(metric: Mapping[str, str]) -> str | None:
    """The column a metric sums, ``Items.`` before an item's; None where it counts."""
    found = SUM.fullmatch(metric["expression"])
    if found is None:
        return None
    return (ITEM if found[1].lower() == "items" else "") + found[2]


def collect(account: Account, arn: str, until: float) -> None:
    """Count the events that arrived before ``until`` (epoch seconds) and were not counted yet."""
    with account.store.read() as tx:
        found = records.get(tx, account, MetricAttribution, arn)
        dataset = datasets.of_group(tx, account, found.dataset_group_arn).get("INTERACTIONS")
        if found.status is not Status.ACTIVE or dataset is None:
            return
        origins = _origins(tx, account, found.dataset_group_arn)
        item_values = _item_values(tx, account, found)
        last, sources, lots = found.counted, list(found.sources), []
        while arrived := events.arrived(tx, dataset.dataset_arn, last, until, AT_ONCE):
            last = arrived[-1].sequence
            table = _table(arrived, origins, item_values, found.metrics)
            table = table[table["TIMESTAMP"] >= found.since]
            sources = _bounded(account, table, sources)
            lots.append(count(table, found.metrics, since=found.since))
    if last == found.counted:
        return
    with account.store.transaction() as tx:
        current = records.get(tx, account, MetricAttribution, arn)
        if current.counted != found.counted:
            return  # somebody else has just counted them
        known = tuple(dict.fromkeys((*current.sources, *sources)))  # an import may have named some meanwhile
        current = replace(current, counted=last, sources=known)
        counted = _together(lots)
        if len(counted):
            file = f"events-{found.counted}"
            _set_aside(account, current, file, counted)
            current = _to_deliver(current, file, "PutEvents", int(until), published=True)
        records.save(tx, current)


def collect_due(account: Account) -> None:
    """Count what arrived in windows that are over, for every attribution, and deliver what was counted.

    Raises ExceptionGroup for those whose destination cannot be written to; the next call tries these again.
    """
    now = account.now().timestamp()
    with account.store.read() as tx:
        found = records.every(tx, account, MetricAttribution)
    errors = []
    for one in found:
        window = one.since + WINDOW * int((now - one.since) // WINDOW)
        if one.status is Status.ACTIVE and window > one.since:
            collect(account, one.metric_attribution_arn, window)
        try:
            deliver(account, one.metric_attribution_arn)
        except InvalidInputException as error:
            errors.append(error)
    if errors:
        raise ExceptionGroup("metric attributions that could not be written", errors)


def deliver(account: Account, arn: str, *, wait: bool = False) -> None:
    """Bring what was counted to where it goes; what somebody else is bringing there is left to them, unless ``wait``.

    Raises InvalidInputException where the destination cannot be written to; the next call tries again.
    """
    with account.store.holding(f"attribution-{records.digest(arn)[:32]}", wait=wait) as got:
        found = _existing(account, arn) if got else None
        for entry in found.outbox if found else ():
            _bring(account, found, entry)
            with account.store.transaction() as tx:
                current = records.get(tx, account, MetricAttribution, arn)
                left = tuple(other for other in current.outbox if other != entry)
                records.save(tx, replace(current, outbox=left))
            account.store.files.remove(_place(found, entry["file"]))


def count_import(
    account: Account, job: DatasetImportJob, dataset: Dataset, folder: Path
) -> Callable[[Connection], None]:
    """Count the rows of an import of interactions that lie in ``folder``, if the group has an attribution.

    What is returned says that they are counted.
    """
    published = bool(job.publish_attribution_metrics_to_s3)
    if dataset.dataset_type != "INTERACTIONS" or not (published or job.import_mode == "INCREMENTAL"):
        return _nothing
    with account.store.read() as tx:
        found = [
            one
            for one in records.every(tx, account, MetricAttribution, dataset.dataset_group_arn)
            if one.status is Status.ACTIVE
        ]
        if not found:
            return _nothing
        origins = _origins(tx, account, dataset.dataset_group_arn)
        item_values = _item_values(tx, account, found[0])
    table = tables.read([folder])
    now = account.now().timestamp()
    if not published:
        table = table[table["TIMESTAMP"] > now - RECENT]
    named = _column(table, "EVENT_ATTRIBUTION_SOURCE")
    by_recommendation = _column(table, "RECOMMENDATION_ID").map(origins)
    table = table.assign(SOURCE=named.fillna(by_recommendation).fillna(UNNAMED))
    for column in _item_columns(found[0].metrics):
        table[ITEM + column] = item_values(column, table["ITEM_ID"], pd.Series(now, table.index))
    sources = _bounded(account, table, list(found[0].sources))
    counted = count(table, found[0].metrics, since=found[0].since)
    if not len(counted):
        return _nothing
    file = f"import-{job.job_name}"
    _set_aside(account, found[0], file, counted)
    stamp = int(job.creation_date_time.timestamp())

    def counts(tx: Connection) -> None:
        for current in records.every(tx, account, MetricAttribution, dataset.dataset_group_arn):
            if current.metric_attribution_arn == found[0].metric_attribution_arn:
                known = tuple(dict.fromkeys((*current.sources, *sources)))
                current = _to_deliver(current, file, job.import_mode, stamp, published=published)
                records.save(tx, replace(current, sources=known))

    return counts


def _nothing(tx: Connection) -> None:
    """Where nothing was counted."""


def origin(arn: str) -> str:
    """How a recommendationId names the campaign or recommender that it came from: its last six digits."""
    return hashlib.sha256(arn.encode()).hexdigest()[:6]


def _table(
    arrived: Sequence[events.Arrived],
    origins: Callable[[str | None], str | None],
    item_values: Callable[[str, pd.Series, pd.Series], pd.Series],
    metrics: Sequence[Mapping[str, str]],
) -> pd.DataFrame:
    columns = {column for metric in metrics if (column := summed(metric)) and not column.startswith(ITEM)}
    table = pd.DataFrame(
        {
            "EVENT_TYPE": [event.event_type for event in arrived],
            "TIMESTAMP": [int(event.sent_at) for event in arrived],
            "SOURCE": [event.source or origins(event.recommendation_id) or UNNAMED for event in arrived],
            **{column: [event.row.get(column) for event in arrived] for column in sorted(columns)},
        }
    )
    items = pd.Series([event.item_id for event in arrived], dtype="str")
    times = pd.Series([event.received_at for event in arrived])
    for column in _item_columns(metrics):
        table[ITEM + column] = item_values(column, items, times)
    return table


def _item_columns(metrics: Sequence[Mapping[str, str]]) -> list[str]:
    named = {summed(metric) or "" for metric in metrics}
    return sorted(column.removeprefix(ITEM) for column in named if column.startswith(ITEM))


def _item_values(
    tx: Connection, account: Account, attribution: MetricAttribution
) -> Callable[[str, pd.Series, pd.Series], pd.Series]:
    """A function of column, item ids and times (epoch seconds): what was known of each item at that time, else NaN."""
    dataset = datasets.of_group(tx, account, attribution.dataset_group_arn).get("ITEMS")
    if dataset is None or not _item_columns(attribution.metrics):
        return lambda column, items, times: pd.Series(np.nan, items.index)
    ended = {}
    for job in records.every(tx, account, DatasetImportJob, dataset.dataset_arn):
        part = f"{datasets.folder_name(dataset)}/{job.job_name}"
        ended[part] = job.last_updated_date_time.timestamp()
    imported = [
        (ended.get(part, 0.0), tables.read([account.store.files.path(part)]).set_index("ITEM_ID"))
        for part in dataset.parts
    ]
    put = pd.DataFrame(
        [{**row, "ITEM_ID": id, "received_at": at} for id, (row, at) in events.put_records(tx, dataset.dataset_arn)]
    )

    def values(column: str, items: pd.Series, times: pd.Series) -> pd.Series:
        found = pd.Series(np.nan, items.index)
        known = [(pd.Series(at, table.index), _column(table, column)) for at, table in imported]
        if len(put):
            last = put.set_index("ITEM_ID")
            known.append((last["received_at"], _column(last, column)))
        for since, value in known:
            there = items.map(since) <= times
            found[there] = pd.to_numeric(items[there].map(value)).astype(np.float64)
        return found

    return values


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    return table[name] if name in table else pd.Series(None, table.index, dtype="object")


def _origins(tx: Connection, account: Account, dataset_group_arn: str) -> Callable[[str | None], str | None]:
    """A function: recommendationId -> ARN of the group's campaign or recommender that it came from, None if unknown."""
    arns = [one.recommender_arn for one in records.every(tx, account, Recommender, dataset_group_arn)]
    for solution in records.every(tx, account, Solution, dataset_group_arn):
        arns += [one.campaign_arn for one in records.every(tx, account, Campaign, solution.solution_arn)]
    known = {origin(arn): arn for arn in arns}
    return lambda recommendation_id: known.get(recommendation_id[-6:]) if isinstance(recommendation_id, str) else None


def _bounded(account: Account, table: pd.DataFrame, sources: list[str]) -> list[str]:
    """The sources there are now.  Those beyond the quota lose their name in the table."""
    new = [source for source in table["SOURCE"].unique() if source != UNNAMED and source not in sources]
    sources = [*sources, *new][: int(min(account.quotas["attribution_sources"], 10**6))]
    table.loc[~table["SOURCE"].isin(sources), "SOURCE"] = UNNAMED
    return sources


def _together(lots: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Counts of several lots of events as one table."""
    whole = pd.concat(lots, ignore_index=True)
    keys = [column for column in COLUMNS if column != "VALUE"]
    return whole.groupby(keys, sort=False)["VALUE"].sum().reset_index().sort_values("TIMESTAMP", kind="stable")[COLUMNS]


def _place(attribution: MetricAttribution, file: str) -> str:
    return f"metric-attributions/{attribution.name}/{file}"


def _set_aside(account: Account, attribution: MetricAttribution, file: str, counted: pd.DataFrame) -> None:
    with account.store.files.writing(_place(attribution, file)) as aside:
        counted.to_csv(aside, index=False)


def _to_deliver(
    attribution: MetricAttribution, file: str, method: str, stamp: int, *, published: bool
) -> MetricAttribution:
    """With one more file to deliver, whose name no other has.  Its stamp is in epoch seconds."""
    stamp = max(stamp, attribution.stamp + 1)
    entry = {"file": file, "name": f"AggregatedAttributionMetrics - {method} - {stamp}.csv", "published": published}
    return replace(attribution, stamp=stamp, outbox=(*attribution.outbox, entry))


def _bring(account: Account, attribution: MetricAttribution, entry: Mapping[str, Any]) -> None:
    """Keep a file of counts, and let the destination have it where that is asked for."""
    counted = account.store.files.path(_place(attribution, entry["file"]))
    with account.store.files.writing(_place(attribution, entry["name"])) as aside:
        shutil.copyfile(counted, aside)
    destination = attribution.metrics_output_config.get("s3DataDestination")
    if entry["published"] and destination is not None:
        kms_key_arn = destination.get("kmsKeyArn")
        with locations.writing(account, destination["path"], entry["name"], kms_key_arn) as aside:
            shutil.copyfile(counted, aside)


def _existing(account: Account, arn: str) -> MetricAttribution | None:
    try:
        return records.find(account, MetricAttribution, arn)
    except ResourceNotFoundException:
        return None
