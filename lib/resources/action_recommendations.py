"""What campaigns of recipes for actions answer: GetActionRecommendations."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from sqlalchemy import Connection

from lib import filters
from lib.campaigns import Campaign as Loaded
from lib.campaigns import Restriction, Visitor
from lib.data.datasets import Histories, History, last_arrivals
from lib.filters import Columns
from lib.ranking import Lottery, Mixture, rank
from lib.recipes.actions import DAY, EVENT_TYPES, EXPIRES, NextBestAction, action_histories, folded
from lib.recipes.recipe import Request
from lib.resources import datasets, runtime
from lib.resources.account import Account
from lib.resources.errors import InvalidInputException
from lib.store import events

NUM_RESULTS, MAX_RESULTS = 5, 100
EVENTS_PER_TYPE = 300  # filters look at so many of a user's newest action interactions of each type
EXPLORED = 0.1  # of the places, drawn from actions that have no chances of their own yet
SCORE_DECIMALS = 7
ALSO_CALLED = {"nottaken": ("not_taken", "not taken", "nottaken")}  # in filters, in lower case


@dataclass(frozen=True, slots=True)
class _Actions:
    """The actions that a campaign may recommend now, in the order of the model's ``action_ids``.

    put: how far the puts of Actions had come.  imported: action interactions that came by imports, and the same by
    user.  expires: (A,) epoch seconds, inf for never.  repeats: (A,) seconds to wait after an interaction.
    last_arrivals: user -> epoch seconds at which what they did was last imported.
    """

    put: events.Live | None
    imported: pd.DataFrame | None
    model: NextBestAction
    columns: Columns
    expires: np.ndarray
    repeats: np.ndarray
    done: Histories
    last_arrivals: Mapping[str, float]


_ACTIONS: WeakKeyDictionary[Loaded, _Actions] = WeakKeyDictionary()


def get_action_recommendations(
    account: Account,
    *,
    campaign_arn: str | None = None,
    user_id: str | None = None,
    num_results: int | None = None,
    filter_arn: str | None = None,
    filter_values: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The actions that a user will most likely take, best first, with the chance that they are taken.

    Left out are actions that have expired, and those the user met within the days of their REPEAT_FREQUENCY.
    """
    if campaign_arn is None or not user_id:
        raise InvalidInputException("campaignArn and userId are both needed.")
    length = NUM_RESULTS if num_results is None else num_results
    if length > MAX_RESULTS:
        raise InvalidInputException(f"numResults is {length}, at most {MAX_RESULTS} actions can be asked for.")
    now = account.now().timestamp()
    deployment = runtime.deployed(account, campaign_arn, now)
    recipe = deployment.recipe
    if recipe.recipe_type != "PERSONALIZED_ACTIONS":
        raise InvalidInputException(
            f"{campaign_arn} runs {recipe.name}, which recommends no actions: "
            f"call {runtime.OPERATION_OF.get(recipe.recipe_type, 'GetRecommendations')}."
        )
    restriction = runtime.restriction_of(account, deployment, filter_arn, filter_values, user_id)
    visitor = runtime.visitor_of(account, deployment, user_id)
    with account.store.read() as tx:
        actions = _present(tx, account, deployment)
        done, last_arrival = _done(tx, deployment, actions, user_id)
    try:
        remembered = done if last_arrival >= datasets.remembered_from(account) else actions.done.of("")
        allowed = _allowed(restriction, actions, visitor, remembered) & _timely(actions, done, now)
    except filters.FilterError as error:
        raise InvalidInputException(str(error)) from error
    model = actions.model
    latest = max(deployment.now, int(done.times[-1]) if len(done.times) else 0)
    request = Request(history=visitor.history, now=latest, user=visitor.row, actions=done)
    chances = model.chances([request])[0]
    order = model.preference
    best = rank(chances[None, order].astype(np.float32), length, allowed[order]).items[0]
    new = np.flatnonzero(allowed & ~model.personalised)
    lottery = Lottery(new, model.expected[new].astype(np.float32))
    mixture = Mixture(order[best[best >= 0]].tolist(), lottery, length, EXPLORED)
    chosen = np.isin(order, mixture.draw(runtime.draws(account, deployment, user_id, None)).items)
    shown = order[rank(chances[None, order].astype(np.float32), int(chosen.sum()), chosen).items[0]]
    scores = [round(score, SCORE_DECIMALS) for score in chances[shown].tolist()]
    action_ids = model.action_ids[shown].tolist()
    return {
        "actionList": [{"actionId": id, "score": score} for id, score in zip(action_ids, scores)],
        "recommendationId": runtime.kept(account, campaign_arn, user_id, None, action_ids, None, now),
    }


