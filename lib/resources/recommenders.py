"""Recommenders: a use case of a domain dataset group, trained and served by itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar, Self

from sqlalchemy import Connection

from lib.recipes.recipe import Progress, Recipe
from lib.recipes.use_cases import UseCase
from lib.resources import datasets, recipes, records, solution_config
from lib.resources.account import Account
from lib.resources.campaigns import Campaign, check_exploration
from lib.resources.dataset_groups import DatasetGroup
from lib.resources.errors import InvalidInputException, ResourceInUseException
from lib.resources.lifecycle import UNFINISHED, Status
from lib.resources.solution_versions import SolutionVersion, start_afresh_if_changed, training_data
from lib.store import jobs

UPDATE, RETRAINING = "recommender-update", "recommender-retraining"  # kinds of jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommenderUpdate:
    """What a recommender is changing to.  training: number of the training that this needs, None for none."""

    recommender_config: dict[str, Any]
    creation_date_time: datetime
    last_updated_date_time: datetime
    status: Status = Status.CREATE_PENDING
    rests: datetime | None = None
    failure_reason: str | None = None
    training: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """A training that the service began by itself."""

    training: int
    creation_date_time: datetime
    last_updated_date_time: datetime
    status: Status = Status.CREATE_PENDING
    failure_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommender:
    """A use case in service.

    trained: number of the training whose model answers, 0 for none yet.  trainings: how many were begun.  columns:
    those of the datasets when training columns were last chosen; later ones are not trained on.
    """

    KIND: ClassVar = "recommender"
    PARENT: ClassVar = "dataset_group_arn"
    UPDATE: ClassVar = "latest_recommender_update"

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
    latest_recommender_update: RecommenderUpdate | None = None
    latest_retraining: Retraining | None = None
    model_metrics: dict[str, float] | None = None
    trained: int = 0
    trainings: int = 1
    columns: dict[str, list[str]] | None = None

    def updated(self, update: RecommenderUpdate) -> Self:
        """With an update in force."""
        return replace(self, recommender_config=update.recommender_config)


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
        _check_use_case(group, recipes.use_case(recipe_arn))
        config = _checked_config(tx, account, dataset_group_arn, recipe_arn, recommender_config or {})
        schemas = datasets.schemas(tx, account, dataset_group_arn)
        existing = records.count(tx, Recommender, dataset_group_arn)
        new = Recommender(
            name=name,
            recommender_arn=arn,
            dataset_group_arn=dataset_group_arn,
            recipe_arn=recipe_arn,
            recommender_config=config,
            columns={kind: list(schema.columns) for kind, schema in schemas.items()},
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
    """Change the configuration of an ACTIVE recommender; other training columns mean a new training."""
    now = account.now()
    with account.store.transaction() as tx:
        found = records.get(tx, account, Recommender, recommender_arn)
        _require(found, Status.ACTIVE)
        records.refuse_moving(found)
        config = _checked_config(tx, account, found.dataset_group_arn, found.recipe_arn, recommender_config)
        retrains = config.get("trainingDataConfig") != found.recommender_config.get("trainingDataConfig")
        found = replace(found, trainings=found.trainings + retrains)
        update = RecommenderUpdate(
            recommender_config=config,
            creation_date_time=now,
            last_updated_date_time=now,
            rests=None if retrains else now + account.settling,
            training=found.trainings if retrains else None,
        )
        records.save(tx, replace(found, latest_recommender_update=update))
        if retrains:
            jobs.add(tx, recommender_arn, UPDATE, "training", found.dataset_group_arn)
    account.wake()
    return {"recommenderArn": recommender_arn}


def start_recommender(account: Account, *, recommender_arn: str) -> dict[str, Any]:
    """Let an INACTIVE recommender answer again."""
    return _move(account, recommender_arn, Status.INACTIVE, Status.START_PENDING)


def stop_recommender(account: Account, *, recommender_arn: str) -> dict[str, Any]:
    """Let an ACTIVE recommender rest."""
    return _move(account, recommender_arn, Status.ACTIVE, Status.STOP_PENDING)


def delete_recommender(account: Account, *, recommender_arn: str) -> dict[str, Any]:
    """Delete a recommender and its models."""
    with account.store.transaction() as tx:
        found = records.get(tx, account, Recommender, recommender_arn)
        records.refuse_moving(found)
        if found.latest_retraining is not None and found.latest_retraining.status in UNFINISHED:
            raise ResourceInUseException(f"{recommender_arn} is being trained again: wait until that has ended.")
        jobs.forget(tx, [recommender_arn])
        records.gone(tx, account, replace(found, model_metrics=None))
    account.store.files.remove(f"recommenders/{found.name}")
    return {}


def retrain(tx: Connection, account: Account, found: Recommender) -> None:
    """Begin to train a recommender again on the data there is now."""
    now = account.now()
    again = Retraining(training=found.trainings + 1, creation_date_time=now, last_updated_date_time=now)
    records.save(tx, replace(found, trainings=again.training, latest_retraining=again))
    jobs.add(tx, found.recommender_arn, RETRAINING, "training", found.dataset_group_arn)


def as_campaign(found: Recommender) -> Campaign:
    """What answers a recommender's requests."""
    update = found.latest_recommender_update
    return Campaign(
        name=found.name,
        campaign_arn=found.recommender_arn,
        solution_arn=found.recommender_arn,
        solution_version_arn=f"{found.recommender_arn}/{found.trained}",
        dataset_group_arn=found.dataset_group_arn,
        creation_date_time=found.creation_date_time,
        last_updated_date_time=found.last_updated_date_time,
        min_provisioned_tps=found.recommender_config["minRecommendationRequestsPerSecond"],
        campaign_config=found.recommender_config,
        status=found.status,
        rests=found.rests or (update and update.rests),
    )


