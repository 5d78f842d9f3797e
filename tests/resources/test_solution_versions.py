"""Solution versions: trained by a job, stopped, measured."""

import copy
from dataclasses import replace

import pandas as pd
import pytest

from lib import jobs
from lib.recipes import RECIPES, objective
from lib.recipes.recipe import HyperParameter
from lib.resources import solution_versions
from lib.resources.errors import InvalidInputException, ResourceInUseException
from tests.resources.workflow import INTERACTIONS, ITEMS, RECIPE, Personalize, interactions


def reason(personalize, version):
    return personalize.describe_solution_version(solution_version_arn=version)["solutionVersion"].failure_reason


def test_a_version_is_trained_and_measured(personalize):
    solution, arn = personalize.trained()
    version = personalize.describe_solution_version(solution_version_arn=arn)["solutionVersion"]
    assert (version.status, version.training_mode, version.training_type) == ("ACTIVE", "FULL", "MANUAL")
    assert version.name == "/".join(arn.split("/")[-2:])
    metrics = personalize.get_solution_metrics(solution_version_arn=arn)["metrics"]
    assert 0 < metrics["precision_at_5"] <= 1
    assert (solution_versions.version_folder(personalize.account, arn) / "model").is_dir()
    latest = personalize.describe_solution(solution_arn=solution)["solution"].latest_solution_version
    assert latest.solution_version_arn == arn


def test_the_same_steps_give_the_same_ids(personalize, tmp_path):
    (tmp_path / "again").mkdir()
    assert personalize.trained() == Personalize.open(tmp_path / "again").trained()


def test_twenty_four_users_are_too_few(personalize):
    version = personalize.version(personalize.solution(personalize.filled(users=24)))
    assert personalize.status(version) == "CREATE FAILED"
    assert reason(personalize, version).startswith(
        "Create failed. Dataset has fewer than 25 users with at least 2 interactions each"
    )
    with pytest.raises(ResourceInUseException, match="metrics need ACTIVE"):
        personalize.get_solution_metrics(solution_version_arn=version)


def test_rows_are_counted_after_filtering_by_event_type(personalize):
    group = personalize.group()
    table = pd.concat([interactions(999), interactions(50, event_type="like")])
    personalize.load(personalize.dataset(group), table, "first")
    version = personalize.version(personalize.solution(group, event_type="CLICK"))
    told = "Dataset has fewer than 1000 interactions after filtering by event type: CLICK"
    assert reason(personalize, version).startswith(told)


@pytest.mark.parametrize(
    ("event_type", "filters", "remedies"),
    [
        (None, "event value: 3.5 or more", "or lower the threshold."),
        ("click", "event type: click and event value: 3.5 or more", "on more event types, or lower the threshold."),
    ],
)
def test_the_threshold_that_left_rows_out_is_named(personalize, event_type, filters, remedies):
    group, value = personalize.group(), {"name": "EVENT_VALUE", "type": "float"}
    schema = {**INTERACTIONS, "fields": [*INTERACTIONS["fields"], value]}
    personalize.load(personalize.dataset(group, schema), interactions().assign(EVENT_VALUE=1.0), "first")
    config = {"eventValueThreshold": "3.5"}
    version = personalize.version(personalize.solution(group, event_type=event_type, solution_config=config))
    told = f"Dataset has fewer than 1000 interactions after filtering by {filters} (found 0). Import more, or "
    assert reason(personalize, version).startswith(told) and reason(personalize, version).endswith(remedies)


def test_a_pending_version_stops_at_once_and_cannot_be_deployed(personalize):
    solution = personalize.solution(personalize.filled())
    version = personalize.create_solution_version(solution_arn=solution)["solutionVersionArn"]
    personalize.stop_solution_version_creation(solution_version_arn=version)
    assert personalize.status(version) == "CREATE STOPPED"
    personalize.work()
    assert personalize.status(version) == "CREATE STOPPED"
    with pytest.raises(InvalidInputException, match="CREATE STOPPED"):
        personalize.create_campaign(name="c", solution_version_arn=version)
    with pytest.raises(ResourceInUseException):
        personalize.stop_solution_version_creation(solution_version_arn=version)


