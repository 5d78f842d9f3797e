"""How good ranked lists are: arrays in, numbers out.

``hits`` is (U, K) bool: whether the item at each rank of each user's list is relevant.  Metrics give one number a user;
their mean is the metric, and ``bootstrap`` says how far to trust it.
"""

from dataclasses import dataclass

import numpy as np

RESAMPLED_AT_ONCE = 2**22  # drawn users; 32 MiB


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where it may as well lie: the bounds of its central confidence interval."""

    mean: float
    low: float
    high: float


def hits(items: np.ndarray, rows: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """(U, K) bool: which ranked items are relevant.

    items: (U, K) int, -1 where a list ended.  rows, relevant: (P,) pairs of a list's row and an item relevant to it.
    """
    width = int(max(items.max(initial=-1), relevant.max(initial=-1))) + 1
    keys = np.arange(len(items))[:, None] * width + items
    return np.isin(keys, rows.astype(np.int64) * width + relevant) & (items >= 0)


def precision(hits: np.ndarray, k: int) -> np.ndarray:
    """Share of relevant items among the first k, shorter lists too.  (U, K >= k) bool -> (U,) float64."""
    _check(hits, k)
    return hits[:, :k].sum(axis=1) / k


def recall(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Share of the relevant items that are among the first k.  relevant: (U,) int, all >= 1.  -> (U,) float64."""
    _check(hits, k)
    return hits[:, :k].sum(axis=1) / _at_least_one(relevant)


def reciprocal_rank(hits: np.ndarray, k: int = 25) -> np.ndarray:
    """One by the rank of the first hit among the first k, 0 without one.  (U, K >= k) bool -> (U,) float64."""
    _check(hits, k)
    top = hits[:, :k]
    return np.where(top.any(axis=1), 1 / (top.argmax(axis=1) + 1), 0.0)


def ndcg(hits: np.ndarray, k: int) -> np.ndarray:
    r"""Personalize's normalised discounted cumulative gain at k: the ideal is the *same* list, hits first.

    .. math:: \frac{\sum_{i=1}^{k} h_i / \log_2(i + 1)}{\sum_{i=1}^{\sum_{j \le k} h_j} 1 / \log_2(i + 1)}

    hits: (U, K) bool with K >= k.  Returns (U,) float64 in [0, 1], 0 without a hit.  It says how well a list is
    ordered, not how many relevant items it holds; ``textbook_ndcg`` says both.
    Source: Amazon Personalize's developer guide, normalized_discounted_cumulative_gain_at_K.
    """
    _check(hits, k)
    return weighted_ndcg(hits[:, :k].astype(np.float64), k)


def weighted_ndcg(rewards: np.ndarray, k: int) -> np.ndarray:
    """``ndcg`` where a hit counts its reward; the ideal is the same list, sorted by reward.

    rewards: (U, K) float64 with K >= k, 0 for no hit.  Returns (U,) float64 in [0, 1].
    Source: Amazon Personalize's normalized_discounted_cumulative_gain_with_event_weights_at_k.
    """
    _check(rewards, k)
    gain = rewards[:, :k] @ _discount(k)
    ideal = np.sort(rewards[:, :k], axis=1)[:, ::-1] @ _discount(k)
    return np.divide(gain, ideal, out=np.zeros(len(rewards)), where=ideal > 0)


