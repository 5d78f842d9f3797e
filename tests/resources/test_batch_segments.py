"""Segments of users: files of items or attributes in, files of users out."""

import json

import numpy as np
import pandas as pd
import pytest

from lib.resources.errors import InvalidInputException
from tests.resources.test_batch_jobs import ROLE, answers, write
from tests.resources.workflow import ITEMS

PREFIX = "arn:aws:personalize:::recipe/"
USERS = {**ITEMS, "name": "Users", "fields": [{"name": "USER_ID", "type": "string"}, {"name": "AGE", "type": "int"}]}


def shopping(users=60):
    """Even users use even items, odd ones odd items; the later a user the more."""
    rng = np.random.default_rng(5)
    user = np.repeat(np.arange(users), np.arange(10, 10 + users))
    rows = len(user)
    return pd.DataFrame(
        {
            "USER_ID": [f"u{n}" for n in user],
            "ITEM_ID": [f"i{2 * draw + n % 2}" for draw, n in zip(rng.integers(10, size=rows), user)],
            "TIMESTAMP": 1_700_000_000 + rng.permutation(rows) * 60,
            "EVENT_TYPE": ["buy" if n < 20 else "click" for n in user],
        }
    )


@pytest.fixture
def shop(personalize):
    personalize.shop = personalize.group()
    items = pd.DataFrame({"ITEM_ID": [f"i{n}" for n in range(20)], "GENRE": ["even|all", "odd|all"] * 10})
    users = pd.DataFrame({"USER_ID": [f"u{n}" for n in range(60)], "AGE": range(60)})
    loaded = (
        personalize.load(personalize.dataset(personalize.shop), shopping(), "first"),
        personalize.load(personalize.dataset(personalize.shop, ITEMS), items, "items"),
        personalize.load(personalize.dataset(personalize.shop, USERS), users, "users"),
    )
    assert [job.status for job in loaded] == ["ACTIVE"] * 3
    return personalize


def segments(shop, recipe, *lines, name="s", **members):
    solution = shop.solution(shop.shop, name, PREFIX + recipe)
    version = shop.version(solution)
    assert shop.status(version) == "ACTIVE"
    arn = shop.create_batch_segment_job(
        job_name=name,
        solution_version_arn=version,
        job_input={"s3DataSource": {"path": write(shop, f"{name}.json", *lines)}},
        job_output={"s3DataDestination": {"path": "s3://data/out/"}},
        role_arn=ROLE,
        **members,
    )["batchSegmentJobArn"]
    shop.work()
    job = shop.describe_batch_segment_job(batch_segment_job_arn=arn)["batchSegmentJob"]
    assert (job.status, job.failure_reason) == ("ACTIVE", None)
    return answers(shop, f"{name}.json.out"), shop.get_solution_metrics(solution_version_arn=version)["metrics"]


def test_filters_forget_users_of_whom_nothing_has_come_in_for_ninety_days(shop):
    expression = 'INCLUDE UserID WHERE Interactions.EVENT_TYPE IN ("click")'
    arn = shop.create_filter(name="f", dataset_group_arn=shop.shop, filter_expression=expression)["filterArn"]
    shop.clock.wait(91 * 86_400)
    lines, _ = segments(shop, "aws-item-affinity", {"itemId": "i3"}, filter_arn=arn)
    assert lines[0]["output"]["usersList"] == []


def test_a_segment_job_whose_version_was_deleted_says_so(shop):
    solution = shop.solution(shop.shop, "gone", PREFIX + "aws-item-affinity")
    version = shop.version(solution)
    arn = shop.create_batch_segment_job(
        job_name="gone",
        solution_version_arn=version,
        job_input={"s3DataSource": {"path": write(shop, "gone.json", {"itemId": "i3"})}},
        job_output={"s3DataDestination": {"path": "s3://data/out/"}},
        role_arn=ROLE,
    )["batchSegmentJobArn"]
    shop.delete_solution(solution_arn=solution)
    shop.work()
    job = shop.describe_batch_segment_job(batch_segment_job_arn=arn)["batchSegmentJob"]
    told = f"{version} was deleted before the job began"
    assert job.status == "CREATE FAILED" and job.failure_reason.startswith(told)


def odd(users):
    return {int(user[1:]) % 2 for user in users}


def test_a_segment_holds_the_users_who_are_near_an_item(shop):
    lines, metrics = segments(
        shop, "aws-item-affinity", {"itemId": "i3"}, {"itemId": "i4"}, {"itemId": "no"}, {"userId": "u1"}, num_results=9
    )
    assert [odd(line["output"]["usersList"]) for line in lines] == [{1}, {0}, set(), set()]
    assert [len(line["output"]["usersList"]) for line in lines] == [9, 9, 0, 0]
    assert [line["error"] for line in lines[:2]] == [None, None]
    assert "'no' was not there" in lines[2]["error"]
    assert lines[3]["error"] == "User error: Required fields for the provided recipe are itemId"
    assert set(metrics) == {"coverage", "hits_at_1_percent", "recall_at_1_percent"}
    assert 0 < metrics["coverage"] <= 1 and metrics["hits_at_1_percent"] > 0


