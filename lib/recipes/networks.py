"""The sequence networks, and how they are trained: next-item prediction at every position of every history.

A history enters as a start mark, then one vector an event: what the item is, what was done with it, how long after the
event before, how long before the next one or the request.  A body (attention or recurrence) turns each prefix into a
place in the items' space, and the items around that place are the likely next ones, on top of what ``situation`` says
anyone would take.  What was used before is likelier, or less likely, to be used again: a logit for each use, which
tells that nobody takes a thing twice, and a share of the chances for each use, which tells that who took a thing twice
as often is twice as likely to take it again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sparse
import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_CANDIDATES = 1_024  # items a step compares with where the catalogue is larger
LEAST_SHARE = 0.05  # of the catalogue that it draws in any case, as long as that is no more than twice as many
MANY_ITEMS = 16_384  # from here on a step changes the vectors of the items that it reads alone
BETAS, EPSILON = (0.9, 0.98), 1e-8  # of AdamW
CARRIED = 128  # steps after which what a step began is negligible
ID_DROPOUT = 0.1  # share of items that a step knows by their features alone, as it will know new ones
CONTEXT_DROPOUT = 0.3  # share of events whose context a step does not know, as a request may not tell it
MEASURED_AT_ONCE = 32  # users
MEASURED_CELLS = 2**24  # events x items at once
WARM_UP = 50  # steps until the full learning rate
REPEAT_RATE = 0.05  # learning rate of the few weights of repetition, which are logits
WORTH_MOVING = 200_000  # events; fewer are learnt in a minute, and the same on every machine, without a GPU
AGAIN, NEVER = -5.0, -1e4  # logs of the share that a use adds before anything is learnt, and of none
LAGS = 8  # events since an item was used: 1, 2, 3, 4, up to 8, 16, 32, more
GAPS = 24  # time between events, in powers of two seconds
VISIT = 10  # of these, below which the time until what comes next says no more than that the visit goes on


class Hardware(NamedTuple):
    """Where a training computes, and how precisely its body and products; weights and optimiser are float32."""

    device: torch.device
    precision: torch.dtype


def hardware(n_events: int) -> Hardware:
    """A GPU where there is one and enough is to be learnt, with bfloat16 if it knows it; else the processor."""
    if n_events < WORTH_MOVING or not torch.cuda.is_available():
        return Hardware(torch.device("cpu"), torch.float32)
    known = torch.cuda.is_bf16_supported(including_emulation=False)
    return Hardware(torch.device("cuda"), torch.bfloat16 if known else torch.float32)


class Bag(nn.Module):
    """Weighted sum of the vectors of each row's categories, plus a linear map of its numbers.  -> (N, D)"""

    def __init__(self, n_categories: int, n_dense: int, dim: int):
        super().__init__()
        self.category = nn.Parameter(torch.randn(n_categories, dim) * 0.02) if n_categories else None
        self.dense = nn.Linear(n_dense, dim, bias=False) if n_dense else None
        if self.dense is not None:
            nn.init.normal_(self.dense.weight, std=0.02)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor | float:
        """Categories as codes, the rows' offsets into them and weights, then (N, F) numbers."""
        codes, offsets, weights, dense = features
        out = 0.0
        if self.category is not None:
            out = out + F.embedding_bag(codes, self.category, offsets, mode="sum", per_sample_weights=weights)
        if self.dense is not None:
            out = out + self.dense(dense)
        return out


