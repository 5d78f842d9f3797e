"""Similar-Items and SIMS: items that go with an item.

SIMS counts which items the same users have.  Similar-Items places items by what is used shortly before and after them,
and by their features and text, and an item that few know by its features alone.  The item asked about is not among its
own neighbours; one that is unknown, or has none, is answered with what is popular, and so is the rest of a list.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.sparse as sparse

from lib.data import features
from lib.data.datasets import Catalogue, Datasets, catalogue, histories
from lib.recipes import files, places
from lib.recipes.popularity import unique_users, users_items
from lib.recipes.recipe import HyperParameter, Model, Progress, Recipe, Request, Value

KEPT = 300  # neighbours of an item
ROWS_AT_ONCE = 256
FALLBACK = 1e-9  # what popularity adds to a neighbour's strength: it orders what has none
NEAR, NEARNESS = 20, 0.85  # reach, in events, of what is used shortly before and after, and what each step takes off
BACKWARD = 0.5  # what having come shortly before counts, beside having come after
PRIOR = 5.0  # events that an item's likeness to others is worth
COLD_COUNT = 5  # interactions at which features and use count alike in an item's place
COLD_SHARE = 0.5  # of use in an item's place, below which it is compared by features alone
CELLS, LEAST_CANDIDATES = 40_000**2, 10_000  # pairs of items whose likeness is measured; to so many others at least
LIKENESS_DOUBLINGS, POPULARITY_POWER = 3, 0.5  # likeness counts to the power of 8; much used items are likelier


@dataclass(frozen=True, slots=True)
class Neighbours:
    """strengths: (I, I) float32 CSR, >= 0, at most ``KEPT`` an item.  popularity: (I,) float32 in [0, 1].

    place: (I, D) float32 where the recipe has them.
    """

    catalogue: Catalogue
    strengths: sparse.csr_matrix
    popularity: np.ndarray
    place: np.ndarray | None = None

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """(B, I) float32: log of the strength, or of next to nothing times the popularity."""
        rows = np.array([request.item for request in requests], dtype=np.int64)
        strengths = self.strengths[np.maximum(rows, 0)].toarray()
        strengths[rows < 0] = 0
        return np.log(strengths.astype(np.float64) + FALLBACK * (self.popularity + FALLBACK)).astype(np.float32)

    def save(self, folder: Path) -> None:
        arrays = {
            "indptr": self.strengths.indptr.astype(np.int64),
            "indices": self.strengths.indices.astype(np.int32),
            "data": self.strengths.data,
            "popularity": self.popularity,
        }
        if self.place is not None:
            arrays["place"] = self.place
        files.write(folder, self.catalogue, {}, arrays)

    def embeddings(self) -> np.ndarray | None:
        return self.place


def load(folder: Path) -> Neighbours:
    numbers, _, arrays = files.read(folder)
    matrix = (arrays["data"], arrays["indices"], arrays["indptr"])
    n_items = len(numbers.item_ids)
    return Neighbours(numbers, sparse.csr_matrix(matrix, (n_items, n_items)), arrays["popularity"], arrays.get("place"))


def fit_sims(
    datasets: Datasets,
    parameters: Mapping[str, Value],
    *,
    seed: int,
    progress: Callable[[Progress], None],
    start: Model | None = None,
) -> Neighbours:
    r"""Strength of j for i: :math:`c_{ij} / n_j^d`, the users who have both over the users who have j.

    d: ``popularity_discount_factor``.  Pairs fewer than ``min_cointeraction_count`` users have are dropped, and so are
    users and items outside the percentiles of their numbers of interactions.  Counting anew costs less than going on
    from ``start`` would.
    """
    _check(datasets)
    numbers = catalogue(datasets)
    interactions = datasets.interactions
    chosen = _within(interactions["USER_ID"], parameters, "user_history_length")
    chosen = chosen & _within(interactions["ITEM_ID"], parameters, "item_interaction_count")
    matrix = users_items(interactions[chosen], numbers)
    n_users = np.asarray(matrix.sum(axis=0)).ravel()
    weight = (np.maximum(n_users, 1) ** -parameters["popularity_discount_factor"]).astype(np.float32)
    least = max(1, parameters["min_cointeraction_count"])
    by_item = matrix.T.tocsr()
    rows = []
    for begin in range(0, matrix.shape[1], ROWS_AT_ONCE):
        both = by_item[begin : begin + ROWS_AT_ONCE] @ matrix  # sparse, so that items nobody has cost nothing
        for item, (first, last) in enumerate(pairwise(both.indptr), begin):
            having, others = both.data[first:last], both.indices[first:last]
            used = (having >= least) & (others != item)
            rows.append(places.strongest(having[used] * weight[others[used]], others[used], KEPT))
        progress(_step(begin, matrix.shape[1]))
    return Neighbours(numbers, places.gathered(rows), _popularity(datasets, numbers))


def fit_similar(
    datasets: Datasets,
    parameters: Mapping[str, Value],
    *,
    seed: int,
    progress: Callable[[Progress], None],
    start: Model | None = None,
) -> Neighbours:
    r"""Strength of j for i: the chance of j shortly before or after i, by counts and, where these are few, by likeness.

    .. math:: \frac{c_{ij} + m \, q_{ij}}{(\sum_j c_{ij} + m) \, n_j^d}

    c counts steps from i to j, near ones more, and those from j to i half; an item used twice in a row counts once.
    q, which sums to 1, is the likeness: of ``item_id_hidden_dim`` factors of c and ``item_metadata_hidden_dim`` factors
    of features and text.  m: the steps that ``PRIOR`` events bring on average, few where histories are short.
    d: ``popularity_discount_factor``.  Training anew takes seconds, so ``start`` is not needed.  In catalogues of more
    items than the root of ``CELLS``, likeness is to the most used ones alone, so that time grows with the catalogue,
    not with its square.
    """
    _check(datasets)
    numbers = catalogue(datasets)
    n_items = len(numbers.item_ids)
    done = histories(datasets.interactions, numbers)
    counts = np.bincount(done.items, minlength=n_items)
    events = places.without_repeats(done)
    steps = places.steps(events, n_items, NEAR, NEARNESS)
    together = (steps + BACKWARD * steps.T).tocsr()
    used = _unit(places.factors(steps, parameters["item_id_hidden_dim"]))
    told = _unit(_metadata(datasets, numbers, parameters["item_metadata_hidden_dim"]))
    share = np.where(told.any(axis=1), counts / (counts + COLD_COUNT), 1.0)[:, None]  # of use in an item's place
    place = np.concatenate([used * np.sqrt(share), told * np.sqrt(1 - share)], axis=1).astype(np.float32)
    told = told.astype(np.float32)
    drawn_to = ((counts + 1.0) ** POPULARITY_POWER).astype(np.float32)
    total = np.asarray(together.sum(axis=1), dtype=np.float32).ravel()
    prior = PRIOR * max(1.0, float(total.sum(dtype=np.float64)) / len(events.items))
    discount = (np.maximum(counts, 1.0) ** -parameters["popularity_discount_factor"]).astype(np.float32)
    near = _candidates(counts)
    chosen = near if len(near) < n_items else slice(None)
    near_place, near_told, drawn_to = place[chosen].T, told[chosen].T, drawn_to[chosen]
    place_near = np.full(n_items, -1)
    place_near[near] = np.arange(len(near))
    rows = []
    for begin in range(0, n_items, ROWS_AT_ONCE):
        some = slice(begin, begin + ROWS_AT_ONCE)
        likeness = place[some] @ near_place
        cold = np.flatnonzero(share[some, 0] < COLD_SHARE)
        likeness[cold] = told[some][cold] @ near_told
        for item, row in enumerate(likeness, begin):  # one at a time: what is in the cache is quick
            np.maximum(row, 0, out=row)
            for _ in range(LIKENESS_DOUBLINGS):
                row *= row
            row *= drawn_to
            if place_near[item] >= 0:
                row[place_near[item]] = 0
            row *= prior / np.maximum(row.sum(), 1e-12)
            rest = slice(*together.indptr[item : item + 2])
            followers, strength = together.indices[rest], together.data[rest]
            known = place_near[followers]
            row[known[known >= 0]] += strength[known >= 0]
            columns = np.concatenate([near, followers[known < 0]])
            row = np.concatenate([row, strength[known < 0]])
            row *= discount[columns] / (total[item] + prior)
            rows.append(places.strongest(row, columns, KEPT))
        progress(_step(begin, n_items))
    return Neighbours(numbers, places.gathered(rows), _popularity(datasets, numbers), place)


def _metadata(datasets: Datasets, numbers: Catalogue, dim: int) -> np.ndarray:
    """(I, at most D) float32: factors of the items' features, rare values weighing more than common ones."""
    n_items = len(numbers.item_ids)
    if datasets.items is None:
        return np.zeros((n_items, 0), np.float32)
    columns = features.fit(datasets.items, datasets.schemas.get("ITEMS"))
    encoded = features.aligned(columns, datasets.items, "ITEM_ID", numbers.item_ids)
    share = np.asarray((encoded.categories > 0).mean(axis=0)).ravel()
    categories = encoded.categories @ sparse.diags(np.log(1 / np.maximum(share, 1 / n_items)))
    whole = sparse.hstack([categories, sparse.csr_matrix(encoded.dense)], "csr", np.float32)
    return places.reduced(whole, dim)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; rows of zeros stay."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 1e-9, length, 1)


