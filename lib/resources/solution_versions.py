"""Solution versions: trained models."""

import hashlib
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pandas as pd
from sqlalchemy import Connection

from lib.data.datasets import Datasets, check_event_types, check_minima, exclude_columns, select_events
from lib.recipes import RECIPES, objective
from lib.recipes.recipe import Progress, Recipe, Value
from lib.resources import datasets, recipes, records, solution_config
from lib.resources.account import Account
from lib.resources.errors import InvalidInputException, ResourceAlreadyExistsException, ResourceInUseException
from lib.resources.lifecycle import UNFINISHED, Status
from lib.store import jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class SolutionVersion:
    """A model, trained or in training.  metrics: what GetSolutionMetrics answers once it is ACTIVE."""

    KIND: ClassVar = "solution-version"
    PARENT: ClassVar = "solution_arn"

    name: str
    solution_version_arn: str
    solution_arn: str
    dataset_group_arn: str
    creation_date_time: datetime
    last_updated_date_time: datetime
    status: Status = Status.CREATE_PENDING
    rests: datetime | None = None
    perform_hpo: bool = False
    perform_auto_ml: bool = False
    perform_incremental_update: bool | None = None
    recipe_arn: str | None = None
    event_type: str | None = None
    solution_config: dict[str, Any] | None = None
    training_hours: float | None = None
    training_mode: str = "FULL"
    training_type: str = "MANUAL"
    tuned_hpo_params: dict[str, Any] | None = None
    failure_reason: str | None = None
    metrics: dict[str, float] | None = None
    columns: dict[str, list[str]] | None = None


