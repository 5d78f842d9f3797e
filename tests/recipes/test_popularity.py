import numpy as np
import pandas as pd

from lib.data.datasets import Datasets
from lib.recipes import RECIPES


def counted(pairs, items=None):
    table = pd.DataFrame(pairs, columns=["USER_ID", "ITEM_ID"]).assign(TIMESTAMP=range(len(pairs)))
    return RECIPES["aws-popularity-count"].fit(
        Datasets(interactions=table, items=items), {}, seed=0, progress=lambda step: None
    )


def test_popularity_counts_users_not_interactions():
    model = counted([("u", "a"), ("u", "a"), ("u", "a"), ("u", "b"), ("v", "b"), ("w", "c"), ("v", "c"), ("u", "c")])
    assert model.catalogue.item_ids.tolist() == ["a", "b", "c"]
    assert model.users.tolist() == [1, 2, 3]


def test_an_item_nobody_has_comes_last():
    model = counted([("u", "b")], items=pd.DataFrame({"ITEM_ID": ["a", "b"]}))
    assert model.users.tolist() == [0, 1]
    assert np.argmax(model.scores([None])[0]) == 1
