"""Data in S3: what imports, deletions and exports read and write there, and what they are told when they may not."""

import gzip
import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from lib.resources import dataset_import_jobs, locations, s3
from lib.resources.errors import InvalidInputException
from lib.store.bucket import connect
from tests import object_storage
from tests.resources.workflow import Personalize, interactions

ROLE = "arn:aws:iam::123456789012:role/r"
KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"


@pytest.fixture(scope="module")
def server():
    with object_storage.serving() as url:
        yield url


@pytest.fixture
def bucket(server, monkeypatch):
    """A client of an S3 with one empty bucket."""
    client = object_storage.configured(server, monkeypatch)
    client.create_bucket(Bucket="news")
    yield client
    object_storage.empty(server)


@pytest.fixture
def personalize(tmp_path, bucket):
    personalize = Personalize.open(tmp_path)
    personalize.account = replace(personalize.account, s3=connect)
    yield personalize
    personalize.account.store.close()


def put(bucket, key, table):
    text = table.to_csv(index=False).encode()
    bucket.put_object(Bucket="news", Key=key, Body=gzip.compress(text) if key.endswith(".gz") else text)


def loaded(personalize, location, name="first"):
    """The import of a location, once its job is over, and the rows it left."""
    dataset = personalize.dataset(personalize.group())
    arn = personalize.create_dataset_import_job(
        job_name=name, dataset_arn=dataset, data_source={"dataLocation": location}
    )["datasetImportJobArn"]
    personalize.work()
    return personalize.describe_dataset_import_job(dataset_import_job_arn=arn)["datasetImportJob"]


def exported(personalize, bucket, dataset, **destination):
    arn = personalize.create_dataset_export_job(
        job_name="out",
        dataset_arn=dataset,
        role_arn=ROLE,
        job_output={"s3DataDestination": {"path": "s3://news/exports", **destination}},
        ingestion_mode="ALL",
    )["datasetExportJobArn"]
    personalize.work()
    job = personalize.describe_dataset_export_job(dataset_export_job_arn=arn)["datasetExportJob"]
    assert (job.status, job.failure_reason) == ("ACTIVE", None)
    return bucket.get_object(Bucket="news", Key="exports/out/part-00000.csv")


@pytest.mark.parametrize("key", ["in/clicks.csv", "in/clicks.csv.gz", "in/clicks of May + June #1?.csv"])
def test_an_object_is_imported_and_exported_again(personalize, bucket, key):
    put(bucket, key, interactions())
    job = loaded(personalize, f"s3://news/{key}")
    assert (job.status, job.failure_reason) == ("ACTIVE", None)
    rows = pd.read_csv(exported(personalize, bucket, job.dataset_arn)["Body"])
    pd.testing.assert_frame_equal(rows, interactions())


@pytest.mark.parametrize("location", ["s3://news/in/", "s3://news/in"])
def test_the_objects_of_a_folder_are_imported_but_not_those_of_folders_in_it(personalize, bucket, location):
    table = interactions()
    put(bucket, "in/b.csv.gz", table[600:])
    put(bucket, "in/a.csv", table[:600])
    put(bucket, "in/deeper/c.csv", interactions(event_type="deeper"))
    put(bucket, "in-other/d.csv", interactions(event_type="other"))
    bucket.put_object(Bucket="news", Key="in/_SUCCESS", Body=b"")
    bucket.put_object(Bucket="news", Key="in/", Body=b"")
    job = loaded(personalize, location)
    rows = pd.read_csv(exported(personalize, bucket, job.dataset_arn)["Body"])
    pd.testing.assert_frame_equal(rows, table)


def test_objects_are_found_by_what_their_keys_begin_with(personalize, bucket):
    keys = ["in/users.json", "in/users/_SUCCESS", "in/users/x.json", "in/users2.json", "in/visitors.json"]
    for key in keys:
        bucket.put_object(Bucket="news", Key=key, Body=b"x")
    found = locations.beginning(personalize.account, "s3://news/in/users")
    assert [locations.address(file) for file in found] == [f"s3://news/{keys[n]}" for n in (0, 2, 3)]
    with pytest.raises(InvalidInputException, match="no file's name begins like this"):
        locations.beginning(personalize.account, "s3://news/in/users3")


def test_more_objects_than_one_answer_lists_are_all_found(bucket, personalize):
    def list_two_at_a_time(params, **_):
        return {**params, "MaxKeys": 2}

    for number in range(5):
        bucket.put_object(Bucket="news", Key=f"many/{number}.csv", Body=b"x" * number)
    client = connect()
    client.meta.events.register("provide-client-params.s3.ListObjectsV2", list_two_at_a_time, "two")
    found = locations.readable(personalize.account, "s3://news/many/")
    client.meta.events.unregister("provide-client-params.s3.ListObjectsV2", unique_id="two")
    assert [file.name for file in found] == [f"{number}.csv" for number in range(5)]
    assert [locations.size(file) for file in found] == [0, 1, 2, 3, 4]


