from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib import evaluation
from lib.data.datasets import Catalogue, Datasets, catalogue
from lib.data.schema import Field, Schema
from lib.data.splits import Split, split_time, split_users
from lib.evaluation import ask, choose, compare, evaluate, evaluate_later, evaluate_oracle, user_metrics
from tests.small_recipe import RECIPE, circle

PARAMETERS = {"stride": 1, "rate": 0.5, "mask": True, "width": 8}


def rows(*triples):
    return pd.DataFrame(triples, columns=["USER_ID", "ITEM_ID", "TIMESTAMP"])


TRAIN = rows(("x", "a", 1), ("y", "a", 2), ("y", "b", 3), ("z", "a", 4), ("z", "c", 5))
KNOWN = rows(("u", "a", 10), ("u", "c", 20), ("v", "b", 15))
HELD_OUT = rows(("u", "b", 30), ("v", "a", 40), ("u", "d", 50), ("u", "b", 60))
SPLIT = Split(TRAIN, KNOWN, HELD_OUT)
DATA = Datasets(interactions=pd.concat([TRAIN, KNOWN, HELD_OUT], ignore_index=True))


class Liking:
    """A model that likes a, then b, then c, and tells what it was asked."""

    catalogue = Catalogue(np.array(["a", "b", "c"]), np.array([""]))

    def __init__(self):
        self.requests = []

    def scores(self, requests):
        self.requests += requests
        return np.tile(np.float32([3, 2, 1]), (len(requests), 1))


def evaluated(model=None, split=SPLIT, data=DATA, recipe_type="USER_PERSONALIZATION", **options):
    return evaluate(model or Liking(), split, data, recipe_type, **options)