def create_solution_version(
    account: Account,
    *,
    solution_arn: str,
    name: str | None = None,
    training_mode: str = "FULL",
    tags: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """Ask for a training; a job process carries it out."""
    from lib.resources.solutions import Solution

    if training_mode == "AUTOTRAIN":
        raise InvalidInputException("trainingMode AUTOTRAIN is set by automatic training; ask for FULL or UPDATE.")
    with account.store.transaction() as tx:
        solution = records.get(tx, account, Solution, solution_arn)
        if solution.status is not Status.ACTIVE:
            records.require_begun(solution)
        arn = add(tx, account, solution, training_mode=training_mode, name=name, tags=tags)
    account.wake()
    return {"solutionVersionArn": arn}


def add(
    tx: Connection,
    account: Account,
    solution: Any,
    *,
    training_mode: str,
    training_type: str = "MANUAL",
    name: str | None = None,
    tags: list[dict[str, str]] | None = None,
) -> str:
    """One more version of an ACTIVE solution, whose training waits; its ARN.

    Raises LimitExceededException where too many wait, ResourceAlreadyExistsException for a name that is taken,
    InvalidInputException for an UPDATE of nothing.
    """
    solution_arn, now = solution.solution_arn, account.now()
    existing = records.every(tx, account, SolutionVersion, solution_arn)
    if training_mode == "UPDATE":
        _check_update(solution_arn, newest_active(tx, account, solution_arn))
    if name is not None and any(version.name == name for version in existing):
        raise ResourceAlreadyExistsException(f"Another version of {solution_arn} is called {name!r}.")
    pending = sum(version.status in UNFINISHED for version in records.every(tx, account, SolutionVersion))
    records.limit(
        account, "pending_solution_versions", pending, "More than {} resources with PENDING or IN_PROGRESS status."
    )
    identifier = records.digest("version", solution_arn, records.next_number(tx, f"version {solution_arn}"))[:8]
    arn = f"{solution_arn}/{identifier}"
    new = SolutionVersion(
        name=name or f"{solution.name}/{identifier}",
        solution_version_arn=arn,
        solution_arn=solution_arn,
        dataset_group_arn=solution.dataset_group_arn,
        creation_date_time=now,
        last_updated_date_time=now,
        perform_hpo=solution.perform_hpo,
        perform_auto_ml=solution.perform_auto_ml,
        perform_incremental_update=solution.perform_incremental_update,
        recipe_arn=solution.recipe_arn,
        event_type=solution.event_type,
        solution_config=solution.solution_config,
        training_mode=training_mode,
        training_type=training_type,
        columns=solution.columns,
    )
    records.add(tx, account, new, tags)
    jobs.add(tx, arn, SolutionVersion.KIND, "training", solution.dataset_group_arn)
    return arn


def describe_solution_version(account: Account, *, solution_version_arn: str) -> dict[str, Any]:
    """The version, its status, and why its training failed if it did."""
    version = records.find(account, SolutionVersion, solution_version_arn)
    if version.status in UNFINISHED:
        account.wake()
    return {"solutionVersion": version}


def list_solution_versions(
    account: Account, *, solution_arn: str | None = None, next_token: str | None = None, max_results: int | None = None
) -> dict[str, Any]:
    """All versions, or those of a solution, oldest first.  Raises ResourceNotFoundException for an unknown solution."""
    from lib.resources.solutions import Solution

    if solution_arn is not None:
        records.find(account, Solution, solution_arn)
    return records.page(account, SolutionVersion, "solutionVersions", solution_arn, next_token, max_results)


def stop_solution_version_creation(account: Account, *, solution_version_arn: str) -> dict[str, Any]:
    """Stop a training: at once if it has not begun, else as soon as it reports its next step."""
    with account.store.transaction() as tx:
        version = records.get(tx, account, SolutionVersion, solution_version_arn)
        if version.status not in (Status.CREATE_PENDING, Status.CREATE_IN_PROGRESS):
            raise ResourceInUseException(
                f"{solution_version_arn} is in state {version.status}: only CREATE PENDING or CREATE IN_PROGRESS stops."
            )
        begun = version.status is Status.CREATE_IN_PROGRESS
        status = Status.CREATE_STOPPING if begun else Status.CREATE_STOPPED
        records.save(tx, replace(version, status=status, last_updated_date_time=account.now()))
        jobs.request_stop(tx, solution_version_arn)
    account.wake()
    return {}


def get_solution_metrics(account: Account, *, solution_version_arn: str) -> dict[str, Any]:
    """The offline metrics of an ACTIVE version."""
    version = records.find(account, SolutionVersion, solution_version_arn)
    if version.status is not Status.ACTIVE:
        raise ResourceInUseException(f"{solution_version_arn} is in state {version.status}: metrics need ACTIVE.")
    return {"solutionVersionArn": solution_version_arn, "metrics": version.metrics}


def latest_version(tx: Connection, account: Account, solution_arn: str) -> SolutionVersion | None:
    """The newest version of a solution, whatever its status."""
    versions = records.every(tx, account, SolutionVersion, solution_arn)
    return versions[-1] if versions else None


def newest_active(tx: Connection, account: Account, solution_arn: str) -> SolutionVersion | None:
    """The newest version of a solution that can serve."""
    versions = records.every(tx, account, SolutionVersion, solution_arn)
    return next((version for version in reversed(versions) if version.status is Status.ACTIVE), None)


def version_folder(account: Account, arn: str) -> Path:
    """Where a version's files lie: ``model/``, ``metrics.json``, ``evaluation.parquet``, ``training_log.jsonl``."""
    return account.store.files.path(version_files(arn))


def version_files(arn: str) -> str:
    """The name of a version's files in the store."""
    return "solution-versions/" + "/".join(arn.split("/")[-2:])


def study_folder(account: Account, arn: str) -> Path:
    """Where the tuning study of a version lies."""
    return account.store.files.path(_study_files(arn))


def _study_files(arn: str) -> str:
    return "studies/" + "/".join(arn.split("/")[-2:])


def run(account: Account, arn: str, tell: Callable[[Progress], None]) -> Callable[[Connection], None]:
    """Tune and train; what is returned makes the version ACTIVE.

    A training that was interrupted goes on with what the store has of it, as long as the data is the same.
    Raises ValueError or InvalidInputException with what is wrong with the data, and what would do.
    """
    version = records.find(account, SolutionVersion, arn)
    data = training_data(account, version)
    with account.store.files.working(version_files(arn)) as folder:
        start_afresh_if_changed(folder, data)
        previous = _previous(account, version)
        recipe, parameters, tuned = _kept(previous) if previous else _chosen(account, version, data, tell)
        recipe, metrics = _trained(account, version, previous, recipe, parameters, data, folder, tell)

    def publish(tx: Connection) -> None:
        from lib.resources import campaigns
        from lib.resources.solutions import Solution

        current = records.get(tx, account, SolutionVersion, arn)
        now = account.now()
        hours = (now - current.last_updated_date_time).total_seconds() / 3600
        trained = replace(
            current,
            recipe_arn=recipes.arn_of(recipe),
            metrics=metrics,
            tuned_hpo_params=tuned,
            training_hours=round(hours, 3),
        )
        records.save(tx, trained)
        if version.perform_auto_ml:
            solution = records.get(tx, account, Solution, version.solution_arn)
            records.save(tx, replace(solution, auto_ml_result={"bestRecipeArn": recipes.arn_of(recipe)}))
        campaigns.sync(tx, account, trained)

    return publish


def _trained(
    account: Account,
    version: SolutionVersion,
    previous: SolutionVersion | None,
    recipe: Recipe,
    parameters: Mapping[str, Value],
    data: Datasets,
    folder: Path,
    tell: Callable[[Progress], None],
) -> tuple[Recipe, dict[str, float]]:
    """The recipe as it is aimed at the objective, and the metrics of what it made in the folder."""
    from lib import training

    config = version.solution_config or {}
    recipe = _aimed(recipe, config)
    if previous is not None:
        return recipe, training.update(
            recipe,
            data,
            parameters,
            seed=account.seed,
            folder=folder,
            previous=version_folder(account, previous.solution_version_arn),
            progress=tell,
        )
    return recipe, training.train(
        recipe,
        data,
        parameters,
        seed=account.seed,
        folder=folder,
        progress=tell,
        **_aims(config),
    )


def training_data(account: Account, version: SolutionVersion) -> Datasets:
    """What a version is trained on: the interactions and columns its solution asks for.

    Raises ValueError or InvalidInputException where they are fewer than Personalize's minima.
    """
    loaded = datasets.load(account, version.dataset_group_arn, live_interactions=not _makes_segments(version))
    config = version.solution_config or {}
    interactions = chosen_events(loaded, version)
    recipe = RECIPES.get((version.recipe_arn or "").rpartition("/")[2])
    if recipe is None or not recipe.items_alone:
        if "INTERACTIONS" not in loaded.schemas:
            raise InvalidInputException(
                f"{version.dataset_group_arn} has no INTERACTIONS dataset: create one, import into it."
            )
        listed = [event["eventType"] for event in config.get("eventsConfig", {}).get("eventParametersList", [])]
        check_minima(
            interactions,
            ", ".join(listed) or version.event_type,
            config.get("eventValueThreshold"),
            minimum=int(account.quotas["minimum_interactions"]),
            minimum_users=int(account.quotas["minimum_users"]),
        )
    chosen = replace(loaded, interactions=interactions.reset_index(drop=True))
    chosen = exclude_columns(_as_known(chosen, version.columns or {}), config.get("trainingDataConfig"))
    check_event_types(chosen)
    if recipe is not None:
        solution_config.check_items(recipe, chosen.schemas.get("ITEMS"))
    return chosen


def _makes_segments(version: SolutionVersion) -> bool:
    """Whether its recipe trains on imported interactions alone, as those for segments do."""
    recipe = RECIPES.get((version.recipe_arn or "").rpartition("/")[2])
    return recipe is not None and recipe.recipe_type == "USER_SEGMENTATION"


def chosen_events(loaded: Datasets, version: SolutionVersion) -> pd.DataFrame:
    """The interactions that a version's solution asks for."""
    config = version.solution_config or {}
    threshold = config.get("eventValueThreshold")
    return select_events(
        loaded.interactions,
        version.event_type,
        None if threshold is None else float(threshold),
        config.get("eventsConfig"),
    )


def _as_known(loaded: Datasets, columns: Mapping[str, list[str]]) -> Datasets:
    """Without the columns that came after the solution."""
    later = {
        kind: [column for column in schema.columns if column not in columns.get(kind, schema.columns)]
        for kind, schema in loaded.schemas.items()
    }
    later = {kind: names for kind, names in later.items() if names}
    return exclude_columns(loaded, {"excludedDatasetColumns": later}) if later else loaded


def _previous(account: Account, version: SolutionVersion) -> SolutionVersion | None:
    """The version that an UPDATE goes on from, None for another training."""
    if version.training_mode != "UPDATE":
        return None
    with account.store.read() as tx:
        return newest_active(tx, account, version.solution_arn)


def _kept(previous: SolutionVersion) -> tuple[Recipe, dict[str, Value], dict[str, Any] | None]:
    """The recipe and parameters that a version was trained with, and what tuning had found of them."""
    recipe, tuned = recipes.of_arn(previous.recipe_arn), previous.tuned_hpo_params
    return recipe, solution_config.values(recipe, {**(previous.solution_config or {}), **(tuned or {})}), tuned


def _chosen(
    account: Account, version: SolutionVersion, data: Datasets, tell: Callable[[Progress], None]
) -> tuple[Recipe, dict[str, Value], dict[str, Any] | None]:
    """The recipe and parameters to train with, found by trying where the solution asks for that; what tuning found."""
    config = version.solution_config or {}
    recipe = (
        _best_recipe(account, version, data, tell) if version.perform_auto_ml else recipes.of_arn(version.recipe_arn)
    )
    parameters = solution_config.values(recipe, config)
    if not version.perform_hpo or solution_config.has_nothing_to_tune(recipe, config):
        return recipe, parameters, None
    from lib import tuning

    most, parallel = solution_config.trainings(recipe, config)
    with _studying(account, version, data) as storage:
        found = tuning.tune(
            recipe,
            data,
            parameters,
            config.get("hpoConfig", {}).get("algorithmHyperParameterRanges"),
            max_jobs=most,
            parallel_jobs=parallel,
            seed=account.seed,
            storage=storage,
            progress=tell,
        )
    algorithm = {p.name: recipes.text(found.parameters[p.name]) for p in recipe.hyperparameters if not p.transformation}
    return recipe, dict(found.parameters), {"algorithmHyperParameters": algorithm}


def _best_recipe(
    account: Account, version: SolutionVersion, data: Datasets, tell: Callable[[Progress], None]
) -> Recipe:
    """The recipe whose default settings give the best metric on validation users, among those that can be trained."""
    from lib import training

    config = version.solution_config or {}
    metric = solution_config.auto_ml_metric(config)
    measured: dict[str, float] = {}
    refused: dict[str, str] = {}
    with _studying(account, version, data) as study:
        for recipe in solution_config.auto_ml_recipes(config):
            try:
                found = training.validate(
                    _aimed(recipe, config),
                    data,
                    solution_config.values(recipe, config),
                    seed=account.seed,
                    folder=study / recipe.name,
                    progress=tell,
                    **_aims(config),
                )
            except ValueError as error:
                refused[recipe.name] = str(error)
                continue
            if math.isfinite(found.get(metric, math.nan)):
                measured[recipe.name] = found[metric]
            else:
                refused[recipe.name] = f"{metric} cannot be measured of it with this data"
    if not measured:
        raise InvalidInputException(
            "AutoML could train no recipe. " + "; ".join(f"{name}: {why}" for name, why in refused.items())
        )
    return RECIPES[max(measured, key=measured.get)]


def _aimed(recipe: Recipe, config: Mapping[str, Any]) -> Recipe:
    aim = config.get("optimizationObjective", {})
    return objective.aimed(recipe, aim.get("itemAttribute", ""), aim.get("objectiveSensitivity", "OFF"))


def _aims(config: Mapping[str, Any]) -> dict[str, Any]:
    """What an evaluation measures besides hits, as ``training.train`` takes it."""
    events = config.get("eventsConfig", {}).get("eventParametersList", [])
    return {
        "event_weights": {event["eventType"]: event.get("weight", 1.0) for event in events} or None,
        "objective": config.get("optimizationObjective", {}).get("itemAttribute"),
    }


@contextmanager
def _studying(account: Account, version: SolutionVersion, data: Datasets) -> Iterator[Path]:
    """Where what is tried on these data is kept."""
    with account.store.files.working(_study_files(version.solution_version_arn)) as study:
        start_afresh_if_changed(study, data)
        yield study


def start_afresh_if_changed(folder: Path, data: Datasets) -> None:
    """A training or tuning that goes on must go on with the data it began with."""
    names = ("interactions", "items", "users", "actions", "action_interactions")
    tables = {name: getattr(data, name) for name in names}
    found = {name: _fingerprint(table) for name, table in tables.items() if table is not None}
    path = folder / "data.json"
    text = orjson.dumps(found, option=orjson.OPT_INDENT_2)
    if path.exists() and path.read_bytes() == text:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path.write_bytes(text)


def _fingerprint(table: pd.DataFrame) -> dict[str, Any]:
    rows = pd.util.hash_pandas_object(table, index=False).to_numpy()
    return {"columns": list(table.columns), "rows": len(table), "sha256": hashlib.sha256(rows.tobytes()).hexdigest()}


def _check_update(solution_arn: str, previous: SolutionVersion | None) -> None:
    if previous is None:  # the first that is ACTIVE was trained with FULL
        raise InvalidInputException(
            f"{solution_arn} has no ACTIVE version trained with FULL, which UPDATE goes on from."
        )
    recipe = recipes.of_arn(previous.recipe_arn)
    if not recipe.updates:
        raise InvalidInputException(f"{recipe.name} cannot be trained with UPDATE; ask for FULL.")


OPERATIONS = {
    operation.__name__: operation
    for operation in (
        create_solution_version,
        describe_solution_version,
        list_solution_versions,
        stop_solution_version_creation,
        get_solution_metrics,
    )
}
