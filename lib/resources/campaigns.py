"""Campaigns: solution versions that answer requests."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar, Self

from sqlalchemy import Connection

from lib.recipes.recipe import Recipe
from lib.recipes.use_cases import UseCase
from lib.resources import datasets, recipes, records
from lib.resources.account import Account
from lib.resources.errors import InvalidInputException, ResourceNotFoundException
from lib.resources.lifecycle import MOVING, Status
from lib.resources.solution_versions import SolutionVersion, newest_active

LATEST = "/$LATEST"


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignUpdate:
    """What a campaign is changing to; until this is ACTIVE the campaign answers as before."""

    solution_version_arn: str
    min_provisioned_tps: int
    creation_date_time: datetime
    last_updated_date_time: datetime
    campaign_config: dict[str, Any] | None = None
    status: Status = Status.CREATE_PENDING
    rests: datetime | None = None
    failure_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A solution version that answers requests."""

    KIND: ClassVar = "campaign"
    PARENT: ClassVar = "solution_arn"
    UPDATE: ClassVar = "latest_campaign_update"

    name: str
    campaign_arn: str
    solution_arn: str
    dataset_group_arn: str
    solution_version_arn: str
    creation_date_time: datetime
    last_updated_date_time: datetime
    min_provisioned_tps: int = 1
    campaign_config: dict[str, Any] | None = None
    status: Status = Status.CREATE_PENDING
    rests: datetime | None = None
    failure_reason: str | None = None
    latest_campaign_update: CampaignUpdate | None = None

    @property
    def solutions(self) -> set[str]:
        """That of the version that answers, and of the one that an update under way moves to."""
        update = self.latest_campaign_update
        moved = self if update is None or update.rests is None else self.updated(update)
        return {self.solution_arn, moved.solution_arn}

    def updated(self, update: CampaignUpdate) -> Self:
        """With an update in force."""
        return replace(
            self,
            solution_version_arn=update.solution_version_arn,
            solution_arn=update.solution_version_arn.rpartition("/")[0],
            min_provisioned_tps=update.min_provisioned_tps,
            campaign_config=update.campaign_config,
        )