class Block(nn.Module):
    """Causal self-attention that favours what is near (ALiBi, Press et al., ICLR 2022), then a position-wise network.

    (B, T, D) -> (B, T, D), or (B, D) at one place of each row; each of the two adds to its input.
    """

    def __init__(self, dim: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm, self.network_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.network = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self._mixed(x, F.scaled_dot_product_attention(q, k, v, attn_mask=bias))

    def at(self, x: Tensor, bias: Tensor, place: Tensor) -> Tensor:
        """What ``forward`` gives at ``place`` (B,) alone: nothing after the last block reads the other places."""
        row, dim = torch.arange(len(x)), x.size(-1)
        normal = self.attention_norm(x)
        q = F.linear(normal[row, place], self.qkv.weight[:dim], self.qkv.bias[:dim]).unflatten(-1, (self.heads, 1, -1))
        k, v = F.linear(normal, self.qkv.weight[dim:], self.qkv.bias[dim:]).chunk(2, dim=-1)
        k, v = (side.unflatten(-1, (self.heads, -1)).transpose(1, 2) for side in (k, v))
        mask = bias[:, place].transpose(0, 1)[:, :, None]  # (B, H, 1, T)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self._mixed(x[row, place][:, None], mixed)[:, 0]

    def _mixed(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Add what attention found, (B, H, T, D/H), and what the network makes of both."""
        x = x + self.out(mixed.transpose(1, 2).flatten(-2))
        return x + F.dropout(self.network(self.network_norm(x)), self.dropout, self.training)


class Transformer(nn.Module):
    """Blocks over whole histories (SASRec, Kang & McAuley, ICDM 2018).  (B, T, D) -> (B, T, D)

    recency: heads weigh distant events less, each at its own rate; otherwise all alike.
    """

    def __init__(self, dim: int, heads: int, layers: int, dropout: float, recency: bool):
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        slopes = 2.0 ** (-2.0 * torch.arange(heads)) if recency else torch.zeros(heads)
        self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, x: Tensor, place: Tensor | None = None) -> Tensor:
        """place: (B,) where alone the answer is wanted -> (B, D)."""
        step = torch.arange(x.size(1), device=x.device)
        distance = step[:, None] - step[None, :]
        bias = -self.slopes[:, None, None] * distance
        bias = bias.masked_fill(distance < 0, -torch.inf)  # (H, T, T)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, bias)
        return self.norm(last(x, bias) if place is None else last.at(x, bias, place))


class Recurrent(nn.Module):
    """A gated recurrent unit (GRU4Rec, Hidasi et al., ICLR 2016).  (B, T, D) -> (B, T, D)"""

    def __init__(self, dim: int, hidden: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.cell = nn.GRU(dim, hidden, batch_first=True)
        self.out = nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, place: Tensor | None = None) -> Tensor:
        """place: (B,) where alone the answer is wanted -> (B, D)."""
        states, _ = self.cell(F.dropout(x, self.dropout, self.training))
        if place is not None:
            states = states[torch.arange(len(x)), place]
        return self.norm(self.out(F.dropout(states, self.dropout, self.training)))


class SequenceNetwork(nn.Module):
    """Items, events and situations as vectors around a body.

    Inputs name items by their row in a table of item vectors, so that a step may work on a part of the catalogue.
    """

    def __init__(self, body: nn.Module, dim: int, n_items: int, n_event_types: int, sizes: dict[str, tuple[int, int]]):
        """sizes: (categories, dense columns) of the features of ``items``, ``users`` and ``context``."""
        super().__init__()
        self.body = body
        self.item = nn.Parameter(torch.randn(n_items, dim) * 0.05)
        self.item_features = Bag(*sizes["items"], dim)
        self.event_type = nn.Embedding(n_event_types + 1, dim)  # the last one: unknown
        self.gap, self.pause = nn.Embedding(GAPS, dim), nn.Embedding(GAPS - VISIT, dim)
        self.user_features, self.context = Bag(*sizes["users"], dim), Bag(*sizes["context"], dim)
        self.start = nn.Parameter(torch.zeros(dim))
        self.repeat = nn.Parameter(torch.zeros(LAGS, n_event_types + 1))
        self.again = nn.Parameter(torch.full((LAGS, n_event_types + 1), AGAIN))
        self.returning = nn.Parameter(torch.zeros(dim))
        for embedding in (self.event_type, self.gap, self.pause):
            nn.init.normal_(embedding.weight, std=0.02)

    def items(self, own: Tensor, trained: Tensor, features: tuple[Tensor, ...]) -> Tensor:
        """(J, D) items' own vectors and their features -> (J, D).  trained: (J,) 1 where its own vector counts."""
        return own * trained[:, None] + self.item_features(features)

    def forward(
        self,
        table: Tensor,
        history: Tensor,
        event_types: Tensor,
        gaps: Tensor,
        pauses: Tensor,
        user: Tensor,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """(J, D) items; (B, T) rows of it, event types, gaps and pauses; (B, D) users -> (B, T + 1, D), by prefix.

        lengths: (B,) of the prefixes after which alone the answer is wanted -> (B, D).
        """
        events = table[history] + self.event_type(event_types) + self.gap(gaps) + self.pause(pauses)
        start = (self.start + user)[:, None]
        return self.body(torch.cat([start, events], dim=1), lengths)

    def repeats(self, lags: Tensor, event_types: Tensor) -> Tensor:
        """How much likelier an item gets by having been used so many events ago, as codes.  (...) -> (...)"""
        return _of_uses(self.repeat, lags, event_types)

    def returns(self, places: Tensor, lags: Tensor, event_types: Tensor) -> Tensor:
        """Log of the share of the chances that each use adds to its item's: (N, D), (N, T), (N, T) -> (N, T)."""
        return _of_uses(self.again, lags, event_types) + (places @ self.returning)[:, None]


def _of_uses(table: Tensor, lags: Tensor, event_types: Tensor) -> Tensor:
    return F.embedding(lags * table.size(1) + event_types, table.view(-1, 1)).squeeze(-1)


@dataclass(frozen=True, slots=True)
class Events:
    """All events of all users, ordered by user, then time; what the networks train on.

    offsets: (U + 1,) int64.  items, types, gaps, moments: (N,) int64: item, event type, time since the event before as
    ``gap_codes``, and the moment of the situation.  users, context: features of the U users and of the N events.
    weights: (N,) float32, how much the prediction of each event counts, None for all alike.
    """

    offsets: np.ndarray
    items: np.ndarray
    types: np.ndarray
    gaps: np.ndarray
    moments: np.ndarray
    users: "Side"
    context: "Side"
    weights: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """Features of users, items or events: (N, C) sparse categories and (N, F) dense columns."""

    categories: sparse.csr_matrix
    dense: np.ndarray

    def part(self, rows: np.ndarray) -> "Side":
        return Side(self.categories[rows], self.dense[rows])

    def __getitem__(self, rows: np.ndarray) -> tuple[Tensor, ...]:
        """What a ``Bag`` reads of some rows: codes, offsets, weights, numbers."""
        chosen = self.categories[rows]
        codes, offsets = chosen.indices.astype(np.int64), chosen.indptr[:-1].astype(np.int64)
        return tuple(map(torch.from_numpy, (codes, offsets, chosen.data, self.dense[rows])))


def gap_codes(times: np.ndarray, begins: np.ndarray | None = None) -> np.ndarray:
    """(N,) int64: log2 of the seconds since the event before, 0 for a first event.

    times: (N,) epoch seconds of one history, or of several, which begin at these positions.
    """
    codes = duration_codes(np.diff(times, prepend=times[:1]))
    codes[:1] = 0
    if begins is not None:
        codes[begins] = 0
    return codes


def duration_codes(seconds: np.ndarray) -> np.ndarray:
    """Seconds, negative ones as none -> code in [1, GAPS)."""
    return np.minimum(1 + np.log2(1 + seconds.clip(0)).astype(np.int64), GAPS - 1)


def pause_codes(gaps: np.ndarray) -> np.ndarray:
    """Codes of the time until what comes next, by its ``duration_codes``: all of one visit are one."""
    return np.maximum(gaps - VISIT, 0)


def lag_codes(lags: np.ndarray) -> np.ndarray:
    """Events ago (1: the newest) -> code in [0, LAGS)."""
    return np.where(lags <= 4, lags - 1, np.ceil(np.log2(np.maximum(lags, 1))) + 1).clip(0, LAGS - 1).astype(np.int64)


def windows(offsets: np.ndarray, length: int, rng: np.random.Generator, users: np.ndarray | None = None) -> np.ndarray:
    """(W, 2) begin and end of windows that cover these users' histories, cut at a place drawn anew each time."""
    begin, end = (offsets[:-1], offsets[1:]) if users is None else (offsets[users], offsets[users + 1])
    begin, end = begin[end > begin], end[end > begin]
    first = np.where(end - begin > length, rng.integers(1, length + 1, len(begin)), end - begin)  # length of the first
    n = 1 + -(-(end - begin - first) // length)
    place = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)  # of a window in its history
    cut = np.repeat(begin + first, n) + place * length
    return np.stack([np.maximum(np.repeat(begin, n), cut - length), np.minimum(np.repeat(end, n), cut)], axis=1)


def batches(spans: np.ndarray, n_tokens: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Windows of like length together, about n_tokens a batch, in random order."""
    length = spans[:, 1] - spans[:, 0]
    order = np.lexsort((rng.random(len(spans)), length))
    spans, length = spans[order], length[order]
    cuts, begin = [], 0
    while begin < len(spans):
        end = begin + 1
        while end < len(spans) and (end + 1 - begin) * length[end] <= n_tokens:
            end += 1
        cuts.append((begin, end))
        begin = end
    for n in rng.permutation(len(cuts)):
        yield spans[slice(*cuts[n])]


class Rows:
    """AdamW and the moving average over a table of which each step reads a few rows, at the cost of these.

    When a row is read again it gets what it would have got at each step in between: its decay, the way on which its
    momentum carried it, and its average.  The result is that of ``torch.optim.AdamW`` over the whole table, but for
    rounding and the decay of that way.
    """

    def __init__(self, table: Tensor, state: dict[str, Tensor], betas: tuple[float, float], decay: float):
        """state: exp_avg and exp_avg_sq, as AdamW keeps them, are read from and left in it."""
        self.table, self.state, self.betas, self.decay = table, state, betas, decay
        state |= {"exp_avg": torch.zeros_like(table), "exp_avg_sq": torch.zeros_like(table)}

    def begin(self, n_steps: int) -> None:
        """Get ready for so many steps, all rows being up to date."""
        self.now = 0
        self.last = np.zeros(len(self.table), np.int64)  # the step up to which a row is up to date
        self.carried = np.zeros(n_steps + 1)  # rates of the steps after each, as its momentum fades
        self.behind = np.zeros(n_steps + 1)  # how far the average is behind that, over what is left of the beginning
        self.decayed, self.kept = np.zeros(n_steps + 1), np.zeros(n_steps + 1)  # logs of what is left of the beginning

    def read(self, rows: np.ndarray, average: Tensor) -> Tensor:
        """(J, D) rows of the table, which this brings up to date, as it does the average (I, D)."""
        index, since = self._put(rows), self.last[rows]
        first, second = self.betas
        m, v, mine = self.state["exp_avg"][index], self.state["exp_avg_sq"][index], self.table.detach()[index]
        way = m / (v.sqrt() + EPSILON)
        mine *= self._column(np.exp(self.decayed[self.now] - self.decayed[since]))
        mine -= self._column(self.carried[since]) * way
        self.table.detach()[index] = mine
        left = np.exp(self.kept[self.now] - self.kept[since])
        lag = self.behind[since] * np.exp(self.kept[self.now]) - left * self.carried[since]
        average[index] = torch.lerp(mine, average[index], self._column(left)) + self._column(lag) * way
        self.state["exp_avg"][index] = m * self._column(first ** (self.now - since))
        self.state["exp_avg_sq"][index] = v * self._column(second ** (self.now - since))
        self.last[rows] = self.now
        return mine

    def step(self, rows: np.ndarray, gradient: Tensor, average: Tensor, *, number: int, rate: float, keep: float):
        """One step of rows that were just read.  number: of the step, from 1.  keep: what the average keeps."""
        index = self._put(rows)
        first, second = self.betas
        m = torch.lerp(gradient, self.state["exp_avg"][index], first)
        v = torch.lerp(gradient.square(), self.state["exp_avg_sq"][index], second)
        rough, even = 1 - first**number, (1 - second**number) ** 0.5
        mine = self.table.detach()[index] * (1 - rate * self.decay)
        mine -= rate / rough * m / (v.sqrt() / even + EPSILON)
        self.table.detach()[index] = mine
        average[index] = torch.lerp(mine, average[index], keep)
        self.state["exp_avg"][index], self.state["exp_avg_sq"][index] = m, v
        self.now += 1
        self.last[rows] = self.now
        ages = np.arange(min(self.now, CARRIED), 0, -1)
        rates, before = rate / rough * even * (first / second**0.5) ** ages, slice(self.now - len(ages), self.now)
        self.carried[before] += rates
        self.behind[before] += rates / np.exp(self.kept[self.now - 1])
        self.decayed[self.now] = self.decayed[self.now - 1] + np.log1p(-rate * self.decay)
        self.kept[self.now] = self.kept[self.now - 1] + np.log(keep)

    def settle(self, average: Tensor, number: int) -> None:
        """Bring all rows up to date after the step of this number."""
        for begin in range(0, len(self.table), MANY_ITEMS):
            self.read(np.arange(begin, min(begin + MANY_ITEMS, len(self.table))), average)
        self.state["step"] = torch.tensor(float(number))

    def _put(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.table.device)

    def _column(self, values: np.ndarray) -> Tensor:
        return self._put(values.astype(np.float32))[:, None]


class Trainer:
    """One network, its optimiser, and a slowly moving average of its weights, which is what is used.

    All of it lies on one device until ``finish``; chances other than dropout are drawn by ``rng``, beside it.
    """

    def __init__(
        self,
        network: SequenceNetwork,
        events: Events,
        items: Side,
        situation: np.ndarray,
        *,
        length: int,
        n_tokens: int,
        learning_rate: float,
        decay: float,
        rng: np.random.Generator,
        on: Hardware | None = None,
    ):
        """situation: (M, I) float32 logits of the moments.  length: of windows.  n_tokens: events a step.

        on: where to compute, by default what ``hardware`` chooses.
        """
        self.device, self.precision = on or hardware(len(events.items))
        self.network, self.events, self.item_features = network.to(self.device), events, items
        self.situation = self._put(situation)
        self.length, self.n_tokens, self.rng = length, n_tokens, rng
        counts = np.bincount(events.items, minlength=situation.shape[1])
        self.seen = np.flatnonzero(counts)
        self.chance = counts / max(1, counts.sum())
        sparse_items = situation.shape[1] > MANY_ITEMS
        own = {network.repeat, network.again}
        if sparse_items:
            own.add(network.item)
        others = [parameter for parameter in network.parameters() if parameter not in own]
        groups = [{"params": others, "lr": learning_rate}, {"params": [network.repeat], "lr": REPEAT_RATE}]
        # what no use has told of stays where it began, where it means next to nothing: 0 would mean a whole share
        groups.append({"params": [network.again], "lr": REPEAT_RATE, "weight_decay": 0.0})
        self.optimiser = torch.optim.AdamW(groups, betas=BETAS, eps=EPSILON, weight_decay=decay)
        self.rows = Rows(network.item, self.optimiser.state[network.item], BETAS, decay) if sparse_items else None
        self.learning_rate, self.steps = learning_rate, 0
        self.average = [parameter.detach().clone() for parameter in network.parameters()]
        (self.item_place,) = (n for n, one in enumerate(network.parameters()) if one is network.item)

    def epoch(self, users: np.ndarray | None = None) -> float:
        """Go once over the histories of these users (positions), or of all.  Returns the mean loss of an event."""
        self.network.train()
        total, n = 0.0, 0
        steps = list(batches(windows(self.events.offsets, self.length, self.rng, users), self.n_tokens, self.rng))
        if self.rows:
            self.rows.begin(len(steps))
        for spans in steps:
            loss = float(self._step(spans, keep=1 - 1 / max(10, min(self.steps + 1, len(steps)))))
            size = int((spans[:, 1] - spans[:, 0]).sum())
            total, n = total + loss * size, n + size
        if self.rows:
            self.rows.settle(self.average[self.item_place], self.steps)
        return total / n

    def measure(self, events: Events, n_last: np.ndarray) -> float:
        """Mean loss of each user's n_last newest events, every item a candidate, by the averaged weights."""
        present = self.use_average()
        ends = events.offsets[1:]
        spans = np.stack([np.maximum(events.offsets[:-1], ends - self.length), ends], axis=1)
        rows = np.union1d(self.seen, events.items)
        total = whole = 0.0
        at_once = int(np.clip(MEASURED_CELLS // (len(rows) * n_last.max()), 1, MEASURED_AT_ONCE))
        with torch.no_grad():
            table = self._table(self.network.item[self._put(rows)], rows, np.isin(rows, self.seen))
            for begin in range(0, len(spans), at_once):
                some = slice(begin, begin + at_once)
                skip = spans[some, 1] - spans[some, 0] - n_last[some]
                loss = self._loss(events, spans[some], skip, rows, None, table)
                size = float(n_last[some].sum())
                if events.weights is not None:
                    size = sum(events.weights[end - n : end].sum() for end, n in zip(spans[some, 1], n_last[some]))
                total, whole = total + float(loss) * size, whole + size
        self.put_back(present)
        return total / whole

    def finish(self) -> None:
        """Leave the averaged weights in the network, which the processor serves."""
        self.use_average()
        self.network.cpu()

    def use_average(self) -> list[Tensor]:
        """Put the averaged weights in place; returns the present ones for ``put_back``."""
        present = [parameter.detach().clone() for parameter in self.network.parameters()]
        self.put_back(self.average)
        self.network.eval()
        return present

    def put_back(self, weights: list[Tensor]) -> None:
        with torch.no_grad():
            torch._foreach_copy_(list(self.network.parameters()), weights)

    def _step(self, spans: np.ndarray, keep: float) -> Tensor:
        self.steps += 1
        self.optimiser.param_groups[0]["lr"] = self.learning_rate * min(1.0, self.steps / WARM_UP)
        events = self.events
        user = np.searchsorted(events.offsets, spans[:, 0], side="right") - 1
        skip = (spans[:, 0] != events.offsets[user]).astype(np.int64)  # cut out of the middle: the first has no past
        needed = np.unique(np.concatenate([events.items[begin:end] for begin, end in spans]))
        rows, log_share = self._candidates(needed, int((spans[:, 1] - spans[:, 0]).sum()))
        average = self.average[self.item_place]
        item = self.network.item
        own = self.rows.read(rows, average).requires_grad_() if self.rows else item[self._put(rows)]
        table = self._table(own, rows, self.rng.random(len(rows)) >= ID_DROPOUT)
        loss = self._loss(events, spans, skip, rows, log_share, table)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        parameters = list(self.network.parameters())
        nn.utils.clip_grad_norm_([*parameters, own] if self.rows else parameters, 5.0)
        self.optimiser.step()
        with torch.no_grad():
            dense = [n for n in range(len(parameters)) if not self.rows or n != self.item_place]
            torch._foreach_lerp_([self.average[n] for n in dense], [parameters[n] for n in dense], 1 - keep)
            if self.rows:
                rate = self.optimiser.param_groups[0]["lr"]
                self.rows.step(rows, own.grad, average, number=self.steps, rate=rate, keep=keep)
        return loss.detach()

    def _table(self, own: Tensor, rows: np.ndarray, known: np.ndarray) -> Tensor:
        """(J, D) the items of these rows; known: (J,) bool, whether their own vectors (J, D) count."""
        return self.network.items(own, self._put(known.astype(np.float32)), self._features(self.item_features, rows))

    def _loss(
        self,
        events: Events,
        spans: np.ndarray,
        skip: np.ndarray,
        rows: np.ndarray,
        log_share: np.ndarray | None,
        table: Tensor,
    ) -> Tensor:
        """Cross-entropy of each next item, given what is before it in its window.

        spans: (B, 2) windows, of which the first skip (B,) events are not predicted.  rows: (J,) the candidates, among
        them all items of the windows.  log_share: (J,) log of the chance to be a candidate.  table: (J, D) of them.
        """
        T = int((spans[:, 1] - spans[:, 0]).max())
        place = spans[:, :1] + np.arange(T)
        valid = place < spans[:, 1:]
        place = np.minimum(place, len(events.items) - 1)
        user = np.searchsorted(events.offsets, spans[:, 0], side="right") - 1
        predicted = valid & (np.arange(T) >= skip[:, None])
        target = place[predicted]  # (N,) events

        local = np.searchsorted(rows, np.where(valid, events.items[place], rows[0]))
        row, step = np.nonzero(predicted)
        history, of, answer = self._put(local[:, :-1]), self._put(row), self._put(local[predicted])
        types, gaps = (self._put(values[place[:, :-1]]) for values in (events.types, events.gaps))
        pauses = self._put(pause_codes(events.gaps[place[:, 1:]]))
        users = self.network.user_features(self._features(events.users, user))
        users = users if isinstance(users, Tensor) else table.new_zeros(len(spans), table.size(1))
        told = self._put((self.rng.random((len(target), 1)) >= CONTEXT_DROPOUT).astype(np.float32))
        context = self.network.context(self._features(events.context, target))
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            places = self.network(table, history, types, gaps, pauses, users)[of, self._put(step)]  # (N, D)
            places = places + context * (told if self.network.training else 1.0)
            logits = places @ table.T
        offset = self.situation[:, self._put(rows)]
        if log_share is not None:
            log_share = self._put(log_share)
            offset = offset - log_share
        logits = logits.float().add_(offset[self._put(events.moments[target])])
        lag = step[:, None] - np.arange(T - 1)  # (N, T - 1)
        lags, used = self._put(lag_codes(lag)), self._put(lag > 0)
        past = history[of]
        logits = logits.scatter_add_(1, past, self.network.repeats(lags, types[of]) * used)
        returns = self.network.returns(places.float(), lags, types[of]).masked_fill(~used, NEVER)
        total, counted = logits.logsumexp(1), logits.gather(1, answer[:, None])[:, 0]
        if log_share is not None:
            # an item that entered with chance q stands for 1 / q of its kind, the answer for itself alone
            alone = counted + log_share[answer]
            total, counted = total + torch.log1p(torch.exp(alone - total) - torch.exp(counted - total)), alone
        if T > 1:
            total = torch.logaddexp(total, returns.logsumexp(1))
            mine = returns.masked_fill(past != answer[:, None], NEVER).logsumexp(1)
            counted = torch.logaddexp(counted, mine)
        return _mean(total - counted, None if events.weights is None else self._put(events.weights[target]))

    def _put(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    def _features(self, side: Side, rows: np.ndarray) -> tuple[Tensor, ...]:
        return tuple(part.to(self.device) for part in side[rows])

    def _candidates(self, needed: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Items of a step, ascending, and the log of the chance that each is among them (None where all are)."""
        if len(self.seen) <= 2 * MAX_CANDIDATES:
            return self.seen, None
        least = min(LEAST_SHARE, 2 * MAX_CANDIDATES / len(self.seen))
        share = max(least, (MAX_CANDIDATES - len(needed)) / len(self.seen))
        drawn = self.seen[self.rng.random(len(self.seen)) < share]
        rows = np.union1d(needed, drawn)
        chance = 1 - (1 - share) * (1 - self.chance[rows]) ** n
        return rows, np.log(chance).astype(np.float32)


def _mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    return losses.mean() if weights is None else (losses * weights).sum() / weights.sum()