def test_a_running_version_stops_at_its_next_step(personalize, monkeypatch):
    solution = personalize.solution(personalize.filled())
    version = personalize.create_solution_version(solution_arn=solution)["solutionVersionArn"]
    monkeypatch.setattr(jobs, "REPORT_SECONDS", 0)
    load, seen = solution_versions.training_data, []

    def stop_while_loading(account, record):
        seen.append(personalize.status(version))
        personalize.stop_solution_version_creation(solution_version_arn=version)
        seen.append(personalize.status(version))
        return load(account, record)

    monkeypatch.setattr(solution_versions, "training_data", stop_while_loading)
    personalize.work()
    assert [*seen, personalize.status(version)] == ["CREATE IN_PROGRESS", "CREATE STOPPING", "CREATE STOPPED"]


def test_a_version_that_is_stopped_after_its_last_step_never_becomes_active(personalize, monkeypatch):
    solution = personalize.solution(personalize.filled())
    version = personalize.create_solution_version(solution_arn=solution)["solutionVersionArn"]
    work = jobs.WORK["solution-version"]

    def stop_at_the_end(*arguments):
        publish = work.run(*arguments)
        personalize.stop_solution_version_creation(solution_version_arn=version)
        return publish

    monkeypatch.setitem(jobs.WORK, "solution-version", replace(work, run=stop_at_the_end))
    personalize.work()
    assert personalize.status(version) == "CREATE STOPPED"


def test_update_needs_a_recipe_that_has_it(personalize):
    solution, _ = personalize.trained()
    with pytest.raises(InvalidInputException, match="UPDATE"):
        personalize.create_solution_version(solution_arn=solution, training_mode="UPDATE")


def test_automatic_training_is_not_for_requests(personalize):
    solution = personalize.solution(personalize.filled())
    with pytest.raises(InvalidInputException, match="AUTOTRAIN"):
        personalize.create_solution_version(solution_arn=solution, training_mode="AUTOTRAIN")


def test_columns_that_came_after_the_solution_are_not_trained_on(personalize):
    group = personalize.filled()
    items = personalize.dataset(group, ITEMS)
    personalize.load(items, pd.DataFrame({"ITEM_ID": ["i1"], "GENRE": ["news"]}), "items")
    before = personalize.version(personalize.solution(group))
    wider = copy.deepcopy(ITEMS)
    wider["fields"].append({"name": "PRICE", "type": ["null", "float"]})
    personalize.update_dataset(dataset_arn=items, schema_arn=personalize.schema(wider, "wider"))
    personalize.clock.wait()
    after = personalize.version(personalize.solution(group, "second"))
    columns = []
    for arn in (before, after):
        version = personalize.describe_solution_version(solution_version_arn=arn)["solutionVersion"]
        data = solution_versions.training_data(personalize.account, version)
        columns.append((list(data.items.columns), data.schemas["ITEMS"].columns))
    narrow, wide = ["ITEM_ID", "GENRE"], ["ITEM_ID", "GENRE", "PRICE"]
    assert columns == [(narrow, tuple(narrow)), (wide, tuple(wide))]


def test_excluded_columns_are_left_out(personalize):
    group = personalize.filled()
    personalize.load(personalize.dataset(group, ITEMS), pd.DataFrame({"ITEM_ID": ["i1"], "GENRE": ["news"]}), "items")
    config = {"trainingDataConfig": {"excludedDatasetColumns": {"Items": ["GENRE"]}}}
    arn = personalize.version(personalize.solution(group, solution_config=config))
    version = personalize.describe_solution_version(solution_version_arn=arn)["solutionVersion"]
    data = solution_versions.training_data(personalize.account, version)
    assert list(data.items.columns) == ["ITEM_ID"] and data.schemas["ITEMS"].columns == ("ITEM_ID",)


