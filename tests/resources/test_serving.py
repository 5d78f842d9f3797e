"""Models that change after their training: by events that come in, and as a campaign's configuration says."""

from datetime import timedelta

import pandas as pd
import pytest

from lib.resources.errors import InvalidInputException
from tests.resources.test_batch_jobs import answers as batch_answers
from tests.resources.test_batch_jobs import run, write
from tests.resources.test_exports_and_deletions import delete
from tests.resources.workflow import ITEMS, interactions

PREFIX = "arn:aws:personalize:::recipe/"


class Live:
    """A campaign, and events that come in."""

    def __init__(self, personalize, recipe, **members):
        self.personalize, group = personalize, personalize.filled()
        version = personalize.version(personalize.solution(group, recipe_arn=PREFIX + recipe, **members))
        assert personalize.status(version) == "ACTIVE"
        self.metrics = personalize.get_solution_metrics(solution_version_arn=version)["metrics"]
        self.arn = personalize.create_campaign(name="c", solution_version_arn=version)["campaignArn"]
        self.tracking_id = personalize.create_event_tracker(name="t", dataset_group_arn=group)["trackingId"]
        personalize.clock.wait()

    def send(self, *item_ids, minutes_ago=0, event_type="click"):
        at = self.personalize.account.now() - timedelta(minutes=minutes_ago)
        for n, item_id in enumerate(item_ids):
            event = {"eventType": event_type, "sentAt": at, **({"itemId": item_id} if item_id else {})}
            self.personalize.put_events(
                tracking_id=self.tracking_id, session_id=f"s{n}", user_id=f"v{n}", event_list=[event]
            )
        self.personalize.clock.wait(1)

    def ids(self, **members):
        answer = self.personalize.get_recommendations(campaign_arn=self.arn, num_results=100, **members)["itemList"]
        assert all(set(item) == {"itemId"} for item in answer)
        return [item["itemId"] for item in answer]


def trained_and_gone(personalize, recipe, kind, **members):
    """A group, and a version of it that has lost a dataset since."""
    group = personalize.list_dataset_groups()["datasetGroups"]
    group = group[0].dataset_group_arn if group else personalize.filled()
    version = personalize.version(personalize.solution(group, recipe_arn=PREFIX + recipe, **members))
    assert personalize.status(version) == "ACTIVE"
    personalize.delete_dataset(dataset_arn=personalize.account.arn("dataset", f"news/{kind}"))
    personalize.clock.wait()
    return group, version


@pytest.fixture
def trending(personalize):
    config = {"featureTransformationParameters": {"trend_discovery_frequency": "30 minutes"}}
    return Live(personalize, "aws-trending-now", solution_config=config)


def most_popular():
    table = interactions()
    users = table.groupby("ITEM_ID")["USER_ID"].nunique()
    return sorted(users.index, key=lambda item: (-users[item], item))


def test_events_make_items_trend_new_ones_too_and_their_absence_gives_popularity(trending):
    assert 0 <= trending.metrics["trend_prediction_accuracy"] <= 1 and "coverage" in trending.metrics
    trending.send("i30", "i30", "i9", "new", "i7", "i7", minutes_ago=40)
    trending.send("i9", "i9", "new", "new", "new", "i30")
    assert trending.ids()[:2] == ["new", "i9"]  # they rise by 2 and by 1, i30 and i7 fall
    trending.personalize.clock.wait(3 * 3600)
    trending.send(None)  # time goes on without any item
    popular = most_popular()
    assert [item for item in trending.ids() if item != "new"][:5] == popular[:5]


def test_only_events_that_the_solution_asks_for_count(personalize):
    config = {"featureTransformationParameters": {"trend_discovery_frequency": "1 day"}}
    trending = Live(personalize, "aws-trending-now", solution_config=config, event_type="click")
    trending.send(*["i40"] * 9, event_type="hover")
    trending.send("i39", "i39")
    assert trending.ids()[0] == "i39"


