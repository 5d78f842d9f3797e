import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

from lib import tuning
from lib.data.splits import split_users
from lib.recipes import RECIPES
from lib.tuning import Range, search_space, tune
from tests.small_recipe import RECIPE, Killed, circle, killing

FIXED = {"stride": 4, "rate": 0.5, "mask": True, "width": 8}
STRIDES = {
    "integerHyperParameterRanges": [{"name": "stride", "minValue": 1, "maxValue": 6}],
    "continuousHyperParameterRanges": [],
    "categoricalHyperParameterRanges": [],
}


def search(storage, *, max_jobs=6, ranges=STRIDES, recipe=RECIPE, **rest):
    settings = {"parallel_jobs": 1, "seed": 3, **rest}
    return tune(recipe, circle(), FIXED, ranges, max_jobs=max_jobs, storage=storage, **settings)


def test_ranges_are_read_as_the_wire_gives_them():
    ranges = {
        "integerHyperParameterRanges": [{"name": "training.stride", "minValue": 2, "maxValue": 5}],
        "continuousHyperParameterRanges": [{"name": "rate", "minValue": 0.25, "maxValue": 0.75}],
        "categoricalHyperParameterRanges": [{"name": "mask", "values": ["true", "false"]}],
    }
    assert search_space(RECIPE, ranges) == {
        "stride": Range(2, 5),
        "rate": Range(0.25, 0.75),
        "mask": Range(choices=(True, False)),
    }


@pytest.mark.parametrize("ranges", [None, {member: [] for member in tuning.KINDS}])
def test_without_ranges_all_that_may_be_tuned_is(ranges):
    space = search_space(RECIPE, ranges)
    assert space == {"stride": Range(1, 20), "rate": Range(0.0, 1.0), "mask": Range(choices=(True, False))}
    assert isinstance(space["rate"].low, float)


