r"""What anyone would take of a list they are shown: a conditional logit on click-through and age, from impressions.

.. math:: \log P(i \mid L, t) = \sum_h w_h \log \frac{c_h(i, t) + k p}{s_h(i, t) + k} + v \log(1 + s(i, t))
          + a_{bucket(t - created(i))} + const

c_h and s_h count how often the item was taken and shown before t, halving every h seconds; p is the common share taken,
k says how many showings it is worth.  What was shown and passed over is thereby a reason against an item.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from lib.data.datasets import Catalogue
from lib.recipes import situation
from lib.recipes.situation import AGES, DAY, HOUR, Situation

HALF_LIVES = (12 * HOUR, 3 * DAY, np.inf)  # seconds
PRIOR = 20.0  # showings that the common share is worth
SAMPLE = 5_000  # lists that the weights are learnt from
PENALTY = 1e-3


@dataclass(frozen=True, slots=True)
class Lists:
    """What users were shown and took.  rows: (L,) the first row of Interactions that was taken from each list.

    items: (P,) int64 catalogue positions, taken: (P,) bool; list n owns ``offsets[n]:offsets[n + 1]``.
    """

    rows: np.ndarray
    offsets: np.ndarray
    items: np.ndarray
    taken: np.ndarray

    def part(self, chosen: np.ndarray) -> "Lists":
        """chosen: (L,) bool."""
        sizes = np.diff(self.offsets)
        kept = np.repeat(chosen, sizes)
        offsets = np.concatenate([[0], np.cumsum(sizes[chosen])])
        return Lists(self.rows[chosen], offsets, self.items[kept], self.taken[kept])


def lists(interactions: pd.DataFrame, numbers: Catalogue) -> Lists | None:
    """The lists of a table of Interactions of which something was taken and something not; None where there are none.

    Rows of one user, time and IMPRESSION were taken from one list.  Items outside the catalogue are left out.
    """
    if "IMPRESSION" not in interactions:
        return None
    told = np.flatnonzero(interactions["IMPRESSION"].notna().to_numpy())
    if not len(told):
        return None
    some = interactions.iloc[told]
    group = some.groupby(["USER_ID", "TIMESTAMP", "IMPRESSION"], sort=False).ngroup().to_numpy()
    _, first = np.unique(group, return_index=True)
    shown = some["IMPRESSION"].iloc[first].astype(str).str.split("|").reset_index(drop=True).explode()
    place = pd.Index(numbers.item_ids)
    pairs = pd.DataFrame({"list": shown.index.to_numpy(), "item": place.get_indexer(shown.to_numpy(dtype=str))})
    pairs = pairs[pairs["item"] >= 0].drop_duplicates()
    width = len(numbers.item_ids)
    took = group.astype(np.int64) * width + place.get_indexer(some["ITEM_ID"].to_numpy(dtype=str))
    taken = np.isin(pairs["list"].to_numpy(dtype=np.int64) * width + pairs["item"].to_numpy(), took)
    sizes = np.bincount(pairs["list"], minlength=len(first))
    n_taken = np.bincount(pairs["list"], taken, len(first))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    found = Lists(told[first], offsets, pairs["item"].to_numpy(dtype=np.int64), taken)
    found = found.part((n_taken > 0) & (n_taken < sizes))
    return found if len(found.rows) else None


def fit(
    shown: Lists, times: np.ndarray, created: np.ndarray, *, seed: int, start: Situation | None = None
) -> Situation:
    """Learn the weights, or count anew by the weights of ``start``.

    times: (L,) int64 epoch seconds of the lists.  created: (I,) as in ``Situation``.
    """
    n_items = len(created)
    order = np.argsort(times, kind="stable")
    sizes = np.diff(shown.offsets)
    row = np.repeat(np.argsort(order, kind="stable"), sizes)  # each pair's list, by time
    by_time = np.argsort(row, kind="stable")
    row, items, taken, times = row[by_time], shown.items[by_time], shown.taken[by_time], times[order]
    n_moments = int(np.clip(situation.MAX_CELLS // n_items, 8, situation.MOMENTS))
    moments = np.unique(times[np.linspace(0, len(times) - 1, n_moments).astype(np.int64)])
    end = times[-1] + 1
    showings = situation.decayed_counts(items, times[row], moments, HALF_LIVES, n_items, end)
    takings = situation.decayed_counts(items[taken], times[row[taken]], moments, HALF_LIVES, n_items, end)
    moments = np.append(moments, end)
    common = taken.mean()
    told = np.log((takings + PRIOR * common) / (showings + PRIOR) / common)  # (M + 1, H, I)
    told = np.concatenate([told, np.log1p(showings[:, :1])], axis=1)
    if start:
        weights, ages = start.weights, start.ages
    else:
        chosen = np.random.default_rng(seed).permutation(len(times))[:SAMPLE]
        some = np.isin(row, chosen)
        at = np.maximum(np.searchsorted(moments, times[row[some]], side="right") - 1, 0)
        features = told[at, :, items[some]]  # (P, H + 1)
        dated = bool(np.isfinite(created[items]).any())
        age = situation.age_bucket(times[row[some]], created[items[some]]) if dated else None
        weights, ages, _ = logit(features, age, row[some], taken[some])
    logits = np.einsum("mhi,h->mi", told, weights).astype(np.float32)
    return Situation(moments, logits, created, ages, weights)


def logit(
    features: np.ndarray, age: np.ndarray | None, row: np.ndarray, taken: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights (F,) float32 of features (P, F) and of ages (A,) float32 that make what was taken likeliest; their loss.

    row: (P,) int, ascending, the list of each pair.  taken: (P,) bool; several of a list share its weight of 1.
    The penalty is on what a standard deviation of a feature weighs, whatever its scale.
    """
    n_features, n_ages = features.shape[1], 0 if age is None else len(AGES) + 2
    deviation = features.std(axis=0, dtype=np.float64)
    scale = np.where(deviation > 1e-9, deviation, 1.0)
    features = features / scale
    starts = np.flatnonzero(np.concatenate([[True], row[1:] != row[:-1]]))
    sizes = np.diff(np.append(starts, len(row)))
    share = taken / np.repeat(np.add.reduceat(taken.astype(float), starts), sizes)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logits = features @ parameters[:n_features]
        if n_ages:
            logits = logits + parameters[n_features:][age]
        logits -= np.repeat(np.maximum.reduceat(logits, starts), sizes)
        chance = np.exp(logits)
        total = np.repeat(np.add.reduceat(chance, starts), sizes)
        error = (chance / total - share) / len(starts)
        gradient = features.T @ error
        if n_ages:
            gradient = np.concatenate([gradient, np.bincount(age, error, n_ages)])
        value = (share * (np.log(total) - logits)).sum() / len(starts)
        return float(value) + PENALTY * float(parameters @ parameters), gradient + 2 * PENALTY * parameters

    best = minimize(loss, np.zeros(n_features + n_ages), jac=True, method="L-BFGS-B", options={"maxiter": 100})
    weights = best.x[:n_features] / scale
    return weights.astype(np.float32), best.x[n_features:].astype(np.float32), float(best.fun)
