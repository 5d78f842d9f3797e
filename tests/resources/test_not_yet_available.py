"""What comes with a later version is checked and kept, and says that it was not done."""

import pytest

from lib.resources import OPERATIONS
from lib.resources.errors import InvalidInputException
from lib.service import model
from tests.resources.workflow import ITEMS, interactions

ROLE = "arn:aws:iam::123456789012:role/r"
COUNT = {"eventType": "click", "metricName": "clicks", "expression": "SAMPLECOUNT()"}


def test_segments_need_a_recipe_that_makes_them(personalize):
    _, version = personalize.trained()
    with pytest.raises(InvalidInputException, match="USER_SEGMENTATION"):
        personalize.create_batch_segment_job(
            job_name="s",
            solution_version_arn=version,
            job_input={"s3DataSource": personalize.put(interactions(3), "x") | {"path": "s3://data/x"}},
            job_output={"s3DataDestination": {"path": "s3://data/out/"}},
            role_arn=ROLE,
        )


def attribution(personalize, group, metrics):
    return personalize.create_metric_attribution(
        name="m", dataset_group_arn=group, metrics=metrics, metrics_output_config={"roleArn": ROLE}
    )["metricAttributionArn"]


def test_metrics_are_kept_added_and_removed_and_nothing_is_counted(personalize):
    group = personalize.group()
    personalize.dataset(group)
    arn = attribution(personalize, group, [COUNT])
    personalize.work()
    found = personalize.describe_metric_attribution(metric_attribution_arn=arn)["metricAttribution"]
    assert found.status == "CREATE FAILED" and "nothing is counted" in found.failure_reason
    personalize.update_metric_attribution(
        metric_attribution_arn=arn,
        add_metrics=[{**COUNT, "metricName": "likes"}, {**COUNT, "metricName": "shares"}],
        remove_metrics=["clicks"],
    )
    page = personalize.list_metric_attribution_metrics(metric_attribution_arn=arn, max_results=1)
    rest = personalize.list_metric_attribution_metrics(metric_attribution_arn=arn, next_token=page["nextToken"])
    assert [metric["metricName"] for metric in (*page["metrics"], *rest["metrics"])] == ["likes", "shares"]


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ([COUNT, COUNT], "unique"),
        ([{**COUNT, "expression": "MAX(Items.PRICE)"}], "expected SAMPLECOUNT"),
        ([{**COUNT, "expression": "SUM(Items.GENRE)"}], "no numeric column GENRE"),
    ],
)
def test_metrics_that_cannot_be_counted_are_refused(personalize, metrics, told):
    group = personalize.group()
    personalize.dataset(group)
    personalize.dataset(group, ITEMS)
    with pytest.raises(InvalidInputException, match=told):
        attribution(personalize, group, metrics)


def test_every_operation_of_the_three_services_is_there():
    assert {operation.function for operation in model.operations().values()} == set(OPERATIONS)
