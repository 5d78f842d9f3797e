"""What published notebooks and tools for Amazon Personalize do, in the orders in which they do it."""

import json
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from tests.wire.serving import serving, until
from tests.wire.site import CLICKS, ITEMS, RECIPE, ROLE, Site, clicks

ARN = "arn:aws:personalize:us-east-1:123456789012:"
MOVING = ("CREATE PENDING", "CREATE IN_PROGRESS", "DELETE PENDING", "DELETE IN_PROGRESS")
EXPLORATION = {"explorationWeight": "0.3", "explorationItemAgeCutOff": "30"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    data = folder / "data"
    data.mkdir()
    with serving(folder / "store", "--bucket", f"data={data}", "--quota", "dataset_groups=50") as service:
        yield Site(service, data)


@pytest.fixture(scope="module")
def shop(site):
    """A custom group with a version that recommends for users, and its campaign."""
    group = site.group()
    dataset = site.dataset(group)
    assert site.load(dataset, clicks())["status"] == "ACTIVE"
    solution = site.solution(group, "aws-sims")
    version = site.version(solution)["solutionVersionArn"]
    return SimpleNamespace(group=group, dataset=dataset, version=version, campaign=site.campaign(version))


def code(operation, **members):
    """The code of the error with which an operation answers, None for success."""
    try:
        operation(**members)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


# --- notebooks: the next cell runs as soon as the one before it has its answer --------------------------------------


def test_data_are_imported_into_a_dataset_as_soon_as_it_is_asked_for(site):
    group = site.group()
    dataset = site.api.create_dataset(
        name="d", datasetType="INTERACTIONS", datasetGroupArn=group, schemaArn=site.schema(CLICKS)
    )["datasetArn"]
    job = site.api.create_dataset_import_job(
        jobName=site.name(), datasetArn=dataset, dataSource=site.put(clicks()), roleArn=ROLE
    )
    assert site.rest(job["datasetImportJobArn"])["status"] == "ACTIVE"
    assert len(site.export(dataset, "ALL")) == 1000


def test_a_version_is_asked_for_as_soon_as_its_solution_is(site, shop):
    solution = site.api.create_solution(
        name=site.name(), datasetGroupArn=shop.group, recipeArn=f"{RECIPE}aws-popularity-count"
    )["solutionArn"]
    version = site.api.create_solution_version(solutionArn=solution)["solutionVersionArn"]
    assert site.rest(version)["status"] == "ACTIVE"


def test_a_filter_is_used_as_soon_as_it_is_made(site, shop):
    unseen = site.filter(shop.group, 'EXCLUDE itemId WHERE INTERACTIONS.event_type in ("*")')
    assert len(site.recommend(shop.campaign, itemId="i1", userId="u1", filterArn=unseen)) > 0


def test_events_are_put_as_soon_as_their_tracker_is_made(site):
    group = site.group()
    dataset = site.dataset(group)
    tracking_id = site.api.create_event_tracker(name="t", datasetGroupArn=group)["trackingId"]
    # the item among the properties and no itemId, and the time with a fraction: as early notebooks have it
    event = {"eventType": "click", "sentAt": time.time(), "properties": json.dumps({"itemId": "i1"})}
    site.events.put_events(trackingId=tracking_id, sessionId="1", userId="u", eventList=[event])
    assert site.export(dataset, "PUT")["ITEM_ID"].to_list() == ["i1"]


def test_a_group_is_tagged_as_soon_as_it_is_asked_for(site):
    group = site.api.create_dataset_group(name=site.name())["datasetGroupArn"]
    site.api.tag_resource(resourceArn=group, tags=[{"tagKey": "owner", "tagValue": "me"}])
    assert site.api.list_tags_for_resource(resourceArn=group)["tags"] == [{"tagKey": "owner", "tagValue": "me"}]


def test_answers_can_be_printed_as_json(site):
    answer = site.api.create_dataset_group(name=site.name())
    assert json.loads(json.dumps(answer))["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_the_first_page_of_recipes_carries_a_token_and_the_pages_hold_each_once(site):
    for domain in ({}, {"domain": "VIDEO_ON_DEMAND"}):
        assert "nextToken" in site.api.list_recipes(**domain)
        pages = site.api.get_paginator("list_recipes").paginate(**domain)
        names = [recipe["name"] for page in pages for recipe in page["recipes"]]
        assert len(names) == len(set(names)) > 4


def test_campaigns_are_listed_by_a_version_as_by_its_solution(site, shop):
    for arn in (shop.version, shop.version.rpartition("/")[0]):
        assert [one["campaignArn"] for one in site.api.list_campaigns(solutionArn=arn)["campaigns"]] == [shop.campaign]


def test_an_unknown_parent_has_no_children(site):
    nobody = f"{ARN}dataset-group/nobody"
    assert site.api.list_datasets(datasetGroupArn=nobody)["datasets"] == []
    assert site.api.list_filters(datasetGroupArn=nobody)["Filters"] == []
    assert site.api.list_campaigns(solutionArn=f"{ARN}solution/nobody")["campaigns"] == []


def test_a_campaign_that_is_deleted_answers_no_more_with_the_code_of_one_that_never_was(site, shop):
    campaign = site.campaign(shop.version)
    site.api.delete_campaign(campaignArn=campaign)
    for arn in (campaign, f"{ARN}campaign/nobody"):
        with pytest.raises(site.runtime.exceptions.InvalidInputException, match="does not exist or is not active yet"):
            site.runtime.get_recommendations(campaignArn=arn, itemId="i1")


def test_files_of_pandas_are_imported_with_their_index_column_and_names_in_any_case(site):
    dataset = site.dataset(site.group())
    table = clicks().rename(columns=str.lower).assign(timestamp=lambda table: table["timestamp"].astype(float))
    table.to_csv(site.data / "indexed.csv")
    job = site.api.create_dataset_import_job(
        jobName=site.name(), datasetArn=dataset, dataSource={"dataLocation": "s3://data/indexed.csv"}, roleArn=ROLE
    )
    assert site.rest(job["datasetImportJobArn"])["status"] == "ACTIVE"


def test_a_folder_is_imported_with_or_without_a_slash_at_its_end(site):
    dataset = site.dataset(site.group())
    (site.data / "parts").mkdir()
    for number in range(2):
        clicks().assign(TIMESTAMP=number).to_csv(site.data / "parts" / f"{number}.csv", index=False)
    for location in ("s3://data/parts", "s3://data/parts/"):
        job = site.api.create_dataset_import_job(
            jobName=site.name(), datasetArn=dataset, dataSource={"dataLocation": location}, roleArn=ROLE
        )
        assert site.rest(job["datasetImportJobArn"])["status"] == "ACTIVE"


# --- tools that keep a configuration: describe, create what is missing, ask again ------------------------------------


class Keeper:
    """Sees to it that what is configured is there: ARNs are made by hand, and every step may be called again."""

    def __init__(self, site):
        self.site, self.api = site, site.api

    def step(self, noun, arn, **wanted):
        """The description of a resource that is ACTIVE and as wanted; None where one has to ask again."""
        camel = noun.split("_")[0] + "".join(word.capitalize() for word in noun.split("_")[1:])
        try:
            found = getattr(self.api, f"describe_{noun}")(**{f"{camel}Arn": arn})[camel]
        except self.api.exceptions.ResourceNotFoundException:
            getattr(self.api, f"create_{noun}")(**wanted)
            return None
        if noun == "campaign" and {name: found[name] for name in wanted} != wanted:
            with suppress(self.api.exceptions.ResourceInUseException):
                self.api.update_campaign(campaignArn=arn, **{k: v for k, v in wanted.items() if k != "name"})
            return None
        for name, value in wanted.items():
            told = found[name]
            assert (told.upper() if name == "datasetType" else told) == value, name
        update = found.get(f"latest{noun.capitalize()}Update", {})
        status = update.get("status") or found.get("status", "ACTIVE")
        assert status in ("ACTIVE", *MOVING), found
        return found if status == "ACTIVE" else None

    def keep(self, noun, arn, **wanted):
        return until(lambda found: found is not None, lambda: self.step(noun, arn, **wanted))


def test_a_tool_that_asks_again_until_everything_is_as_configured_comes_to_its_end(site):
    keeper = Keeper(site)
    site.put(clicks(), "kept.csv")
    schema = f"{ARN}schema/kept"
    keeper.keep("schema", schema, name="kept", schema=json.dumps(CLICKS))
    group = keeper.keep("dataset_group", f"{ARN}dataset-group/kept", name="kept")["datasetGroupArn"]
    assert site.api.list_datasets(datasetGroupArn=group)["datasets"] == []
    dataset = f"{ARN}dataset/kept/INTERACTIONS"
    keeper.keep("dataset", dataset, name="kept", datasetGroupArn=group, schemaArn=schema, datasetType="INTERACTIONS")
    source = {"dataLocation": "s3://data/kept.csv"}
    job = f"{ARN}dataset-import-job/kept"
    keeper.keep("dataset_import_job", job, jobName="kept", datasetArn=dataset, dataSource=source, roleArn=ROLE)
    solution = f"{ARN}solution/kept"
    keeper.keep(
        "solution",
        solution,
        name="kept",
        datasetGroupArn=group,
        recipeArn=f"{RECIPE}aws-sims",
        performAutoTraining=False,
        solutionConfig={"algorithmHyperParameters": {"popularity_discount_factor": "0.5"}},
    )
    version = site.api.create_solution_version(solutionArn=solution)["solutionVersionArn"]
    assert code(site.api.get_solution_metrics, solutionVersionArn=version) in ("ResourceInUseException", None)
    site.active(version)
    (listed,) = site.api.list_solution_versions(solutionArn=solution)["solutionVersions"]
    assert listed["solutionVersionArn"] == version and listed["lastUpdatedDateTime"] >= listed["creationDateTime"]
    assert all(
        isinstance(v, float) for v in site.api.get_solution_metrics(solutionVersionArn=version)["metrics"].values()
    )
    wanted = {"name": "kept", "solutionVersionArn": version, "minProvisionedTPS": 1, "campaignConfig": {}}
    campaign = keeper.keep("campaign", f"{ARN}campaign/kept", **wanted)
    assert "latestCampaignUpdate" not in campaign
    newer = site.version(solution)["solutionVersionArn"]
    kept = keeper.keep("campaign", f"{ARN}campaign/kept", **{**wanted, "solutionVersionArn": newer})
    assert kept["latestCampaignUpdate"]["status"] == "ACTIVE"
    keeper.keep(
        "filter",
        f"{ARN}filter/kept",
        name="kept",
        datasetGroupArn=group,
        filterExpression='EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("click")',
    )


# --- tools that watch over capacity ----------------------------------------------------------------------------------


def test_a_monitor_finds_active_campaigns_and_changes_their_capacity(site, shop):
    pages = site.api.get_paginator("list_campaigns").paginate()
    arns = [campaign["campaignArn"] for page in pages for campaign in page["campaigns"]]
    assert shop.campaign in arns
    found = site.api.describe_campaign(campaignArn=shop.campaign)["campaign"]
    assert found["minProvisionedTPS"] == 1
    version = site.api.describe_solution_version(solutionVersionArn=found["solutionVersionArn"])["solutionVersion"]
    assert version["recipeArn"] == f"{RECIPE}aws-sims"
    site.api.update_campaign(campaignArn=shop.campaign, minProvisionedTPS=2)
    assert site.describe(shop.campaign)["campaign"]["status"] == "ACTIVE"
    until(lambda found: found["minProvisionedTPS"] == 2, lambda: site.describe(shop.campaign)["campaign"])
    assert site.describe(shop.campaign)["campaign"]["solutionVersionArn"] == shop.version


@pytest.fixture(scope="module")
def recommender(site):
    """In a group of the video domain, as its own notebook makes it."""
    group = site.group(domain="VIDEO_ON_DEMAND")
    schema = site.schema(CLICKS, domain="VIDEO_ON_DEMAND")
    dataset = site.api.create_dataset(name="d", schemaArn=schema, datasetGroupArn=group, datasetType="Interactions")
    assert site.load(dataset["datasetArn"], clicks().assign(EVENT_TYPE="Watch"))["status"] == "ACTIVE"
    made = site.api.create_recommender(
        name="most-popular", datasetGroupArn=group, recipeArn=f"{RECIPE}aws-vod-most-popular"
    )
    return site.active(made["recommenderArn"])


def test_the_configuration_of_a_recommender_can_be_read_changed_and_sent_back(site, recommender):
    config = site.describe(recommender)["recommender"]["recommenderConfig"]
    config["minRecommendationRequestsPerSecond"] = 2
    site.api.update_recommender(recommenderArn=recommender, recommenderConfig=config)
    updated = until(
        lambda found: found["latestRecommenderUpdate"]["status"] == "ACTIVE",
        lambda: site.describe(recommender)["recommender"],
    )
    assert updated["recommenderConfig"] == config


# --- tools that clean up ---------------------------------------------------------------------------------------------


def test_a_group_is_emptied_by_listing_deleting_and_asking_until_nothing_is_found(site, recommender):
    group = site.describe(recommender)["recommender"]["datasetGroupArn"]
    site.filter(group, 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")')
    tracker = site.api.create_event_tracker(name="t", datasetGroupArn=group)["eventTrackerArn"]
    site.active(tracker)
    schemas = []
    for noun, key in (
        ("recommender", "recommenders"),
        ("solution", "solutions"),
        ("event_tracker", "eventTrackers"),
        ("filter", "Filters"),
        ("dataset", "datasets"),
    ):
        arn = noun.split("_")[0] + "".join(word.capitalize() for word in noun.split("_")[1:]) + "Arn"
        named = [one[arn] for one in getattr(site.api, f"list_{noun}s")(datasetGroupArn=group, maxResults=100)[key]]
        for one in named:
            if noun == "dataset":
                schemas.append(site.describe(one)["dataset"]["schemaArn"])
            getattr(site.api, f"delete_{noun}")(**{arn: one})
        for one in named:
            until(lambda found: found == "ResourceNotFoundException", lambda one=one: code(site.describe, arn=one))
    for schema in schemas:
        site.api.delete_schema(schemaArn=schema)
    site.api.delete_dataset_group(datasetGroupArn=group)
    until(lambda found: found == "ResourceNotFoundException", lambda: code(site.describe, arn=group))


def test_everything_is_deleted_in_one_go_without_waiting_in_between(site):
    group = site.group()
    dataset = site.dataset(group)
    items = site.dataset(group, ITEMS, "Items")
    schemas = [site.describe(arn)["dataset"]["schemaArn"] for arn in (dataset, items)]
    assert site.load(dataset, clicks())["status"] == "ACTIVE"
    version = site.version(site.solution(group, "aws-user-personalization", solutionConfig=SMALL))
    campaign = site.campaign(version["solutionVersionArn"], itemExplorationConfig=EXPLORATION)
    tracker = site.active(site.api.create_event_tracker(name="t", datasetGroupArn=group)["eventTrackerArn"])
    seen = site.filter(group, 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")')
    site.api.delete_campaign(campaignArn=campaign)
    site.api.delete_solution(solutionArn=version["solutionArn"])
    site.api.delete_event_tracker(eventTrackerArn=tracker)
    site.api.delete_filter(filterArn=seen)
    for arn in (dataset, items):
        site.api.delete_dataset(datasetArn=arn)
    for arn in schemas:
        site.api.delete_schema(schemaArn=arn)
    site.api.delete_dataset_group(datasetGroupArn=group)
    again = {"name": group.rpartition("/")[2]}
    until(lambda found: found is None, lambda: code(site.api.create_dataset_group, **again))


SMALL = {"algorithmHyperParameters": {"hidden_dimension": "32", "bptt": "2"}}
