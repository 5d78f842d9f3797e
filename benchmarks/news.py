"""News: what a site shows ranked for its readers, how close to the best possible lists come, and what text is worth.

* ``mind``: MIND's impressions of 14 November, ranked by what was learnt up to the 13th: area under the curve,
  reciprocal rank and nDCG as MIND's competition defines them, against simple orders and an NRMS; then by how much the
  last method is better than each other one on the same impressions.
* ``simulated``: the simulated site's held-out readers: textbook NDCG@10 as a share of what somebody gets who knows the
  truth.
* ``cold``: among articles nobody had read when training ended, textbook NDCG@10 of those read next, with and without
  the textual columns; simulated and MIND.
* ``update``: the simulated site's newest 15 % as news to a trained model: what going on costs against training anew,
  and how both and the old model serve held-out readers.

``python benchmarks/news.py [--data FOLDER] [--protocol NAMES] [METHOD ...]``; the data are looked for in
``../shared/data``.  Intervals are 95 % bootstrap intervals over impressions or readers.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
from peers import nrms

from lib import evaluation, metrics, reproducible
from lib.data import preparation, schema, simulator, sources, splits
from lib.data.datasets import Catalogue, Datasets, Histories, catalogue, exclude_columns, histories
from lib.recipes import RECIPES, situation
from lib.recipes.recipe import Model, Request

ROOT = Path(__file__).resolve().parents[1]
LAST_DAY = int(pd.Timestamp("2019-11-14").timestamp())
DAY = 86_400
SMOOTHING = 20.0  # showings that the average click-through is worth
ASKED_AT_ONCE = 32
RECIPES_MEASURED = ("aws-user-personalization-v2", "aws-personalized-ranking-v2")
SIMULATED_MEASURED = ("aws-user-personalization-v2", "aws-user-personalization", "aws-popularity-count")


@dataclass(frozen=True, slots=True)
class Impressions:
    """Lists that were shown, ordered by time.  users: (M,) ids.  times: (M,) epoch seconds.

    shown: M arrays of catalogue positions.  clicked: M arrays of bool.
    """

    users: np.ndarray
    times: np.ndarray
    shown: list[np.ndarray]
    clicked: list[np.ndarray]

    def part(self, chosen: np.ndarray) -> "Impressions":
        rows = np.flatnonzero(chosen)
        return Impressions(
            self.users[rows], self.times[rows], [self.shown[n] for n in rows], [self.clicked[n] for n in rows]
        )


def main() -> None:
    """Print one line a protocol and method."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("methods", nargs="*")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--protocol", default="mind,simulated,cold,update")
    options = parser.parse_args()
    try:
        folder = sources.locate("mind-small", options.data)
        published = described(sources.read("mind-small", options.data))
    except FileNotFoundError as error:
        print(f"MIND skipped: {error}")
        published = None
    if "mind" in options.protocol and published:
        mind(folder, published, options.methods or [*REFERENCES, *RECIPES_MEASURED])
    with tempfile.TemporaryDirectory() as made:
        simulator.simulate(Path(made, "site"), seed=20)
        site = described(preparation.clean(sources.read("simulated", Path(made, "site")))[0])
        truth = simulator.Truth.load(Path(made, "site", "truth.npz"))
    if "simulated" in options.protocol:
        simulated(site, truth, options.methods or SIMULATED_MEASURED)
    if "cold" in options.protocol:
        cold("simulated", site, splits.time_before_newest(site.interactions, 0.2), truth)
        if published:
            cold("MIND", published, LAST_DAY)
    if "update" in options.protocol:
        for method in options.methods or SIMULATED_MEASURED[:2]:
            update(site, method)


def described(tables: Datasets) -> Datasets:
    """The datasets with the schemas that their columns suggest."""
    parsed = {kind: schema.parse(schema.propose(table, kind), kind) for kind, table in preparation.named(tables)}
    return replace(tables, schemas={kind.upper(): value for kind, value in parsed.items()})


