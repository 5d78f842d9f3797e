from dataclasses import replace

import pandas as pd
import pytest

from lib import training
from lib.data.datasets import Datasets
from lib.evaluation import evaluate, metric_names, solution_metrics
from lib.recipes import RECIPES
from lib.training import STEPS, train, update, validate, written
from tests.small_recipe import RECIPE, Killed, circle, killing, lines, saved

PARAMETERS = {"stride": 1, "rate": 0.5, "mask": True, "width": 8}


def test_a_version_is_a_folder_of_model_metrics_evaluation_and_log(tmp_path):
    metrics = train(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "evaluation.parquet",
        "metrics.json",
        "model",
        "training_log.jsonl",
    ]
    assert metrics == training.metrics_of(tmp_path)
    assert metrics == solution_metrics(pd.read_parquet(tmp_path / "evaluation.parquet"))


def test_metrics_bear_personalize_names_in_its_order_and_four_decimals(tmp_path):
    metrics = train(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path)
    assert list(metrics) == [
        "coverage",
        "mean_reciprocal_rank_at_25",
        *(f"normalized_discounted_cumulative_gain_at_{k}" for k in (5, 10, 25)),
        *(f"precision_at_{k}" for k in (5, 10, 25)),
    ]
    assert tuple(metrics) == metric_names(RECIPE.recipe_type)
    assert all(value == round(value, 4) for value in metrics.values())


def test_the_model_that_steps_right_is_measured_far_better(tmp_path):
    right = train(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path / "right")
    wrong = train(RECIPE, circle(), {**PARAMETERS, "stride": 6}, seed=1, folder=tmp_path / "wrong")
    assert right["mean_reciprocal_rank_at_25"] > wrong["mean_reciprocal_rank_at_25"] + 0.3


def test_the_served_model_goes_on_from_the_split_model_and_knows_all_items(tmp_path):
    data = circle()
    rare = pd.DataFrame({"USER_ID": ["once"], "ITEM_ID": ["new"], "TIMESTAMP": [10**6]})
    data = Datasets(interactions=pd.concat([data.interactions, rare], ignore_index=True))
    train(RECIPE, data, PARAMETERS, seed=1, folder=tmp_path)
    model = RECIPE.load(tmp_path / "model")
    assert model.fits == 2
    assert "new" in model.catalogue.item_ids


def test_progress_counts_up_once_to_the_end(tmp_path):
    heard = []
    train(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path, progress=heard.append)
    steps = [step.step for step in heard]
    assert steps == sorted(steps) and steps[-1] == STEPS and {step.steps for step in heard} == {STEPS}


def test_the_log_keeps_each_phase_s_own_steps_and_measures(tmp_path):
    train(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path)
    log = training.training_log(tmp_path)
    assert log["phase"].tolist() == ["split"] * 4 + ["evaluation"] + ["served"] * 4
    assert log[log["phase"] == "split"]["loss"].tolist() == [1, 1 / 2, 1 / 3, 1 / 4]


@pytest.mark.parametrize("after", range(1, 10))
def test_a_training_killed_anywhere_ends_with_the_same_bytes(tmp_path, after):
    train(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path / "whole")
    with pytest.raises(Killed):
        train(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path / "killed", progress=killing(after))
    train(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path / "killed")
    assert saved(tmp_path / "killed") == saved(tmp_path / "whole")


def test_a_finished_phase_is_not_trained_again(tmp_path):
    with pytest.raises(Killed):
        train(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path, progress=killing(6))
    heard = []
    train(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path, progress=heard.append)
    assert len(heard) == 4
    train(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path, progress=heard.append)
    assert len(heard) == 4


def test_a_log_line_cut_by_a_kill_is_written_again(tmp_path):
    with pytest.raises(Killed):
        train(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path, progress=killing(6))
    with (tmp_path / "training_log.jsonl").open("a") as log:
        log.write('{"phase": "served", "st')
    train(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path)
    assert [line["phase"] for line in lines(tmp_path / "training_log.jsonl")][5:] == ["served"] * 4


def test_an_update_keeps_the_metrics_of_its_full_training_and_goes_on_from_the_served_model(tmp_path):
    data = circle()
    full = train(RECIPE, data, PARAMETERS, seed=1, folder=tmp_path / "full")
    later = pd.DataFrame({"USER_ID": ["late"] * 2, "ITEM_ID": ["new", "i01"], "TIMESTAMP": [10**6, 10**6 + 1]})
    data = replace(data, interactions=pd.concat([data.interactions, later], ignore_index=True))
    heard = []
    folders = {"folder": tmp_path / "update", "previous": tmp_path / "full"}
    assert update(RECIPE, data, PARAMETERS, seed=1, progress=heard.append, **folders) == full
    model = RECIPE.load(tmp_path / "update" / "model")
    assert model.fits == 3 and "new" in model.catalogue.item_ids
    assert [step.step for step in heard] == [250, 500, 750, 1000]


