"""User-Personalization, Personalized-Ranking and the HRNN family: a user's newest events, read by a recurrent network.

A gated recurrent unit (GRU4Rec, Hidasi et al., ICLR 2016) over items, event types and the time between events, on top
of what anyone would take now (``situation``).  Items are known by a vector of their own and by their features, so that
an UPDATE brings in new ones: it goes on from a trained model, over new events and as many old ones, in seconds.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.data.datasets import Datasets, Histories, catalogue
from lib.recipes import objective
from lib.recipes.recipe import HyperParameter, Model, Progress, Recipe, Value

DIM = 64  # of items; the recurrent state has hidden_dimension
DAY = 86_400


def fit(
    datasets: Datasets,
    parameters: Mapping[str, Value],
    *,
    seed: int,
    progress: Callable[[Progress], None],
    start: Model | None = None,
    checkpoint: Path | None = None,
    given: bool = False,
) -> Model:
    """Train; with ``start``, a few epochs over new events and as many old ones.

    Raises ValueError where there are no interactions.
    """
    from lib.recipes import sequences  # and with it torch, which only training and answering need

    plan = sequences.Plan(
        body="recurrent",
        dim=min(DIM, parameters["hidden_dimension"]),
        hidden=parameters["hidden_dimension"],
        length=parameters["bptt"],
        recency=parameters["recency_mask"] == "true",
        closed=False,
        given=given,
        learning_rate=6e-3,
        effort=18,
    )
    low, high = parameters["min_user_history_length_percentile"], parameters["max_user_history_length_percentile"]
    chosen = replace(datasets, interactions=datasets.interactions[typical(datasets, low, high)])
    cold = _cold(parameters) if "cold_start_max_interactions" in parameters else None
    return sequences.fit(
        chosen,
        plan,
        seed=seed,
        progress=progress,
        start=start,
        numbers=catalogue(datasets),
        cold=cold,
        checkpoint=checkpoint,
    )


def fit_without_metadata(datasets: Datasets, parameters: Mapping[str, Value], **how: object) -> Model:
    """``fit`` on Interactions alone."""
    schemas = {name: schema for name, schema in datasets.schemas.items() if name == "INTERACTIONS"}
    ids = datasets.items[["ITEM_ID"]] if datasets.items is not None else None
    return fit(replace(datasets, items=ids, users=None, schemas=schemas), parameters, **how)


def fit_ranking(datasets: Datasets, parameters: Mapping[str, Value], **how: object) -> Model:
    """``fit`` for lists that requests give: what was shown and passed over counts against an item."""
    return fit(datasets, parameters, given=True, **how)


def load(folder: Path) -> Model:
    """The model kept in a folder."""
    from lib.recipes import sequences

    return objective.tilted(sequences.load(folder), folder)


def typical(datasets: Datasets, low: float, high: float) -> np.ndarray:
    """(N,) bool: the interactions of users whose history is neither shorter nor longer than these percentiles."""
    users = datasets.interactions["USER_ID"]
    length = users.map(users.value_counts()).to_numpy()
    lengths = users.value_counts().to_numpy()
    if not len(lengths):
        return np.zeros(0, dtype=bool)
    shortest, longest = np.quantile(lengths, low, method="lower"), np.quantile(lengths, high, method="higher")
    return (length >= shortest) & (length <= longest)


def _cold(parameters: Mapping[str, Value]) -> Callable[[Histories, int], np.ndarray]:
    """Which items are new enough, and rare enough, to be known by their features alone."""

    def cold(done: Histories, n_items: int) -> np.ndarray:
        first = np.full(n_items, np.iinfo(np.int64).max)
        np.minimum.at(first, done.items, done.times)
        seen = np.unique(done.items)
        newest = first[seen].max() if parameters["cold_start_relative_from"] == "latestItem" else done.times.max()
        recent = first > newest - parameters["cold_start_max_duration"] * DAY
        return recent & (np.bincount(done.items, minlength=n_items) <= parameters["cold_start_max_interactions"])

    return cold


def _hyperparameters(hidden_dimension: int) -> tuple[HyperParameter, ...]:
    return (
        HyperParameter(
            name="hidden_dimension",
            default=hidden_dimension,
            meaning="hidden units of the recurrent network",
            low=32,
            high=256,
            tunable=True,
        ),
        HyperParameter(
            name="bptt",
            default=32,
            meaning="steps of back-propagation through time: events of a history that the network sees at once",
            low=2,
            high=32,
            tunable=True,
        ),
        HyperParameter(
            name="recency_mask",
            default="true",
            meaning="whether what is popular lately counts",
            choices=("true", "false"),
            tunable=True,
        ),
        HyperParameter(
            name="min_user_history_length_percentile",
            default=0.0,
            meaning="users with shorter histories than this percentile are not trained on",
            low=0.0,
            high=1.0,
            transformation=True,
        ),
        HyperParameter(
            name="max_user_history_length_percentile",
            default=0.99,
            meaning="users with longer histories than this percentile, often robots, are not trained on",
            low=0.0,
            high=1.0,
            transformation=True,
        ),
    )


USER_PERSONALIZATION = Recipe(
    name="aws-user-personalization",
    recipe_type="USER_PERSONALIZATION",
    description="Predicts the items a user will interact with next with a recurrent network, and explores new items.",
    algorithm="aws-user-personalization",
    feature_transformation="JSON-percentile-filtering",
    fit=fit,
    load=load,
    resumes=True,
    hyperparameters=_hyperparameters(149),
    updates=True,
    explores=True,
)

PERSONALIZED_RANKING = Recipe(
    name="aws-personalized-ranking",
    recipe_type="PERSONALIZED_RANKING",
    description="Ranks a given list of items for a user, with the recurrent network of User-Personalization.",
    algorithm="aws-personalized-ranking",
    feature_transformation="JSON-percentile-filtering",
    fit=fit_ranking,
    load=load,
    resumes=True,
    hyperparameters=_hyperparameters(149),
)

HRNN = Recipe(
    name="aws-hrnn",
    recipe_type="USER_PERSONALIZATION",
    description="Legacy: predicts the items a user will interact with from interactions alone. "
    "Use aws-user-personalization-v2 instead.",
    algorithm="aws-hrnn",
    feature_transformation="JSON-percentile-filtering",
    fit=fit_without_metadata,
    load=load,
    resumes=True,
    hyperparameters=_hyperparameters(43),
)

HRNN_METADATA = Recipe(
    name="aws-hrnn-metadata",
    recipe_type="USER_PERSONALIZATION",
    description="Legacy: HRNN with the features of items, users and context. Use aws-user-personalization-v2 instead.",
    algorithm="aws-hrnn-metadata",
    feature_transformation="featurize_metadata",
    fit=fit,
    load=load,
    resumes=True,
    hyperparameters=_hyperparameters(43),
)

HRNN_COLDSTART = Recipe(
    name="aws-hrnn-coldstart",
    recipe_type="USER_PERSONALIZATION",
    description="Legacy: HRNN with metadata that knows new items by their features. "
    "Use aws-user-personalization-v2 instead.",
    algorithm="aws-hrnn-coldstart",
    feature_transformation="featurize_coldstart",
    fit=fit,
    load=load,
    resumes=True,
    hyperparameters=(
        *_hyperparameters(149),
        HyperParameter(
            name="cold_start_max_interactions",
            default=15,
            meaning="an item with more interactions is not new",
            low=1,
            high=1_000_000,
            transformation=True,
        ),
        HyperParameter(
            name="cold_start_max_duration",
            default=5.0,
            meaning="days after its first interaction in which an item is new",
            low=0.0,
            high=36_500.0,
            transformation=True,
        ),
        HyperParameter(
            name="cold_start_relative_from",
            default="currentTime",
            meaning="whether those days count back from the newest item or from the newest interaction",
            choices=("latestItem", "currentTime"),
            transformation=True,
        ),
    ),
    updates=True,
)
