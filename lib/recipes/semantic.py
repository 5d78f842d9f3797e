r"""Semantic-Similarity: items whose texts and features say the same as those of an item, whoever used them.

.. math:: s_{ij} = (1 - w) \cos(t_i, t_j) + w_p \, popularity_j + w_f \, freshness_j, \qquad w = \max(w_p, w_f)

t are the items' texts and names as term weights in their strongest directions, beside their other features;
``rankingInfluence`` sets the weights, popularity counts users and freshness the rank of ``CREATION_TIMESTAMP``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.sparse as sparse

from lib.data import features
from lib.data.datasets import Catalogue, Datasets, catalogue
from lib.data.features import Features
from lib.recipes import files, places, situation
from lib.recipes.popularity import unique_users
from lib.recipes.recipe import Model, Progress, Recipe, Request, Value

FEATURES_SHARE = 0.3  # of categories and numbers in an item's vector, where it has text
DIM = 128  # of categories and numbers, where there are more of them
UNKNOWN = 1e-3  # popularity orders what is asked about an unknown item, and breaks ties
ITEMS_A_SECOND = 1_000  # a tenth of what can be placed anew
MEASURED, K = 1_000, 25  # items that lists are made for when a model is measured, and how long these are


@dataclass(frozen=True, slots=True)
class Similarity:
    """place: (I, D) float32 of length 1, or 0 where nothing is told.  popularity, freshness: (I,) float32 in [0, 1].

    influence: POPULARITY and FRESHNESS -> weight in [0, 1].
    """

    catalogue: Catalogue
    columns: Features
    place: np.ndarray
    popularity: np.ndarray
    freshness: np.ndarray
    influence: Mapping[str, float]

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """(B, I) float32: similarity and influences, from -1 to 2."""
        rows = np.array([request.item for request in requests], dtype=np.int64)
        likeness = self.place[np.maximum(rows, 0)] @ self.place.T
        likeness[rows < 0] = 0
        popular, fresh = self.influence.get("POPULARITY", 0.0), self.influence.get("FRESHNESS", 0.0)
        led = (popular + UNKNOWN) * self.popularity + fresh * self.freshness
        return ((1 - max(popular, fresh)) * likeness + led).astype(np.float32)

    def influenced(self, influence: Mapping[str, float]) -> "Similarity":
        """The same with other weights of popularity and freshness."""
        return replace(self, influence=dict(influence))

    def refreshed(self, datasets: Datasets) -> "Similarity":
        """The same over the items that there are now, read as at training; itself where there are none any more."""
        if datasets.items is None or datasets.items.empty:
            return self
        return _placed(_with_names(datasets), self.columns, self.influence)

    @property
    def pace(self) -> float:
        """Seconds after which items that came in are placed, so that placing takes little of a campaign's time."""
        return len(self.place) / ITEMS_A_SECOND

    def save(self, folder: Path) -> None:
        arrays = {"place": self.place, "popularity": self.popularity, "freshness": self.freshness}
        settings = {"columns": self.columns.settings(), "influence": dict(self.influence)}
        files.write(folder, self.catalogue, settings, {**arrays, **self.columns.arrays()})

    def embeddings(self) -> np.ndarray:
        return self.place


def fit(
    datasets: Datasets,
    parameters: Mapping[str, Value],
    *,
    seed: int,
    progress: Callable[[Progress], None],
    start: Model | None = None,
) -> Similarity:
    """Read the items' texts and features; interactions, if there are any, tell how popular items are.

    Raises ValueError where there are no items.
    """
    if datasets.items is None or not len(datasets.items):
        raise ValueError("Items has no rows to compare: import items with texts")
    told = _with_names(datasets)
    columns = features.fit(told.items, told.schemas.get("ITEMS"))
    model = _placed(told, columns, {})
    placed, texts = (int(place.any(axis=1).sum()) for place in (model.place, model.place[:, : columns.n_text]))
    progress(Progress(step=1, steps=1, measures={"items": placed, "texts": texts}))
    return model


