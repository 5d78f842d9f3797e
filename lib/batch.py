"""What a campaign answers, for millions of users or items: JSON Lines in, JSON Lines out.

Lines are read, answered and written some thousands at a time, so that memory does not grow with a file.  Within such a
lot, users with histories of like length are scored together; the answers stand in the order of the lines.
"""

import math
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, Protocol

import numpy as np
import orjson

from lib import filters
from lib.campaigns import Campaign, Recommended, Restriction, Visitor
from lib.data.schema import Schema
from lib.exploration import Exploration
from lib.filters import Columns, Filter, FilterError
from lib.ranking import SCORED_AT_ONCE, rank, recommend, uniforms
from lib.recipes.recipe import Request, Segmenter
from lib.reproducible import THREADS
from lib.themes import Themes

LINES_AT_ONCE = 4_096
ROWS_AT_ONCE = 256  # scored together
MAX_LINE_BYTES = 2**20
MAX_ITEMS = 500  # of an itemList
DECIMALS = 7
REQUIRED = {
    "USER_PERSONALIZATION": ("userId",),
    "POPULAR_ITEMS": ("userId",),
    "PERSONALIZED_RANKING": ("userId", "itemList"),
    "RELATED_ITEMS": ("itemId",),
}


class LineError(ValueError):
    """What is wrong with a line of the input."""


@dataclass(slots=True)
class Tally:
    """How many lines there were, how many of them could not be answered, and why the first of those could not."""

    lines: int = 0
    errors: int = 0
    error: str | None = None

    def add(self, other: "Tally") -> None:
        """Count another file's lines too."""
        self.lines += other.lines
        self.errors += other.errors
        self.error = self.error or other.error


