"""A solution version + what users did since -> answers, in milliseconds.

Everything that takes time is done when a campaign is loaded: histories lie in one piece, items and users in columns.
A request costs one forward pass of the model, one ranking, and what its own filter needs.
"""

import math
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.data.datasets import (
    Arrivals,
    Catalogue,
    Datasets,
    Histories,
    History,
    catalogue,
    histories,
    last_arrivals,
)
from lib.data.schema import Schema
from lib.exploration import Candidates, Exploration, Kin, Knowledge, Reaction
from lib.filters import Attribute, Columns, Filter, FilterError
from lib.ranking import SCORED_AT_ONCE, Lottery, Mixture, Ordered, promote, rank, softmax
from lib.recipes.recipe import Model, Recipe, Request
from lib.store.events import Answered, LiveEvent

EVENTS_PER_TYPE = 100
"""Filters look at so many of a user's newest interactions of each event type."""

KEPT_SCORES = 2**26
"""Scores of visitors that are kept until the visitor does something: 256 MiB."""

DRAWN_FROM = 128
"""Explored places are drawn from so many candidates, those with the highest bounds."""

KIN = 32
"""Known items whose scores tell what to expect of one that the model does not know."""

CHOICES = 8
"""Lists of a visitor that are kept beside the scores."""

SCORE_DECIMALS = 7
"""Scores are told to so many places."""

UNKNOWN = 1_000
"""Items the model does not know that may be explored at a time: the newest."""


@dataclass(frozen=True, slots=True)
class Records:
    """Rows of Items or Users by id.  numbers, added: id -> row; added are those put since the campaign was loaded."""

    numbers: Mapping[str, int]
    columns: Columns
    added: Mapping[str, int] = field(default_factory=dict)

    def row(self, id: str | None) -> int | None:
        """The row of an id, None for an unknown one."""
        row = self.numbers.get(id)
        return self.added.get(id) if row is None else row

    def put(self, rows: Mapping[str, Mapping[str, object]]) -> "Records":
        """With whole rows replaced or added, by id."""
        added, changed = dict(self.added), {}
        for id, row in rows.items():
            number = self.row(id)
            if number is None:
                number = added[id] = self.columns.n_rows + len(added) - len(self.added)
            changed[number] = row
        return replace(self, columns=self.columns.put(changed), added=added)


@dataclass(frozen=True, slots=True)
class Restriction:
    """A filter with the values a request brings for it."""

    filter: Filter
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Promotion:
    """percent of the answer is taken from what ``restriction`` lets through."""

    name: str
    percent: int
    restriction: Restriction


class Visitor:
    """Who asks: what the model, and what filters, know about a user or session at this moment.

    last_arrival: epoch seconds at which something that they did last came in; -inf for who has done nothing.
    """

    def __init__(
        self,
        history: History,
        row: Mapping[str, object],
        attributes: Mapping[str, Attribute],
        done: "_Done",
        last_arrival: float,
    ):
        self.history = history
        self.row = row
        self.attributes = attributes
        self.last_arrival = last_arrival
        self._done = done

    def unremembered(self) -> "Visitor":
        """The same to the model; to filters one who has done nothing."""
        nothing = _Done(self._done.items[:0], self._done.types[:0], self._done.names)
        return Visitor(self.history, self.row, self.attributes, nothing, -math.inf)

    @cached_property
    def interactions(self) -> dict[str, np.ndarray]:
        """Lower-case event type -> rows of the items of the newest interactions of that type."""
        return self._done.newest()


@dataclass(frozen=True, slots=True)
class _Done:
    """Everything a user did, oldest first.  items: (T,) rows.  types: (T,) positions in names."""

    items: np.ndarray
    types: np.ndarray
    names: Sequence[str]

    def newest(self) -> dict[str, np.ndarray]:
        return {
            self.names[event_type]: self.items[np.flatnonzero(self.types == event_type)[-EVENTS_PER_TYPE:]]
            for event_type in np.unique(self.types)
        }


