"""Personalize's metrics on MovieLens latest-small as AWS's own example prepared it, over folds of held-out users.

A rating above 1 is a click, above 3 a watch too; a tenth of the users is held out, and of these the newest tenth of
their rows; nothing is filtered.  ``python benchmarks/accuracy.py [--data FOLDER] [--folds 0,1,2,3] [RECIPE ...]``; the
data are looked for in ``../shared/data``.  AWS's figures are those of its published notebook (59 test users).
"""

import argparse
from dataclasses import replace
from pathlib import Path
from time import process_time

import pandas as pd

from lib import evaluation, reproducible
from lib.data import preparation, schema, sources
from lib.data.splits import split_users
from lib.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[1]
AWS = {"NDCG@10": 0.2687, "MRR@25": 0.2690, "P@10": 0.0571, "coverage": 0.0791}
NAMES = {
    "NDCG@10": "normalized_discounted_cumulative_gain_at_10",
    "MRR@25": "mean_reciprocal_rank_at_25",
    "P@10": "precision_at_10",
    "coverage": "coverage",
}


def main() -> None:
    """Print a row a recipe: means over the folds, the folds' standard deviation, and seconds of processor time."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipes", nargs="*", default=["aws-user-personalization-v2", "aws-popularity-count"])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--folds", default="0,1,2,3")
    options = parser.parse_args()
    try:
        tables = sources.read("movielens-small", options.data)
    except FileNotFoundError as error:
        print(f"skipped: {error}")
        return
    parsed = {kind: schema.parse(schema.propose(table, kind), kind) for kind, table in preparation.named(tables)}
    data = replace(tables, schemas={kind.upper(): value for kind, value in parsed.items()})
    print(pd.DataFrame({"AWS user-personalization, published": AWS}).T.to_string())
    for name in options.recipes:
        rows = [measure(RECIPES[name], data, fold) for fold in map(int, options.folds.split(","))]
        table = pd.DataFrame(rows)
        shown = {column: f"{table[column].mean():.4f} ± {table[column].std():.4f}" for column in NAMES}
        print(name, *(f"{column} {value}" for column, value in shown.items()), f"{table['seconds'].mean():.0f} CPU s")


def measure(recipe, data, fold: int) -> dict[str, float]:
    """Fit on nine tenths of the users and evaluate on the fold's tenth."""
    split = split_users(data.interactions, seed=42, fold=fold)
    reproducible.fix(20)
    begun = process_time()
    fitted = recipe.fit(replace(data, interactions=split.train), recipe.values({}), seed=20, progress=lambda step: None)
    seconds = process_time() - begun
    found = evaluation.solution_metrics(evaluation.evaluate(fitted, split, data, recipe.recipe_type))
    return {column: found[name] for column, name in NAMES.items()} | {"seconds": seconds}


if __name__ == "__main__":
    main()