def mind(folder: Path, data: Datasets, methods: Sequence[str]) -> None:
    """Rank the last day's impressions."""
    past = replace(data, interactions=data.interactions[data.interactions["TIMESTAMP"] < LAST_DAY])
    numbers = catalogue(data)
    log = read_impressions(folder, numbers)
    before, asked = log.part(log.times < LAST_DAY), log.part(log.times >= LAST_DAY)
    print(f"{len(asked.users)} impressions of the last day")
    tables = {}
    for method in methods:
        reproducible.fix(20)
        begun = process_time()
        found = rank(method, data, past, numbers, before, asked)
        seconds = process_time() - begun
        tables[method] = measured(found, asked)
        told = {name: metrics.bootstrap(column.to_numpy(), seed=20) for name, column in tables[method].items()}
        print(f"mind       {method:30}", report(told), f"{seconds:.0f} CPU s", flush=True)
    *others, last = methods
    for method in others:
        pairs = {name: (tables[last][name].to_numpy(), tables[method][name].to_numpy()) for name in tables[last]}
        told = {name: metrics.paired_bootstrap(*pair, seed=20) for name, pair in pairs.items()}
        print(f"mind       {last} above {method:30}", report(told), flush=True)


def simulated(site: Datasets, truth: simulator.Truth, methods: Sequence[str]) -> None:
    """How much of the best possible list each recipe finds for readers it has not trained on."""
    split = splits.split_users(site.interactions, seed=20)
    best = evaluation.evaluate_oracle(truth.relevance, split, site, "USER_PERSONALIZATION")
    for method in methods:
        recipe = RECIPES[method]
        reproducible.fix(20)
        begun = process_time()
        model = recipe.fit(
            replace(site, interactions=split.train), recipe.values({}), seed=20, progress=lambda step: None
        )
        seconds = process_time() - begun
        table = evaluation.evaluate(model, split, site, recipe.recipe_type)
        share = evaluation.share_of_oracle(table, best, seed=20)
        ndcg = evaluation.user_metrics(table)["textbook_ndcg_at_10"].mean()
        told = f"NDCG@10 {ndcg:.4f}, {share.mean:.3f} [{share.low:.3f}, {share.high:.3f}] of the best possible"
        print(f"simulated  {method:30}", told, f"{seconds:.0f} CPU s", flush=True)


def cold(name: str, data: Datasets, at: int, truth: simulator.Truth | None = None) -> None:
    """What textual columns add among articles nobody had read before ``at``.

    With the truth of a simulated site also what they add where no column tells the category, and what somebody finds
    who knows all but the quality of these articles and how much they will be read, with and without what text alone
    tells: the story and where it plays.
    """
    split = splits.split_time(data.interactions, at=at)
    recipe = RECIPES["aws-user-personalization-v2"]
    fields = data.schemas["ITEMS"].fields
    texts = [field.name for field in fields if field.textual]
    categories = [field.name for field in fields if field.categorical]
    for left_out in ("", ", categories left out") if truth else ("",):
        measured = {}
        for kind, textual in (("without text", texts), ("with text", [])):
            excluded = textual + (categories if left_out else [])
            told = exclude_columns(data, {"excludedDatasetColumns": {"ITEMS": excluded}} if excluded else None)
            reproducible.fix(20)
            model = recipe.fit(
                replace(told, interactions=split.train), recipe.values({}), seed=20, progress=lambda step: None
            )
            measured[kind] = _cold_ndcg(partial(_answers, model), model.catalogue, split, data)
            print(f"cold       {name}, {kind + left_out:40}", report({"NDCG@10": _mean(measured[kind])}), flush=True)
        gain = metrics.ratio_bootstrap(measured["with text"], measured["without text"], seed=20)
        print(f"cold       {name}, ratio{left_out} {gain.mean:.3f} [{gain.low:.3f}, {gain.high:.3f}]", flush=True)
    if truth is None:
        return
    numbers = catalogue(data)
    later = truth.start + np.arange(len(truth.popularity)) * simulator.BLOCK >= at
    known = replace(
        truth,
        quality=np.zeros_like(truth.quality),
        surge=np.zeros_like(truth.surge),
        popularity=np.where(later[:, None], np.float32(0), truth.popularity),
    )
    untold = replace(known, story=np.full_like(truth.story, -1), region=np.full_like(truth.region, -1))
    for kind, knowing in (("the truth", known), ("the truth without what text alone tells", untold)):
        found = _cold_ndcg(partial(_chances, knowing, numbers), numbers, split, data)
        print(f"cold       {name}, {kind:40}", report({"NDCG@10": _mean(found)}), flush=True)


