"""What the bandit knows of items, and how its bounds move with it."""

import numpy as np
import pytest

from lib.exploration import DAY, Kin, Knowledge, Reaction

NOW = 100 * DAY


def knowledge(ages_days=(1, 1, 1), interactions=(0, 0, 0), known=True):
    created = NOW - DAY * np.array(ages_days, dtype=np.float64)
    return Knowledge.of(created, np.full(len(created), known), np.array(interactions))


def correction(of, cut_off=30.0):
    found = of.candidates(NOW, cut_off)
    return dict(zip(found.rows.tolist(), found.correction.tolist()))


def clicked(row, shown=(0, 1, 2), id=None):
    return Reaction(row, NOW, shown, id)


def test_what_is_rarely_used_is_raised_most():
    raised = correction(knowledge(interactions=(0, 3, 1000)))
    assert raised[0] == pytest.approx(2.0) and raised[1] == pytest.approx(1.0) and 0 < raised[2] < 0.1


def test_only_items_up_to_the_cut_off_are_candidates():
    assert sorted(correction(knowledge(ages_days=(1, 29.9, 30.1)))) == [0, 1]
    assert sorted(correction(knowledge(ages_days=(1, 29.9, 30.1)), cut_off=1.0)) == [0]


def test_an_item_without_a_date_is_new_until_its_first_event():
    of = knowledge(ages_days=(np.nan, 1, 1))
    assert 0 in correction(of)
    of.learn([Reaction(0, NOW - 40 * DAY)])
    assert 0 not in correction(of)


def test_what_is_announced_is_no_candidate_but_what_was_put_is_whatever_its_date():
    assert 0 not in correction(knowledge(ages_days=(-1, 1, 1)))
    assert 0 in correction(knowledge(ages_days=(-1, 1, 1), known=False))


def test_what_is_shown_and_not_chosen_falls_and_what_is_chosen_rises():
    of = knowledge(interactions=(50, 50, 50))
    before = correction(of)
    of.learn(clicked(0, (0, 1)) for _ in range(20))
    after = correction(of)
    assert after[0] > before[0] and after[1] < before[1]
    assert after[2] == pytest.approx(before[2], abs=0.02)


def test_a_list_is_counted_once_and_once_each_item_chosen_from_it():
    of = knowledge()
    of.learn([clicked(0, id="a"), clicked(0, id="a"), clicked(1, id="a"), clicked(1, id="b")])
    assert of.shown.tolist() == [2, 2, 2] and of.chosen.tolist() == [1, 2, 0]
    assert of.interactions.tolist() == [2, 2, 0]


def test_an_event_without_an_item_counts_the_list_alone():
    of = knowledge()
    of.learn([clicked(-1)])
    assert of.shown.tolist() == [1, 1, 1] and of.chosen.tolist() == of.interactions.tolist() == [0, 0, 0]


def test_added_items_start_from_nothing():
    of = knowledge(interactions=(5, 5, 5))
    of.add(3, np.nan)
    of.add(1, NOW - 50 * DAY)
    assert correction(of)[3] == pytest.approx(2.0) and 1 not in correction(of)


def test_bounds_are_computed_anew_at_each_event_first_and_rarely_later():
    of = knowledge()
    seen = [of.generation]
    for _ in range(2000):
        of.learn([clicked(0)])
        seen.append(of.generation)
    assert seen[:4] == [0, 1, 2, 3] and seen == sorted(seen)
    assert len(set(seen)) < 410


def test_kin_share_rare_words_first():
    known = [{"news"}, {"news", "jazz"}, {"news"}, {"sport"}]
    of = Kin([frozenset(words) for words in known], [10, 11, 12, 13])
    assert of.of({"jazz", "news"}, 1).tolist() == [11]
    assert sorted(of.of({"news"}, 2).tolist()) == [10, 11]
    assert sorted(of.of({"unheard-of"}, 6).tolist()) == [10, 10, 11, 11, 12, 13]
    with pytest.raises(ValueError, match="at least one"):
        Kin([], [])
