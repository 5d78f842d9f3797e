"""Scores -> ranked items.  The only place that sorts: evaluation, campaigns and batch jobs rank through here."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from lib.recipes.recipe import Model, Request

RANKED_AT_ONCE = 2**18  # scores; they fit in a core's cache
AHEAD = 1_024  # items that are sorted before anybody asks for so many
SCORED_AT_ONCE = 2**22  # scores; 16 MiB
SHARPNESS = 2.0  # of the draw: 0 would be even among candidates, infinity the highest bound alone
MINUS_INFINITY = np.float32(-np.inf).view(np.int32)


@dataclass(frozen=True, slots=True)
class Ranked:
    """Lists of items, best first.

    items: (B, K) int32 positions in the catalogue, -1 where the candidates ran out.
    scores: (B, K) float32, -inf beside a -1.
    """

    items: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, slots=True)
class Promoted:
    """One list with promoted items among the others.  items: as in ``Ranked`` without -1.  promoted: which they are."""

    items: list[int]
    promoted: list[bool]


class Explored(NamedTuple):
    """One list, of which some places were drawn.

    items: at most K, as in ``Ranked`` without -1.  explored: whether the item was drawn, and the model's list has it
    not.  propensity: the chance of the item that stands there to stand there, given those before it; what off-policy
    evaluation divides by.
    """

    items: list[int]
    explored: list[bool]
    propensity: list[float]


@dataclass(slots=True)
class Ordered:
    """One row of scores, (I,) float32, whose best are asked for again and again; gives what ``rank`` gives.

    No more is sorted than was asked for; with a filter, ``AHEAD``, and where it leaves too few of those, all that it
    lets through.
    """

    scores: np.ndarray
    _first: Ranked | None = None

    def best(self, k: int, allowed: np.ndarray | None = None) -> Ranked:
        """The k best, one row.  allowed: (I,) bool, the candidates; None for all."""
        width = min(k if allowed is None else max(k, AHEAD), len(self.scores))
        first = self._first
        if first is None or first.items.shape[1] < width:
            first = self._first = rank(self.scores[None], width)
        items, scores = first.items[:1], first.scores[:1]
        if k > len(self.scores):
            return rank(self.scores[None], k, allowed)
        if allowed is None:
            return Ranked(items[:, :k], scores[:, :k])
        place = np.flatnonzero(allowed[items[0]] & (items[0] >= 0))[:k]
        if len(place) == k:
            return Ranked(items[:, place], scores[:, place])
        rows = np.flatnonzero(allowed)  # few pass, so they alone are ranked
        found = rank(self.scores[rows][None], k)
        return Ranked(np.append(rows, -1).astype(np.int32)[found.items], found.scores)


def rank(scores: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Ranked:
    """The k best items of each row; of equal scores the item that comes first in the catalogue is first.

    scores: (B, I) float32, not NaN.  allowed: (I,) or (B, I) bool, the candidates; None for all.
    Raises ValueError for other shapes, a negative k, or a NaN among the best.
    """
    rows, n_items = scores.shape
    if k < 0:
        raise ValueError(f"k is {k}, expected 0 or more")
    if allowed is not None and allowed.shape not in ((n_items,), (rows, n_items)):
        raise ValueError(f"allowed has shape {allowed.shape}, expected {(n_items,)} or {(rows, n_items)}")
    ranked = Ranked(np.full((rows, k), -1, np.int32), np.full((rows, k), -np.inf, np.float32))
    width = min(k, n_items)
    if width == 0:
        return ranked
    step = max(1, RANKED_AT_ONCE // n_items)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        candidates = scores[part]
        if allowed is not None:
            candidates = candidates + _penalty(allowed if allowed.ndim == 1 else allowed[part])
        ranked.items[part, :width], ranked.scores[part, :width] = _best(candidates, width)
    return ranked


def _best(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(b, I) -> items (b, k), -1 where the score is -inf, and their scores."""
    last = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k:].min(axis=1, keepdims=True)  # NaN sorts to the top
    if np.isnan(last).any():
        raise ValueError("scores hold NaN; a model's scores are finite")
    rows, n_items = scores.shape
    chosen = scores >= last
    place = np.flatnonzero(chosen)
    if len(place) > rows * k:  # somewhere more items tie for the last places than fit
        surplus = np.count_nonzero(chosen, axis=1) - k
        for row in np.flatnonzero(surplus):
            chosen[row, np.flatnonzero(scores[row] == last[row])[-surplus[row] :]] = False
        place = np.flatnonzero(chosen)
    items = place.reshape(rows, k) - np.arange(rows)[:, None] * n_items
    kept = np.take_along_axis(scores, items, axis=1)
    order = np.argsort(-kept, axis=1, kind="stable")
    items, kept = np.take_along_axis(items, order, axis=1), np.take_along_axis(kept, order, axis=1)
    return np.where(np.isneginf(kept), -1, items), kept


