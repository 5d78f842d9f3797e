import tracemalloc

import numpy as np
import pandas as pd
import pytest

from lib.data.datasets import Datasets, History
from lib.data.splits import split_users
from lib.evaluation import action_metrics, evaluate_actions
from lib.recipes import RECIPES, actions
from lib.recipes.recipe import Request

NOW, DAY = 1_700_000_000, 86_400
RECIPE = RECIPES["aws-next-best-action"]


def shop(users=200, rows=4000, taken=(0.5, 0.5, 0.5, 0.02)):
    """Whoever reads of music takes "gig" and seldom "game", the others the other way round; "bag" is a toss-up."""
    rng = np.random.default_rng(2)
    user, action = rng.integers(users, size=rows), rng.integers(4, size=rows)
    chance = np.array(taken)[action]
    chance[action == 1] = np.where(user[action == 1] % 2, 0.9, 0.1)
    chance[action == 2] = np.where(user[action == 2] % 2, 0.1, 0.9)
    reader = rng.integers(users, size=rows)
    read = pd.DataFrame(
        {
            "USER_ID": [f"u{n}" for n in reader],
            "ITEM_ID": [f"{'chess' if n % 2 == 0 else 'music'}{m}" for n, m in zip(reader, rng.integers(9, size=rows))],
            "TIMESTAMP": NOW - rng.integers(1, 40 * DAY, size=rows),
        }
    )
    met = pd.DataFrame(
        {
            "USER_ID": [f"u{n}" for n in user],
            "ACTION_ID": np.array(["bag", "game", "gig", "rare"])[action],
            "EVENT_TYPE": np.where(rng.random(rows) < chance, "TAKEN", "VIEWED"),
            "TIMESTAMP": NOW - rng.integers(1, 40 * DAY, size=rows),
        }
    )
    offered = pd.DataFrame(
        {"ACTION_ID": ["bag", "game", "gig", "rare"], "KIND": ["buy", "play", "go", "go"], "VALUE": [1, None, 2, 5]}
    )
    ordered = [table.sort_values("TIMESTAMP", kind="stable", ignore_index=True) for table in (read, met)]
    return Datasets(interactions=ordered[0], action_interactions=ordered[1], actions=offered)


def fitted(data, **how):
    return RECIPE.fit(data, RECIPE.values({}), seed=1, progress=lambda step: None, **how)


@pytest.fixture(scope="module")
def model():
    return fitted(shop())


def reading(model, name, **what):
    items = np.flatnonzero(np.char.startswith(model.catalogue.item_ids, name)).astype(np.int32)
    times = NOW - DAY + np.arange(len(items))
    return Request(history=History(items, times, np.zeros(len(items), np.int32)), now=NOW, **what)


def test_what_somebody_reads_says_what_they_take(model):
    music, chess = model.chances([reading(model, "music"), reading(model, "chess")])
    game, gig = model.action_ids.tolist().index("game"), model.action_ids.tolist().index("gig")
    assert music[game] > 0.7 > 0.3 > chess[game]
    assert chess[gig] > 0.7 > 0.3 > music[gig]


def test_chances_are_as_large_as_the_shares_that_were_taken_in_time(model):
    data = shop()
    done = actions.action_histories(data.action_interactions, model.action_ids)
    requests, action, taken = actions._examples(data, model, done, 14)
    chances = model.chances(requests)[np.arange(len(action)), action]
    for one in range(3):
        assert chances[action == one].mean() == pytest.approx(taken[action == one].mean(), abs=0.02)


def test_an_action_that_was_taken_too_seldom_has_no_chance_of_its_own_and_the_same_place_for_all(model):
    assert model.personalised.tolist() == [True, True, True, False]
    requests = [reading(model, "music"), reading(model, "chess")]
    assert model.chances(requests)[:, 3].tolist() == [0, 0]
    assert np.ptp(model.scores(requests)[:, 3]) == 0
    assert model.expected[3] == model.expected.min()


def test_a_fit_needs_no_memory_of_the_square_of_the_actions():
    n, n_actions = 40, 2_000
    action = np.arange(n)
    problem = actions._Problem(np.ones((n, 2)), np.ones((n, 1)), action, action % 2 == 0, np.ones((n_actions, 3)))
    problem.solve(1.0, action)  # what is loaded but once
    tracemalloc.start()
    weights, _, _ = problem.solve(1.0, action)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert weights.shape == (1 + n_actions + 3, 2) and most < 8 * n_actions**2 / 4
    assert (weights[1 : 1 + n] > 0).all(axis=1).tolist() == problem.taken.tolist()


def test_events_before_the_last_six_weeks_do_not_count_towards_enough():
    data = shop()
    old = data.action_interactions["ACTION_ID"] == "gig"
    data.action_interactions.loc[old, "TIMESTAMP"] -= 43 * DAY
    assert actions._with_enough(data.action_interactions, data.actions["ACTION_ID"].to_numpy(dtype=str)).tolist() == [
        *(True, True, False, False)
    ]


def test_a_single_event_long_after_all_others_forgets_none_of_them():
    data = shop()
    late = data.action_interactions.iloc[-1:].assign(TIMESTAMP=NOW + 1_000 * DAY)
    met = pd.concat([data.action_interactions, late], ignore_index=True)
    ids = data.actions["ACTION_ID"].to_numpy(dtype=str)
    assert actions._with_enough(met, ids).tolist() == actions._with_enough(data.action_interactions, ids).tolist()


