"""Use cases of domains: trained, served, stopped, changed and deleted by themselves."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.recipes import RECIPES
from lib.recipes.use_cases import USE_CASES
from lib.resources.errors import InvalidInputException, ResourceInUseException, ResourceNotFoundException
from tests.resources.workflow import INTERACTIONS, Personalize
from tests.small_recipe import RECIPE

SHOP_ITEMS = {
    "type": "record",
    "name": "Items",
    "namespace": "com.amazonaws.personalize.schema",
    "fields": [
        {"name": "ITEM_ID", "type": "string"},
        {"name": "PRICE", "type": "float"},
        {"name": "CATEGORY_L1", "type": "string", "categorical": True},
    ],
    "version": "1.0",
}
PREFIX = "arn:aws:personalize:::recipe/"
VIEWS, PURCHASES = PREFIX + "aws-ecomm-popular-items-by-views", PREFIX + "aws-ecomm-popular-items-by-purchases"
FOR_YOU, ALSO_VIEWED = PREFIX + "aws-ecomm-recommended-for-you", PREFIX + "aws-ecomm-customers-who-viewed-x-also-viewed"
TOGETHER = PREFIX + "aws-ecomm-frequently-bought-together"


def clicks(purchases=1000):
    """Low numbers are viewed most, high numbers bought most."""
    rng = np.random.default_rng(3)
    item = np.minimum(rng.geometric(0.15, 1000 + purchases), 30)
    item[1000:] = 31 - item[1000:]
    return pd.DataFrame(
        {
            "USER_ID": [f"u{n % 50}" for n in range(len(item))],
            "ITEM_ID": [f"i{n}" for n in item],
            "TIMESTAMP": 1_700_000_000 + 60 * np.arange(len(item)),
            "EVENT_TYPE": ["View"] * 1000 + ["purchase"] * purchases,
        }
    )


class Shop(Personalize):
    """An account with a shop that has interactions and items."""

    def filled(self, table):
        group = self.create_dataset_group(name="shop", domain="ECOMMERCE")["datasetGroupArn"]
        self.clock.wait()
        assert self.load(self.dataset(group, INTERACTIONS), table, "first").status == "ACTIVE"
        items = pd.DataFrame({"ITEM_ID": [f"i{n}" for n in range(1, 31)], "PRICE": 1.0, "CATEGORY_L1": "a"})
        assert self.load(self.dataset(group, SHOP_ITEMS), items, "items").status == "ACTIVE"
        return group

    def schema(self, schema, name):
        return self.create_schema(name=name, schema=json.dumps(schema), domain="ECOMMERCE")["schemaArn"]

    def recommender(self, recipe_arn=VIEWS, name="r", **config):
        arn = self.create_recommender(
            name=name, dataset_group_arn=self.shop, recipe_arn=recipe_arn, recommender_config=config or None
        )["recommenderArn"]
        self.work()
        return arn

    def described(self, arn):
        return self.describe_recommender(recommender_arn=arn)["recommender"]

    def ids(self, arn, **members):
        found = self.get_recommendations(recommender_arn=arn, **members)["itemList"]
        assert all("score" not in item for item in found)
        return [item["itemId"] for item in found]


@pytest.fixture
def shop(tmp_path, monkeypatch):
    for name, kind in (("aws-user-personalization-v2", "USER_PERSONALIZATION"), ("aws-sims", "RELATED_ITEMS")):
        monkeypatch.setitem(RECIPES, name, replace(RECIPE, name=name, recipe_type=kind, explores=True))
    shop = Shop.open(tmp_path)
    shop.shop = shop.filled(clicks())
    yield shop
    shop.account.store.close()


def most(table, event_type):
    """Items by the number of their users, ties by id."""
    rows = table[table["EVENT_TYPE"] == event_type]
    users = rows.groupby("ITEM_ID")["USER_ID"].nunique()
    return sorted(users.index, key=lambda item: (-users[item], item))


def test_popular_items_count_the_events_of_their_use_case(shop):
    for recipe, event_type in ((VIEWS, "View"), (PURCHASES, "purchase")):
        arn = shop.recommender(recipe, event_type)
        assert shop.described(arn).status == "ACTIVE"
        assert shop.ids(arn, user_id="anybody", num_results=5) == most(clicks(), event_type)[:5]
        with pytest.raises(InvalidInputException, match="userId is missing"):
            shop.ids(arn)


def test_what_a_user_has_bought_is_left_out_before_any_other_filter(shop):
    arn = shop.recommender(FOR_YOU)
    table = clicks()
    bought = set(table["ITEM_ID"][(table["USER_ID"] == "u7") & (table["EVENT_TYPE"] == "purchase")])
    all_items = {f"i{n}" for n in range(1, 31)}
    assert bought and set(shop.ids(arn, user_id="u7", num_results=500)) == all_items - bought
    assert set(shop.ids(arn, user_id="nobody", num_results=500)) == all_items
    for n, (expression, left) in enumerate(
        [
            ('EXCLUDE ItemID WHERE Items.ITEM_ID IN ("i1", "i30")', all_items - bought - {"i1", "i30"}),
            ('INCLUDE ItemID WHERE Items.ITEM_ID = "i1" OR Items.ITEM_ID IN ($ITEM)', {"i1", "i2"} - bought),
        ]
    ):
        own = shop.create_filter(name=f"f{n}", dataset_group_arn=shop.shop, filter_expression=expression)["filterArn"]
        values = {"ITEM": "'i2'"} if "$" in expression else None
        asked = {"user_id": "u7", "num_results": 500, "filter_arn": own, "filter_values": values}
        assert set(shop.ids(arn, **asked)) == left


def filtered(own, percent=None):
    """A request's filter, or that of its promotion."""
    if percent is None:
        return {"filter_arn": own}
    return {"promotions": [{"name": "p", "percentPromotedItems": percent, "filterArn": own}]}


