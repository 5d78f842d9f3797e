import numpy as np
import pandas as pd
import pytest

from lib.data import features
from lib.data.datasets import Datasets, History, catalogue, histories
from lib.data.schema import Field, Schema
from lib.recipes import likeness

ITEMS = Schema(
    name="Items",
    fields=(
        Field(name="ITEM_ID", type="string"),
        Field(name="KIND", type="string", categorical=True),
        Field(name="TEXT", type="string", textual=True),
    ),
)
TEXTS = ["red apple pie", "green apple tart", "red carpet", "carpet cleaner", "green pie"]


def fitted():
    ids = [f"i{n}" for n in range(5)]
    items = pd.DataFrame({"ITEM_ID": ids, "KIND": ["food", "food", "home", "home", "food"], "TEXT": TEXTS})
    rows = pd.DataFrame({"USER_ID": ["u", "u", "v", "v"], "ITEM_ID": ["i0", "i2", "i1", "i3"], "TIMESTAMP": range(4)})
    data = Datasets(interactions=rows, items=items, schemas={"ITEMS": ITEMS})
    numbers = catalogue(data)
    known = features.fit(items, ITEMS)
    encoded = features.aligned(known, items, "ITEM_ID", numbers.item_ids)
    return likeness.fit(known, encoded, data, numbers, histories(rows, numbers)), known


def past(*items):
    return History(np.array(items, np.int32), np.arange(len(items), dtype=np.int64), np.zeros(len(items), np.int32))


def test_likeness_is_the_cosine_of_an_item_with_all_of_the_history():
    model, known = fitted()
    weights = known.text.terms_of(TEXTS).toarray()
    profile = weights[0] + weights[1]
    expected = weights @ profile / np.linalg.norm(profile)
    np.testing.assert_allclose(model.scores([past(0, 1)])[0, 0], expected, rtol=1e-5)


def test_texts_of_one_meaning_are_alike_without_a_common_word(monkeypatch):
    monkeypatch.setattr(features, "TEXT_DIM", 2)
    pairs = ["kitten cat", "cat purring", "purring kitten", "engine motor", "motor piston", "piston engine"]
    texts = [*pairs, "kitten", "purring", "piston"]
    ids = [f"i{n}" for n in range(len(texts))]
    items = pd.DataFrame({"ITEM_ID": ids, "KIND": "one", "TEXT": texts})
    rows = pd.DataFrame({"USER_ID": ["u", "v"], "ITEM_ID": ["i0", "i1"], "TIMESTAMP": [1, 2]})
    data = Datasets(interactions=rows, items=items, schemas={"ITEMS": ITEMS})
    numbers, known = catalogue(data), features.fit(items, ITEMS)
    encoded = features.aligned(known, items, "ITEM_ID", numbers.item_ids)
    words, meaning, _ = likeness.fit(known, encoded, data, numbers, histories(rows, numbers)).scores([past(6)])
    assert words[0, 7] == words[0, 8] == 0
    assert meaning[0, 7] > meaning[0, 8] + 0.1


def test_the_pull_of_a_category_is_how_much_oftener_it_was_chosen_than_by_all():
    model, _ = fitted()
    pull = model.scores([past(0, 1)])[2, 0]
    # two of two events were food and of everybody's events half; half an event of each kind is taken for granted
    assert pull[4] == pytest.approx(np.log((2.5 / 3) / 0.5), rel=1e-5)
    assert pull[3] == pytest.approx(np.log((0.5 / 3) / 0.5), rel=1e-5)


def test_nobody_is_drawn_to_anything_without_a_history():
    model, _ = fitted()
    np.testing.assert_allclose(model.scores([past()]), 0, atol=1e-6)


def test_what_is_kept_scores_the_same():
    model, _ = fitted()
    again = likeness.Likeness.load(model.arrays())
    np.testing.assert_array_equal(again.scores([past(2)]), model.scores([past(2)]))
