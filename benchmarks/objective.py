"""What an optimization objective costs: relevance against the objective of what is recommended, by sensitivity.

aws-user-personalization on MovieLens latest-small (each user's newest tenth of rows is to be found) and on the
simulated site (held-out readers), towards columns of Items that agree with what users take to different degrees:
``MARGIN`` is drawn by chance, ``RARITY`` is one over the users of an item, ``YEAR`` of MovieLens is real.
``python benchmarks/objective.py [--data FOLDER]``; the data are looked for in ``../shared/data``.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from news import ROOT, described

from lib import evaluation, reproducible
from lib.data import preparation, simulator, sources, splits
from lib.data.datasets import Catalogue, Datasets
from lib.data.splits import Split
from lib.recipes import RECIPES, objective
from lib.recipes.recipe import Model, Request

RECIPE = RECIPES["aws-user-personalization"]
NDCG = "normalized_discounted_cumulative_gain_at_10"


@dataclass(slots=True)
class Remembered:
    """A model that scores each batch of requests once: only the tilt differs between sensitivities."""

    model: Model
    known: dict[tuple[int, ...], np.ndarray]

    @property
    def catalogue(self) -> Catalogue:
        return self.model.catalogue

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        key = tuple(hash((request.now, request.history.items.tobytes())) for request in requests)
        if key not in self.known:
            self.known[key] = self.model.scores(requests)
        return self.known[key]


def main() -> None:
    """Print one line a data set, column and sensitivity."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        simulator.simulate(Path(made, "site"), seed=20)
        site = described(preparation.clean(sources.read("simulated", Path(made, "site")))[0])
    measure("simulated", site, splits.split_users(site.interactions, seed=20), ("MARGIN", "RARITY"))
    try:
        films = described(sources.read("movielens-small", options.data))
    except FileNotFoundError as error:
        print(f"MovieLens skipped: {error}")
        return
    measure("latest-small", films, splits.split_newest(films.interactions, share=0.1), ("MARGIN", "YEAR", "RARITY"))


def measure(name: str, data: Datasets, split: Split, columns: Sequence[str]) -> None:
    """Train once, then tilt towards each column at each sensitivity."""
    reproducible.fix(20)
    past = replace(data, interactions=split.train)
    model = Remembered(RECIPE.fit(past, RECIPE.values({}), seed=20, progress=lambda step: None), {})
    users = split.train.groupby("ITEM_ID")["USER_ID"].nunique().reindex(data.items["ITEM_ID"], fill_value=0)
    margin = np.exp(np.random.default_rng(5).normal(0, 0.5, len(data.items)))
    data = replace(data, items=data.items.assign(MARGIN=margin, RARITY=1 / (1 + users.to_numpy())))
    for column in columns:
        place = objective.places(data, column, model.catalogue)
        of_item = dict(zip(model.catalogue.item_ids, place))
        off = None
        for sensitivity, strength in {"OFF": 0.0, **objective.STRENGTHS}.items():
            aimed = objective.Tilted(model, np.float32(strength) * place)
            table = evaluation.evaluate(aimed, split, data, RECIPE.recipe_type, objective=column)
            means = evaluation.user_metrics(table)[[NDCG, "textbook_ndcg_at_10", "average_rewards_at_k"]].mean()
            off = means[NDCG] if off is None else off
            worth = np.mean([np.mean([of_item[item] for item in shown[:10]]) for shown in table["RECOMMENDED"]])
            print(
                f"{name:12} {column:6} {sensitivity:6} NDCG@10 {means[NDCG]:.4f} ({means[NDCG] / off:.2f} of OFF)",
                f"textbook {means['textbook_ndcg_at_10']:.4f}, place of the ten by the column {worth:.3f}",
                f"average rewards {means['average_rewards_at_k']:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
