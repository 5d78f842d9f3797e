"""User-Personalization-v2 and Personalized-Ranking-v2: the newest events of a user, read by a transformer.

What is recommended adds up from four parts, each learnt from the data:

* what anyone would take now: popularity over hours to years, and the age of each item (``situation``),
* where the history leads: causal self-attention over items, event types, the time between events and since the last;
  items are known by a vector of their own and by their features and text, so that new ones take part; users and context
  by theirs (``networks``),
* whether the data repeat: for each time an item was used, by how long ago that was and what was done with it, a logit,
  and a share of the chances that is the item's however unlikely it were otherwise (Vinyals et al., NeurIPS 2015),
* which new item follows which, in closed form or by counts, whichever foretells withheld events better
  (``transitions``).

The first three are trained together, by the cross-entropy of every next item; the last enters with the weights that
make the next withheld event likeliest.  Personalized-Ranking weighs them, and what was shown and passed over
(``choices``), by what users took of the lists they were shown, where impressions tell.  Nothing that was seen is left
out here: filters do that.  An item whose ``CREATION_TIMESTAMP`` is after the request's ``now`` ranks behind all others.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from lib.data.datasets import Datasets
from lib.recipes.recipe import HyperParameter, Model, Progress, Recipe, Value

LENGTH = 128  # events of a history that attention sees
DIM = 64


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
        body="transformer",
        dim=DIM,
        hidden=DIM,
        length=LENGTH,
        recency=bool(parameters["apply_recency_bias"]),
        closed=True,
        given=given,
    )
    return sequences.fit(datasets, plan, seed=seed, progress=progress, start=start, checkpoint=checkpoint)


def fit_ranking(datasets: Datasets, parameters: Mapping[str, Value], **how: object) -> Model:
    """``fit`` for lists that requests give: what was shown and passed over counts against an item."""
    return fit(datasets, parameters, given=True, **how)


def load(folder: Path) -> Model:
    """The model kept in a folder."""
    from lib.recipes import sequences

    return sequences.load(folder)


HYPERPARAMETERS = (
    HyperParameter(
        name="apply_recency_bias",
        default=True,
        meaning="whether newer interactions, and what is popular lately, count more",
        choices=(True, False),
    ),
)

USER_PERSONALIZATION_V2 = Recipe(
    name="aws-user-personalization-v2",
    recipe_type="USER_PERSONALIZATION",
    description="Predicts the items a user will interact with next from the sequence of their interactions, with a "
    "transformer that also reads the features of items, users and context.",
    algorithm="aws-user-personalization-v2",
    feature_transformation="aws-user-personalization-v2",
    fit=fit,
    load=load,
    hyperparameters=HYPERPARAMETERS,
    resumes=True,
    explores=True,
)

PERSONALIZED_RANKING_V2 = Recipe(
    name="aws-personalized-ranking-v2",
    recipe_type="PERSONALIZED_RANKING",
    description="Ranks a given list of items for a user, with the transformer of User-Personalization-v2.",
    algorithm="aws-personalized-ranking-v2",
    feature_transformation="aws-personalized-ranking-v2",
    fit=fit_ranking,
    load=load,
    hyperparameters=HYPERPARAMETERS,
    resumes=True,
)
