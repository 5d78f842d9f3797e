"""A catalogue of a million items: how long a campaign takes for a list, rough products against exact ones.

The model has the sequential recipe's full size and weights drawn by chance, so that likely items are as many as can be.
Each visitor has ten events and asks for the first time; one thread, by processor time.  Recall is the share of the
exact list's 25 items that the rough one holds, with no filter and with one that lets few through.
``python benchmarks/index.py [ITEMS]``; the script ends with status 1 where the 99th percentile reaches 25 ms, or recall
is below 0.98.
"""

import json
import os
import sys
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from serving import FIELDS, RECIPE, START, untrained

from lib import filters, reproducible
from lib.campaigns import Campaign, Restriction
from lib.data import schema
from lib.data.datasets import Datasets
from lib.recipes import RECIPES, sequences
from lib.store.events import LiveEvent

ITEMS, VISITORS, EVENTS, RESULTS = 1_000_000, 300, 10, 25
MOST_MS, LEAST_RECALL = 25.0, 0.98
FILTERS = {
    "no filter": None,
    "half pass": 'INCLUDE ItemID WHERE Items.GENRE IN ("Jazz","Pop")',
    "a hundredth passes": "INCLUDE ItemID WHERE Items.PRICE < 0.01",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Milliseconds of each visitor's answer, its items and their scores."""

    milliseconds: np.ndarray
    items: list[list[str]]
    scores: list[list[float]]


def datasets(n_items: int) -> Datasets:
    """A few events on items of all kinds."""
    rng = np.random.default_rng(1)
    ids = pd.array([f"item-{n:07}" for n in range(n_items)], "str")
    parsed = {
        name.upper(): schema.parse(
            json.dumps(
                {
                    "type": "record",
                    "name": name,
                    "namespace": "com.amazonaws.personalize.schema",
                    "version": "1.0",
                    "fields": [
                        {"name": column, "type": kind, **({"categorical": True} if column == "GENRE" else {})}
                        for column, kind in columns
                    ],
                }
            ),
            name,
        )
        for name, columns in FIELDS.items()
    }
    return Datasets(
        interactions=pd.DataFrame(
            {
                "USER_ID": pd.array([f"old-{n % 500}" for n in range(20_000)], "str"),
                "ITEM_ID": ids[rng.integers(0, n_items, 20_000)],
                "TIMESTAMP": START + 60 * np.arange(20_000),
                "EVENT_TYPE": pd.array(["click"] * 20_000, "str"),
            }
        ),
        items=pd.DataFrame(
            {
                "ITEM_ID": ids,
                "GENRE": pd.array(["Jazz", "Folk", "Pop", "Rock"], "str")[rng.integers(0, 4, n_items)],
                "PRICE": rng.random(n_items),
                "CREATION_TIMESTAMP": START + rng.integers(0, 1_200_000, n_items),
            }
        ),
        schemas=parsed,
    )


def ask(campaign: Campaign, expression: str | None) -> Asked:
    """Every visitor once, each a second after the one before."""
    rng = np.random.default_rng(2)
    wanted = None if expression is None else Restriction(filters.parse(expression))
    took, items, scores = [], [], []
    for n in range(VISITORS):
        now = START + 1_200_000 + 60 * EVENTS + n
        rows = rng.integers(0, campaign.n_items, EVENTS).tolist()
        events = [
            LiveEvent(
                session_id="",
                user_id=f"new-{n}",
                event_type="click",
                sent_at=START + 1_200_000 + 60 * place,
                item_id=campaign.item_ids[row],
            )
            for place, row in enumerate(rows)
        ]
        visitor = campaign.visitor(f"new-{n}", events)
        begin = time.process_time()
        found = campaign.recommend(visitor, num_results=RESULTS, now=now, restriction=wanted)
        took.append(1e3 * (time.process_time() - begin))
        items.append(found.item_ids)
        scores.append(found.scores)
    return Asked(np.array(took[EVENTS:]), items, scores)  # the first ones make what is kept


def main() -> int:
    """Print times and recall; 1 where a limit is missed."""
    n_items = int(sys.argv[1]) if len(sys.argv) > 1 else ITEMS
    torch.set_num_threads(1)
    data = datasets(n_items)
    recipe = RECIPES[RECIPE]
    model = untrained(recipe).fit(data, {}, seed=20, progress=lambda step: None)
    campaign = Campaign(recipe, model, data)
    many, worst, missed = sequences.MANY_ITEMS, 0.0, False
    print(f"{n_items:,} items, {VISITORS} visitors, processor time of one thread")
    for name, expression in FILTERS.items():
        found = {}
        for kind, sequences.MANY_ITEMS in (("exact", n_items + 1), ("rough", min(many, n_items))):
            found[kind] = asked = ask(campaign, expression)
            p50, worst = np.percentile(asked.milliseconds, [50, 99])
            print(f"  {name:20} {kind:6} p50 {p50:6.1f} p99 {worst:6.1f} ms")
        exact, rough = found["exact"], found["rough"]
        recall = np.mean([len({*a} & {*b}) / len(a) for a, b in zip(exact.items, rough.items)])
        first = np.array([b[0] / a[0] for a, b in zip(exact.scores, rough.scores)])
        print(f"  {name:20} recall@{RESULTS} {recall:.4f}, best score {first.min():.4f} to {first.max():.4f} of exact")
        missed |= worst >= MOST_MS or recall < LEAST_RECALL
    return int(missed)


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.environ |= {**reproducible.environment(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        os.execv(sys.executable, [sys.executable, *sys.argv])
    sys.exit(main())
