"""Ask a model what the users of a split did next: one row a user, then numbers with intervals.

The table of an evaluation holds all that metrics, slices and comparisons need, so none of them needs the model again:

| column | meaning |
|---|---|
| USER_ID, NOW | whom a list was made for, and when: the time of the first held-out interaction, epoch seconds |
| HISTORY_LENGTH, COLD | known interactions; fewer than ``COLD_LENGTH`` |
| RECOMMENDED, RELEVANT | item ids: the list, best first; what the user did next, each item once |
| CHANCES | of each recommended item, what the model gave it to be the very next: softmax over the catalogue |
| NEXT | item id of the very next interaction |
| HIT_RANKS | ranks, from 1, of the recommended items that are relevant |
| RECOMMENDED_POPULARITY, RELEVANT_POPULARITY | for each item, the share of training users who know it |
| CATALOGUE_SIZE | items in Interactions and Items together, the same in every row |
| EVENT_WEIGHTED_NDCG, REWARD_SHARE | where the solution weighs events, or has an objective |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib import metrics
from lib.data import features
from lib.data.datasets import Catalogue, Datasets, catalogue, histories
from lib.data.splits import Split, split_time
from lib.ranking import SCORED_AT_ONCE, Ranked, rank, recommend
from lib.recipes.actions import action_histories, folded, until
from lib.recipes.recipe import Model, Progress, Recipe, Request, Segmenter, Value
from lib.reproducible import fix

K = 25  # the longest list that Personalize's metrics look at
OBJECTIVE_K = 100  # the list that average_rewards_at_k picks the 25 most rewarding items from
COLD_LENGTH = 5
HISTORY_LENGTHS = (0, 1, 5, 20, 100)  # lower bounds of the slices by history length

SEGMENT_SHARE = 0.01  # of all users, that a segment of an evaluation holds
MOST_QUERIES = 5_000  # of an evaluation of segments

ACTION_METRICS = (
    "coverage",
    *(f"normalized_discounted_cumulative_gain_at_{k}" for k in (5, 10, 25)),
    *("precision", "recall", "area_under_the_curve"),
)

SEGMENT_METRICS = ("coverage", "hits_at_1_percent", "recall_at_1_percent")

LIST_METRICS = (
    *("coverage", "mean_reciprocal_rank_at_25"),
    *(f"normalized_discounted_cumulative_gain_at_{k}" for k in (5, 10, 25)),
    *(f"precision_at_{k}" for k in (5, 10, 25)),
)
WEIGHTED = "normalized_discounted_cumulative_gain_with_event_weights_at_k"
REWARDS = "average_rewards_at_k"

NDCG = "normalized_discounted_cumulative_gain_at_25"

# user_ids (B,), now (B,), item_ids (I,), previous: B lists of item ids, devices: B names or None -> (B, I) chances
Oracle = Callable[[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray], list[str | None]], np.ndarray]


@dataclass(frozen=True, slots=True)
class Questions:
    """What a split asks of a model.

    user_ids: (U,) str, sorted.  requests: one a user.  history_lengths: (U,) int.  next_items: (U,) str, the item of
    the first held-out interaction.  rows, item_ids, weights: (P,) the row of the user, an item of theirs that was held
    out, each once, and the greatest weight of its events; weights is None where the solution does not weigh events.
    """

    user_ids: np.ndarray
    requests: list[Request]
    history_lengths: np.ndarray
    next_items: np.ndarray
    rows: np.ndarray
    item_ids: np.ndarray
    weights: np.ndarray | None


class Choice(NamedTuple):
    """The version to deploy and why, in words."""

    version: str
    reason: str


def ask(
    split: Split,
    datasets: Datasets,
    numbers: Catalogue,
    recipe_type: str,
    *,
    event_weights: Mapping[str, float] | None = None,
) -> Questions:
    """The request that each test user would have made just before the first held-out interaction.

    It knows the user's history and row of Users, the time, and as context the columns of that interaction which models
    learn from.
    For RELATED_ITEMS it asks about the last item of the history.
    """
    held_out = split.held_out
    users = held_out["USER_ID"].to_numpy(dtype=str)
    user_ids, first, rows = np.unique(users, return_index=True, return_inverse=True)  # ordered by time: first is oldest
    known = histories(split.known, numbers)
    about = [_facts(row) for row in _rows_of(datasets.users, user_ids)]
    contexts = held_out.iloc[first][_context_columns(held_out, datasets)].to_dict("records")
    items = _last_items(split.known, user_ids, numbers) if recipe_type == "RELATED_ITEMS" else np.full(len(first), -1)
    times = held_out["TIMESTAMP"].to_numpy(dtype=np.int64)[first]
    requests = [
        Request(
            history=known.of(user_id),
            now=int(now),
            item=int(item),
            user=row,
            context={name: str(value) for name, value in _facts(context).items()},
        )
        for user_id, now, item, row, context in zip(user_ids, times, items, about, contexts)
    ]
    lengths = split.known["USER_ID"].value_counts().reindex(user_ids, fill_value=0).to_numpy()
    pairs = pd.DataFrame({"row": rows, "item": held_out["ITEM_ID"].to_numpy(dtype=str), "weight": 1.0})
    if event_weights:
        rewards = metrics.event_rewards(np.array(list(event_weights.values())))
        reward = dict(zip(map(str.lower, event_weights), rewards))
        pairs["weight"] = held_out["EVENT_TYPE"].str.lower().map(reward).fillna(0.0).to_numpy(dtype=np.float64)
    pairs = pairs.groupby(["row", "item"], as_index=False)["weight"].max()
    item_ids, weights = pairs["item"].to_numpy(dtype=str), pairs["weight"].to_numpy()
    return Questions(
        user_ids,
        requests,
        lengths,
        held_out["ITEM_ID"].to_numpy(dtype=str)[first],
        pairs["row"].to_numpy(),
        item_ids,
        weights if event_weights else None,
    )


def evaluate(
    model: Model,
    split: Split,
    datasets: Datasets,
    recipe_type: str,
    *,
    event_weights: Mapping[str, float] | None = None,
    objective: str | None = None,
    repeats: bool = True,
) -> pd.DataFrame:
    """The evaluation table of a model that was fitted on ``split.train``; columns as at the top of this file.

    Lists are made by the code that answers requests, of items that exist at that time: an item whose CREATION_TIMESTAMP
    and first interaction are later is no candidate.

    datasets: all of the group, for the size of its catalogue, Users and Items.  event_weights: event type -> weight.
    objective: a numeric column of Items.  repeats: whether what a user knows may be recommended again; if not it is not
    relevant either, and users who did nothing new are left out.
    """
    questions = ask(split, datasets, model.catalogue, recipe_type, event_weights=event_weights)
    item_ids = model.catalogue.item_ids
    if not repeats:
        questions = _without_repeats(questions, item_ids)
    born = _born(datasets, item_ids)

    def answer(part: slice, k: int) -> Ranked:
        requests = questions.requests[part]
        return recommend(model, requests, k, _allowed(requests, born, len(item_ids), repeats), chances=True)

    return _table(questions, answer, item_ids, split, datasets, objective)


def evaluate_actions(model: Model, split: Split, datasets: Datasets) -> pd.DataFrame:
    """One row a user of a split of action interactions, at the time of the first one that was held out.

    Columns USER_ID, NOW, RECOMMENDED (action ids, best first), RELEVANT (those that were taken), HIT_RANKS (as above);
    CHANCES and TAKEN of all actions that the user met then, each once.
    """
    held_out, ids = split.held_out, model.action_ids
    users = held_out["USER_ID"].to_numpy(dtype=str)
    user_ids, first = np.unique(users, return_index=True)  # ordered by time: first is oldest
    times = held_out["TIMESTAMP"].to_numpy(dtype=np.int64)[first]
    done, items = action_histories(split.known, ids), histories(datasets.interactions, model.catalogue)
    requests = [
        Request(history=until(items.of(user_id), now), now=int(now), user=_facts(row), actions=done.of(user_id))
        for user_id, now, row in zip(user_ids, times, _rows_of(datasets.users, user_ids))
    ]
    chances = model.chances(requests) if requests else np.zeros((0, len(ids)))
    order = model.preference
    ranked = rank(chances[:, order].astype(np.float32), min(K, len(ids))).items
    action = pd.Index(ids).get_indexer(held_out["ACTION_ID"].to_numpy(dtype=str))
    taken = held_out["EVENT_TYPE"].map(folded).to_numpy() == "taken"
    of_user, rows = held_out.groupby(users).indices, []
    for n, own in enumerate(of_user[user_id] for user_id in user_ids):
        seen, relevant = (
            np.unique(action[own][action[own] >= 0]),
            np.unique(action[own][taken[own] & (action[own] >= 0)]),
        )
        shown = order[ranked[n]]
        places = 1 + np.flatnonzero(np.isin(shown, relevant))
        rows.append(
            [user_ids[n], times[n], ids[shown], ids[relevant], places, chances[n, seen], np.isin(seen, relevant)]
        )
    columns = ["USER_ID", "NOW", "RECOMMENDED", "RELEVANT", "HIT_RANKS", "CHANCES", "TAKEN"]
    return pd.DataFrame(rows, columns=columns)


def action_metrics(table: pd.DataFrame, n_actions: int) -> dict[str, float]:
    """Personalize's metrics of a recipe for actions, rounded to 4 decimals, without those that nothing tells of.

    NDCG is the mean over users who took something.  Precision and recall are of the action in the first place, the next
    best one.  The area under the curve is over all actions that users met: were those taken the likelier ones?
    """
    if not len(table):
        return {}
    found = {"coverage": len(np.unique(np.concatenate([*table["RECOMMENDED"]]))) / n_actions}
    hits = hit_matrix(table)[_lengths(table["RELEVANT"]) > 0]
    for k in (5, 10, 25):
        found[f"normalized_discounted_cumulative_gain_at_{k}"] = metrics.ndcg(hits, k).mean() if len(hits) else np.nan
    ids = np.unique(np.concatenate([*table["RECOMMENDED"], *table["RELEVANT"]]))
    first = np.array([ids == shown[0] for shown in table["RECOMMENDED"]])
    taken = np.array([np.isin(ids, relevant) for relevant in table["RELEVANT"]])
    found["precision"], found["recall"] = metrics.precision_and_recall(first, taken)
    chances, met = np.concatenate([*table["CHANCES"]]), np.concatenate([*table["TAKEN"]]).astype(bool)
    found["area_under_the_curve"] = metrics.area_under_curve(chances, met)
    return {name: round(float(found[name]), 4) for name in ACTION_METRICS if not np.isnan(found[name])}


def evaluate_oracle(
    oracle: Oracle, split: Split, datasets: Datasets, recipe_type: str, *, repeats: bool = True
) -> pd.DataFrame:
    """The evaluation table of somebody who knows the truth, asked what a model of ``evaluate`` is asked.

    oracle: (user_ids (B,) str, now (B,) int64, item_ids (I,) str, previous, devices) -> (B, I) chance of each item.
    previous: the ids of what each user did before, oldest first.  devices: the context DEVICE, None where not known.
    """
    numbers = catalogue(datasets)
    questions = ask(split, datasets, numbers, recipe_type)
    if not repeats:
        questions = _without_repeats(questions, numbers.item_ids)
    born = _born(datasets, numbers.item_ids)

    def answer(part: slice, k: int) -> Ranked:
        requests = questions.requests[part]
        now = np.array([request.now for request in requests], dtype=np.int64)
        previous = [numbers.item_ids[request.history.items] for request in requests]
        devices = [request.context.get("DEVICE") for request in requests]
        chances = oracle(questions.user_ids[part], now, numbers.item_ids, previous, devices)
        return rank(chances.astype(np.float32), k, _allowed(requests, born, len(numbers.item_ids), repeats))

    return _table(questions, answer, numbers.item_ids, split, datasets, None)


def evaluate_later(
    recipe: Recipe,
    datasets: Datasets,
    parameters: Mapping[str, Value],
    *,
    at: int,
    seed: int,
    progress: Callable[[Progress], None],
) -> pd.DataFrame:
    """Fit on what happened before ``at`` (epoch seconds) and evaluate on what came: the temporal hold-out's table."""
    fix(seed)
    split = split_time(datasets.interactions, at=at)
    past = Datasets(interactions=split.train, items=datasets.items, users=datasets.users, schemas=datasets.schemas)
    model = recipe.fit(past, parameters, seed=seed, progress=progress)
    return evaluate(model, split, datasets, recipe.recipe_type)


