"""Dataset groups come to life, are listed page by page, and are deleted once empty."""

import pytest

from lib.resources.errors import (
    InvalidInputException,
    InvalidNextTokenException,
    LimitExceededException,
    ResourceInUseException,
    ResourceNotFoundException,
)


def test_a_group_passes_from_pending_to_active(personalize):
    arn = personalize.create_dataset_group(name="news")["datasetGroupArn"]
    seen = []
    for _ in range(4):
        seen.append(personalize.describe_dataset_group(dataset_group_arn=arn)["datasetGroup"].status)
        personalize.clock.wait(0.07)
    assert seen == ["CREATE PENDING", "CREATE PENDING", "CREATE IN_PROGRESS", "ACTIVE"]


def test_a_fresh_resource_has_no_failure_reason(personalize):
    group = personalize.describe_dataset_group(dataset_group_arn=personalize.group())["datasetGroup"]
    assert group.failure_reason is None and group.domain is None


def test_pages_hold_every_group_once(personalize):
    arns = [personalize.group(name) for name in ("c", "a", "b")]
    found, token, tokens = [], None, 0
    while True:
        page = personalize.list_dataset_groups(max_results=1, next_token=token)
        found += [group.dataset_group_arn for group in page["datasetGroups"]]
        token = page.get("nextToken")
        if token is None:
            break
        tokens += 1
    assert found == arns and tokens == 2


@pytest.mark.parametrize("token", ["x", "MXwx", "é"])
def test_a_token_that_was_not_issued_is_refused(personalize, token):
    personalize.group()
    with pytest.raises(InvalidNextTokenException):
        personalize.list_dataset_groups(next_token=token)


def test_an_empty_token_asks_for_the_first_page(personalize):
    arn = personalize.group()
    (found,) = personalize.list_dataset_groups(next_token="")["datasetGroups"]
    assert found.dataset_group_arn == arn


def test_a_token_of_another_list_is_refused(personalize):
    for name in ("a", "b"):
        personalize.group(name)
    token = personalize.list_dataset_groups(max_results=1)["nextToken"]
    with pytest.raises(InvalidNextTokenException):
        personalize.list_schemas(next_token=token)


def test_a_deleted_group_is_shown_for_a_while_and_then_not_found(personalize):
    arn = personalize.group()
    personalize.delete_dataset_group(dataset_group_arn=arn)
    assert personalize.describe_dataset_group(dataset_group_arn=arn)["datasetGroup"].status == "DELETE PENDING"
    with pytest.raises(ResourceInUseException):
        personalize.delete_dataset_group(dataset_group_arn=arn)
    personalize.clock.wait()
    with pytest.raises(ResourceNotFoundException, match=f"The given dataset group does not exist: {arn}"):
        personalize.describe_dataset_group(dataset_group_arn=arn)
    assert personalize.group() == arn


def test_a_group_that_holds_something_cannot_be_deleted(personalize):
    group = personalize.group()
    dataset = personalize.dataset(group)
    with pytest.raises(ResourceInUseException, match=dataset):
        personalize.delete_dataset_group(dataset_group_arn=group)
    personalize.delete_dataset(dataset_arn=dataset)
    personalize.delete_dataset_group(dataset_group_arn=group)  # what is being deleted does not hold it


def test_a_sixth_group_exceeds_the_quota_and_leaves_nothing(personalize):
    for number in range(5):
        personalize.group(f"g{number}")
    with pytest.raises(LimitExceededException, match="More than 5 resources in ACTIVE state"):
        personalize.group("g5")
    assert len(personalize.list_dataset_groups()["datasetGroups"]) == 5


def test_a_key_needs_a_role(personalize):
    with pytest.raises(InvalidInputException, match="go together"):
        personalize.create_dataset_group(name="news", kms_key_arn="arn:aws:kms:us-east-1:123456789012:key/1")
