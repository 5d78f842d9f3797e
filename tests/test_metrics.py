import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib import metrics
from lib.metrics import bootstrap, ndcg, paired_bootstrap, precision, ratio_bootstrap, reciprocal_rank, textbook_ndcg

lists = arrays(bool, (6, 25))


def hits_at(*ranks, k=25):
    found = np.zeros((1, k), dtype=bool)
    found[0, np.array(ranks, dtype=int) - 1] = True
    return found


def test_mean_reciprocal_rank_counts_the_first_hit_alone():
    found = np.concatenate([hits_at(4, 9), hits_at(2, 3, 25), hits_at(6)])
    assert round(reciprocal_rank(found).mean(), 4) == 0.3056


def test_two_relevant_items_at_2_and_5():
    found = hits_at(2, 5)
    assert round(float(ndcg(found, 5)[0]), 4) == 0.6241
    assert round(float(textbook_ndcg(found, np.array([2]), 5)[0]), 4) == 0.6241
    assert reciprocal_rank(found)[0] == 0.5
    assert precision(found, 5)[0] == 0.4


def test_three_used_of_ten_shown():
    assert precision(hits_at(1, 5, 10), 10)[0] == 0.3


def test_sixty_of_a_hundred_took_the_action_and_fifty_of_a_hundred_were_foreseen():
    user = np.arange(150)
    predicted, taken = (user < 100)[:, None], ((user < 60) | (user >= 110))[:, None]
    assert metrics.precision_and_recall(predicted, taken) == (0.6, 0.6)
    assert metrics.precision_and_recall((user < 50)[:, None], (user < 100)[:, None]) == (1.0, 0.5)


def test_event_weights_become_rewards_around_one():
    np.testing.assert_allclose(metrics.event_rewards(np.array([0.3, 0.1])), [1.5, 0.5])


def test_only_the_ratio_of_event_weights_matters():
    np.testing.assert_allclose(metrics.event_rewards(np.array([0.1, 0.3])), metrics.event_rewards(np.array([0.2, 0.6])))


def test_a_purchase_after_a_click_is_worse_ordered_than_before():
    late, early = np.array([[0.5, 1.5, 0.0]]), np.array([[1.5, 0.5, 0.0]])
    assert metrics.weighted_ndcg(early, 3)[0] == 1
    gain, ideal = 0.5 + 1.5 / np.log2(3), 1.5 + 0.5 / np.log2(3)
    assert metrics.weighted_ndcg(late, 3)[0] == pytest.approx(gain / ideal)


def test_the_two_ndcg_differ_by_what_was_not_found():
    found = hits_at(1)
    assert ndcg(found, 10)[0] == 1
    assert textbook_ndcg(found, np.array([2]), 10)[0] == pytest.approx(1 / (1 + 1 / np.log2(3)))


def test_a_list_without_a_hit_is_worth_nothing():
    found = np.zeros((1, 25), dtype=bool)
    values = [precision(found, 5), ndcg(found, 5), reciprocal_rank(found), textbook_ndcg(found, np.array([3]), 5)]
    assert np.concatenate(values).tolist() == [0, 0, 0, 0]


def test_a_perfect_list_is_worth_one():
    found = np.ones((2, 25), dtype=bool)
    values = [precision(found, 25), ndcg(found, 25), reciprocal_rank(found), textbook_ndcg(found, np.full(2, 40), 25)]
    np.testing.assert_allclose(np.concatenate(values), 1)


@given(lists, st.integers(1, 25))
def test_metrics_stay_between_zero_and_one_and_the_textbook_below_personalize(found, k):
    relevant = np.maximum(found.sum(axis=1), 1)
    for values in (precision(found, k), ndcg(found, k), reciprocal_rank(found, k)):
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()
    assert (textbook_ndcg(found, relevant, k) <= ndcg(found, k) + 1e-12).all()


@given(lists, st.integers(0, 5), st.integers(0, 23))
def test_a_hit_that_moves_up_makes_no_metric_worse(found, user, rank):
    better = found.copy()
    better[user, rank], better[user, rank + 1] = (
        found[user, rank] | found[user, rank + 1],
        found[user, rank] & (found[user, rank + 1]),
    )
    assert (ndcg(better, 25) >= ndcg(found, 25) - 1e-12).all()
    assert (reciprocal_rank(better) >= reciprocal_rank(found)).all()


