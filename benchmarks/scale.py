"""Growth: processor seconds and peak memory of training, from 10^4 to 10^7 interactions, and a million items.

Made-up shops: items of topics, popular ones more often (Zipf); users of a few topics, whose sessions lead from an item
to one of its few successors or to another of the topic.  Items grow from 1,000 to 100,000 with the interactions; last
come a million items that ten users know a few of.  Each fit reads Parquet and runs in a process of its own; beside its
cost stands the share of withheld next items found among ten, all items ranked, so that a quick fit that learns nothing
shows.
``python benchmarks/scale.py [--whole] [--sizes 10000,…,items] [METHOD …]``; with ``--whole`` each trains as a solution
version does: split, fit, evaluation on a tenth of the users, whose very next item is what ten shall hold, and the
served fit.  The script ends with status 1 where ten million interactions take 6 GiB or more, or where the seconds from
one million to ten grow by an exponent above 1.1.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib import reproducible, training
from lib.data import schema, tables
from lib.data.datasets import Datasets, histories
from lib.recipes import RECIPES
from lib.recipes.recipe import Progress, Request

METHODS = ("aws-user-personalization-v2", "aws-similar-items", "aws-popularity-count")
SIZES = ("10000", "100000", "1000000", "10000000", "items")
LARGE, MANY_ITEMS = 10_000_000, 1_000_000
MOST_GIB, MOST_EXPONENT = 6.0, 1.1
EVENTS_OF_A_USER, LONGEST = 20, 500  # the average, and the most
ITEMS_OF_A_TOPIC = 50
SUCCESSORS, LEADS_ON = 4, 0.4  # of an item, and the chance that one of them comes next
SESSION_ENDS = 0.2
MINUTE, DAY, BEGIN = 60, 86_400, 1_600_000_000
ASKED, FOUND = 1_000, 10  # users whose newest event is withheld, and how many items may hold it
ASKED_AT_ONCE = 32
ROWS_OF_SCHEMA = 10_000  # that a schema is proposed from


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a training took: processor seconds and peak GiB of its process, and the share of withheld items it finds."""

    seconds: float
    gib: float
    found: float


def n_items(n_events: int) -> int:
    """1,000 items for 10^4 interactions, 100,000 for 10^7."""
    return round(1_000 * (n_events / 10_000) ** (2 / 3))


