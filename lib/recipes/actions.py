r"""Next-Best-Action: how likely a user takes an action within some days of being offered it.

A logistic model of what happened after an action was seen.  The user's state u (columns of Users, the items used last
and what they are alike in, how much was done and when, how actions were met so far) meets what is known of the action,
as one weight vector an action that is put together of three:

.. math:: \operatorname{logit} p_{ua} = (w + w_a + \sum_f f_a w_f)^\top (1, u) + v^\top h_{ua}

w is shared by all actions, w_a is an action's own, w_f belongs to a column's value, so that a new action is judged by
its columns; h says what this user did about this very action.  All weights but the bias are drawn to 0, by the strength
that foresees the newest tenth of the examples best.

An action gets a chance of its own once it was taken, and seen without, often enough in the last six weeks (to which the
newest hundredth of all action interactions comes on top).  Before that its chance is 0.0, the same for everyone, and it
is placed by its ``VALUE`` and by what its columns let expect.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib.data import features
from lib.data.datasets import Catalogue, Datasets, Histories, History, catalogue, histories
from lib.data.features import Features
from lib.data.schema import Schema
from lib.recipes import files
from lib.recipes.recipe import HyperParameter, Model, Progress, Recipe, Request, Value

DAY = 86_400
NOT_TAKEN, TAKEN, VIEWED = range(3)
EVENT_TYPES = np.array(["nottaken", "taken", "viewed"])  # folded: without case, blanks and underscores
ENOUGH = 50  # events of either kind that an action needs for chances of its own
RECENT_DAYS = 42  # within which it needs them
EXPIRES = ("EXPIRATION_TIMESTAMP", "ACTION_EXPIRATION_TIMESTAMP")
RULES = (*EXPIRES, "REPEAT_FREQUENCY")  # columns that say when an action may be shown, not what it is
MOST_EXAMPLES = 200_000  # the newest
MOST_COLUMNS = 64  # values of categories that a dataset adds to a user's state, the commonest
RECENT_ITEMS = 50
DIRECTIONS = 16  # of the items' places
FAR = 5.0  # standard deviations at which a number is cut
PENALTIES = (3.0, 30.0, 300.0)
WITHHELD = 0.1  # of the examples, that the penalty is chosen by
NOBODY = History(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int32))


@dataclass(frozen=True, slots=True, kw_only=True)
class NextBestAction:
    """The model, over the actions of some table.

    action_ids: (A,) str, sorted.  described: (A, F) float32, columns of Actions as numbers.  own: (A, 1 + D) weights, 0
    for an action the training did not know.  personalised: (A,) bool.  values: (A,) business worth, 0 for none.
    shared: (1 + D,), by_column: (F, 1 + D), by_past: (P,) weights.  places: (I, K) float32 of the items.  kept: the
    values of Users' categories that count.  mean, scale: (D,) of the users' state.  penalty: chosen, 0 for none.
    """

    catalogue: Catalogue
    action_ids: np.ndarray
    described: np.ndarray
    own: np.ndarray
    personalised: np.ndarray
    values: np.ndarray
    shared: np.ndarray
    by_column: np.ndarray
    by_past: np.ndarray
    places: np.ndarray
    kept: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    penalty: float
    actions: Features
    users: Features

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """(B, A) float32 log-odds that the user takes each action, the same for all where its events are few."""
        weights = self.shared + self.own + self.described @ self.by_column
        weights[~self.personalised, 1:] = 0.0
        state = (self.state(requests) - self.mean) / self.scale
        logits = np.clip(state, -FAR, FAR) @ weights[:, 1:].T + weights[:, 0]
        for row, request in enumerate(requests):
            logits[row] += past(request, len(self.action_ids)) @ self.by_past * self.personalised
        return logits.astype(np.float32)

    def chances(self, requests: Sequence[Request]) -> np.ndarray:
        """(B, A) float64 in [0, 1]: what answers tell, 0.0 for actions without chances of their own."""
        return np.where(self.personalised, chance_of(self.scores(requests).astype(np.float64)), 0.0)

    @property
    def expected(self) -> np.ndarray:
        """(A,) float64 log-odds of each action for a user about whom nothing is known."""
        return (self.shared + self.own + self.described @ self.by_column)[:, 0]

    @property
    def preference(self) -> np.ndarray:
        """(A,) positions: of actions with equal chances the one that comes first here goes first."""
        return np.lexsort((-self.expected, -self.values))

    def knowing(self, actions: pd.DataFrame) -> "NextBestAction":
        """The same model over the actions of this table; one that is new is judged by its columns.

        actions: rows of Actions, ordered by id.
        """
        ids = actions["ACTION_ID"].to_numpy(dtype=str)
        before = pd.Index(self.action_ids).get_indexer(ids)
        known = before >= 0
        return replace(
            self,
            action_ids=ids,
            described=_described(self.actions, actions, ids),
            own=np.where(known[:, None], self.own[before], 0.0),
            personalised=known & self.personalised[before],
            values=_values(actions),
        )

    def state(self, requests: Sequence[Request]) -> np.ndarray:
        """(B, D) float64: what the users of these requests are like at this moment, not yet standardised."""
        numbers = np.array([_numbers(request, len(self.catalogue.event_types)) for request in requests])
        recent = [request.history.items[-RECENT_ITEMS:] for request in requests]
        lengths = np.array([len(items) for items in recent])
        rows = np.repeat(np.arange(len(requests)), lengths)
        shares = np.repeat(1 / np.maximum(lengths, 1), lengths)
        shape = (len(requests), len(self.places))
        taste = sparse.csr_matrix((shares, (rows, np.concatenate([*recent, NOBODY.items]))), shape) @ self.places
        columns = {name: [request.user.get(name) for request in requests] for name in self.users.names}
        about = self.users(columns, len(requests))
        return np.hstack([numbers, taste, about.categories[:, self.kept].toarray(), about.dense]).astype(np.float64)

    def save(self, folder: Path) -> None:
        settings = {
            "action_ids": self.action_ids.tolist(),
            "penalty": self.penalty,
            "actions": self.actions.settings(),
            "users": self.users.settings(),
        }
        arrays = {name: getattr(self, name) for name in ARRAYS}
        files.write(folder, self.catalogue, settings, arrays)

    def embeddings(self) -> None:
        return None


ARRAYS = (
    *("described", "own", "personalised", "values", "shared", "by_column", "by_past"),
    *("places", "kept", "mean", "scale"),
)


def load(folder: Path) -> NextBestAction:
    numbers, settings, arrays = files.read(folder)
    return NextBestAction(
        catalogue=numbers,
        action_ids=np.array(settings["action_ids"], dtype=str),
        penalty=settings["penalty"],
        actions=Features.load(settings["actions"], {}),
        users=Features.load(settings["users"], {}),
        **{name: arrays[name] for name in ARRAYS},
    )


def folded(event_type: str) -> str:
    """An event type as in ``EVENT_TYPES``, however it is spelt."""
    return event_type.replace(" ", "").replace("_", "").lower()


def action_histories(table: pd.DataFrame | None, action_ids: np.ndarray) -> Histories:
    """Action interactions, ordered by time, as one history a user: items are positions in action_ids."""
    if table is None:
        table = pd.DataFrame({name: [] for name in ("USER_ID", "ACTION_ID", "EVENT_TYPE", "TIMESTAMP")}, dtype=object)
    types = {name: folded(name) for name in table["EVENT_TYPE"].unique()}
    event_types = pd.Series([types[name] for name in table["EVENT_TYPE"]], table.index, dtype=object)
    renamed = table.rename(columns={"ACTION_ID": "ITEM_ID"}).assign(EVENT_TYPE=event_types)
    return histories(renamed, Catalogue(action_ids, EVENT_TYPES))


def chance_of(logits: np.ndarray) -> np.ndarray:
    """The logistic function."""
    return 0.5 + 0.5 * np.tanh(logits / 2)


def until(history: History, time: int) -> History:
    """What happened before a moment, epoch seconds."""
    end = int(np.searchsorted(history.times, time, side="left"))
    return History(history.items[:end], history.times[:end], history.event_types[:end])


def past(request: Request, n_actions: int) -> np.ndarray:
    """(A, 7) float64: what the user did about each action: how often each of three, when last, and what that was."""
    done = NOBODY if request.actions is None else request.actions
    found = np.zeros((n_actions, 7))
    if len(done.items):
        np.add.at(found, (done.items, np.maximum(done.event_types, 0)), done.event_types >= 0)
        found[:, :3] = np.log1p(found[:, :3])
        days = np.maximum(request.now - done.times, 0) / DAY
        found[done.items, 3] = np.exp(-days / 7)  # the last one of an action stays
        for kind in range(3):
            found[done.items, 4 + kind] = done.event_types == kind
    return found


def _numbers(request: Request, n_event_types: int) -> np.ndarray:
    """(8 + E,) float64: how much was done and how lately, how actions were met, time of day and week, event types."""
    history, done = request.history, NOBODY if request.actions is None else request.actions
    types = history.event_types[-RECENT_ITEMS:]
    shares = np.bincount(types[types >= 0], minlength=n_event_types) / max(1, len(types))
    met = np.bincount(done.event_types[done.event_types >= 0], minlength=3)
    idle = max(0, request.now - int(history.times[-1])) / DAY if len(history.times) else RECENT_DAYS
    lately = len(history.times) - int(np.searchsorted(history.times, request.now - 7 * DAY))
    hour = 2 * np.pi * (request.now % DAY) / DAY
    weekend = (request.now // DAY + 4) % 7 in (0, 6)  # the first day of 1970 was a Thursday
    said = [np.log1p(len(history.items)), np.log1p(lately), np.log1p(min(idle, RECENT_DAYS))]
    said += [np.log1p(met.sum()), (met[TAKEN] + 1) / (met.sum() + 4), np.sin(hour), np.cos(hour), weekend]
    return np.concatenate([np.array(said, np.float64), shares])


def fit(
    datasets: Datasets,
    parameters: Mapping[str, Value],
    *,
    seed: int,
    progress: Callable[[Progress], None],
    start: Model | None = None,
) -> NextBestAction:
    """Learn anew; with ``start``, under the penalty that it found.

    Raises ValueError without actions or interactions.
    """
    if datasets.actions is None or not len(datasets.actions):
        raise ValueError("Actions are missing: create an Actions dataset and import the actions to recommend")
    if not len(datasets.interactions):
        raise ValueError("Interactions has no rows to learn from: import interactions, or let more event types in")
    model = _untrained(datasets, seed)
    done = action_histories(datasets.action_interactions, model.action_ids)
    model = replace(model, personalised=_with_enough(datasets.action_interactions, model.action_ids))
    requests, action, taken = _examples(datasets, model, done, parameters["action_optimization_period"])
    progress(Progress(step=1, steps=3, measures={"examples": len(taken)}))
    if taken.all() or not taken.any():
        progress(Progress(step=3, steps=3, measures={"personalised_actions": 0}))
        return replace(model, personalised=np.zeros(len(model.action_ids), bool))
    state = model.state(requests)
    mean, scale = state.mean(axis=0), state.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    state = np.clip((state - mean) / scale, -FAR, FAR)
    about = np.stack([past(request, len(model.action_ids))[a] for request, a in zip(requests, action)])
    problem = _Problem(np.hstack([np.ones((len(state), 1)), state]), about, action, taken, model.described)
    penalty = getattr(start, "penalty", 0.0) or _penalty(problem)
    progress(Progress(step=2, steps=3, measures={"penalty": penalty}))
    together, by_past, loss = problem.solve(penalty, np.arange(len(taken)))
    n = len(model.action_ids)
    told = {"loss": loss, "personalised_actions": int(model.personalised.sum())}
    progress(Progress(step=3, steps=3, measures=told))
    return replace(
        model,
        shared=together[0],
        own=together[1 : 1 + n],
        by_column=together[1 + n :],
        by_past=by_past,
        mean=mean,
        scale=scale,
        penalty=penalty,
    )


def _untrained(datasets: Datasets, seed: int) -> NextBestAction:
    """All but the weights, which are 0."""
    numbers = catalogue(datasets)
    ids = datasets.actions["ACTION_ID"].to_numpy(dtype=str)
    columns = _columns_of(datasets.actions, datasets.schemas.get("ACTIONS"))
    users = features.fit(datasets.users, datasets.schemas.get("USERS"))
    about = features.aligned(users, datasets.users, "USER_ID", _ids(datasets.users, "USER_ID"))
    kept = _commonest(about.categories)
    places = _places(datasets, numbers, seed)
    described = _described(columns, datasets.actions, ids)
    n_state = 8 + len(numbers.event_types) + places.shape[1] + len(kept) + users.n_dense
    return NextBestAction(
        catalogue=numbers,
        action_ids=ids,
        described=described,
        own=np.zeros((len(ids), 1 + n_state)),
        personalised=np.zeros(len(ids), bool),
        values=_values(datasets.actions),
        shared=np.zeros(1 + n_state),
        by_column=np.zeros((described.shape[1], 1 + n_state)),
        by_past=np.zeros(7),
        places=places,
        kept=kept,
        mean=np.zeros(n_state),
        scale=np.ones(n_state),
        penalty=0.0,
        actions=columns,
        users=users,
    )


def _columns_of(actions: pd.DataFrame, schema: Schema | None) -> Features:
    """The columns that say what an action is.  TYPE counts, although its name is reserved for plain text."""
    if schema is not None:
        schema = replace(
            schema,
            fields=tuple(
                replace(field, categorical=field.name == "TYPE" or field.categorical) for field in schema.fields
            ),
        )
    return features.fit(actions.drop(columns=["ACTION_ID", *RULES], errors="ignore"), schema)


def _described(columns: Features, actions: pd.DataFrame, ids: np.ndarray) -> np.ndarray:
    """(A, F) float32: the columns of Actions."""
    encoded = features.aligned(columns, actions, "ACTION_ID", ids)
    return np.hstack([encoded.categories.toarray(), encoded.dense]).astype(np.float32)


def _values(actions: pd.DataFrame) -> np.ndarray:
    """(A,) float64: VALUE, 0 for none."""
    if "VALUE" not in actions:
        return np.zeros(len(actions))
    return np.nan_to_num(pd.to_numeric(actions["VALUE"]).to_numpy(dtype=np.float64, na_value=np.nan))


def _ids(table: pd.DataFrame | None, key: str) -> np.ndarray:
    return np.zeros(0, dtype=str) if table is None else table[key].to_numpy(dtype=str)


def _commonest(categories: sparse.csr_matrix) -> np.ndarray:
    """Columns, in their order, of the values that most rows have."""
    counts = np.asarray((categories > 0).sum(axis=0)).ravel()
    return np.sort(np.argsort(-counts, kind="stable")[:MOST_COLUMNS]).astype(np.int64)


def _places(datasets: Datasets, numbers: Catalogue, seed: int) -> np.ndarray:
    """(I, K) float32: what the same people use lies together; then the commonest values of the items' columns."""
    from sklearn.utils.extmath import randomized_svd  # a second that whoever only asks need not pay

    done = histories(datasets.interactions, numbers)
    user = np.repeat(np.arange(len(done.user_ids)), np.diff(done.offsets))
    used = sparse.csr_matrix(
        (np.ones(len(user), np.float32), (user, done.items)), (len(done.user_ids), len(numbers.item_ids))
    )
    used.data = np.log1p(used.data)
    dim = min(DIRECTIONS, min(used.shape) - 1)
    directions = np.zeros((len(numbers.item_ids), 0))
    if dim >= 1:
        directions = randomized_svd(used, dim, n_iter=4, random_state=seed)[2].T
    columns = replace(features.fit(datasets.items, datasets.schemas.get("ITEMS")), text=None)
    about = features.aligned(columns, datasets.items, "ITEM_ID", numbers.item_ids)
    kept = _commonest(about.categories)
    return np.hstack([directions, about.categories[:, kept].toarray(), about.dense]).astype(np.float32)