def test_a_filter_holds_for_what_trends(trending):
    group = trending.personalize.list_dataset_groups()["datasetGroups"][0].dataset_group_arn
    seen = 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("click")'
    arn = trending.personalize.create_filter(name="f", dataset_group_arn=group, filter_expression=seen)["filterArn"]
    trending.send("i9", "i9", "i8")
    assert trending.ids()[:2] == ["i9", "i8"]
    assert "i9" not in trending.ids(user_id="v1", filter_arn=arn)


TITLE = {"name": "TITLE", "type": "string", "itemName": True}


def engines_and_moss(personalize, group):
    """Import 40 items, those with even numbers about engines, the others about moss."""
    schema = {
        **ITEMS,
        "fields": [*ITEMS["fields"], {"name": "TEXT", "type": "string", "textual": True}, TITLE],
    }
    items = pd.DataFrame({"ITEM_ID": [f"i{n}" for n in range(1, 41)]})
    texts = [f"{('red engine', 'green moss')[n % 2]} number{n}" for n in range(40)]
    items = items.assign(GENRE="a", TEXT=texts, TITLE=[f"item {n}" for n in range(40)])
    assert personalize.load(personalize.dataset(group, schema), items, "items").status == "ACTIVE"


def test_a_campaigns_influence_and_the_batch_jobs_lead_similar_items(personalize):
    group = personalize.filled()
    engines_and_moss(personalize, group)
    version = personalize.version(personalize.solution(group, recipe_arn=PREFIX + "aws-semantic-similarity"))
    metrics = personalize.get_solution_metrics(solution_version_arn=version)["metrics"]
    assert {"item_popularity", "item_freshness", "item_similarity", "precision_at_5"} <= set(metrics)
    answers = []
    for n, config in enumerate((None, {"rankingInfluence": {"POPULARITY": 1.0}})):
        arn = personalize.create_campaign(name=f"c{n}", solution_version_arn=version, campaign_config=config)
        personalize.clock.wait()
        found = personalize.get_recommendations(campaign_arn=arn["campaignArn"], item_id="i40", num_results=5)
        answers.append([item["itemId"] for item in found["itemList"]])
    assert {int(item[1:]) % 2 for item in answers[0]} == {0}
    assert answers[1] == most_popular()[:5]
    job = run(personalize, version, write(personalize, "x", {"itemId": "i40"}), batch_inference_job_config=config)
    assert job.status == "ACTIVE"
    assert batch_answers(personalize, "x.out")[0]["output"]["recommendedItems"][:5] == answers[1]


def test_similar_texts_are_found_in_a_group_of_items_alone(personalize):
    group = personalize.group()
    engines_and_moss(personalize, group)
    version = personalize.version(personalize.solution(group, recipe_arn=PREFIX + "aws-semantic-similarity"))
    metrics = personalize.get_solution_metrics(solution_version_arn=version)["metrics"]
    assert set(metrics) == {"coverage", "item_popularity", "item_freshness", "item_similarity"}
    arn = personalize.create_campaign(name="c", solution_version_arn=version)["campaignArn"]
    personalize.clock.wait()
    found = personalize.get_recommendations(campaign_arn=arn, item_id="i40", user_id="u", num_results=5)
    assert {int(item["itemId"][1:]) % 2 for item in found["itemList"]} == {0}
    job = run(personalize, version, write(personalize, "x", {"itemId": "i40"}))
    assert job.status == "ACTIVE"
    assert batch_answers(personalize, "x.out")[0]["output"]["recommendedItems"][:5] == [
        item["itemId"] for item in found["itemList"]
    ]


SEMANTIC = PREFIX + "aws-semantic-similarity"
TEXT = {"name": "TEXT", "type": "string", "textual": True}


