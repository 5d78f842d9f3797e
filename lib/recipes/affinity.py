r"""Item-Affinity and Item-Attribute-Affinity: the users who will most likely use an item, or items of some kind.

Three things tell how likely user u is among all users for a set of items S: how much u does at all, how often u used S,
and how near u's tastes are to S, by a factorisation of who used what how often:

.. math:: s_{uS} = w_1 \log n_u + w_2 \log(1 + \sum_{i \in S} c_{ui}) + w_3 \log(1 + \sum_{i \in S} p_u q_i / m_S)

p and q are the strongest ``hidden_dimension`` directions of log(1 + c), weak ones shrunk; a sum below 0 counts as 0,
and m_S is the mean of the sums over users.
The weights w are those under which the newest fifth of each user's events is likeliest: whether people come back to
what they know (a shop) or never do (films) is for the data to say.  An item without events stands where its features
and text place it.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib.data import features
from lib.data.datasets import Catalogue, Datasets, catalogue, histories
from lib.data.splits import split_newest
from lib.recipes import files
from lib.recipes.recipe import HyperParameter, Model, Progress, Recipe, Value

SHRINKAGE = 1.0  # a direction of mean strength counts half
WITHHELD = 0.2  # of each user's events, that the weights are learnt from
CELLS = 3_000_000  # users x queries that they are learnt from
FIRST_WEIGHTS = np.array([1.0, 0.0, 0.3])
PENALTY = 1e-3
RIDGE = 5.0  # of the features' directions, in items
FEW_USERS = 2


@dataclass(frozen=True, slots=True)
class Affinity:
    """user_ids: (U,) str, sorted.  counts: (U, I) float32 CSR, how often each user used each item.

    users: (U, D) float32, items: (I, D) float32 directions of taste.  weights: (3,) of activity, use and taste.
    """

    catalogue: Catalogue
    user_ids: np.ndarray
    counts: sparse.csr_matrix
    users: np.ndarray
    items: np.ndarray
    weights: np.ndarray

    def scores(self, queries: Sequence[np.ndarray]) -> np.ndarray:
        """Sets of items, as positions in the catalogue -> (B, U) float32: softmax over users is their chance."""
        return np.tensordot(self.weights, self.evidence(queries), 1).astype(np.float32)

    def evidence(self, queries: Sequence[np.ndarray]) -> np.ndarray:
        """(3, B, U) float32: what the weights weigh."""
        chosen = np.concatenate([np.zeros(0, np.int64), *queries]).astype(np.int64)
        rows = np.repeat(np.arange(len(queries)), [len(query) for query in queries])
        sets = sparse.csr_matrix(
            (np.ones(len(rows), np.float32), (rows, chosen)), (len(queries), len(self.catalogue.item_ids))
        )
        used = (sets @ self.counts.T).toarray()
        taste = np.maximum((sets @ self.items) @ self.users.T, 0)
        mean = taste.sum(axis=1, keepdims=True) / max(1, len(self.user_ids))
        activity = np.log(np.maximum(np.asarray(self.counts.sum(axis=1)).ravel(), 1))
        return np.stack(
            [
                np.broadcast_to(activity, used.shape).astype(np.float32),
                np.log1p(used),
                np.log1p(taste / np.where(mean > 0, mean, 1)),
            ]
        )

    def save(self, folder: Path) -> None:
        arrays = {
            "indptr": self.counts.indptr.astype(np.int64),
            "indices": self.counts.indices.astype(np.int32),
            "data": self.counts.data,
            "users": self.users,
            "items": self.items,
            "weights": self.weights,
        }
        files.write(folder, self.catalogue, {"user_ids": self.user_ids.tolist()}, arrays)

    def embeddings(self) -> np.ndarray:
        return self.items


def load(folder: Path) -> Affinity:
    numbers, settings, arrays = files.read(folder)
    user_ids, users = settings["user_ids"], arrays["users"]
    matrix = (arrays["data"], arrays["indices"], arrays["indptr"])
    counts = sparse.csr_matrix(matrix, (len(user_ids), len(numbers.item_ids)))
    if None in user_ids:
        kept = [row for row, user_id in enumerate(user_ids) if user_id is not None]
        user_ids, counts, users = [user_ids[row] for row in kept], counts[kept], users[kept]
    return Affinity(numbers, np.array(user_ids, dtype=str), counts, users, arrays["items"], arrays["weights"])


def forget(folder: Path, user_ids: Collection[str]) -> None:
    """Take users out of a model that was saved: their rows lose their names, and ``load`` leaves them out."""
    path, gone = folder / "model.json", set(user_ids)
    settings = json.loads(path.read_bytes())
    settings["user_ids"] = [None if user_id in gone else user_id for user_id in settings["user_ids"]]
    files.replace(path, json.dumps(settings, sort_keys=True).encode())


def fit_items(
    datasets: Datasets,
    parameters: Mapping[str, Value],
    *,
    seed: int,
    progress: Callable[[Progress], None],
    start: Model | None = None,
) -> Affinity:
    """Train for questions about single items; with ``start``, take over its weights."""
    return _fit(datasets, parameters, item_queries, seed, progress, start)


def fit_attributes(
    datasets: Datasets,
    parameters: Mapping[str, Value],
    *,
    seed: int,
    progress: Callable[[Progress], None],
    start: Model | None = None,
) -> Affinity:
    """Train for questions about values of the items' columns; with ``start``, take over its weights."""
    if datasets.items is None:
        raise ValueError("Items are missing: import an Items dataset, whose columns segments are asked for by")
    return _fit(datasets, parameters, attribute_queries, seed, progress, start)