def test_a_new_action_is_placed_by_its_columns_and_the_worthier_of_two_comes_first(model):
    offered = pd.DataFrame(
        {"ACTION_ID": ["a", "b", "bag"], "KIND": ["go", "play", "buy"], "VALUE": [None, None, 1], "OTHER": 1}
    )
    new = model.knowing(offered)
    assert new.personalised.tolist() == [False, False, True]
    request = reading(model, "music")
    assert new.chances([request])[0, 2] == pytest.approx(model.chances([request])[0, 0])
    assert model.preference.tolist() == [3, 2, 0, 1]  # by VALUE
    assert new.preference[0] == 2
    assert (new.expected[0] < new.expected[1]) == (new.preference.tolist() == [2, 1, 0])


def done(*events):
    """(action, event type, days ago) of one user."""
    found = [(action, kind, NOW - int(days * DAY)) for action, kind, days in events]
    return History(
        *(np.array(column) for column in ([e[0] for e in found], [e[2] for e in found], [e[1] for e in found]))
    )


def test_only_what_was_taken_in_time_was_taken():
    table = pd.DataFrame(
        [
            ("u", "gig", "VIEWED", 0),
            ("u", "gig", "VIEWED", 3600),  # the same day
            ("u", "gig", "TAKEN", 13 * DAY),  # ends what was opened
            ("u", "gig", "VIEWED", 20 * DAY),
            ("u", "gig", "TAKEN", 40 * DAY),  # too late for the view, so it stands for itself
            ("u", "bag", "NOT_TAKEN", 50 * DAY),
        ],
        columns=["USER_ID", "ACTION_ID", "EVENT_TYPE", "TIMESTAMP"],
    )
    data = shop()
    untrained = actions._untrained(data, seed=1)
    met = actions.action_histories(table, untrained.action_ids)
    requests, action, taken = actions._examples(data, untrained, met, days=14)
    told = [
        (r.now // DAY, untrained.action_ids[a], t, len(r.actions.items)) for r, a, t in zip(requests, action, taken)
    ]
    assert told == [(0, "gig", True, 0), (20, "gig", False, 3), (40, "gig", True, 4), (50, "bag", False, 5)]


def test_what_a_user_did_about_an_action_counts_for_that_action():
    found = actions.past(Request(history=actions.NOBODY, now=NOW, actions=done((1, actions.TAKEN, 14), (1, 2, 7))), 3)
    assert found[[0, 2]].sum() == 0
    assert found[1].tolist() == pytest.approx([0, np.log(2), np.log(2), np.exp(-1), 0, 0, 1])


def test_without_action_interactions_every_action_is_new():
    data = shop()
    model = fitted(Datasets(interactions=data.interactions, actions=data.actions))
    assert not model.personalised.any()
    assert model.chances([reading(model, "music")]).tolist() == [[0, 0, 0, 0]]


def test_no_actions_is_refused_with_a_remedy():
    data = shop()
    for table in (None, data.actions[:0]):
        with pytest.raises(ValueError, match="create an Actions dataset"):
            fitted(Datasets(interactions=data.interactions, actions=table))


class Sure:
    """Everybody takes b, then a; never c."""

    catalogue = None
    action_ids = np.array(["a", "b", "c"])
    preference = np.arange(3)

    def chances(self, requests):
        return np.tile([0.5, 0.9, 0.1], (len(requests), 1))


def asked_by_hand(event_type=None):
    """A model, a split and data; of two users the last event is held out, which is of the type."""
    table = pd.DataFrame(
        [
            *(("u", "a", "VIEWED", n) for n in range(9)),
            ("u", "b", "Taken", 9),
            *(("v", "a", "VIEWED", n) for n in range(9)),
            ("v", "a", "TAKEN", 9),
            ("w", "c", "VIEWED", 1),
        ],
        columns=["USER_ID", "ACTION_ID", "EVENT_TYPE", "TIMESTAMP"],
    ).sort_values("TIMESTAMP", kind="stable", ignore_index=True)
    data = shop()
    split = split_users(table, seed=1)
    held_out = table[table["TIMESTAMP"] == 9]
    if event_type is not None:
        held_out = held_out.assign(EVENT_TYPE=event_type)
    split = type(split)(table[:0], table[table["TIMESTAMP"] < 9], held_out)
    sure = Sure()
    sure.catalogue = fitted(data).catalogue
    return sure, split, data


def test_the_metrics_by_hand():
    found = action_metrics(evaluate_actions(*asked_by_hand()), 3)
    assert found == {
        "coverage": 1.0,
        **{f"normalized_discounted_cumulative_gain_at_{k}": 0.8155 for k in (5, 10, 25)},  # (1 + 1/log2 3) / 2
        "precision": 0.5,  # of b, which stood first twice and was taken once; nothing else stood first
        "recall": 0.5,  # b was foreseen whenever it was taken, a never
    }  # nothing was met and left, so there is no area under a curve


def test_metrics_of_what_is_taken_need_somebody_who_took_something():
    found = action_metrics(evaluate_actions(*asked_by_hand("VIEWED")), 3)
    assert found == {"coverage": 1.0, "precision": 0.0}