def test_what_is_wrong_with_a_row_is_told_with_the_objects_name(personalize, bucket):
    table = interactions().astype({"TIMESTAMP": object})
    table.loc[700, "TIMESTAMP"] = "yesterday"
    put(bucket, "in/clicks.csv.gz", table)
    job = loaded(personalize, "s3://news/in/clicks.csv.gz")
    assert job.status == "CREATE FAILED"
    assert "clicks.csv.gz, row 702, column TIMESTAMP, value 'yesterday'" in job.failure_reason


def test_an_export_is_encrypted_with_the_key_that_was_named(personalize, bucket):
    put(bucket, "clicks.csv", interactions())
    job = loaded(personalize, "s3://news/clicks.csv")
    answer = exported(personalize, bucket, job.dataset_arn, kmsKeyArn=KEY)
    assert (answer["ServerSideEncryption"], answer["SSEKMSKeyId"]) == ("aws:kms", KEY)


def batch(personalize, source):
    """A batch job on a location, once it is over."""
    _, version = personalize.trained()
    arn = personalize.create_batch_inference_job(
        job_name="b",
        solution_version_arn=version,
        job_input={"s3DataSource": {"path": source}},
        job_output={"s3DataDestination": {"path": "s3://news/answers/", "kmsKeyArn": KEY}},
        role_arn=ROLE,
    )["batchInferenceJobArn"]
    personalize.work()
    return personalize.describe_batch_inference_job(batch_inference_job_arn=arn)["batchInferenceJob"]


def test_batch_jobs_answer_objects_by_objects(personalize, bucket):
    bucket.put_object(Bucket="news", Key="in/a.json", Body=b'{"userId": "u1"}\n')
    bucket.put_object(Bucket="news", Key="in/b.json.gz", Body=gzip.compress(b'{"userId": "u2"}\n' * 500))
    job = batch(personalize, "s3://news/in/")
    assert (job.status, job.failure_reason) == ("ACTIVE", None)
    answers = {
        name: bucket.get_object(Bucket="news", Key=f"answers/{name}") for name in ("a.json.out", "b.json.gz.out")
    }
    lines = {name: answer["Body"].read().splitlines() for name, answer in answers.items()}
    assert {name: len(found) for name, found in lines.items()} == {"a.json.out": 1, "b.json.gz.out": 500}
    first = json.loads(lines["a.json.out"][0])
    assert first["input"] == {"userId": "u1"} and len(first["output"]["recommendedItems"]) == 25
    assert {answer["SSEKMSKeyId"] for answer in answers.values()} == {KEY}


def test_a_damaged_input_of_a_batch_job_is_told(personalize, bucket):
    bucket.put_object(Bucket="news", Key="b.json.gz", Body=gzip.compress(b'{"userId": "u2"}\n' * 500)[:-9])
    job = batch(personalize, "s3://news/b.json.gz")
    assert job.status == "CREATE FAILED"
    assert "b.json.gz cannot be unpacked: Compressed file ended before" in job.failure_reason


def test_users_are_deleted_by_the_lists_in_a_folder_and_below_it(personalize, bucket):
    put(bucket, "clicks.csv", interactions())
    group = loaded(personalize, "s3://news/clicks.csv").dataset_arn.replace(":dataset/", ":dataset-group/")
    put(bucket, "leave/one.csv", pd.DataFrame({"USER_ID": ["u1"]}))
    put(bucket, "leave/more/two.csv", pd.DataFrame({"USER_ID": ["u2"]}))
    bucket.put_object(Bucket="news", Key="leave/read me.txt", Body=b"no list")
    arn = personalize.create_data_deletion_job(
        job_name="leave",
        dataset_group_arn=group.rpartition("/")[0],
        data_source={"dataLocation": "s3://news/leave/"},
        role_arn=ROLE,
    )["dataDeletionJobArn"]
    personalize.work()
    job = personalize.describe_data_deletion_job(data_deletion_job_arn=arn)["dataDeletionJob"]
    assert (job.status, job.num_deleted) == ("COMPLETED", 40)


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("s3://news/none.csv", r"^Insufficient privileges for accessing data in S3\. s3://news/none.csv: no such file"),
        ("s3://no-bucket/x/", r"^Invalid Data location\. s3://no-bucket/x/: .*NoSuchBucket"),
        ("s3://no-bucket/x.csv", r"^Invalid Data location\. s3://no-bucket/x.csv/: .*NoSuchBucket"),
        ("s3://No_Bucket/x.csv", r"^Invalid Data location\. .* is no bucket's name"),
        ("s3://news/../x.csv", r"^Invalid Data location\."),
    ],
)
def test_a_location_where_nothing_lies_is_refused_at_once(personalize, location, told):
    dataset = personalize.dataset(personalize.group())
    with pytest.raises(InvalidInputException, match=told):
        personalize.create_dataset_import_job(job_name="x", dataset_arn=dataset, data_source={"dataLocation": location})


def test_a_bucket_that_nobody_gave_credentials_for_is_refused(personalize, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InvalidInputException, match=r"Insufficient privileges .* no folder stands .* no credentials"):
        locations.readable(personalize.account, "s3://news/x.csv")


