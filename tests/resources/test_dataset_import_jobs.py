"""Imports: wholly or not at all."""

import pandas as pd
import pytest

from lib.jobs import run_pending
from lib.resources import datasets
from lib.resources.errors import InvalidInputException, LimitExceededException, ResourceInUseException
from lib.store import events
from tests.resources.workflow import INTERACTIONS, ITEMS, interactions

ITEM_ROWS = pd.DataFrame({"ITEM_ID": ["b", "a"], "GENRE": ["news", "sport"]})


@pytest.mark.parametrize(("rows", "status"), [(999, "CREATE FAILED"), (1000, "ACTIVE")])
def test_a_thousand_interactions_are_enough(personalize, rows, status):
    dataset = personalize.dataset(personalize.group())
    job = personalize.load(dataset, interactions(rows), "first")
    assert job.status == status
    assert (job.failure_reason is None) == (status == "ACTIVE")


def test_a_missing_column_is_named_and_nothing_imported(personalize):
    group = personalize.filled()
    dataset = personalize.list_datasets(dataset_group_arn=group)["datasets"][0].dataset_arn
    job = personalize.load(dataset, interactions().drop(columns="TIMESTAMP"), "second")
    assert job.failure_reason.startswith("Input CSV is missing the following columns: [TIMESTAMP]")
    assert len(datasets.load(personalize.account, group).interactions) == 1000


def test_a_bad_value_is_named_with_file_row_and_column(personalize):
    table = interactions().astype({"TIMESTAMP": object})
    table.loc[41, "TIMESTAMP"] = "yesterday"
    job = personalize.load(personalize.dataset(personalize.group()), table, "first")
    assert job.status == "CREATE FAILED"
    for told in ("first.csv", "row 43", "TIMESTAMP", "yesterday"):
        assert told in job.failure_reason


def test_the_first_import_must_be_full(personalize):
    dataset = personalize.dataset(personalize.group())
    with pytest.raises(InvalidInputException, match="FULL"):
        personalize.load(dataset, interactions(), "first", mode="INCREMENTAL")


@pytest.mark.parametrize("passed", [0.0, 0.5], ids=["pending", "in progress"])
def test_an_import_may_end_before_its_dataset_is_active(personalize, passed):
    group = personalize.group()
    dataset = personalize.create_dataset(
        name="d",
        schema_arn=personalize.schema(INTERACTIONS, "s"),
        dataset_group_arn=group,
        dataset_type="Interactions",
    )["datasetArn"]
    personalize.clock.wait(passed * personalize.account.settling.total_seconds())
    source = personalize.put(interactions(), "first.csv")
    job = personalize.create_dataset_import_job(job_name="first", dataset_arn=dataset, data_source=source)
    run_pending(personalize.account)
    found = personalize.describe_dataset_import_job(dataset_import_job_arn=job["datasetImportJobArn"])
    assert found["datasetImportJob"].status == "ACTIVE"
    assert personalize.describe_dataset(dataset_arn=dataset)["dataset"].status.startswith("CREATE ")
    personalize.clock.wait()
    assert personalize.describe_dataset(dataset_arn=dataset)["dataset"].status == "ACTIVE"
    assert len(datasets.load(personalize.account, group).interactions) == 1000


def test_an_increment_adds_and_a_full_import_replaces(personalize):
    group = personalize.group()
    dataset = personalize.dataset(group)
    later = interactions().assign(TIMESTAMP=lambda table: table["TIMESTAMP"] + 10**6)
    found = []
    for job, table, mode in (("a", interactions(), "FULL"), ("b", later, "INCREMENTAL"), ("c", later, "FULL")):
        personalize.load(dataset, table, job, mode)
        found.append(len(datasets.load(personalize.account, group).interactions))
    assert found == [1000, 2000, 1000]


def test_a_later_row_of_an_item_replaces_the_earlier_one(personalize):
    group = personalize.group()
    personalize.dataset(group)
    items = personalize.dataset(group, ITEMS)
    personalize.load(items, ITEM_ROWS, "a")
    personalize.load(items, pd.DataFrame({"ITEM_ID": ["b"], "GENRE": ["arts"]}), "b", "INCREMENTAL")
    table = datasets.load(personalize.account, group).items
    assert table.to_dict("list") == {"ITEM_ID": ["a", "b"], "GENRE": ["sport", "arts"]}


