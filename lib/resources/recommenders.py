"""Recommenders: a use case of a domain dataset group, trained and served by itself.

This version checks and keeps them, and says in their failure reason that it cannot train them yet.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Connection

from lib.resources import records
from lib.resources.account import SERVICE_ARN, Account
from lib.resources.dataset_groups import DatasetGroup
from lib.resources.errors import InvalidInputException, ResourceInUseException, ResourceNotFoundException
from lib.resources.lifecycle import UNFINISHED, Status
from lib.store import jobs

PREFIXES = {"ECOMMERCE": "aws-ecomm-", "VIDEO_ON_DEMAND": "aws-vod-"}
USE_CASES = (
    "aws-ecomm-popular-items-by-views",
    "aws-ecomm-popular-items-by-purchases",
    "aws-ecomm-frequently-bought-together",
    "aws-ecomm-customers-who-viewed-x-also-viewed",
    "aws-ecomm-recommended-for-you",
    "aws-vod-because-you-watched-x",
    "aws-vod-more-like-x",
    "aws-vod-most-popular",
    "aws-vod-trending-now",
    "aws-vod-top-picks",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommender:
    """A use case in service."""

    KIND: ClassVar = "recommender"
    PARENT: ClassVar = "dataset_group_arn"

    name: str
    recommender_arn: str
    dataset_group_arn: str
    recipe_arn: str
    recommender_config: dict[str, Any]
    creation_date_time: datetime
    last_updated_date_time: datetime
    status: Status = Status.CREATE_PENDING
    rests: datetime | None = None
    failure_reason: str | None = None


def create_recommender(
    account: Account,
    *,
    name: str,
    dataset_group_arn: str,
    recipe_arn: str,
    recommender_config: dict[str, Any] | None = None,
    tags: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """Ask for a use case of the group's domain."""
    now = account.now()
    arn = account.arn(Recommender.KIND, name)
    with account.store.transaction() as tx:
        group = records.get(tx, account, DatasetGroup, dataset_group_arn)
        records.require_active(group)
        _check_use_case(group, recipe_arn)
        existing = records.count(tx, Recommender, dataset_group_arn)
        new = Recommender(
            name=name,
            recommender_arn=arn,
            dataset_group_arn=dataset_group_arn,
            recipe_arn=recipe_arn,
            recommender_config={"minRecommendationRequestsPerSecond": 1, **(recommender_config or {})},
            creation_date_time=now,
            last_updated_date_time=now,
        )
        records.add(tx, account, new, tags)
        records.limit(account, "recommenders_per_group", existing, "More than {} resources in ACTIVE state")
        jobs.add(tx, arn, Recommender.KIND, "training", dataset_group_arn)
    account.wake()
    return {"recommenderArn": arn}


def describe_recommender(account: Account, *, recommender_arn: str) -> dict[str, Any]:
    """The recommender and its status."""
    found = records.find(account, Recommender, recommender_arn)
    if found.status in UNFINISHED:
        account.wake()
    return {"recommender": found}


def list_recommenders(
    account: Account,
    *,
    dataset_group_arn: str | None = None,
    next_token: str | None = None,
    max_results: int | None = None,
) -> dict[str, Any]:
    """All recommenders, or those of a group, oldest first."""
    return records.page(account, Recommender, "recommenders", dataset_group_arn, next_token, max_results)


def update_recommender(account: Account, *, recommender_arn: str, recommender_config: dict[str, Any]) -> dict[str, Any]:
    """Change the configuration of an ACTIVE recommender."""
    with account.store.transaction() as tx:
        found = records.get(tx, account, Recommender, recommender_arn)
        _require(found, Status.ACTIVE)
        records.save(tx, replace(found, recommender_config=recommender_config, last_updated_date_time=account.now()))
    return {"recommenderArn": recommender_arn}


def start_recommender(account: Account, *, recommender_arn: str) -> dict[str, Any]:
    """Let an INACTIVE recommender answer again."""
    return _move(account, recommender_arn, Status.INACTIVE, Status.START_PENDING)


def stop_recommender(account: Account, *, recommender_arn: str) -> dict[str, Any]:
    """Let an ACTIVE recommender rest."""
    return _move(account, recommender_arn, Status.ACTIVE, Status.STOP_PENDING)


def delete_recommender(account: Account, *, recommender_arn: str) -> dict[str, Any]:
    """Delete a recommender."""
    with account.store.transaction() as tx:
        found = records.get(tx, account, Recommender, recommender_arn)
        records.refuse_moving(found)
        jobs.forget(tx, [recommender_arn])
        records.gone(tx, account, found)
    return {}


def run(account: Account, arn: str, tell: Callable[..., None]) -> Callable[[Connection], None]:
    """Raises InvalidInputException: use cases come with a later version."""
    raise InvalidInputException(
        "Recommenders are not available in this version: create a solution and a campaign with a custom recipe."
    )


def _check_use_case(group: DatasetGroup, recipe_arn: str) -> None:
    if group.domain is None:
        raise InvalidInputException("Please use a domains-specific Dataset Group to create the Recommender")
    name = recipe_arn.removeprefix(f"{SERVICE_ARN}recipe/")
    if name not in USE_CASES:
        raise ResourceNotFoundException(
            f"The given recipe does not exist: {recipe_arn}. The use cases are {', '.join(USE_CASES)}."
        )
    if not name.startswith(PREFIXES[group.domain]):
        raise InvalidInputException(f"{name} is no use case of {group.domain}, the domain of the dataset group.")


def _require(found: Recommender, status: Status) -> None:
    if found.status is not status:
        raise ResourceInUseException(f"{found.recommender_arn} is in state {found.status}, it should be {status}.")


def _move(account: Account, arn: str, start: Status, through: Status) -> dict[str, Any]:
    now = account.now()
    with account.store.transaction() as tx:
        found = records.get(tx, account, Recommender, arn)
        _require(found, start)
        moving = replace(found, status=through, last_updated_date_time=now, rests=now + account.settling)
        records.save(tx, moving)
    return {"recommenderArn": arn}


OPERATIONS = {
    operation.__name__: operation
    for operation in (
        create_recommender,
        describe_recommender,
        list_recommenders,
        update_recommender,
        start_recommender,
        stop_recommender,
        delete_recommender,
    )
}
