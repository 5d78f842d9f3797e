"""What another exploration weight would have brought, against what it brings."""

import numpy as np
import pytest

from lib.off_policy import clicks_at
from lib.ranking import Lottery, Mixture

LIKED = np.array([0.9, 0.1, 0.2, 0.8, 0.05, 0.7, 0.4, 0.6])
MODEL = [0, 1, 2, 3]  # what it would show of them, best first
PLACES = 3


def played(weight, n_lists=4000, seed=0):
    """Lists shown at a weight: their propensities, and which places were clicked."""
    rng = np.random.default_rng(seed)
    lottery = Lottery(np.array([2, 5, 6, 7]), np.array([0.1, 0.9, 0.3, 0.2], np.float32))
    mixture = Mixture(MODEL, lottery, PLACES, weight)
    lists = [mixture.draw(rng.random) for _ in range(n_lists)]
    return [one.propensity for one in lists], [rng.random(PLACES) < LIKED[one.items] for one in lists]


@pytest.mark.parametrize(("weight", "wanted"), [(0.3, 0.0), (0.5, 0.1), (0.2, 0.6), (0.4, 1.0)])
def test_the_estimate_is_what_the_other_weight_brings(weight, wanted):
    _, clicked = played(wanted, n_lists=40_000, seed=1)
    brought = np.mean([places.sum() for places in clicked])
    told = [clicks_at(*played(weight, seed=seed), weight=weight, wanted=wanted, seed=1) for seed in range(20)]
    assert sum(one.low < brought < one.high for one in told) >= 16
    assert all(one.high - one.low < 0.2 for one in told)


def test_at_the_same_weight_clicks_are_counted_as_they_came():
    propensities, clicked = played(0.3, n_lists=50)
    told = clicks_at(propensities, clicked, weight=0.3, wanted=0.3, seed=1)
    assert told.mean == pytest.approx(np.mean([places.sum() for places in clicked]))


def test_promoted_items_stand_at_any_weight_and_lists_may_end_early():
    propensities, clicked = [[None, 0.9], [None]], [[True, False], [True]]
    assert clicks_at(propensities, clicked, weight=0.1, wanted=0.0, seed=1).mean == pytest.approx(1.0)


@pytest.mark.parametrize(("weight", "wanted"), [(0.0, 0.1), (0.6, 0.1), (0.3, 1.1)])
def test_weights_that_cannot_tell_are_refused(weight, wanted):
    with pytest.raises(ValueError, match=r"weight is|wanted is"):
        clicks_at([[0.9]], [[True]], weight=weight, wanted=wanted, seed=1)


def test_no_list_tells_nothing():
    with pytest.raises(ValueError, match="no list"):
        clicks_at([], [], weight=0.1, wanted=0.2, seed=1)
