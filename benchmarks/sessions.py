"""Short histories: what comes next where no more than a few events are known.

* ``invoices``: each invoice of Online Retail is a visitor of its own, of its first eight lines.
* ``beginnings``: MovieLens 1M, the ten oldest ratings of each user.

Each visitor's last event is withheld; those of 3,000 visitors are to be found among all items that the visitor has not
had: HR@10 and textbook NDCG@10.  Related items are asked for the item before.

``python benchmarks/sessions.py [--data FOLDER] [METHOD ...]``; the data are looked for in ``../shared/data``.  Methods
are those of ``movielens_1m.py``.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from movielens_1m import ROOT, fitted, found
from peers import models

from lib.data import sources
from lib.data.datasets import Datasets, histories

LINES, RATINGS = 8, 10
ASKED = 3_000
DEFAULT = ("aws-user-personalization-v2", "aws-similar-items", "SLIST", "EASE", "popularity")


def main() -> None:
    """Print one line a data set and method."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("methods", nargs="*", default=DEFAULT)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options = parser.parse_args()
    for name, read in (("invoices", invoices), ("beginnings", beginnings)):
        try:
            rows = read(options.data)
        except FileNotFoundError as error:
            print(f"{name} skipped: {error}")
            continue
        for method in options.methods:
            try:
                print(f"{name:11} {method:30}", last_event(rows, method), flush=True)
            except ModuleNotFoundError as error:
                told = f"{error.name} is not installed; pip install {models.PACKAGES[method]}"
                print(f"{name:11} {method:30} skipped: {told}")


def invoices(folder: Path) -> pd.DataFrame:
    """Interactions by visits, in the order of an invoice's lines, a second apart."""
    rows = sources.read("online-retail", folder).interactions[["USER_ID", "ITEM_ID", "TIMESTAMP"]]
    line = rows.groupby(["USER_ID", "TIMESTAMP"]).cumcount()
    visit = rows["USER_ID"] + " at " + rows["TIMESTAMP"].astype(str)
    rows = rows.assign(USER_ID=visit, TIMESTAMP=rows["TIMESTAMP"] + line)
    return rows[line < LINES]


def beginnings(folder: Path) -> pd.DataFrame:
    """Interactions of which each user has the oldest alone."""
    rows = sources.read("movielens-1m", folder, click_above=0.0, watch_above=None).interactions
    rows = rows[["USER_ID", "ITEM_ID", "TIMESTAMP"]].sort_values("TIMESTAMP", kind="stable")
    return rows[rows.groupby("USER_ID").cumcount() < RATINGS]


def last_event(rows: pd.DataFrame, method: str) -> str:
    """HR@10 and NDCG@10 of the last events of visitors with three or more, where the item is new to them alone."""
    rows = rows.sort_values(["USER_ID", "TIMESTAMP"], kind="stable")
    rows = rows[rows.groupby("USER_ID")["ITEM_ID"].transform("size") >= 3]
    last = rows.groupby("USER_ID").cumcount(ascending=False).to_numpy() == 0
    past = Datasets(interactions=rows[~last].reset_index(drop=True))
    score, numbers, cost = fitted(method, past)
    known, later = histories(past.interactions, numbers), histories(rows[last], numbers)
    have = np.flatnonzero(np.diff(later.offsets))
    asked = np.sort(np.random.default_rng(20).permutation(have)[:ASKED])
    wanted = np.array([later[user].items[0] for user in asked])
    pasts = [known.of(user_id) for user_id in later.user_ids[asked]]
    new = np.array([item not in past.items for item, past in zip(wanted, pasts)])
    some = np.flatnonzero(new)
    return f"{found(score, [pasts[n] for n in some], later.user_ids[asked][some], wanted[some])}  {cost}"


if __name__ == "__main__":
    main()
