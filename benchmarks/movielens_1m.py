"""MovieLens 1M by the literature's protocol and by an outside measurement of Amazon's service.

* ``leave-one-out``: SASRec's file (6,040 users, 3,416 items, order without times); each user's last item is to be
  found among all items the user has not seen, the one before it is kept for validation: HR@10 and textbook NDCG@10.
* ``newest-tenth``: every rating is a view; each user's newest 10 % of rows are to be found, 25 recommendations each, as
  returned and with seen items removed from the 25: Personalize's metrics.

``python benchmarks/movielens_1m.py [--data FOLDER] [--validation] [--protocol NAME] [METHOD ...]``; the data are looked
for in ``../shared/data``.  A method is a recipe, a reference of ours or a library's model (``peers``); a library that
is not installed is skipped.  ``aws-user-personalization-v2@2`` stops after two epochs.  --validation: the same with the
item before the last as the one to be found, for choosing.
"""

import argparse
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
from peers import models

from lib import metrics, reproducible
from lib.data import sources
from lib.data.datasets import Datasets, History, histories
from lib.recipes import RECIPES, sequences, sequential
from lib.recipes.recipe import Request

ROOT = Path(__file__).resolve().parents[1]
ASKED_AT_ONCE = 256
DEFAULT = ("aws-user-personalization-v2", *models.MODELS)

# histories and their users' ids -> (B, I) scores of the catalogue's items
Scorer = Callable[[list[History], list[str]], np.ndarray]


def main() -> None:
    """Print one line a protocol and method."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("methods", nargs="*", default=DEFAULT)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--protocol", default="leave-one-out,newest-tenth")
    parser.add_argument("--validation", action="store_true")
    options = parser.parse_args()
    try:
        folder = sources.locate("movielens-1m", options.data)
        file = next(folder.glob("**/ml-1m.txt.gz"), None)
        if file is None:
            raise FileNotFoundError(f"{folder} has no ml-1m.txt.gz, SASRec's file")
        views = sources.read("movielens-1m", options.data, click_above=0.0, watch_above=None)
    except FileNotFoundError as error:
        print(f"skipped: {error}")
        return
    for method in options.methods:
        try:
            if "leave-one-out" in options.protocol:
                print(f"leave-one-out  {method:32}", leave_one_out(file, method, options.validation), flush=True)
            if "newest-tenth" in options.protocol:
                print(f"newest-tenth   {method:32}", newest_tenth(views, method), flush=True)
        except ModuleNotFoundError as error:
            print(f"{method:47} skipped: {error.name} is not installed; pip install {models.PACKAGES[method]}")


def leave_one_out(file: Path, method: str, validation: bool) -> str:
    """HR@10 and NDCG@10 of the last item among all unseen ones."""
    pairs = np.loadtxt(file, dtype=np.int64)
    rows = pd.DataFrame({"USER_ID": pairs[:, 0].astype(str), "ITEM_ID": pairs[:, 1].astype(str)})
    rows["TIMESTAMP"] = rows.groupby("USER_ID").cumcount()
    left = rows.groupby("USER_ID").cumcount(ascending=False).to_numpy()
    rows = rows.iloc[np.argsort(rows["TIMESTAMP"].to_numpy(), kind="stable")]
    past = Datasets(interactions=rows[left[rows.index] >= 2].reset_index(drop=True))
    score, numbers, cost = fitted(method, past)
    done = histories(rows, numbers)
    n = 2 if validation else 1
    everybody = [done[user] for user in range(len(done.user_ids))]
    known = [History(h.items[:-n], h.times[:-n], h.event_types[:-n]) for h in everybody]
    return f"{found(score, known, done.user_ids, np.array([h.items[-n] for h in everybody]))}  {cost}"


def found(score: Scorer, known: list[History], users: np.ndarray, wanted: np.ndarray) -> str:
    """HR@10 and NDCG@10 of the wanted items (B,) among those that are not in the histories."""
    ranks = []
    for begin in range(0, len(known), ASKED_AT_ONCE):
        some = slice(begin, begin + ASKED_AT_ONCE)
        scores = np.array(score(known[some], list(users[some])))
        aim = scores[np.arange(len(scores)), wanted[some]]
        for row, past in zip(scores, known[some]):
            row[past.items] = -np.inf
        ranks.append(1 + (scores > aim[:, None]).sum(axis=1))
    rank = np.concatenate(ranks)
    gain = np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0)
    return f"{told('HR@10', (rank <= 10).astype(float))}  {told('NDCG@10', gain)}"


def newest_tenth(views: Datasets, method: str) -> str:
    """Precision, Personalize's NDCG at 10 and reciprocal rank, as returned and without what was seen."""
    rows = views.interactions
    place = rows.groupby("USER_ID")["TIMESTAMP"].rank(pct=True, method="first").to_numpy()
    past = replace(views, interactions=rows[place <= 0.9].reset_index(drop=True))
    score, numbers, cost = fitted(method, past)
    done, later = histories(past.interactions, numbers), histories(rows[place > 0.9], numbers)
    lists, unseen, relevant = [], [], []
    for begin in range(0, len(later.user_ids), ASKED_AT_ONCE):
        users = list(later.user_ids[begin : begin + ASKED_AT_ONCE])
        known = [done.of(user) for user in users]
        scores = np.array(score(known, users))
        for row, past_one in zip(scores, known):
            best = np.argsort(-row, kind="stable")[:25]
            lists.append(best)
            best = best[~np.isin(best, past_one.items)]  # as the outside measurement did: removed, not replaced
            unseen.append(np.concatenate([best, np.full(25 - len(best), -1)]))
    relevant = [later[user].items for user in range(len(later.user_ids))]
    pairs = np.repeat(np.arange(len(relevant)), list(map(len, relevant))), np.concatenate(relevant)
    out = []
    for name, items in (("as returned", lists), ("seen removed", unseen)):
        hits = metrics.hits(np.array(items), *pairs)
        values = {"NDCG@10": metrics.ndcg(hits, 10), "P@10": metrics.precision(hits, 10)}
        values["MRR@25"] = metrics.reciprocal_rank(hits)
        out.append(f"{name}: " + "  ".join(told(metric, value) for metric, value in values.items()))
    return "  ".join([*out, cost])