def trained(found: Recommender) -> tuple[Recipe, str]:
    """The recipe of a recommender, and the name of the files of the training that answers."""
    return recipes.of_use_case(recipes.use_case(found.recipe_arn)), _files(found, found.trained)


def run(account: Account, arn: str, tell: Callable[[Progress], None]) -> Callable[[Connection], None]:
    """Train a new recommender; what is returned lets its model answer.

    Raises ValueError or InvalidInputException with what is wrong with the data, and what would do.
    """
    found = records.find(account, Recommender, arn)
    return _train(account, found, found.trainings, {}, tell)


def run_update(account: Account, arn: str, tell: Callable[[Progress], None]) -> Callable[[Connection], None]:
    """``run`` with the columns of the latest update, whose configuration comes into force with the model."""
    found = records.find(account, Recommender, arn)
    update = found.latest_recommender_update
    with account.store.read() as tx:
        schemas = datasets.schemas(tx, account, found.dataset_group_arn)
    columns = {kind: list(schema.columns) for kind, schema in schemas.items()}
    changes = {"recommender_config": update.recommender_config, "columns": columns}
    return _train(account, found, update.training, changes, tell)


def run_retraining(account: Account, arn: str, tell: Callable[[Progress], None]) -> Callable[[Connection], None]:
    """``run`` on the data there is now."""
    found = records.find(account, Recommender, arn)
    return _train(account, found, found.latest_retraining.training, {}, tell)


def _train(
    account: Account,
    found: Recommender,
    number: int,
    changes: Mapping[str, Any],
    tell: Callable[[Progress], None],
) -> Callable[[Connection], None]:
    """Train number ``number`` of a recommender with ``changes`` to its fields, which are published with the model."""
    from lib import training

    recipe = recipes.of_use_case(recipes.use_case(found.recipe_arn))
    data = training_data(account, as_version(replace(found, **changes)))
    _sweep(account, found, kept=(number, found.trained))
    with account.store.files.working(_files(found, number)) as folder:
        start_afresh_if_changed(folder, data)
        metrics = training.train(recipe, data, recipe.values({}), seed=account.seed, folder=folder, progress=tell)

    def publish(tx: Connection) -> None:
        current = records.get(tx, account, Recommender, found.recommender_arn)
        changed = replace(current, **changes, last_updated_date_time=account.now())
        records.save(tx, replace(changed, model_metrics=metrics, trained=number))

    return publish


def as_version(found: Recommender) -> SolutionVersion:
    """The solution version that a training of a recommender amounts to."""
    case = recipes.use_case(found.recipe_arn)
    columns = found.recommender_config.get("trainingDataConfig")
    return SolutionVersion(
        name=found.name,
        solution_version_arn=found.recommender_arn,
        solution_arn=found.recommender_arn,
        dataset_group_arn=found.dataset_group_arn,
        creation_date_time=found.creation_date_time,
        last_updated_date_time=found.last_updated_date_time,
        recipe_arn=found.recipe_arn,
        event_type=case.event_type,
        solution_config={"trainingDataConfig": columns} if columns else None,
        columns=found.columns,
    )


def _files(found: Recommender, number: int) -> str:
    return f"recommenders/{found.name}/{number}"


def _sweep(account: Account, found: Recommender, kept: tuple[int, ...]) -> None:
    """Remove models that no longer answer; the one that does stays until the training after the next."""
    for name in account.store.files.names(f"recommenders/{found.name}"):
        if name not in [_files(found, number) for number in kept]:
            account.store.files.remove(name)


def _check_use_case(group: DatasetGroup, case: UseCase) -> None:
    if group.domain is None:
        raise InvalidInputException("Please use a domains-specific Dataset Group to create the Recommender")
    if case.domain != group.domain:
        raise InvalidInputException(f"{case.name} is no use case of {group.domain}, the domain of the dataset group.")


def _checked_config(
    tx: Connection, account: Account, dataset_group_arn: str, recipe_arn: str, config: dict[str, Any]
) -> dict[str, Any]:
    """The whole configuration.  Raises InvalidInputException where the group's datasets or the use case forbid it."""
    case = recipes.use_case(recipe_arn)
    schemas = datasets.schemas(tx, account, dataset_group_arn)
    missing = [kind for kind in ("INTERACTIONS", *(["ITEMS"] if case.items else [])) if kind not in schemas]
    if missing:
        raise InvalidInputException(f"{case.name} needs a dataset of {' and '.join(missing)}: create it first.")
    check_exploration(case, config.get("itemExplorationConfig") or {})
    if config.get("enableMetadataWithRecommendations") and ("ITEMS" not in schemas or not schemas["ITEMS"].metadata):
        raise InvalidInputException(
            "enableMetadataWithRecommendations needs an ITEMS dataset with at least one metadata column."
        )
    solution_config.check_columns(config, schemas)
    return {"minRecommendationRequestsPerSecond": 1, **config}


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