def test_a_folder_that_stands_for_a_bucket_hides_the_bucket(personalize, bucket):
    bucket.create_bucket(Bucket="data")
    bucket.put_object(Bucket="data", Key="clicks.csv", Body=b"in S3")
    (personalize.data / "clicks.csv").write_text("in the folder")
    (file,) = locations.readable(personalize.account, "s3://data/clicks.csv")
    with locations.reading(file) as stream:
        assert stream.read() == b"in the folder"


def test_an_export_that_s3_refuses_fails_with_its_words(personalize, bucket):
    put(bucket, "clicks.csv", interactions())
    dataset = loaded(personalize, "s3://news/clicks.csv").dataset_arn
    arn = personalize.create_dataset_export_job(
        job_name="out",
        dataset_arn=dataset,
        role_arn=ROLE,
        job_output={"s3DataDestination": {"path": "s3://no-bucket/out/"}},
        ingestion_mode="BULK",
    )["datasetExportJobArn"]
    personalize.work()
    job = personalize.describe_dataset_export_job(dataset_export_job_arn=arn)["datasetExportJob"]
    assert job.status == "CREATE FAILED"
    assert job.failure_reason.startswith("Invalid Data location. s3://no-bucket/out/out/part-00000.csv: ")
    assert not list((personalize.account.store.files.root / ".aside").iterdir())


def test_an_object_that_is_replaced_while_it_is_read_fails_the_job(personalize, bucket, monkeypatch):
    def replaced_meanwhile(*_):
        put(bucket, "clicks.csv", interactions(1001))

    put(bucket, "clicks.csv", interactions())
    monkeypatch.setattr(dataset_import_jobs, "_sweep", replaced_meanwhile)  # after the files were found
    job = loaded(personalize, "s3://news/clicks.csv")
    assert job.status == "CREATE FAILED"
    assert job.failure_reason == "s3://news/clicks.csv was replaced while it was read: create the job again."


def test_a_large_file_goes_and_comes_in_parts(personalize, bucket):
    content = np.random.default_rng(1).bytes(2 * s3.BLOCK_BYTES + 12345)
    with locations.writing(personalize.account, "s3://news/", "large/file.bin") as path:
        path.write_bytes(content)
    assert bucket.head_object(Bucket="news", Key="large/file.bin")["ETag"].endswith('-3"')  # of three parts
    (file,) = locations.readable(personalize.account, "s3://news/large/")
    assert file.read() == content


def test_nothing_is_uploaded_of_a_file_that_could_not_be_written(personalize, bucket):
    with pytest.raises(KeyError), locations.writing(personalize.account, "s3://news/", "out.csv") as path:
        path.write_text("half")
        raise KeyError
    assert "Contents" not in bucket.list_objects_v2(Bucket="news")


class Fickle:
    """An S3 with one object, whose connections break: one failure a request, until there are none left."""

    CONTENT = bytes(range(256)) * 4

    def __init__(self, *failures):
        self.failures, self.asked = list(failures), []

    def get_object(self, Range, **_):
        first, last = map(int, Range.removeprefix("bytes=").split("-"))
        self.asked.append((first, last))
        content = self.CONTENT[first : last + 1]
        return {"Body": self if self.failures else io.BytesIO(content)}

    def read(self):
        raise self.failures.pop(0)


def an_object(*failures):
    client = Fickle(*failures)
    return client, s3.Object(client, "news", "x", len(client.CONTENT), '"tag"')


def test_an_object_is_read_block_by_block_wherever_it_is_looked_at(monkeypatch):
    monkeypatch.setattr(s3, "BLOCK_BYTES", 300)
    client, file = an_object()
    assert file.read() == client.CONTENT
    assert client.asked == [(0, 299), (300, 599), (600, 899), (900, 1023)]
    assert file.seek(-10, io.SEEK_END) == 1014 and file.read() == client.CONTENT[-10:]
    assert file.seek(5) == 5 and file.read(3) == client.CONTENT[5:8]
    assert client.asked[4:] == [(5, 304)]  # the last block was still there
    assert file.seek(2000) == 2000 and file.read() == b""


def test_a_connection_that_breaks_is_tried_again_and_given_up_in_the_end():
    broken = [ReadTimeoutError(endpoint_url="http://s3") for _ in range(s3.ATTEMPTS)]
    client, file = an_object(*broken[1:])
    assert file.read() == client.CONTENT
    _, file = an_object(*broken)
    with pytest.raises(InvalidInputException, match=r"s3://news/x cannot be reached: Read timeout .* Try again"):
        file.read()


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (403, r"^Insufficient privileges for accessing data in S3\. s3://news/x: .*AccessDenied"),
        (404, r"^Invalid Data location\. s3://news/x: "),
        (503, r"^s3://news/x cannot be reached: .*Try again"),
    ],
)
def test_refusals_have_the_words_of_amazon(status, told):
    answer = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(InvalidInputException, match=told):
        raise s3.refused("s3://news/x", ClientError(answer, "GetObject"))
