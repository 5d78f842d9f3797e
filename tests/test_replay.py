"""A live site replayed: who is asked, who is told, and what is set beside the best."""

import numpy as np
import pytest

from lib.data.simulator import POSITION, Truth, next_day, simulate
from lib.replay import outcome, replay

HOUR = 3_600


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "news"
    simulate(folder, seed=3, readers=150, articles=300, interactions=4000, days=14)
    return Truth.load(folder / "truth.npz")


@pytest.fixture(scope="module")
def tomorrow(site):
    return next_day(site, articles=30, seed=1)


def fixed(items):
    return lambda user: (f"for {user}", items)


def played(truth, arms, report=lambda *told: None, places=5, visits=200):
    times = {"since": truth.end + 6 * HOUR, "until": truth.end + 24 * HOUR}
    readers = {user: [] for user in truth.user_ids[:40]}
    return replay(truth, readers, arms, report, places=places, visits=visits, seed=5, **times)


def best_of(truth, k):
    """An arm that knows the truth of a reader's first visit."""
    now = np.array([truth.end + 6 * HOUR])

    def ask(user):
        chance = truth.chance([user], now, truth.item_ids, [[]])[0]
        return "known", list(truth.item_ids[np.argsort(-chance, kind="stable")[:k]])

    return ask


def test_the_articles_of_the_next_day_come_after_all_others(site, tomorrow):
    truth, items = tomorrow
    assert list(truth.item_ids) == [*site.item_ids, *items["ITEM_ID"]]
    assert items["CREATION_TIMESTAMP"].between(site.end, site.end + 6 * HOUR).all()
    assert not set(truth.story[len(site.story) :]) & set(site.story[site.story >= 0])
    reader, now = site.user_ids[:1], np.array([site.end + 6 * HOUR])
    new = truth.chance(reader, now, items["ITEM_ID"], [[]])
    assert ((new > 0) & (new < 1)).all()
    np.testing.assert_array_equal(
        truth.chance(reader, now, site.item_ids, [[]]), site.chance(reader, now, site.item_ids, [[]])
    )


def test_the_articles_of_the_next_day_are_the_same_for_the_same_seed(site, tomorrow):
    assert next_day(site, articles=30, seed=1)[1].equals(tomorrow[1])
    assert not next_day(site, articles=30, seed=2)[1].equals(tomorrow[1])


def test_a_reader_always_visits_the_same_arm_and_reads_nothing_twice(tomorrow):
    truth, items = tomorrow
    told = []
    visited = played(
        truth, {"a": fixed(list(items["ITEM_ID"])), "b": best_of(truth, 30)}, lambda *it: told.append(it), 30
    )
    assert visited.groupby("user")["arm"].nunique().max() == 1 and set(visited["arm"]) == {"a", "b"}
    assert visited["time"].is_monotonic_increasing and visited["time"].max() < truth.end + 24 * HOUR
    clicks = [(user, item) for user, items in zip(visited["user"], visited["clicked"]) for item in items]
    assert len(clicks) == len(set(clicks)) > 0
    assert [(user, list(items)) for user, _, _, items, _ in told] == [
        (user, items) for user, items in zip(visited["user"], visited["clicked"]) if items
    ]


def test_expected_clicks_are_those_of_the_truth_and_never_beat_the_best(tomorrow):
    truth, items = tomorrow
    shown = list(items["ITEM_ID"][:5])
    first = played(truth, {"a": fixed(shown)}, visits=1).iloc[0]
    chance = truth.chance([first["user"]], np.array([first["time"]]), shown, [[]])[0]
    assert first["expected"] == pytest.approx(chance @ POSITION ** np.arange(5))
    visited = played(truth, {"a": fixed(shown), "b": best_of(truth, 5)})
    assert (visited["expected"] <= visited["best"] + 1e-12).all()


def test_the_outcome_tells_arms_apart(tomorrow):
    truth, items = tomorrow
    new = set(items["ITEM_ID"])
    told = outcome(played(truth, {"new": fixed(sorted(new)[:10]), "known": best_of(truth, 10)}, places=10), sorted(new))
    assert told.loc["new", "new_shown"] == 1 and told.loc["new", "new_clicks"] == 1
    assert told.loc["known", "new_shown"] < 1 and told.loc["known", "share_of_best"] > told.loc["new", "share_of_best"]
    assert 0 < told.loc["new", "discovered"] <= 10 and told["visits"].sum() == 200


def test_readers_without_a_click_are_not_reported(tomorrow):
    truth, _ = tomorrow
    visited = played(truth, {"a": lambda user: ("empty", [])}, lambda *told: pytest.fail("nothing was clicked"))
    assert visited["expected"].sum() == 0 and len(visited) == 200
    assert outcome(visited, []).loc["a", "clicks"] == 0
