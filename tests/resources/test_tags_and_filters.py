"""Tags, filters and trackers."""

import uuid

import pytest

from lib.resources import event_trackers
from lib.resources.errors import (
    InvalidInputException,
    LimitExceededException,
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
    TooManyTagKeysException,
    TooManyTagsException,
)
from tests.resources.workflow import ITEMS


def tag(key, value="x"):
    return {"tagKey": key, "tagValue": value}


def test_tags_are_added_replaced_and_removed(personalize):
    group = personalize.group(tags=[tag("team", "a"), tag("stage")])
    personalize.tag_resource(resource_arn=group, tags=[tag("team", "b")])
    personalize.untag_resource(resource_arn=group, tag_keys=["stage", "never"])
    assert personalize.list_tags_for_resource(resource_arn=group)["tags"] == [tag("team", "b")]


def test_fifty_tags_are_the_most(personalize):
    group = personalize.group(tags=[tag(str(number)) for number in range(50)])
    with pytest.raises(TooManyTagsException):
        personalize.tag_resource(resource_arn=group, tags=[tag("one more")])
    with pytest.raises(TooManyTagKeysException):
        personalize.untag_resource(resource_arn=group, tag_keys=[str(number) for number in range(51)])
    assert len(personalize.list_tags_for_resource(resource_arn=group)["tags"]) == 50


def test_reserved_keys_and_schemas_take_no_tags(personalize):
    with pytest.raises(InvalidInputException, match="aws:"):
        personalize.group(tags=[tag("aws:x")])
    with pytest.raises(InvalidInputException, match="schema"):
        personalize.tag_resource(resource_arn=personalize.schema(ITEMS, "s"), tags=[tag("x")])
    with pytest.raises(ResourceNotFoundException):
        personalize.list_tags_for_resource(resource_arn="arn:aws:personalize:us-east-1:123456789012:dataset-group/x")


def test_filters_are_listed_under_a_capital(personalize):
    group = personalize.group()
    personalize.dataset(group)
    personalize.dataset(group, ITEMS)
    arn = personalize.create_filter(
        name="f", dataset_group_arn=group, filter_expression='INCLUDE ItemID WHERE Items.GENRE IN ("news")'
    )["filterArn"]
    assert [found.filter_arn for found in personalize.list_filters(dataset_group_arn=group)["Filters"]] == [arn]
    assert personalize.describe_filter(filter_arn=arn)["filter"].status == "ACTIVE"


@pytest.mark.parametrize("expression", ["INCLUDE ItemID WHEN x", 'INCLUDE ItemID WHERE Items.COLOUR IN ("red")'])
def test_an_expression_with_a_bad_word_or_field_is_refused(personalize, expression):
    group = personalize.group()
    personalize.dataset(group, ITEMS)
    with pytest.raises(InvalidInputException, match="Could not create filter"):
        personalize.create_filter(name="f", dataset_group_arn=group, filter_expression=expression)
    assert personalize.list_filters()["Filters"] == []


def test_a_thirty_first_filter_exceeds_the_quota(personalize):
    group = personalize.group()
    personalize.dataset(group, ITEMS)
    for number in range(31):
        if number == 30:
            with pytest.raises(LimitExceededException, match="30"):
                create(personalize, group, number)
        else:
            create(personalize, group, number)


def create(personalize, group, number):
    text = f'EXCLUDE ItemID WHERE Items.GENRE IN ("{number}")'
    personalize.create_filter(name=f"f{number}", dataset_group_arn=group, filter_expression=text)


def test_a_group_has_one_tracker_and_its_id_is_a_uuid(personalize):
    group = personalize.group()
    answer = personalize.create_event_tracker(name="t", dataset_group_arn=group)
    assert str(uuid.UUID(answer["trackingId"])) == answer["trackingId"]
    assert len(answer["eventTrackerArn"].rpartition("/")[2]) == 8
    with pytest.raises(ResourceAlreadyExistsException, match=answer["eventTrackerArn"]):
        personalize.create_event_tracker(name="u", dataset_group_arn=group)
    found = event_trackers.of_tracking_id(personalize.account, answer["trackingId"])
    assert found.event_tracker_arn == answer["eventTrackerArn"]


def test_a_new_tracker_of_a_group_has_a_new_id(personalize):
    group = personalize.group()
    ids = []
    for _ in range(2):
        answer = personalize.create_event_tracker(name="t", dataset_group_arn=group)
        ids.append(answer["trackingId"])
        personalize.clock.wait()
        personalize.delete_event_tracker(event_tracker_arn=answer["eventTrackerArn"])
        personalize.clock.wait()
    assert ids[0] != ids[1]
    with pytest.raises(ResourceNotFoundException):
        event_trackers.of_tracking_id(personalize.account, ids[1])