@pytest.mark.parametrize(
    ("fields", "config", "lacking"),
    [
        ([TEXT], {}, r"is marked itemName\."),
        ([TITLE], {}, r"is marked textual\."),
        ([TITLE, TEXT], {"excludedDatasetColumns": {"Items": ["TEXT"]}}, r"is marked textual\."),
        ([TITLE, TEXT], {"includedDatasetColumns": {"ITEMS": ["GENRE"]}}, r"is marked itemName or textual\."),
    ],
)
def test_similarity_of_texts_needs_a_field_marked_as_the_name_and_a_textual_one(personalize, fields, config, lacking):
    group = personalize.group()
    personalize.dataset(group, {**ITEMS, "fields": [*ITEMS["fields"], *fields]})
    with pytest.raises(InvalidInputException, match=lacking):
        personalize.solution(group, recipe_arn=SEMANTIC, solution_config={"trainingDataConfig": config})


def test_a_solution_that_came_before_its_items_fails_at_training_where_they_have_no_name(personalize):
    group = personalize.group()
    solution = personalize.solution(group, recipe_arn=SEMANTIC)
    items = personalize.dataset(group, {**ITEMS, "fields": [*ITEMS["fields"], TEXT]})
    table = pd.DataFrame({"ITEM_ID": ["a", "b"], "GENRE": "Jazz", "TEXT": "a text"})
    assert personalize.load(items, table, "items").status == "ACTIVE"
    version = personalize.version(solution)
    found = personalize.describe_solution_version(solution_version_arn=version)["solutionVersion"]
    assert found.status == "CREATE FAILED" and "is marked itemName" in found.failure_reason


def test_other_recipes_ask_for_interactions(personalize):
    group = personalize.group()
    engines_and_moss(personalize, group)
    version = personalize.version(personalize.solution(group, recipe_arn=PREFIX + "aws-similar-items"))
    assert personalize.status(version) == "CREATE FAILED"
    reason = personalize.describe_solution_version(solution_version_arn=version)["solutionVersion"].failure_reason
    assert "has no INTERACTIONS dataset" in reason


@pytest.mark.parametrize("lost", ["type", "users", "dataset"])
def test_what_trends_is_what_was_popular_at_training_where_no_event_counts_any_more(personalize, lost):
    if lost == "dataset":
        _, version = trained_and_gone(personalize, "aws-trending-now", "INTERACTIONS", event_type="click")
        personalize.create_campaign(name="c", solution_version_arn=version)
        personalize.clock.wait()
    else:
        Live(personalize, "aws-trending-now", event_type="click")
    campaign = personalize.account.arn("campaign", "c")
    if lost == "type":
        dataset = personalize.account.arn("dataset", "news/INTERACTIONS")
        assert personalize.load(dataset, interactions(event_type="view"), "views").status == "ACTIVE"
    if lost == "users":
        delete(personalize, pd.DataFrame({"USER_ID": interactions()["USER_ID"].unique()}), "leave")
    found = personalize.get_recommendations(campaign_arn=campaign, num_results=5)
    assert [item["itemId"] for item in found["itemList"]] == most_popular()[:5]


@pytest.mark.parametrize("recipe", ["aws-user-personalization", "aws-user-personalization-v2"])
def test_what_explores_answers_without_interactions_too(personalize, recipe):
    _, version = trained_and_gone(personalize, recipe, "INTERACTIONS")
    campaign = personalize.create_campaign(name="c", solution_version_arn=version)["campaignArn"]
    personalize.clock.wait()
    assert len(personalize.get_recommendations(campaign_arn=campaign, user_id="u1")["itemList"]) == 25


def test_similar_texts_are_those_of_training_where_the_items_were_deleted_since(personalize):
    engines_and_moss(personalize, personalize.group())
    _, version = trained_and_gone(personalize, "aws-semantic-similarity", "ITEMS", perform_incremental_update=True)
    campaign = personalize.create_campaign(name="c", solution_version_arn=version)["campaignArn"]
    personalize.clock.wait()
    found = personalize.get_recommendations(campaign_arn=campaign, item_id="i40", num_results=5)["itemList"]
    assert {int(item["itemId"][1:]) % 2 for item in found} == {0}
    job = run(personalize, version, write(personalize, "x", {"itemId": "i40"}))
    assert job.status == "ACTIVE"
    assert batch_answers(personalize, "x.out")[0]["output"]["recommendedItems"][:5] == [i["itemId"] for i in found]
