"""What the notebooks share."""

import boto3
import pytest

from lib import workbook
from tests import object_storage


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file among a run's data."""
    monkeypatch.setenv("WORKBOOK_RUNS", str(tmp_path))
    path = tmp_path / "news" / "data" / "export" / "items.csv"
    path.parent.mkdir(parents=True)
    path.write_text("ITEM_ID\na\n")
    return path


def test_a_file_is_brought_to_the_bucket_that_a_service_elsewhere_reads(file, monkeypatch):
    with object_storage.serving() as url:
        bucket = object_storage.configured(url, monkeypatch)
        bucket.create_bucket(Bucket="elsewhere")
        location = workbook.upload("news", file, "elsewhere", "http://127.0.0.1:8400")
        assert location == "s3://elsewhere/news/export/items.csv"
        content = bucket.get_object(Bucket="elsewhere", Key="news/export/items.csv")["Body"].read()
        assert content == file.read_bytes()


def test_the_runs_own_bucket_is_the_folder_itself(file, monkeypatch):
    monkeypatch.setattr(boto3, "client", None)
    for endpoint in ("in-process", "http://127.0.0.1:8400"):
        assert workbook.upload("news", file, workbook.BUCKET, endpoint) == "s3://workbook/export/items.csv"


def test_a_look_into_a_store_that_the_profile_does_not_name_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_RUNS", str(tmp_path))
    workbook.note("news", seed=1, endpoint="http://127.0.0.1:8400", store="", files="")
    with pytest.raises(FileNotFoundError, match=r"set 02_define_schema\.store to the store of the service there"):
        workbook.account("news")
    assert not (tmp_path / "news" / "store").exists()


def test_a_look_inside_goes_to_the_store_that_the_profile_names(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_RUNS", str(tmp_path / "runs"))
    workbook.note("elsewhere", seed=1, endpoint="http://127.0.0.1:8400", store=str(tmp_path / "store"), files="")
    assert workbook.account("elsewhere").store.location == tmp_path / "store"


def test_on_aws_arns_are_of_the_callers_account_and_region(monkeypatch):
    monkeypatch.setattr(workbook, "_owner", {"region": "nowhere", "account": "nobody"})
    with object_storage.serving() as url:
        object_storage.configured(url, monkeypatch)
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        assert workbook.client("personalize", "news", workbook.AWS).meta.region_name == "eu-west-1"
    assert workbook.arn("campaign", "c") == "arn:aws:personalize:eu-west-1:123456789012:campaign/c"
