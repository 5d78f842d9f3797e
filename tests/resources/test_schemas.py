"""Schemas are checked, unique and held by the datasets that use them."""

import json

import pytest

from lib.resources.errors import (
    InvalidInputException,
    ResourceAlreadyExistsException,
    ResourceInUseException,
    ResourceNotFoundException,
)
from tests.resources.workflow import INTERACTIONS


def test_a_second_schema_of_a_name_is_refused_with_the_arn(personalize):
    arn = personalize.schema(INTERACTIONS, "clicks")
    with pytest.raises(ResourceAlreadyExistsException, match=f"^Another resource with Arn {arn} already exists.$"):
        personalize.schema(INTERACTIONS, "clicks")


def test_a_schema_comes_back_as_it_was_given(personalize):
    text = json.dumps(INTERACTIONS, indent=3)
    arn = personalize.create_schema(name="clicks", schema=text)["schemaArn"]
    assert personalize.describe_schema(schema_arn=arn)["schema"].schema == text


def test_a_schema_without_a_required_field_is_refused(personalize):
    fields = [field for field in INTERACTIONS["fields"] if field["name"] != "TIMESTAMP"]
    with pytest.raises(InvalidInputException, match="TIMESTAMP"):
        personalize.schema({**INTERACTIONS, "fields": fields}, "clicks")


def test_a_schema_in_use_cannot_be_deleted(personalize):
    dataset = personalize.dataset(personalize.group())
    schema = personalize.describe_dataset(dataset_arn=dataset)["dataset"].schema_arn
    with pytest.raises(ResourceInUseException, match=dataset):
        personalize.delete_schema(schema_arn=schema)
    personalize.delete_dataset(dataset_arn=dataset)
    personalize.delete_schema(schema_arn=schema)
    with pytest.raises(ResourceNotFoundException):
        personalize.describe_schema(schema_arn=schema)