@pytest.mark.parametrize(
    ("member", "entry", "message"),
    [
        (
            "integer",
            {"name": "width", "minValue": 1, "maxValue": 2},
            "'width' cannot be tuned, only stride, rate, mask",
        ),
        ("integer", {"name": "stride", "minValue": 5, "maxValue": 2}, "minValue 5 lies above maxValue 2"),
        ("integer", {"name": "stride", "minValue": 0, "maxValue": 2}, r"stride is 0, outside \[1, 20\]"),
        ("integer", {"name": "rate", "minValue": 0, "maxValue": 1}, "give its range in continuousHyperParameterRanges"),
        ("continuous", {"name": "rate", "minValue": 0, "maxValue": 1.5}, r"rate is 1.5, outside \[0, 1\]"),
        ("categorical", {"name": "mask", "values": ["maybe"]}, "mask is 'maybe', expected true or false"),
        ("categorical", {"name": "mask", "values": []}, "mask has no values"),
        ("real", {}, "'realHyperParameterRanges' is not one of"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_with_what_would(member, entry, message):
    with pytest.raises(ValueError, match=message):
        search_space(RECIPE, {f"{member}HyperParameterRanges": [entry]})


def test_a_recipe_without_tunable_hyperparameters_says_so():
    with pytest.raises(ValueError, match="aws-popularity-count has no hyperparameter to tune"):
        search_space(RECIPES["aws-popularity-count"], None)


def test_the_search_starts_with_what_was_given_and_finds_better(tmp_path):
    found = search(tmp_path, max_jobs=12)
    assert found.trials["stride"][0] == 4
    assert found.parameters == {**FIXED, "stride": 1}
    assert found.trials["value"].max() > found.trials["value"][0] + 0.2


def test_the_best_trial_wins_wherever_it_stands(tmp_path):
    ranges = {"integerHyperParameterRanges": [{"name": "stride", "minValue": 4, "maxValue": 9}]}
    found = search(tmp_path, ranges=ranges)
    best = found.trials["value"].idxmax()
    assert found.parameters["stride"] == found.trials["stride"][best]
    assert found.trials["stride"].nunique() > 2 and best < 5


def test_a_start_outside_its_range_begins_at_the_nearest_end(tmp_path):
    ranges = {"integerHyperParameterRanges": [{"name": "stride", "minValue": 6, "maxValue": 9}]}
    assert search(tmp_path, max_jobs=1, ranges=ranges).trials["stride"].tolist() == [6]


def test_the_same_seed_gives_the_same_trials(tmp_path):
    first, again, other = (
        search(tmp_path / name, seed=seed, ranges=None, max_jobs=12).trials
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    pd.testing.assert_frame_equal(first, again)
    assert first["rate"].nunique() == 12
    assert first["stride"].tolist() != other["stride"].tolist()
    assert len({(tmp_path / name / "trials.parquet").read_bytes() for name in ("first", "again")}) == 1


@pytest.mark.parametrize("after", [1, 3, 5, 10, 24])
def test_a_search_killed_anywhere_goes_on_to_the_same_end(tmp_path, after):
    whole = search(tmp_path / "whole")
    with pytest.raises(Killed):
        search(tmp_path / "killed", progress=killing(after))
    found = search(tmp_path / "killed")
    pd.testing.assert_frame_equal(found.trials, whole.trials)
    assert found.parameters == whole.parameters


def test_finished_trials_are_not_repeated_and_count(tmp_path):
    search(tmp_path, max_jobs=4)
    heard = []
    found = search(tmp_path, max_jobs=6, progress=heard.append)
    assert len(found.trials) == 6
    assert heard[0].step > 4 * 1000 and heard[-1].step == heard[-1].steps == 6000
    assert len(search(tmp_path, max_jobs=5).trials) == 6


def test_a_longer_search_begins_with_the_shorter_one(tmp_path):
    short = search(tmp_path / "short", max_jobs=4).trials
    long = search(tmp_path / "long", max_jobs=6).trials
    pd.testing.assert_frame_equal(long[:4], short)


def test_a_journal_cut_by_a_power_failure_is_mended(tmp_path):
    whole = search(tmp_path).trials
    with (tmp_path / "study.journal").open("ab") as journal:
        journal.write(b'{"op_code":4,"wor')
    pd.testing.assert_frame_equal(search(tmp_path).trials, whole)


def test_hopeless_trials_are_pruned_and_never_chosen(tmp_path):
    found = search(tmp_path, max_jobs=14)
    assert set(found.trials["state"]) == {"COMPLETE", "PRUNED"}
    pruned = found.trials[found.trials["state"] == "PRUNED"]
    assert (pruned["steps"] < 4).all() and pruned["value"].isna().all()
    assert found.parameters["stride"] not in pruned["stride"].tolist()


def test_parameters_that_fail_are_told_and_the_search_goes_on(tmp_path):
    ranges = {"integerHyperParameterRanges": [{"name": "stride", "minValue": 13, "maxValue": 14}]}
    found = search(tmp_path, ranges=ranges)
    failed = found.trials[found.trials["stride"] == 13]
    assert (failed["error"] == "13 brings bad luck").all() and (failed["state"] == "FAIL").all()
    assert found.parameters["stride"] == 14


def test_a_search_where_every_trial_fails_says_why(tmp_path):
    ranges = {"integerHyperParameterRanges": [{"name": "stride", "minValue": 13, "maxValue": 13}]}
    with pytest.raises(ValueError, match="none of 2 trials came to an end; the last one said: 13 brings bad luck"):
        search(tmp_path, ranges=ranges, max_jobs=2)


def test_trials_never_see_the_users_of_the_final_evaluation(tmp_path):
    seen = set()

    def fit(datasets, parameters, **rest):
        seen.update(datasets.interactions["USER_ID"])
        return RECIPE.fit(datasets, parameters, **rest)

    search(tmp_path, recipe=replace(RECIPE, fit=fit), max_jobs=2)
    tested = set(split_users(circle().interactions, seed=3).held_out["USER_ID"])
    assert seen and not seen & tested


def test_the_hyperparameter_that_matters_is_named_first(tmp_path):
    search(tmp_path, max_jobs=16, ranges={**STRIDES, "continuousHyperParameterRanges": [{"name": "rate"}]})
    importances = tuning.importances(tuning.load(tmp_path), seed=0)
    assert next(iter(importances)) == "stride" and importances["stride"] > 0.6
    assert sum(importances.values()) == pytest.approx(1)


def test_importances_of_one_trial_are_none(tmp_path):
    search(tmp_path, max_jobs=1)
    assert tuning.importances(tuning.load(tmp_path), seed=0) == {}


def test_looking_at_a_study_changes_nothing(tmp_path):
    search(tmp_path, max_jobs=3)
    shutil.copytree(tmp_path, tmp_path / "copy")
    table = tuning.trials(tuning.load(tmp_path / "copy"))
    assert len(table) == 3 and len(os.listdir(tmp_path / "copy")) == 2
    assert (tmp_path / "copy" / "study.journal").read_bytes() == (tmp_path / "study.journal").read_bytes()


def test_a_folder_without_a_study_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="tune first"):
        tuning.load(tmp_path)


def test_trials_in_processes_of_their_own_give_the_same_values(tmp_path):
    found = search(tmp_path, max_jobs=2, parallel_jobs=2)
    alone = search(tmp_path / "alone", max_jobs=1)
    assert len(found.trials) == 2 and (found.trials["state"] == "COMPLETE").all()
    assert found.trials["value"][0] == alone.trials["value"][0]


def orphaned(datasets, parameters, **rest):
    """A training that outlives who asked for it."""
    signal.alarm(300)
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


def test_trials_in_processes_of_their_own_end_when_the_search_is_killed(tmp_path):
    code = "\n".join(
        [
            "import dataclasses, pathlib, sys",
            "from tests.test_tuning import RECIPE, orphaned, search",
            "recipe = dataclasses.replace(RECIPE, fit=orphaned)",
            "search(pathlib.Path(sys.argv[1]), max_jobs=2, parallel_jobs=2, recipe=recipe)",
        ]
    )
    # what it prints has an end only when all of its processes have
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, timeout=300)
    assert ended.returncode == -signal.SIGKILL
