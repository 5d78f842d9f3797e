"""Rows leave: as CSV, or for good."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from lib.resources import datasets
from lib.resources.errors import InvalidInputException
from lib.store import events
from tests.resources.workflow import interactions

ROLE = "arn:aws:iam::123456789012:role/r"


def export(personalize, dataset, name, mode):
    arn = personalize.create_dataset_export_job(
        job_name=name,
        dataset_arn=dataset,
        role_arn=ROLE,
        job_output={"s3DataDestination": {"path": "s3://data/out/"}},
        ingestion_mode=mode,
    )["datasetExportJobArn"]
    personalize.work()
    job = personalize.describe_dataset_export_job(dataset_export_job_arn=arn)["datasetExportJob"]
    assert (job.status, job.failure_reason) == ("ACTIVE", None)
    return pd.read_csv(personalize.data / "out" / name / "part-00000.csv")


@pytest.fixture
def dataset(personalize):
    group = personalize.filled()
    arn = personalize.list_datasets(dataset_group_arn=group)["datasets"][0].dataset_arn
    row = {"ITEM_ID": "i1", "TIMESTAMP": 1_800_000_000, "EVENT_TYPE": "click"}
    put = [
        events.LiveEvent(session_id="s", user_id=user, event_type="click", sent_at=0.0, item_id="i1", row=row)
        for user in ("u1", "new")
    ]
    with personalize.account.store.transaction() as tx:
        events.append(tx, arn, put, 0.0)
    return arn


def test_exports_tell_imported_rows_from_put_ones(personalize, dataset):
    lengths = [len(export(personalize, dataset, mode.lower(), mode)) for mode in ("BULK", "PUT", "ALL")]
    assert lengths == [1000, 2, 1002]
    exported = pd.read_csv(personalize.data / "out" / "bulk" / "part-00000.csv")
    pd.testing.assert_frame_equal(exported, interactions())


def test_an_export_has_the_times_that_were_sent_and_training_none_later_than_their_arrival(personalize, dataset):
    group = personalize.list_dataset_groups()["datasetGroups"][0].dataset_group_arn
    tracking_id = personalize.create_event_tracker(name="t", dataset_group_arn=group)["trackingId"]
    personalize.clock.wait()
    arrival, sent = personalize.clock.time, datetime(2100, 1, 1, tzinfo=UTC)
    event = {"eventType": "click", "itemId": "i1", "sentAt": sent}
    personalize.put_events(tracking_id=tracking_id, session_id="s", user_id="ahead", event_list=[event])
    exported = export(personalize, dataset, "sent", "ALL").set_index("USER_ID")["TIMESTAMP"]
    assert exported["ahead"] == sent.timestamp()
    trained = datasets.load(personalize.account, group).interactions.set_index("USER_ID")["TIMESTAMP"]
    assert trained["ahead"] == arrival.timestamp()


SELLERS = {
    "type": "record",
    "name": "Items",
    "namespace": "com.amazonaws.personalize.schema",
    "fields": [{"name": "ITEM_ID", "type": "string"}, {"name": "SELLER", "type": ["null", "long"]}],
    "version": "1.0",
}


def test_an_export_has_every_digit_of_large_numbers_beside_nulls(personalize):
    items = personalize.dataset(personalize.group(), SELLERS)
    assert personalize.load(items, pd.DataFrame({"ITEM_ID": ["i0"], "SELLER": [2**60 + 1]}), "full").status == "ACTIVE"
    more = pd.DataFrame({"ITEM_ID": ["i1", "i2"], "SELLER": pd.array([123456789012345679, None], dtype="Int64")})
    assert personalize.load(items, more, "more", "INCREMENTAL").status == "ACTIVE"
    put = [{"itemId": "i3", "properties": '{"seller": 123456789012345678}'}, {"itemId": "i4"}]
    personalize.put_items(dataset_arn=items, items=put)
    export(personalize, items, "all", "ALL")
    written = (personalize.data / "out" / "all" / "part-00000.csv").read_text().split()
    bulk = ["i0,1152921504606846977", "i1,123456789012345679", "i2,"]
    assert written == ["ITEM_ID,SELLER", *bulk, "i3,123456789012345678", "i4,"]


def test_an_export_of_one_mode_has_every_record_that_differs_and_one_of_all_the_newest_of_each_id(personalize):
    items = personalize.dataset(personalize.group(), SELLERS)
    for mode, sellers in (("FULL", {"i0": 1, "i1": 1}), ("INCREMENTAL", {"i0": 2, "i1": 1})):
        table = pd.DataFrame({"ITEM_ID": list(sellers), "SELLER": list(sellers.values())})
        assert personalize.load(items, table, mode.lower(), mode).status == "ACTIVE"
    for seller in (3, 4, 4, 3):
        put = {"itemId": "i1", "properties": f'{{"seller": {seller}}}'}
        personalize.put_items(dataset_arn=items, items=[put])
    for mode, expected in (
        ("BULK", [("i0", 1), ("i0", 2), ("i1", 1)]),
        ("PUT", [("i1", 3), ("i1", 4)]),
        ("ALL", [("i0", 2), ("i1", 3)]),
    ):
        exported = export(personalize, items, f"out-{mode.lower()}", mode)
        assert list(exported.itertuples(index=False, name=None)) == expected


def test_an_export_outside_the_named_folders_is_refused(personalize, dataset):
    with pytest.raises(InvalidInputException, match="elsewhere"):
        personalize.create_dataset_export_job(
            job_name="x",
            dataset_arn=dataset,
            role_arn=ROLE,
            job_output={"s3DataDestination": {"path": "s3://elsewhere/out/"}},
        )


def delete(personalize, table, name):
    group = personalize.list_dataset_groups()["datasetGroups"][0].dataset_group_arn
    arn = personalize.create_data_deletion_job(
        job_name=name, dataset_group_arn=group, data_source=personalize.put(table, f"{name}.csv"), role_arn=ROLE
    )["dataDeletionJobArn"]
    personalize.work()
    return personalize.describe_data_deletion_job(data_deletion_job_arn=arn)["dataDeletionJob"]


def test_deleted_users_are_in_no_export(personalize, dataset):
    job = delete(personalize, pd.DataFrame({"USER_ID": ["u1", "new", "nobody"]}), "leave")
    assert (job.status, job.num_deleted) == ("COMPLETED", 22)
    left = export(personalize, dataset, "after", "ALL")
    assert len(left) == 980 and not set(left["USER_ID"]) & {"u1", "new"}


def test_a_file_that_is_no_list_of_users_deletes_nothing(personalize, dataset):
    job = delete(personalize, interactions(3), "leave")
    assert job.status == "FAILED" and "expected USER_ID alone" in job.failure_reason
    assert len(export(personalize, dataset, "after", "ALL")) == 1002


def test_deletions_are_listed_newest_first(personalize, dataset):
    for name in ("first", "second", "third"):
        delete(personalize, pd.DataFrame({"USER_ID": ["u1"]}), name)
    page = personalize.list_data_deletion_jobs(max_results=2)
    rest = personalize.list_data_deletion_jobs(next_token=page["nextToken"])
    listed = [job.job_name for answer in (page, rest) for job in answer["dataDeletionJobs"]]
    assert listed == ["third", "second", "first"]
