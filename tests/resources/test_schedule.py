"""What the service does by itself, when the clock says so."""

from dataclasses import replace

import pytest

from lib.resources import records, schedule
from lib.resources.solutions import Solution
from tests.resources.test_attribution import WATCHES, Shop
from tests.resources.test_recommenders import clicks, shop  # noqa: F401
from tests.resources.workflow import interactions

HOUR, DAY = 3600, 86_400


def tick(personalize, seconds=0):
    """Let time pass, do what is due, and let its jobs end."""
    personalize.clock.wait(seconds)
    schedule.tick(personalize.account)
    personalize.work()


def versions(personalize, solution):
    found = personalize.list_solution_versions(solution_arn=solution)["solutionVersions"]
    return [(version.training_type, version.training_mode, version.status) for version in found]


def bring(personalize, group, job):
    """Import new interactions."""
    (dataset,) = personalize.list_datasets(dataset_group_arn=group)["datasets"]
    assert personalize.load(dataset.dataset_arn, interactions(), job, "INCREMENTAL").status == "ACTIVE"


AUTOMATIC, MANUAL = ("AUTOMATIC", "AUTOTRAIN", "ACTIVE"), ("MANUAL", "FULL", "ACTIVE")


@pytest.fixture
def group(personalize):
    return personalize.filled()


def test_the_first_version_is_trained_when_the_solution_is_an_hour_old(personalize, group):
    solution = personalize.solution(group)
    tick(personalize, HOUR - 60)
    assert versions(personalize, solution) == []
    tick(personalize, 60)
    tick(personalize, 60)
    assert versions(personalize, solution) == [AUTOMATIC]


def test_a_version_made_by_hand_stands_for_the_first_one(personalize, group):
    solution = personalize.solution(group)
    personalize.version(solution)
    bring(personalize, group, "more")
    tick(personalize, 2 * HOUR)
    assert versions(personalize, solution) == [MANUAL]
    tick(personalize, 7 * DAY)
    assert versions(personalize, solution) == [MANUAL, AUTOMATIC]


def test_later_versions_follow_the_schedule_when_there_is_something_new(personalize, group):
    config = {"autoTrainingConfig": {"schedulingExpression": "rate(2 days)"}}
    solution = personalize.solution(group, solution_config=config)
    tick(personalize, HOUR)
    tick(personalize, 2 * DAY)
    assert versions(personalize, solution) == [AUTOMATIC]
    bring(personalize, group, "after-the-second-day")
    tick(personalize, DAY)
    assert versions(personalize, solution) == [AUTOMATIC]  # the run of the second day was skipped
    tick(personalize, DAY)
    assert versions(personalize, solution) == [AUTOMATIC] * 2


def test_a_schedule_that_makes_no_sense_does_not_keep_others_from_theirs(personalize, group):
    wrong, right = (personalize.solution(group, name=name) for name in ("wrong", "right"))
    for solution in (wrong, right):
        personalize.version(solution)
    with personalize.account.store.transaction() as tx:
        found = records.get(tx, personalize.account, Solution, wrong)
        never = {"autoTrainingConfig": {"schedulingExpression": "rate(0 days)"}}
        records.save(tx, replace(found, solution_config=never))
    bring(personalize, group, "more")
    tick(personalize, 7 * DAY)
    assert versions(personalize, wrong) == [MANUAL]
    assert versions(personalize, right) == [MANUAL, AUTOMATIC]


def test_events_are_something_new(personalize, group):
    tracking_id = personalize.create_event_tracker(name="t", dataset_group_arn=group)["trackingId"]
    solution = personalize.solution(group)
    personalize.version(solution)
    for at in (DAY, 6 * DAY + HOUR):  # the second comes after the time on the schedule
        personalize.clock.wait(at)
        event = {"eventType": "click", "itemId": "i1", "sentAt": personalize.account.now()}
        personalize.put_events(tracking_id=tracking_id, session_id="s", user_id="u1", event_list=[event])
    tick(personalize)
    assert versions(personalize, solution) == [MANUAL, AUTOMATIC]