def _with_enough(table: pd.DataFrame | None, action_ids: np.ndarray) -> np.ndarray:
    """(A,) bool: actions taken, and seen without, often enough in the last six weeks."""
    if table is None or not len(table):
        return np.zeros(len(action_ids), bool)
    # one event of today beside data of last year must not forget all of these
    end = table["TIMESTAMP"].quantile(0.99, interpolation="lower")
    recent = table[table["TIMESTAMP"] > end - RECENT_DAYS * DAY]
    action = pd.Index(action_ids).get_indexer(recent["ACTION_ID"].to_numpy(dtype=str))
    taken = recent["EVENT_TYPE"].map(folded).to_numpy() == EVENT_TYPES[TAKEN]
    counts = [np.bincount(action[(action >= 0) & kind], minlength=len(action_ids)) for kind in (taken, ~taken)]
    return (counts[0] >= ENOUGH) & (counts[1] >= ENOUGH)


def _examples(
    datasets: Datasets, model: NextBestAction, done: Histories, days: int
) -> tuple[list[Request], np.ndarray, np.ndarray]:
    """Moments at which users met actions, oldest first: the request just before, (N,) action, (N,) bool taken in time.

    One a day of a user and an action.  Being taken after being seen is the end of an example, none of its own.
    """
    met = []
    for user, user_id in enumerate(done.user_ids.tolist()):
        own = done[user]
        for action in np.unique(own.items).tolist():
            rows = own.items == action
            times, types = own.times[rows], own.event_types[rows]
            takes = times[types == TAKEN]
            opened = settled = -np.inf
            for time, kind in zip(times.tolist(), types.tolist()):
                if time < opened + DAY or (kind == TAKEN and time <= settled):
                    continue
                opened, settled = time, time + days * DAY
                first = np.searchsorted(takes, time)
                met.append((time, user_id, action, first < len(takes) and takes[first] <= settled))
    met = sorted(met)[-MOST_EXAMPLES:]
    items = histories(datasets.interactions, model.catalogue)
    names = [name for name in model.users.names if datasets.users is not None]
    rows = {} if datasets.users is None else datasets.users.set_index("USER_ID")[names].to_dict("index")
    requests = [
        Request(
            history=until(items.of(user_id), time),
            now=time,
            user=rows.get(user_id, {}),
            actions=until(done.of(user_id), time),
        )
        for time, user_id, _, _ in met
    ]
    return requests, np.array([m[2] for m in met], dtype=np.int64), np.array([m[3] for m in met], dtype=bool)