def update(site: Datasets, method: str) -> None:
    """What a model that goes on with the news gains, and what one trained anew would."""
    recipe = RECIPES[method]
    split = splits.split_users(site.interactions, seed=20)
    whole = replace(site, interactions=split.train)
    at = splits.time_before_newest(split.train, 0.15)
    known = site.items["CREATION_TIMESTAMP"].to_numpy() < at
    old = replace(
        site,
        interactions=split.train[split.train["TIMESTAMP"] < at],
        items=site.items[known].reset_index(drop=True),
    )
    start = None
    for kind, data in (("old", old), ("gone on", whole), ("anew", whole)):
        reproducible.fix(20)
        begun = process_time()
        before = start if kind == "gone on" else None
        model = recipe.fit(data, recipe.values({}), seed=20, progress=lambda step: None, start=before)
        seconds = process_time() - begun
        start = start or model
        table = evaluation.evaluate(model, split, site, recipe.recipe_type)
        value = metrics.bootstrap(evaluation.user_metrics(table)["textbook_ndcg_at_10"].to_numpy(), seed=20)
        told = f"NDCG@10 {value.mean:.4f} [{value.low:.4f}, {value.high:.4f}] {seconds:.0f} CPU s"
        print(f"update     {method}, {kind:8} {told}", flush=True)


def _cold_ndcg(
    score: Callable[[evaluation.Questions, int], np.ndarray], numbers: Catalogue, split: splits.Split, data: Datasets
) -> np.ndarray:
    """(U,) textbook NDCG@10 among articles that nobody had read, of the users who then read one.

    score: questions and the row of one -> (I,) of the articles.
    """
    questions = evaluation.ask(split, data, numbers, "USER_PERSONALIZATION")
    new = ~np.isin(numbers.item_ids, split.train["ITEM_ID"].to_numpy(dtype=str))
    created = situation.creation_times(data, numbers)
    relevant = pd.Index(numbers.item_ids).get_indexer(questions.item_ids)
    kept = new[relevant] & (
        created[relevant] <= np.array([request.now for request in questions.requests])[questions.rows]
    )
    out = []
    for row in np.unique(questions.rows[kept]):
        wanted = relevant[kept & (questions.rows == row)]
        scores = np.where(new & (created <= questions.requests[row].now), score(questions, row), -np.inf)
        best = np.argsort(-scores, kind="stable")[:10]
        hits = np.isin(best, wanted)[None]
        out.append(metrics.textbook_ndcg(hits, np.array([len(wanted)]), 10)[0])
    return np.array(out)


def _answers(model: Model, questions: evaluation.Questions, row: int) -> np.ndarray:
    """(I,) what the model thinks of the articles."""
    return model.scores([questions.requests[row]])[0]


def _chances(truth: simulator.Truth, numbers: Catalogue, questions: evaluation.Questions, row: int) -> np.ndarray:
    """(I,) chances that the reader of a question takes the articles next."""
    request = questions.requests[row]
    device = [request.context["DEVICE"]] if "DEVICE" in request.context else None
    read = [numbers.item_ids[request.history.items]]
    return truth.relevance([questions.user_ids[row]], np.array([request.now]), numbers.item_ids, read, device)[0]


def _mean(values: np.ndarray) -> metrics.Interval:
    return metrics.bootstrap(values, seed=20)


def read_impressions(folder: Path, numbers: Catalogue) -> Impressions:
    """``behaviors.tsv`` of a folder in MIND's format, all parts in one, ordered by time."""
    names = ["impression", "user", "time", "history", "shown"]
    parts = sorted(folder.glob("**/behaviors.tsv"))
    table = pd.concat([pd.read_csv(file, sep="\t", header=None, names=names, dtype=str, quoting=3) for file in parts])
    times = pd.to_datetime(table["time"], format=sources.MIND_TIME).to_numpy().astype("datetime64[s]").astype(np.int64)
    order = np.argsort(times, kind="stable")
    place = pd.Index(numbers.item_ids)
    marks = [cell.split(" ") for cell in table["shown"].to_numpy()[order]]
    shown = [place.get_indexer([mark[:-2] for mark in row]) for row in marks]
    clicked = [np.array([mark.endswith("1") for mark in row]) for row in marks]
    return Impressions(table["user"].to_numpy(dtype=str)[order], times[order], shown, clicked)


def rank(
    method: str, data: Datasets, past: Datasets, numbers: Catalogue, before: Impressions, asked: Impressions
) -> list[np.ndarray]:
    """The scores that a method gives the articles of each impression."""
    done = histories(past.interactions, numbers)
    if method in REFERENCES:
        return REFERENCES[method](data, done, numbers, before, asked)
    recipe = RECIPES[method]
    model = recipe.fit(past, recipe.values({}), seed=20, progress=lambda step: None)
    place = pd.Index(model.catalogue.item_ids).get_indexer(numbers.item_ids)
    known = histories(past.interactions, model.catalogue)
    out = []
    for begin in range(0, len(asked.users), ASKED_AT_ONCE):
        part = range(begin, min(begin + ASKED_AT_ONCE, len(asked.users)))
        requests = [Request(history=known.of(asked.users[n]), now=int(asked.times[n])) for n in part]
        scores = model.scores(requests)
        out += [scores[row, place[asked.shown[n]]] for row, n in enumerate(part)]
    return out


