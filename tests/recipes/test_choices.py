import numpy as np
import pandas as pd
import pytest

from lib.data.datasets import Catalogue, Datasets, History
from lib.recipes import RECIPES, choices
from lib.recipes.recipe import Request

DAY = 86_400
NOTHING = History(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int32))


def table(rows):
    return pd.DataFrame(rows, columns=["USER_ID", "ITEM_ID", "TIMESTAMP", "IMPRESSION"])


def numbers(*item_ids):
    return Catalogue(np.array(item_ids), np.array([""]))


def test_rows_of_one_user_time_and_impression_were_taken_from_one_list():
    rows = [("u", "a", 1, "a|b|c"), ("u", "c", 1, "a|b|c"), ("v", "b", 1, "a|b|c"), ("v", "a", 2, None)]
    shown = choices.lists(table(rows), numbers("a", "b", "c"))
    assert shown.rows.tolist() == [0, 2]
    assert shown.offsets.tolist() == [0, 3, 6]
    assert shown.items.tolist() == [0, 1, 2, 0, 1, 2]
    assert shown.taken.tolist() == [True, False, True, False, True, False]


def test_lists_that_leave_no_choice_and_items_nobody_knows_are_left_out():
    rows = [("u", "a", 1, "a"), ("v", "a", 1, "b|c"), ("w", "a", 1, "a|b|x")]
    shown = choices.lists(table(rows), numbers("a", "b", "c"))
    assert shown.rows.tolist() == [2]
    assert shown.items.tolist() == [0, 1]


@pytest.mark.parametrize("rows", [[("u", "a", 1, None)], [("u", "a", 1, "a")]], ids=["none", "no choice"])
def test_without_impressions_there_are_no_lists(rows):
    assert choices.lists(table(rows), numbers("a", "b")) is None


def test_the_weights_are_those_under_which_what_was_taken_is_likeliest():
    # two of three lists take the item with the feature: odds of 2, with next to no penalty
    features = np.tile([[1.0], [0.0]], (30, 1))
    row = np.repeat(np.arange(30), 2)
    taken = np.tile([True, False, True, False, False, True], 10)
    weights, _, loss = choices.logit(features, None, row, taken)
    assert weights[0] == pytest.approx(np.log(2), abs=0.02)
    assert loss == pytest.approx(-(2 * np.log(2 / 3) + np.log(1 / 3)) / 3, abs=0.01)


def test_weights_do_not_depend_on_the_unit_of_a_feature():
    rng = np.random.default_rng(2)
    row, taken = np.repeat(np.arange(40), 3), np.tile([True, False, False], 40)
    features = rng.normal(size=(120, 2)) + taken[:, None]
    metres, _, loss = choices.logit(features, None, row, taken)
    kilometres, _, same = choices.logit(features / [1, 1000], None, row, taken)
    np.testing.assert_allclose(kilometres, metres * [1, 1000], rtol=1e-3)
    assert same == pytest.approx(loss, abs=1e-6)


def some_impressions(n=400, seed=0):
    """Lists of four of ten items; a0 to a4 are taken whenever they are shown, a5 to a9 only for want of these."""
    rng = np.random.default_rng(seed)
    rows = []
    for time in range(n):
        shown = rng.choice(10, 4, replace=False)
        taken = rng.choice(shown[shown < 5]) if (shown < 5).any() else shown[0]
        rows.append((f"u{rng.integers(40):02}", f"a{taken}", 600 * time, "|".join(f"a{item}" for item in shown)))
    return table(rows)


def test_what_is_shown_and_passed_over_counts_against_an_item():
    rows = some_impressions()
    shown = choices.lists(rows, numbers(*(f"a{n}" for n in range(10))))
    times = rows["TIMESTAMP"].to_numpy()[shown.rows]
    choice = choices.fit(shown, times, np.full(10, np.nan), seed=0)
    scores = choice(np.array([times[-1] + DAY]))[0]
    assert scores[:5].min() > scores[5:].max()


def test_counts_of_a_list_do_not_know_what_was_taken_from_it():
    rows = some_impressions()
    shown = choices.lists(rows, numbers(*(f"a{n}" for n in range(10))))
    times = rows["TIMESTAMP"].to_numpy()[shown.rows]
    whole = choices.fit(shown, times, np.full(10, np.nan), seed=0)
    first = np.arange(len(shown.rows)) < 200
    part = choices.fit(shown.part(first), times[:200], np.full(10, np.nan), seed=0, start=whole)
    np.testing.assert_allclose(part(times[[50]]), whole(times[[50]]), rtol=0.2, atol=0.2)


@pytest.mark.parametrize("name", ["aws-personalized-ranking-v2", "aws-personalized-ranking"])
def test_a_ranking_recipe_learns_from_what_was_passed_over(name):
    rows = some_impressions()
    ranking = RECIPES[name]
    data = Datasets(interactions=rows)
    model = ranking.fit(data, ranking.values({}), seed=0, progress=lambda step: None)
    nobody = model.scores([Request(history=NOTHING, now=600 * 400)])[0]
    assert model.choice is not None
    assert nobody[:5].min() > nobody[5:].max()
