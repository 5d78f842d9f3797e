"""What a solution may be configured with: every member checked before a training can stumble over it."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from lib import evaluation, tuning
from lib.data.schema import Schema
from lib.recipes import RECIPES
from lib.recipes.recipe import Recipe, number
from lib.resources import recipes
from lib.resources.errors import InvalidInputException

MOST_TRAINING_JOBS, MOST_PARALLEL_JOBS = 40, 10
WITH_OBJECTIVE = ("aws-user-personalization", "aws-personalized-ranking")
ALIASES = {  # names that the managed service echoes, accepted for the documented ones
    "min_hist_length_percentile": "min_user_history_length_percentile",
    "max_hist_length_percentile": "max_user_history_length_percentile",
}


def normal(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the documented names of hyperparameters in place of prefixed ones (``training.bptt``)."""
    config = dict(config)
    for key in ("algorithmHyperParameters", "featureTransformationParameters"):
        if key in config:
            config[key] = {_documented(name): value for name, value in config[key].items()}
    given = config.get("hpoConfig", {}).get("algorithmHyperParameterRanges")
    if given:
        named = {k: [{**entry, "name": _documented(entry.get("name", ""))} for entry in given[k]] for k in given}
        config["hpoConfig"] = {**config["hpoConfig"], "algorithmHyperParameterRanges": named}
    return config


def check(
    recipe: Recipe,
    config: Mapping[str, Any],
    *,
    perform_hpo: bool,
    event_type: str | None,
    schemas: Mapping[str, Schema],
) -> None:
    """Raise InvalidInputException that names the member, what was found and what would do."""
    try:
        values(recipe, config)
    except ValueError as error:
        raise InvalidInputException(str(error)) from error
    if perform_hpo:
        trainings(recipe, config)
    _check_events(recipe, config, event_type, schemas)
    _check_objective(recipe, config, schemas)
    check_columns(config, schemas)
    if "ITEMS" in schemas:  # else there is time until it trains
        check_items(recipe, _trained_on("ITEMS", config, schemas["ITEMS"]))
    training_period(config)


def values(recipe: Recipe, config: Mapping[str, Any]) -> dict[str, Any]:
    """Every hyperparameter's value.  Raises ValueError for an unknown name, a wrong value, a name in the wrong map."""
    algorithm = config.get("algorithmHyperParameters", {})
    transformation = config.get("featureTransformationParameters", {})
    known = {parameter.name: parameter for parameter in recipe.hyperparameters}
    for given, transforms, other in (
        (algorithm, False, "featureTransformationParameters"),
        (transformation, True, "algorithmHyperParameters"),
    ):
        for name in given:
            if name in known and known[name].transformation != transforms:
                raise ValueError(f"{name} belongs into solutionConfig.{other}.")
    return recipe.values({**algorithm, **transformation})


def auto_ml_recipes(config: Mapping[str, Any]) -> list[Recipe]:
    """The recipes that AutoML tries: those of ``autoMLConfig.recipeList``, or all that personalise for a user."""
    listed = config.get("autoMLConfig", {}).get("recipeList")
    if listed:
        return [recipes.of_arn(arn) for arn in listed]
    return [recipe for recipe in RECIPES.values() if recipe.recipe_type == "USER_PERSONALIZATION"]


def has_nothing_to_tune(recipe: Recipe, config: Mapping[str, Any]) -> bool:
    """Whether neither the recipe has hyperparameters to tune nor the configuration asks for one."""
    ranges = config.get("hpoConfig", {}).get("algorithmHyperParameterRanges", {})
    return not any(ranges.values()) and not any(parameter.tunable for parameter in recipe.hyperparameters)


def auto_ml_metric(config: Mapping[str, Any]) -> str:
    """The metric that AutoML chooses by."""
    return config.get("autoMLConfig", {}).get("metricName") or evaluation.NDCG


