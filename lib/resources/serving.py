"""What a trained model is when it answers: some are made anew from what came since, or lean as a configuration says."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from lib.exploration import Exploration
from lib.recipes.recipe import Model, Recipe
from lib.resources import datasets, recipes, recommenders, records, solution_versions
from lib.resources.account import Account
from lib.resources.recommenders import Recommender
from lib.resources.solution_versions import SolutionVersion

EXPLORATION = {"explorationWeight": "0.3", "explorationItemAgeCutOff": "30.0"}
SERVICE_WEIGHT = 0.1  # of recipes whose exploration nobody can set


def prepared(
    tx: Connection, account: Account, version_arn: str, recipe: Recipe, model: Model, config: Mapping[str, Any]
) -> Model:
    """The model of a solution version, or of a recommender's training, as a campaign or batch job uses it.

    config: its ``rankingInfluence`` counts.
    """
    version = _version(tx, account, version_arn)
    if recipe.refreshes and (recipe.name != "aws-semantic-similarity" or version.perform_incremental_update):
        loaded = datasets.load(account, version.dataset_group_arn)
        try:
            interactions = solution_versions.chosen_events(loaded, version)
        except ValueError:  # none counts any more, or their columns are gone
            interactions = loaded.interactions[:0]
        model = model.refreshed(replace(loaded, interactions=interactions))
    if influence := config.get("rankingInfluence"):
        model = model.influenced({name: float(value) for name, value in influence.items()})
    return model


def lasts(recipe: Recipe, model: Model) -> float:
    """Seconds for which a prepared model may answer although events and records come in."""
    return model.pace if recipe.refreshes else float("inf")


def exploration(recipe: Recipe, config: Mapping[str, Any]) -> Exploration | None:
    """How much a campaign explores whose configuration has this ``itemExplorationConfig``; None for not at all."""
    given = {**EXPLORATION, **(config.get("itemExplorationConfig") or {})}
    weight = SERVICE_WEIGHT if recipe.name == recipes.EXPLORES_BY_ITSELF else float(given["explorationWeight"])
    if not recipe.explores or weight == 0:
        return None
    return Exploration(weight, float(given["explorationItemAgeCutOff"]))


def _version(tx: Connection, account: Account, arn: str) -> SolutionVersion:
    if ":recommender/" not in arn:
        return records.get(tx, account, SolutionVersion, arn)
    return recommenders.as_version(records.get(tx, account, Recommender, arn.rpartition("/")[0]))
