"""The notebooks against a service at a URL, and an S3 of its own: nothing of a run is in the process that runs them."""

import os
import subprocess
import sys
from pathlib import Path

import boto3
import nbformat
import pytest
import yaml

from lib import run
from tests import object_storage
from tests.wire.serving import serving

pytestmark = pytest.mark.whole_run

SMALL = {
    "01_prepare_data": {"simulation": {"readers": 150, "articles": 120, "interactions": 4500}},
    "03_train": {"new_items": 5},
    "04_tune": {"integer_ranges": {"hidden_dimension": [32, 48], "bptt": [4, 8]}, "training_jobs": 2},
    "05_evaluate": {"temporal_recipes": ["aws-popularity-count"]},
    "06_deploy": {"clients": [1], "requests": 20},
    "07_query": {"new_articles": 5, "visits": 60},
}


@pytest.fixture(scope="module")
def wired(tmp_path_factory):
    """A run's folder, a boto3 client of its service, and the keys that its bucket holds."""
    folder = tmp_path_factory.mktemp("wired")
    with object_storage.serving() as s3:
        settings = {**object_storage.SETTINGS, "AWS_ENDPOINT_URL_S3": s3}
        keys = {name.lower(): value for name, value in settings.items() if "KEY" in name}
        bucket = boto3.resource("s3", endpoint_url=s3, region_name="us-east-1", **keys).Bucket("news")
        bucket.create()
        with serving(folder / "store", environment=settings) as service:
            place = {"endpoint": service.url, "store": str(folder / "store"), "bucket": "news"}
            profile = folder / "wired.yaml"
            profile.write_text(yaml.safe_dump({"description": "Over the wire", "defaults": place, **SMALL}))
            command = [sys.executable, "-m", "lib.run", str(profile), "--runs", str(folder / "runs")]
            done = subprocess.run(command, cwd=run.ROOT, env={**os.environ, **settings}, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            found = {entry.key for entry in bucket.objects.all()}
            yield folder / "runs" / "wired", service.client("personalize"), found


def test_every_notebook_runs_against_a_url(wired):
    folder, _, _ = wired
    executed = sorted(path.stem for path in (folder / "notebooks").glob("*.ipynb"))
    assert executed == sorted(path.stem for path in (run.ROOT / "notebooks").glob("*.ipynb"))


def test_the_tables_were_read_from_the_bucket(wired):
    _, personalize, found = wired
    jobs = personalize.list_dataset_import_jobs()["datasetImportJobs"]
    read = [
        personalize.describe_dataset_import_job(datasetImportJobArn=job["datasetImportJobArn"])["datasetImportJob"]
        for job in jobs
    ]
    assert {job["dataSource"]["dataLocation"] for job in read} == {f"s3://news/{key}" for key in found}
    assert sorted(job["status"] for job in read) == ["ACTIVE"] * 3 + ["CREATE FAILED"] * 2


def test_everything_was_made_by_the_service_and_nothing_beside_it(wired):
    folder, personalize, _ = wired
    assert [group["name"] for group in personalize.list_dataset_groups()["datasetGroups"]] == ["wired"]
    assert {campaign["status"] for campaign in personalize.list_campaigns()["campaigns"]} == {"ACTIVE"}
    assert not (folder / "store").exists() and not (folder / "service.json").exists()


def test_the_cells_show_as_much_as_in_process(wired):
    folder, _, _ = wired
    for path in sorted((run.ROOT / "notebooks").glob("*.ipynb")):
        kinds = [
            [[output["output_type"] for output in cell.get("outputs", ())] for cell in _code(notebook)]
            for notebook in (path, folder / "notebooks" / path.name)
        ]
        assert kinds[0] == kinds[1], path.stem


def _code(path: Path) -> list[nbformat.NotebookNode]:
    cells = nbformat.read(path, as_version=4).cells
    ignored = ("nbval-ignore-output", "injected-parameters")
    return [c for c in cells if c.cell_type == "code" and not set(c.metadata.get("tags", [])) & set(ignored)]
