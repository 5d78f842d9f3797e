r"""Which item follows which: by a closed-form linear model of item sequences, or by counts.

The closed form (SLIST, Choi et al., WWW 2021) is over the most frequent items.  A user's past at position t is the
vector :math:`s_t = e_{i_t} + \gamma s_{t-1}`, the future :math:`y_t = e_{i_{t+1}} + \phi y_{t+1}`.  The weights B make
:math:`s_t B` closest to :math:`y_t` over all users and positions, and at the same time, with share alpha, a user's
whole set of items to itself:

.. math:: B = ((1 - \alpha) S^T S + \alpha X^T X + \lambda I)^{-1} ((1 - \alpha) S^T Y + \alpha X^T X)

S has a row per event and is never built: a pair of events g steps apart adds :math:`\sum_{k<g} \gamma^k \phi^{g-1-k}`
to :math:`S^T Y`, and :math:`S^T S` follows from the pairs by the recurrence of s.

The counts, over all items, keep the strongest weights of each alone: of the steps c from i to what comes shortly after,

.. math:: B_{ij} = c_{ij} / (\sum_j c_{ij} + m)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import scipy.linalg
import scipy.sparse as sparse

from lib.data.datasets import Histories, History
from lib.recipes import places

MAX_ITEMS = 6_000  # the inverse is dense: 144 MB at this size; rarer items are left to other models
MIN_COUNT = 5  # interactions below which an item's row is left out
DOUBT = 0.01  # weight that an item without evidence has
MAX_PROFILE = 500  # a user's newest events that count for the whole set
NEGLIGIBLE = 1e-3  # weights below it are taken for 0
NEAR, NEARNESS = 10, 0.85  # reach, in events, of steps that are counted, and what each event between takes off
PRIOR = 15.0  # steps that an item's having no followers is worth
KEPT = 300  # counted followers of an item


@dataclass(frozen=True, slots=True)
class Transitions:
    """items: (J,) int32, the catalogue positions that the weights are about.

    weights: (J, J) float32, an array or, where they are counted, CSR.  place: (I,) int32, where an item stands in
    ``items``, -1 for nowhere.  decay: gamma of the past.  again: whether they tell too what a user takes again.
    """

    items: np.ndarray
    weights: np.ndarray | sparse.csr_matrix
    place: np.ndarray
    decay: float
    again: bool = False

    def arrays(self) -> dict[str, np.ndarray]:
        weights = {"weights": self.weights}
        if self.counted:
            weights = {"followers": self.weights.indices, "ends": self.weights.indptr, "weights": self.weights.data}
        return {"items": self.items, "place": self.place, **weights}

    @classmethod
    def load(cls, arrays: Mapping[str, np.ndarray], decay: float, again: bool) -> "Transitions":
        items, place, weights = arrays["items"], arrays["place"], arrays["weights"]
        if "ends" in arrays:
            weights = sparse.csr_matrix((weights, arrays["followers"], arrays["ends"]), (len(items), len(items)))
        return cls(items, weights, place, decay, again)

    @property
    def counted(self) -> bool:
        """Whether the weights are counts rather than the closed form."""
        return sparse.issparse(self.weights)

    def scores(self, histories: Sequence[History]) -> np.ndarray:
        """(B, I) float32 >= 0: log(1 + weight / DOUBT), 0 for items the weights are not about."""
        out = np.zeros((len(histories), len(self.place)), np.float32)
        found = self.pasts(histories) @ self.weights
        if self.counted:
            row = np.repeat(np.arange(len(histories)), np.diff(found.indptr))
            out[row, self.items[found.indices]] = np.log1p(found.data / DOUBT)
        else:
            np.maximum(found, 0, out=found)
            found /= DOUBT
            found += 1
            out[:, self.items] = np.log(found, out=found)  # numpy takes eight at once, of log1p one
        return out

    def pasts(self, histories: Sequence[History]) -> sparse.csr_matrix:
        """(B, J) float32: s after the last event."""
        newest = [history.items[-_reach(self.decay) :] for history in histories]
        offsets = np.concatenate([[0], np.cumsum([len(items) for items in newest])])
        return _pasts(self.place[np.concatenate(newest)], offsets, len(self.items), self.decay)


def fit(
    histories: Histories,
    n_items: int,
    *,
    decay: float,
    future: float,
    ridge: float,
    alpha: float,
    max_items: int = MAX_ITEMS,
) -> Transitions:
    """Solve for B over the most frequent items.  decay: gamma, future: phi, both in (0, 1).  ridge: lambda."""
    counts = np.bincount(histories.items, minlength=n_items)
    n_frequent = int((counts >= min(MIN_COUNT, counts.max())).sum())
    items = np.sort(np.argsort(-counts, kind="stable")[: min(max_items, n_frequent)]).astype(np.int32)
    place = np.full(n_items, -1, np.int32)
    place[items] = np.arange(len(items))
    item = place[histories.items]
    user = np.repeat(np.arange(len(histories.user_ids)), np.diff(histories.offsets))

    past_future = np.zeros((len(items), len(items)), np.float32)  # S'Y
    past_next = np.zeros_like(past_future)  # sum of s_{t-1} e_t'
    gap, to_future, to_next = 1, 1.0, 1.0  # the weights of a pair so far apart, in each of the two
    while to_future > NEGLIGIBLE:
        together = np.flatnonzero((user[gap:] == user[:-gap]) & (item[gap:] >= 0) & (item[:-gap] >= 0))
        pairs = sparse.csr_matrix(
            (np.ones(len(together), np.float32), (item[together], item[together + gap])), past_future.shape
        )
        _add(past_future, pairs, to_future)
        _add(past_next, pairs, to_next)
        gap, to_next = gap + 1, to_next * decay
        to_future = to_future * future + to_next
    newest = _pasts(item, histories.offsets, len(items), decay)
    # s_t s_t' = gamma^2 s_{t-1} s_{t-1}' + gamma (s_{t-1} e_t' + e_t s_{t-1}') + e_t e_t', summed over t of each user
    last = (newest.T @ newest).toarray()
    past = decay * (past_next + past_next.T)
    past[np.diag_indices_from(past)] += counts[items]
    past -= last  # a last event has no future
    past /= 1 - decay**2

    profiles = _profiles(user, item, histories.offsets, len(items))
    together = (profiles.T @ profiles).toarray()
    past *= 1 - alpha
    past += alpha * together
    past[np.diag_indices_from(past)] += ridge
    past_future *= 1 - alpha
    past_future += alpha * together
    weights = scipy.linalg.solve(past, past_future, assume_a="pos", overwrite_a=True, overwrite_b=True)
    return Transitions(items, np.ascontiguousarray(weights, dtype=np.float32), place, decay)


def count(histories: Histories, n_items: int, *, decay: float, again: bool) -> Transitions:
    """Count which items follow which, over all items with interactions.  decay: as in ``fit``."""
    items = np.unique(histories.items).astype(np.int32)
    place = np.full(n_items, -1, np.int32)
    place[items] = np.arange(len(items))
    known = replace(histories, items=place[histories.items])
    steps = places.steps(places.without_repeats(known), len(items), NEAR, NEARNESS)
    rows = []
    for begin, end in pairwise(steps.indptr):
        strength = steps.data[begin:end]
        rows.append(places.strongest(strength / (strength.sum() + PRIOR), steps.indices[begin:end], KEPT))
    return Transitions(items, places.gathered(rows), place, decay, again)


def _add(matrix: np.ndarray, pairs: sparse.csr_matrix, weight: float) -> None:
    row = np.repeat(np.arange(len(matrix)), np.diff(pairs.indptr))
    matrix[row, pairs.indices] += weight * pairs.data


def _reach(decay: float) -> int:
    """Events until the weight is negligible."""
    return 1 + int(np.log(NEGLIGIBLE) / np.log(decay))


def _pasts(item: np.ndarray, offsets: np.ndarray, n_items: int, decay: float) -> sparse.csr_matrix:
    """(U, J) float32: s after each user's last event.  item: (N,) places, -1 for none."""
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    age = offsets[user + 1] - 1 - np.arange(len(item))
    used = (item >= 0) & (age < _reach(decay))
    weights = (decay ** age[used]).astype(np.float32)
    return sparse.csr_matrix((weights, (user[used], item[used])), (len(offsets) - 1, n_items))


def _profiles(user: np.ndarray, item: np.ndarray, offsets: np.ndarray, n_items: int) -> sparse.csr_matrix:
    """(U, J) float32: 1 for the items among each user's newest events."""
    age = offsets[user + 1] - 1 - np.arange(len(item))
    used = (item >= 0) & (age < MAX_PROFILE)
    profiles = sparse.csr_matrix(
        (np.ones(used.sum(), np.float32), (user[used], item[used])), (len(offsets) - 1, n_items)
    )
    profiles.data[:] = 1
    return profiles