def test_attributes_are_equalities_joined_by_and(shop):
    asked = ['ITEMS.genre = "odd"', 'Items.GENRE = "even" AND ITEMS.GENRE = "all"']
    wrong = ['ITEMS.GENRE IN ("odd")', 'ITEMS.GENRE = "odd" OR ITEMS.GENRE = "even"', 'ITEMS.GENRE = "none"', "x"]
    wrong += ['ITEMS.COLOUR = "red"', 'ITEMS.GENRE = "odd" AND ITEMS.GENRE = "even"']
    lines, metrics = segments(
        shop, "aws-item-attribute-affinity", *({"itemAttributes": text} for text in asked + wrong), num_results=5
    )
    assert [odd(line["output"]["usersList"]) for line in lines[:2]] == [{1}, {0}]
    assert all(line["error"] and not line["output"]["usersList"] for line in lines[2:])
    assert metrics["hits_at_1_percent"] > 0


def test_filters_choose_among_users(shop):
    for name, expression, expected in (
        ("young", "INCLUDE UserID WHERE Users.AGE < 30", set(range(30))),
        ("buyers", 'EXCLUDE UserID WHERE Interactions.EVENT_TYPE IN ("buy")', set(range(20, 60))),
    ):
        arn = shop.create_filter(name=name, dataset_group_arn=shop.shop, filter_expression=expression)["filterArn"]
        lines, _ = segments(
            shop, "aws-item-affinity", {"itemId": "i3"}, name=name, filter_arn=arn, num_results=5_000_000
        )
        assert {int(user[1:]) for user in lines[0]["output"]["usersList"]} == expected


def test_a_filter_of_items_is_refused(shop):
    expression = 'INCLUDE ItemID WHERE Items.GENRE IN ("odd")'
    arn = shop.create_filter(name="f", dataset_group_arn=shop.shop, filter_expression=expression)["filterArn"]
    with pytest.raises(InvalidInputException, match="chooses among ItemID, this job needs a filter of UserID"):
        segments(shop, "aws-item-affinity", {"itemId": "i3"}, filter_arn=arn)


def test_a_filter_of_interactions_is_refused_with_attributes(shop):
    expression = 'INCLUDE UserID WHERE Interactions.EVENT_TYPE IN ("buy")'
    arn = shop.create_filter(name="f", dataset_group_arn=shop.shop, filter_expression=expression)["filterArn"]
    with pytest.raises(InvalidInputException, match="filters of aws-item-attribute-affinity cannot"):
        segments(shop, "aws-item-attribute-affinity", {"itemAttributes": 'ITEMS.GENRE = "odd"'}, filter_arn=arn)


def test_times_that_are_all_the_same_fail_the_training(personalize):
    group = personalize.group()
    table = shopping()
    table = table.assign(TIMESTAMP=1_700_000_000, ITEM_ID=[f"i{n}" for n in range(len(table))])
    personalize.load(personalize.dataset(group), table, "first")
    arn = personalize.version(personalize.solution(group, recipe_arn=PREFIX + "aws-item-affinity"))
    version = personalize.describe_solution_version(solution_version_arn=arn)["solutionVersion"]
    assert version.status == "CREATE FAILED" and "same TIMESTAMP" in version.failure_reason


def test_deleted_users_are_in_no_segment_until_they_come_back_and_are_trained_on(shop):
    solution = shop.solution(shop.shop, "s", PREFIX + "aws-item-affinity")
    version = shop.version(solution)
    asked = write(shop, "in.json", {"itemId": "i3"})

    def segment(version, name):
        shop.create_batch_segment_job(
            job_name=name,
            solution_version_arn=version,
            job_input={"s3DataSource": {"path": asked}},
            job_output={"s3DataDestination": {"path": f"s3://data/{name}/"}},
            role_arn=ROLE,
            num_results=100,
        )
        shop.work()
        (line,) = (shop.data / name / "in.json.out").read_text().splitlines()
        return json.loads(line)["output"]["usersList"]

    before = segment(version, "before")
    gone = before[:3]
    source = shop.put(pd.DataFrame({"USER_ID": gone}), "gone.csv")
    shop.create_data_deletion_job(job_name="d", dataset_group_arn=shop.shop, data_source=source, role_arn=ROLE)
    shop.work()
    assert {*segment(version, "after")} == {*before} - {*gone}
    shop.load(shop.account.arn("dataset", "news/INTERACTIONS"), shopping(), "again")
    assert {*segment(shop.version(solution), "trained")} == {*before}
    everybody = shop.put(pd.DataFrame({"USER_ID": before}), "all.csv")
    shop.create_data_deletion_job(job_name="all", dataset_group_arn=shop.shop, data_source=everybody, role_arn=ROLE)
    shop.work()
    assert segment(version, "nobody") == []
