"""Both doors to the product's own operations."""

import pytest
from botocore.exceptions import ClientError

from lib import jobs, resources
from lib.service import client, http
from lib.service.dispatch import Dispatcher
from tests.service.doors import listening, remote


@pytest.fixture(params=["in process", "over HTTP"])
def personalize(request, tmp_path):
    """A client of an account of its own."""
    if request.param == "in process":
        yield client.client("personalize", store=tmp_path)
        return
    dispatcher = Dispatcher(jobs.open_account(tmp_path), resources.OPERATIONS)
    with listening(http.Application(dispatcher, authorise=http.no_browser, log=[].append)) as url:
        yield remote("personalize", url)


def test_a_dataset_group_lives_through_a_client(personalize):
    arn = personalize.create_dataset_group(name="news")["datasetGroupArn"]
    assert personalize.describe_dataset_group(datasetGroupArn=arn)["datasetGroup"]["name"] == "news"
    assert "failureReason" not in personalize.describe_dataset_group(datasetGroupArn=arn)["datasetGroup"]
    with pytest.raises(personalize.exceptions.ResourceAlreadyExistsException, match=arn):
        personalize.create_dataset_group(name="news")
    with pytest.raises(personalize.exceptions.ResourceNotFoundException):
        personalize.describe_dataset_group(datasetGroupArn=arn + "s")


def test_pages_of_recipes_hold_each_once(personalize):
    pages = personalize.get_paginator("list_recipes").paginate(PaginationConfig={"PageSize": 1})
    arns = [recipe["recipeArn"] for page in pages for recipe in page["recipes"]]
    assert len(arns) == len(set(arns)) > 0


def test_a_token_of_another_operation_is_refused(personalize):
    with pytest.raises(ClientError) as refused:
        personalize.list_dataset_groups(nextToken="MQ==")
    assert refused.value.response["Error"]["Code"] == "InvalidNextTokenException"


def test_clients_of_a_store_share_what_is_open(tmp_path):
    first, second = (client.client("personalize", store=tmp_path) for _ in range(2))
    arn = first.create_dataset_group(name="news")["datasetGroupArn"]
    assert second.describe_dataset_group(datasetGroupArn=arn)