class Recommended(NamedTuple):
    """An answer, best first; the lists are equally long.

    scores: rounded; None where the recipe gives none.  promoted: whether the promotion put the item there.  metadata:
    column in lower case -> text, None where no column was asked for.  explored: whether exploration put the item
    there, which the model alone would not have returned.  propensities: the chance of each item to stand where it
    stands, given those before it, None for promoted items; the whole is None where nothing is explored.
    """

    item_ids: list[str]
    scores: list[float] | None
    promoted: list[bool]
    metadata: list[dict[str, str]] | None
    explored: list[bool] | None = None
    propensities: list[float | None] | None = None


class Written(NamedTuple):
    """An answer as text.  items: one after the other.  item_ids: likewise.  propensities: as in ``Recommended``."""

    items: bytes
    item_ids: bytes
    propensities: Sequence[float] | None


class Writing(NamedTuple):
    """How a caller writes answers.  item: an item's id, its rounded score or None, and whether it was explored -> text.

    item_id: its id -> text.
    """

    item: Callable[[str, float | None, bool], bytes]
    item_id: Callable[[str], bytes]


class _Scored:
    """What the model says for one visitor at one moment, and what was worked out of it.

    choices: what was chosen, by how many were wanted and which filter they passed.
    """

    def __init__(self, logits: np.ndarray):
        """logits: (I,) float32."""
        self.ordered = Ordered(logits)
        self.bounds: _Bounds | None = None
        self.choices: dict[tuple, _Choice] = {}

    @cached_property
    def peak(self) -> float:
        return float(self.ordered.scores.max())

    @cached_property
    def total(self) -> float:
        """Of exp(logit - peak) over the catalogue."""
        return float(np.exp(self.ordered.scores - np.float32(self.peak)).sum(dtype=np.float64))


@dataclass(slots=True)
class _Bounds:
    """What exploration says for one visitor.  young: the candidates it was computed from.

    logits: (C,) float32, expected of items that the model does not know.  beyond: the sum of exp(logit - peak) over
    those.  ordered: the candidates by their bounds.
    """

    young: "_Young"
    logits: np.ndarray
    beyond: float
    ordered: Ordered


@dataclass(slots=True)
class _Choice:
    """Rows of the best items that a filter lets through, and, where there are bounds, what mixes others in.

    text, ids: what is written of these items, once anybody has asked for it.
    """

    items: list[int]
    bounds: _Bounds | None
    mixture: Mixture | None
    text: "_Text | None" = None
    ids: "_Text | None" = None


class _Text:
    """Items as text: the model's own in one piece, since most answers are made of long runs of these.

    beyond: place in the pool -> text, of what was mixed in until now.
    """

    __slots__ = ("_ends", "_n_own", "_whole", "beyond")

    def __init__(self, own: Sequence[bytes]):
        self._n_own, self._whole = len(own), b"".join(own)
        self._ends = array("i", [0, *accumulate(map(len, own))])
        self.beyond: dict[int, bytes] = {}

    def of(self, runs: Iterable[tuple[int, int]]) -> bytes:
        """The text of one run of the pool after the other; those beyond the piece are of one item each."""
        n_own, whole, ends, beyond = self._n_own, self._whole, self._ends, self.beyond
        pieces = [whole[ends[start] : ends[end]] if end <= n_own else beyond[start] for start, end in runs]
        return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class _Young:
    """The candidates of an exploration.  unknown: (C,) bool.  kin: (unknown ones, KIN) rows of items alike."""

    key: tuple
    candidates: Candidates
    unknown: np.ndarray
    kin: np.ndarray


