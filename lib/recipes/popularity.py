"""Popularity-Count: what most people have, the same for everyone; the baseline every recipe must beat."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib.data.datasets import Catalogue, Datasets, catalogue, histories
from lib.recipes import files
from lib.recipes.recipe import Model, Progress, Recipe, Request, Value


@dataclass(frozen=True, slots=True)
class Popularity:
    """users: (I,) int64, how many different users each item has."""

    catalogue: Catalogue
    users: np.ndarray

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """(B, I) float32: log(1 + users), the same row for every request."""
        return np.tile(np.log1p(self.users).astype(np.float32), (len(requests), 1))

    def save(self, folder: Path) -> None:
        files.write(folder, self.catalogue, {}, {"users": self.users})

    def embeddings(self) -> None:
        return None


def users_items(interactions: pd.DataFrame, numbers: Catalogue) -> sparse.csr_matrix:
    """(U, I) float32: 1 for what a user has."""
    done = histories(interactions, numbers)
    pairs = (np.ones(len(done.items), np.float32), done.items, done.offsets)
    matrix = sparse.csr_matrix(pairs, (len(done.user_ids), len(numbers.item_ids)))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def unique_users(datasets: Datasets, numbers: Catalogue) -> np.ndarray:
    """(I,) int64: how many different users interacted with each item."""
    return np.bincount(users_items(datasets.interactions, numbers).indices, minlength=len(numbers.item_ids))


def fit(
    datasets: Datasets,
    parameters: Mapping[str, Value],
    *,
    seed: int,
    progress: Callable[[Progress], None],
    start: Model | None = None,
) -> Popularity:
    """Count; counting again costs less than going on from ``start`` would."""
    if not len(datasets.interactions):
        raise ValueError("Interactions has no rows to count: import interactions, or let more event types in")
    numbers = catalogue(datasets)
    model = Popularity(numbers, unique_users(datasets, numbers))
    progress(Progress(step=1, steps=1, measures={"items": int((model.users > 0).sum())}))
    return model


def load(folder: Path) -> Popularity:
    numbers, _, arrays = files.read(folder)
    return Popularity(numbers, arrays["users"])


POPULARITY_COUNT = Recipe(
    name="aws-popularity-count",
    recipe_type="POPULAR_ITEMS",
    description="Ranks items by the number of different users who interacted with them, the same for everyone. "
    "The baseline to compare other recipes with.",
    algorithm="aws-popularity-count",
    feature_transformation="sims",
    fit=fit,
    load=load,
    scored=False,
    real_time=False,
)