def fitted(method: str, past: Datasets) -> tuple[Scorer, object, str]:
    """A trained method, the catalogue its scores are in, and what training took."""
    reproducible.fix(20)
    begun = process_time()
    name, _, epochs = method.partition("@")
    if name in RECIPES:
        recipe = RECIPES[name]
        if epochs:
            model = sequences.fit(past, short(int(epochs)), seed=20, progress=lambda step: None)
        else:
            model = recipe.fit(past, recipe.values({}), seed=20, progress=lambda step: None)

        def score(known: list[History], users: list[str]) -> np.ndarray:
            newest = [int(h.times[-1]) + 1 if len(h.times) else 0 for h in known]
            about = {} if past.users is None else people
            about_item = recipe.recipe_type == "RELATED_ITEMS"
            return model.scores(
                [
                    Request(history=h, now=now, item=int(h.items[-1]) if about_item else -1, user=about.get(user, {}))
                    for h, now, user in zip(known, newest, users)
                ]
            )

        people = {} if past.users is None else past.users.set_index("USER_ID").to_dict("index")
        numbers = model.catalogue
    else:
        score, numbers = models.fit(method, past)
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return score, numbers, f"{process_time() - begun:.0f} CPU s, {gib:.1f} GiB at most so far"


def short(epochs: int) -> sequences.Plan:
    """What aws-user-personalization-v2 decides by default, but for the epochs."""
    dim, length = sequential.DIM, sequential.LENGTH
    return sequences.Plan(
        body="transformer", dim=dim, hidden=dim, length=length, recency=True, closed=True, effort=epochs
    )


def told(name: str, values: np.ndarray) -> str:
    interval = metrics.bootstrap(values, seed=20)
    return f"{name} {interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


if __name__ == "__main__":
    main()
