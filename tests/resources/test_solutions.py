"""Solutions: what may be configured, and what holds them."""

import pytest

from lib.recipes import RECIPES
from lib.resources import recipes, solution_config
from lib.resources.errors import InvalidInputException, ResourceInUseException, ResourceNotFoundException
from tests.resources.workflow import ITEMS, RECIPE


def test_automatic_training_is_on_by_default(personalize):
    arn = personalize.solution(personalize.filled())
    assert personalize.describe_solution(solution_arn=arn)["solution"].perform_auto_training is True


def test_a_solution_needs_a_recipe_or_auto_ml(personalize):
    group = personalize.filled()
    with pytest.raises(InvalidInputException, match="recipeArn"):
        personalize.create_solution(name="x", dataset_group_arn=group)


def test_an_unknown_recipe_is_not_found(personalize):
    with pytest.raises(ResourceNotFoundException, match="aws-nothing"):
        personalize.solution(personalize.filled(), recipe_arn="arn:aws:personalize:::recipe/aws-nothing")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"algorithmHyperParameters": {"no_such": "1"}}, "Provide a hyperparameter that is used in the algorithm"),
        ({"eventValueThreshold": "much"}, "eventValueThreshold"),
        ({"eventValueThreshold": "1"}, "EVENT_VALUE"),
        ({"autoTrainingConfig": {"schedulingExpression": "rate(31 days)"}}, "rate"),
        ({"trainingDataConfig": {"excludedDatasetColumns": {"INTERACTIONS": ["EVENT_TYPE"]}}}, "cannot be excluded"),
        ({"trainingDataConfig": {"excludedDatasetColumns": {"INTERACTIONS": ["COLOUR"]}}}, "COLOUR"),
        ({"trainingDataConfig": {"excludedDatasetColumns": {"USERS": ["AGE"]}}}, "no USERS dataset"),
        ({"eventsConfig": {"eventParametersList": [{"eventType": "a"}]}}, "second version"),
        ({"optimizationObjective": {"itemAttribute": "PRICE"}}, "aws-user-personalization"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(personalize, config, told):
    with pytest.raises(InvalidInputException, match=told):
        personalize.solution(personalize.filled(), solution_config=config)


def test_an_objective_on_a_column_that_is_left_out_is_refused(personalize):
    group = personalize.filled()
    fields = [
        {"name": "ITEM_ID", "type": "string"},
        {"name": "PRICE", "type": "float"},
        {"name": "COLOUR", "type": "int"},
    ]
    personalize.dataset(group, {**ITEMS, "fields": fields})
    config = {
        "optimizationObjective": {"itemAttribute": "PRICE"},
        "trainingDataConfig": {"excludedDatasetColumns": {"Items": ["PRICE"]}},
    }
    arn = "arn:aws:personalize:::recipe/aws-user-personalization"
    with pytest.raises(InvalidInputException, match="'PRICE', which trainingDataConfig leaves out"):
        personalize.solution(group, recipe_arn=arn, solution_config=config)


NAMELESS = {
    "integerHyperParameterRanges": [{"minValue": 32, "maxValue": 48}],
    "continuousHyperParameterRanges": [],
    "categoricalHyperParameterRanges": [],
}
UPSIDE_DOWN = {"min_user_history_length_percentile": "0.9", "max_user_history_length_percentile": "0.5"}


@pytest.mark.parametrize(
    ("recipe", "config", "told"),
    [
        ("aws-user-personalization-v2", {"eventsConfig": {}}, "one entry for each eventType"),
        ("aws-user-personalization-v2", {"eventsConfig": {"eventParametersList": []}}, "one entry for each eventType"),
        (
            "aws-user-personalization",
            {"hpoConfig": {"algorithmHyperParameterRanges": NAMELESS}},
            "'' cannot be tuned, only hidden_dimension",
        ),
        (
            "aws-user-personalization",
            {"featureTransformationParameters": UPSIDE_DOWN},
            "min_user_history_length_percentile is 0.9, above max_user_history_length_percentile, which is 0.5",
        ),
        *(
            ("aws-user-personalization", {"algorithmHyperParameters": {"hidden_dimension": text}}, f"is '{text}'")
            for text in ("3_2", " 32 ", "３２", "32.0")
        ),
        *(
            ("aws-user-personalization", {"eventValueThreshold": text}, f"is '{text}', expected a number")
            for text in ("nan", "inf", "1e999", " 1", "1_0")
        ),
    ],
)
def test_what_no_training_could_use_is_refused(personalize, recipe, config, told):
    arn = f"arn:aws:personalize:::recipe/{recipe}"
    with pytest.raises(InvalidInputException, match=told):
        personalize.solution(
            personalize.filled(), recipe_arn=arn, perform_hpo="hpoConfig" in config, solution_config=config
        )


@pytest.mark.parametrize(
    ("recipe", "metric", "told"),
    [
        ("aws-user-personalization-v2", {"metricName": "nonsense"}, "'nonsense', aws-user-personalization-v2 has cov"),
        ("aws-user-personalization-v2", {"metricName": "average_rewards_at_k"}, "average_rewards_at_k"),
        ("aws-item-affinity", {}, "aws-item-affinity has coverage, hits_at_1_percent"),
    ],
)
def test_auto_ml_by_a_metric_that_a_recipe_does_not_have_is_refused(personalize, recipe, metric, told):
    config = {"autoMLConfig": {"recipeList": [f"arn:aws:personalize:::recipe/{recipe}"], **metric}}
    with pytest.raises(InvalidInputException, match=told):
        personalize.solution(personalize.filled(), recipe_arn=None, perform_auto_ml=True, solution_config=config)


def test_auto_ml_with_ranges_that_a_recipe_of_the_list_cannot_tune_is_refused(personalize):
    listed = [f"arn:aws:personalize:::recipe/aws-user-personalization{version}" for version in ("", "-v2")]
    group = personalize.filled()
    ranges = {**NAMELESS, "integerHyperParameterRanges": [{"name": "bptt", "minValue": 2, "maxValue": 4}]}
    for config, told in (
        ({"algorithmHyperParameterRanges": ranges}, "aws-user-personalization-v2; 'bptt' cannot be tuned"),
        ({"hpoResourceConfig": {"maxNumberOfTrainingJobs": "41"}}, "is '41', expected '1' to '40'"),
    ):
        config = {"autoMLConfig": {"recipeList": listed}, "hpoConfig": config}
        with pytest.raises(InvalidInputException, match=told):
            personalize.solution(group, recipe_arn=None, perform_auto_ml=True, solution_config=config)


def test_tuning_a_recipe_without_hyperparameters_is_refused(personalize):
    with pytest.raises(InvalidInputException, match="no hyperparameter to tune"):
        personalize.solution(personalize.filled(), perform_hpo=True)


@pytest.mark.parametrize(
    "name", [name for name, recipe in RECIPES.items() if any(p.tunable for p in recipe.hyperparameters)]
)
def test_tuning_needs_all_three_lists_and_tunable_names(name):
    recipe = RECIPES[name]
    lists = {"integerHyperParameterRanges": [], "continuousHyperParameterRanges": []}
    config = {"hpoConfig": {"algorithmHyperParameterRanges": lists}}
    with pytest.raises(InvalidInputException, match="categoricalHyperParameterRanges"):
        solution_config.trainings(recipe, config)
    lists |= {"categoricalHyperParameterRanges": [{"name": "no_such", "values": ["true"]}]}
    with pytest.raises(InvalidInputException, match="no_such"):
        solution_config.trainings(recipe, config)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_recipe_takes_its_defaults_as_strings(recipe):
    config = {"algorithmHyperParameters": {}, "featureTransformationParameters": {}}
    for parameter in recipe.hyperparameters:
        kind = "featureTransformationParameters" if parameter.transformation else "algorithmHyperParameters"
        config[kind][parameter.name] = recipes.text(parameter.default)
    expected = {parameter.name: parameter.default for parameter in recipe.hyperparameters}
    assert solution_config.values(recipe, config) == expected


def test_prefixed_names_are_taken_and_answered_without_prefix():
    config = {
        "algorithmHyperParameters": {"training.bptt": "8", "recency_mask": "true"},
        "featureTransformationParameters": {"max_hist_length_percentile": "0.9"},
    }
    assert solution_config.normal(config) == {
        "algorithmHyperParameters": {"bptt": "8", "recency_mask": "true"},
        "featureTransformationParameters": {"max_user_history_length_percentile": "0.9"},
    }


def test_a_solution_is_held_by_its_campaigns(personalize):
    solution, version = personalize.trained()
    campaign = personalize.create_campaign(name="c", solution_version_arn=version)["campaignArn"]
    personalize.clock.wait()
    with pytest.raises(ResourceInUseException, match=campaign):
        personalize.delete_solution(solution_arn=solution)
    personalize.delete_campaign(campaign_arn=campaign)
    personalize.delete_solution(solution_arn=solution)
    personalize.clock.wait()
    with pytest.raises(ResourceNotFoundException):
        personalize.describe_solution_version(solution_version_arn=version)
    with pytest.raises(ResourceNotFoundException):
        personalize.list_solution_versions(solution_arn=solution)


def test_an_update_changes_automatic_training_alone(personalize):
    arn = personalize.solution(personalize.filled())
    personalize.update_solution(solution_arn=arn, perform_auto_training=False)
    moving = personalize.describe_solution(solution_arn=arn)["solution"]
    assert moving.perform_auto_training is True and moving.latest_solution_update.status == "CREATE PENDING"
    personalize.clock.wait()
    changed = personalize.describe_solution(solution_arn=arn)["solution"]
    assert changed.perform_auto_training is False and changed.recipe_arn == RECIPE


@pytest.mark.parametrize(
    ("update", "told"),
    [
        ({"autoTrainingConfig": {"schedulingExpression": "rate(0 days)"}}, "1 to 30"),
        ({"autoTrainingConfig": {"schedulingExpression": "rate(99999 days)"}}, "1 to 30"),
        ({"eventsConfig": {"eventParametersList": [{"eventType": "click", "weight": 0.0}]}}, "above 0"),
    ],
)
def test_an_update_of_auto_ml_is_checked_as_its_creation_is(personalize, update, told):
    listed = {"autoMLConfig": {"recipeList": ["arn:aws:personalize:::recipe/aws-user-personalization-v2"]}}
    arn = personalize.solution(personalize.filled(), recipe_arn=None, perform_auto_ml=True, solution_config=listed)
    with pytest.raises(InvalidInputException, match=told):
        personalize.update_solution(solution_arn=arn, solution_update_config=update)


def test_recipes_and_their_algorithms_are_described(personalize):
    for summary in personalize.list_recipes()["recipes"]:
        recipe = personalize.describe_recipe(recipe_arn=summary["recipeArn"])["recipe"]
        algorithm = personalize.describe_algorithm(algorithm_arn=recipe["algorithmArn"])["algorithm"]
        personalize.describe_feature_transformation(feature_transformation_arn=recipe["featureTransformationArn"])
        assert set(algorithm["defaultHyperParameters"]) <= {p.name for p in RECIPES[recipe["name"]].hyperparameters}