def _check(datasets: Datasets) -> None:
    if not len(datasets.interactions):
        raise ValueError("Interactions has no rows to learn from: import interactions, or let more event types in")


def _step(begin: int, n_items: int) -> Progress:
    steps = -(-n_items // ROWS_AT_ONCE)
    return Progress(step=begin // ROWS_AT_ONCE + 1, steps=steps, measures={"items": min(begin + ROWS_AT_ONCE, n_items)})


def _within(ids, parameters: Mapping[str, Value], what: str) -> np.ndarray:
    """(N,) bool: rows whose id occurs neither less nor more often than the percentiles of this name."""
    counts = ids.value_counts()
    low, high = parameters[f"min_{what}_percentile"], parameters[f"max_{what}_percentile"]
    least, most = np.quantile(counts, low, method="lower"), np.quantile(counts, high, method="higher")
    return ids.map((counts >= least) & (counts <= most)).to_numpy(dtype=bool)


def _candidates(counts: np.ndarray) -> np.ndarray:
    """Ascending positions of the items that likeness is measured to: all, of a huge catalogue the most used."""
    n = max(LEAST_CANDIDATES, CELLS // len(counts))
    return np.sort(np.argsort(-counts, kind="stable")[:n])


def _popularity(datasets: Datasets, numbers: Catalogue) -> np.ndarray:
    users = unique_users(datasets, numbers)
    return (users / max(1, users.max())).astype(np.float32)


def _percentile(name: str, default: float, meaning: str) -> HyperParameter:
    return HyperParameter(name=name, default=default, meaning=meaning, low=0.0, high=1.0, transformation=True)


SIMILAR_ITEMS = Recipe(
    name="aws-similar-items",
    recipe_type="RELATED_ITEMS",
    description="Finds items that go with an item: used shortly before or after it, and alike by their features and "
    "text.",
    algorithm="aws-similar-items",
    feature_transformation="aws-similar-items",
    fit=fit_similar,
    load=load,
    hyperparameters=(
        HyperParameter(
            name="popularity_discount_factor",
            default=0.0,
            meaning="how much the popularity of the items found is taken off",
            low=0.0,
            high=1.0,
        ),
        HyperParameter(
            name="item_id_hidden_dim",
            default=100,
            meaning="factors of what is used together",
            low=30,
            high=200,
            tunable=True,
        ),
        HyperParameter(
            name="item_metadata_hidden_dim",
            default=100,
            meaning="factors of the items' features",
            low=30,
            high=200,
            tunable=True,
        ),
    ),
    scored=False,
    real_time=False,
)

SIMS = Recipe(
    name="aws-sims",
    recipe_type="RELATED_ITEMS",
    description="Finds items that the users who have an item have too, from interactions alone.",
    algorithm="aws-sims",
    feature_transformation="sims",
    fit=fit_sims,
    load=load,
    hyperparameters=(
        HyperParameter(
            name="popularity_discount_factor",
            default=0.5,
            meaning="0: popular items win, 1: popularity is ignored",
            low=0.0,
            high=1.0,
            tunable=True,
        ),
        HyperParameter(
            name="min_cointeraction_count",
            default=3,
            meaning="pairs that fewer users have are dropped",
            low=0,
            high=10,
            tunable=True,
        ),
        _percentile("min_user_history_length_percentile", 0.005, "users with shorter histories are not trained on"),
        _percentile("max_user_history_length_percentile", 0.995, "users with longer histories are not trained on"),
        _percentile("min_item_interaction_count_percentile", 0.01, "items with fewer interactions are not trained on"),
        _percentile("max_item_interaction_count_percentile", 0.9, "items with more interactions are not trained on"),
    ),
    scored=False,
    real_time=False,
)