def test_who_wants_no_automatic_training_gets_none(personalize, group):
    solution = personalize.solution(group, perform_auto_training=False)
    other = personalize.solution(group, name="other")
    personalize.update_solution(solution_arn=other, perform_auto_training=False)
    tick(personalize, 30 * DAY)
    assert versions(personalize, solution) == versions(personalize, other) == []


def test_nothing_is_trained_before_there_are_interactions(personalize):
    group = personalize.group()
    personalize.dataset(group)
    solution = personalize.solution(group)
    tick(personalize, DAY)
    assert versions(personalize, solution) == []


def test_a_failed_training_waits_for_its_next_time(personalize, group):
    solution = personalize.solution(group, event_type="never")
    for _ in range(3):
        tick(personalize, DAY)
    assert versions(personalize, solution) == [("AUTOMATIC", "AUTOTRAIN", "CREATE FAILED")]


def test_a_campaign_that_follows_moves_to_the_automatic_version(personalize, group):
    solution = personalize.solution(group)
    personalize.version(solution)
    campaign = personalize.create_campaign(
        name="c",
        solution_version_arn=f"{solution}/$LATEST",
        campaign_config={"syncWithLatestSolutionVersion": True},
    )["campaignArn"]
    bring(personalize, group, "more")
    tick(personalize, 7 * DAY)
    latest = personalize.list_solution_versions(solution_arn=solution)["solutionVersions"][-1]
    assert latest.training_type == "AUTOMATIC"
    found = personalize.describe_campaign(campaign_arn=campaign)["campaign"]
    assert found.solution_version_arn == latest.solution_version_arn


def test_no_more_trainings_are_begun_than_may_wait(personalize, group):
    solutions = [personalize.solution(group, name=f"s{n}") for n in range(3)]
    personalize.account.quotas["pending_solution_versions"] = 2
    personalize.clock.wait(HOUR)
    schedule.tick(personalize.account)
    assert [len(versions(personalize, solution)) for solution in solutions] == [1, 1, 0]
    personalize.work()
    tick(personalize)
    assert [len(versions(personalize, solution)) for solution in solutions] == [1, 1, 1]


def test_recommenders_are_trained_again_every_week(shop):  # noqa: F811
    arn, stopped = shop.recommender(), shop.recommender(name="stopped")
    shop.stop_recommender(recommender_arn=stopped)
    dataset = shop.list_datasets(dataset_group_arn=shop.shop)["datasets"][0].dataset_arn
    assert shop.load(dataset, clicks().assign(USER_ID="new"), "more", "INCREMENTAL").status == "ACTIVE"
    tick(shop, 6 * DAY)
    assert shop.described(arn).trained == 1
    tick(shop, DAY)
    tick(shop, DAY)
    found = shop.described(arn)
    assert (found.trained, found.status, found.latest_recommender_update) == (2, "ACTIVE", None)
    assert found.last_updated_date_time == found.latest_retraining.last_updated_date_time
    assert shop.described(stopped).trained == 1
    assert shop.ids(arn, user_id="u1")


def test_windows_of_attributions_are_counted(personalize):
    counting = Shop(personalize, [WATCHES])
    counting.buy("i1", "watch")
    tick(personalize, 900)
    assert [row[:2] for row in counting.rows()] == [("COUNTWATCHES", 1.0)]


def test_a_destination_that_cannot_be_written_is_told_and_tried_again(personalize):
    counting = Shop(personalize, [WATCHES])
    counting.buy("i1", "watch")
    (personalize.data / "counts").write_text("a file, not a folder")
    with pytest.raises(ExceptionGroup, match="could not be written"):
        tick(personalize, 900)
    (personalize.data / "counts").unlink()
    tick(personalize)
    assert [row[:2] for row in counting.rows()] == [("COUNTWATCHES", 1.0)]
