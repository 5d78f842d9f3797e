r"""What anyone would take at this moment: a multinomial logit on how popular and how new each item is.

.. math:: \log P(i \mid t) = \sum_h w_h \log(1 + c_h(i, t)) + a_{bucket(t - created(i))} + const

c_h(i, t) counts the item's earlier interactions, halving every h seconds.  The weights say whether the last two hours
matter (news) or only all of time (films); nothing else need be set.  Sequence models add to this what a history tells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import logsumexp

from lib.data.datasets import Catalogue, Datasets

HOUR, DAY = 3_600, 86_400
HALF_LIVES = (2 * HOUR, 12 * HOUR, 3 * DAY, 21 * DAY, 180 * DAY, np.inf)  # seconds
AGES = np.array([0, *(HOUR * 2**n for n in range(16))], dtype=np.float64)  # seconds; below 0: not published yet
UNPUBLISHED = -20.0  # logit of an item whose CREATION_TIMESTAMP is still to come: it ranks last, and stays finite
MOMENTS = 256  # points in time at which the past is summed up
MAX_CELLS = 5_000_000  # moments x items that are kept
SAMPLE = 2_000  # events, and items at most, that the weights are learnt from
PENALTY = 1e-3


@dataclass(frozen=True, slots=True)
class Situation:
    """logits: (M, I) float32 by popularity, from each moment on.  moments: (M,) int64 epoch seconds, ascending.

    created: (I,) float64 epoch seconds, NaN where unknown.  ages: (A,) float32, the logit of each age; empty without
    ``CREATION_TIMESTAMP``.  weights: (H,) float32 of the half-lives.
    """

    moments: np.ndarray
    logits: np.ndarray
    created: np.ndarray
    ages: np.ndarray
    weights: np.ndarray

    def moment(self, times: np.ndarray) -> np.ndarray:
        """(N,) int64: the newest moment at or before each time, the first one for earlier times."""
        return np.maximum(np.searchsorted(self.moments, times, side="right") - 1, 0)

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """(N,) epoch seconds -> (N, I) float32."""
        logits = self.logits[self.moment(times)]
        if len(self.ages):
            logits = logits + self.ages[age_bucket(np.asarray(times)[:, None], self.created)]
        return logits

    def unpublished(self, times: np.ndarray) -> np.ndarray:
        """(N,) epoch seconds -> (N, I) float32: ``UNPUBLISHED`` for items still to come, 0 for others."""
        return np.where(self.created > np.asarray(times)[:, None], np.float32(UNPUBLISHED), np.float32(0))

    def table(self) -> np.ndarray:
        """(M, I) float32: the logits from each moment on, items that come after the next moment far behind."""
        return self(self.moments) + self.unpublished(np.append(self.moments[1:], np.iinfo(np.int64).max))

    def at(self, now: int, before: "Moment | None" = None) -> "Moment":
        """The situation at one time; of a time soon after ``before`` only the items are looked at whose age tells."""
        order = np.argsort(self.created) if before is None else before.order
        born = self.created[order] if before is None else before.born
        (row,) = self.moment(np.array([now]))
        if before is None or now < before.now or row != self.moment(np.array([before.now]))[0]:
            return Moment(now, order, born, self(np.array([now])), self.unpublished(np.array([now])))
        edges = AGES if len(self.ages) else AGES[:1]
        first, last = (np.searchsorted(born, time - edges, side="right") for time in (before.now, now))
        items = order[np.concatenate([np.arange(*ends) for ends in zip(first, last)])]
        logits, unpublished = before.logits.copy(), before.unpublished.copy()
        logits[0, items] = self.logits[row, items]
        if len(self.ages):
            logits[0, items] += self.ages[age_bucket(now, self.created[items])]
        unpublished[:, items] = np.where(self.created[items] > now, np.float32(UNPUBLISHED), np.float32(0))
        return Moment(now, order, born, logits, unpublished)

    def arrays(self) -> dict[str, np.ndarray]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def load(cls, arrays: Mapping[str, np.ndarray]) -> "Situation":
        return cls(**arrays)


@dataclass(frozen=True, slots=True)
class Moment:
    """The situation at one time.  order: (I,) items by creation.  born: (I,) when.  logits, unpublished: (1, I)."""

    now: int
    order: np.ndarray
    born: np.ndarray
    logits: np.ndarray
    unpublished: np.ndarray


def fit(
    items: np.ndarray,
    times: np.ndarray,
    created: np.ndarray,
    *,
    recency: bool,
    seed: int,
    start: Situation | None = None,
) -> Situation:
    """Learn the weights from events, or count them anew by the weights of ``start``.

    items: (N,) int and times: (N,) int64, every event.  created: (I,) as in ``Situation``.  recency: whether what is
    popular lately counts beside what ever was.
    """
    order = np.argsort(times, kind="stable")
    items, times = items[order], times[order]
    n_items = len(created)
    first = np.full(n_items, np.inf)
    first[items[::-1]] = times[::-1]
    created = np.where(created > first, first, created)  # what somebody read was out, whatever the table says
    half_lives = HALF_LIVES if recency else HALF_LIVES[-1:]
    n_moments = int(np.clip(MAX_CELLS // n_items, 8, MOMENTS))
    distinct = np.unique(times)  # so that a lot of one time, such as an import, takes no more moments than it needs
    moments = distinct[np.unique(np.linspace(0, len(distinct) - 1, n_moments).astype(np.int64))]
    counts = decayed_counts(items, times, moments, half_lives, n_items, times[-1] + 1)  # (M + 1, H, I)
    moments = np.append(moments, times[-1] + 1)
    if start:
        weights, ages = start.weights, start.ages
    else:
        weights, ages = _learn(items, times, moments, counts, created, recency, np.random.default_rng(seed))
    logits = sum(weight * np.log1p(counts[:, h]) for h, weight in enumerate(weights))
    logits -= logsumexp(logits, axis=1, keepdims=True)  # chances, but for ages, beside which others can be set
    return Situation(moments, logits, created, ages, weights)


def _learn(items, times, moments, counts, created, recency, rng) -> tuple[np.ndarray, np.ndarray]:
    """The weights of half-lives and ages by a sample of the events, among a sample of the items."""
    chosen = np.sort(rng.choice(len(items), min(len(items), SAMPLE), replace=False))
    candidates = np.unique(items)
    if len(candidates) > SAMPLE:
        candidates = np.union1d(rng.choice(candidates, SAMPLE, replace=False), items[chosen])
    moment = np.maximum(np.searchsorted(moments, times[chosen], side="right") - 1, 0)
    dated = recency and bool(np.isfinite(created[candidates]).any())
    age = age_bucket(times[chosen, None], created[candidates]) if dated else None
    target = np.searchsorted(candidates, items[chosen])
    weights, ages = _logit(np.log1p(counts[:, :, candidates]), moment, age, target)
    if dated:
        ages[0] = ages[1]  # not published yet: ``unpublished`` says so
    return weights, ages


def creation_times(datasets: Datasets, numbers: Catalogue) -> np.ndarray:
    """(I,) float64 epoch seconds, NaN where Items does not tell."""
    created = np.full(len(numbers.item_ids), np.nan)
    if datasets.items is not None and "CREATION_TIMESTAMP" in datasets.items:
        place = pd.Index(numbers.item_ids).get_indexer(datasets.items["ITEM_ID"].to_numpy(dtype=str))
        times = pd.to_numeric(datasets.items["CREATION_TIMESTAMP"], errors="coerce")
        created[place[place >= 0]] = times.to_numpy(dtype=np.float64, na_value=np.nan)[place >= 0]
    return created


def age_bucket(times: np.ndarray, created: np.ndarray) -> np.ndarray:
    """Times and creations that broadcast -> int: 0 for not published yet, then by age; the last where it is unknown."""
    age = np.asarray(times, dtype=np.float64) - created
    return np.where(np.isnan(age), len(AGES) + 1, np.searchsorted(AGES, age, side="right"))


def decayed_counts(
    items: np.ndarray, times: np.ndarray, moments: np.ndarray, half_lives: Sequence[float], n_items: int, end: int
) -> np.ndarray:
    """(M + 1, H, I) float32: the counts of what happened before each moment, and before ``end``, after all of it.

    items: (N,) and times: (N,), ascending.  half_lives: (H,) seconds.
    """
    rate = np.log(2) / np.array(half_lives)
    edges = np.append(moments, end)
    counts = np.zeros((len(edges), len(half_lives), n_items), np.float32)
    first = np.searchsorted(times, moments, side="left")
    for m, (begin, end) in enumerate(zip(first, [*first[1:], len(times)])):
        elapsed = float(edges[m + 1] - edges[m])
        for h, r in enumerate(rate):
            new = np.bincount(items[begin:end], np.exp(-r * (edges[m + 1] - times[begin:end])), n_items)
            counts[m + 1, h] = counts[m, h] * np.exp(-r * elapsed) + new
    return counts


def _logit(popularity: np.ndarray, moment: np.ndarray, age: np.ndarray | None, target: np.ndarray):
    """Weights (H,) float32 of popularity (M, H, J) and of ages (A,) float32 that make the targets (N,) likeliest."""
    n_events, n_weights = len(target), popularity.shape[1]
    rows = np.arange(n_events)
    n_ages = 0 if age is None else len(AGES) + 2
    log_counts = popularity.transpose(0, 2, 1)  # (M, J, H)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, ages = parameters[:n_weights].astype(np.float32), parameters[n_weights:].astype(np.float32)
        logits = (log_counts @ weights)[moment]
        if n_ages:
            logits = logits + ages[age]
        logits -= logits.max(axis=1, keepdims=True)
        chance = np.exp(logits)
        total = chance.sum(axis=1, keepdims=True, dtype=np.float64)
        error = chance / total
        error[rows, target] -= 1  # d loss / d logits
        of_moment = np.zeros((len(log_counts), error.shape[1]), np.float64)
        np.add.at(of_moment, moment, error)
        gradient = np.empty(len(parameters))
        gradient[:n_weights] = np.einsum("mj,mjh->h", of_moment, log_counts) / n_events
        if n_ages:
            gradient[n_weights:] = np.bincount(age.ravel(), error.ravel(), n_ages) / n_events
        value = float((np.log(total[:, 0]) - logits[rows, target]).mean())
        return value + PENALTY * float(parameters @ parameters), gradient + 2 * PENALTY * parameters

    begin = np.zeros(n_weights + n_ages)
    begin[n_weights - 1] = 1.0
    best = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": 50}).x
    return best[:n_weights].astype(np.float32), best[n_weights:].astype(np.float32)
