"""Scores -> ranked items.  The only place that sorts: evaluation, campaigns and batch jobs rank through here."""

import itertools
import math
import operator
import struct
from array import array
from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from lib.recipes.recipe import Model, Request

RANKED_AT_ONCE = 2**18  # scores; they fit in a core's cache
AHEAD = 1_024  # items that are sorted before anybody asks for so many
SCORED_AT_ONCE = 2**22  # scores; 16 MiB
SHARPNESS = 2.0  # of the draw: 0 would be even among candidates, infinity the highest bound alone
NEGLIGIBLE = 1e-6  # of a sum, beside which what is left of it is added up anew
WORDS = struct.Struct("<8Q")
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

    pool, runs: the list is one run of the mixture's pool after the other, each from a start to an end.  n_own: places
    of the pool that are the model's list; what comes from beyond was explored.  propensity: the chance of the item that
    stands there to stand there, given those before it; what off-policy evaluation divides by.
    """

    pool: Sequence[int]
    n_own: int
    runs: list[tuple[int, int]]
    propensity: Sequence[float]

    @property
    def items(self) -> list[int]:
        """At most K, as in ``Ranked`` without -1."""
        return [item for start, end in self.runs for item in self.pool[start:end]]

    @property
    def explored(self) -> list[bool]:
        """Whether the item was drawn, and the model's list has it not."""
        return [start >= self.n_own for start, end in self.runs for _ in range(start, end)]


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