def test_an_evaluation_worked_by_hand():
    table = evaluated().set_index("USER_ID")
    assert [list(items) for items in table["RECOMMENDED"]] == [["a", "b", "c"]] * 2
    assert [list(items) for items in table["RELEVANT"]] == [["b", "d"], ["a"]]
    assert [list(ranks) for ranks in table["HIT_RANKS"]] == [[2], [1]]
    assert table["NOW"].to_dict() == {"u": 30, "v": 40}
    assert table["HISTORY_LENGTH"].to_dict() == {"u": 2, "v": 1} and table["COLD"].all()
    np.testing.assert_allclose(table["RECOMMENDED_POPULARITY"]["u"], [1, 1 / 3, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(table["RELEVANT_POPULARITY"]["u"], [1 / 3, 0], rtol=1e-6)
    assert table["CATALOGUE_SIZE"].tolist() == [4, 4]
    np.testing.assert_allclose(table["CHANCES"]["u"], np.exp([3, 2, 1]) / np.exp([3, 2, 1]).sum(), rtol=1e-6)
    assert table["NEXT"].to_dict() == {"u": "b", "v": "a"}


def test_metrics_of_that_evaluation():
    found = evaluation.solution_metrics(evaluated())
    assert found["coverage"] == 0.75
    assert found["mean_reciprocal_rank_at_25"] == 0.75
    assert found["normalized_discounted_cumulative_gain_at_5"] == round((1 / np.log2(3) + 1) / 2, 4)
    assert found["precision_at_5"] == 0.2
    own = user_metrics(evaluated())
    np.testing.assert_allclose(own["textbook_ndcg_at_5"]["u"], (1 / np.log2(3)) / (1 + 1 / np.log2(3)))
    assert own["recall_at_25"].tolist() == [0.5, 1]


def test_a_request_knows_what_a_live_one_would_and_no_more():
    users = pd.DataFrame({"USER_ID": ["u", "v"], "GENDER": ["f", None]})
    held_out = HELD_OUT.assign(DEVICE=["phone", "tv", "desk", "desk"], DEGREES=[21.5, None, 3.0, 3.0])
    held_out = held_out.assign(EVENT_VALUE=5.0, NOTE="late")
    schema = Schema(
        name="Interactions",
        fields=(
            Field(name="USER_ID", type="string"),
            Field(name="DEVICE", type="string", categorical=True),
            Field(name="DEGREES", type="float", nullable=True),
            Field(name="EVENT_VALUE", type="float"),
            Field(name="NOTE", type="string"),
        ),
    )
    model = Liking()
    evaluated(model, replace_held_out(held_out), replace(DATA, users=users, schemas={"INTERACTIONS": schema}))
    of_u, of_v = model.requests
    assert (of_u.now, of_u.item, dict(of_u.user)) == (30, -1, {"USER_ID": "u", "GENDER": "f"})
    assert (of_u.history.items.tolist(), of_u.history.times.tolist()) == ([0, 2], [10, 20])
    assert dict(of_u.context) == {"DEVICE": "phone", "DEGREES": "21.5"}
    assert dict(of_v.user) == {"USER_ID": "v"} and dict(of_v.context) == {"DEVICE": "tv"}


def replace_held_out(held_out):
    return Split(SPLIT.train, SPLIT.known, held_out)


def test_related_items_are_asked_for_the_last_item_which_is_not_in_its_own_list():
    table = evaluated(recipe_type="RELATED_ITEMS").set_index("USER_ID")
    assert [list(items) for items in table["RECOMMENDED"]] == [["a", "b"], ["a", "c"]]


def test_a_last_item_the_model_does_not_know_is_asked_for_as_unknown():
    known = pd.concat([KNOWN, rows(("v", "e", 25))], ignore_index=True)
    requests = ask(Split(TRAIN, known, HELD_OUT), DATA, Liking.catalogue, "RELATED_ITEMS").requests
    assert [request.item for request in requests] == [2, -1]


def test_without_repeats_only_what_is_new_counts():
    table = evaluated(repeats=False).set_index("USER_ID")
    assert [list(items) for items in table["RECOMMENDED"]] == [["b"], ["a", "c"]]
    held_out = pd.concat([HELD_OUT, rows(("v", "b", 70))], ignore_index=True)
    table = evaluated(split=replace_held_out(held_out), repeats=False).set_index("USER_ID")
    assert [list(items) for items in table["RELEVANT"]] == [["b", "d"], ["a"]]


def test_users_who_did_nothing_new_are_left_out_without_repeats():
    held_out = rows(("u", "a", 30), ("v", "a", 40))
    assert evaluated(split=replace_held_out(held_out), repeats=False)["USER_ID"].tolist() == ["v"]
    with pytest.raises(ValueError, match="no test user did anything new"):
        evaluated(split=replace_held_out(rows(("u", "a", 30))), repeats=False)


def test_an_item_that_does_not_exist_yet_is_no_candidate():
    items = pd.DataFrame({"ITEM_ID": ["a", "b", "c", "d"], "CREATION_TIMESTAMP": [35, 30, 0, 0]})
    later = DATA.interactions[DATA.interactions["ITEM_ID"] != "a"]
    table = evaluated(data=Datasets(interactions=later, items=items)).set_index("USER_ID")
    assert [list(shown) for shown in table["RECOMMENDED"]] == [["b", "c"], ["a", "b", "c"]]


def test_an_item_somebody_met_before_its_creation_time_exists_from_then_on():
    items = pd.DataFrame({"ITEM_ID": ["a", "b", "c", "d"], "CREATION_TIMESTAMP": [10**9] * 4})
    table = evaluated(data=replace(DATA, items=items)).set_index("USER_ID")
    assert [list(shown) for shown in table["RECOMMENDED"]] == [["a", "b", "c"]] * 2


def test_event_weights_make_a_hit_count_by_its_best_event():
    held_out = HELD_OUT.assign(EVENT_TYPE=["Click", "click", "click", "purchase"])
    table = evaluated(split=replace_held_out(held_out), event_weights={"click": 0.1, "Purchase": 0.3})
    assert table["EVENT_WEIGHTED_NDCG"].tolist() == pytest.approx([1 / np.log2(3), 1])
    questions = ask(
        replace_held_out(held_out), DATA, Liking.catalogue, "", event_weights={"click": 0.1, "purchase": 0.3}
    )
    np.testing.assert_allclose(questions.weights, [1.5, 0.5, 0.5])


def test_an_evaluation_in_parts_is_the_same(monkeypatch):
    data = circle()
    split = split_users(data.interactions, seed=0)
    model = RECIPE.fit(Datasets(interactions=split.train), PARAMETERS, seed=0, progress=lambda step: None)
    whole = evaluate(model, split, data, RECIPE.recipe_type)
    monkeypatch.setattr(evaluation, "SCORED_AT_ONCE", 30)
    pd.testing.assert_frame_equal(evaluate(model, split, data, RECIPE.recipe_type), whole)


def test_the_table_is_the_same_after_a_round_trip_through_parquet(tmp_path):
    table = evaluated()
    table.to_parquet(tmp_path / "evaluation.parquet")
    read = pd.read_parquet(tmp_path / "evaluation.parquet")
    pd.testing.assert_frame_equal(user_metrics(read), user_metrics(table))
    pd.testing.assert_frame_equal(evaluation.popularity_slices(read), evaluation.popularity_slices(table))


def test_chances_are_set_beside_what_came_next():
    table = pd.DataFrame(
        {
            "RECOMMENDED": [["a", "b"], ["a", "c"], ["b", "a"], ["c"]],
            "CHANCES": [np.float32([0.5, 0.25]), np.float32([0.5, 0.25]), np.float32([0.5, 0.25]), np.float32([0.5])],
            "NEXT": ["a", "c", "b", "x"],
        }
    )
    believed = evaluation.reliability(table, bins=2)
    assert believed["recommended"].tolist() == [4, 3]  # the least likely half holds the odd one
    np.testing.assert_allclose(believed["chance"], [(3 * 0.25 + 0.5) / 4, 0.5])
    np.testing.assert_allclose(believed["came_next"], [2 / 4, 1 / 3])
    assert (believed["low"] < believed["came_next"]).all() and (believed["came_next"] < believed["high"]).all()


def test_a_temporal_hold_out_knows_nothing_of_the_future():
    seen = []

    def fit(datasets, parameters, **rest):
        seen.append(datasets.interactions["TIMESTAMP"].max())
        return RECIPE.fit(datasets, parameters, **rest)

    table = evaluate_later(replace(RECIPE, fit=fit), circle(), PARAMETERS, at=6000, seed=0, progress=lambda step: None)
    assert seen == [5990]
    assert (table["NOW"] >= 6000).all() and table["HISTORY_LENGTH"].min() == 0


def table_of(hits, users=None, recommended=None):
    """An evaluation of lists of 25 with one relevant item each, at the given ranks, 0 for none."""
    users = [f"u{n:03}" for n in range(len(hits))] if users is None else users
    return pd.DataFrame(
        {
            "USER_ID": users,
            "NOW": 0,
            "HISTORY_LENGTH": [n % 40 for n in range(len(hits))],
            "COLD": [n % 40 < 5 for n in range(len(hits))],
            "RECOMMENDED": recommended or [[f"i{n}" for n in range(25)]] * len(hits),
            "RECOMMENDED_POPULARITY": [[0.5] * 25] * len(hits),
            "HIT_RANKS": [[rank] if rank else [] for rank in hits],
            "RELEVANT": [[f"i{rank - 1}" if rank else "no"] for rank in hits],
            "RELEVANT_POPULARITY": [[0.25]] * len(hits),
            "CATALOGUE_SIZE": 50,
        }
    )


def test_versions_are_compared_on_the_users_they_share():
    tables = {"old": table_of([1, 2, 0, 4]), "new": table_of([1, 1, 1], users=["u003", "u002", "u001"])}
    compared = compare(tables, baseline="old", seed=0, names=["mean_reciprocal_rank_at_25"]).set_index("version")
    assert compared["users"].tolist() == [3, 3]
    assert compared["mean"].to_dict() == {"old": 0.25, "new": 1.0}
    assert compared.loc["new", "difference"] == 0.75
    assert compared.loc["old", ["difference", "difference_low", "difference_high"]].tolist() == [0, 0, 0]


def test_intervals_hold_their_mean_and_shrink_with_users():
    few, many = table_of([1, 0] * 10), table_of([1, 0] * 500)
    widths = []
    for table in (few, many):
        row = compare({"v": table}, baseline="v", seed=0, names=["precision_at_5"]).iloc[0]
        assert row["low"] < row["mean"] < row["high"]
        widths.append(row["high"] - row["low"])
    assert widths[1] < widths[0] / 4


def test_coverage_is_in_the_comparison_without_an_interval():
    row = compare({"v": table_of([1, 0])}, baseline="v", seed=0).set_index("metric").loc["coverage"]
    assert row["mean"] == 0.5 and np.isnan(row["low"])


def test_versions_without_a_common_user_are_not_compared():
    with pytest.raises(ValueError, match="share no test user"):
        compare({"a": table_of([1], users=["x"]), "b": table_of([1], users=["y"])}, baseline="a", seed=0)
    with pytest.raises(ValueError, match="baseline 'c' is not one of the versions a"):
        compare({"a": table_of([1])}, baseline="c", seed=0)


def test_the_version_to_deploy_is_surely_better_or_stays():
    old, better, lucky = table_of([3] * 100), table_of([1] * 90 + [0] * 10), table_of([3] * 99 + [2])
    metric = "mean_reciprocal_rank_at_25"
    chosen = choose({"old": old, "better": better}, incumbent="old", seed=0, metric=metric)
    assert chosen.version == "better" and "surely better, deploy it" in chosen.reason
    kept = choose({"old": old, "lucky": lucky}, incumbent="old", seed=0, metric=metric)
    assert kept.version == "old" and "may be chance" in kept.reason
    assert choose({"old": old, "same": old}, incumbent="old", seed=0).reason.endswith("keep it.")


def test_slices_part_the_users():
    parts = evaluation.slices(table_of([1] * 5 + [0] * 75), seed=0, metric="recall_at_25").set_index("slice")
    assert parts["users"].to_dict() == {
        "all users": 80,
        "cold (under 5)": 10,
        "known": 70,
        "history 0": 2,
        "history 1 to 4": 8,
        "history 5 to 19": 30,
        "history 20 to 99": 40,
    }
    assert parts.loc["cold (under 5)", "mean"] == 0.5 and parts.loc["known", "mean"] == 0


def test_slices_show_the_metric_by_which_versions_are_chosen():
    table = table_of([1, 0, 2, 0, 1, 0, 3] * 10)
    table["RELEVANT"] = [[*items, "missed"] for items in table["RELEVANT"]]
    everybody = evaluation.slices(table, seed=0).set_index("slice").loc["all users", "mean"]
    assert everybody == pytest.approx(user_metrics(table)[evaluation.NDCG].mean())
    assert everybody != pytest.approx(user_metrics(table)["textbook_ndcg_at_25"].mean())


def test_popularity_slices_say_which_items_are_found():
    table = table_of([1, 0, 2, 0, 1, 0, 3])
    table["RELEVANT_POPULARITY"] = [[share] for share in (0.1, 0.1, 0.2, 0.2, 0.5, 0.9, 0.0)]
    parts = evaluation.popularity_slices(table).set_index("slice")
    assert parts["relevant"].to_dict() == {"new": 1, "rare": 2, "middling": 2, "popular": 2}
    assert parts["found"].tolist() == [1, 1, 1, 1]


def test_popularity_bias_compares_what_is_shown_with_what_is_chosen():
    bias = evaluation.popularity_bias({"v": table_of([1, 0])}).loc["v"]
    assert bias.to_dict() == {
        "recommended_popularity": 0.5,
        "relevant_popularity": 0.25,
        "lift": 2,
        "novelty": 1,
        "coverage": 0.5,
    }


def test_the_oracle_is_asked_the_same_and_its_share_is_told():
    data = circle()
    split = split_users(data.interactions, seed=0)
    asked = []

    def oracle(user_ids, now, item_ids, previous, devices):
        asked.append((user_ids.tolist(), now.tolist()))
        assert [len(items) for items in previous] == [11] * len(user_ids) and devices == [None] * len(user_ids)
        truth = split.held_out.groupby("USER_ID")["ITEM_ID"].agg(set)
        return np.array([[item in truth[user] for item in item_ids] for user in user_ids], dtype=float)

    best = evaluate_oracle(oracle, split, data, RECIPE.recipe_type)
    wrong = {**PARAMETERS, "stride": 3}
    model = RECIPE.fit(Datasets(interactions=split.train), wrong, seed=0, progress=lambda step: None)
    table = evaluate(model, split, data, RECIPE.recipe_type)
    assert asked == [(table["USER_ID"].tolist(), table["NOW"].tolist())]
    assert user_metrics(best)["textbook_ndcg_at_10"].tolist() == [1] * len(best)
    share = evaluation.share_of_oracle(table, best, seed=0)
    assert share.low < share.mean < 1
    assert share.mean == pytest.approx(user_metrics(table)["textbook_ndcg_at_10"].mean())


def test_popularity_counts_users_of_the_training_part():
    data = circle()
    split = split_time(data.interactions, at=6000)
    model = RECIPE.fit(Datasets(interactions=split.train), PARAMETERS, seed=0, progress=lambda step: None)
    table = evaluate(model, split, data, RECIPE.recipe_type)
    knows = split.train.drop_duplicates(["USER_ID", "ITEM_ID"])["ITEM_ID"].value_counts()
    shown = table["RECOMMENDED"][0]
    expected = knows[list(shown)].to_numpy() / split.train["USER_ID"].nunique()
    np.testing.assert_allclose(table["RECOMMENDED_POPULARITY"][0], expected, rtol=1e-6)
    assert table["CATALOGUE_SIZE"][0] == len(catalogue(data).item_ids)