def textbook_ndcg(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    r"""Normalised discounted cumulative gain at k as the literature has it: the ideal holds all relevant items.

    .. math:: \frac{\sum_{i=1}^{k} h_i / \log_2(i + 1)}{\sum_{i=1}^{\min(k, n)} 1 / \log_2(i + 1)}

    hits: (U, K) bool with K >= k.  relevant: (U,) int, all >= 1.  Returns (U,) float64 in [0, 1].
    Source: Järvelin & Kekäläinen, TOIS 2002, with binary gains.
    """
    _check(hits, k)
    ideal = _discount(k).cumsum()[np.minimum(_at_least_one(relevant), k) - 1]
    return hits[:, :k] @ _discount(k) / ideal


def event_rewards(weights: np.ndarray) -> np.ndarray:
    """What a hit on each event type counts: its weight by the mean of all weights.  (E,) -> (E,) float64."""
    weights = np.asarray(weights, dtype=np.float64)
    if not len(weights) or weights.min() < 0 or weights.sum() == 0:
        raise ValueError(f"event weights are {weights.tolist()}, expected numbers of 0 or more that are not all 0")
    return weights / weights.mean()


def average_rewards(hits: np.ndarray, rewards: np.ndarray, k: int = 25) -> np.ndarray:
    """Share of the reward a user took that the k most rewarding recommended items gave; 0 for a user who took none.

    hits, rewards: (U, K) whether the user interacted with each recommended item, and what it would bring, >= 0.
    Returns (U,) float64 in [0, 1].  Source: Amazon Personalize's average_rewards_at_k.
    """
    if rewards.min(initial=0) < 0:
        raise ValueError(f"rewards reach down to {rewards.min()}, expected 0 or more")
    taken = np.where(hits, rewards, 0.0)
    most = np.argsort(-rewards, axis=1, kind="stable")[:, :k]
    total = taken.sum(axis=1)
    return np.divide(
        np.take_along_axis(taken, most, axis=1).sum(axis=1), total, out=np.zeros(len(hits)), where=total > 0
    )


def coverage(items: np.ndarray, n_items: int) -> float:
    """Share of the catalogue that the lists reach.  items: (U, K) int, -1 where a list ended."""
    return len(np.unique(items[items >= 0])) / n_items


def novelty(items: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """Mean surprise in bits of the items of each list; lists without an item give 0.

    items: (U, K) int, -1 where a list ended.  popularity: (I,) share of users who know the item; an item nobody knows
    counts as known by half a user less than the rarest.  Source: Castells et al., Recommender Systems Handbook 2015.
    """
    known = popularity[popularity > 0]
    bits = -np.log2(np.where(popularity > 0, popularity, known.min(initial=1.0) / 2))
    shown = items >= 0
    return np.where(shown, bits[items], 0.0).sum(axis=1) / np.maximum(shown.sum(axis=1), 1)


def precision_and_recall(predicted: np.ndarray, taken: np.ndarray) -> tuple[float, float]:
    """Of actions recommended to users, averaged over actions: taken by recommended, and taken by taken in all.

    predicted, taken: (U, A) bool.  An action that was never recommended (taken) has no precision (recall); where no
    action has one, it is NaN.
    Source: Amazon Personalize's metrics of aws-next-best-action.
    """
    both = (predicted & taken).sum(axis=0)
    recommended, took = predicted.sum(axis=0), taken.sum(axis=0)
    precisions, recalls = both[recommended > 0] / recommended[recommended > 0], both[took > 0] / took[took > 0]
    return tuple(float(values.mean()) if len(values) else float("nan") for values in (precisions, recalls))


def area_under_curve(scores: np.ndarray, clicked: np.ndarray) -> float:
    """Chance that a clicked item scores above one that was not, ties counting half; NaN where there is only one kind.

    scores: (N,) float.  clicked: (N,) bool.
    """
    from scipy.stats import rankdata  # half a second, which only whoever calls this should pay

    positive, negative = int(clicked.sum()), int((~clicked).sum())
    if not positive or not negative:
        return float("nan")
    return float((rankdata(scores)[clicked].sum() - positive * (positive + 1) / 2) / (positive * negative))


def area_under_curve_by_group(scores: np.ndarray, clicked: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """``area_under_curve`` within each group, an impression say; groups of one kind are left out.

    groups: (N,) any ids.  Returns (G,) float64, ordered by id.  Source: the MIND competition's AUC is its mean.
    """
    order = np.argsort(groups, kind="stable")
    bounds = np.flatnonzero(np.diff(np.unique(groups, return_inverse=True)[1][order])) + 1
    areas = [area_under_curve(scores[rows], clicked[rows]) for rows in np.split(order, bounds)]
    return np.array([area for area in areas if not np.isnan(area)])


def bootstrap(values: np.ndarray, *, seed: int, level: float = 0.95, draws: int = 2000) -> Interval:
    """The mean of one number a user, and the interval it falls in when users are drawn again and again.

    values: (U,).  The same seed and number of users draw the same users, so that versions measured on the same users
    can be set side by side.  Source: Efron & Tibshirani 1993, percentile bootstrap.
    """
    return _interval(values.mean(), _resampled(values[None], seed, draws)[0], level)


def paired_bootstrap(
    values: np.ndarray, others: np.ndarray, *, seed: int, level: float = 0.95, draws: int = 2000
) -> Interval:
    """The mean difference of two versions on the same users, and its interval.  values, others: (U,), users aligned."""
    return bootstrap(values - _aligned(values, others), seed=seed, level=level, draws=draws)


def ratio_bootstrap(
    values: np.ndarray, others: np.ndarray, *, seed: int, level: float = 0.95, draws: int = 2000
) -> Interval:
    """The ratio of two versions' means on the same users, and its interval.  values, others: (U,), others' mean > 0."""
    top, bottom = _resampled(np.stack([values, _aligned(values, others)]), seed, draws)
    if not others.mean() > 0:
        raise ValueError("the mean to divide by is 0; compare with a version that has a hit")
    ratios = np.divide(top, bottom, out=np.full(draws, np.inf), where=bottom > 0)
    return _interval(values.mean() / others.mean(), ratios, level)


def _resampled(rows: np.ndarray, seed: int, draws: int) -> np.ndarray:
    """(M, U) -> (M, draws) float64: the rows' means over the same users, drawn with replacement."""
    users = rows.shape[1]
    if not users:
        raise ValueError("no users to draw from; evaluate at least one")
    rng = np.random.default_rng(seed)
    means = np.empty((len(rows), draws))
    step = max(1, RESAMPLED_AT_ONCE // users)
    for start in range(0, draws, step):
        drawn = rng.integers(users, size=(min(step, draws - start), users))
        for row, mean in zip(rows, means):
            mean[start : start + step] = row[drawn].mean(axis=1)
    return means


def _interval(mean: float, drawn: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(mean), float(low), float(high))


def _aligned(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    if values.shape != others.shape:
        raise ValueError(f"{len(values)} users beside {len(others)}; compare versions on the same users")
    return others


def _discount(k: int) -> np.ndarray:
    return 1 / np.log2(np.arange(2, k + 2))


def _check(ranked: np.ndarray, k: int) -> None:
    if ranked.ndim != 2 or not 1 <= k <= ranked.shape[1]:
        raise ValueError(f"lists have shape {ranked.shape}, expected (users, at least k = {k} >= 1)")


def _at_least_one(relevant: np.ndarray) -> np.ndarray:
    if relevant.min(initial=1) < 1:
        raise ValueError("some users have no relevant item; leave them out")
    return relevant
