"""Datasets: types, schemas, updates and deletion."""

import copy

import pandas as pd
import pytest

from lib.resources import datasets
from lib.resources.errors import (
    InvalidInputException,
    ResourceAlreadyExistsException,
    ResourceInUseException,
)
from tests.resources.workflow import INTERACTIONS, ITEMS


@pytest.mark.parametrize("kind", ["INTERACTIONS", "interactions", "Interactions"])
def test_a_type_is_spelt_in_any_case(personalize, kind):
    group, schema = personalize.group(), personalize.schema(INTERACTIONS, "clicks")
    answer = personalize.create_dataset(name="x", schema_arn=schema, dataset_group_arn=group, dataset_type=kind)
    assert answer["datasetArn"] == "arn:aws:personalize:us-east-1:123456789012:dataset/news/INTERACTIONS"


def test_a_group_takes_datasets_once_it_is_active(personalize):
    schema = personalize.schema(INTERACTIONS, "clicks")
    group = personalize.create_dataset_group(name="news")["datasetGroupArn"]
    members = {"name": "x", "schema_arn": schema, "dataset_group_arn": group, "dataset_type": "Interactions"}
    with pytest.raises(ResourceInUseException, match="CREATE PENDING"):
        personalize.create_dataset(**members)
    personalize.clock.wait()
    personalize.create_dataset(**members)


def test_a_group_has_one_dataset_of_a_type(personalize):
    group = personalize.group()
    personalize.dataset(group)
    with pytest.raises(ResourceAlreadyExistsException, match="dataset/news/INTERACTIONS"):
        personalize.dataset(group, name="other")


def test_a_schema_of_another_type_does_not_fit(personalize):
    group, schema = personalize.group(), personalize.schema(ITEMS, "items")
    with pytest.raises(InvalidInputException, match="Items"):
        personalize.create_dataset(name="x", schema_arn=schema, dataset_group_arn=group, dataset_type="Users")


def test_a_schema_of_another_domain_does_not_fit(personalize):
    group, schema = personalize.group(domain="ECOMMERCE"), personalize.schema(ITEMS, "items")
    with pytest.raises(InvalidInputException, match="ECOMMERCE"):
        personalize.create_dataset(name="x", schema_arn=schema, dataset_group_arn=group, dataset_type="Items")


def with_column(kind):
    schema = copy.deepcopy(ITEMS)
    schema["fields"].append({"name": "PRICE", "type": kind})
    return schema


def test_a_new_column_must_permit_null(personalize):
    dataset = personalize.dataset(personalize.group(), ITEMS)
    with pytest.raises(InvalidInputException, match="PRICE"):
        personalize.update_dataset(dataset_arn=dataset, schema_arn=personalize.schema(with_column("float"), "wider"))


def test_an_update_of_the_schema_takes_effect_when_it_is_active(personalize):
    dataset = personalize.dataset(personalize.group(), ITEMS)
    wider = personalize.schema(with_column(["null", "float"]), "wider")
    personalize.update_dataset(dataset_arn=dataset, schema_arn=wider)
    before = personalize.describe_dataset(dataset_arn=dataset)["dataset"]
    assert before.status == "ACTIVE" and before.latest_dataset_update.status == "CREATE PENDING"
    assert before.schema_arn != wider
    with pytest.raises(ResourceInUseException):
        personalize.delete_dataset(dataset_arn=dataset)
    personalize.clock.wait()
    after = personalize.describe_dataset(dataset_arn=dataset)["dataset"]
    assert after.latest_dataset_update.status == "ACTIVE" and after.schema_arn == wider


def test_a_large_number_put_into_a_new_column_keeps_its_digits(personalize):
    group = personalize.group()
    dataset = personalize.dataset(group, ITEMS)
    old = pd.DataFrame({"ITEM_ID": ["old"], "GENRE": ["Jazz"]})
    assert personalize.load(dataset, old, "old").status == "ACTIVE"
    wider = personalize.schema(with_column(["null", "long"]), "wider")
    personalize.update_dataset(dataset_arn=dataset, schema_arn=wider)
    personalize.clock.wait()
    new = {"itemId": "new", "properties": '{"price": 123456789012345679}'}
    personalize.put_items(dataset_arn=dataset, items=[new])
    prices = datasets.load(personalize.account, group).items.set_index("ITEM_ID")["PRICE"]
    assert prices["new"] == 123456789012345679 and prices.isna()["old"]


def test_the_interactions_schema_cannot_change(personalize):
    dataset = personalize.dataset(personalize.group())
    with pytest.raises(InvalidInputException, match="only Items and Users"):
        personalize.update_dataset(dataset_arn=dataset, schema_arn=personalize.schema(INTERACTIONS, "other"))


def test_a_tracker_and_a_filter_hold_their_datasets(personalize):
    group = personalize.group()
    dataset = personalize.dataset(group)
    tracker = personalize.create_event_tracker(name="t", dataset_group_arn=group)["eventTrackerArn"]
    filter_arn = personalize.create_filter(
        name="seen", dataset_group_arn=group, filter_expression='EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")'
    )["filterArn"]
    personalize.clock.wait()
    with pytest.raises(ResourceInUseException, match="event-tracker"):
        personalize.delete_dataset(dataset_arn=dataset)
    personalize.delete_event_tracker(event_tracker_arn=tracker)
    with pytest.raises(ResourceInUseException, match="filter/seen"):
        personalize.delete_dataset(dataset_arn=dataset)
    personalize.delete_filter(filter_arn=filter_arn)
    personalize.delete_dataset(dataset_arn=dataset)
