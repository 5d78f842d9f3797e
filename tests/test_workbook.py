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