def promote(items: Sequence[int], promoted: Ranked, k: int, percent: int, random: Callable[[], float]) -> Promoted:
    """Put promoted items at random positions of a list of k; both kinds keep the order of their ranking.

    items: k of them where there are so many, as the request's filter lets them through.  promoted: one row, at least k
    wide, as the promotion's filter does.  Promoted are floor(percent of k), at least one, fewer where fewer match; the
    others fill up.  random: draws evenly from [0, 1).
    """
    share = max(1, k * percent // 100) if k else 0
    chosen = promoted.items[0][promoted.items[0] >= 0][:share].tolist()
    taken = set(chosen)
    others = [item for item in items if item not in taken][: k - len(chosen)]
    marks: list[bool] = []
    left = len(chosen)
    for places in range(left + len(others), 0, -1):  # any are equally likely (Knuth, volume 2, 3.4.2, algorithm S)
        marks.append(random() * places < left)
        left -= marks[-1]
    first, rest = iter(chosen), iter(others)
    return Promoted([next(first) if mark else next(rest) for mark in marks], marks)


class Lottery:
    """Items that may be explored, each with a share in proportion to exp(``SHARPNESS`` bound)."""

    def __init__(self, candidates: np.ndarray, bounds: np.ndarray):
        """candidates: (C,) different items.  bounds: (C,) float32, on their logits."""
        tempered = SHARPNESS * (bounds - bounds.max(initial=np.float32(-np.inf))).astype(np.float64)
        self.items: list[int] = candidates.tolist()
        self.shares: list[float] = np.exp(np.maximum(tempered, -700)).tolist()  # none is 0


class Mixture:
    """A model's list in which each place may be drawn anew, with chance ``weight``; else the best that is left stands.

    A draw takes one of the lottery's candidates that are left, in proportion to their shares; where either kind has run
    out, the other takes the place.

    What is the same for every draw is worked out once, and lies close together: most of the time would go into fetching
    it.  Candidates beyond the model's list stand in front, then its own from the last to the first, so that those which
    are left at a place, where none was taken before, are the first so many.

    pool: all items that a list may hold: the model's own, best first, then the candidates beyond them.
    """

    def __init__(self, items: Sequence[int], lottery: Lottery, k: int, weight: float):
        """items: best first, k of them where there are so many; more do not matter."""
        items = items[:k]
        self.k, self.weight, self.n_own = k, weight, len(items)
        ranks = {item: rank for rank, item in enumerate(items)}
        candidates = sorted(zip(lottery.items, lottery.shares), key=lambda one: -ranks.get(one[0], k))  # stable
        beyond = [item for item, _ in candidates if item not in ranks]
        self.pool = [*items, *beyond]
        own = [ranks[item] for item, _ in candidates[len(beyond) :]]
        self._numbers = array("i", [*range(len(items), len(self.pool)), *own])  # in the pool, of each candidate
        self._shares = array("d", [share for _, share in candidates])
        self._ends = array("d", accumulate(self._shares))
        shares = dict(zip(own, self._shares[len(beyond) :]))
        self._own = array("d", [shares.get(rank, 0.0) for rank in range(len(items))])
        # at each rank of the model's list, and beyond: how many candidates are left, and their shares together
        counts = accumulate((share > 0 for share in self._own), operator.sub, initial=len(candidates))
        self._counts = array("i", counts)
        self._left = array("d", [self._ends[count - 1] if count else 0.0 for count in self._counts])
        self._standing = array("d", [0.0] * k)
        self._stand(self._standing, 0, 0, len(items), [])
        self._places = 1 / math.log1p(-weight) if 0 < weight < 1 else 0.0  # that stand, by the logarithm of a draw

    def draw(self, random: Callable[[], float]) -> Explored:
        """A list of k, shorter where both kinds run out.  random: draws evenly from [0, 1)."""
        k, n_own, weight = self.k, self.n_own, self.weight
        runs: list[tuple[int, int]] = []
        chances = self._standing[:]  # which holds until something is taken
        taken: list[int] = []  # candidates that stand before their turn, ascending
        ahead: list[int] = []  # ranks of the model's own among them
        place = rank = 0  # where the list is, and of the model's best that is left
        drawing = weight > 0
        while place < k:
            n = k - place  # places that stand before the next one that is drawn
            if drawing:
                n = min(n, int(math.log(1 - random()) * self._places))
            while rank < n_own:
                if rank in ahead:
                    rank += 1
                    continue
                if not n:
                    break
                end = min(rank + n, n_own)
                for own in ahead:
                    if rank < own < end:
                        end = own
                if taken:
                    self._stand(chances, place, rank, end, taken)
                runs.append((rank, end))
                n -= end - rank
                place += end - rank
                rank = end
            if place == k:
                break
            left = self._left_at(rank, taken)
            if not left:
                if rank == n_own:
                    break
                drawing = False
                continue
            candidate = self._drawn(rank, taken, left, random())
            number = self._numbers[candidate]
            chance = self._shares[candidate] / left
            if rank < n_own:
                chance = weight * chance + (1 - weight if number == rank else 0.0)
            chances[place] = min(1.0, chance)
            runs.append((number, number + 1))
            place += 1
            if number == rank < n_own:
                rank += 1
            else:
                insort(taken, candidate)
                if number < n_own:
                    ahead.append(number)
        del chances[place:]
        return Explored(self.pool, n_own, runs, chances)

    def _stand(self, chances: array, place: int, start: int, end: int, taken: Sequence[int]) -> None:
        """Set the chances of the model's own from start to end, of which none was taken, to stand from a place on."""
        weight, rest, gone = self.weight, 1 - self.weight, self._gone(start, taken)
        left: Sequence[float] = self._left[start:end]
        if gone and left[-1] - gone < NEGLIGIBLE * gone:
            left, gone = [self._left_at(rank, taken) for rank in range(start, end)], 0.0
        for share, among in zip(self._own[start:end], left):
            among -= gone
            chances[place] = rest + weight * (share / among) if share < among else 1.0
            place += 1

    def _left_at(self, rank: int, taken: Sequence[int]) -> float:
        """The shares of all that may be drawn where the model's best has this rank."""
        left = self._left[rank]
        if not taken:
            return left
        gone = self._gone(rank, taken)
        if left - gone < NEGLIGIBLE * gone:  # the difference of two like numbers says little
            there = enumerate(self._shares[: self._counts[rank]])
            return math.fsum(share for candidate, share in there if candidate not in taken)
        return left - gone

    def _gone(self, rank: int, taken: Sequence[int]) -> float:
        """The shares of what was taken of the candidates that would be left."""
        count, gone = self._counts[rank], 0.0
        for candidate in taken:
            if candidate < count:
                gone += self._shares[candidate]
        return gone

    def _drawn(self, rank: int, taken: Sequence[int], left: float, random: float) -> int:
        """One of the candidates that are left, of which there is one at least."""
        count, target = self._counts[rank], random * left
        for candidate in taken:
            if target < self._ends[candidate] - self._shares[candidate]:
                break
            target += self._shares[candidate]
        found = bisect_right(self._ends, target, 0, count)
        if found < count and found not in taken:
            return found
        # sums have been rounded, or what is left is next to nothing beside what was taken
        there = [candidate for candidate in range(count) if candidate not in taken]
        ends = list(accumulate(map(self._shares.__getitem__, there)))
        return there[min(bisect_right(ends, random * left), len(there) - 1)]


def uniforms(key: str) -> Iterator[float]:
    """Numbers from [0, 1) without end, as if drawn, the same for the same key: hashes of it and of their count."""
    for block in itertools.count():
        for word in WORDS.unpack(blake2b(f"{block}|{key}".encode()).digest()):
            yield (word >> 11) * 2.0**-53