def test_a_full_import_keeps_what_was_put(personalize):
    group = personalize.group()
    personalize.dataset(group)
    items = personalize.dataset(group, ITEMS)
    personalize.load(items, ITEM_ROWS, "a")
    with personalize.account.store.transaction() as tx:
        events.put(tx, items, {"new": {"ITEM_ID": "new", "GENRE": "arts"}}, 0.0)
    personalize.load(items, ITEM_ROWS, "b")
    assert list(datasets.load(personalize.account, group).items["ITEM_ID"]) == ["a", "b", "new"]


def test_an_increment_replaces_what_was_put_before_it_and_not_what_is_put_after(personalize):
    group = personalize.group()
    personalize.dataset(group)
    items = personalize.dataset(group, ITEMS)

    def put(genre):
        personalize.put_items(dataset_arn=items, items=[{"itemId": "a", "properties": f'{{"genre": "{genre}"}}'}])
        personalize.clock.wait()

    def genre():
        return datasets.load(personalize.account, group).items.set_index("ITEM_ID")["GENRE"]["a"]

    personalize.load(items, ITEM_ROWS, "a")
    put("first")
    personalize.load(items, ITEM_ROWS[:1], "b", "INCREMENTAL")
    assert genre() == "first"  # it has no row of that id
    personalize.load(items, ITEM_ROWS, "c", "INCREMENTAL")
    assert genre() == "sport"
    put("second")
    assert genre() == "second"
    later = {"data_source": personalize.put(ITEM_ROWS, "d.csv"), "import_mode": "INCREMENTAL"}
    personalize.create_dataset_import_job(job_name="d", dataset_arn=items, **later)
    personalize.clock.wait()
    put("meanwhile")
    personalize.work()
    assert genre() == "meanwhile"


def test_a_running_import_holds_its_dataset(personalize):
    dataset = personalize.dataset(personalize.group())
    source = personalize.put(interactions(), "x.csv")
    personalize.create_dataset_import_job(job_name="x", dataset_arn=dataset, data_source=source)
    with pytest.raises(ResourceInUseException, match="dataset-import-job/x"):
        personalize.delete_dataset(dataset_arn=dataset)


def test_a_sixth_pending_import_exceeds_the_quota(personalize):
    dataset = personalize.dataset(personalize.group())
    source = personalize.put(interactions(), "x.csv")
    for number in range(5):
        personalize.create_dataset_import_job(job_name=f"x{number}", dataset_arn=dataset, data_source=source)
    with pytest.raises(LimitExceededException, match="More than 5 resources with PENDING or IN_PROGRESS status"):
        personalize.create_dataset_import_job(job_name="x5", dataset_arn=dataset, data_source=source)


@pytest.mark.parametrize(
    "location",
    [
        "s3://data/none.csv",
        "s3://elsewhere/x.csv",
        "s3://data/../store/store.db",
        "file:///etc/passwd",
        "http://host/x.csv",
        "s3://",
        "s3://data/",
    ],
)
def test_a_location_with_no_readable_data_is_refused_at_once(personalize, location):
    dataset = personalize.dataset(personalize.group())
    with pytest.raises(InvalidInputException, match=r"Insufficient privileges|Invalid Data location"):
        personalize.create_dataset_import_job(job_name="x", dataset_arn=dataset, data_source={"dataLocation": location})


def test_a_link_out_of_the_bucket_is_refused(personalize, tmp_path):
    (personalize.data / "link").symlink_to(tmp_path)
    dataset = personalize.dataset(personalize.group())
    with pytest.raises(InvalidInputException, match="outside"):
        personalize.create_dataset_import_job(
            job_name="x", dataset_arn=dataset, data_source={"dataLocation": "s3://data/link/secret.csv"}
        )


def test_a_file_url_below_a_named_folder_is_read(personalize):
    dataset = personalize.dataset(personalize.group())
    personalize.put(interactions(), "x.csv")
    arn = personalize.create_dataset_import_job(
        job_name="x", dataset_arn=dataset, data_source={"dataLocation": (personalize.data / "x.csv").as_uri()}
    )["datasetImportJobArn"]
    personalize.work()
    job = personalize.describe_dataset_import_job(dataset_import_job_arn=arn)["datasetImportJob"]
    assert job.status == "ACTIVE"


@pytest.mark.parametrize("key", ["s3://data/a\0b", "s3://[data/a", "s3://data/" + "ü" * 200, "file://data\0/a"])
def test_names_that_no_file_can_have_are_refused(personalize, key):
    dataset = personalize.dataset(personalize.group())
    with pytest.raises(InvalidInputException, match="Invalid Data location"):
        personalize.create_dataset_import_job(job_name="j", dataset_arn=dataset, data_source={"dataLocation": key})