def load(folder: Path) -> Similarity:
    numbers, settings, arrays = files.read(folder)
    columns = Features.load(settings["columns"], arrays)
    parts = (arrays[name] for name in ("place", "popularity", "freshness"))
    return Similarity(numbers, columns, *parts, settings["influence"])


def measure(model: Similarity, datasets: Datasets) -> dict[str, float]:
    """Of the lists of up to ``MEASURED`` items: coverage, mean popularity, freshness, similarity to the item asked."""
    n_items = len(model.place)
    asked = np.unique(np.linspace(0, n_items - 1, min(n_items, MEASURED)).astype(np.int64))
    scores = model.scores([Request(history=None, now=0, item=int(item)) for item in asked])
    scores[np.arange(len(asked)), asked] = -np.inf
    lists = np.argsort(-scores, axis=1, kind="stable")[:, : min(K, n_items - 1)]
    likeness = np.einsum("qd,qkd->qk", model.place[asked], model.place[lists])
    found = {"item_popularity": model.popularity[lists], "item_freshness": model.freshness[lists]}
    found["item_similarity"] = likeness
    means = {name: float(values.mean()) if values.size else 0.0 for name, values in found.items()}
    return {"coverage": len(np.unique(lists)) / n_items, **means}


def _with_names(datasets: Datasets) -> Datasets:
    """The same with each item's name before its text, where texts are filled, as the one text that is read."""
    schema, items = datasets.schemas.get("ITEMS"), datasets.items
    fields = () if schema is None else tuple(field for field in schema.fields if field.name in items)
    marked = {mark: field.name for field in fields for mark in ("item_name", "textual") if getattr(field, mark)}
    if "item_name" not in marked:
        return datasets
    name, text = marked["item_name"], marked.get("textual", marked["item_name"])
    told = items[name].fillna("")
    if text != name and features.is_filled(items[text]):
        told = told + " " + items[text].fillna("")
    read = replace(schema, fields=tuple(replace(field, textual=field.name == name) for field in fields))
    return replace(datasets, items=items.assign(**{name: told}), schemas={**datasets.schemas, "ITEMS": read})


def _placed(datasets: Datasets, columns: Features, influence: Mapping[str, float]) -> Similarity:
    numbers = catalogue(datasets)
    encoded = features.aligned(columns, datasets.items, "ITEM_ID", numbers.item_ids)
    text = encoded.dense[:, encoded.dense.shape[1] - columns.n_text :]
    numeric = sparse.csr_matrix(encoded.dense[:, : 2 * len(columns.numeric)])
    others = sparse.hstack([encoded.categories, numeric], "csr", np.float32)
    others = others.toarray() if others.shape[1] <= DIM else places.reduced(others, DIM)
    share = np.where(text.any(axis=1), FEATURES_SHARE, 1.0)[:, None]
    place = _unit(np.concatenate([text * np.sqrt(1 - share), _unit(others) * np.sqrt(share)], axis=1))
    users = unique_users(datasets, numbers)
    created = situation.creation_times(datasets, numbers)
    known = np.unique(created[np.isfinite(created)])
    fresh = np.where(np.isfinite(created), np.searchsorted(known, created) / max(1, len(known) - 1), 0.0)
    popularity = (np.log1p(users) / max(1.0, float(np.log1p(users.max(initial=0))))).astype(np.float32)
    return Similarity(numbers, columns, place, popularity, np.minimum(fresh, 1).astype(np.float32), influence)


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(length > 1e-9, length, 1)).astype(np.float32)


SEMANTIC_SIMILARITY = Recipe(
    name="aws-semantic-similarity",
    recipe_type="RELATED_ITEMS",
    description="Finds items whose texts and features say the same as an item's; popularity and freshness may count.",
    algorithm="aws-semantic-similarity",
    feature_transformation="aws-semantic-similarity",
    fit=fit,
    load=load,
    scored=False,
    real_time=False,
    refreshes=True,
    items_alone=True,
    measure=measure,
)
