"""Trending-Now, on events that can be counted by hand."""

import numpy as np
import pandas as pd
import pytest

from lib.data.datasets import Datasets
from lib.recipes import RECIPES
from lib.recipes.recipe import Request
from lib.recipes.trending import trend_prediction

RECIPE = RECIPES["aws-trending-now"]
NOW, MINUTE, HOUR = 1_700_000_000, 60, 3_600


def table(*events):
    """(item, how many, minutes before NOW)"""
    rows = [(f"{item}{n}", item, NOW - minutes * MINUTE) for item, count, minutes in events for n in range(count)]
    return pd.DataFrame(rows, columns=["USER_ID", "ITEM_ID", "TIMESTAMP"]).sort_values("TIMESTAMP", kind="stable")


def trend(*events, frequency="30 minutes"):
    parameters = RECIPE.values({"trend_discovery_frequency": frequency})
    datasets = Datasets(interactions=table(*events))
    return RECIPE.fit(datasets, parameters, seed=0, progress=lambda step: None)


def order(model, now=NOW):
    scores = model.scores([Request(history=None, now=now)])[0]
    return "".join(model.catalogue.item_ids[np.argsort(-scores, kind="stable")])


# between 60 and 30 minutes ago a was used 5 times, since then 6 times: it rises by 1, b by 4, c falls
EVENTS = [("a", 5, 45), ("a", 6, 10), ("b", 1, 45), ("b", 5, 10), ("c", 9, 45), ("c", 1, 10), ("d", 20, 300)]


def test_the_steepest_rise_between_the_last_two_intervals_comes_first_and_popularity_orders_the_rest():
    assert order(trend(*EVENTS)) == "badc"


def test_without_events_in_the_last_two_intervals_the_order_is_that_of_popularity():
    assert order(trend(*EVENTS), now=NOW + 2 * HOUR) == "dcab"


@pytest.mark.parametrize(("frequency", "first"), [("30 minutes", "b"), ("2 hours", "a"), ("1 day", "d")])
def test_the_frequency_is_the_length_of_the_intervals(frequency, first):
    assert order(trend(*EVENTS, frequency=frequency))[0] == first


def test_counting_anew_takes_in_later_events_and_new_items():
    model = trend(*EVENTS)
    later = model.refreshed(Datasets(interactions=table(*EVENTS, ("e", 9, 5))))
    assert order(later)[0] == "e"
    assert later.interval == model.interval


def test_the_share_of_the_newest_rise_that_was_foreseen():
    events = [*((f"i{n:02}", 1, 45) for n in range(30)), ("i29", 4, 10), ("new", 6, 10)]
    # before the newest 30 minutes all but new rose by 1, most popular among them i29; since then it by 3 and new by 6
    found = trend_prediction(trend(*events), Datasets(interactions=table(*events)))
    assert found == {"trend_prediction_accuracy": pytest.approx(1 / 3)}
    few = [("a", 2, 45), ("a", 5, 10), ("b", 6, 10)]  # both are among the 25
    assert trend_prediction(trend(*few), Datasets(interactions=table(*few))) == {"trend_prediction_accuracy": 1.0}