def test_columns_that_are_left_out_do_not_count_beside_event_types(personalize):
    context = [{"name": f"C{n}", "type": "string"} for n in range(3)]
    group = personalize.group()
    table = interactions(event_type=[f"type{n % 8}" for n in range(1000)]).assign(C0="a", C1="b", C2="c")
    wider = {**INTERACTIONS, "fields": [*INTERACTIONS["fields"], *context]}
    assert personalize.load(personalize.dataset(group, wider), table, "first").status == "ACTIVE"
    left_out = {"trainingDataConfig": {"excludedDatasetColumns": {"INTERACTIONS": ["C0", "C1", "C2"]}}}
    version = personalize.version(personalize.solution(group, solution_config=left_out))
    assert (personalize.status(version), reason(personalize, version)) == ("ACTIVE", None)
    version = personalize.version(personalize.solution(group, "all"))
    assert "8 event types and 3 columns of their own" in reason(personalize, version)


def test_a_training_that_goes_wrong_says_where_the_traceback_lies(personalize, monkeypatch):
    solution = personalize.solution(personalize.filled())

    def broken(account, version):
        raise KeyError("GENRE")

    monkeypatch.setattr(solution_versions, "training_data", broken)
    version = personalize.version(solution)
    told = reason(personalize, version)
    assert told.startswith("Internal error: KeyError")
    log = personalize.account.store.location / told.partition("The traceback is in ")[2].rstrip(".")
    assert "in broken" in log.read_text()


@pytest.fixture
def tunable(monkeypatch):
    """A recipe that can be tuned and updated."""
    smoothing = HyperParameter(name="smoothing", default=5, meaning="none", low=1, high=9, tunable=True)
    recipe = replace(RECIPES["aws-popularity-count"], name="aws-tunable", hyperparameters=(smoothing,), updates=True)
    monkeypatch.setitem(RECIPES, recipe.name, recipe)
    return f"arn:aws:personalize:::recipe/{recipe.name}"


@pytest.fixture
def tuned(personalize, tunable):
    """A solution whose smoothing is sought from 2 to 4."""
    ranges = {
        "integerHyperParameterRanges": [{"name": "smoothing", "minValue": 2, "maxValue": 4}],
        "continuousHyperParameterRanges": [],
        "categoricalHyperParameterRanges": [],
    }
    hpo = {"algorithmHyperParameterRanges": ranges, "hpoResourceConfig": {"maxNumberOfTrainingJobs": "3"}}
    return personalize.solution(
        personalize.filled(), recipe_arn=tunable, perform_hpo=True, solution_config={"hpoConfig": hpo}
    )


def described(personalize, version):
    return personalize.describe_solution_version(solution_version_arn=version)["solutionVersion"]


def test_tuning_finds_values_within_the_ranges_and_keeps_its_study(personalize, tuned):
    arn = personalize.version(tuned)
    version = described(personalize, arn)
    assert (version.status, version.failure_reason) == ("ACTIVE", None)
    assert version.tuned_hpo_params["algorithmHyperParameters"]["smoothing"] in ("2", "3", "4")
    assert any(solution_versions.study_folder(personalize.account, arn).iterdir())


def test_an_update_goes_on_from_a_full_version(personalize, tunable):
    solution = personalize.solution(personalize.filled(), recipe_arn=tunable)
    with pytest.raises(InvalidInputException, match="no ACTIVE version"):
        personalize.create_solution_version(solution_arn=solution, training_mode="UPDATE")
    full = personalize.version(solution)
    update = personalize.version(solution, training_mode="UPDATE")
    assert personalize.status(update) == "ACTIVE"
    metrics = [personalize.get_solution_metrics(solution_version_arn=arn)["metrics"] for arn in (full, update)]
    assert metrics[0] == metrics[1]