def item_queries(datasets: Datasets, numbers: Catalogue) -> dict[str, np.ndarray]:
    """Item id -> its position, for every item of the catalogue."""
    return {str(item_id): np.array([n]) for n, item_id in enumerate(numbers.item_ids)}


def attribute_queries(datasets: Datasets, numbers: Catalogue) -> dict[str, np.ndarray]:
    """``COLUMN = "value"`` -> positions of the items that have it, for each value of the categorical columns."""
    columns = features.fit(datasets.items, datasets.schemas.get("ITEMS"))
    encoded = features.aligned(replace(columns, numeric=(), text=None), datasets.items, "ITEM_ID", numbers.item_ids)
    names = [f'{column.name} = "{value}"' for column in columns.categorical for value in column.values]
    having = encoded.categories.tocsc()
    return {name: having.indices[having.indptr[n] : having.indptr[n + 1]] for n, name in enumerate(names)}


def _fit(
    datasets: Datasets,
    parameters: Mapping[str, Value],
    queries: Callable[[Datasets, Catalogue], dict[str, np.ndarray]],
    seed: int,
    progress: Callable[[Progress], None],
    start: Affinity | None,
) -> Affinity:
    times = datasets.interactions["TIMESTAMP"]
    if not len(times):
        raise ValueError("Interactions has no rows to learn from: import interactions, or let more event types in")
    if times.min() == times.max():
        raise ValueError(
            f"All interactions have the same TIMESTAMP, {times.iloc[0]}: nothing tells what users did next. "
            "Import the times at which they happened"
        )
    numbers = catalogue(datasets)
    dim = parameters["hidden_dimension"]
    weights = FIRST_WEIGHTS
    if start is not None:
        weights = start.weights
    elif datasets.interactions["USER_ID"].duplicated().any():
        split = split_newest(datasets.interactions, share=WITHHELD)
        past = _factorised(replace(datasets, interactions=split.train), numbers, dim, FIRST_WEIGHTS)
        progress(Progress(step=1, steps=3, measures={"users": len(past.user_ids)}))
        weights, loss = _learnt(past, split.held_out, list(queries(datasets, numbers).values()), seed)
        progress(Progress(step=2, steps=3, measures={"withheld_loss": loss}))
    model = _factorised(datasets, numbers, dim, weights)
    progress(Progress(step=3, steps=3, measures={"users": len(model.user_ids)}))
    return model


def _factorised(datasets: Datasets, numbers: Catalogue, dim: int, weights: np.ndarray) -> Affinity:
    """The counts and their strongest directions."""
    from sklearn.utils.extmath import randomized_svd

    done = histories(datasets.interactions, numbers)
    shape = (len(done.user_ids), len(numbers.item_ids))
    counts = sparse.csr_matrix((np.ones(len(done.items), np.float32), done.items, done.offsets), shape)
    counts.sum_duplicates()
    rank = min(dim, min(shape) - 1)
    if rank < 1:
        users, items = (np.zeros((n, 0), np.float32) for n in shape)
    else:
        left, strength, right = randomized_svd(counts.log1p(), rank, random_state=0)  # signs are settled by svd_flip
        kept = strength**2 / np.maximum(strength**2 + SHRINKAGE * strength.mean() ** 2, 1e-12)
        users, items = (left * strength * kept).astype(np.float32), np.ascontiguousarray(right.T, dtype=np.float32)
    return Affinity(numbers, done.user_ids, counts, users, _placed(datasets, numbers, counts, items), weights)


