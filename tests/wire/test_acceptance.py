"""What a caller of Amazon Personalize relies on, each a check through boto3 against a service behind a port."""

import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pytest
from botocore.exceptions import ClientError

from lib.data.schema import Field, avro
from tests.filters import test_expression as expressions
from tests.service.doors import remote
from tests.wire.serving import serving, until
from tests.wire.site import CLICKS, ITEMS, RECIPE, ROLE, Site, clicks

NOW = datetime(2024, 1, 1, tzinfo=UTC)
SMALL = {"algorithmHyperParameters": {"hidden_dimension": "32", "bptt": "2"}}
LONG = {"algorithmHyperParameters": {"hidden_dimension": "256", "bptt": "32"}}
CATALOGUE_SIZE = 45
INTERACTIONS = replace(
    expressions.INTERACTIONS,
    fields=(*expressions.INTERACTIONS.fields, Field(name="NUM_RATINGS", type="int", nullable=True)),
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    data = folder / "data"
    data.mkdir()
    with serving(folder / "store", "--bucket", f"data={data}", "--quota", "dataset_groups=50") as service:
        yield Site(service, data)


@pytest.fixture(scope="module")
def shop(site):
    """A group with the catalogue that the filter expressions are about: items a to e, and forty more."""
    group = site.group()
    table = clicks(users=50, items=CATALOGUE_SIZE).assign(DEVICE="phone", NUM_RATINGS="")
    table["ITEM_ID"] = table["ITEM_ID"].map(dict(zip((f"i{n}" for n in range(5)), "abcde"))).fillna(table["ITEM_ID"])
    interactions = site.dataset(group, avro(INTERACTIONS))
    assert site.load(interactions, table)["status"] == "ACTIVE"
    hand_made = expressions.CATALOGUE.convert_dtypes().astype(object)
    others = pd.DataFrame({"ITEM_ID": [f"i{n}" for n in range(5, CATALOGUE_SIZE)], "STOCK": 1, "CREATION_TIMESTAMP": 1})
    items = pd.concat([hand_made, others]).assign(
        TITLE="a title", DESCRIPTION="a text", IS_NEW="false", **{f"N{n}": 1 for n in range(25)}
    )
    catalogue = site.dataset(group, avro(expressions.ITEMS), "Items")
    assert site.load(catalogue, items)["status"] == "ACTIVE"
    users = site.dataset(group, avro(expressions.USERS), "Users")
    for schema, kind in ((expressions.ACTIONS, "Actions"), (ACTION_INTERACTIONS, "Action_Interactions")):
        site.dataset(group, avro(schema), kind)
    tracking_id = site.api.create_event_tracker(name="tracker", datasetGroupArn=group)["trackingId"]
    return SimpleNamespace(
        group=group, interactions=interactions, items=catalogue, users=users, tracking_id=tracking_id
    )


ACTION_INTERACTIONS = replace(
    expressions.ACTION_INTERACTIONS,
    fields=(
        *(Field(name=name, type="string") for name in ("USER_ID", "ACTION_ID", "EVENT_TYPE")),
        Field(name="TIMESTAMP", type="long"),
    ),
)


def campaign(site, shop, recipe, **members):
    version = site.version(site.solution(shop.group, recipe, **members))
    assert version["status"] == "ACTIVE", version.get("failureReason")
    return site.campaign(version["solutionVersionArn"])


@pytest.fixture(scope="module")
def popular(site, shop):
    return campaign(site, shop, "aws-popularity-count")


@pytest.fixture(scope="module")
def personal(site, shop):
    return campaign(site, shop, "aws-user-personalization", solutionConfig=SMALL)


@pytest.fixture(scope="module")
def related(site, shop):
    return campaign(site, shop, "aws-sims")


@pytest.fixture(scope="module")
def ranking(site, shop):
    return campaign(site, shop, "aws-personalized-ranking", solutionConfig=SMALL)


@pytest.fixture
def scratch(site):
    """A group of the test's own with an empty Interactions dataset."""
    group = site.group()
    return SimpleNamespace(group=group, interactions=site.dataset(group))


def refused(code, match, operation, **members):
    """The operation answers with this error."""
    with pytest.raises(ClientError, match=match) as error:
        operation(**members)
    assert error.value.response["Error"]["Code"] == code


def event(item="i6", kind="click", **members):
    return {"eventType": kind, "itemId": item, "sentAt": NOW, **members}


def ids(answer):
    return [item["itemId"] for item in answer]


# --- 1 to 5: names and states ----------------------------------------------------------------------------------------


def test_a_second_schema_of_one_name_is_refused_with_its_arn(site):
    arn = site.api.create_schema(name="twice", schema=json.dumps(CLICKS))["schemaArn"]
    again = {"name": "twice", "schema": json.dumps(CLICKS)}
    refused("ResourceAlreadyExistsException", arn, site.api.create_schema, **again)


def test_a_dataset_type_may_be_spelt_in_any_case(site):
    schema = site.schema(CLICKS)
    for spelling in ("INTERACTIONS", "interactions", "Interactions"):
        group = site.group()
        made = site.api.create_dataset(name="d", schemaArn=schema, datasetGroupArn=group, datasetType=spelling)
        assert made["datasetArn"] == group.replace("dataset-group", "dataset") + "/INTERACTIONS"


def test_a_group_takes_datasets_once_it_is_active(site):
    schema = site.schema(CLICKS)
    group = site.api.create_dataset_group(name=site.name())["datasetGroupArn"]
    dataset = {"name": "d", "schemaArn": schema, "datasetGroupArn": group, "datasetType": "Interactions"}
    refused("ResourceInUseException", "CREATE", site.api.create_dataset, **dataset)
    site.active(group)
    site.active(site.api.create_dataset(**dataset)["datasetArn"])


def test_what_has_not_failed_has_no_failure_reason(site, scratch):
    solution = site.solution(scratch.group)
    for arn in (scratch.group, scratch.interactions, solution, site.filter(scratch.group, SEEN)):
        (described,) = (value for key, value in site.describe(arn).items() if key != "ResponseMetadata")
        assert "failureReason" not in described and None not in described.values()


SEEN = 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")'


def test_names_have_63_characters_at_most_and_begin_with_a_letter_or_digit(site):
    for name in ("-x", "a.b", "a" * 64, " "):
        refused("InvalidInputException", "'name'", site.api.create_dataset_group, name=name)
    site.active(site.api.create_dataset_group(name="a" * 63)["datasetGroupArn"])


# --- 6 to 10: data ---------------------------------------------------------------------------------------------------


def test_the_first_import_cannot_be_incremental(site, scratch):
    job = {"jobName": site.name(), "datasetArn": scratch.interactions, "roleArn": ROLE, "importMode": "INCREMENTAL"}
    source = site.put(clicks())
    refused("InvalidInputException", "FULL", site.api.create_dataset_import_job, dataSource=source, **job)


def test_999_interactions_are_too_few_and_1000_are_enough(site, scratch):
    few = site.load(scratch.interactions, clicks(rows=999))
    assert few["status"] == "CREATE FAILED" and "at least 1000 rows" in few["failureReason"]
    assert site.load(scratch.interactions, clicks(rows=1000))["status"] == "ACTIVE"


def test_a_column_that_is_missing_is_named(site, scratch):
    job = site.load(scratch.interactions, clicks().drop(columns="TIMESTAMP"))
    assert job["status"] == "CREATE FAILED"
    assert job["failureReason"].startswith("Input CSV is missing the following columns: [TIMESTAMP]")


def test_too_few_users_or_interactions_of_an_event_type_fail_the_training(site, scratch):
    table = clicks(rows=1000)
    table.loc[0, "EVENT_TYPE"] = "view"
    assert site.load(scratch.interactions, table)["status"] == "ACTIVE"
    clicked = site.version(site.solution(scratch.group, eventType="click"))
    assert clicked["status"] == "CREATE FAILED"
    assert "fewer than 1000 interactions" in clicked["failureReason"] and "999" in clicked["failureReason"]
    assert site.load(scratch.interactions, clicks(users=24))["status"] == "ACTIVE"
    few = site.version(site.solution(scratch.group))
    assert few["status"] == "CREATE FAILED" and "25" in few["failureReason"] and "24" in few["failureReason"]


def test_a_full_import_keeps_what_was_put_one_by_one(site, scratch):
    items = site.dataset(scratch.group, ITEMS, "Items")
    table = pd.DataFrame({"ITEM_ID": ["a", "b"], "GENRE": ["Jazz", "Folk"]})
    assert site.load(items, table)["status"] == "ACTIVE"
    put = [{"itemId": "b", "properties": '{"genre": "Pop"}'}, {"itemId": "c", "properties": '{"genre": "Pop"}'}]
    site.events.put_items(datasetArn=items, items=put)
    assert site.load(items, table)["status"] == "ACTIVE"
    kept = site.export(items, "ALL").set_index("ITEM_ID")["GENRE"].to_dict()
    assert kept == {"a": "Jazz", "b": "Pop", "c": "Pop"}


# --- 11 to 18: solutions, campaigns, lists ---------------------------------------------------------------------------


def test_a_solution_trains_by_itself_unless_told_otherwise_and_needs_a_recipe(site, scratch):
    solution = site.api.describe_solution(solutionArn=site.solution(scratch.group))["solution"]
    assert solution["performAutoTraining"] is True
    refused("InvalidInputException", "recipeArn", site.api.create_solution, name="s", datasetGroupArn=scratch.group)


def test_tuning_needs_all_three_lists_and_names_that_can_be_tuned(site, scratch):
    ranges = {
        "integerHyperParameterRanges": [],
        "continuousHyperParameterRanges": [],
        "categoricalHyperParameterRanges": [],
    }
    percentile = {"name": "min_user_history_length_percentile", "minValue": 0.1, "maxValue": 0.2}
    lacking = {name: ranges[name] for name in list(ranges)[:2]}
    for given in (lacking, {**ranges, "continuousHyperParameterRanges": [percentile]}):
        refused(
            "InvalidInputException",
            "hpoConfig",
            site.api.create_solution,
            name=site.name(),
            datasetGroupArn=scratch.group,
            recipeArn=RECIPE + "aws-user-personalization",
            performHPO=True,
            solutionConfig={"hpoConfig": {"algorithmHyperParameterRanges": given}},
        )


def test_a_training_can_be_stopped_before_and_after_it_began(site, shop):
    solution = site.solution(shop.group, "aws-user-personalization", solutionConfig=LONG)
    first, second = (site.api.create_solution_version(solutionArn=solution)["solutionVersionArn"] for _ in range(2))
    site.api.stop_solution_version_creation(solutionVersionArn=second)
    assert site.rest(second)["status"] == "CREATE STOPPED"
    until(lambda found: found["solutionVersion"]["status"] == "CREATE IN_PROGRESS", lambda: site.describe(first))
    site.api.stop_solution_version_creation(solutionVersionArn=first)
    assert site.describe(first)["solutionVersion"]["status"] == "CREATE STOPPING"
    assert site.rest(first)["status"] == "CREATE STOPPED"
    refused("InvalidInputException", "STOPPED", site.api.create_campaign, name="c", solutionVersionArn=first)


def test_a_campaign_runs_a_version_or_follows_the_latest_one(site, shop):
    solution = site.solution(shop.group)
    refused("ResourceNotFoundException", solution, site.api.create_campaign, name="c", solutionVersionArn=solution)
    version = site.version(solution)["solutionVersionArn"]
    following = site.campaign(f"{solution}/$LATEST", syncWithLatestSolutionVersion=True)
    assert site.describe(following)["campaign"]["solutionVersionArn"] == version
    site.api.delete_campaign(campaignArn=following)


def test_a_solution_is_deleted_with_its_versions_once_no_campaign_uses_it(site, shop):
    solution = site.solution(shop.group)
    version = site.version(solution)["solutionVersionArn"]
    running = site.campaign(version)
    refused("ResourceInUseException", running, site.api.delete_solution, solutionArn=solution)
    site.api.delete_campaign(campaignArn=running)
    site.api.delete_solution(solutionArn=solution)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        until(lambda found: not found["solutionVersion"]["status"].startswith("DELETE"), lambda: site.describe(version))


def test_a_schema_in_use_stays(site, scratch):
    schema = site.describe(scratch.interactions)["dataset"]["schemaArn"]
    refused("ResourceInUseException", "INTERACTIONS", site.api.delete_schema, schemaArn=schema)


def test_filters_are_listed_under_a_capital_letter(site, scratch):
    arn = site.filter(scratch.group, SEEN)
    assert [found["filterArn"] for found in site.api.list_filters(datasetGroupArn=scratch.group)["Filters"]] == [arn]


def test_pages_of_one_hold_every_group_once(site):
    groups = {site.group() for _ in range(3)}
    answers, token = [], {}
    while token is not None:
        page = site.api.list_dataset_groups(maxResults=1, **token)
        answers.append(page)
        token = {"nextToken": page["nextToken"]} if "nextToken" in page else None
    arns = [group["datasetGroupArn"] for page in answers for group in page["datasetGroups"]]
    assert groups <= set(arns) and len(arns) == len(set(arns)) == len(answers)
    refused("InvalidNextTokenException", "nextToken", site.api.list_dataset_groups, nextToken="?")


# --- 19 to 29: answers and events ------------------------------------------------------------------------------------


def test_25_items_are_recommended_500_at_most_and_50_with_metadata(site, personal):
    assert len(site.recommend(personal, userId="u1")) == 25
    ask = {"campaignArn": personal, "userId": "u1"}
    refused("InvalidInputException", "501", site.runtime.get_recommendations, numResults=501, **ask)
    columns = {"ITEMS": ["GENRES"]}
    refused(
        "InvalidInputException", "51", site.runtime.get_recommendations, numResults=51, metadataColumns=columns, **ask
    )


def test_the_scores_of_the_whole_catalogue_sum_to_one(site, personal):
    answer = site.recommend(personal, userId="u1", numResults=500)
    assert len(answer) == CATALOGUE_SIZE
    assert sum(item["score"] for item in answer) == pytest.approx(1, abs=CATALOGUE_SIZE * 5e-8)


def test_related_items_carry_no_score(site, related):
    answer = site.recommend(related, itemId="i9")
    assert len(answer) == 25 and {key for item in answer for key in item} == {"itemId"}


def test_an_unknown_item_is_ranked_last_with_score_zero(site, ranking):
    answer = site.runtime.get_personalized_ranking(
        campaignArn=ranking, userId="u1", inputList=["i7", "unknown", "a", "i9"]
    )["personalizedRanking"]
    assert answer[3] == {"itemId": "unknown", "score": 0.0}
    assert sum(item["score"] for item in answer) == pytest.approx(1, abs=1e-6)


def test_an_unknown_user_is_recommended_25_items(site, personal):
    assert len(set(ids(site.recommend(personal, userId="nobody")))) == 25


def test_popular_items_are_related_to_an_unknown_one(site, related, popular):
    assert ids(site.recommend(related, itemId="unknown")) == ids(site.recommend(popular))


def test_a_session_without_a_user_changes_its_own_recommendations(site, shop, personal):
    site.events.put_events(trackingId=shop.tracking_id, sessionId="visit", eventList=[event("i40"), event("i41")])
    cold = ids(site.recommend(personal, userId="somebody-else"))
    assert ids(site.recommend(personal, userId="visit")) != cold
    assert ids(site.recommend(personal, userId="nobody-either")) == cold


@pytest.mark.parametrize(
    "events",
    [
        [event()] * 11,
        [event(impression=[f"i{n}" for n in range(26)])],
        [event(properties="[1]")],
        [event(properties='{"Timestamp": 1}')],
    ],
    ids=["11 events", "26 impressions", "a list for properties", "a reserved property"],
)
def test_events_that_break_a_rule_are_refused(site, shop, events):
    call = {"trackingId": shop.tracking_id, "sessionId": "s", "userId": "u", "eventList": events}
    refused("InvalidInputException", None, site.events.put_events, **call)


def test_properties_of_events_reach_their_columns_and_one_event_id_counts_once(site, scratch):
    schema = {**CLICKS, "fields": [*CLICKS["fields"], {"name": "NUM_RATINGS", "type": ["null", "int"]}]}
    group = site.group()
    dataset = site.dataset(group, schema)
    tracking_id = site.api.create_event_tracker(name="t", datasetGroupArn=group)["trackingId"]
    call = {"trackingId": tracking_id, "sessionId": "s", "userId": "u"}
    for _ in range(2):
        site.events.put_events(eventList=[event(eventId="once", properties='{"numRatings":"12"}')], **call)
    (row,) = site.export(dataset, "PUT").to_dict("records")
    assert row == {
        "USER_ID": "u",
        "ITEM_ID": "i6",
        "TIMESTAMP": str(int(NOW.timestamp())),
        "EVENT_TYPE": "click",
        "NUM_RATINGS": "12",
    }


@pytest.mark.parametrize("expression", expressions.VALID)
def test_each_valid_filter_expression_is_created(site, shop, expression):
    site.api.delete_filter(filterArn=site.filter(shop.group, expression))


@pytest.mark.parametrize("expression", [text for text in expressions.INVALID if text])
def test_each_invalid_filter_expression_is_refused(site, shop, expression):
    filter_ = {"name": site.name(), "datasetGroupArn": shop.group, "filterExpression": expression}
    refused("InvalidInputException", "Could not create filter|filterExpression", site.api.create_filter, **filter_)


@pytest.fixture(scope="module")
def visitor(site, shop):
    """The user whom the hand-made catalogue's table of filters is about."""
    age, tier, city = (expressions.USER[name] for name in ("AGE", "TIER", "CITY"))
    properties = json.dumps({"age": age, "tier": tier, "city": city})
    site.events.put_users(datasetArn=shop.users, users=[{"userId": "visitor", "properties": properties}])
    done = [event("abcde"[item], kind) for kind, items in expressions.HISTORY.items() for item in items]
    site.events.put_events(trackingId=shop.tracking_id, sessionId="v", userId="visitor", eventList=done)
    return "visitor"


PIPED = [row for row in expressions.MASKS if row[0] in expressions.VALID[23:28]]


@pytest.mark.parametrize(("expression", "values", "expected"), PIPED)
def test_expressions_joined_by_pipes_pass_the_items_they_should(
    site, shop, popular, visitor, expression, values, expected
):
    arn = site.filter(shop.group, expression)
    answer = site.recommend(popular, userId=visitor, numResults=500, filterArn=arn, filterValues=values)
    assert sorted(set(ids(answer)) & set("abcde")) == sorted(expected)
    site.api.delete_filter(filterArn=arn)


def test_a_filter_by_the_current_item_is_refused_where_there_is_none(site, shop, personal):
    cheaper = site.filter(shop.group, "INCLUDE ItemID WHERE Items.PRICE < CurrentItem.PRICE")
    ask = {"campaignArn": personal, "userId": "u1", "filterArn": cheaper}
    refused("InvalidInputException", "CurrentItem", site.runtime.get_recommendations, **ask)


def test_without_values_an_exclusion_does_nothing_and_an_inclusion_is_refused(site, shop, popular):
    exclude = site.filter(shop.group, "EXCLUDE ItemID WHERE Items.GENRES IN ($G)")
    include = site.filter(shop.group, "INCLUDE ItemID WHERE Items.GENRES IN ($G)")
    assert site.recommend(popular, filterArn=exclude) == site.recommend(popular)
    ask = {"campaignArn": popular, "filterArn": include}
    refused("InvalidInputException", r"\$G", site.runtime.get_recommendations, **ask)


def test_half_of_ten_items_are_promoted_in_their_own_order(site, shop, personal):
    old = site.filter(shop.group, "INCLUDE ItemID WHERE Items.CREATION_TIMESTAMP < 50")
    promotion = {"name": "old", "percentPromotedItems": 50, "filterArn": old}
    answer = site.recommend(personal, userId="u1", numResults=10, promotions=[promotion])
    promoted = [item["itemId"] for item in answer if item.get("promotionName") == "old"]
    unpromoted = ids(site.recommend(personal, userId="u1", numResults=500, filterArn=old))
    assert len(answer) == 10 and promoted == unpromoted[:5]


# --- 30 to 38: jobs, metrics, schemas, signatures, recommenders ------------------------------------------------------


def test_a_batch_job_answers_line_by_line_and_marks_the_bad_one(site, shop, personal):
    version = site.describe(personal)["campaign"]["solutionVersionArn"]
    lines = ['{"userId": "u1"}', "no json", '{"userId": "u2"}']
    (site.data / "in.json").write_text("\n".join(lines) + "\n")
    job = site.api.create_batch_inference_job(
        jobName=site.name(),
        solutionVersionArn=version,
        jobInput={"s3DataSource": {"path": "s3://data/in.json"}},
        jobOutput={"s3DataDestination": {"path": "s3://data/out/"}},
        roleArn=ROLE,
        numResults=5,
    )
    site.active(job["batchInferenceJobArn"])
    answers = [json.loads(line) for line in (site.data / "out" / "in.json.out").read_text().splitlines()]
    assert [bool(answer["error"]) for answer in answers] == [False, True, False]
    assert answers[2]["input"] == {"userId": "u2"} and len(answers[2]["output"]["recommendedItems"]) == 5


def test_metrics_of_a_hand_made_example_come_out_as_worked_by_hand(site, scratch):
    """Everybody knows twenty equally popular items; last came the second and the fifth in the order of a draw."""
    letters = "acdfghijklmnopqrstbe"
    table = pd.DataFrame(
        [(f"u{user}", letter, 1_700_000_000 + when) for user in range(50) for when, letter in enumerate(letters)],
        columns=["USER_ID", "ITEM_ID", "TIMESTAMP"],
    )
    assert site.load(scratch.interactions, table.assign(EVENT_TYPE="click"))["status"] == "ACTIVE"
    version = site.version(site.solution(scratch.group))["solutionVersionArn"]
    metrics = site.api.get_solution_metrics(solutionVersionArn=version)["metrics"]
    gain = (1 / math.log2(3) + 1 / math.log2(6)) / (1 / math.log2(2) + 1 / math.log2(3))
    assert metrics == {
        "coverage": 1.0,
        "mean_reciprocal_rank_at_25": 0.5,
        "normalized_discounted_cumulative_gain_at_5": round(gain, 4),
        "normalized_discounted_cumulative_gain_at_10": round(gain, 4),
        "normalized_discounted_cumulative_gain_at_25": round(gain, 4),
        "precision_at_5": 0.4,
        "precision_at_10": 0.2,
        "precision_at_25": 0.08,
    }


def test_what_rises_most_between_the_last_two_intervals_trends_and_popularity_orders_what_does_not(site, scratch):
    quiet = clicks()
    newest = int(quiet["TIMESTAMP"].max()) + 86_400
    hours = {"i20": (5, 12), "i30": (8, 9), "i40": (6, 6)}  # events in the interval before, and in the newest one
    busy = pd.DataFrame(
        {"USER_ID": f"u{n}", "ITEM_ID": item, "TIMESTAMP": newest - ago, "EVENT_TYPE": "click"}
        for item, counts in hours.items()
        for ago, count in zip((3 * 3600, 0), counts)
        for n in range(count)
    )
    assert site.load(scratch.interactions, pd.concat([quiet, busy]))["status"] == "ACTIVE"
    answers = {}
    for recipe in ("aws-trending-now", "aws-popularity-count"):
        version = site.version(site.solution(scratch.group, recipe))
        assert version["status"] == "ACTIVE", version.get("failureReason")
        campaign_arn = site.campaign(version["solutionVersionArn"])
        answers[recipe] = ids(site.runtime.get_recommendations(campaignArn=campaign_arn, userId="u1")["itemList"])
    trending, popular = answers.values()
    assert trending[:2] == ["i20", "i30"]
    assert trending[2:] == [item for item in popular if item not in ("i20", "i30")][: len(trending) - 2]


def test_a_dataset_may_get_columns_that_permit_null_and_its_solutions_go_on(site, scratch):
    items = site.dataset(scratch.group, ITEMS, "Items")
    assert site.load(items, pd.DataFrame({"ITEM_ID": ["i1"], "GENRE": ["Jazz"]}))["status"] == "ACTIVE"
    assert site.load(scratch.interactions, clicks())["status"] == "ACTIVE"
    solution = site.solution(scratch.group)
    required, optional = (
        site.schema({**ITEMS, "fields": [*ITEMS["fields"], {"name": "YEAR", "type": kind}]})
        for kind in ("int", ["null", "int"])
    )
    refused("InvalidInputException", "YEAR", site.api.update_dataset, datasetArn=items, schemaArn=required)
    site.api.update_dataset(datasetArn=items, schemaArn=optional)
    updated = until(
        lambda found: found["latestDatasetUpdate"]["status"] == "ACTIVE", lambda: site.describe(items)["dataset"]
    )
    assert updated["schemaArn"] == optional
    assert site.version(solution)["status"] == "ACTIVE"


def test_a_wrong_secret_and_a_wrong_clock_are_refused(tmp_path, monkeypatch):
    keys = {"PERSONALIZE_ACCESS_KEY_ID": "AKIDREADER", "PERSONALIZE_SECRET_ACCESS_KEY": "a secret"}
    asks = [
        ("personalize", "list_schemas", {}, 400),
        ("personalize-runtime", "get_recommendations", {"campaignArn": "arn:aws:personalize:::campaign/c"}, 403),
    ]
    with serving(tmp_path, environment=keys) as service:
        assert remote("personalize", service.url, ("AKIDREADER", "a secret", None)).list_schemas()["schemas"] == []
        for secret, late in (("another secret", 0), ("a secret", 20), ("a secret", -20)):
            then = datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=late)
            monkeypatch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True, then=then: then)
            for name, operation, members, status in asks:
                client = remote(name, service.url, ("AKIDREADER", secret, None))
                with pytest.raises(ClientError, match="InvalidSignatureException") as error:
                    getattr(client, operation)(**members)
                assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_users_are_deleted_for_good_and_counted(site, scratch):
    assert site.load(scratch.interactions, clicks(users=50))["status"] == "ACTIVE"
    job = site.api.create_data_deletion_job(
        jobName=site.name(),
        datasetGroupArn=scratch.group,
        dataSource=site.put(pd.DataFrame({"USER_ID": ["u1", "u2"]})),
        roleArn=ROLE,
    )
    done = site.rest(job["dataDeletionJobArn"])
    assert (done["status"], done["numDeleted"]) == ("COMPLETED", 40)
    left = site.export(scratch.interactions, "ALL")
    assert len(left) == 960 and not {"u1", "u2"} & set(left["USER_ID"])