def _penalty(allowed: np.ndarray) -> np.ndarray:
    """Where allowed 0, elsewhere -inf, made of bits: numpy chooses by branching, which costs ten times as much."""
    return ((allowed.view(np.int8) - np.int8(1)).astype(np.int32) & MINUS_INFINITY).view(np.float32)


def recommend(
    model: Model, requests: Sequence[Request], k: int, allowed: np.ndarray | None = None, *, chances: bool = False
) -> Ranked:
    """Score and rank; a request's own item is not part of its result.

    allowed: (I,) or (B, I) bool, the candidates; None for all.  chances: give each item's chance among the whole
    catalogue (``softmax``) in place of its score.  Requests are scored a part at a time, so that memory does not grow
    with their number.
    """
    n_items = len(model.catalogue.item_ids)
    kind = np.float64 if chances else np.float32
    ranked = Ranked(np.empty((len(requests), k), np.int32), np.empty((len(requests), k), kind))
    step = max(1, SCORED_AT_ONCE // max(1, n_items))
    for start in range(0, len(requests), step):
        part = slice(start, start + step)
        scores = whole = model.scores(requests[part])
        asked = np.array([request.item for request in requests[part]], dtype=np.int64)
        rows = np.flatnonzero(asked >= 0)
        if len(rows):
            scores = scores.copy()
            scores[rows, asked[rows]] = -np.inf
        found = rank(scores, k, allowed if allowed is None or allowed.ndim == 1 else allowed[part])
        ranked.items[part] = found.items
        ranked.scores[part] = _chances(whole, found.items) if chances else found.scores
    return ranked


def _chances(scores: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(B, K) float64: ``softmax`` of the items alone, to about 7 digits; 0 beside a -1."""
    highest = scores.max(axis=1, keepdims=True)
    total = np.empty((len(scores), 1))
    step = max(1, RANKED_AT_ONCE // scores.shape[1])
    for start in range(0, len(scores), step):
        part = slice(start, start + step)
        exponent = scores[part] - highest[part]
        total[part] = np.exp(exponent, out=exponent).sum(axis=1, keepdims=True, dtype=np.float64)
    chosen = np.take_along_axis(scores, np.maximum(items, 0).astype(np.int64), axis=1)
    return np.where(items >= 0, np.exp(chosen.astype(np.float64) - highest) / total, 0.0)


def softmax(scores: np.ndarray) -> np.ndarray:
    """(B, I) -> (B, I) float64: each item's chance among all items of the catalogue; a row sums to 1."""
    exponent = scores.astype(np.float64)
    exponent -= exponent.max(axis=1, keepdims=True)
    np.exp(exponent, out=exponent)
    exponent /= exponent.sum(axis=1, keepdims=True)
    return exponent


def promote(items: Sequence[int], promoted: Ranked, k: int, percent: int, rng: np.random.Generator) -> Promoted:
    """Put promoted items at random positions of a list of k; both kinds keep the order of their ranking.

    items: k of them where there are so many, as the request's filter lets them through.  promoted: one row, at least k
    wide, as the promotion's filter does.  Promoted are floor(percent of k), at least one, fewer where fewer match; the
    others fill up.
    """
    share = max(1, k * percent // 100) if k else 0
    chosen = promoted.items[0][promoted.items[0] >= 0][:share].tolist()
    taken = set(chosen)
    others = [item for item in items if item not in taken][: k - len(chosen)]
    place = np.zeros(len(chosen) + len(others), dtype=bool)
    place[rng.choice(len(place), size=len(chosen), replace=False)] = True
    first, rest = iter(chosen), iter(others)
    return Promoted([next(first) if put else next(rest) for put in place.tolist()], place.tolist())


class Lottery:
    """Items that may be explored, each with a share in proportion to exp(``SHARPNESS`` bound)."""

    def __init__(self, candidates: np.ndarray, bounds: np.ndarray):
        """candidates: (C,) different items.  bounds: (C,) float32, on their logits."""
        tempered = SHARPNESS * (bounds - bounds.max(initial=np.float32(-np.inf))).astype(np.float64)
        self.shares = np.exp(np.maximum(tempered, -700))  # none is 0
        self.items: list[int] = candidates.tolist()
        self.share: list[float] = self.shares.tolist()

    def left(self, used: Collection[int]) -> float:
        """The shares of all that are not used, added up."""
        return math.fsum(share for item, share in zip(self.items, self.share) if item not in used)

    def order(self, rng: np.random.Generator) -> Iterator[int]:
        """Numbers of all candidates in a random order; whoever leaves some out still draws the others in proportion.

        A race of exponential waiting times, each at the rate of its share: who comes next among any that are left is
        independent of what was left out (Plackett 1975; Efraimidis & Spirakis 2006).
        """
        race = rng.standard_exponential(len(self.items))
        return iter(np.divide(race, self.shares, out=race).argsort().tolist())


class Mixture:
    """A model's list in which each place may be drawn anew, with chance ``weight``; else the best that is left stands.

    A draw takes one of the lottery's candidates that are left, in proportion to their shares; where either kind has run
    out, the other takes the place.  What is the same for every draw is worked out once.
    """

    def __init__(self, items: Sequence[int], lottery: Lottery, k: int, weight: float):
        """items: best first, k of them where there are so many."""
        self.items, self.lottery, self.k, self.weight = list(items), lottery, k, weight
        self._rank = {item: place for place, item in enumerate(self.items)}
        self._ranks = [self._rank.get(item, k) for item in lottery.items]  # of the lottery's items, k: of none
        shares = dict(zip(lottery.items, lottery.share))
        self._own = [shares.get(item, 0.0) for item in self.items]
        self._outside = lottery.left(self._rank)

    def draw(self, rng: np.random.Generator) -> Explored:
        """A list of k, shorter where both kinds run out."""
        lottery, ranks, k = self.lottery, self._ranks, self.k
        order = lottery.order(rng)
        places = (rng.random(k) < self.weight).nonzero()[0].tolist()
        if len(self.items) < k:
            places += [k] * (k - len(self.items))  # beyond the model's list each place is drawn
        # own: shares of the items of the list.  outside: of all others.
        items, own, outside = self.items.copy(), self._own.copy(), self._outside
        drawn = []  # number and place of what the model would not have put there, and the chance that a place is drawn
        for place in places:
            place = min(place, len(items))
            if place == k:
                break
            best, chance = k, 1.0
            if place < len(items):
                best, chance = self._rank[items[place]], self.weight
            for number in order:
                if ranks[number] >= best:  # the better ones stand before
                    break
            else:
                break  # none is left
            rank = ranks[number]
            if rank == best < k:
                continue
            item, share = lottery.items[number], lottery.share[number]
            drawn.append((number, place, chance))
            items.insert(place, item)
            own.insert(place, share)
            if rank < k:
                end = items.index(item, place + 1)
                del items[end], own[end]
            else:
                outside -= share
        outside += sum(own[k:])
        del items[k:], own[k:]
        if outside < 1e-6 * self._outside:  # the difference of two like numbers says little
            outside = lottery.left(set(items))
        left = list(accumulate(reversed(own), initial=outside))[:0:-1]  # at each place, of all that stand not before
        rest, weight = 1 - self.weight, self.weight
        chances = [rest + weight * (share / of) if share < of else 1.0 for share, of in zip(own, left)]
        marks = [False] * len(items)
        for number, place, chance in drawn:
            chances[place] = min(1.0, chance * lottery.share[number] / left[place])
            marks[place] = ranks[number] == k
        return Explored(items, marks, chances)
