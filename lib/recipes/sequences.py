"""From datasets to a model of event sequences: what the sequential and the recurrent recipes share.

Training takes four steps: the situation (what anyone would take now), a network (what the history adds), transitions
(which item follows which, in closed form or counted), and a blend of these that makes withheld events likeliest.  Where
lists are to be ranked and impressions tell what was passed over, the blend also holds what anyone would take of such
lists (``choices``) and what is like the user's choices (``likeness``), and is the one by which what was taken is
likeliest among what was shown.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from lib.data import features
from lib.data.datasets import WEIGHT, Catalogue, Datasets, Histories, History, catalogue, histories, numbered
from lib.data.features import Features
from lib.recipes import checkpoints, choices, files, likeness, places, situation, transitions
from lib.recipes.choices import Lists
from lib.recipes.likeness import Likeness
from lib.recipes.networks import (
    Events,
    Recurrent,
    SequenceNetwork,
    Side,
    Trainer,
    Transformer,
    duration_codes,
    gap_codes,
    lag_codes,
    pause_codes,
)
from lib.recipes.recipe import Progress, Request
from lib.recipes.rough import Rough
from lib.recipes.situation import Moment, Situation
from lib.recipes.transitions import Transitions

MANY_ITEMS = 200_000  # from here on the network's products are rough but for the best
EXACT = 1_000  # of these
REMEMBERED = 500  # newest events of a history whose repetition counts
VALIDATION_SHARE = 0.1  # of the users
VALIDATION_USERS = 2_000
VALIDATION_EVENTS = 10  # of such a user, at most, and a tenth of the history
DEFAULT_BLEND = np.array([0.75, 1.0], np.float32)  # of network and transitions, where there is nothing to learn it from
BLEND_BOUNDS, AGAIN_BOUNDS = ((0.1, 3.0), (0.0, 3.0)), (-10.0, 10.0)
BLEND_PULL = 1.0  # towards that: what one event can do against it
BLEND_CELLS = 8_000_000  # scores that the blend is learnt from
ASKED_AT_ONCE = 32
READ = 12_000_000  # events, over all epochs, that are read in any case
PATIENCE = 100_000  # events read without a better validation loss, an epoch at least: few steps decide nothing
WORTH_KEEPING = 50_000  # events; an epoch over fewer is sooner done again than kept
NEAR, NEARNESS, FIRST_SCALE = 10, 0.85, 0.1  # how items are placed at first: reach in events, decay, size
MEMORIES = (  # of the transitions in closed form, a short and a long one: withheld events choose, of counts too
    {"decay": 0.82, "future": 0.37, "ridge": 200.0, "alpha": 0.1},
    {"decay": 0.90, "future": 0.37, "ridge": 200.0, "alpha": 0.3},
)
COUNTED = (  # the last little more than the newest event
    {"decay": 0.9, "again": False},
    {"decay": 0.5, "again": False},
    {"decay": 0.3, "again": True},
)
FURTHER_EPOCHS = 2  # of a training that goes on
REHEARSAL = 1.0  # known users, per new one, that a training which goes on sees again


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a recipe decides about its network.

    body: transformer or recurrent.  length: events that the network sees at once.  recency: recent events, and what is
    popular lately, count more.  closed: blend with transitions.  given: it ranks lists that requests give.  n_tokens:
    events a step of training reads.  effort: epochs at most on 10,000 events; half as many on four times the events.
    """

    body: str
    dim: int
    hidden: int
    length: int
    recency: bool
    closed: bool
    given: bool = False
    layers: int = 2
    heads: int = 4
    dropout: float = 0.2
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    n_tokens: int = 1_024
    effort: int = 25

    def network(self, n_items: int, n_event_types: int, sizes: Mapping[str, tuple[int, int]]) -> SequenceNetwork:
        if self.body == "transformer":
            body: nn.Module = Transformer(self.dim, self.heads, self.layers, self.dropout, self.recency)
        else:
            body = Recurrent(self.dim, self.hidden, self.dropout)
        return SequenceNetwork(body, self.dim, n_items, n_event_types, sizes)

    def epochs(self, n_events: int) -> int:
        """At most so many: fewer the more there is to read, and ten while that is within ``READ``."""
        least = np.clip(READ // n_events, 2, 10)
        return int(np.clip(round(self.effort * (10_000 / n_events) ** 0.5), least, self.effort))


@dataclass(slots=True)
class SequenceModel:
    """A trained sequence recipe.

    table: (I, D) float32, the items' vectors.  choice and likeness: what anyone would take of a list, and how like a
    user's choices items are, where lists are to be ranked and impressions are known.  blend: (P,) weights of the
    components.  again: the offset of ``Uses.again``.  epochs: how many were best.  learnt: hashes of the users' ids,
    ascending, and how many of their events were learnt from.
    """

    catalogue: Catalogue
    plan: Plan
    network: SequenceNetwork
    table: Tensor
    features: dict[str, Features]
    situation: Situation
    transitions: Transitions | None
    choice: Situation | None
    likeness: Likeness | None
    blend: np.ndarray
    again: float
    epochs: int
    learnt: tuple[np.ndarray, np.ndarray]
    _moment: Moment | None = None
    _rough: Rough | None = None

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """(B, I) float32 logits.

        In catalogues of ``MANY_ITEMS`` and more the network's share is exact for the ``EXACT`` best of each request
        alone and rough for the others, and so is what the others add to the total of a softmax.
        """
        places, (logits, unpublished) = self._places(requests), self._situations(requests)
        share = float(self.blend[0])
        offset = torch.from_numpy(np.float32(share) * logits + unpublished)
        exact = len(self.table) < MANY_ITEMS
        if exact:  # the sum is made with the products, which spares passes over all scores
            out = torch.addmm(offset, places * share, self.table.T)
        else:
            self._rough = self._rough or Rough.of(self.table)
            products = torch.from_numpy(self._rough.products(places))
            out = torch.add(offset, products, alpha=share)
        uses = self._uses(requests, places)
        uses.repeat(out.numpy(), share)
        if self.choice is not None:
            uses.again(out.numpy(), share)
        for weight, part in zip(self.blend[1:], self._others(requests)):
            out.add_(torch.from_numpy(part), alpha=float(weight))
        for row, rough, place in () if exact else zip(out, products, places):
            best = torch.topk(row, EXACT, sorted=False).indices
            row[best] += share * (self.table[best] @ place - rough[best])
        if self.choice is None:
            uses.again(out.numpy(), offset=self.again)
        return out.numpy()

    def components(self, requests: Sequence[Request]) -> np.ndarray:
        """(P, B, I) float32: what is blended, the network first, which knows of uses again where lists are given."""
        places = self._places(requests)
        network = (places @ self.table.T).numpy() + self._situations(requests)[0]
        uses = self._uses(requests, places)
        uses.repeat(network)
        if self.choice is not None:
            uses.again(network)
        return np.stack([network, *self._others(requests)])

    def _others(self, requests: Sequence[Request]) -> Iterator[np.ndarray]:
        """What is blended with the network, each (B, I) float32.

        Transitions speak of what is new to a user, for whether anything is used again the network knows better, unless
        withheld events told otherwise.
        """
        if self.transitions is not None:
            closed = self.transitions.scores([request.history for request in requests])
            if not self.transitions.again:
                for row, request in zip(closed, requests):
                    row[request.history.items] = 0
            yield closed
        if self.choice is not None:
            now = np.array([request.now for request in requests])
            yield from (self.situation(now), self.choice(now))
            yield from self.likeness.scores([request.history for request in requests])

    def embeddings(self) -> np.ndarray:
        return self.table.numpy()

    def save(self, folder: Path) -> None:
        arrays = {f"network.{name}": value.numpy() for name, value in self.network.state_dict().items()}
        arrays |= {f"situation.{name}": value for name, value in self.situation.arrays().items()}
        if self.transitions is not None:
            arrays |= {f"transitions.{name}": value for name, value in self.transitions.arrays().items()}
        if self.choice is not None:
            arrays |= {f"choice.{name}": value for name, value in self.choice.arrays().items()}
            arrays |= {f"likeness.{name}": value for name, value in self.likeness.arrays().items()}
        for side, columns in self.features.items():
            arrays |= {f"features.{side}.{name}": value for name, value in columns.arrays().items()}
        arrays |= {"table": self.table.numpy(), "blend": self.blend}
        arrays |= {"learnt.users": self.learnt[0], "learnt.lengths": self.learnt[1]}
        settings = {
            "plan": asdict(self.plan),
            "again": self.again,
            "epochs": self.epochs,
            "decay": None if self.transitions is None else self.transitions.decay,
            "seen": self.transitions is not None and self.transitions.again,
            "features": {side: columns.settings() for side, columns in self.features.items()},
        }
        files.write(folder, self.catalogue, settings, arrays)

    def _places(self, requests: Sequence[Request]) -> Tensor:
        """(B, D): where the histories lead."""
        history, event_types, gaps, pauses, lengths = self._inputs(requests)
        with torch.inference_mode():
            users = self._known("users", [request.user for request in requests], self.network.user_features)
            users = users if isinstance(users, Tensor) else self.table.new_zeros(len(requests), self.plan.dim)
            places = self.network(self.table, history, event_types, gaps, pauses, users, lengths)
            return places + self._known("context", [request.context for request in requests], self.network.context)

    def _uses(self, requests: Sequence[Request], places: Tensor) -> "Uses":
        """What was used, each item of a request once.  places: of ``_places``."""
        past = _newest(requests, REMEMBERED)
        n_events = np.diff(past.offsets)
        lags = lag_codes(np.repeat(past.offsets[1:], n_events) - np.arange(len(past.items)))
        rows = np.repeat(np.arange(len(requests)), n_events)
        use, pairs = pd.factorize(rows * len(self.table) + past.items)
        rows, items = np.divmod(pairs, len(self.table))
        repeat, again = (table.detach().numpy() for table in (self.network.repeat, self.network.again))
        repeats = np.bincount(use, repeat[lags, past.event_types], len(pairs))
        shares = np.bincount(use, np.exp(again[lags, past.event_types]), len(pairs))
        with torch.inference_mode():
            returning = (places @ self.network.returning).numpy()
        returning -= np.log(np.maximum(n_events / self.plan.length, 1)).astype(np.float32)  # training saw no more uses
        return Uses(rows, items, repeats.astype(np.float32), np.log(shares).astype(np.float32) + returning[rows])

    def _situations(self, requests: Sequence[Request]) -> tuple[np.ndarray, np.ndarray]:
        """(B, I) or (1, I) each: the situation, and what puts items to come last; kept while time stands still."""
        times = np.array([request.now for request in requests])
        if (times != times[0]).any():
            return self.situation(times), self.situation.unpublished(times)
        moment = self._moment
        if moment is None or moment.now != times[0]:
            moment = self._moment = self.situation.at(int(times[0]), moment)
        return moment.logits, moment.unpublished

    def _inputs(self, requests: Sequence[Request]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(B, T) items, event types, gaps and pauses of the newest events, padded on the right, and (B,) lengths."""
        past = _newest(requests, self.plan.length)  # one more than is read, for the time between
        n_events = np.diff(past.offsets)
        lengths = np.minimum(n_events, self.plan.length - 1)
        read = np.arange(len(past.items)) >= np.repeat(past.offsets[1:] - lengths, n_events)
        out = np.zeros((4, len(requests), max(1, lengths.max(initial=0))), np.int64)
        valid = np.arange(out.shape[2]) < lengths[:, None]
        gaps = gap_codes(past.times, past.offsets[:-1][n_events > 0])
        last = past.offsets[1:][n_events > 0] - 1
        pauses = np.roll(gaps, -1)
        now = np.array([request.now for request in requests], np.int64)[n_events > 0]
        pauses[last] = duration_codes(now - past.times[last])
        for values, found in zip(out, (past.items, past.event_types, gaps, pause_codes(pauses))):
            values[valid] = found[read]
        out[1] %= len(self.catalogue.event_types) + 1  # unknown event types, -1, come last
        return (*map(torch.from_numpy, out), torch.from_numpy(lengths))

    def _known(self, side: str, rows: list[Mapping[str, object]], bag: nn.Module) -> Tensor | float:
        """(B, D): what is known of users, or of the situation of the request."""
        columns = self.features[side]
        if not columns.names:
            return 0.0
        encoded = columns({name: [row.get(name) for row in rows] for name in columns.names}, len(rows))
        return bag(_side(encoded)[np.arange(len(rows))])


class Uses(NamedTuple):
    """Pairs of a request and an item that was used before: rows, items, (N,) positions.

    repeats: (N,) float32, what that adds to the item's logit.  shares: (N,) float32, logs of what it adds to the item's
    chance, before all chances are made to sum to 1: however unlikely it were otherwise.
    """

    rows: np.ndarray
    items: np.ndarray
    repeats: np.ndarray
    shares: np.ndarray

    def repeat(self, logits: np.ndarray, weight: float = 1.0) -> None:
        """Add to (B, I) float32 logits that have this weight."""
        logits[self.rows, self.items] += np.float32(weight) * self.repeats

    def again(self, logits: np.ndarray, weight: float = 1.0, offset: float = 0.0) -> None:
        """Add to the chances that (B, I) float32 logits of this weight stand for.  offset: of the shares' logs."""
        known = logits[self.rows, self.items] / np.float32(weight)
        logits[self.rows, self.items] = np.float32(weight) * np.logaddexp(known, self.shares + np.float32(offset))


def _newest(requests: Sequence[Request], most: int) -> Histories:
    """The newest events of each request's history, at most so many, in one piece; who asks is not told."""
    past = [request.history for request in requests]
    offsets = np.concatenate([[0], np.cumsum([min(len(history.items), most) for history in past])])
    parts = (
        np.concatenate([getattr(history, name)[-most:] for history in past])
        for name in ("items", "times", "event_types")
    )
    return Histories(np.zeros(0, str), offsets, *parts)


def load(folder: Path) -> SequenceModel:
    """The model that ``save`` kept.  Raises ValueError where another version of this module did."""
    numbers, settings, arrays = files.read(folder)

    def part(prefix: str) -> dict[str, np.ndarray]:
        return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}

    plan = Plan(**settings["plan"])
    known = {side: Features.load(columns, part(f"features.{side}.")) for side, columns in settings["features"].items()}
    network = plan.network(len(numbers.item_ids), len(numbers.event_types), _sizes(known))
    weights = {name: torch.from_numpy(array) for name, array in part("network.").items()}
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ValueError(f"{folder} was kept by another version, whose networks differ: train it again") from error
    network.eval()
    return SequenceModel(
        catalogue=numbers,
        plan=plan,
        network=network,
        table=torch.from_numpy(arrays["table"]),
        features=known,
        situation=Situation.load(part("situation.")),
        transitions=Transitions.load(part("transitions."), settings["decay"], settings["seen"])
        if plan.closed
        else None,
        choice=Situation.load(part("choice.")) if "choice.logits" in arrays else None,
        likeness=Likeness.load(part("likeness.")) if "choice.logits" in arrays else None,
        blend=arrays["blend"],
        again=settings["again"],
        epochs=settings["epochs"],
        learnt=(arrays["learnt.users"], arrays["learnt.lengths"]),
    )


def fit(
    datasets: Datasets,
    plan: Plan,
    *,
    seed: int,
    progress: Callable[[Progress], None],
    start: SequenceModel | None = None,
    numbers: Catalogue | None = None,
    cold: Callable[[Histories, int], np.ndarray] | None = None,
    checkpoint: Path | None = None,
) -> SequenceModel:
    """Train from the beginning; with ``start``, go on with what it has not seen and as much of what it has.

    numbers: the catalogue, where it holds more than the datasets.  cold: histories and number of items -> (I,) bool,
    items to be known by their features alone although there are events of them.  checkpoint: a file that each epoch
    of a training from the beginning is kept in, and that one with the same data, plan and seed goes on from.
    """
    if not len(datasets.interactions):
        raise ValueError("Interactions has no rows to learn from: import interactions, or let more event types in")
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    numbers = numbers or catalogue(datasets)
    n_items = len(numbers.item_ids)
    done, rows = _ordered(datasets.interactions, numbers, impressions=plan.given)
    held = np.zeros(len(done.user_ids), np.int64) if start else _held_out(np.diff(done.offsets), rng)
    kept = np.arange(len(done.items)) < np.repeat(done.offsets[1:] - held, np.diff(done.offsets))
    train = _part(done, kept)
    weights = rows[WEIGHT].to_numpy(dtype=np.float32) if WEIGHT in rows else None
    rows = rows.drop(columns=WEIGHT, errors="ignore")
    known = start.features if start else _features(datasets, rows[kept])
    counted = train  # of events that weigh less, as many as their weight
    if weights is not None:
        counted = _part(train, rng.random(len(train.items)) < weights[kept])
    now = situation.fit(
        counted.items,
        counted.times,
        situation.creation_times(datasets, numbers),
        recency=plan.recency,
        seed=seed,
        start=start and start.situation,
    )
    encoded = features.aligned(known["items"], datasets.items, "ITEM_ID", numbers.item_ids)
    items = _side(encoded)
    users = _side(features.aligned(known["users"], datasets.users, "USER_ID", done.user_ids))
    context = _side(
        known["context"](
            {name: rows[name].to_numpy(dtype=object) for name in known["context"].names if name in rows}, len(rows)
        )
    )
    events = _events(
        train, len(numbers.event_types), now, users, context.part(kept), None if weights is None else weights[kept]
    )

    network = plan.network(n_items, len(numbers.event_types), _sizes(known))
    with torch.no_grad():
        network.item.copy_(torch.from_numpy(_first_places(train, n_items, plan.dim)))
        if start:
            _take_over(network, numbers, start)
    trainer = Trainer(
        network,
        events,
        items,
        now.table(),
        length=plan.length,
        n_tokens=plan.n_tokens,
        learning_rate=plan.learning_rate,
        decay=plan.weight_decay,
        rng=rng,
    )
    if start:
        epochs = _go_on(trainer, start, train, rng, progress)
    else:
        chosen = np.flatnonzero(held)
        withheld = _events(
            _users_part(done, chosen),
            len(numbers.event_types),
            now,
            users.part(chosen),
            context.part(_rows(done, chosen)),
            None if weights is None else weights[_rows(done, chosen)],
        )
        keep = checkpoint if len(train.items) >= WORTH_KEEPING else None
        epochs = _train(trainer, withheld, held[chosen], plan, progress, keep)
    trainer.finish()
    trained = np.isin(np.arange(n_items), train.items)
    if cold:
        trained &= ~cold(train, n_items)
    with torch.inference_mode():
        own = torch.from_numpy(trained.astype(np.float32))
        table = network.items(network.item, own, items[np.arange(n_items)])
    shown = choices.lists(rows, numbers) if plan.given and not (start and start.choice is None) else None
    past = None if shown is None else shown.part(kept[shown.rows])
    choice = start and start.choice
    if past is not None and len(past.rows) and (start or len(past.rows) < len(shown.rows)):
        choice = choices.fit(past, done.times[past.rows], now.created, seed=seed, start=choice)
    blend, again = (start.blend, start.again) if start else (np.ones(1, np.float32), 0.0)
    learnt = _fingerprint(train)
    like = likeness.fit(known["items"], encoded, datasets, numbers, train) if choice else None
    model = SequenceModel(
        numbers, plan, network, table.clone(), known, now, None, choice, like, blend, again, epochs, learnt
    )
    models = [replace(model, transitions=one) for one in _transitions(train, n_items, plan, start, weights is not None)]
    if start:
        return models[0]
    if choice:
        withheld_lists = shown.part(~kept[shown.rows])
        asked = _requests(done, withheld_lists.rows, datasets, rows)
        blends = [_blend_given(one, asked, withheld_lists) for one in models]
    else:
        cuts = np.flatnonzero(~kept)
        n = max(100, BLEND_CELLS // n_items)
        if len(cuts) > n:
            cuts = np.sort(np.random.default_rng(seed).choice(cuts, n, replace=False))
        asked = _requests(done, cuts, datasets, rows)
        blends = [_blend(one, asked, done.items[cuts], None if weights is None else weights[cuts]) for one in models]
    best = int(np.argmin([loss for *_, loss in blends]))
    blend, again, _ = blends[best]
    return replace(models[best], blend=blend, again=again)


def _transitions(
    train: Histories, n_items: int, plan: Plan, start: SequenceModel | None, weighed: bool
) -> list[Transitions | None]:
    """The transitions to choose from; those of the kind that ``start`` has.

    weighed: events have weights, so that how often something is taken again is not for counts of all events to tell.
    """
    if not plan.closed:
        return [None]
    closed, counted = MEMORIES, COUNTED
    if start:
        same = start.transitions.decay
        closed = [one for one in closed if one["decay"] == same and not start.transitions.counted]
        counted = [one for one in counted if one["decay"] == same and start.transitions.counted]
    elif weighed:
        counted = [one for one in counted if not one["again"]]
    found = [transitions.fit(train, n_items, **memory) for memory in closed]
    if counted:
        counts = transitions.count(train, n_items, **counted[0])
        found += [replace(counts, **memory) for memory in counted]  # which differ in how they are read alone
    return found


def _sizes(known: Mapping[str, Features]) -> dict[str, tuple[int, int]]:
    return {side: (columns.n_categories, columns.n_dense) for side, columns in known.items()}


def _ordered(interactions: pd.DataFrame, numbers: Catalogue, *, impressions: bool) -> tuple[Histories, pd.DataFrame]:
    """All histories, and what the rows of Interactions tell beside them, in their order.

    impressions: whether ids, times and IMPRESSION stay, where lists were shown.
    """
    whole = impressions and "IMPRESSION" in interactions
    columns = [name for name in interactions if whole or name not in features.RESERVED]
    order = np.argsort(numbered(interactions["USER_ID"])[1], kind="stable")
    return histories(interactions, numbers), interactions[columns].iloc[order]


def _held_out(lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(U,) int64: how many of each user's newest events are kept for validation."""
    held = np.zeros(len(lengths), np.int64)
    able = np.flatnonzero(lengths >= 2)
    n = min(len(able), VALIDATION_USERS, int(np.ceil(VALIDATION_SHARE * len(lengths))))
    chosen = rng.choice(able, n, replace=False)
    held[chosen] = np.clip(lengths[chosen] // 10, 1, VALIDATION_EVENTS)
    return held


def _part(done: Histories, kept: np.ndarray) -> Histories:
    """The same users with a part of their events.  kept: (N,) bool."""
    offsets = np.concatenate([[0], np.cumsum(kept)])[done.offsets]
    return Histories(done.user_ids, offsets, done.items[kept], done.times[kept], done.event_types[kept])


def _rows(done: Histories, users: np.ndarray) -> np.ndarray:
    """(n,) int64: where the events of these users are."""
    return np.concatenate([np.arange(done.offsets[u], done.offsets[u + 1]) for u in users] or [np.zeros(0, np.int64)])


def _users_part(done: Histories, users: np.ndarray) -> Histories:
    rows = _rows(done, users)
    offsets = np.concatenate([[0], np.cumsum(np.diff(done.offsets)[users])])
    return Histories(done.user_ids[users], offsets, done.items[rows], done.times[rows], done.event_types[rows])


def _features(datasets: Datasets, rows: pd.DataFrame) -> dict[str, Features]:
    schemas = datasets.schemas
    return {
        "items": features.fit(datasets.items, schemas.get("ITEMS")),
        "users": features.fit(datasets.users, schemas.get("USERS")),
        "context": features.fit(rows, schemas.get("INTERACTIONS")),
    }


def _side(encoded: features.Encoded) -> Side:
    return Side(encoded.categories, encoded.dense)


def _events(
    done: Histories,
    n_event_types: int,
    now: Situation,
    users: Side,
    context: Side,
    weights: np.ndarray | None = None,
) -> Events:
    return Events(
        done.offsets,
        done.items.astype(np.int64),
        done.event_types.astype(np.int64) % (n_event_types + 1),  # unknown, -1, comes last
        gap_codes(done.times, done.offsets[:-1][np.diff(done.offsets) > 0]),
        now.moment(done.times),
        users,
        context,
        weights,
    )


def _first_places(done: Histories, n_items: int, dim: int) -> np.ndarray:
    """(I, D) float32: items that follow each other closely start close, which spares the network its first epochs."""
    out = np.zeros((n_items, dim), np.float32)
    found = places.factors(places.steps(done, n_items, NEAR, NEARNESS), dim)
    if found.size:
        out[:, : found.shape[1]] = found * (FIRST_SCALE / np.sqrt((found[np.unique(done.items)] ** 2).mean()))
    return out


def _take_over(network: SequenceNetwork, numbers: Catalogue, start: SequenceModel) -> None:
    """What ``start`` knows of items and event types, which may be numbered otherwise, and all other weights."""
    learnt = start.network.state_dict()
    mine = dict(network.named_parameters())
    for name, ids, known in (
        ("item", numbers.item_ids, start.catalogue.item_ids),
        ("event_type.weight", numbers.event_types, start.catalogue.event_types),
        ("repeat", numbers.event_types, start.catalogue.event_types),
        ("again", numbers.event_types, start.catalogue.event_types),
    ):
        place = pd.Index(known).get_indexer(ids)
        value = learnt.pop(name)
        if name in ("repeat", "again"):
            mine[name][:, np.flatnonzero(place >= 0)] = value[:, place[place >= 0]]
            mine[name][:, -1] = value[:, -1]
        else:
            mine[name][np.flatnonzero(place >= 0)] = value[place[place >= 0]]
            if name != "item":
                mine[name][-1] = value[-1]
    for name, value in learnt.items():
        mine[name].copy_(value)


def _train(
    trainer: Trainer,
    withheld: Events,
    n_last: np.ndarray,
    plan: Plan,
    progress: Callable[[Progress], None],
    checkpoint: Path | None,
) -> int:
    """Epochs until the loss of withheld events no longer falls; leaves the best weights, and gives their epoch.

    Progress hears that loss, and as ``validation_likelihood`` the geometric mean of the withheld events' chances; of
    epochs that the checkpoint holds it hears again.
    """
    epochs = plan.epochs(len(trainer.events.items))
    best, heard = checkpoints.resume(checkpoint, trainer, asdict(plan)) if checkpoint else ([], [])
    for step in heard:
        progress(step)
    losses = [step.measures.get("withheld_loss", -np.inf) for step in heard]
    patience = -(-PATIENCE // len(trainer.events.items))
    while not _ended(losses, epochs, patience):
        measures = {"loss": trainer.epoch()}
        losses.append(trainer.measure(withheld, n_last) if len(n_last) else -np.inf)
        if len(n_last):
            measures |= {"withheld_loss": losses[-1], "validation_likelihood": float(np.exp(-losses[-1]))}
        if _best_epoch(losses) == len(losses):
            best = [value.clone() for value in trainer.average]
        heard.append(Progress(step=len(losses), steps=epochs, measures=measures))
        if checkpoint:
            checkpoints.keep(checkpoint, trainer, best, heard, asdict(plan))
        progress(heard[-1])
    trainer.average = best
    return _best_epoch(losses)


def _best_epoch(losses: Sequence[float]) -> int:
    """Counted from 1: the first of the least losses; the last where there is none to tell them apart."""
    if losses[-1] == -np.inf:
        return len(losses)
    return losses.index(min(losses)) + 1


def _ended(losses: Sequence[float], epochs: int, patience: int) -> bool:
    """patience: epochs without a better loss."""
    return len(losses) >= epochs or (bool(losses) and len(losses) - _best_epoch(losses) >= patience)


def _go_on(
    trainer: Trainer,
    start: SequenceModel,
    done: Histories,
    rng: np.random.Generator,
    progress: Callable[[Progress], None],
) -> int:
    """A few epochs over users with events that are new to ``start``, and as many others."""
    users, lengths = _fingerprint(done)
    place = np.minimum(np.searchsorted(start.learnt[0], users), len(start.learnt[0]) - 1)
    same = (start.learnt[0][place] == users) & (start.learnt[1][place] == lengths)
    order = np.argsort(pd.util.hash_array(done.user_ids.astype(object)), kind="stable")  # of the fingerprint
    new, old = np.sort(order[~same]), np.sort(order[same])
    if not len(new):
        return start.epochs
    old = rng.choice(old, min(len(old), int(np.ceil(REHEARSAL * len(new)))), replace=False)
    for epoch in range(1, FURTHER_EPOCHS + 1):
        loss = trainer.epoch(np.sort(np.concatenate([new, old])))
        progress(Progress(step=epoch, steps=FURTHER_EPOCHS, measures={"loss": loss}))
    return start.epochs


def _fingerprint(done: Histories) -> tuple[np.ndarray, np.ndarray]:
    """(U,) uint64 hashes of the user ids, ascending, and (U,) int64 lengths of their histories."""
    hashes = pd.util.hash_array(done.user_ids.astype(object))
    order = np.argsort(hashes, kind="stable")
    return hashes[order], np.diff(done.offsets)[order]


def _requests(done: Histories, cuts: np.ndarray, datasets: Datasets, rows: pd.DataFrame) -> list[Request]:
    """What users would have asked just before these events (positions)."""
    users = np.searchsorted(done.offsets, cuts, side="right") - 1
    about = {}
    if datasets.users is not None:
        asking = datasets.users["USER_ID"].isin(done.user_ids[users])
        about = datasets.users[asking].set_index("USER_ID").to_dict("index")
    out = []
    for cut, user in zip(cuts, users):
        past = slice(done.offsets[user], cut)
        history = History(done.items[past], done.times[past], done.event_types[past])
        known = about.get(done.user_ids[user], {})
        out.append(Request(history=history, now=int(done.times[cut]), user=known, context=rows.iloc[cut].to_dict()))
    return out


def _blend(
    model: SequenceModel, asked: list[Request], wanted: np.ndarray, weighed: np.ndarray | None = None
) -> tuple[np.ndarray, float, float]:
    """(P,) weights of the components and ``again``, under which what came next is likeliest, and the loss that is left.

    wanted: (Q,) the items that came next.  weighed: (Q,) how much each counts, None for all alike.
    """
    if model.transitions is None:
        return model.blend, model.again, 0.0
    there = model.situation.created[wanted] <= np.array([request.now for request in asked])
    there |= np.isnan(model.situation.created[wanted])
    asked, wanted = [request for request, known in zip(asked, there) if known], wanted[there]
    if not asked:
        return DEFAULT_BLEND, model.again, 0.0
    share = np.ones(len(asked), np.float32) if weighed is None else weighed[there]
    share = share / share.sum()
    some = [asked[begin : begin + ASKED_AT_ONCE] for begin in range(0, len(asked), ASKED_AT_ONCE)]
    parts = np.concatenate([model.components(of_some) for of_some in some], axis=1)  # (P, Q, I)
    uses = model._uses(asked, torch.cat([model._places(of_some) for of_some in some]))
    row, used = np.arange(len(asked)), (uses.rows, uses.items)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        *weights, again = parameters.astype(np.float32)
        logits = np.tensordot(np.array(weights), parts, 1)
        alone = logits[used]
        uses.again(logits, offset=again)
        else_so = np.exp(alone - logits[used])  # the share of the chance that is not of the uses
        logits -= logits.max(axis=1, keepdims=True)
        chance = np.exp(logits)
        total = chance.sum(axis=1, keepdims=True)
        chance /= total
        value = (share * (np.log(total[:, 0]) - logits[row, wanted])).sum()
        chance[row, wanted] -= 1
        chance *= share[:, None]  # d loss / d logits
        of_uses = chance[used]
        chance[used] = of_uses * else_so
        gradient = [*np.einsum("pqi,qi->p", parts, chance), (of_uses * (1 - else_so)).sum()]
        pull = BLEND_PULL / len(asked) * (parameters - begin)
        return float(value + pull @ (parameters - begin) / 2), np.array(gradient, np.float64) + pull

    begin = np.append(DEFAULT_BLEND, model.again)
    best = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=[*BLEND_BOUNDS, AGAIN_BOUNDS])
    return best.x[:-1].astype(np.float32), float(best.x[-1]), float(best.fun)


def _blend_given(model: SequenceModel, asked: list[Request], shown: Lists) -> tuple[np.ndarray, float, float]:
    """As ``_blend``, by what was taken among what was shown."""
    found = []
    for begin in range(0, len(asked), ASKED_AT_ONCE):
        parts = model.components(asked[begin : begin + ASKED_AT_ONCE])
        for row in range(parts.shape[1]):
            place = slice(shown.offsets[begin + row], shown.offsets[begin + row + 1])
            found.append(parts[:, row, shown.items[place]].T)
    row = np.repeat(np.arange(len(asked)), np.diff(shown.offsets))
    weights, _, loss = choices.logit(np.concatenate(found), None, row, shown.taken)
    return weights, model.again, loss
