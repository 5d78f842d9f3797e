"""Metric attributions: what is to be counted of what recommendations brought about."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Connection

from lib.resources import datasets, locations, records
from lib.resources.account import Account
from lib.resources.dataset_groups import DatasetGroup
from lib.resources.errors import (
    InvalidInputException,
    LimitExceededException,
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
)
from lib.resources.lifecycle import UNFINISHED, Status
from lib.store import events, jobs

SUM = re.compile(r"SUM\(\s*(Items|Interactions)\.([A-Za-z_][A-Za-z\d_]*)\s*\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricAttribution:
    """One a group.  metrics: ``{eventType, metricName, expression}``.

    since: epoch seconds from which on events count.  counted: sequence number of the last event that was counted.
    sources: names that recommendations were attributed to, in the order they came up.  outbox: counts that have not
    been brought to where they go, ``{file, name, published}``.  stamp: of the last file's name.
    """

    KIND: ClassVar = "metric-attribution"
    PARENT: ClassVar = "dataset_group_arn"

    name: str
    metric_attribution_arn: str
    dataset_group_arn: str
    metrics: list[dict[str, str]]
    metrics_output_config: dict[str, Any]
    creation_date_time: datetime
    last_updated_date_time: datetime
    status: Status = Status.CREATE_PENDING
    rests: datetime | None = None
    failure_reason: str | None = None
    since: int = 0
    counted: int = 0
    sources: tuple[str, ...] = ()
    outbox: tuple[dict[str, Any], ...] = ()
    stamp: int = 0


def create_metric_attribution(
    account: Account,
    *,
    name: str,
    dataset_group_arn: str,
    metrics: list[dict[str, str]],
    metrics_output_config: dict[str, Any],
) -> dict[str, Any]:
    """Keep what is to be counted, after checking it against the group's schemas."""
    now = account.now()
    arn = account.arn(MetricAttribution.KIND, name)
    _check_output(account, metrics_output_config)
    with account.store.transaction() as tx:
        records.require_active(records.get(tx, account, DatasetGroup, dataset_group_arn))
        for existing, _ in records.children(tx, dataset_group_arn, MetricAttribution.KIND):
            raise ResourceAlreadyExistsException(
                f"Another resource with Arn {existing} already exists. A dataset group has one metric attribution."
            )
        _check(tx, account, dataset_group_arn, metrics)
        new = MetricAttribution(
            name=name,
            metric_attribution_arn=arn,
            dataset_group_arn=dataset_group_arn,
            metrics=metrics,
            metrics_output_config=metrics_output_config,
            creation_date_time=now,
            last_updated_date_time=now,
        )
        records.add(tx, account, new)
        jobs.add(tx, arn, MetricAttribution.KIND, "import", arn)
    account.wake()
    return {"metricAttributionArn": arn}


def describe_metric_attribution(account: Account, *, metric_attribution_arn: str) -> dict[str, Any]:
    """The attribution and its status."""
    found = records.find(account, MetricAttribution, metric_attribution_arn)
    if found.status in UNFINISHED:
        account.wake()
    return {"metricAttribution": found}


def list_metric_attributions(
    account: Account,
    *,
    dataset_group_arn: str | None = None,
    next_token: str | None = None,
    max_results: int | None = None,
) -> dict[str, Any]:
    """All attributions, or that of a group."""
    return records.page(account, MetricAttribution, "metricAttributions", dataset_group_arn, next_token, max_results)


def list_metric_attribution_metrics(
    account: Account,
    *,
    metric_attribution_arn: str | None = None,
    next_token: str | None = None,
    max_results: int | None = None,
) -> dict[str, Any]:
    """The metrics of an attribution.  This list's model knows no ResourceNotFoundException."""
    if metric_attribution_arn is None:
        raise InvalidInputException("metricAttributionArn is missing.")
    listed = f"metrics|{metric_attribution_arn}"
    try:
        metrics = records.find(account, MetricAttribution, metric_attribution_arn).metrics
    except ResourceNotFoundException as error:
        raise InvalidInputException(str(error)) from error
    start = records.token_position(listed, next_token) if next_token else 0
    end = start + (max_results or records.PAGE)
    return {"metrics": metrics[start:end], "nextToken": records.token(listed, end) if end < len(metrics) else None}