@dataclass(slots=True)
class _Asked:
    """A line that was read.  allowed: (n_rows,) bool, None for all.  error: why it cannot be answered."""

    given: Any
    visitor: Visitor | None = None
    request: Request | None = None
    restriction: Restriction | None = None
    allowed: np.ndarray | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Everything that the lines of a job share.

    loaded: the version, with all that users did so far.  now: epoch seconds.  wanted: what all answers are filtered by,
    with the ``filterValues`` of each line.  exploration: how much of each answer is explored, None for nothing; what is
    drawn depends on ``seed`` and the line's user alone.  themes: what names each list's theme, if that is wanted.
    remembered_from: epoch seconds; of whom nothing has come in since then, filters ignore what they did.
    """

    loaded: Campaign
    num_results: int
    now: int
    wanted: Filter | None = None
    exploration: Exploration | None = None
    seed: str = ""
    themes: Themes | None = None
    remembered_from: float = -math.inf

    def answer(self, lines: Sequence[bytes], tally: Tally) -> list[bytes]:
        """The output's line for each line of the input; what was found is counted in ``tally``."""
        asked = [self._read(line) for line in lines]
        outputs: list[Mapping[str, Any]] = [{"recommendedItems": []}] * len(asked)
        readable = [n for n, one in enumerate(asked) if one.error is None]
        readable.sort(key=lambda n: len(asked[n].visitor.history.items))
        parts = [readable[start : start + ROWS_AT_ONCE] for start in range(0, len(readable), ROWS_AT_ONCE)]
        with ThreadPoolExecutor(THREADS) as threads:
            for part, found in zip(parts, threads.map(lambda part: self._answers([asked[n] for n in part]), parts)):
                for n, output in zip(part, found):
                    outputs[n] = output
        return [_written(one, output, tally) for one, output in zip(asked, outputs)]

    def _read(self, line: bytes) -> _Asked:
        asked = _parsed(line, REQUIRED[self.loaded.recipe.recipe_type])
        if asked.error is not None:
            return asked
        try:
            self._check(asked.given)
        except LineError as error:
            asked.error = str(error)
        else:
            visitor = self.loaded.visitor(asked.given.get("userId"))
            asked.visitor = visitor if visitor.last_arrival >= self.remembered_from else visitor.unremembered()
        return asked

    def _check(self, given: Mapping[str, Any]) -> None:
        required = REQUIRED[self.loaded.recipe.recipe_type]
        for name in ("userId", "itemId"):
            if not isinstance(given.get(name), str | None):
                raise LineError(f"{name} is {given[name]!r}, expected a string")
        items = given["itemList"] if "itemList" in required else []
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items) or len(items) > MAX_ITEMS:
            raise LineError(f"itemList is no list of at most {MAX_ITEMS} strings")

    def _ask(self, one: _Asked) -> None:
        """Make the model's request of a line, or say why that cannot be."""
        try:
            one.restriction = self._restriction(one.given)
            one.request, one.allowed = self.loaded.question(
                one.visitor, now=self.now, item_id=one.given.get("itemId"), restriction=one.restriction
            )
        except (LineError, FilterError) as error:
            one.error = str(error)

    def _restriction(self, given: Mapping[str, Any]) -> Restriction | None:
        values = _filter_values(given, self.wanted)
        if self.wanted is None:
            return None
        if not given.get("userId") and (self.wanted.reads("INTERACTIONS") or self.wanted.reads("CURRENTUSER")):
            raise LineError(f"userId is missing: the filter looks at a user: {self.wanted.text}")
        return Restriction(self.wanted, values)

    def _answers(self, asked: Sequence[_Asked]) -> list[dict[str, Any]]:
        """An output for each line; what cannot be answered gets its error and an empty list."""
        for one in asked:
            self._ask(one)
        good = [one for one in asked if one.error is None]
        ranking = self.loaded.recipe.recipe_type == "PERSONALIZED_RANKING"
        answer = self._rerank if ranking else self._recommend if self.exploration is None else self._explore
        answers = answer(good) if good else iter(())
        outputs = [next(answers) if one.error is None else {"recommendedItems": []} for one in asked]
        for one in good:
            one.allowed = None  # a byte an item, which thousands of lines need not keep
        return outputs

    def _recommend(self, asked: Sequence[_Asked]) -> Iterator[dict[str, Any]]:
        loaded = self.loaded
        allowed = None
        if self.wanted is not None:
            allowed = np.stack([one.allowed[: loaded.n_items] for one in asked])
        requests = [one.request for one in asked]
        scored = loaded.recipe.scored
        ranked = recommend(loaded.model, requests, self.num_results, allowed, chances=scored)
        lengths = np.count_nonzero(ranked.items >= 0, axis=1).tolist()
        item_ids = loaded.item_ids[ranked.items].tolist()  # a -1, which is cut off, is some item too
        scores = np.round(ranked.scores, DECIMALS).tolist() if scored else None
        for row, length in enumerate(lengths):
            output: dict[str, Any] = {"recommendedItems": item_ids[row][:length]}
            if scores is not None:
                output["scores"] = scores[row][:length]
            if self.themes is not None:
                theme, relevance = self.themes(output["recommendedItems"])
                output |= {"theme": theme, "itemsThemeRelevanceScores": [round(one, DECIMALS) for one in relevance]}
            yield output

    def _explore(self, asked: Sequence[_Asked]) -> Iterator[dict[str, Any]]:
        """As a campaign that explores answers, but for what it learns from lists that were shown."""
        for one, scores in self._scored(asked):
            told = f"{self.seed}|{one.given.get('userId')}"
            found = self.loaded.recommend(
                one.visitor,
                num_results=self.num_results,
                now=self.now,
                restriction=one.restriction,
                exploration=self.exploration,
                random=uniforms(told).__next__,
                scores=scores,
            )
            yield self._output(found)

    def _rerank(self, asked: Sequence[_Asked]) -> Iterator[dict[str, Any]]:
        for one, scores in self._scored(asked):
            yield self._output(self.loaded.reranked(one.given["itemList"], scores, one.allowed))

    def _scored(self, asked: Sequence[_Asked]) -> Iterator[tuple[_Asked, np.ndarray]]:
        """Each line with its scores: (I,) float32."""
        step = max(1, SCORED_AT_ONCE // max(1, self.loaded.n_items))
        for start in range(0, len(asked), step):
            part = asked[start : start + step]
            yield from zip(part, self.loaded.model.scores([one.request for one in part]))

    def _output(self, found: Recommended) -> dict[str, Any]:
        output: dict[str, Any] = {"recommendedItems": found.item_ids}
        if found.scores is not None:
            output["scores"] = [round(score, DECIMALS) for score in found.scores]
        return output


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Everything that the lines of a segment job share.

    model: fitted by a recipe for segments.  by_attributes: lines bring ``itemAttributes`` rather than ``itemId``.
    items, users: columns in the model's order.  done: lower-case event type -> positions of the users who have such an
    event.
    """

    model: Segmenter
    num_results: int
    by_attributes: bool
    items: Columns
    users: Columns
    schemas: Mapping[str, Schema]
    done: Mapping[str, np.ndarray]
    wanted: Filter | None = None

    def answer(self, lines: Sequence[bytes], tally: Tally) -> list[bytes]:
        """The output's line for each line of the input; what was found is counted in ``tally``."""
        field = "itemAttributes" if self.by_attributes else "itemId"
        step = max(1, SCORED_AT_ONCE // max(1, len(self.model.user_ids)))
        out = []
        for start in range(0, len(lines), step):
            asked = [_parsed(line, (field,)) for line in lines[start : start + step]]
            queries, allowed = [], []
            for one in asked:
                try:
                    if one.error is None:
                        query, passes = self._query(one.given[field]), self._allowed(one.given)
                        queries.append(query)
                        allowed.append(passes)
                except (LineError, FilterError) as error:
                    one.error = str(error)
            segments = iter(self._segments(queries, allowed) if queries else ())
            for one in asked:
                users = next(segments) if one.error is None else []
                out.append(_written(one, {"usersList": users}, tally))
        return out

    def _segments(self, queries: list[np.ndarray], allowed: list[np.ndarray | None]) -> Iterator[list[str]]:
        length = min(self.num_results, len(self.model.user_ids))
        for scores, passes in zip(self.model.scores(queries), allowed):
            chosen = rank(scores[None], length, passes).items[0]
            yield self.model.user_ids[chosen[chosen >= 0]].tolist()

    def _query(self, asked: Any) -> np.ndarray:
        """Positions of the items that a line asks about."""
        if not isinstance(asked, str):
            raise LineError(f"{'itemAttributes' if self.by_attributes else 'itemId'} is {asked!r}, expected a string")
        item_ids = self.model.catalogue.item_ids
        if not self.by_attributes:
            place = int(np.searchsorted(item_ids, asked))
            if place == len(item_ids) or item_ids[place] != asked:
                raise LineError(f"Item {asked!r} was not there at training")
            return np.array([place])
        conditions = filters.parse(f"INCLUDE ItemID WHERE {asked}")
        (expression,) = conditions.expressions
        if len(expression.conditions) > 1 or any(
            one.operator != "=" or one.dataset != "ITEMS" or not isinstance(one.operands, tuple)
            for one in conditions.conditions
        ):
            raise LineError(f'itemAttributes is {asked!r}, expected ITEMS.<column> = "<value>", joined by AND')
        filters.check(conditions, self.schemas)
        found = np.flatnonzero(conditions.allowed(self.items))
        if not len(found):
            raise LineError(f"No item that was there at training has {asked}")
        return found

    def _allowed(self, given: Mapping[str, Any]) -> np.ndarray | None:
        values = _filter_values(given, self.wanted)
        if self.wanted is None:
            return None
        return self.wanted.allowed(self.users, values=values, interactions=self.done)


class Answering(Protocol):
    """A job that answers lines."""

    def answer(self, lines: Sequence[bytes], tally: Tally) -> list[bytes]: ...


def answer_file(job: Answering, source: BinaryIO, target: BinaryIO, tell: Callable[[int, Tally], None]) -> Tally:
    """Write one line for each line read, in their order.

    tell: is given the bytes read of the file and the tally so far, after each lot; what it raises ends the job.
    """
    tally, read, lines = Tally(), 0, _lines(source)
    while lot := list(islice(lines, LINES_AT_ONCE)):
        target.write(b"".join(job.answer(lot, tally)))
        read += sum(map(len, lot))
        tell(read, tally)
    return tally


def _lines(source: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, without a byte order mark; of one that is too long, as much as tells that it is no JSON."""
    mark = BOM_UTF8
    while line := source.readline(MAX_LINE_BYTES):
        yield line.removeprefix(mark)
        mark = b""
        while len(line) == MAX_LINE_BYTES and line[-1:] != b"\n":
            line = source.readline(MAX_LINE_BYTES)


def _parsed(line: bytes, required: Sequence[str]) -> _Asked:
    """The line's object, or why it is none that has the required members."""
    try:
        given = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        text = line[: MAX_ITEMS * 2].decode(errors="replace").strip()
        return _Asked(text, error=f"The line is no JSON object: {error}")
    if not isinstance(given, dict):
        return _Asked(given, error="The line is no JSON object")
    if any(given.get(name) in (None, "", []) for name in required):
        return _Asked(given, error=f"Required fields for the provided recipe are {', '.join(required)}")
    return _Asked(given)


def _filter_values(given: Mapping[str, Any], wanted: Filter | None) -> dict[str, str]:
    values = given.get("filterValues") or {}
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise LineError("filterValues is no object of strings")
    if values and wanted is None:
        raise LineError("filterValues were given, but the job has no filter")
    return values


def _written(asked: _Asked, output: Mapping[str, Any], tally: Tally) -> bytes:
    """The output's line, which is counted."""
    tally.lines += 1
    if asked.error is not None:
        tally.errors += 1
        tally.error = tally.error or asked.error
    error = asked.error and f"User error: {asked.error}"
    return orjson.dumps({"input": asked.given, "output": output, "error": error}, option=orjson.OPT_APPEND_NEWLINE)
