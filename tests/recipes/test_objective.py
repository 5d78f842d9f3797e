"""What an objective does to a model's scores."""

import numpy as np
import pandas as pd

from lib.data.datasets import Catalogue, Datasets
from lib.recipes import objective


class Even:
    """A model to which all items are alike."""

    catalogue = Catalogue(np.array(["a", "b", "c", "d"]), np.array([""]))

    def scores(self, requests):
        return np.zeros((len(requests), 4), np.float32)


def shop(prices):
    done = pd.DataFrame({"USER_ID": ["u"], "ITEM_ID": ["a"], "TIMESTAMP": [1]})
    items = pd.DataFrame({"ITEM_ID": ["a", "b", "c", "d"], "PRICE": prices})
    return Datasets(interactions=done, items=items)


def test_items_are_placed_by_rank_and_those_without_a_value_are_worth_least():
    place = objective.places(shop([10.0, 1e9, np.nan, 20.0]), "PRICE", Even.catalogue)
    np.testing.assert_allclose(place, [1 / 3, 1, 0, 2 / 3], rtol=1e-6)


def test_one_price_for_all_changes_no_order():
    place = objective.places(shop([5.0] * 4), "PRICE", Even.catalogue)
    assert len(set(place)) == 1


def test_the_more_sensitive_the_likelier_is_the_best_item():
    place = objective.places(shop([1.0, 2.0, 3.0, 4.0]), "PRICE", Even.catalogue)
    chances = []
    for strength in objective.STRENGTHS.values():
        scores = objective.Tilted(Even(), np.float32(strength) * place).scores([None])[0]
        chances.append(np.exp(scores[3]) / np.exp(scores).sum())
    assert 0.25 < chances[0] < chances[1] < chances[2] < 1