class Campaign:
    """A loaded solution version.  Requests may come from several threads; ``put_items`` and ``put_users`` from one.

    Rows of items: first the model's catalogue, then one that is all null and stands for unknown items, then items that
    came after the training: filters and metadata know them, the model does not.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: Model,
        datasets: Datasets,
        arrivals: Arrivals = ((None, math.inf),),
        writing: Writing | None = None,
    ):
        """datasets: what was imported; live events and put records come in through ``visitor`` and ``put_*``.

        arrivals: when their interactions were.  writing: how ``write`` does it.
        """
        self.recipe, self._writing = recipe, writing
        self.model = model
        self.n_items = len(model.catalogue.item_ids)
        self.latest = int(datasets.interactions["TIMESTAMP"].max()) if len(datasets.interactions) else 0
        self.schemas = datasets.schemas
        present = catalogue(datasets)
        outside = np.setdiff1d(present.item_ids, model.catalogue.item_ids, assume_unique=True)
        ids = [*model.catalogue.item_ids.tolist(), None, *outside.tolist()]
        self.item_ids = np.array(ids, dtype=object)
        self.items = _records(datasets.items, "ITEM_ID", datasets.schemas.get("ITEMS"), ids)
        user_ids = [] if datasets.users is None else datasets.users["USER_ID"].tolist()
        self.users = _records(datasets.users, "USER_ID", datasets.schemas.get("USERS"), user_ids)
        self.event_types = present.event_types.tolist()
        self.done = histories(datasets.interactions, Catalogue(np.array(ids, dtype=object), present.event_types))
        self.histories = self._known(self.done)
        self._last_arrivals = last_arrivals(self.done.user_ids, arrivals)
        self._user_numbers = {user_id: number for number, user_id in enumerate(self.done.user_ids.tolist())}
        self._scored: OrderedDict[tuple, _Scored] = OrderedDict()
        self._scored_at = 0
        self._keeping = threading.Lock()
        self._young: _Young | None = None
        self._kin: dict[int, np.ndarray] = {}
        self._ids = ids
        self._arrivals: dict[int, float] = {}
        self._until = math.inf

    @classmethod
    def load(cls, recipe: Recipe, folder: Path, datasets: Datasets) -> "Campaign":
        """The version whose model lies in ``folder``."""
        return cls(recipe, recipe.load(folder), datasets)

    def put_items(self, rows: Mapping[str, Mapping[str, object]]) -> None:
        """Filters, metadata and exploration see these items from now on."""
        self.items = self.items.put(rows)
        for item_id in rows:
            row = self.items.row(item_id)
            self._kin.pop(row, None)
            if row == len(self._ids):
                self._ids.append(item_id)
            if "knowledge" in self.__dict__:
                self.knowledge.add(row, self._created(row))
        self._young = None

    def arrived(self, times: Mapping[str, float]) -> None:
        """When items were put, epoch seconds: those that the model does not know wait for ``explore_until``."""
        for item_id, at in times.items():
            row = self.items.row(item_id)
            if row is not None and row > self.n_items:
                self._arrivals.setdefault(row, at)
        self._young = None

    def explore_until(self, moment: float) -> None:
        """Items that arrived later than this, epoch seconds, are not explored yet; at first all are."""
        self._until, self._young = moment, None

    def put_users(self, rows: Mapping[str, Mapping[str, object]]) -> None:
        """Filters and the model see these users' columns from now on."""
        self.users = self.users.put(rows)

    def learn(self, events: Iterable[Answered]) -> None:
        """Let exploration know of live events."""
        self.knowledge.learn(
            Reaction(
                self._row(event.item_id),
                event.at,
                [row for row in map(self._row, event.shown) if row >= 0],
                event.recommendation_id,
            )
            for event in events
        )

    @cached_property
    def knowledge(self) -> Knowledge:
        """What exploration knows of the items; made when it is first asked for."""
        n_rows = self.items.columns.n_rows
        created = np.full(n_rows, np.nan)
        np.fmin.at(created, self.done.items, self.done.times.astype(np.float64))
        for row in range(n_rows):
            told = self._created(row)
            if not math.isnan(told):
                created[row] = told
        created[self.n_items] = -np.inf  # the row that stands for unknown items is no candidate
        known = np.arange(n_rows) < self.n_items
        return Knowledge.of(created, known, np.bincount(self.done.items, minlength=n_rows))

    def _created(self, row: int) -> float:
        """Epoch seconds, NaN where Items does not tell."""
        value = self.items.columns.value("CREATION_TIMESTAMP", row)
        return math.nan if value is None else float(value)

    def visitor(self, user_id: str | None, events: Sequence[LiveEvent] = ()) -> Visitor:
        """A user or session with its live events, oldest first."""
        number = self._user_numbers.get(user_id, -1)
        history = self.histories[number] if number >= 0 else _nothing(self.histories)
        done = self.done[number] if number >= 0 else _nothing(self.done)
        names: list[str] = self.event_types
        last_arrival = float(self._last_arrivals[number]) if number >= 0 else -math.inf
        if events:
            last_arrival = max(last_arrival, *(event.received_at for event in events))
            if self.recipe.real_time:
                history = self._extended(history, events)
            items, types, names = self._seen(events)
            done = History(np.append(done.items, items), done.times, np.append(done.event_types, types))
        row = self.users.row(user_id)
        columns = self.users.columns
        names_of_user = () if row is None else columns.columns
        return Visitor(
            history,
            {name: columns.value(name, row) for name in names_of_user},
            {name: columns.attribute(name, row) for name in names_of_user},
            _Done(done.items, done.event_types, names),
            last_arrival,
        )

    def recommend(
        self,
        visitor: Visitor,
        *,
        num_results: int,
        now: int,
        item_id: str | None = None,
        context: Mapping[str, str] | None = None,
        restriction: Restriction | None = None,
        promotion: Promotion | None = None,
        metadata_columns: Sequence[str] = (),
        exploration: Exploration | None = None,
        random: Callable[[], float] | None = None,
        scores: np.ndarray | None = None,
    ) -> Recommended:
        """The best items for a visitor, or those related to an item, which is not among them itself.

        now: epoch seconds.  restriction holds for all but promoted items.  random: draws evenly from [0, 1); what is
        explored, and the places of promoted items.  scores: (I,) float32, where the model was asked already.
        Raises FilterError for a filter, or values for it, that cannot be applied.
        """
        item, known = self._asked(item_id)
        scored = _Scored(scores) if scores is not None else self._scores_of(visitor, now, known, context)
        choice = self._choice(scored, num_results, now, restriction, visitor, item, exploration)
        items, marks, propensities = choice.items, None, None
        if choice.mixture is not None:
            drawn = choice.mixture.draw(random)
            items, marks, propensities = drawn.items, drawn.explored, list(drawn.propensity)
        promoted = [False] * len(items)
        if promotion is not None:
            rows = self._allowed(promotion.restriction, visitor, item)
            chosen = scored.ordered.best(num_results, self._without(rows, item))
            mixed = promote(items, chosen, num_results, promotion.percent, random)
            if choice.mixture is not None:
                told = dict(zip(items, zip(marks, propensities)))
                told = [(False, None) if put else told[row] for row, put in zip(mixed.items, mixed.promoted)]
                marks, propensities = [mark for mark, _ in told], [propensity for _, propensity in told]
            items, promoted = mixed.items, mixed.promoted
        return Recommended(
            [self._ids[row] for row in items],
            [self._chance(scored, choice.bounds, row) for row in items] if self.recipe.scored else None,
            promoted,
            self._metadata(items, metadata_columns) if metadata_columns else None,
            marks,
            propensities,
        )

    def write(
        self,
        visitor: Visitor,
        *,
        num_results: int,
        now: int,
        item_id: str | None = None,
        context: Mapping[str, str] | None = None,
        restriction: Restriction | None = None,
        exploration: Exploration | None = None,
        random: Callable[[], float] | None = None,
    ) -> Written:
        """What ``recommend`` gives for the same, as text; what was written for a visitor is kept with the scores."""
        item, known = self._asked(item_id)
        scored = self._scores_of(visitor, now, known, context)
        choice = self._choice(scored, num_results, now, restriction, visitor, item, exploration)
        if choice.text is None or choice.ids is None:
            choice.ids = _Text([self._writing.item_id(self._ids[row]) for row in choice.items])
            choice.text = _Text([self._text(scored, choice, row, False) for row in choice.items])
        if choice.mixture is None:
            runs, propensities = [(0, len(choice.items))], None
        else:
            pool, n_own, runs, propensities = choice.mixture.draw(random)
            for start, _ in runs:
                if start >= n_own and start not in choice.text.beyond:
                    choice.ids.beyond[start] = self._writing.item_id(self._ids[pool[start]])
                    choice.text.beyond[start] = self._text(scored, choice, pool[start], True)
        return Written(choice.text.of(runs), choice.ids.of(runs), propensities)

    def _text(self, scored: _Scored, choice: _Choice, row: int, explored: bool) -> bytes:
        chance = self._chance(scored, choice.bounds, row) if self.recipe.scored else None
        return self._writing.item(self._ids[row], chance, explored)

    def rerank(
        self,
        visitor: Visitor,
        input_list: Sequence[str],
        *,
        now: int,
        context: Mapping[str, str] | None = None,
        restriction: Restriction | None = None,
        metadata_columns: Sequence[str] = (),
    ) -> Recommended:
        """The given items, best first; those the model does not know follow in their order with score 0.

        Scores are shares among the known items given, also of those that the restriction drops.
        """
        request, allowed = self.question(visitor, now=now, context=context, restriction=restriction)
        return self.reranked(input_list, self.model.scores([request])[0], allowed, metadata_columns)

    def question(
        self,
        visitor: Visitor,
        *,
        now: int,
        item_id: str | None = None,
        context: Mapping[str, str] | None = None,
        restriction: Restriction | None = None,
    ) -> tuple[Request, np.ndarray | None]:
        """What the model is asked for a visitor, and the rows of items that pass: (n_rows,) bool, None for all.

        Raises FilterError as ``recommend`` does.
        """
        item, known = self._asked(item_id)
        return (
            Request(
                history=visitor.history,
                now=now,
                item=known,
                user=visitor.row,
                context={} if context is None else context,
            ),
            self._allowed(restriction, visitor, item),
        )

    def reranked(
        self,
        input_list: Sequence[str],
        scores: np.ndarray,
        allowed: np.ndarray | None,
        metadata_columns: Sequence[str] = (),
    ) -> Recommended:
        """``rerank`` by scores (I,) that the model has given already; allowed: (n_rows,) bool, None for all."""
        ids = list(dict.fromkeys(input_list))
        found = [self.items.row(id) for id in ids]
        rows = np.array([self.n_items if row is None else row for row in found], dtype=np.int64)
        kept = np.ones(len(rows), dtype=bool) if allowed is None else allowed[rows]
        known = np.flatnonzero(rows < self.n_items)
        order, chances = np.empty(0, dtype=np.int64), []
        if len(known):
            shown = scores[None, rows[known]]
            ranked = rank(shown, len(known), kept[known]).items[0]
            ranked = ranked[ranked >= 0]
            order, chances = known[ranked], _rounded(softmax(shown)[0, ranked])
        unknown = np.flatnonzero((rows >= self.n_items) & kept)
        order = np.append(order, unknown)
        return Recommended(
            [ids[place] for place in order],
            chances + [0.0] * len(unknown) if self.recipe.scored else None,
            [False] * len(order),
            self._metadata(rows[order].tolist(), metadata_columns),
        )

    def _asked(self, item_id: str | None) -> tuple[int | None, int]:
        """The row of the item that a request for related items is about, and its row if the model knows it, else -1."""
        item = self.items.row(item_id) if self.recipe.recipe_type == "RELATED_ITEMS" else None
        return item, item if item is not None and item < self.n_items else -1

    def _row(self, item_id: str | None) -> int:
        row = self.items.row(item_id)
        return -1 if row is None else row

    def _scores_of(self, visitor: Visitor, now: int, item: int, context: Mapping[str, str] | None) -> _Scored:
        """The model's scores, kept for as long as the visitor is and there is room."""
        key = _visit(visitor, now, item, context)
        with self._keeping:
            scored = self._scored.get(key)
            if scored is not None:
                self._scored.move_to_end(key)
                return scored
        request = Request(
            history=visitor.history, now=now, item=item, user=visitor.row, context={} if context is None else context
        )
        return self._kept(key, self.model.scores([request])[0])

    def _kept(self, key: tuple, scores: np.ndarray) -> _Scored:
        scored, now = _Scored(scores), key[1]
        with self._keeping:
            if now > self._scored_at:  # nobody asks for an earlier moment any more
                self._scored.clear()
                self._scored_at = now
            self._scored[key] = scored
            while len(self._scored) * self.n_items > KEPT_SCORES and len(self._scored) > 1:
                self._scored.popitem(last=False)
        return scored

    def at_hand(
        self, visitor: Visitor, now: int, item_id: str | None = None, context: Mapping[str, str] | None = None
    ) -> bool:
        """Whether the scores are kept that ``recommend`` needs, so that it takes no longer than handing it on."""
        return _visit(visitor, now, self._asked(item_id)[1], context) in self._scored

    def bring_to_hand(self, visits: Iterable[tuple[Visitor, str | None, Mapping[str, str]]], now: int) -> None:
        """Have the scores of visitors kept, for what item and in which context they ask; in few passes of the model.

        Another number of requests in a pass may change the last bit of a score, nothing more.
        """
        requests = {}
        for visitor, item_id, context in visits:
            item = self._asked(item_id)[1]
            key = _visit(visitor, now, item, context)
            if key not in self._scored:
                requests[key] = Request(history=visitor.history, now=now, item=item, user=visitor.row, context=context)
        step = max(1, SCORED_AT_ONCE // max(1, self.n_items))
        keys = list(requests)
        for start in range(0, len(keys), step):
            part = keys[start : start + step]
            for key, scores in zip(part, self.model.scores([requests[key] for key in part])):
                self._kept(key, scores)

    def _bounds(self, scored: _Scored, exploration: Exploration, now: int) -> _Bounds:
        young = self._candidates(exploration, now)
        if scored.bounds is not None and scored.bounds.young is young:
            return scored.bounds
        rows, unknown = young.candidates.rows, young.unknown
        logits = np.empty(len(rows), np.float32)
        logits[~unknown] = scored.ordered.scores[rows[~unknown]]
        chances = np.exp(scored.ordered.scores[young.kin].astype(np.float64) - scored.peak).mean(axis=1)
        logits[unknown] = np.log(np.maximum(chances, np.finfo(np.float32).tiny)) + scored.peak
        bounds = Ordered(logits + young.candidates.correction)
        scored.bounds = _Bounds(young, logits, float(chances.sum()), bounds)
        return scored.bounds

    def _candidates(self, exploration: Exploration, now: int) -> _Young:
        """The items that may be explored, as long as neither time nor what was learnt moves on."""
        key = (now, exploration.cut_off_days, self.knowledge.generation, self.items.columns.n_rows)
        young = self._young
        if young is not None and young.key == key:
            return young
        found = self.knowledge.candidates(now, exploration.cut_off_days)
        late = [row for row, at in self._arrivals.items() if at > self._until]
        if late:
            waits = np.isin(found.rows, late)
            found = Candidates(found.rows[~waits], found.correction[~waits])
        unknown = np.flatnonzero(found.rows >= self.n_items)
        if len(unknown) > UNKNOWN:
            late = np.nan_to_num(self.knowledge.created[found.rows[unknown]], nan=np.inf)
            left_out = unknown[np.argsort(late, kind="stable")[:-UNKNOWN]]
            found = Candidates(np.delete(found.rows, left_out), np.delete(found.correction, left_out))
        strangers = found.rows >= self.n_items
        kin = [self._kin_of(row) for row in found.rows[strangers].tolist()]
        self._young = _Young(key, found, strangers, np.array(kin, np.int64).reshape(-1, KIN))
        return self._young

    def _kin_of(self, row: int) -> np.ndarray:
        found = self._kin.get(row)
        if found is None:
            found = self._kin[row] = self._relatives.of(self._words(row), KIN)
        return found

    @cached_property
    def _relatives(self) -> Kin:
        """The model's items, those created last first."""
        created = np.nan_to_num(self.knowledge.created[: self.n_items], nan=-np.inf)
        newest_first = np.argsort(-created, kind="stable").tolist()
        return Kin([self._words(row) for row in newest_first], newest_first)

    def _words(self, row: int) -> set[str]:
        """What an item's columns say of it, but for numbers and long texts."""
        columns = self.items.columns
        return {
            f"{name}={word}"
            for name, column in columns.columns.items()
            if column.field.type == "string" and not column.field.textual and name != "ITEM_ID"
            for word in columns.attribute(name, row)
        }

    def _choice(
        self,
        scored: _Scored,
        num_results: int,
        now: int,
        restriction: Restriction | None,
        visitor: Visitor,
        item: int | None,
        exploration: Exploration | None,
    ) -> _Choice:
        """The best items for a visitor, kept for those who ask the same again."""
        bounds, weight = None, 0.0
        if exploration is not None and exploration.weight > 0:
            # before the filter: items that are put since are in both
            bounds, weight = self._bounds(scored, exploration, now), exploration.weight
        wanted = None if restriction is None else (restriction.filter.text, *sorted(restriction.values.items()))
        key = (num_results, item, weight, wanted)
        choice = scored.choices.get(key)
        if choice is not None and choice.bounds is bounds:
            return choice
        allowed = self._allowed(restriction, visitor, item)
        ranked = scored.ordered.best(num_results, self._without(allowed, item)).items[0]
        items = ranked[ranked >= 0].tolist()
        mixture = None
        if bounds is not None:
            rows = bounds.young.candidates.rows
            best = bounds.ordered.best(min(DRAWN_FROM, len(rows)), None if allowed is None else allowed[rows])
            place = best.items[0] >= 0
            lottery = Lottery(rows[best.items[0][place]], best.scores[0][place])
            mixture = Mixture(items, lottery, num_results, weight)
        if len(scored.choices) >= CHOICES:
            scored.choices.clear()
        choice = scored.choices[key] = _Choice(items, bounds, mixture)
        return choice

    def _chance(self, scored: _Scored, bounds: _Bounds | None, row: int) -> float:
        """An item's chance among the catalogue and the new items that may be explored, rounded."""
        if row < self.n_items:
            logit = float(scored.ordered.scores[row])
        else:
            logit = float(bounds.logits[np.searchsorted(bounds.young.candidates.rows, row)])
        total = scored.total + (0.0 if bounds is None else bounds.beyond)
        return round(math.exp(logit - scored.peak) / total, SCORE_DECIMALS)

    def _allowed(self, restriction: Restriction | None, visitor: Visitor, item: int | None) -> np.ndarray | None:
        """(n_rows,) bool over the rows of items, None for all."""
        if restriction is None:
            return None
        wanted = restriction.filter
        if wanted.id_name != "ItemID":
            raise FilterError(
                f"The filter chooses among {wanted.id_name}, this campaign recommends items: {wanted.text}"
            )
        if wanted.reads("CURRENTITEM") and self.recipe.recipe_type != "RELATED_ITEMS":
            raise FilterError(
                f"The filter uses CurrentItem, which only campaigns for related items have; this one is of "
                f"{self.recipe.name}: {wanted.text}"
            )
        return wanted.allowed(
            self.items.columns,
            values=restriction.values,
            user=visitor.attributes,
            current_item=item,
            interactions=visitor.interactions if wanted.reads("INTERACTIONS") else None,
        )

    def _without(self, allowed: np.ndarray | None, item: int | None) -> np.ndarray | None:
        """(I,) bool: the candidates, without the item that was asked about, which the model may not know."""
        candidates = None if allowed is None else allowed[: self.n_items]
        if item is not None and item < self.n_items:
            candidates = np.ones(self.n_items, dtype=bool) if candidates is None else candidates.copy()
            candidates[item] = False
        return candidates

    def _metadata(self, rows: Sequence[int], names: Sequence[str]) -> list[dict[str, str]] | None:
        if not names:
            return None
        columns = self.items.columns
        found = []
        for row in rows:
            values = ((name, columns.text(name.upper(), row)) for name in names)
            found.append({name.lower(): text for name, text in values if text is not None})
        return found

    def _known(self, done: Histories) -> Histories:
        """What the model can use: items of its catalogue, event types it was trained on."""
        numbers = self._trained_types(self.event_types)
        types = numbers[done.event_types] if len(numbers) else done.event_types
        used = (done.items < self.n_items) & (types >= 0)
        if used.all():
            return replace(done, event_types=types)
        before = np.concatenate([[0], np.cumsum(used)])
        return Histories(done.user_ids, before[done.offsets], done.items[used], done.times[used], types[used])

    def _trained_types(self, names: Sequence[str]) -> np.ndarray:
        """(E,) int32: the model's numbers of event types, -1 for those it was not trained on.

        Without an EVENT_TYPE column all events are of one nameless type, whatever live events call theirs.
        """
        trained = self.model.catalogue.event_types.tolist()
        if trained == [""]:
            return np.zeros(len(names), dtype=np.int32)
        return np.array([trained.index(name) if name in trained else -1 for name in names], dtype=np.int32)

    def _extended(self, history: History, events: Sequence[LiveEvent]) -> History:
        """The history with live events merged in by time."""
        rows = [self.items.numbers.get(event.item_id, self.n_items) for event in events]
        types = self._trained_types([event.event_type.lower() for event in events])
        used = [n for n, row in enumerate(rows) if row < self.n_items and types[n] >= 0]
        times = np.append(history.times, np.array([int(events[n].sent_at) for n in used], dtype=np.int64))
        items = np.append(history.items, np.array([rows[n] for n in used], dtype=np.int32))
        event_types = np.append(history.event_types, types[used])
        order = np.argsort(times, kind="stable")
        return History(items[order], times[order], event_types[order])

    def _seen(self, events: Sequence[LiveEvent]) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Rows and event types of live events on items of any kind, and the names of all event types."""
        names = list(self.event_types)
        numbers = {name: number for number, name in enumerate(names)}
        rows, types = [], []
        for event in events:
            row = self.items.row(event.item_id)
            if row is None:
                continue
            name = event.event_type.lower()
            if name not in numbers:
                numbers[name] = len(names)
                names.append(name)
            rows.append(row)
            types.append(numbers[name])
        return np.array(rows, dtype=np.int32), np.array(types, dtype=np.int32), names


def _visit(visitor: Visitor, now: int, item: int, context: Mapping[str, str] | None) -> tuple:
    """By what scores are kept."""
    return (visitor, now, item, *context.items()) if context else (visitor, now, item)


def _records(table: pd.DataFrame | None, key: str, schema: Schema | None, ids: Sequence[str | None]) -> Records:
    """Records whose rows are numbered as ``ids``."""
    numbers = {id: number for number, id in enumerate(ids) if id is not None}
    if table is None or schema is None:
        return Records(numbers, Columns(len(ids), {}))
    rows = np.array([numbers[id] for id in table[key]], dtype=np.int64)
    return Records(numbers, Columns.of(table, schema, rows, len(ids)))


def _rounded(chances: np.ndarray) -> list[float]:
    return [round(chance, SCORE_DECIMALS) for chance in chances.tolist()]


def _nothing(of: Histories) -> History:
    return History(of.items[:0], of.times[:0], of.event_types[:0])
