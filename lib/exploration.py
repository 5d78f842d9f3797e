r"""What a bandit knows of items, so that lists may show some that little is known of.

An item's bound is its score for the user, corrected by how it fared when it was shown, plus what it may be
underestimated by (upper confidence bounds, Auer et al., 2002; on logits, as LinUCB does, Li et al., WWW 2010):

.. math:: b_i = s_i + \log\frac{a + c_i}{a + e_i} + \frac{\alpha}{\sqrt{1 + n_i + e_i}}

n counts interactions, c those that answered a list which showed the item, and e how many would have, had all items that
were shown been alike.  ``ranking.explore`` draws places of a list by these bounds.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

PRIOR = 2.0  # a: clicks an item must have been expected to get before how it fares counts for half
OPTIMISM = 2.0  # alpha: standard deviations by which an item of which nothing is known is raised
LISTS = 100_000  # newest recommendations of which it is known that they were counted
GROWTH = 0.01  # of what was learnt, after which bounds are worth computing anew
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Exploration:
    """How much a campaign explores.  weight: share of places, 0 to 1.  cut_off_days: greatest age of candidates."""

    weight: float
    cut_off_days: float


@dataclass(frozen=True, slots=True)
class Reaction:
    """An event of an item, and the list that it answered.

    row: the item's, -1 where there is none.  at: epoch seconds.  shown: rows of the list, empty where the event tells
    of none.  recommendation_id: of that list, which is counted once, as is each item of it that was chosen.
    """

    row: int
    at: float
    shown: Sequence[int] = ()
    recommendation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items that may be explored.  rows: (C,) ascending.  correction: (C,) float32, what their scores are raised by."""

    rows: np.ndarray
    correction: np.ndarray


@dataclass(slots=True)
class Knowledge:
    """What is known of items, of which each array has a row.

    created: epoch seconds, NaN where nothing tells: such an item is new.  known: bool, whether a model scores it.
    interactions, shown, chosen: how often; the last two in lists that an event answered.  learnt: events that were
    counted.  generation: grows with it, at each event first, later at each hundredth of all events.
    """

    created: np.ndarray
    known: np.ndarray
    interactions: np.ndarray
    shown: np.ndarray
    chosen: np.ndarray
    learnt: int = 0
    generation: int = 0
    _lists: OrderedDict[str, set[int]] = field(default_factory=OrderedDict)

    @classmethod
    def of(cls, created: np.ndarray, known: np.ndarray, interactions: np.ndarray) -> "Knowledge":
        """Before anything was shown."""
        return cls(created, known, interactions.astype(np.float64), np.zeros(len(known)), np.zeros(len(known)))

    def add(self, row: int, created: float) -> None:
        """An item was put, at a row that may be new and is the next one then."""
        if row < len(self.known):
            if not np.isnan(created):
                self.created[row] = created
            return
        self.created = np.append(self.created, created)
        self.known = np.append(self.known, False)
        self.interactions, self.shown, self.chosen = (
            np.append(counts, 0.0) for counts in (self.interactions, self.shown, self.chosen)
        )

    def learn(self, reactions: Iterable[Reaction]) -> None:
        """Count events."""
        for reaction in reactions:
            self.learnt += 1
            if reaction.row >= 0:
                self.interactions[reaction.row] += 1
                if np.isnan(self.created[reaction.row]):
                    self.created[reaction.row] = reaction.at
            if reaction.shown:
                self._compare(reaction)
        beyond = GROWTH * self.learnt
        self.generation = self.learnt if beyond <= 1 else int(1 / GROWTH + math.log(beyond) / math.log1p(GROWTH))

    def candidates(self, now: int, cut_off_days: float) -> Candidates:
        """The items of an age up to the cut-off.  now: epoch seconds."""
        n_rows = len(self.chosen)  # the last to grow when an item is added meanwhile
        created = self.created[:n_rows]
        age_days = (now - np.where(np.isnan(created), now, created)) / DAY
        # what the model knows may be announced for later; what was put since is there, whatever clock dated it
        rows = np.flatnonzero((age_days <= cut_off_days) & ((age_days >= 0) | ~self.known[:n_rows]))
        share = (PRIOR + self.chosen.sum()) / (2 * PRIOR + self.shown.sum())
        expected = self.shown[rows] * share
        correction = np.log((PRIOR + self.chosen[rows]) / (PRIOR + expected))
        correction += OPTIMISM / np.sqrt(1 + self.interactions[rows] + expected)
        return Candidates(rows, correction.astype(np.float32))

    def _compare(self, reaction: Reaction) -> None:
        rows = np.unique(reaction.shown)
        chosen: set[int] = set()
        if reaction.recommendation_id is not None:
            known = self._lists.get(reaction.recommendation_id)
            if known is None:
                self._lists[reaction.recommendation_id] = chosen
                if len(self._lists) > LISTS:
                    self._lists.popitem(last=False)
            else:
                chosen, rows = known, rows[:0]
        self.shown[rows] += 1
        if reaction.row in reaction.shown and reaction.row not in chosen:
            chosen.add(reaction.row)
            self.chosen[reaction.row] += 1


class Kin:
    """Finds the known items that a new one resembles: what they score is what it may be expected to."""

    def __init__(self, words: Sequence[frozenset[str]], rows: Sequence[int]):
        """words: of each known item.  rows: their rows; of equally close items those come first that stand first here.

        Raises ValueError for no item at all.
        """
        if not len(rows):
            raise ValueError("no item is known that others could be compared with; expected at least one")
        self.rows = np.array(rows, dtype=np.int64)
        places: dict[str, list[int]] = {}
        for place, its in enumerate(words):
            for word in its:
                places.setdefault(word, []).append(place)
        self._places = {word: np.array(found) for word, found in places.items()}
        self._first = np.linspace(1e-6, 0, len(rows))

    def of(self, words: Iterable[str], width: int) -> np.ndarray:
        """(width,) rows of the items that share most of these words, rarer ones counting more; repeated if too few.

        Of items that share nothing the first are given, where no item shares anything.
        """
        shared = self._first.copy()
        for word in sorted(words):
            places = self._places.get(word)
            if places is not None:
                shared[places] += np.log1p(len(self.rows) / len(places))
        n = min(width, np.count_nonzero(shared > self._first[0]) or len(shared))
        return np.resize(self.rows[np.sort(np.argpartition(shared, -n)[-n:])], width)