@pytest.mark.parametrize("percent", [None, 100])
def test_the_longest_filter_goes_with_the_use_cases_own(shop, percent):
    arn = shop.recommender(FOR_YOU)
    first, *_ = shop.ids(arn, user_id="nobody")
    start = f'EXCLUDE ItemID WHERE Items.ITEM_ID IN ("{first}", "'
    expression = f'{start:x<2498}")'
    own = shop.create_filter(name="f", dataset_group_arn=shop.shop, filter_expression=expression)["filterArn"]
    assert first not in shop.ids(arn, user_id="nobody", num_results=5, **filtered(own, percent))


@pytest.mark.parametrize("percent", [None, 100])
def test_a_filter_of_users_is_refused(shop, percent):
    arn = shop.recommender(FOR_YOU)
    expression = 'INCLUDE UserID WHERE Interactions.EVENT_TYPE IN ("View")'
    own = shop.create_filter(name="f", dataset_group_arn=shop.shop, filter_expression=expression)["filterArn"]
    with pytest.raises(InvalidInputException, match="chooses among UserID, this campaign recommends items"):
        shop.ids(arn, user_id="nobody", **filtered(own, percent))


def test_a_purchase_counts_at_the_next_request(shop):
    arn = shop.recommender(ALSO_VIEWED)
    tracking_id = shop.create_event_tracker(name="t", dataset_group_arn=shop.shop)["trackingId"]
    shop.clock.wait()
    (first, *_) = shop.ids(arn, user_id="new", item_id="i5")
    event = {"eventType": "Purchase", "itemId": first, "sentAt": shop.account.now()}
    shop.put_events(tracking_id=tracking_id, session_id="s", user_id="new", event_list=[event])
    assert first not in shop.ids(arn, user_id="new", item_id="i5", num_results=500)


def test_requests_bring_what_the_use_case_needs(shop):
    arn = shop.recommender(ALSO_VIEWED)
    for members, told in (({"user_id": "u1"}, "itemId is missing"), ({"item_id": "i1"}, "userId is missing")):
        with pytest.raises(InvalidInputException, match=told):
            shop.ids(arn, **members)
    together = shop.recommender(TOGETHER, "together")
    assert "i1" not in shop.ids(together, item_id="i1", num_results=500)
    with pytest.raises(InvalidInputException, match="takes a campaign's ARN"):
        shop.get_recommendations(campaign_arn=together, item_id="i1")
    with pytest.raises(InvalidInputException, match=r"Recommender with arn .* does not exist"):
        shop.ids(arn + "x", user_id="u1", item_id="i1")


