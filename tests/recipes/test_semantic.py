"""Semantic-Similarity on texts whose likeness anybody can tell."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.data.datasets import Datasets
from lib.data.schema import Field, Schema
from lib.recipes import RECIPES
from lib.recipes.recipe import Request
from lib.recipes.semantic import measure

WORDS = ["red engine smoke siren", "green forest moss river"]
SCHEMA = Schema(
    name="Items",
    fields=(
        Field(name="ITEM_ID", type="string"),
        Field(name="TEXT", type="string", textual=True),
        Field(name="CREATION_TIMESTAMP", type="long"),
    ),
)


def table(n_items=12):
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.permutation(WORDS[n % 2].split())[:3]) + f" number{n}" for n in range(n_items)]
    return pd.DataFrame(
        {"ITEM_ID": [f"i{n:02}" for n in range(n_items)], "TEXT": texts, "CREATION_TIMESTAMP": range(n_items)}
    )


def shop(items):
    users = [f"u{n}" for n in range(5)]
    done = pd.DataFrame({"USER_ID": [*users, "u0"], "ITEM_ID": ["i07"] * 5 + ["i01"], "TIMESTAMP": range(100, 106)})
    return Datasets(interactions=done, items=items, schemas={"ITEMS": SCHEMA})


@pytest.fixture
def model():
    return RECIPES["aws-semantic-similarity"].fit(shop(table()), {}, seed=0, progress=lambda step: None)


def order(model, item):
    scores = model.scores([Request(history=None, now=0, item=item)])[0]
    return [int(place) for place in np.argsort(-scores, kind="stable") if place != item]


def test_items_of_like_words_come_first(model):
    assert {place % 2 for place in order(model, 4)[:5]} == {0}
    assert {place % 2 for place in order(model, 3)[:5]} == {1}


def test_influence_lets_popular_or_new_items_come_first(model):
    assert order(model.influenced({"POPULARITY": 1.0}), 4)[0] == 7
    assert order(model.influenced({"FRESHNESS": 1.0}), 4)[:3] == [11, 10, 9]
    plain, led = measure(model, shop(table())), measure(model.influenced({"FRESHNESS": 0.8}), shop(table()))
    assert set(plain) == {"coverage", "item_popularity", "item_freshness", "item_similarity"}
    assert led["item_freshness"] >= plain["item_freshness"] and led["item_similarity"] <= plain["item_similarity"]


def test_items_alone_are_enough():
    data = shop(table())
    model = RECIPES["aws-semantic-similarity"].fit(
        replace(data, interactions=data.interactions[:0]), {}, seed=0, progress=lambda step: None
    )
    assert {place % 2 for place in order(model, 4)[:5]} == {0}


def test_without_items_there_is_nothing_to_compare():
    with pytest.raises(ValueError, match="Items has no rows to compare"):
        RECIPES["aws-semantic-similarity"].fit(
            replace(shop(table()), items=None), {}, seed=0, progress=lambda step: None
        )


def test_an_unknown_item_is_answered_with_what_is_popular(model):
    assert order(model, -1)[:2] == [7, 1]


def named(texts):
    """The shop whose items' words are their names, beside these texts."""
    fields = (*SCHEMA.fields, Field(name="NAME", type="string", nullable=True, item_name=True))
    data = shop(table().assign(NAME=table()["TEXT"], TEXT=texts))
    return replace(data, schemas={"ITEMS": replace(SCHEMA, fields=fields)})


def test_names_are_read_with_the_texts():
    data = named("a good thing to have")
    model = RECIPES["aws-semantic-similarity"].fit(data, {}, seed=0, progress=lambda step: None)
    assert {place % 2 for place in order(model, 4)[:5]} == {0}
    new = data.items[:1].assign(ITEM_ID="new", NAME="siren smoke engine", TEXT=None)
    later = model.refreshed(replace(data, items=pd.concat([data.items, new])))
    row = later.catalogue.item_ids.tolist().index("new")
    assert {place % 2 for place in order(later, row)[:5]} == {0}


def test_names_alone_are_read_where_few_items_have_a_text():
    data = named([None] * 6 + ["green forest moss river"] * 6)
    model = RECIPES["aws-semantic-similarity"].fit(data, {}, seed=0, progress=lambda step: None)
    assert {place % 2 for place in order(model, 10)[:5]} == {0}


@pytest.mark.parametrize(("texts", "read"), [(table()["TEXT"], 12), ([f"word{n}" for n in range(12)], 0)])
def test_training_tells_of_how_many_items_it_can_read_a_text(texts, read):
    told = []
    data = shop(table().assign(TEXT=texts))
    RECIPES["aws-semantic-similarity"].fit(data, {}, seed=0, progress=lambda step: told.append(step.measures))
    assert told[-1]["texts"] == read


def test_items_that_came_since_are_placed_by_what_was_learnt(model):
    later = model.refreshed(shop(pd.concat([table(), table(1).assign(ITEM_ID="new", TEXT="siren smoke engine")])))
    new = later.catalogue.item_ids.tolist().index("new")
    assert {place % 2 for place in order(later, new)[:5]} == {0}