def create_campaign(
    account: Account,
    *,
    name: str,
    solution_version_arn: str,
    min_provisioned_tps: int = 1,
    campaign_config: dict[str, Any] | None = None,
    tags: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """Deploy a version, or with ``$LATEST`` the newest ACTIVE one of a solution."""
    now = account.now()
    arn = account.arn(Campaign.KIND, name)
    with account.store.transaction() as tx:
        version = _deployable(tx, account, solution_version_arn)
        _check_config(tx, account, version, campaign_config or {}, solution_version_arn)
        siblings = [c for c in records.every(tx, account, Campaign) if c.dataset_group_arn == version.dataset_group_arn]
        new = Campaign(
            name=name,
            campaign_arn=arn,
            solution_arn=version.solution_arn,
            dataset_group_arn=version.dataset_group_arn,
            solution_version_arn=version.solution_version_arn,
            creation_date_time=now,
            last_updated_date_time=now,
            min_provisioned_tps=min_provisioned_tps,
            campaign_config=campaign_config,
            rests=now + account.settling,
        )
        records.add(tx, account, new, tags)
        records.limit(
            account,
            "campaigns_per_group",
            len(siblings),
            "Cannot create a campaign. More than {} resources in ACTIVE state. Please delete some and try again.",
        )
    return {"campaignArn": arn}


def describe_campaign(account: Account, *, campaign_arn: str) -> dict[str, Any]:
    """The campaign, the version it answers with, and its latest update."""
    return {"campaign": records.find(account, Campaign, campaign_arn)}


def list_campaigns(
    account: Account, *, solution_arn: str | None = None, next_token: str | None = None, max_results: int | None = None
) -> dict[str, Any]:
    """All campaigns, or those of a solution, oldest first; the ARN of a version stands for its solution."""
    if solution_arn is not None and solution_arn.count("/") == 2:
        solution_arn = solution_arn.rpartition("/")[0]
    return records.page(account, Campaign, "campaigns", solution_arn, next_token, max_results)


def update_campaign(
    account: Account,
    *,
    campaign_arn: str,
    solution_version_arn: str | None = None,
    min_provisioned_tps: int | None = None,
    campaign_config: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Change version, capacity or configuration; what is not given stays."""
    with account.store.transaction() as tx:
        campaign = records.get(tx, account, Campaign, campaign_arn)
        records.refuse_moving(campaign)
        asked = solution_version_arn or campaign.solution_version_arn
        version = _deployable(tx, account, asked)
        if version.dataset_group_arn != campaign.dataset_group_arn:
            raise InvalidInputException(
                f"{version.solution_version_arn} belongs to {version.dataset_group_arn}, the campaign to "
                f"{campaign.dataset_group_arn}: name a version of that group."
            )
        if campaign_config is not None or solution_version_arn is not None:
            config = campaign.campaign_config if campaign_config is None else campaign_config
            _check_config(tx, account, version, config or {}, asked)
        _begin_update(tx, account, campaign, version, min_provisioned_tps, campaign_config)
    return {"campaignArn": campaign_arn}


def delete_campaign(account: Account, *, campaign_arn: str) -> dict[str, Any]:
    """Delete a campaign; requests to it fail from now on."""
    with account.store.transaction() as tx:
        campaign = records.get(tx, account, Campaign, campaign_arn)
        records.refuse_moving(campaign)
        records.gone(tx, account, campaign)
    return {}


def sync(tx: Connection, account: Account, version: SolutionVersion) -> None:
    """Move every campaign that follows a solution's latest version to this one.

    One that is being created, or updated, comes to rest with this version and what else it was asked for.
    """
    for campaign in records.every(tx, account, Campaign):
        update = campaign.latest_campaign_update
        updating = update is not None and update.status in MOVING
        asked = campaign.updated(update) if updating else campaign
        follows = (asked.campaign_config or {}).get("syncWithLatestSolutionVersion")
        if not follows or asked.solution_arn != version.solution_arn:
            continue
        if updating:
            update = replace(update, solution_version_arn=version.solution_version_arn)
            records.save(tx, replace(campaign, latest_campaign_update=update))
        elif campaign.status in MOVING:
            records.save(tx, replace(campaign, solution_version_arn=version.solution_version_arn))
        else:
            _begin_update(tx, account, campaign, version, None, None)


def _begin_update(
    tx: Connection,
    account: Account,
    campaign: Campaign,
    version: SolutionVersion,
    min_provisioned_tps: int | None,
    campaign_config: dict[str, Any] | None,
) -> None:
    now = account.now()
    update = CampaignUpdate(
        solution_version_arn=version.solution_version_arn,
        min_provisioned_tps=min_provisioned_tps or campaign.min_provisioned_tps,
        creation_date_time=now,
        last_updated_date_time=now,
        campaign_config=campaign.campaign_config if campaign_config is None else campaign_config,
        rests=now + account.settling,
    )
    if campaign.status is Status.CREATE_FAILED:
        campaign = replace(campaign, status=Status.CREATE_PENDING, rests=update.rests, failure_reason=None)
    records.save(tx, replace(campaign, latest_campaign_update=update))


def _deployable(tx: Connection, account: Account, arn: str) -> SolutionVersion:
    """The version an ARN names.  Raises ResourceNotFoundException, or InvalidInputException where it cannot serve."""
    if arn.endswith(LATEST):
        version = newest_active(tx, account, arn.removesuffix(LATEST))
        if version is None:
            raise ResourceNotFoundException(
                f"{arn.removesuffix(LATEST)} has no ACTIVE solution version: train one first."
            )
    else:
        version = records.get(tx, account, SolutionVersion, arn)
        records.require_active(version)
    recipe = recipes.of_arn(version.recipe_arn)
    if recipe.recipe_type == "USER_SEGMENTATION":
        raise InvalidInputException(f"{recipe.name} answers batch segment jobs alone: it cannot be deployed.")
    return version


def _check_config(
    tx: Connection, account: Account, version: SolutionVersion, config: Mapping[str, Any], asked: str
) -> None:
    recipe = recipes.of_arn(version.recipe_arn)
    if config.get("syncWithLatestSolutionVersion") and not asked.endswith(LATEST):
        raise InvalidInputException(
            f"syncWithLatestSolutionVersion needs solutionVersionArn {version.solution_arn}{LATEST}, found {asked}."
        )
    check_exploration(recipe, config.get("itemExplorationConfig") or {})
    if config.get("rankingInfluence") and recipe.name != "aws-semantic-similarity":
        raise InvalidInputException(f"rankingInfluence goes with aws-semantic-similarity, not with {recipe.name}.")
    if config.get("enableMetadataWithRecommendations"):
        items = datasets.schemas(tx, account, version.dataset_group_arn).get("ITEMS")
        if items is None or not items.metadata:
            raise InvalidInputException(
                "enableMetadataWithRecommendations needs an ITEMS dataset with at least one metadata column."
            )


def check_exploration(recipe: Recipe | UseCase, config: Mapping[str, str]) -> None:
    """Raise InvalidInputException for an ``itemExplorationConfig`` that the recipe has not, or out of its range."""
    if config and (not recipe.explores or recipe.name == recipes.EXPLORES_BY_ITSELF):
        does = "explores by itself" if recipe.explores else "does not explore"
        raise InvalidInputException(f"itemExplorationConfig: {recipe.name} {does}: leave it out.")
    for name, low, high in (("explorationWeight", 0.0, 1.0), ("explorationItemAgeCutOff", 1.0, float("inf"))):
        if name not in config:
            continue
        try:
            value = float(config[name])
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            expected = f"a number from {low:g}" + (f" to {high:g}" if high < float("inf") else " on, in days")
            raise InvalidInputException(f"itemExplorationConfig.{name} is {config[name]!r}, expected {expected}.")
    if unknown := set(config) - {"explorationWeight", "explorationItemAgeCutOff"}:
        raise InvalidInputException(f"itemExplorationConfig has no parameter {', '.join(sorted(unknown))}.")


OPERATIONS = {
    operation.__name__: operation
    for operation in (create_campaign, describe_campaign, list_campaigns, update_campaign, delete_campaign)
}
