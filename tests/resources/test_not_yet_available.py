"""What comes with a later version is checked and kept, and says that it was not done."""

import pytest

from lib.resources import OPERATIONS
from lib.resources.errors import InvalidInputException
from lib.service import model
from tests.resources.workflow import interactions

ROLE = "arn:aws:iam::123456789012:role/r"


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


def test_every_operation_of_the_three_services_is_there():
    assert {operation.function for operation in model.operations().values()} == set(OPERATIONS)