def check_auto_ml(recipe: Recipe, config: Mapping[str, Any]) -> None:
    """Raise InvalidInputException for a recipe that the metric of AutoML cannot be measured of."""
    metric = auto_ml_metric(config)
    known = evaluation.metric_names(
        recipe.recipe_type, weighted="eventsConfig" in config, rewarded="optimizationObjective" in config
    )
    if metric not in known:
        raise InvalidInputException(
            f"autoMLConfig.metricName is {metric!r}, {recipe.name} has {', '.join(known)}: "
            "name one of these, or leave the recipe out of recipeList."
        )


def trainings(recipe: Recipe, config: Mapping[str, Any]) -> tuple[int, int]:
    """How many trainings tuning may run, and how many at one time.

    Raises InvalidInputException for a range of an untunable name, outside the recipe's range, or a missing list.
    """
    hpo = config.get("hpoConfig", {})
    ranges = hpo.get("algorithmHyperParameterRanges")
    missing = [name for name in tuning.KINDS if ranges is not None and name not in ranges]
    if missing:
        raise InvalidInputException(
            f"hpoConfig.algorithmHyperParameterRanges lacks {', '.join(missing)}: all three lists are needed, "
            "an empty one where there is nothing to tune."
        )
    try:
        tuning.search_space(recipe, ranges)
    except ValueError as error:
        raise InvalidInputException(f"hpoConfig: {error}") from error
    resources = hpo.get("hpoResourceConfig", {})
    return (
        _number_of_jobs(resources, "maxNumberOfTrainingJobs", 10, MOST_TRAINING_JOBS),
        _number_of_jobs(resources, "maxParallelTrainingJobs", 1, MOST_PARALLEL_JOBS),
    )


def training_period(config: Mapping[str, Any]) -> timedelta:
    """The time between two automatic trainings.  Raises InvalidInputException for other than 1 to 30 days."""
    expression = config.get("autoTrainingConfig", {}).get("schedulingExpression", "rate(7 days)")
    found = re.fullmatch(r"rate\(([0-9]+) days?\)", expression)
    if not found or not 1 <= int(found[1]) <= 30:
        raise InvalidInputException(
            f"autoTrainingConfig.schedulingExpression is {expression!r}, expected rate(<1 to 30> days)."
        )
    return timedelta(days=int(found[1]))


def check_events(config: Mapping[str, Any]) -> None:
    """Raise InvalidInputException for event weights that leave nothing to train on, or name one event type twice."""
    events = config.get("eventParametersList", [])
    types = [event.get("eventType", "").lower() for event in events]
    if not types or "" in types or len(set(types)) < len(types):
        raise InvalidInputException(
            "eventsConfig.eventParametersList needs one entry for each eventType to train on, with its name."
        )
    if all(event.get("weight") == 0 for event in events):
        raise InvalidInputException("eventsConfig.eventParametersList: at least one weight must be above 0.")


def _documented(name: str) -> str:
    bare = re.sub(r"^(training|data|model)\.", "", name)
    return ALIASES.get(bare, bare)


