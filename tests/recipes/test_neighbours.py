import numpy as np
import pandas as pd
import pytest

from lib.data.datasets import Datasets, History, catalogue, histories
from lib.data.schema import Field, Schema
from lib.recipes import RECIPES, neighbours, places
from lib.recipes.recipe import Request

NOBODY = History(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int32))
EVERYTHING = {
    "min_user_history_length_percentile": 0.0,
    "max_user_history_length_percentile": 1.0,
    "min_item_interaction_count_percentile": 0.0,
    "max_item_interaction_count_percentile": 1.0,
}


def interactions(baskets):
    """One letter an item, one string a user."""
    rows = [(f"u{user}", item) for user, basket in enumerate(baskets) for item in basket]
    return pd.DataFrame(rows, columns=["USER_ID", "ITEM_ID"]).assign(TIMESTAMP=range(len(rows)))


def fitted(name, datasets, **parameters):
    recipe = RECIPES[name]
    defaults = recipe.values({}) | (EVERYTHING if name == "aws-sims" else {})
    return recipe.fit(datasets, defaults | parameters, seed=0, progress=lambda step: None)


def ranked(model, item_id):
    known = model.catalogue.item_ids.tolist()
    item = known.index(item_id) if item_id in known else -1
    scores = model.scores([Request(history=NOBODY, now=0, item=item)])[0]
    return [known[n] for n in np.argsort(-scores, kind="stable")]


BASKETS = ["ab", "ab", "abc", "ac", "c", "c", "c", "cd"]  # a 4, b 3, c 6, d 1; a&b 3, a&c 2, b&c 1, c&d 1


@pytest.mark.parametrize(
    ("discount", "strength"),
    [(0.0, {"b": 3, "c": 2}), (0.5, {"b": 3 / 3**0.5, "c": 2 / 6**0.5}), (1.0, {"b": 1.0, "c": 1 / 3})],
)
def test_sims_divides_the_users_of_both_by_the_popularity_of_the_other(discount, strength):
    datasets = Datasets(interactions=interactions(BASKETS))
    model = fitted("aws-sims", datasets, min_cointeraction_count=0, popularity_discount_factor=discount)
    np.testing.assert_allclose(model.strengths[0].toarray()[0], [0, strength["b"], strength["c"], 0], rtol=1e-6)


def test_sims_drops_pairs_that_too_few_users_have():
    model = fitted("aws-sims", Datasets(interactions=interactions(BASKETS)), min_cointeraction_count=3)
    assert model.strengths.nnz == 2
    assert ranked(model, "a")[0] == "b"


def test_sims_leaves_out_what_lies_beyond_the_percentiles():
    datasets = Datasets(interactions=interactions(BASKETS))
    model = fitted("aws-sims", datasets, min_cointeraction_count=0, max_item_interaction_count_percentile=0.5)
    assert model.strengths[:, 2].nnz == 0  # c, the item of most interactions
    assert model.strengths[0, 1] > 0


@pytest.mark.parametrize("name", ["aws-sims", "aws-similar-items"])
def test_an_unknown_item_is_answered_with_what_is_popular(name):
    assert ranked(fitted(name, Datasets(interactions=interactions(BASKETS))), "z") == ["c", "a", "b", "d"]


def test_an_item_used_twice_in_a_row_counts_once():
    once, twice = (Datasets(interactions=interactions(baskets)) for baskets in (["abc", "ca"], ["aabbc", "cca"]))
    done, repeated = (histories(data.interactions, catalogue(data)) for data in (once, twice))
    found = places.without_repeats(repeated)
    assert found.items.tolist() == done.items.tolist()
    assert found.offsets.tolist() == done.offsets.tolist()


@pytest.mark.parametrize("name", ["aws-sims", "aws-similar-items"])
def test_an_item_is_not_its_own_neighbour(name):
    baskets = ["aab", "aab", "aabb", "abab", "cd", "dc", "cdc"] * 10
    model = fitted(name, Datasets(interactions=interactions(baskets)))
    assert ranked(model, "a")[0] == "b"
    assert model.strengths.diagonal().tolist() == [0, 0, 0, 0]


def test_what_follows_an_item_comes_before_what_is_like_it_even_where_histories_are_short():
    rng, letters = np.random.default_rng(0), "abcdefghijklmnopqrst"
    start = rng.integers(0, 20, 400)
    end = np.where(rng.random(400) < 0.6, (start + 1) % 20, rng.integers(0, 20, 400))
    baskets = [letters[a] + letters[b] for a, b in zip(start, end)]
    model = fitted("aws-similar-items", Datasets(interactions=interactions(baskets)))
    assert [ranked(model, item)[0] for item in letters] == [*letters[1:], "a"]


def test_popularity_discount_turns_similar_items_to_rarer_ones():
    datasets = Datasets(interactions=interactions(["ab"] * 3 + ["ac"] * 4 + ["c"] * 30))
    assert ranked(fitted("aws-similar-items", datasets), "a")[0] == "c"
    assert ranked(fitted("aws-similar-items", datasets, popularity_discount_factor=1.0), "a")[0] == "b"


def test_an_item_nobody_used_is_like_those_of_its_features_and_text():
    red, blue = [f"r{n}" for n in range(6)], [f"s{n}" for n in range(6)]
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", item) for user in range(30) for item in rng.choice(red if user % 2 else blue, 4, replace=False)
    ]
    items = pd.DataFrame({"ITEM_ID": [*red, *blue, "new"]})
    items["KIND"] = ["red"] * 6 + ["blue"] * 6 + ["red"]
    items["TEXT"] = ["fire engine station"] * 6 + ["sea sky wave"] * 6 + ["fire and engine"]
    fields = (
        Field(name="KIND", type="string", categorical=True),
        Field(name="TEXT", type="string", textual=True),
    )
    table = pd.DataFrame(rows, columns=["USER_ID", "ITEM_ID"]).assign(TIMESTAMP=range(len(rows)))
    datasets = Datasets(interactions=table, items=items, schemas={"ITEMS": Schema(name="Items", fields=fields)})
    assert set(ranked(fitted("aws-similar-items", datasets), "new")[:6]) == set(red)


def test_no_more_neighbours_than_are_kept(monkeypatch):
    monkeypatch.setattr(neighbours, "KEPT", 2)
    model = fitted("aws-sims", Datasets(interactions=interactions(["abcdefg"] * 5)))
    assert np.diff(model.strengths.indptr).tolist() == [2] * 7