def _placed(datasets: Datasets, numbers: Catalogue, counts: sparse.csr_matrix, items: np.ndarray) -> np.ndarray:
    """(I, D): items that nobody used get the directions that items of such features have, by ridge regression."""
    n_used = np.bincount(counts.indices, minlength=len(items))
    unused = n_used == 0
    columns = features.fit(datasets.items, datasets.schemas.get("ITEMS"))
    if not unused.any() or not items.size or not columns.names:
        return items
    encoded = features.aligned(columns, datasets.items, "ITEM_ID", numbers.item_ids)
    told = sparse.hstack([encoded.categories, sparse.csr_matrix(encoded.dense)], "csr", np.float32)
    known, new = told[~unused], told[unused]
    gram = (known.T @ known).toarray() + RIDGE * np.eye(told.shape[1], dtype=np.float32)
    out = items.copy()
    out[unused] = new @ np.linalg.solve(gram, known.T @ items[~unused])
    return out


def _learnt(past: Affinity, held_out: pd.DataFrame, queries: list[np.ndarray], seed: int) -> tuple[np.ndarray, float]:
    """(3,) weights under which the users of the held-out interactions are likeliest for their items, and the loss."""
    from scipy.optimize import minimize  # most of the time that importing this module would take

    place = {user_id: n for n, user_id in enumerate(past.user_ids.tolist())}
    done = histories(held_out, past.catalogue)
    rows = np.array([place[user_id] for user_id in done.user_ids.tolist()], dtype=np.int64)
    user = np.repeat(rows, np.diff(done.offsets))
    taken = sparse.csr_matrix((np.ones(len(user), np.float32), (done.items, user)), past.counts.shape[::-1])
    taken.data[:] = 1
    used = np.diff(taken.indptr) > 0
    rng = np.random.default_rng(seed)
    asked, wanted = [], []
    for n in rng.permutation(len(queries)):
        if used[queries[n]].any():
            asked.append(queries[n])
            wanted.append(np.unique(taken[queries[n]].indices))
        if len(asked) * len(past.user_ids) >= CELLS:
            break
    if not asked or len(past.user_ids) < FEW_USERS:
        return FIRST_WEIGHTS, 0.0
    evidence = past.evidence(asked)  # (3, Q, U)
    row = np.repeat(np.arange(len(asked)), [len(users) for users in wanted])
    column = np.concatenate(wanted)
    share = (1 / np.bincount(row))[row] / len(asked)
    target = (share * evidence[:, row, column]).sum(axis=1)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = np.tensordot(weights.astype(np.float32), evidence, 1)
        highest = logits.max(axis=1, keepdims=True)
        chance = np.exp(logits - highest)
        total = chance.sum(axis=1, keepdims=True)
        chance /= total
        value = (np.log(total[:, 0]) + highest[:, 0]).mean() - weights @ target
        gradient = np.einsum("fqu,qu->f", evidence, chance) / len(asked) - target
        return float(value + PENALTY * weights @ weights), (gradient + 2 * PENALTY * weights).astype(np.float64)

    best = minimize(loss, FIRST_WEIGHTS, jac=True, method="L-BFGS-B", options={"maxiter": 50})
    return best.x, float(best.fun)


HYPERPARAMETERS = (
    HyperParameter(
        name="hidden_dimension", default=149, meaning="directions of taste that are told apart", low=32, high=256
    ),
)

ITEM_AFFINITY = Recipe(
    name="aws-item-affinity",
    recipe_type="USER_SEGMENTATION",
    description="Makes segments of users: those who will most likely use an item.",
    algorithm="aws-item-affinity",
    feature_transformation="item-affinity",
    fit=fit_items,
    load=load,
    hyperparameters=HYPERPARAMETERS,
    scored=False,
    real_time=False,
    queries=item_queries,
    forget=forget,
)

ITEM_ATTRIBUTE_AFFINITY = Recipe(
    name="aws-item-attribute-affinity",
    recipe_type="USER_SEGMENTATION",
    description="Makes segments of users: those who will most likely use items that have given attributes.",
    algorithm="aws-item-attribute-affinity",
    feature_transformation="item-attribute-affinity",
    fit=fit_attributes,
    load=load,
    hyperparameters=HYPERPARAMETERS,
    scored=False,
    real_time=False,
    queries=attribute_queries,
    forget=forget,
)