def test_metrics_are_there_once_it_is_trained(shop):
    arn = shop.create_recommender(name="r", dataset_group_arn=shop.shop, recipe_arn=VIEWS)["recommenderArn"]
    assert shop.described(arn).model_metrics is None
    with pytest.raises(InvalidInputException, match="not active yet"):
        shop.ids(arn, user_id="u1")
    shop.work()
    assert 0 < shop.described(arn).model_metrics["coverage"] <= 1


def test_a_stopped_recommender_refuses_requests_and_starts_again_as_it_was(shop):
    arn = shop.recommender()
    before = shop.ids(arn, user_id="u1")
    with pytest.raises(ResourceInUseException):
        shop.start_recommender(recommender_arn=arn)
    shop.stop_recommender(recommender_arn=arn)
    assert shop.described(arn).status == "STOP PENDING"
    shop.clock.wait()
    assert shop.described(arn).status == "INACTIVE"
    with pytest.raises(InvalidInputException, match="not active"):
        shop.ids(arn, user_id="u1")
    with pytest.raises(ResourceInUseException):
        shop.update_recommender(recommender_arn=arn, recommender_config={})
    shop.start_recommender(recommender_arn=arn)
    shop.clock.wait()
    assert shop.ids(arn, user_id="u1") == before


def test_an_update_comes_into_force_without_a_training(shop):
    arn = shop.recommender()
    assert shop.described(arn).latest_recommender_update is None
    shop.update_recommender(recommender_arn=arn, recommender_config={"enableMetadataWithRecommendations": True})
    asked = {"recommender_arn": arn, "user_id": "u1", "metadata_columns": {"ITEMS": ["CATEGORY_L1"]}}
    found = shop.described(arn)
    assert (found.status, found.latest_recommender_update.status) == ("ACTIVE", "CREATE PENDING")
    with pytest.raises(InvalidInputException, match="enableMetadata"):
        shop.get_recommendations(**asked)
    shop.clock.wait()
    assert shop.described(arn).recommender_config["minRecommendationRequestsPerSecond"] == 1
    assert shop.get_recommendations(**asked)["itemList"][0]["metadata"] == {"category_l1": "a"}


def test_other_training_columns_train_anew_while_the_old_model_answers(shop):
    arn = shop.recommender()
    config = {"trainingDataConfig": {"excludedDatasetColumns": {"ITEMS": ["PRICE"]}}}
    shop.update_recommender(recommender_arn=arn, recommender_config=config)
    found = shop.described(arn)
    assert (found.status, found.latest_recommender_update.status) == ("ACTIVE", "CREATE PENDING")
    assert "trainingDataConfig" not in found.recommender_config and shop.ids(arn, user_id="u1")
    with pytest.raises(ResourceInUseException):
        shop.update_recommender(recommender_arn=arn, recommender_config={})
    shop.work()
    found = shop.described(arn)
    assert found.latest_recommender_update.status == "ACTIVE"
    assert found.recommender_config["trainingDataConfig"] == config["trainingDataConfig"]
    assert (found.trained, found.trainings) == (2, 2) and shop.ids(arn, user_id="u1")
    assert found.last_updated_date_time == found.latest_recommender_update.last_updated_date_time


def test_a_failed_update_leaves_the_recommender_as_it_was(shop, monkeypatch):
    arn = shop.recommender()
    config = {"trainingDataConfig": {"excludedDatasetColumns": {"ITEMS": ["PRICE"]}}}
    shop.update_recommender(recommender_arn=arn, recommender_config=config)

    def fit(*_, **__):
        raise ValueError("no luck today")

    monkeypatch.setitem(RECIPES, "aws-popularity-count", replace(RECIPES["aws-popularity-count"], fit=fit))
    shop.work()
    found = shop.described(arn)
    assert (found.status, found.latest_recommender_update.status) == ("ACTIVE", "CREATE FAILED")
    assert found.latest_recommender_update.failure_reason == "no luck today"
    assert found.last_updated_date_time < found.latest_recommender_update.last_updated_date_time
    assert "trainingDataConfig" not in found.recommender_config and shop.ids(arn, user_id="u1")


