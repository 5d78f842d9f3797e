import math
from collections import Counter
from itertools import compress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib import ranking
from lib.data.datasets import Catalogue, History
from lib.ranking import Lottery, Mixture, Ordered, Ranked, promote, rank, recommend, softmax, uniforms
from lib.recipes.recipe import Request

NOBODY = History(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int32))


def scores(*rows):
    return np.array(rows, dtype=np.float32)


class Fixed:
    """A model whose scores do not depend on the request; counts how many it is asked at once."""

    def __init__(self, row):
        self.row, self.catalogue, self.asked = np.float32(row), Catalogue(np.array([""] * len(row)), np.array([""])), []

    def scores(self, requests):
        self.asked.append(len(requests))
        return np.tile(self.row, (len(requests), 1))


def test_best_items_come_first():
    ranked = rank(scores([0.1, 0.9, 0.5]), 2)
    assert ranked.items.tolist() == [[1, 2]]
    assert ranked.scores.tolist() == scores([0.9, 0.5]).tolist()


def test_of_equal_scores_the_lower_index_is_first_also_at_the_last_place():
    assert rank(scores([1, 2, 1, 2, 1], [0, 0, 0, 0, 0]), 3).items.tolist() == [[1, 3, 0], [0, 1, 2]]


def test_minus_one_fills_up_where_candidates_run_out():
    ranked = rank(scores([3, 2, 1]), 5, np.array([False, True, True]))
    assert ranked.items.tolist() == [[1, 2, -1, -1, -1]]
    assert np.isneginf(ranked.scores[0, 2:]).all()


def test_each_row_may_have_its_own_candidates():
    allowed = np.array([[True, False], [False, True]])
    assert rank(scores([1, 2], [2, 1]), 1, allowed).items.tolist() == [[0], [1]]


def test_nothing_allowed_and_nothing_asked_give_empty_lists():
    assert rank(scores([1, 2]), 2, np.zeros(2, dtype=bool)).items.tolist() == [[-1, -1]]
    assert rank(scores([1, 2]), 0).items.shape == (1, 0)


def test_a_model_that_scores_nan_is_found_out():
    with pytest.raises(ValueError, match="NaN"):
        rank(scores([1, np.nan, 3]), 1)


def test_a_mask_of_another_catalogue_is_refused():
    with pytest.raises(ValueError, match=r"allowed has shape \(3,\), expected \(2,\)"):
        rank(scores([1, 2]), 1, np.ones(3, dtype=bool))


@given(
    arrays(np.float32, (7, 13), elements=st.sampled_from([-2.0, -0.0, 0.0, 0.5, 3.0])),
    arrays(bool, (7, 13)),
    st.integers(0, 15),
)
def test_ranking_is_a_stable_sort_of_the_candidates(values, allowed, k):
    ranked = rank(values, k, allowed)
    for row in range(len(values)):
        order = [item for item in np.argsort(-values[row], kind="stable") if allowed[row, item]][:k]
        assert ranked.items[row].tolist() == order + [-1] * (k - len(order))
        assert ranked.scores[row, : len(order)].tolist() == values[row, order].tolist()


def test_a_list_does_not_depend_on_the_rows_beside_it(monkeypatch):
    values = np.random.default_rng(1).integers(0, 9, (50, 40)).astype(np.float32)
    whole = rank(values, 10).items
    monkeypatch.setattr(ranking, "RANKED_AT_ONCE", 120)
    assert (rank(values, 10).items == whole).all()


def test_softmax_sums_to_one_and_survives_large_scores():
    chances = softmax(scores([1000, 1000, -1000], [0, np.log(3), -np.inf]))
    np.testing.assert_allclose(chances, [[0.5, 0.5, 0], [0.25, 0.75, 0]], atol=1e-7)


def test_the_item_asked_about_is_not_in_its_own_result():
    requests = [Request(history=NOBODY, now=0, item=1), Request(history=NOBODY, now=0)]
    assert recommend(Fixed([1, 3, 2]), requests, 2).items.tolist() == [[2, 0], [1, 2]]


def test_requests_are_scored_a_part_at_a_time(monkeypatch):
    monkeypatch.setattr(ranking, "SCORED_AT_ONCE", 6)
    model = Fixed([1, 3, 2])
    allowed = np.array([[True, False, True]] * 4 + [[False, False, True]])
    ranked = recommend(model, [Request(history=NOBODY, now=0)] * 5, 1, allowed)
    assert model.asked == [2, 2, 1]
    assert ranked.items.ravel().tolist() == [2, 2, 2, 2, 2]


def ranked(*items):
    return Ranked(np.array([items], np.int32), np.arange(len(items), 0, -1, dtype=np.float32)[None])


def test_promoted_items_keep_their_order_and_so_do_the_others():
    for seed in range(20):
        mixed = promote([0, 1, 2, 3, 4, 5], ranked(9, 8, 7), 6, 50, np.random.default_rng(seed).random)
        assert list(compress(mixed.items, mixed.promoted)) == [9, 8, 7]
        assert [item for item in mixed.items if item not in (9, 8, 7)] == [0, 1, 2]


def test_promoted_items_stand_at_random_places():
    places = {
        promote([0, 1, 2, 3], ranked(9, 8), 4, 25, np.random.default_rng(seed).random).promoted.index(True)
        for seed in range(40)
    }
    assert places == {0, 1, 2, 3}