def measured(found: list[np.ndarray], asked: Impressions) -> pd.DataFrame:
    """AUC, MRR, nDCG@5 and nDCG@10 of each impression with articles clicked and others not."""
    rows = []
    for scores, clicked in zip(found, asked.clicked):
        if clicked.all() or not clicked.any():
            continue
        hits = clicked[np.argsort(-scores, kind="stable")]
        gain = hits / np.log2(np.arange(2, len(hits) + 2))
        ideal = np.sort(clicked)[::-1] / np.log2(np.arange(2, len(hits) + 2))
        rows.append(
            {
                "AUC": metrics.area_under_curve(scores, clicked),
                "MRR": (hits / np.arange(1, len(hits) + 1)).sum() / hits.sum(),
                "nDCG@5": gain[:5].sum() / ideal[:5].sum(),
                "nDCG@10": gain[:10].sum() / ideal[:10].sum(),
            }
        )
    return pd.DataFrame(rows)


def report(told: dict[str, metrics.Interval]) -> str:
    """Means with their intervals."""
    return "  ".join(f"{name} {v.mean:.4f} [{v.low:.4f}, {v.high:.4f}]" for name, v in told.items())


def _counts(before: Impressions, n_items: int, half_life: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    """(I,) clicks and (I,) showings up to the last day, halving every half-life (seconds)."""
    weight = np.repeat(np.exp2(-(LAST_DAY - before.times) / half_life), [len(shown) for shown in before.shown])
    items, clicked = np.concatenate(before.shown), np.concatenate(before.clicked)
    return np.bincount(items, weight * clicked, n_items), np.bincount(items, weight, n_items)


def popularity(data: Datasets, done: Histories, numbers: Catalogue, before: Impressions, asked: Impressions):
    """By clicks of the last days, those of the log before counting little."""
    clicks, _ = _counts(before, len(numbers.item_ids), half_life=DAY)
    score = clicks + 1e-3 * np.bincount(done.items, minlength=len(numbers.item_ids))
    return [score[shown] for shown in asked.shown]


def click_through(data: Datasets, done: Histories, numbers: Catalogue, before: Impressions, asked: Impressions):
    """By clicks per showing, drawn to the average."""
    clicks, showings = _counts(before, len(numbers.item_ids))
    score = (clicks + SMOOTHING * clicks.sum() / showings.sum()) / (showings + SMOOTHING)
    return [score[shown] for shown in asked.shown]


def newest(data: Datasets, done: Histories, numbers: Catalogue, before: Impressions, asked: Impressions):
    """By when the article was first seen."""
    created = data.items.set_index("ITEM_ID")["CREATION_TIMESTAMP"].reindex(numbers.item_ids).fillna(0).to_numpy()
    return [created[shown].astype(float) for shown in asked.shown]


def text(data: Datasets, done: Histories, numbers: Catalogue, before: Impressions, asked: Impressions):
    """By the likeness of title words to those of what the user read."""
    titles = data.items.set_index("ITEM_ID")["TITLE"].reindex(numbers.item_ids).fillna("").to_list()
    from sklearn.feature_extraction.text import TfidfVectorizer

    weights = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english").fit_transform(titles)
    out = []
    for user, shown in zip(asked.users, asked.shown):
        mine = done.of(user).items
        profile = weights[mine].sum(axis=0) if len(mine) else np.zeros((1, weights.shape[1]))
        out.append(np.asarray(weights[shown] @ np.asarray(profile).T).ravel())
    return out


def neural(data: Datasets, done: Histories, numbers: Catalogue, before: Impressions, asked: Impressions):
    """NRMS, eight epochs at most."""
    titles = data.items.set_index("ITEM_ID")["TITLE"].reindex(numbers.item_ids).fillna("").to_list()
    log = [done.of(user) for user in before.users]
    read = [past.items[past.times < time].astype(np.int64) for past, time in zip(log, before.times)]
    network = nrms.fit(titles, read, before.shown, before.clicked, epochs=8, seed=20)
    return nrms.scores(network, [done.of(user).items.astype(np.int64) for user in asked.users], asked.shown)


REFERENCES = {
    "popularity": popularity,
    "newest first": newest,
    "click-through": click_through,
    "text": text,
    "NRMS": neural,
}

if __name__ == "__main__":
    main()