def evaluate_segments(
    model: Segmenter,
    split: Split,
    datasets: Datasets,
    queries: Callable[[Datasets, Catalogue], Mapping[str, np.ndarray]],
    *,
    seed: int,
) -> pd.DataFrame:
    """Ask for the likeliest 1 % of all users for each query that a user of the split did something about.

    model: fitted on ``split.train``, in which each user has an older part.  queries: as the recipe declares.
    Columns QUERY, RECOMMENDED (user ids, best first), ACTUAL and HITS (how many users did something about it, and how
    many of these were recommended), USERS (of Interactions and Users, the same in every row).  Of more than
    ``MOST_QUERIES`` queries so many are drawn.
    """
    n_items, n_users = len(model.catalogue.item_ids), len(model.user_ids)
    user = pd.Index(model.user_ids).get_indexer(split.held_out["USER_ID"].to_numpy(dtype=str))
    item = pd.Index(model.catalogue.item_ids).get_indexer(split.held_out["ITEM_ID"].to_numpy(dtype=str))
    known = (user >= 0) & (item >= 0)
    did = sparse.csr_matrix((np.ones(known.sum(), bool), (item[known], user[known])), (n_items, n_users))
    all_users = {*model.user_ids.tolist(), *([] if datasets.users is None else datasets.users["USER_ID"])}
    k = max(1, int(SEGMENT_SHARE * len(all_users) + 0.5))
    asked = {name: items for name, items in queries(datasets, model.catalogue).items() if did[items].nnz}
    if not asked:
        raise ValueError("no user did anything that could be asked about; add interactions, or values to the Items")
    names = sorted(np.random.default_rng(seed).permutation(sorted(asked))[:MOST_QUERIES].tolist())
    rows = []
    step = max(1, SCORED_AT_ONCE // n_users)
    for start in range(0, len(names), step):
        part = names[start : start + step]
        ranked = rank(model.scores([asked[name] for name in part]), k).items
        for name, chosen in zip(part, ranked):
            actual, chosen = np.unique(did[asked[name]].indices), chosen[chosen >= 0]
            hits = int(np.isin(chosen, actual).sum())
            rows.append((name, model.user_ids[chosen].astype(object), len(actual), hits, len(all_users)))
    return pd.DataFrame(rows, columns=["QUERY", "RECOMMENDED", "ACTUAL", "HITS", "USERS"])


def segment_metrics(table: pd.DataFrame) -> dict[str, float]:
    """What GetSolutionMetrics answers for segments, of the table of ``evaluate_segments``; rounded to 4 decimals."""
    reached = len(pd.unique(np.concatenate(table["RECOMMENDED"].to_list())))
    found = reached / table["USERS"].iloc[0], table["HITS"].mean(), (table["HITS"] / table["ACTUAL"]).mean()
    return {name: round(float(value), 4) for name, value in zip(SEGMENT_METRICS, found)}


def hit_matrix(table: pd.DataFrame, k: int = K) -> np.ndarray:
    """(U, k) bool: the hits of an evaluation table."""
    ranks = np.concatenate(table["HIT_RANKS"].to_list()).astype(np.int64)
    rows = np.repeat(np.arange(len(table)), _lengths(table["HIT_RANKS"]))
    found = np.zeros((len(table), k), dtype=bool)
    within = ranks <= k
    found[rows[within], ranks[within] - 1] = True
    return found


def user_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """Each user's metrics, index USER_ID: Personalize's under its names, then the textbook's NDCG and recall."""
    hits, relevant = hit_matrix(table), _lengths(table["RELEVANT"])
    columns = {"mean_reciprocal_rank_at_25": metrics.reciprocal_rank(hits)}
    columns |= {f"normalized_discounted_cumulative_gain_at_{k}": metrics.ndcg(hits, k) for k in (5, 10, 25)}
    columns |= {f"precision_at_{k}": metrics.precision(hits, k) for k in (5, 10, 25)}
    if "EVENT_WEIGHTED_NDCG" in table:
        columns[WEIGHTED] = table["EVENT_WEIGHTED_NDCG"]
    if "REWARD_SHARE" in table:
        columns[REWARDS] = table["REWARD_SHARE"]
    columns |= {f"textbook_ndcg_at_{k}": metrics.textbook_ndcg(hits, relevant, k) for k in (5, 10, 25)}
    columns["recall_at_25"] = metrics.recall(hits, relevant, 25)
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    return pd.DataFrame(columns, index=pd.Index(table["USER_ID"], name="USER_ID"))


def solution_metrics(table: pd.DataFrame) -> dict[str, float]:
    """What GetSolutionMetrics answers: Personalize's metrics, rounded to 4 decimals."""
    means = user_metrics(table).mean()
    own = {name: value for name, value in means.items() if not name.startswith(("textbook_", "recall_"))}
    return {name: round(float(value), 4) for name, value in {"coverage": _coverage(table), **own}.items()}


def metric_names(recipe_type: str, *, weighted: bool = False, rewarded: bool = False) -> tuple[str, ...]:
    """The metrics that every recipe of a type has.  weighted, rewarded: with event weights, with an objective."""
    if recipe_type == "USER_SEGMENTATION":
        return SEGMENT_METRICS
    if recipe_type == "PERSONALIZED_ACTIONS":
        return ACTION_METRICS
    return (*LIST_METRICS, *[WEIGHTED] * weighted, *[REWARDS] * rewarded)


def compare(
    tables: Mapping[str, pd.DataFrame], *, baseline: str, seed: int, names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Versions side by side on the users they share, one row a version and metric.

    tables: version -> evaluation table.  names: metrics of ``user_metrics``, all by default.
    Columns: version, metric, users, mean, low, high (95 % bootstrap interval), difference, difference_low,
    difference_high (to the baseline on the same users).  Coverage is one number for all users: it has no interval.
    Raises ValueError where the versions share no user.
    """
    if baseline not in tables:
        raise ValueError(f"baseline {baseline!r} is not one of the versions {', '.join(tables)}")
    measured = _shared(tables)
    rows = []
    for version, mine in measured.items():
        for name in mine.columns if names is None else [name for name in names if name in mine]:
            values = mine[name].to_numpy()
            row = {"version": version, "metric": name, "users": len(mine)}
            row |= _columns(metrics.bootstrap(values, seed=seed), ("mean", "low", "high"))
            if name in measured[baseline]:
                paired = metrics.paired_bootstrap(values, measured[baseline][name].to_numpy(), seed=seed)
                row |= _columns(paired, ("difference", "difference_low", "difference_high"))
            rows.append(row)
        if names is None or "coverage" in names:
            reached = _coverage(tables[version])
            difference = reached - _coverage(tables[baseline])
            row = {"version": version, "metric": "coverage", "users": len(mine), "mean": reached}
            rows.append({**row, "difference": difference})
    return pd.DataFrame(rows)


def slices(table: pd.DataFrame, *, seed: int, metric: str = NDCG) -> pd.DataFrame:
    """A metric for parts of the users: new ones, and by length of history; columns slice, users, mean, low, high."""
    values, length = user_metrics(table)[metric].to_numpy(), table["HISTORY_LENGTH"].to_numpy()
    cold = table["COLD"].to_numpy()
    parts = {"all users": np.ones(len(table), dtype=bool), f"cold (under {COLD_LENGTH})": cold, "known": ~cold}
    for low, high in zip(HISTORY_LENGTHS, [*HISTORY_LENGTHS[1:], None]):
        if high is None:
            parts[f"history {low} and more"] = length >= low
        else:
            parts[f"history {low}" if high == low + 1 else f"history {low} to {high - 1}"] = (length >= low) & (
                length < high
            )
    rows = [
        {"slice": name, "users": int(part.sum())}
        | _columns(metrics.bootstrap(values[part], seed=seed), ("mean", "low", "high"))
        for name, part in parts.items()
        if part.any()
    ]
    return pd.DataFrame(rows)


def popularity_slices(table: pd.DataFrame) -> pd.DataFrame:
    """How many of the relevant items are found among the 25, by how many training users know them.

    Rows: items nobody knew at training, then thirds of the rest, each with as many relevant items.
    Columns slice, up_to (largest share of users in it), relevant, found, recall.
    """
    relevant = np.concatenate(table["RELEVANT_POPULARITY"].to_list())
    found = np.concatenate([np.isin(items, shown) for items, shown in zip(table["RELEVANT"], table["RECOMMENDED"])])
    known = relevant > 0
    bounds = np.quantile(relevant[known], [1 / 3, 2 / 3]) if known.any() else np.zeros(2)
    third = np.where(known, 1 + np.searchsorted(bounds, relevant, side="left"), 0)
    names = ["new", "rare", "middling", "popular"]
    rows = [
        {
            "slice": name,
            "up_to": float(relevant[third == n].max()),
            "relevant": int((third == n).sum()),
            "found": int(found[third == n].sum()),
            "recall": float(found[third == n].mean()),
        }
        for n, name in enumerate(names)
        if (third == n).any()
    ]
    return pd.DataFrame(rows)


def popularity_bias(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How far each version leans to what everybody knows; index version.

    recommended_popularity, relevant_popularity: mean share of training users who know a recommended item, and one that
    users chose; lift: their ratio, 1 for no bias; novelty: mean bits of surprise of a recommended item; coverage.
    """
    rows = []
    for version, table in tables.items():
        shown = _mean_of_lists(table["RECOMMENDED_POPULARITY"])
        chosen = _mean_of_lists(table["RELEVANT_POPULARITY"])
        rows.append(
            {
                "version": version,
                "recommended_popularity": shown,
                "relevant_popularity": chosen,
                "lift": shown / chosen if chosen else float("nan"),
                "novelty": float(metrics.novelty(*_shown_popularity(table)).mean()),
                "coverage": _coverage(table),
            }
        )
    return pd.DataFrame(rows).set_index("version")


def reliability(table: pd.DataFrame, *, bins: int = 8) -> pd.DataFrame:
    """How often what was recommended came next, by the chance that the model gave it: equal where it is calibrated.

    Bins hold as many recommended items each, least likely first.  Columns recommended (items in the bin), chance (their
    mean), came_next (the share that was the very next interaction), low, high (its 95 % interval, Wilson's).
    """
    from scipy.stats import binomtest  # half a second that a service would pay at its start

    chances = np.concatenate([np.empty(0, np.float32), *table["CHANCES"]]).astype(np.float64)
    came = np.concatenate(
        [np.asarray(shown) == item for shown, item in zip(table["RECOMMENDED"], table["NEXT"])]
    ).astype(bool)
    order = np.argsort(chances, kind="stable")
    rows = []
    for part in filter(len, np.array_split(order, bins)):
        interval = binomtest(int(came[part].sum()), len(part)).proportion_ci(method="wilson")
        rows.append([len(part), chances[part].mean(), came[part].mean(), interval.low, interval.high])
    return pd.DataFrame(rows, columns=["recommended", "chance", "came_next", "low", "high"])


def share_of_oracle(
    table: pd.DataFrame, oracle: pd.DataFrame, *, seed: int, metric: str = "textbook_ndcg_at_10"
) -> metrics.Interval:
    """How much of the best possible a version reaches, with its interval.  oracle: ``evaluate_oracle``'s table."""
    measured = _shared({"version": table, "oracle": oracle})
    return metrics.ratio_bootstrap(
        measured["version"][metric].to_numpy(), measured["oracle"][metric].to_numpy(), seed=seed
    )


def neighbour_agreement(vectors: np.ndarray, categories: Sequence[str]) -> tuple[float, float]:
    """How often an item's nearest neighbour by cosine shares its category, and how often any other item would.

    vectors: (I, D).  categories: (I,); items without one are left out.
    """
    from sklearn.neighbors import NearestNeighbors  # most of the time that importing this module would take

    kept = pd.Series(categories).notna().to_numpy()
    names = pd.factorize(pd.Series(categories)[kept].to_numpy())[0]
    near = NearestNeighbors(n_neighbors=1, metric="cosine").fit(vectors[kept])
    neighbour = near.kneighbors(return_distance=False)[:, 0]
    sizes = np.bincount(names)
    by_chance = (sizes * (sizes - 1)).sum() / (len(names) * (len(names) - 1))
    return float((names[neighbour] == names).mean()), float(by_chance)


def choose(tables: Mapping[str, pd.DataFrame], *, incumbent: str, seed: int, metric: str = NDCG) -> Choice:
    """The version to deploy: the one with the best mean if it is surely better than the incumbent, else the incumbent.

    Surely: the whole 95 % interval of the paired difference lies above 0.  incumbent: what is deployed now, or the
    simplest candidate.
    """
    compared = compare(tables, baseline=incumbent, seed=seed, names=[metric]).set_index("version")
    best = incumbent if compared["mean"].max() == compared.loc[incumbent, "mean"] else compared["mean"].idxmax()
    row = compared.loc[best]
    told = f"{metric} {row['mean']:.2f} on {row['users']} users"
    if best == incumbent:
        return Choice(incumbent, f"{incumbent} has the best {told}: deploy it, or keep it.")
    gain = (
        f"{row['difference']:+.2f} against {incumbent} (95 % interval {row['difference_low']:+.2f} to "
        f"{row['difference_high']:+.2f})"
    )
    if row["difference_low"] > 0:
        return Choice(best, f"{best} has the best {told}, {gain}: surely better, deploy it.")
    return Choice(incumbent, f"{best} has the best {told}, {gain}: that may be chance, keep {incumbent}.")


def _table(
    questions: Questions,
    answer: Callable[[slice, int], Ranked],
    item_ids: np.ndarray,
    split: Split,
    datasets: Datasets,
    objective: str | None,
) -> pd.DataFrame:
    """Ask in parts, so that memory does not grow with the users, and lay the table."""
    users, k = len(questions.requests), OBJECTIVE_K if objective else K
    step = max(1, SCORED_AT_ONCE // max(1, len(item_ids)))
    ranked = [answer(slice(start, start + step), k) for start in range(0, users, step)]
    items, chances = (np.concatenate(parts) for parts in zip(*((part.items, part.scores) for part in ranked)))
    relevant = pd.Index(item_ids).get_indexer(questions.item_ids)
    reachable = relevant >= 0
    found = metrics.hits(items, questions.rows[reachable], relevant[reachable])

    numbers = catalogue(datasets)
    knows = split.train.groupby("ITEM_ID", sort=False)["USER_ID"].nunique() / split.train["USER_ID"].nunique()
    popularity = knows.reindex(item_ids, fill_value=0.0).to_numpy(dtype=np.float32)
    places = items[:, :K] >= 0
    lengths = places.sum(axis=1)
    shown = items[:, :K][places]
    ranks = np.nonzero(found[:, :K])[1] + 1
    bounds = np.cumsum(np.bincount(questions.rows, minlength=users))[:-1]  # rows are in order
    columns = {
        "USER_ID": questions.user_ids,
        "NOW": np.array([request.now for request in questions.requests], dtype=np.int64),
        "HISTORY_LENGTH": questions.history_lengths.astype(np.int64),
        "COLD": questions.history_lengths < COLD_LENGTH,
        "RECOMMENDED": np.split(item_ids[shown].astype(object), np.cumsum(lengths)[:-1]),
        "RECOMMENDED_POPULARITY": np.split(popularity[shown], np.cumsum(lengths)[:-1]),
        "CHANCES": np.split(chances[:, :K][places].astype(np.float32), np.cumsum(lengths)[:-1]),
        "NEXT": questions.next_items.astype(object),
        "HIT_RANKS": np.split(ranks, np.cumsum(found[:, :K].sum(axis=1))[:-1]),
        "RELEVANT": np.split(questions.item_ids.astype(object), bounds),
        "RELEVANT_POPULARITY": np.split(
            knows.reindex(questions.item_ids, fill_value=0.0).to_numpy(dtype=np.float32), bounds
        ),
        "CATALOGUE_SIZE": np.full(users, len(numbers.item_ids)),
    }
    if questions.weights is not None:
        rewards = np.zeros(found.shape)
        for row, item, weight in zip(questions.rows[reachable], relevant[reachable], questions.weights[reachable]):
            rewards[row, items[row] == item] = weight
        columns["EVENT_WEIGHTED_NDCG"] = metrics.weighted_ndcg(rewards, K)
    if objective:
        worth = _worth(datasets, objective, item_ids)
        columns["REWARD_SHARE"] = metrics.average_rewards(found, np.where(items >= 0, worth[items], 0.0))
    return pd.DataFrame(columns)


def _shared(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """``user_metrics`` of each version, for the users that all versions were evaluated on, in one order."""
    measured = {version: user_metrics(table) for version, table in tables.items()}
    users = None
    for rows in measured.values():
        users = rows.index if users is None else users.intersection(rows.index)
    if users is None or not len(users):
        raise ValueError(f"the versions {', '.join(tables)} share no test user; train them on the same data and seed")
    return {version: rows.loc[users.sort_values()] for version, rows in measured.items()}


def _columns(interval: metrics.Interval, names: tuple[str, str, str]) -> dict[str, float]:
    return dict(zip(names, (interval.mean, interval.low, interval.high)))


def _lengths(lists: pd.Series) -> np.ndarray:
    return np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))


def _coverage(table: pd.DataFrame) -> float:
    shown = pd.unique(np.concatenate([np.empty(0, object), *table["RECOMMENDED"]]))
    return len(shown) / int(table["CATALOGUE_SIZE"].iloc[0])


def _mean_of_lists(column: pd.Series) -> float:
    flat = np.concatenate([np.empty(0, np.float32), *column])
    return float(flat.mean(dtype=np.float64)) if len(flat) else 0.0


def _shown_popularity(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """What ``metrics.novelty`` takes: (U, K) positions in the flat list of popularities, -1 for none, and that list."""
    lengths = _lengths(table["RECOMMENDED_POPULARITY"])
    places = np.full((len(table), int(lengths.max(initial=0))), -1)
    filled = np.arange(places.shape[1]) < lengths[:, None]
    places[filled] = np.arange(lengths.sum())
    return places, np.concatenate([np.empty(0, np.float32), *table["RECOMMENDED_POPULARITY"]])


def _without_repeats(questions: Questions, item_ids: np.ndarray) -> Questions:
    """Only what is new to a user is relevant; users without any are left out."""
    position = pd.Index(item_ids).get_indexer(questions.item_ids)
    width = len(item_ids) + 1
    known = np.concatenate([row * width + request.history.items for row, request in enumerate(questions.requests)])
    new = ~np.isin(questions.rows * width + position, known) | (position < 0)
    users, rows = np.unique(questions.rows[new], return_inverse=True)
    if not len(users):
        raise ValueError("no test user did anything new; evaluate with repeats")
    return Questions(
        questions.user_ids[users],
        [questions.requests[user] for user in users],
        questions.history_lengths[users],
        questions.next_items[users],
        rows,
        questions.item_ids[new],
        None if questions.weights is None else questions.weights[new],
    )


def _born(datasets: Datasets, item_ids: np.ndarray) -> np.ndarray | None:
    """(I,) int64 epoch seconds, since when each item exists: its CREATION_TIMESTAMP, or an earlier first interaction.

    None where the items have no such column.
    """
    if datasets.items is None or "CREATION_TIMESTAMP" not in datasets.items:
        return None
    created = datasets.items.set_index("ITEM_ID")["CREATION_TIMESTAMP"].reindex(item_ids).fillna(0)
    seen = datasets.interactions.groupby("ITEM_ID", sort=False)["TIMESTAMP"].min().reindex(item_ids)
    return np.minimum(created, seen.fillna(np.inf)).to_numpy(dtype=np.int64)


def _allowed(requests: Sequence[Request], born: np.ndarray | None, n_items: int, repeats: bool) -> np.ndarray | None:
    """(B, I) bool, the candidates of each request; None for all."""
    if born is None and repeats:
        return None
    allowed = np.ones((len(requests), n_items), dtype=bool)
    for row, request in zip(allowed, requests):
        if born is not None:
            np.less_equal(born, request.now, out=row)
        if not repeats:
            row[request.history.items] = False
    return allowed


def _worth(datasets: Datasets, objective: str, item_ids: np.ndarray) -> np.ndarray:
    """(I,) float64 of the objective's column, shifted to start at 0 where some are negative; 0 for items without it."""
    values = datasets.items.set_index("ITEM_ID")[objective].reindex(item_ids).to_numpy(dtype=np.float64)
    return np.nan_to_num(values - min(0.0, np.nanmin(values)))


def _rows_of(users: pd.DataFrame | None, user_ids: np.ndarray) -> list[dict[str, object]]:
    """Each user's row of Users, empty for a user without one."""
    if users is None:
        return [{} for _ in user_ids]
    rows = users[users["USER_ID"].isin(user_ids)]
    found = dict(zip(rows["USER_ID"], rows.to_dict("records")))
    return [found.get(user_id, {}) for user_id in user_ids]


def _facts(row: Mapping[str, object]) -> dict[str, object]:
    """Without what is missing."""
    return {name: value for name, value in row.items() if not pd.isna(value)}


def _context_columns(held_out: pd.DataFrame, datasets: Datasets) -> list[str]:
    """The columns of Interactions that a model learns from and a request may tell."""
    schema = datasets.schemas.get("INTERACTIONS")
    return [name for name, _ in features.kinds(held_out, schema)] if schema else []


def _last_items(known: pd.DataFrame, user_ids: np.ndarray, numbers: Catalogue) -> np.ndarray:
    """(U,) positions of the last item of each history, -1 where it is unknown or there is no history."""
    last = known.drop_duplicates("USER_ID", keep="last").set_index("USER_ID")["ITEM_ID"].reindex(user_ids)
    return pd.Index(numbers.item_ids).get_indexer(last)