def update_metric_attribution(
    account: Account,
    *,
    metric_attribution_arn: str | None = None,
    add_metrics: list[dict[str, str]] | None = None,
    remove_metrics: list[str] | None = None,
    metrics_output_config: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Add metrics, remove some by name, or change where they go; what has arrived is counted as it was before."""
    from lib.resources.attribution import collect

    if metric_attribution_arn is None:
        raise InvalidInputException("metricAttributionArn is missing.")
    _check_output(account, metrics_output_config or {})
    collect(account, metric_attribution_arn, account.now().timestamp())
    with account.store.transaction() as tx:
        found = records.get(tx, account, MetricAttribution, metric_attribution_arn)
        records.refuse_moving(found)
        names = {metric["metricName"] for metric in found.metrics}
        if unknown := set(remove_metrics or ()) - names:
            raise ResourceNotFoundException(f"{metric_attribution_arn} has no metric {', '.join(sorted(unknown))}.")
        metrics = [metric for metric in found.metrics if metric["metricName"] not in (remove_metrics or ())]
        metrics += add_metrics or []
        output = metrics_output_config or found.metrics_output_config
        _check(tx, account, found.dataset_group_arn, metrics)
        now = account.now()
        changed = replace(found, metrics=metrics, metrics_output_config=output, last_updated_date_time=now)
        records.save(tx, changed)
    return {"metricAttributionArn": metric_attribution_arn}


def delete_metric_attribution(account: Account, *, metric_attribution_arn: str) -> dict[str, Any]:
    """Delete an attribution; what has arrived is counted before, and what was written stays."""
    from lib.resources.attribution import collect, deliver

    collect(account, metric_attribution_arn, account.now().timestamp())
    with suppress(InvalidInputException):  # a destination that is no more: the store keeps the counts
        deliver(account, metric_attribution_arn, wait=True)
    with account.store.transaction() as tx:
        found = records.get(tx, account, MetricAttribution, metric_attribution_arn)
        records.refuse_moving(found)
        jobs.forget(tx, [metric_attribution_arn])
        records.gone(tx, account, found)
    return {}


def run(account: Account, arn: str, tell: Callable[..., None]) -> Callable[[Connection], None]:
    """What is returned begins to count: the events that arrive from then on."""

    def publish(tx: Connection) -> None:
        found = records.get(tx, account, MetricAttribution, arn)
        dataset = datasets.of_group(tx, account, found.dataset_group_arn)["INTERACTIONS"]
        last = events.last_arrival(tx, dataset.dataset_arn)
        since = int(account.now().timestamp())
        records.save(tx, replace(found, since=since, counted=last[0] if last else 0))

    return publish


def _check(tx: Connection, account: Account, dataset_group_arn: str, metrics: list[dict[str, str]]) -> None:
    schemas = datasets.schemas(tx, account, dataset_group_arn)
    if "INTERACTIONS" not in schemas or "EVENT_TYPE" not in schemas["INTERACTIONS"]:
        raise InvalidInputException("A metric attribution needs an INTERACTIONS schema with EVENT_TYPE.")
    most = account.quotas["metrics_per_attribution"]
    if len(metrics) > most:
        raise LimitExceededException(f"{len(metrics)} metrics, a metric attribution may have {most:g}.")
    names = [metric["metricName"] for metric in metrics]
    if len(set(names)) < len(names):
        raise InvalidInputException("metricName must be unique within a metric attribution.")
    for metric in metrics:
        _check_expression(metric["expression"], schemas)


def _check_output(account: Account, output: dict[str, Any]) -> None:
    """Outside of transactions: S3 may be asked."""
    if "s3DataDestination" in output:
        locations.check(account, output["s3DataDestination"]["path"])


def _check_expression(expression: str, schemas: dict[str, Any]) -> None:
    if re.fullmatch(r"SAMPLECOUNT\(\s*\)", expression, re.IGNORECASE):
        return
    found = SUM.fullmatch(expression)
    if not found:
        raise InvalidInputException(
            f"expression is {expression!r}, expected SAMPLECOUNT(), SUM(Items.<COLUMN>) or SUM(Interactions.<COLUMN>)."
        )
    schema = schemas.get(found[1].upper())
    if schema is None or found[2] not in schema or not schema[found[2]].numeric:
        raise InvalidInputException(f"{expression}: {found[1]} has no numeric column {found[2]}.")


OPERATIONS = {
    operation.__name__: operation
    for operation in (
        create_metric_attribution,
        describe_metric_attribution,
        list_metric_attributions,
        list_metric_attribution_metrics,
        update_metric_attribution,
        delete_metric_attribution,
    )
}