@dataclass(frozen=True, slots=True)
class _Problem:
    """Examples to fit.  state: (N, 1 + D), the first column 1.  about: (N, P).  action: (N,).  taken: (N,) bool."""

    state: np.ndarray
    about: np.ndarray
    action: np.ndarray
    taken: np.ndarray
    described: np.ndarray

    def solve(self, penalty: float, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """The weights under which these examples are likeliest: (1 + A + F, 1 + D), (P,), and the mean log loss."""
        from scipy.optimize import minimize  # most of the time that importing this module would take
        from threadpoolctl import threadpool_limits

        state, about, taken = self.state[rows], self.about[rows], self.taken[rows].astype(np.float64)
        n_actions = len(self.described)
        one_of = sparse.csr_matrix(
            (np.ones(len(rows)), (self.action[rows], np.arange(len(rows)))), (n_actions, len(rows))
        )
        shape, n_past = (1 + n_actions + self.described.shape[1], state.shape[1]), about.shape[1]
        free = np.ones(shape[0] * shape[1] + n_past)
        free[0] = 0.0  # the bias

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights, by_past = flat[:-n_past].reshape(shape), flat[-n_past:]
            logits = np.einsum("nd,nd->n", state, self.of_actions(weights)[self.action[rows]]) + about @ by_past
            wrong = chance_of(logits) - taken
            value = (np.logaddexp(0, logits) - taken * logits).sum() + penalty / 2 * (free * flat) @ flat
            own = one_of @ (wrong[:, None] * state)
            gradient = np.vstack([own.sum(axis=0), own, self.described.T @ own])
            return value, np.append(gradient.ravel(), about.T @ wrong) + penalty * free * flat

        with threadpool_limits(1):  # threads would wait for each other longer than they work
            found = minimize(loss, np.zeros(len(free)), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
        weights, by_past = found[:-n_past].reshape(shape), found[-n_past:]
        return weights, by_past, self.loss(weights, by_past, rows)

    def of_actions(self, weights: np.ndarray) -> np.ndarray:
        """(A, 1 + D): each action's weights, put together of those that all share, its own and its columns'."""
        n_actions = len(self.described)
        return weights[0] + weights[1 : 1 + n_actions] + self.described @ weights[1 + n_actions :]

    def loss(self, weights: np.ndarray, by_past: np.ndarray, rows: np.ndarray) -> float:
        """Mean log loss of these examples, in nats."""
        own = self.of_actions(weights)[self.action[rows]]
        logits = np.einsum("nd,nd->n", self.state[rows], own) + self.about[rows] @ by_past
        return float((np.logaddexp(0, logits) - self.taken[rows] * logits).mean())


def _penalty(problem: _Problem) -> float:
    """The one under which the older examples foresee the newest best."""
    n = len(problem.taken)
    old, new = np.split(np.arange(n), [n - max(1, int(WITHHELD * n))])
    if not len(old):
        return PENALTIES[-1]
    losses = [problem.loss(*problem.solve(penalty, old)[:2], new) for penalty in PENALTIES]
    return PENALTIES[int(np.argmin(losses))]


NEXT_BEST_ACTION = Recipe(
    name="aws-next-best-action",
    recipe_type="PERSONALIZED_ACTIONS",
    description="Predicts which actions, such as enrolling or downloading an app, a user will most likely take within "
    "some days, from what users did about actions and items.",
    algorithm="aws-next-best-action",
    feature_transformation="aws-next-best-action",
    fit=fit,
    load=load,
    batch=False,
    hyperparameters=(
        HyperParameter(
            name="action_optimization_period",
            default=14,
            low=7,
            high=28,
            transformation=True,
            meaning="days within which an action should be taken",
        ),
    ),
)