def test_too_few_events_of_the_right_type_fail_the_recommender(tmp_path):
    shop = Shop.open(tmp_path)
    shop.shop = shop.filled(clicks(purchases=500))
    found = shop.described(shop.recommender(PURCHASES))
    assert found.status == "CREATE FAILED"
    assert "fewer than 1000 interactions after filtering by event type: Purchase (found 500)" in found.failure_reason


def test_every_use_case_has_its_recipe():
    assert {case.base for case in USE_CASES.values()} <= set(RECIPES)


@pytest.mark.parametrize(
    ("recipe", "config", "told"),
    [
        (PREFIX + "aws-vod-top-picks", {}, "no use case of ECOMMERCE"),
        (VIEWS, {"itemExplorationConfig": {"explorationWeight": "0.1"}}, "does not explore"),
        (FOR_YOU, {"itemExplorationConfig": {"explorationWeight": "7"}}, "explorationWeight is '7'"),
        (VIEWS, {"trainingDataConfig": {"excludedDatasetColumns": {"ITEMS": ["NO"]}}}, "has no column NO"),
    ],
)
def test_recommenders_that_make_no_sense_are_refused(shop, recipe, config, told):
    with pytest.raises(InvalidInputException, match=told):
        shop.create_recommender(name="r", dataset_group_arn=shop.shop, recipe_arn=recipe, recommender_config=config)


def test_a_recommender_needs_a_domain_its_datasets_and_a_use_case(shop):
    with pytest.raises(InvalidInputException, match="domains-specific Dataset Group"):
        shop.create_recommender(name="r", dataset_group_arn=shop.group(), recipe_arn=VIEWS)
    with pytest.raises(ResourceNotFoundException, match="use cases are"):
        shop.create_recommender(name="r", dataset_group_arn=shop.shop, recipe_arn=PREFIX + "aws-none")
    films = shop.group("films", domain="VIDEO_ON_DEMAND")
    more_like = PREFIX + "aws-vod-more-like-x"
    with pytest.raises(InvalidInputException, match="needs a dataset of INTERACTIONS and ITEMS"):
        shop.create_recommender(name="r", dataset_group_arn=films, recipe_arn=more_like)


def test_recipes_are_for_solutions_and_use_cases_for_recommenders(shop):
    with pytest.raises(InvalidInputException, match="aws-popularity-count is a recipe, for solutions alone"):
        shop.create_recommender(name="r", dataset_group_arn=shop.shop, recipe_arn=PREFIX + "aws-popularity-count")
    with pytest.raises(InvalidInputException, match="is a use case, for recommenders alone"):
        shop.create_solution(name="s", dataset_group_arn=shop.shop, recipe_arn=VIEWS)


def test_a_deleted_recommender_leaves_nothing(shop):
    arn = shop.recommender()
    shop.delete_recommender(recommender_arn=arn)
    assert shop.described(arn).model_metrics is None
    with pytest.raises(InvalidInputException):
        shop.ids(arn, user_id="u1")
    shop.clock.wait()
    with pytest.raises(ResourceNotFoundException):
        shop.described(arn)
    assert not shop.account.store.files.path("recommenders/r").exists()


def test_a_domain_lists_its_use_cases_and_the_catalogue_does_not(shop):
    for domain in ("ECOMMERCE", "VIDEO_ON_DEMAND"):
        listed = shop.list_recipes(domain=domain)["recipes"]
        assert [recipe["name"] for recipe in listed] == [c.name for c in USE_CASES.values() if c.domain == domain]
        assert {recipe["domain"] for recipe in listed} == {domain}
        for recipe in listed:
            assert shop.describe_recipe(recipe_arn=recipe["recipeArn"])["recipe"]["name"] == recipe["name"]
    assert not {recipe["name"] for recipe in shop.list_recipes()["recipes"]} & set(USE_CASES)