@pytest.mark.parametrize(("k", "percent", "promoted"), [(10, 1, 1), (10, 29, 2), (10, 100, 10), (3, 50, 1), (0, 50, 0)])
def test_promoted_are_the_floor_of_the_share_but_at_least_one(k, percent, promoted):
    mixed = promote(range(10), ranked(*range(20, 30)), k, percent, np.random.default_rng(0).random)
    assert (sum(mixed.promoted), len(mixed.items)) == (promoted, k)


def test_too_few_promoted_items_leave_their_places_to_the_others():
    mixed = promote([0, 1, 2, 3], ranked(9, -1, -1, -1), 4, 75, np.random.default_rng(0).random)
    assert sorted(mixed.items) == [0, 1, 2, 9]


def test_a_promoted_item_is_shown_once():
    mixed = promote([0, 1, 2, 3], ranked(1, 3), 4, 50, np.random.default_rng(0).random)
    assert sorted(mixed.items) == [0, 1, 2, 3]
    assert sorted(compress(mixed.items, mixed.promoted)) == [1, 3]


def mixture(weight, k=4, best=(0, 1, 2, 3), candidates=(2, 5, 6), bounds=(0.0, 0.3, 0.6)):
    return Mixture(best, Lottery(np.array(candidates, np.int64), np.array(bounds, np.float32)), k, weight)


def explored(weight, seed, **options):
    return mixture(weight, **options).draw(uniforms(str(seed)).__next__)


def test_ordered_scores_give_what_rank_gives():
    rng = np.random.default_rng(5)
    scores = rng.integers(0, 40, 3000).astype(np.float32)
    ordered = Ordered(scores)
    for k, share in [(25, None), (5, 0.5), (2000, None), (40, 0.001), (3100, 0.9), (0, None), (30, 0.9)]:
        allowed = None if share is None else rng.random(3000) < share
        expected, found = rank(scores[None], k, allowed), ordered.best(k, allowed)
        assert found.items.tolist() == expected.items.tolist() and found.scores.tolist() == expected.scores.tolist()


def test_without_weight_nothing_is_explored_and_with_all_of_it_only_candidates_while_there_are_any():
    nothing = explored(0.0, 1)
    assert nothing.items == [0, 1, 2, 3] and list(nothing.propensity) == [1] * 4
    everything = explored(1.0, 1)
    assert sorted(everything.items[:3]) == [2, 5, 6] and everything.items[3] == 0
    assert everything.explored == [item in (5, 6) for item in everything.items]


def test_candidates_fill_a_list_that_the_model_cannot():
    assert sorted(explored(0.0, 1, best=(7,)).items) == [2, 5, 6, 7]
    assert explored(0.5, 1, best=(), candidates=(), bounds=()).items == []


def test_the_same_seed_explores_the_same():
    assert explored(0.5, 3).items == explored(0.5, 3).items
    assert len({tuple(explored(0.5, seed).items) for seed in range(20)}) > 5


def test_propensities_are_how_often_an_item_stands_where_it_stands_after_those_before_it():
    lists = [explored(0.4, seed) for seed in range(6000)]
    followed = {}
    for one in lists:
        items = one.items
        for place in range(4):
            followed.setdefault(tuple(items[:place]), []).append((items[place], one.propensity[place]))
    compared = 0
    for after in followed.values():
        if len(after) < 1500:
            continue
        chances = dict(after)
        assert sum(chances.values()) == pytest.approx(1, abs=1e-9)
        for item, chance in chances.items():
            share = np.mean([found == item for found, _ in after])
            assert share == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / len(after)))
            compared += 1
    assert compared >= 6


@pytest.mark.parametrize("weight", [0.4, 1.0])
@pytest.mark.parametrize(
    ("best", "candidates", "bounds", "k"),
    [
        ([0, 1, 2, 3], [2, 5, 6, 7], [0.1, 0.9, 0.3, 0.2], 3),
        ([0, 1], [1, 0, 5], [0.1, 0.9, 0.3], 4),  # the model has too few, and so has the lottery
        ([0, 1, 2], [1, 2, 0], [2.0, 0.0, 0.3], 3),  # nothing beyond the model's list
        ([0, 1, 2, 3, 4], [5, 4, 0, 2], [9.0, 0.0, 0.3, 1.0], 4),  # one that outweighs the others, one that is cut off
    ],
)
def test_the_chances_of_all_lists_there_can_be_add_up_to_one_and_each_comes_as_often(
    best, candidates, bounds, k, weight
):
    n_lists = 20_000
    drawing, random = mixture(weight, k, best, candidates, bounds), uniforms("lists").__next__
    lists = [drawing.draw(random) for _ in range(n_lists)]
    chances = {tuple(one.items): math.prod(one.propensity) for one in lists}
    counts = Counter(tuple(one.items) for one in lists)
    assert sum(chances.values()) == pytest.approx(1, abs=2e-3)  # lists that one draw in 20,000 brings may be missing
    for items, chance in chances.items():
        expected = n_lists * chance
        assert counts[items] == pytest.approx(expected, abs=5 * np.sqrt(expected) + 3)


def test_propensities_survive_a_candidate_that_outweighs_all_others():
    one = explored(1.0, 1, k=3, bounds=(0.0, 0.0, 60.0))
    assert one.items[0] == 6 and one.propensity[1] == pytest.approx(0.5, abs=1e-9)