def interactions(n_events: int, items: int, users: int, rng: np.random.Generator) -> pd.DataFrame:
    """About so many events, ordered by time: all users take their next steps side by side."""
    topics = max(1, items // ITEMS_OF_A_TOPIC)
    length = np.minimum(rng.geometric(users / n_events, users), LONGEST if users > 10 else n_events)
    length = np.maximum(1, (length * (n_events / length.sum())).round().astype(np.int64))
    favourites = (topics * rng.random((users, 3)) ** 1.5).astype(np.int64)
    successors = rng.integers(0, ITEMS_OF_A_TOPIC, (items, SUCCESSORS))
    in_topic = 1 / np.arange(1, ITEMS_OF_A_TOPIC + 1)  # Zipf
    in_topic = np.cumsum(in_topic / in_topic.sum())
    user = np.argsort(-length, kind="stable")  # those with long histories first
    topic = favourites[user, 0]
    item = np.zeros(users, np.int64)
    time = BEGIN + rng.integers(0, 365 * DAY, users)
    parts = []
    for step in range(length.max()):
        active = int(np.searchsorted(-length[user], -step, side="left"))  # users with more than so many events
        topic, item, time = topic[:active], item[:active], time[:active]
        ends = rng.random(active) < SESSION_ENDS
        topic = np.where(ends, favourites[user[:active], rng.integers(0, 3, active)], topic)
        pause = np.where(ends, rng.exponential(7 * DAY, active), rng.exponential(3 * MINUTE, active))
        time = time + 1 + pause.astype(np.int64)
        led = ~ends & (step > 0) & (rng.random(active) < LEADS_ON)
        place = np.where(
            led, successors[item, rng.integers(0, SUCCESSORS, active)], np.searchsorted(in_topic, rng.random(active))
        )
        item = np.minimum(topic * ITEMS_OF_A_TOPIC + np.minimum(place, ITEMS_OF_A_TOPIC - 1), items - 1)
        parts.append((user[:active].astype(np.int32), item.astype(np.int32), time, rng.random(active) < 0.1))
    users_of, items_of, times, bought = (np.concatenate(column) for column in zip(*parts))
    order = np.argsort(times, kind="stable")
    return pd.DataFrame(
        {
            "USER_ID": _ids("u", users)[users_of[order]],
            "ITEM_ID": _ids("i", items)[items_of[order]],
            "TIMESTAMP": times[order],
            "EVENT_TYPE": pd.array(["view", "purchase"], "str")[bought[order].astype(np.int64)],
        }
    )


def write(folder: Path, size: str) -> None:
    """Interactions and Items of a size as Parquet, and their schemas."""
    rng = np.random.default_rng(0)
    if size == "items":
        n_events, items, users = ASKED, MANY_ITEMS, 10
    else:
        n_events = int(size)
        items, users = n_items(n_events), max(10, n_events // EVENTS_OF_A_USER)
    for name, table in (
        ("interactions", interactions(n_events, items, users, rng)),
        (
            "items",
            pd.DataFrame(
                {
                    "ITEM_ID": _ids("i", items),
                    "CATEGORY": _ids("c", 1 + items // ITEMS_OF_A_TOPIC)[np.arange(items) // ITEMS_OF_A_TOPIC],
                    "PRICE": rng.lognormal(3, 1, items).round(2),
                }
            ).sort_values("ITEM_ID"),
        ),
    ):
        (folder / name).mkdir(parents=True)
        table.to_parquet(folder / name / "part.parquet", index=False)
        (folder / f"{name}.avsc").write_text(schema.propose(table[:ROWS_OF_SCHEMA], name))


def fit(method: str, folder: Path) -> None:
    """Train on all but the newest event of some users, and print the seconds and what was found, as JSON."""
    data = _read(folder)
    table = data.interactions
    newest = np.flatnonzero(~table["USER_ID"].duplicated(keep="last").to_numpy())
    last = np.sort(np.random.default_rng(1).choice(newest, min(len(newest), ASKED, len(table) // 10), replace=False))
    withheld = table.iloc[last]
    data = replace(data, interactions=table.drop(index=last).reset_index(drop=True))
    del table
    recipe = RECIPES[method]
    reproducible.fix(20)
    model = recipe.fit(data, recipe.values({}), seed=20, progress=lambda step: None)
    used = _used()
    past = data.interactions[data.interactions["USER_ID"].isin(withheld["USER_ID"])]
    known = histories(past, model.catalogue)
    wanted = pd.Index(model.catalogue.item_ids).get_indexer(withheld["ITEM_ID"].to_numpy(dtype=object))
    hits = 0
    for begin in range(0, len(wanted), ASKED_AT_ONCE):
        part = slice(begin, begin + ASKED_AT_ONCE)
        asked = [known.of(user) for user in withheld["USER_ID"].to_numpy(dtype=object)[part]]
        now = withheld["TIMESTAMP"].to_numpy()[part].tolist()
        requests = [
            Request(history=history, now=time, item=int(history.items[-1]) if len(history.items) else -1)
            for history, time in zip(asked, now)
        ]
        scores = model.scores(requests)
        own = scores[np.arange(len(requests)), wanted[part]]
        hits += int(((scores > own[:, None]).sum(axis=1) < FOUND).sum())
    print(json.dumps({**used, "found": hits / max(1, len(wanted))}))


def whole(method: str, folder: Path) -> None:
    """Train as a solution version does, and print the seconds and what its evaluation found, as JSON."""
    recipe = RECIPES[method]
    with tempfile.TemporaryDirectory() as name:
        training.train(recipe, _read(folder), recipe.values({}), seed=20, folder=Path(name), progress=_tell)
        used = _used()
        table = pd.read_parquet(Path(name) / "evaluation.parquet")
    hits = [item in shown[:FOUND] for item, shown in zip(table["NEXT"], table["RECOMMENDED"])]
    print(json.dumps({**used, "found": float(np.mean(hits))}))


def measure(way: str, method: str, folder: Path) -> Cost:
    """Train in a process of its own.  way: ``--fit`` or ``--train``.  Raises RuntimeError where it fails."""
    command = [sys.executable, __file__, way, method, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return Cost(**json.loads(done.stdout))


def main() -> int:
    """Print a line a size and method; 1 where a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--whole", action="store_true", help="split, evaluation and served fit too")
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--fit", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(Path(options.write[0]), options.write[1])
        return 0
    if options.fit:
        fit(options.fit[0], Path(options.fit[1]))
        return 0
    if options.train:
        whole(options.train[0], Path(options.train[1]))
        return 0
    way = "--train" if options.whole else "--fit"
    costs: dict[tuple[str, str], Cost] = {}
    for size in options.sizes.split(","):
        with tempfile.TemporaryDirectory() as name:
            subprocess.run([sys.executable, __file__, "--write", name, size], check=True)
            for method in options.methods:
                cost = costs[method, size] = measure(way, method, Path(name))
                what = "a million items" if size == "items" else f"{int(size):,} events, {n_items(int(size)):,} items"
                print(
                    f"{method:28} {what:32} {cost.seconds:8.1f} CPU s {cost.gib:6.2f} GiB  HR@{FOUND} {cost.found:.3f}",
                    flush=True,
                )
    passed = False
    for method in options.methods:
        before, after = (costs.get((method, str(size))) for size in (LARGE // 10, LARGE))
        passed |= after is not None and after.gib >= MOST_GIB
        if before and after:
            exponent = np.log10(after.seconds / before.seconds)
            print(f"{method:28} seconds grow by the power {exponent:.2f} from {LARGE // 10:,} to {LARGE:,} events")
            passed |= exponent > MOST_EXPONENT
    return int(passed)


def _read(folder: Path) -> Datasets:
    """What ``write`` left there."""
    return Datasets(
        interactions=tables.read([folder / "interactions"]),
        items=tables.read([folder / "items"]),
        schemas={
            kind: schema.parse((folder / f"{kind.lower()}.avsc").read_text(), kind)
            for kind in ("INTERACTIONS", "ITEMS")
        },
    )


def _tell(step: Progress) -> None:
    """Where a training is, on standard error."""
    cost = "{seconds:.1f} CPU s, {gib:.2f} GiB".format(**_used())
    print(f"{step.step} of {step.steps}: {cost}", file=sys.stderr, flush=True)


def _ids(letter: str, n: int) -> pd.api.extensions.ExtensionArray:
    """(n,) ids as text."""
    return pd.array([f"{letter}{number}" for number in range(n)], "str")


def _used() -> dict[str, float]:
    """Processor seconds and peak GiB of this process so far."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"seconds": used.ru_utime + used.ru_stime, "gib": used.ru_maxrss / 2**20}


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != str(reproducible.THREADS):
        reproducible.launch([sys.executable, *sys.argv])
    sys.exit(main())