def test_an_update_keeps_what_was_tuned(personalize, tuned, tunable, monkeypatch):
    full, trained = personalize.version(tuned), []

    def fit(datasets, parameters, **how):
        trained.append(dict(parameters))
        return RECIPES[RECIPE.rpartition("/")[2]].fit(datasets, parameters, **how)

    name = tunable.rpartition("/")[2]
    monkeypatch.setitem(RECIPES, name, replace(RECIPES[name], fit=fit))
    updates = [personalize.version(tuned, training_mode="UPDATE") for _ in range(2)]
    found = described(personalize, full).tuned_hpo_params
    assert [described(personalize, arn).tuned_hpo_params for arn in updates] == [found] * 2
    assert trained == [{"smoothing": int(found["algorithmHyperParameters"]["smoothing"])}] * 2


def test_an_update_under_auto_ml_goes_on_with_the_recipe_that_was_chosen(personalize, tunable, monkeypatch):
    solution = auto_ml(personalize, tunable)
    personalize.version(solution)
    pending = personalize.create_solution_version(solution_arn=solution)["solutionVersionArn"]
    update = personalize.create_solution_version(solution_arn=solution, training_mode="UPDATE")["solutionVersionArn"]
    personalize.stop_solution_version_creation(solution_version_arn=pending)
    monkeypatch.setattr(solution_versions, "_best_recipe", None)  # nothing is chosen again
    personalize.work()
    found = described(personalize, update)
    assert (found.status, found.failure_reason, found.recipe_arn) == ("ACTIVE", None, tunable)


def test_an_update_under_auto_ml_needs_an_active_version(personalize, tunable):
    solution = auto_ml(personalize, tunable)
    personalize.create_solution_version(solution_arn=solution)
    with pytest.raises(InvalidInputException, match="no ACTIVE version"):
        personalize.create_solution_version(solution_arn=solution, training_mode="UPDATE")


def test_auto_ml_names_the_best_recipe_of_the_list(personalize, tunable):
    solution = auto_ml(personalize, RECIPE, tunable)
    arn = personalize.version(solution)
    version = personalize.describe_solution_version(solution_version_arn=arn)["solutionVersion"]
    assert (version.status, version.failure_reason, version.recipe_arn) == ("ACTIVE", None, RECIPE)
    described = personalize.describe_solution(solution_arn=solution)["solution"]
    assert described.auto_ml_result == {"bestRecipeArn": RECIPE} and described.perform_hpo is True


def auto_ml(personalize, *recipes, name="chosen", **config):
    listed = {"autoMLConfig": {"recipeList": [*recipes], **config}}
    group = next(iter(personalize.list_dataset_groups()["datasetGroups"]), None)
    return personalize.solution(
        group.dataset_group_arn if group else personalize.filled(),
        name=name,
        recipe_arn=None,
        perform_auto_ml=True,
        solution_config=listed,
    )


def test_auto_ml_chooses_on_users_that_the_metrics_are_not_of(personalize, tunable):
    solution = auto_ml(personalize, tunable)
    arn = personalize.version(solution)
    study = solution_versions.study_folder(personalize.account, arn) / tunable.rpartition("/")[2]
    folder = solution_versions.version_folder(personalize.account, arn)
    chosen, reported = (set(pd.read_parquet(place / "evaluation.parquet")["USER_ID"]) for place in (study, folder))
    assert chosen and reported and not chosen & reported
    assert not (study / "model").exists()


def test_auto_ml_passes_over_what_cannot_be_trained(personalize):
    without_actions = "arn:aws:personalize:::recipe/aws-next-best-action"
    arn = personalize.version(auto_ml(personalize, without_actions, RECIPE))
    version = described(personalize, arn)
    assert (version.status, version.failure_reason, version.recipe_arn) == ("ACTIVE", None, RECIPE)
    arn = personalize.version(auto_ml(personalize, without_actions, name="none"))
    told = "AutoML could train no recipe. aws-next-best-action: Actions are missing"
    assert personalize.status(arn) == "CREATE FAILED" and reason(personalize, arn).startswith(told)