def _number_of_jobs(resources: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = resources.get(name, str(default))
    if not re.fullmatch("[0-9]+", text) or not 1 <= int(text) <= most:
        raise InvalidInputException(f"hpoConfig.hpoResourceConfig.{name} is {text!r}, expected '1' to '{most}'.")
    return int(text)


def _check_events(
    recipe: Recipe, config: Mapping[str, Any], event_type: str | None, schemas: Mapping[str, Schema]
) -> None:
    interactions = schemas.get("INTERACTIONS")
    weights = config.get("eventsConfig")
    threshold = config.get("eventValueThreshold")
    if weights is not None:
        if not recipe.name.endswith("-v2"):
            raise InvalidInputException(
                f"eventsConfig goes with recipes of the second version, not with {recipe.name}."
            )
        if event_type or threshold:
            raise InvalidInputException("Give either eventsConfig, or eventType and eventValueThreshold.")
        check_events(weights)
    if threshold is not None and _number(threshold) is None:
        raise InvalidInputException(f"eventValueThreshold is {threshold!r}, expected a number.")
    thresholds = [threshold, *(e.get("eventValueThreshold") for e in (weights or {}).get("eventParametersList", []))]
    for column, needed in (
        ("EVENT_TYPE", event_type or weights),
        ("EVENT_VALUE", any(value is not None for value in thresholds)),
    ):
        if needed and interactions is not None and column not in interactions:
            raise InvalidInputException(
                f"The solution filters by {column}, but the INTERACTIONS schema has no such column."
            )


def _check_objective(recipe: Recipe, config: Mapping[str, Any], schemas: Mapping[str, Schema]) -> None:
    objective = config.get("optimizationObjective")
    if objective is None:
        return
    if recipe.name not in WITH_OBJECTIVE:
        raise InvalidInputException(f"optimizationObjective goes with {' and '.join(WITH_OBJECTIVE)} alone.")
    column, items = objective.get("itemAttribute"), schemas.get("ITEMS")
    field = items[column] if items is not None and column in items else None
    if field is None or not field.numeric or field.nullable:
        raise InvalidInputException(
            f"optimizationObjective.itemAttribute is {column!r}: expected a numeric column of the ITEMS schema "
            "whose type does not permit null."
        )
    if column not in _trained_on("ITEMS", config, items):
        raise InvalidInputException(
            f"optimizationObjective.itemAttribute is {column!r}, which trainingDataConfig leaves out: "
            "let it in, or name another column."
        )


def check_columns(config: Mapping[str, Any], schemas: Mapping[str, Schema]) -> None:
    """Raise InvalidInputException for a ``trainingDataConfig`` that names what is not there or cannot be left out."""
    training = config.get("trainingDataConfig", {})
    if "excludedDatasetColumns" in training and "includedDatasetColumns" in training:
        raise InvalidInputException(
            "trainingDataConfig: give excludedDatasetColumns or includedDatasetColumns, not both."
        )
    for member, columns_of in training.items():
        for name, columns in columns_of.items():
            schema = schemas.get(name.upper())
            if schema is None:
                raise InvalidInputException(f"trainingDataConfig.{member}: the dataset group has no {name} dataset.")
            unknown = [column for column in columns if column not in schema]
            if unknown:
                raise InvalidInputException(
                    f"trainingDataConfig.{member}: {name} has no column {', '.join(unknown)}; "
                    f"it has {', '.join(schema.columns)}."
                )
            needed = {*schema.required, "EVENT_TYPE"} & set(columns)
            if member == "excludedDatasetColumns" and needed:
                raise InvalidInputException(f"trainingDataConfig: {', '.join(sorted(needed))} cannot be excluded.")


def check_items(recipe: Recipe, items: Schema | None) -> None:
    """Raise InvalidInputException where the columns of Items lack what a recipe cannot be trained without.

    items: None where the group has no Items dataset, which is told of by the recipe.
    """
    if recipe.name != "aws-semantic-similarity" or items is None:
        return
    found = {
        "itemName": any(field.item_name for field in items.fields),
        "textual": any(field.textual for field in items.fields),
    }
    if lacking := [name for name, there in found.items() if not there]:
        raise InvalidInputException(
            f"{recipe.name} needs an ITEMS schema with a field that is marked itemName and one that is marked textual: "
            f"none of those it is to be trained on is marked {' or '.join(lacking)}."
        )


def _trained_on(kind: str, config: Mapping[str, Any], schema: Schema) -> Schema:
    """The columns of a dataset that ``trainingDataConfig`` leaves."""
    for member, columns_of in config.get("trainingDataConfig", {}).items():
        for name, columns in columns_of.items():
            if name.upper() == kind:
                excluding = member == "excludedDatasetColumns"
                kept = tuple(field for field in schema.fields if (field.name in columns) != excluding)
                schema = replace(schema, fields=kept)
    return schema


def _number(text: str) -> float | None:
    try:
        value = number(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
