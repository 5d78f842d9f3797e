"""Personalize's metrics on MovieLens latest-small as AWS's own example prepared it, over folds of held-out users.

A rating above 1 is a click, above 3 a watch too; a tenth of the users is held out, and of these the newest tenth of
their rows is to be found.  ``all``: nothing is filtered; ``new``: what a user has seen is neither recommended nor
counted.  Related items are asked for the last item of a history.
``python benchmarks/accuracy.py [--source online-retail] [--data FOLDER] [--folds 0,1,2] [METHOD ...]``.  A method is a
recipe, a reference of ours or a library's model (``peers``), skipped where it is not installed: by default the recipes
that AWS published figures of, and popularity.  The data are looked for in ``../shared/data``.  AWS's figures are those
of its published notebook (59 test users, one split).
"""

import argparse
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
from peers import models

from lib import evaluation, metrics, reproducible
from lib.data import preparation, schema, sources
from lib.data.datasets import Datasets
from lib.data.splits import split_users
from lib.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = {
    "user-personalization": {"NDCG@10": 0.2687, "MRR@25": 0.2690, "P@10": 0.0571, "coverage": 0.0791},
    "sims": {"NDCG@10": 0.2234, "MRR@25": 0.1669, "P@10": 0.0588, "coverage": 0.1861},
}
NAMES = {
    "NDCG@10": "normalized_discounted_cumulative_gain_at_10",
    "textbook": "textbook_ndcg_at_10",
    "MRR@25": "mean_reciprocal_rank_at_25",
    "P@10": "precision_at_10",
}
MEASURED = ("aws-user-personalization-v2", "aws-similar-items", "aws-sims", "aws-popularity-count")


def main() -> None:
    """Print a row a method and policy: means over the users of all folds with 95 % bootstrap intervals."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("methods", nargs="*", default=MEASURED)
    parser.add_argument("--source", default="movielens-small", choices=("movielens-small", "online-retail"))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--folds", default="0,1,2,3,4,5,6,7,8,9")
    options = parser.parse_args()
    try:
        tables = sources.read(options.source, options.data)
    except FileNotFoundError as error:
        print(f"skipped: {error}")
        return
    parsed = {kind: schema.parse(schema.propose(table, kind), kind) for kind, table in preparation.named(tables)}
    data = replace(tables, schemas={kind.upper(): value for kind, value in parsed.items()})
    if options.source == "movielens-small":
        print(pd.DataFrame(PUBLISHED).T.rename_axis("AWS, published").to_string())
    folds = list(map(int, options.folds.split(",")))
    for method in options.methods:
        try:
            measure(method, data, folds)
        except ModuleNotFoundError as error:
            print(f"{method:30} skipped: {error.name} is not installed; pip install {models.PACKAGES[method]}")


def measure(method: str, data: Datasets, folds: list[int]) -> None:
    """Fit on nine tenths of the users of each fold and print how the other tenth is served."""
    tables: dict[str, list[pd.DataFrame]] = {"all": [], "new": []}
    coverage: dict[str, list[float]] = {"all": [], "new": []}
    seconds = []
    recipe_type = RECIPES[method].recipe_type if method in RECIPES else "USER_PERSONALIZATION"
    for fold in folds:
        split = split_users(data.interactions, seed=42, fold=fold)
        past = replace(data, interactions=split.train)
        reproducible.fix(20)
        begun = process_time()
        if method in RECIPES:
            recipe = RECIPES[method]
            model = recipe.fit(past, recipe.values({}), seed=20, progress=lambda step: None)
        else:
            score, numbers = models.fit(method, past)
            model = models.Stranger(numbers, score)
        seconds.append(process_time() - begun)
        for policy in tables:
            table = evaluation.evaluate(model, split, data, recipe_type, repeats=policy == "all")
            tables[policy].append(evaluation.user_metrics(table))
            coverage[policy].append(evaluation.solution_metrics(table)["coverage"])
    for policy, found in tables.items():
        users = pd.concat(found)
        told = {column: metrics.bootstrap(users[name].to_numpy(), seed=20) for column, name in NAMES.items()}
        shown = [f"{column} {v.mean:.4f} [{v.low:.4f}, {v.high:.4f}]" for column, v in told.items()]
        reached = f"coverage {np.mean(coverage[policy]):.4f}"
        print(f"{method:30} {policy}", *shown, reached, f"{np.mean(seconds):.0f} CPU s a fold", flush=True)


if __name__ == "__main__":
    main()