def test_hits_are_found_by_user_and_item():
    items = np.array([[0, 1, 2], [2, 1, -1]])
    found = metrics.hits(items, np.array([0, 1, 1]), np.array([1, 2, 7]))
    assert found.tolist() == [[False, True, False], [True, False, False]]


def test_a_list_that_ended_hits_nothing():
    assert not metrics.hits(np.array([[5], [-1]]), np.array([0, 1]), np.array([4, 4])).any()


def test_coverage_counts_each_item_once():
    assert metrics.coverage(np.array([[0, 1], [1, -1]]), 8) == 0.25


def test_coverage_grows_with_the_lists():
    items = np.random.default_rng(0).integers(0, 100, (9, 25))
    grown = [metrics.coverage(items[:, :k], 100) for k in range(1, 26)]
    assert grown == sorted(grown)


def test_recall_divides_by_what_was_relevant():
    assert metrics.recall(hits_at(1, 2), np.array([4]), 25)[0] == 0.5


def test_average_rewards_is_the_share_that_the_dearest_items_brought():
    rewards = np.array([[10.0, 1.0, 5.0, 2.0]] * 2)
    found = np.array([[True, True, False, True], [False] * 4])
    np.testing.assert_allclose(metrics.average_rewards(found, rewards, k=2), [10 / 13, 0])


def test_novelty_is_surprise_in_bits():
    popularity = np.array([0.5, 0.25, 0.0])
    np.testing.assert_allclose(metrics.novelty(np.array([[0, 1], [2, -1], [-1, -1]]), popularity), [1.5, 3, 0])


def test_area_under_curve_counts_ordered_pairs():
    scores, clicked = np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False])
    assert metrics.area_under_curve(scores, clicked) == 3.5 / 4
    assert np.isnan(metrics.area_under_curve(scores, np.ones(4, dtype=bool)))


def test_area_under_curve_by_group_leaves_out_what_cannot_be_ordered():
    scores, clicked = np.array([1.0, 2, 3, 4, 5]), np.array([True, False, False, True, True])
    areas = metrics.area_under_curve_by_group(scores, clicked, np.array(["a", "b", "a", "b", "c"]))
    assert areas.tolist() == [0, 1]


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1)), st.integers(0, 5))
def test_a_bootstrap_interval_lies_within_the_values_and_around_their_mean(values, seed):
    found = bootstrap(values, seed=seed, draws=200)
    assert values.min() - 1e-9 <= found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high <= values.max() + 1e-9


def test_the_bootstrap_agrees_with_the_normal_approximation():
    values = np.random.default_rng(0).random(4000)
    found, error = bootstrap(values, seed=1), 1.96 * values.std() / np.sqrt(4000)
    np.testing.assert_allclose([found.low, found.high], [found.mean - error, found.mean + error], atol=error / 10)


def test_the_bootstrap_draws_the_same_in_parts(monkeypatch):
    values = np.random.default_rng(0).random(50)
    whole = bootstrap(values, seed=3, draws=100)
    monkeypatch.setattr(metrics, "RESAMPLED_AT_ONCE", 170)
    assert bootstrap(values, seed=3, draws=100) == whole
    assert bootstrap(values, seed=4, draws=100) != whole


def test_a_paired_interval_sees_what_two_single_ones_hide():
    values = np.random.default_rng(0).random(60)
    better = values + 0.01
    assert bootstrap(better, seed=0).low < bootstrap(values, seed=0).high
    assert paired_bootstrap(better, values, seed=0).low == pytest.approx(0.01)


def test_a_ratio_has_an_interval_around_it():
    best = np.random.default_rng(0).random(60)
    found = ratio_bootstrap(best * 0.8, best, seed=0)
    np.testing.assert_allclose([found.low, found.mean, found.high], 0.8)


def test_versions_on_different_users_are_not_compared():
    with pytest.raises(ValueError, match="same users"):
        paired_bootstrap(np.ones(3), np.ones(4), seed=0)


def test_a_list_shorter_than_k_is_refused():
    with pytest.raises(ValueError, match="at least k = 10"):
        precision(np.zeros((2, 5), dtype=bool), 10)
