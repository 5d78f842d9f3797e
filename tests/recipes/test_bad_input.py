"""Data nobody wishes for: every recipe trains on them to finite scores, or says what is wrong and what would help."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.data.datasets import Datasets, History, histories
from lib.recipes import RECIPES, neighbours, places
from lib.recipes.recipe import Request
from tests.recipes.test_contract import NEWEST, candidates, fitted, nobody, small_shop

YEAR_9999 = 253_402_300_799
SHOP = small_shop(n_users=12, n_items=12, n_events=6)
EVENTS = SHOP.interactions
SEGMENTS = [name for name, recipe in RECIPES.items() if recipe.recipe_type == "USER_SEGMENTATION"]
NETWORKS = ["aws-user-personalization-v2", "aws-hrnn"]  # one of each body: what they share takes most of the time
QUICK = [name for name, recipe in RECIPES.items() if recipe.recipe_type not in ("USER_PERSONALIZATION",)]
LARGE = [*NETWORKS, *(name for name in QUICK if not name.startswith("aws-personalized-ranking"))]


def by_time(*tables):
    return pd.concat(tables).sort_values("TIMESTAMP", kind="stable", ignore_index=True)


def events(table):
    return replace(SHOP, interactions=table.reset_index(drop=True))


def items(**columns):
    return replace(SHOP, items=SHOP.items.assign(**columns))


def some(*values):
    """Twelve cells."""
    return [values[n % len(values)] for n in range(12)]


BAD = {
    "two users with more than one event": events(
        by_time(EVENTS[EVENTS.USER_ID < "u02"], EVENTS[EVENTS.USER_ID > "u01"].drop_duplicates("USER_ID"))
    ),
    "one item in use": events(EVENTS.assign(ITEM_ID="i01")),
    "one item in all": replace(
        SHOP, interactions=EVENTS.assign(ITEM_ID="i01"), items=SHOP.items[1:2].reset_index(drop=True)
    ),
    "one moment": events(EVENTS.assign(TIMESTAMP=NEWEST)),
    "no metadata": Datasets(interactions=EVENTS[["USER_ID", "ITEM_ID", "TIMESTAMP"]]),
    "infinite and huge numbers": items(PRICE=some(np.inf, -np.inf, np.nan, 1e308, -1e308, 1e-308)),
    "numbers that are none": items(PRICE=some("cheap", "", None, "3", 4.5, "inf")),
    "constant columns": replace(
        SHOP,
        interactions=EVENTS.assign(DEVICE="phone", EVENT_TYPE="click"),
        items=SHOP.items.assign(GENRE="all", PRICE=1.0, TITLE="the same"),
        users=SHOP.users.assign(AGE="old"),
    ),
    "texts of nothing or of one long word": items(TITLE=some("", "   ", "\u0000", "😀", None, "a" * 5_000)),
    "every event four times": events(by_time(EVENTS, EVENTS, EVENTS, EVENTS)),
    "events from 1970 on": events(EVENTS.assign(TIMESTAMP=EVENTS.TIMESTAMP - EVENTS.TIMESTAMP.min())),
    "events up to the year 9999": events(
        EVENTS.assign(TIMESTAMP=np.where(np.arange(len(EVENTS)) < 50, EVENTS.TIMESTAMP, YEAR_9999))
    ),
    "items of all times and of none": items(CREATION_TIMESTAMP=some(0, YEAR_9999, np.nan, np.inf, -5, NEWEST)),
    "nameless events": events(EVENTS.assign(EVENT_TYPE=None, DEVICE=np.nan)),
}
REFUSED = {
    ("one moment", "USER_SEGMENTATION"): "All interactions have the same TIMESTAMP.*Import the times",
    ("no metadata", "aws-semantic-similarity"): "Items has no rows to compare: import items with texts",
    ("no metadata", "aws-item-attribute-affinity"): "Items are missing: import an Items dataset",
    ("no metadata", "aws-next-best-action"): "Actions are missing: create an Actions dataset",
}


def everybody(model, datasets):
    """Scores for users with and without a past, known and unknown in every way, now, long ago and in far days."""
    if hasattr(model, "user_ids"):
        last = len(model.catalogue.item_ids) - 1
        return model.scores([np.array([0]), np.array([last]), np.arange(last + 1)])
    done = histories(datasets.interactions, model.catalogue)
    now = int(datasets.interactions.TIMESTAMP.max())
    odd = History(np.array([0], np.int32), np.array([now]), np.array([-1], np.int32))
    return model.scores(
        [
            Request(history=done[0], now=now, item=0, user={"AGE": "old"}, context={"DEVICE": "phone"}),
            Request(history=nobody(), now=now),
            Request(history=odd, now=now, user={"AGE": "", "NEW": 1}, context={"DEVICE": "toaster"}),
            Request(history=done[0], now=0, item=0, user={"AGE": np.nan}, context={"DEVICE": ""}),
            Request(history=done[len(done.user_ids) - 1], now=2 * YEAR_9999, item=0, user={"AGE": None}),
        ]
    )


def assert_answers(model, datasets):
    scores = everybody(model, datasets)
    assert scores.shape[1] == len(candidates(model))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("data", BAD)
def test_bad_data_train_to_finite_scores_or_are_refused_with_a_remedy(name, data):
    refused = REFUSED.get((data, name)) or REFUSED.get((data, RECIPES[name].recipe_type))
    if refused:
        with pytest.raises(ValueError, match=refused):
            fitted(name, BAD[data])
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # of a division by zero, an overflow, a NaN on its way
        assert_answers(fitted(name, BAD[data]), BAD[data])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"VALUE": [np.inf, np.nan, 1e308], "KIND": None}, id="odd worth"),
        pytest.param({"VALUE": np.nan, "KIND": ""}, id="no worth"),
        pytest.param({"EVENT_TYPE": "Not Taken"}, id="nobody took one"),
        pytest.param({"EVENT_TYPE": "TAKEN"}, id="everybody took all"),
        pytest.param({"TIMESTAMP": NEWEST}, id="one moment"),
        pytest.param({"TIMESTAMP": 0}, id="1970"),
        pytest.param({"USER_ID": "robot"}, id="a robot's alone"),
    ],
)
def test_bad_actions_train_to_finite_scores(change):
    table = "actions" if "VALUE" in change else "action_interactions"
    bad = replace(SHOP, **{table: getattr(SHOP, table).assign(**change)})
    assert_answers(fitted("aws-next-best-action", bad), bad)


@pytest.mark.parametrize("name", LARGE)
def test_integers_with_gaps_train_as_the_same_reals_do(name):
    def shop(kind):
        gaps = {
            "items": {"PRICE": some(3, None, 5, 8), "CREATION_TIMESTAMP": some(NEWEST - 10**6, None, NEWEST - 10**5)},
            "users": {"YEAR": some(1980, 1999, None)},
            "actions": {"VALUE": [1, None, 3]},
            "interactions": {"POSITION": (some(1, None, 2, 7) * len(EVENTS))[: len(EVENTS)]},
        }
        tables = {
            table: getattr(SHOP, table).assign(**{name: pd.array(cells, kind) for name, cells in columns.items()})
            for table, columns in gaps.items()
        }
        return replace(SHOP, **tables, schemas={})

    found, expected = (everybody(fitted(name, shop(kind)), shop(kind)) for kind in ("Int64", "float64"))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", LARGE)
def test_a_robot_is_one_user_among_others(name):
    n = 20_000
    rng = np.random.default_rng(2)
    robot = pd.DataFrame(
        {
            "USER_ID": "robot",
            "ITEM_ID": [f"i{item:02}" for item in rng.integers(0, 12, n)],
            "TIMESTAMP": NEWEST - n + np.arange(n),
            "EVENT_TYPE": "click",
            "DEVICE": "phone",
        }
    )
    visited = events(by_time(EVENTS, robot))
    assert_answers(fitted(name, visited), visited)


@pytest.mark.parametrize("name", LARGE)
def test_a_huge_catalogue_of_few_users_is_trained_on(name, monkeypatch):
    monkeypatch.setattr(neighbours, "CELLS", 0)
    monkeypatch.setattr(neighbours, "LEAST_CANDIDATES", 400)
    n = 20_000
    shelf = pd.concat([SHOP.items] * (n // 12 + 1), ignore_index=True)[:n]
    huge = replace(SHOP, items=shelf.assign(ITEM_ID=[f"i{item:05}" for item in range(n)]))
    assert_answers(fitted(name, huge), huge)


@pytest.mark.parametrize("name", ["aws-similar-items", "aws-sims"])
def test_neighbours_are_sought_among_a_number_of_items_that_does_not_grow_with_the_catalogue(name, monkeypatch):
    monkeypatch.setattr(neighbours, "CELLS", 0)
    monkeypatch.setattr(neighbours, "LEAST_CANDIDATES", 100)
    looked_at = []
    strongest = places.strongest
    monkeypatch.setattr(
        places,
        "strongest",
        lambda strengths, columns, kept: (looked_at.append(len(columns)), strongest(strengths, columns, kept))[1],
    )
    shop = small_shop(n_users=30, n_items=900)
    fitted(name, shop)
    assert len(looked_at) == 900
    assert max(looked_at) < 100 + 12 * 12 * 2