def _present(tx: Connection, account: Account, deployment: runtime.Deployment) -> _Actions:
    """The actions as they were imported and put by now."""
    loaded = deployment.loaded
    dataset, met = deployment.datasets.get("ACTIONS"), deployment.datasets.get("ACTION_INTERACTIONS")
    if dataset is None:
        raise InvalidInputException(
            f"{deployment.campaign.dataset_group_arn} has no ACTIONS dataset any more: create one, import into it."
        )
    known, put = _ACTIONS.get(loaded), deployment.live.get(dataset.dataset_arn)
    if known is not None and known.put == put:
        return known
    table = datasets.table(tx, account, dataset, "ALL")
    if known is not None:
        imported = known.imported
    else:
        imported = None if met is None else datasets.table(tx, account, met, "BULK")
    model = loaded.model.knowing(table)
    n_actions = len(table)
    done = action_histories(imported, model.action_ids)
    last = last_arrivals(done.user_ids, datasets.arrivals(account, met))
    expires = np.full(n_actions, np.inf)
    for name in EXPIRES:
        if name in table:
            expires = np.fmin(expires, _numbers(table[name]))
    repeats = _numbers(table["REPEAT_FREQUENCY"]) if "REPEAT_FREQUENCY" in table else np.zeros(n_actions)
    found = _ACTIONS[loaded] = _Actions(
        put,
        imported,
        model,
        Columns.of(table, loaded.schemas["ACTIONS"], np.arange(n_actions), n_actions),
        expires,
        np.nan_to_num(repeats) * DAY,
        done,
        dict(zip(done.user_ids.tolist(), last.tolist())),
    )
    return found


def _numbers(column: pd.Series) -> np.ndarray:
    return pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan)


def _done(tx: Connection, deployment: runtime.Deployment, actions: _Actions, user_id: str) -> tuple[History, float]:
    """What a user, or the session of that name, did about actions, oldest first; when that last came in."""
    imported, last_arrival = actions.done.of(user_id), actions.last_arrivals.get(user_id, -math.inf)
    met = deployment.datasets.get("ACTION_INTERACTIONS")
    if met is None or met.dataset_arn not in deployment.live:
        return imported, last_arrival
    sent = events.newest(tx, met.dataset_arn, user_id)
    action = pd.Index(actions.model.action_ids).get_indexer([event.item_id for event in sent])
    types = pd.Index(EVENT_TYPES).get_indexer([folded(event.event_type) for event in sent])
    known = action >= 0
    times = np.append(imported.times, np.array([int(event.sent_at) for event in sent], dtype=np.int64)[known])
    order = np.argsort(times, kind="stable")
    done = History(
        np.append(imported.items, action[known].astype(np.int32))[order],
        times[order],
        np.append(imported.event_types, types[known].astype(np.int32))[order],
    )
    return done, max([last_arrival, *(event.received_at for event in sent)])


def _timely(actions: _Actions, done: History, now: float) -> np.ndarray:
    """(A,) bool: actions that have not expired and need not wait for this user.  now: epoch seconds."""
    last = np.full(len(actions.expires), -np.inf)
    np.maximum.at(last, done.items, done.times.astype(np.float64))
    return (actions.expires > now) & ((last + actions.repeats <= now) | (actions.repeats == 0))


def _allowed(restriction: Restriction | None, actions: _Actions, visitor: Visitor, done: History) -> np.ndarray:
    """(A,) bool: actions that a filter lets through.  Raises FilterError."""
    if restriction is None:
        return np.ones(len(actions.expires), dtype=bool)
    wanted = restriction.filter
    if wanted.id_name != "ActionID":
        raise filters.FilterError(
            f"The filter chooses among {wanted.id_name}, this campaign recommends actions: {wanted.text}"
        )
    met = {}
    for number, name in enumerate(EVENT_TYPES.tolist()):
        rows = done.items[np.flatnonzero(done.event_types == number)[-EVENTS_PER_TYPE:]]
        met |= dict.fromkeys(ALSO_CALLED.get(name, (name,)), rows)
    return wanted.allowed(actions.columns, values=restriction.values, user=visitor.attributes, interactions=met)


OPERATIONS = {get_action_recommendations.__name__: get_action_recommendations}
