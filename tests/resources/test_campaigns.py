"""Campaigns: what they may deploy, updates, following the latest version."""

import pytest

from lib.resources.errors import (
    InvalidInputException,
    LimitExceededException,
    ResourceInUseException,
    ResourceNotFoundException,
)


def described(personalize, arn):
    return personalize.describe_campaign(campaign_arn=arn)["campaign"]


def test_the_arn_of_a_solution_names_no_version(personalize):
    solution, _ = personalize.trained()
    with pytest.raises(ResourceNotFoundException):
        personalize.create_campaign(name="c", solution_version_arn=solution)


def test_a_campaign_that_follows_moves_to_the_next_version(personalize):
    solution, first = personalize.trained()
    campaign = personalize.create_campaign(
        name="c",
        solution_version_arn=f"{solution}/$LATEST",
        campaign_config={"syncWithLatestSolutionVersion": True},
    )["campaignArn"]
    personalize.clock.wait()
    assert described(personalize, campaign).solution_version_arn == first
    assert described(personalize, campaign).latest_campaign_update is None
    second = personalize.version(solution)
    assert described(personalize, campaign).solution_version_arn == second
    assert described(personalize, campaign).latest_campaign_update.status == "ACTIVE"


def test_a_campaign_follows_a_version_that_comes_while_it_is_created_or_updated(personalize):
    solution, _ = personalize.trained()
    second = personalize.create_solution_version(solution_arn=solution)["solutionVersionArn"]
    campaign = personalize.create_campaign(
        name="c",
        solution_version_arn=f"{solution}/$LATEST",
        campaign_config={"syncWithLatestSolutionVersion": True},
    )["campaignArn"]
    personalize.work()
    created = described(personalize, campaign)
    assert (created.status, created.solution_version_arn) == ("ACTIVE", second)
    third = personalize.create_solution_version(solution_arn=solution)["solutionVersionArn"]
    personalize.update_campaign(campaign_arn=campaign, min_provisioned_tps=3)
    personalize.work()
    updated = described(personalize, campaign)
    assert (updated.solution_version_arn, updated.min_provisioned_tps) == (third, 3)


def test_following_needs_latest(personalize):
    _, version = personalize.trained()
    with pytest.raises(InvalidInputException, match="LATEST"):
        personalize.create_campaign(
            name="c", solution_version_arn=version, campaign_config={"syncWithLatestSolutionVersion": True}
        )


def test_a_campaign_answers_as_before_until_its_update_is_active(personalize):
    solution, first = personalize.trained()
    second = personalize.version(solution)
    campaign = personalize.create_campaign(name="c", solution_version_arn=first)["campaignArn"]
    with pytest.raises(ResourceInUseException):
        personalize.update_campaign(campaign_arn=campaign, solution_version_arn=second)
    personalize.clock.wait()
    personalize.update_campaign(campaign_arn=campaign, solution_version_arn=second, min_provisioned_tps=3)
    during = described(personalize, campaign)
    assert (during.status, during.solution_version_arn, during.min_provisioned_tps) == ("ACTIVE", first, 1)
    assert during.latest_campaign_update.solution_version_arn == second
    personalize.clock.wait()
    after = described(personalize, campaign)
    assert (after.solution_version_arn, after.min_provisioned_tps) == (second, 3)


def test_a_campaign_was_last_updated_when_its_update_came_into_force(personalize):
    _, version = personalize.trained()
    campaign = personalize.create_campaign(name="c", solution_version_arn=version)["campaignArn"]
    personalize.clock.wait()
    created = described(personalize, campaign).last_updated_date_time
    personalize.update_campaign(campaign_arn=campaign, min_provisioned_tps=3)
    assert described(personalize, campaign).last_updated_date_time == created
    personalize.clock.wait()
    updated = described(personalize, campaign)
    assert created < updated.last_updated_date_time == updated.latest_campaign_update.last_updated_date_time


def test_a_solution_that_a_campaign_moved_to_is_in_use_and_the_one_it_left_is_not(personalize):
    first, version = personalize.trained()
    group = personalize.list_dataset_groups()["datasetGroups"][0].dataset_group_arn
    second = personalize.solution(group, name="second")
    moved_to = personalize.version(second)
    campaign = personalize.create_campaign(name="c", solution_version_arn=version)["campaignArn"]
    personalize.clock.wait()
    personalize.update_campaign(campaign_arn=campaign, solution_version_arn=moved_to)
    for solution in (first, second):
        with pytest.raises(ResourceInUseException, match=f"{solution} is used by {campaign}"):
            personalize.delete_solution(solution_arn=solution)
    personalize.clock.wait()
    with pytest.raises(ResourceInUseException, match=f"{second} is used by {campaign}"):
        personalize.delete_solution(solution_arn=second)
    assert [one.campaign_arn for one in personalize.list_campaigns(solution_arn=second)["campaigns"]] == [campaign]
    assert not personalize.list_campaigns(solution_arn=first)["campaigns"]
    personalize.delete_solution(solution_arn=first)


def test_a_sixth_campaign_exceeds_the_quota(personalize):
    _, version = personalize.trained()
    for number in range(5):
        personalize.create_campaign(name=f"c{number}", solution_version_arn=version)
    with pytest.raises(LimitExceededException, match=r"Cannot create a campaign\. More than 5 resources in ACTIVE"):
        personalize.create_campaign(name="c5", solution_version_arn=version)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"itemExplorationConfig": {"explorationWeight": "0.3"}}, "does not explore"),
        ({"rankingInfluence": {"POPULARITY": 0.5}}, "semantic"),
        ({"enableMetadataWithRecommendations": True}, "ITEMS dataset"),
    ],
)
def test_a_configuration_that_the_recipe_cannot_follow_is_refused(personalize, config, told):
    _, version = personalize.trained()
    with pytest.raises(InvalidInputException, match=told):
        personalize.create_campaign(name="c", solution_version_arn=version, campaign_config=config)


def test_campaigns_are_listed_by_solution_or_version(personalize):
    solution, version = personalize.trained()
    campaign = personalize.create_campaign(name="c", solution_version_arn=version)["campaignArn"]
    for arn in (solution, version):
        found = personalize.list_campaigns(solution_arn=arn)["campaigns"]
        assert [one.campaign_arn for one in found] == [campaign]
    assert personalize.list_campaigns(solution_arn=f"{solution}x")["campaigns"] == []


def test_a_deleted_campaign_is_not_found_after_a_while(personalize):
    _, version = personalize.trained()
    campaign = personalize.create_campaign(name="c", solution_version_arn=version)["campaignArn"]
    personalize.clock.wait()
    personalize.delete_campaign(campaign_arn=campaign)
    assert described(personalize, campaign).status == "DELETE PENDING"
    personalize.clock.wait()
    with pytest.raises(ResourceNotFoundException):
        described(personalize, campaign)