def test_a_recipe_without_updates_refuses_one(tmp_path):
    with pytest.raises(ValueError, match="aws-popularity-count has no UPDATE"):
        update(
            RECIPES["aws-popularity-count"], circle(), {}, seed=1, folder=tmp_path / "new", previous=tmp_path / "old"
        )


def test_a_recipe_that_lists_no_items_cannot_be_measured_yet(tmp_path):
    recipe = replace(RECIPE, recipe_type="MARKET_SEGMENTATION")
    with pytest.raises(ValueError, match="next is of type MARKET_SEGMENTATION; only USER_PERSONALIZATION"):
        train(recipe, circle(), PARAMETERS, seed=1, folder=tmp_path)


def test_an_evaluation_does_not_see_the_test_users(tmp_path):
    seen = []

    def fit(datasets, parameters, **rest):
        seen.append(set(datasets.interactions["USER_ID"]))
        return RECIPE.fit(datasets, parameters, **rest)

    train(replace(RECIPE, fit=fit), circle(), PARAMETERS, seed=1, folder=tmp_path)
    tested = set(pd.read_parquet(tmp_path / "evaluation.parquet")["USER_ID"])
    assert len(tested) == 6 and not tested & seen[0] and tested <= seen[1]


def test_what_a_recipe_is_chosen_by_is_measured_on_other_users_than_it_is_reported_by(tmp_path):
    seen = []

    def fit(datasets, parameters, **rest):
        seen.append(set(datasets.interactions["USER_ID"]))
        return RECIPE.fit(datasets, parameters, **rest)

    validate(replace(RECIPE, fit=fit), circle(), PARAMETERS, seed=1, folder=tmp_path / "choice")
    train(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path / "final")
    validated, tested = (
        set(pd.read_parquet(tmp_path / name / "evaluation.parquet")["USER_ID"]) for name in ("choice", "final")
    )
    assert len(seen) == 1 and validated and not validated & tested
    assert not (validated | tested) & seen[0]
    assert sorted(path.name for path in (tmp_path / "choice").iterdir()) == [
        "evaluation.parquet",
        "metrics.json",
        "training_log.jsonl",
    ]


@pytest.mark.parametrize("after", range(1, 6))
def test_a_validation_killed_anywhere_ends_with_the_same_bytes(tmp_path, after):
    validate(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path / "whole")
    with pytest.raises(Killed):
        validate(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path / "killed", progress=killing(after))
    validate(RECIPE, circle(), PARAMETERS, seed=1, folder=tmp_path / "killed")
    assert saved(tmp_path / "killed") == saved(tmp_path / "whole")


def test_an_aborted_write_leaves_nothing_behind(tmp_path):
    with pytest.raises(Killed), written(tmp_path / "model") as aside:
        aside.mkdir()
        (aside / "half").write_text("")
        raise Killed
    assert list(tmp_path.iterdir()) == []


def test_event_weights_and_an_objective_bring_their_metrics(tmp_path):
    data = circle()
    kinds = ["click", "purchase"] * (len(data.interactions) // 2)
    prices = pd.DataFrame({"ITEM_ID": [f"i{n:02}" for n in range(12)], "PRICE": range(12)})
    data = replace(data, interactions=data.interactions.assign(EVENT_TYPE=kinds), items=prices)
    weights = {"Click": 0.1, "purchase": 0.3}
    metrics = train(RECIPE, data, PARAMETERS, seed=1, folder=tmp_path, event_weights=weights, objective="PRICE")
    assert 0 < metrics["normalized_discounted_cumulative_gain_with_event_weights_at_k"] <= 1
    assert 0 < metrics["average_rewards_at_k"] <= 1
    assert tuple(metrics) == metric_names(RECIPE.recipe_type, weighted=True, rewarded=True)


def test_evaluation_in_training_is_evaluation_outside(tmp_path):
    from lib.data.splits import split_users

    data = circle()
    metrics = train(RECIPE, data, PARAMETERS, seed=3, folder=tmp_path)
    split = split_users(data.interactions, seed=3)
    model = RECIPE.fit(Datasets(interactions=split.train), PARAMETERS, seed=3, progress=lambda step: None)
    assert solution_metrics(evaluate(model, split, data, RECIPE.recipe_type)) == metrics