def test_auto_ml_can_choose_by_what_an_objective_rewards(personalize, monkeypatch):
    name = "aws-user-personalization"
    monkeypatch.setitem(RECIPES, name, replace(RECIPES["aws-popularity-count"], name=name, load=_load))
    priced = {**ITEMS, "fields": [ITEMS["fields"][0], {"name": "PRICE", "type": "float"}]}
    items = pd.DataFrame({"ITEM_ID": [f"i{n}" for n in range(1, 41)], "PRICE": [float(n) for n in range(1, 41)]})
    group = personalize.filled()
    personalize.load(personalize.dataset(group, priced), items, "items")
    config = {
        "autoMLConfig": {
            "recipeList": [f"arn:aws:personalize:::recipe/{name}"],
            "metricName": "average_rewards_at_k",
        },
        "optimizationObjective": {"itemAttribute": "PRICE", "objectiveSensitivity": "HIGH"},
    }
    solution = personalize.solution(group, recipe_arn=None, perform_auto_ml=True, solution_config=config)
    version = personalize.version(solution)
    assert (personalize.status(version), reason(personalize, version)) == ("ACTIVE", None)


def test_a_training_that_was_killed_goes_on_with_the_same_data_only(personalize):
    _, arn = personalize.trained()
    version = personalize.describe_solution_version(solution_version_arn=arn)["solutionVersion"]
    folder = solution_versions.version_folder(personalize.account, arn)
    model = folder / "model" / "model.safetensors"
    before = model.stat().st_mtime_ns
    solution_versions.run(personalize.account, arn, lambda step: None)
    assert model.stat().st_mtime_ns == before
    dataset = personalize.list_datasets(dataset_group_arn=version.dataset_group_arn)["datasets"][0].dataset_arn
    personalize.load(dataset, interactions(1200), "more")
    solution_versions.run(personalize.account, arn, lambda step: None)
    assert model.stat().st_mtime_ns != before


def test_a_tuning_goes_on_with_trials_of_the_same_data_only(personalize, tuned):
    arn = personalize.version(tuned)
    study = solution_versions.study_folder(personalize.account, arn) / "study.journal"
    before = study.read_bytes()
    solution_versions.run(personalize.account, arn, lambda step: None)
    assert study.read_bytes() == before
    dataset = personalize.list_datasets()["datasets"][0].dataset_arn
    personalize.load(dataset, interactions(1200), "more")
    solution_versions.run(personalize.account, arn, lambda step: None)
    assert study.read_bytes()[: len(before)] != before


def test_an_objective_leads_towards_worthy_items_the_more_the_more_sensitive(personalize, monkeypatch):
    name = "aws-user-personalization"
    monkeypatch.setitem(RECIPES, name, replace(RECIPES["aws-popularity-count"], name=name, load=_load))
    group = personalize.filled()
    priced = {**ITEMS, "fields": [ITEMS["fields"][0], {"name": "PRICE", "type": "float"}]}
    items = pd.DataFrame({"ITEM_ID": [f"i{n}" for n in range(1, 41)], "PRICE": [float(n) for n in range(1, 41)]})
    personalize.load(personalize.dataset(group, priced), items, "items")
    numbers = []
    for sensitivity in ("OFF", "LOW", "HIGH"):
        aim = {"itemAttribute": "PRICE", "objectiveSensitivity": sensitivity}
        config = {"optimizationObjective": aim}
        arn = f"arn:aws:personalize:::recipe/{name}"
        version = personalize.version(personalize.solution(group, sensitivity, arn, solution_config=config))
        assert personalize.status(version) == "ACTIVE"
        metrics = personalize.get_solution_metrics(solution_version_arn=version)["metrics"]
        assert 0 <= metrics["average_rewards_at_k"] <= 1
        campaign = personalize.create_campaign(name=sensitivity, solution_version_arn=version)["campaignArn"]
        personalize.clock.wait()
        found = personalize.get_recommendations(campaign_arn=campaign, num_results=10)["itemList"]
        numbers.append(sum(int(item["itemId"][1:]) for item in found) / 10)
    assert numbers[0] < numbers[1] < numbers[2]
    assert numbers[2] > 30


def _load(folder):
    return objective.tilted(RECIPES["aws-popularity-count"].load(folder), folder)
