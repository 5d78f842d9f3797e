"""Weights of events: what is weighed more is recommended more."""

import pandas as pd
import pytest

from lib import reproducible
from lib.data.datasets import Datasets, select_events
from lib.recipes import RECIPES
from tests.recipes.test_contract import asked, small_shop


@pytest.mark.parametrize("name", ["aws-user-personalization-v2"])
def test_events_that_weigh_more_are_recommended_more(name):
    shop, recipe = small_shop(), RECIPES[name]
    table = shop.interactions.assign(EVENT_TYPE=["click", "buy"] * (len(shop.interactions) // 2))
    table = table.assign(ITEM_ID=table["EVENT_TYPE"].str[:1] + table["ITEM_ID"])  # bought ones are others than clicked
    chances = []
    for weight in (1.0, 0.02):
        listed = [{"eventType": "buy", "weight": 1.0}, {"eventType": "click", "weight": weight}]
        chosen = select_events(table, events_config={"eventParametersList": listed})
        reproducible.fix(3)
        datasets = Datasets(interactions=chosen.reset_index(drop=True))
        model = recipe.fit(datasets, recipe.values({}), seed=3, progress=lambda step: None)
        scores = pd.DataFrame(model.scores(asked(model, datasets)), columns=model.catalogue.item_ids)
        best = scores.T.rank(ascending=False) <= 10
        chances.append(best[best.index.str.startswith("b")].to_numpy().sum())
    assert chances[1] > 1.3 * chances[0]