def test_the_price_of_an_item_counts_for_events_after_the_attribution_once_the_item_is_known(site):
    """By the 15 minutes that are counted when the attribution goes; that windows end by themselves takes a clock."""
    group = site.group()
    site.dataset(group)
    price = {"name": "PRICE", "type": ["null", "float"]}
    items = site.dataset(group, {**ITEMS, "fields": [*ITEMS["fields"], price]}, "Items")
    known = [{"itemId": "known", "properties": '{"price": 10}'}]
    site.events.put_items(datasetArn=items, items=known)
    tracker = site.api.create_event_tracker(name="t", datasetGroupArn=group)["trackingId"]

    def buy(item):
        events = [{"eventType": "buy", "itemId": item, "sentAt": datetime.now(UTC)}]
        site.events.put_events(trackingId=tracker, sessionId="s", userId="u", eventList=events)

    buy("known")
    arn = site.active(
        site.api.create_metric_attribution(
            name=site.name(),
            datasetGroupArn=group,
            metrics=[{"eventType": "Buy", "metricName": "revenue", "expression": "SUM(Items.PRICE)"}],
            metricsOutputConfig={"roleArn": ROLE, "s3DataDestination": {"path": "s3://data/attributed/"}},
        )["metricAttributionArn"]
    )
    buy("known")
    buy("new")
    site.events.put_items(datasetArn=items, items=[{"itemId": "new", "properties": '{"price": 4}'}])
    buy("new")
    site.api.delete_metric_attribution(metricAttributionArn=arn)
    (file,) = (site.data / "attributed").iterdir()
    assert re.fullmatch(r"AggregatedAttributionMetrics - PutEvents - \d{10}\.csv", file.name)
    (row,) = pd.read_csv(file).to_dict("records")
    begin = row.pop("TIMESTAMP")
    assert 0 <= datetime.now(UTC).timestamp() - begin < 900
    assert row == {
        "METRIC_NAME": "REVENUE",
        "EVENT_TYPE": "BUY",
        "VALUE": 14.0,
        "MATH_FUNCTION": "sum",
        "EVENT_ATTRIBUTION_SOURCE": "SOURCE_NAME_UNDEFINED",
    }


def test_a_stopped_recommender_refuses_requests_until_it_is_started_again(site):
    group = site.group(domain="ECOMMERCE")
    schema = site.schema(CLICKS, domain="ECOMMERCE")
    dataset = site.active(
        site.api.create_dataset(name="d", schemaArn=schema, datasetGroupArn=group, datasetType="Interactions")[
            "datasetArn"
        ]
    )
    assert site.load(dataset, clicks().assign(EVENT_TYPE="View"))["status"] == "ACTIVE"
    arn = site.active(
        site.api.create_recommender(
            name="most-viewed", datasetGroupArn=group, recipeArn=RECIPE + "aws-ecomm-popular-items-by-views"
        )["recommenderArn"]
    )
    ask = {"recommenderArn": arn, "userId": "u1"}
    before = site.runtime.get_recommendations(**ask)["itemList"]
    site.api.stop_recommender(recommenderArn=arn)
    assert site.rest(arn)["status"] == "INACTIVE"
    refused("InvalidInputException", arn, site.runtime.get_recommendations, **ask)
    assert site.api.start_recommender(recommenderArn=arn)["recommenderArn"] == arn
    assert site.rest(arn)["status"] == "ACTIVE"
    assert site.runtime.get_recommendations(**ask)["itemList"] == before
