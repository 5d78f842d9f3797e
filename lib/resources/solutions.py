"""Solutions: a recipe and how it is to be trained on a dataset group."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar, Self

from lib.data.schema import Schema
from lib.resources import datasets, recipes, records
from lib.resources import solution_config as solution_configs
from lib.resources.account import Account
from lib.resources.campaigns import Campaign
from lib.resources.dataset_groups import DatasetGroup
from lib.resources.errors import InvalidInputException, ResourceInUseException
from lib.resources.lifecycle import UNFINISHED, Status
from lib.resources.solution_versions import SolutionVersion, latest_version
from lib.store import jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class SolutionUpdate:
    """A change of a solution's automatic training, incremental updates or event weights."""

    creation_date_time: datetime
    last_updated_date_time: datetime
    status: Status = Status.CREATE_PENDING
    rests: datetime | None = None
    failure_reason: str | None = None
    perform_auto_training: bool | None = None
    perform_incremental_update: bool | None = None
    solution_update_config: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """A configured recipe.  columns: those of the datasets when it was made; later ones are not trained on."""

    KIND: ClassVar = "solution"
    PARENT: ClassVar = "dataset_group_arn"
    UPDATE: ClassVar = "latest_solution_update"

    name: str
    solution_arn: str
    dataset_group_arn: str
    creation_date_time: datetime
    last_updated_date_time: datetime
    status: Status = Status.CREATE_PENDING
    rests: datetime | None = None
    recipe_arn: str | None = None
    perform_hpo: bool = False
    perform_auto_ml: bool = False
    perform_auto_training: bool = True
    perform_incremental_update: bool | None = None
    event_type: str | None = None
    solution_config: dict[str, Any] | None = None
    auto_ml_result: dict[str, str] | None = None
    latest_solution_version: SolutionVersion | None = None
    latest_solution_update: SolutionUpdate | None = None
    failure_reason: str | None = None
    columns: dict[str, list[str]] | None = None

    def updated(self, update: SolutionUpdate) -> Self:
        """With an update in force."""
        changes = {
            name: getattr(update, name)
            for name in ("perform_auto_training", "perform_incremental_update")
            if getattr(update, name) is not None
        }
        config = {**(self.solution_config or {}), **(update.solution_update_config or {})}
        return replace(self, **changes, solution_config=config or None)


def create_solution(
    account: Account,
    *,
    name: str,
    dataset_group_arn: str,
    perform_hpo: bool = False,
    perform_auto_ml: bool = False,
    perform_auto_training: bool = True,
    perform_incremental_update: bool | None = None,
    recipe_arn: str | None = None,
    event_type: str | None = None,
    solution_config: dict[str, Any] | None = None,
    tags: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """Keep a configuration after checking every member of it."""
    if (recipe_arn is None) != perform_auto_ml:
        raise InvalidInputException("Give recipeArn, or set performAutoML to true and leave recipeArn out.")
    config = None if solution_config is None else solution_configs.normal(solution_config)
    now = account.now()
    arn = account.arn(Solution.KIND, name)
    with account.store.transaction() as tx:
        records.require_active(records.get(tx, account, DatasetGroup, dataset_group_arn))
        schemas = datasets.schemas(tx, account, dataset_group_arn)
        existing = records.count(tx, Solution, dataset_group_arn)
        new = Solution(
            name=name,
            solution_arn=arn,
            dataset_group_arn=dataset_group_arn,
            creation_date_time=now,
            last_updated_date_time=now,
            rests=now + account.settling,
            recipe_arn=recipe_arn,
            perform_hpo=perform_hpo or perform_auto_ml,
            perform_auto_ml=perform_auto_ml,
            perform_auto_training=perform_auto_training,
            perform_incremental_update=perform_incremental_update,
            event_type=event_type,
            solution_config=config,
            columns={kind: list(schema.columns) for kind, schema in schemas.items()},
        )
        _check(new, schemas)
        records.add(tx, account, new, tags)
        records.limit(account, "solutions_per_group", existing, "More than {} resources in ACTIVE state")
    return {"solutionArn": arn}


def describe_solution(account: Account, *, solution_arn: str) -> dict[str, Any]:
    """The solution, its latest version and its latest update."""
    with account.store.read() as tx:
        solution = records.get(tx, account, Solution, solution_arn)
        return {"solution": replace(solution, latest_solution_version=latest_version(tx, account, solution_arn))}


def list_solutions(
    account: Account,
    *,
    dataset_group_arn: str | None = None,
    next_token: str | None = None,
    max_results: int | None = None,
) -> dict[str, Any]:
    """All solutions, or those of a group, oldest first."""
    return records.page(account, Solution, "solutions", dataset_group_arn, next_token, max_results)


def update_solution(
    account: Account,
    *,
    solution_arn: str,
    perform_auto_training: bool | None = None,
    perform_incremental_update: bool | None = None,
    solution_update_config: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Change automatic training, incremental updates or event weights; nothing else of a solution can change."""
    now = account.now()
    with account.store.transaction() as tx:
        solution = records.get(tx, account, Solution, solution_arn)
        records.require_active(solution)
        update = SolutionUpdate(
            creation_date_time=now,
            last_updated_date_time=now,
            rests=now + account.settling,
            perform_auto_training=perform_auto_training,
            perform_incremental_update=perform_incremental_update,
            solution_update_config=solution_update_config,
        )
        _check(solution.updated(update), datasets.schemas(tx, account, solution.dataset_group_arn))
        records.save(tx, replace(solution, latest_solution_update=update))
    return {"solutionArn": solution_arn}


def delete_solution(account: Account, *, solution_arn: str) -> dict[str, Any]:
    """Delete a solution that no campaign uses, with all its versions."""
    with account.store.transaction() as tx:
        solution = records.get(tx, account, Solution, solution_arn)
        records.refuse_moving(solution)
        for campaign in records.every(tx, account, Campaign):
            if solution_arn in campaign.solutions:
                raise ResourceInUseException(f"{solution_arn} is used by {campaign.campaign_arn}: delete that first.")
        versions = records.every(tx, account, SolutionVersion, solution_arn)
        for version in versions:
            if version.status in UNFINISHED:
                raise ResourceInUseException(f"{version.solution_version_arn} is in state {version.status}.")
        for version in versions:
            records.gone(tx, account, version)
        jobs.forget(tx, [version.solution_version_arn for version in versions])
        records.gone(tx, account, solution)
    account.store.files.remove(f"solution-versions/{solution.name}")
    account.store.files.remove(f"studies/{solution.name}")
    return {}


def _check(solution: Solution, schemas: Mapping[str, Schema]) -> None:
    """Raise InvalidInputException where one of the recipes that it may be trained with does not go with the rest."""
    config, auto_ml = solution.solution_config or {}, solution.perform_auto_ml
    for recipe in solution_configs.auto_ml_recipes(config) if auto_ml else [recipes.of_arn(solution.recipe_arn)]:
        solution_configs.check(
            recipe,
            config,
            perform_hpo=solution.perform_hpo and not (auto_ml and solution_configs.has_nothing_to_tune(recipe, config)),
            event_type=solution.event_type,
            schemas=schemas,
        )
        if auto_ml:
            solution_configs.check_auto_ml(recipe, config)
        if solution.perform_incremental_update and recipe.name != "aws-semantic-similarity":
            raise InvalidInputException("performIncrementalUpdate goes with aws-semantic-similarity alone.")


OPERATIONS = {
    operation.__name__: operation
    for operation in (create_solution, describe_solution, list_solutions, update_solution, delete_solution)
}
