"""Where a service keeps what it knows, and where it finds data: a PostgreSQL database, S3."""

import gzip
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import boto3
import pandas as pd
import pytest
from botocore.exceptions import ClientError

from tests import object_storage
from tests.wire.serving import serving
from tests.wire.site import CLICKS, ROLE, Site, clicks

AVRO = json.dumps(CLICKS)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def arguments(postgresql, tmp_path, data):
    """Of a service whose store is a database."""
    return postgresql.database(), "--files", str(tmp_path / "files"), "--bucket", f"data={data}"


def test_a_group_lives_from_its_making_to_its_deletion_in_a_database(arguments, data):
    with serving(*arguments) as service:
        site = Site(service, data)
        group = site.group()
        dataset = site.dataset(group)
        assert site.load(dataset, clicks())["status"] == "ACTIVE"
        assert len(site.export(dataset, "ALL")) == 1000
        solution = site.solution(group)
        version = site.version(solution)["solutionVersionArn"]
        campaign = site.campaign(version)
        best = site.recommend(campaign, userId="u1", numResults=3)
        tracker = site.api.create_event_tracker(name="t", datasetGroupArn=group)
        site.active(tracker["eventTrackerArn"])
        clicked = site.filter(group, 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("click")')
        site.active(clicked)
        event = {"eventType": "click", "sentAt": 1_700_100_000, "itemId": best[0]["itemId"]}
        for user in ({"userId": "stranger"}, {}):
            site.events.put_events(trackingId=tracker["trackingId"], sessionId="s", eventList=[event], **user)
            left = site.recommend(campaign, userId="stranger", filterArn=clicked, numResults=2)
            assert [item["itemId"] for item in left] == [item["itemId"] for item in best[1:]]
        with pytest.raises(ClientError, match="hold no NUL character") as refused:
            site.recommend(campaign, userId="u\0")
        assert refused.value.response["Error"]["Code"] == "InvalidInputException"
    with serving(*arguments) as service:
        site = Site(service, data)
        assert site.recommend(campaign, userId="u1", numResults=3) == best
        site.api.delete_filter(filterArn=clicked)
        site.api.delete_campaign(campaignArn=campaign)
        site.api.delete_event_tracker(eventTrackerArn=tracker["eventTrackerArn"])
        assert service.process.poll() is None and '"status":500' not in "".join(service.log)


def test_two_services_of_one_database_are_one(arguments, data):
    with serving(*arguments) as first, serving(*arguments) as second:
        sites = [Site(service, data) for service in (first, second)]
        sites[1].name = sites[0].name  # no name twice
        group = sites[0].group()

        def create(number):
            try:
                sites[number % 2].api.create_schema(name=f"race-{number // 4}", schema=AVRO)
                return "created"
            except ClientError as error:
                return error.response["Error"]["Code"]

        with ThreadPoolExecutor(8) as threads:
            told = Counter(threads.map(create, range(40)))
        assert told == {"created": 10, "ResourceAlreadyExistsException": 30}
        listed = [[schema["name"] for schema in site.api.list_schemas()["schemas"]] for site in sites]
        assert listed[0] == listed[1] and len(set(listed[0])) == 10

        dataset = sites[1].dataset(group)
        imports = [
            site.api.create_dataset_import_job(
                jobName=f"import-{number}", datasetArn=dataset, dataSource=site.put(clicks(), f"{number}.csv")
            )["datasetImportJobArn"]
            for number, site in enumerate(sites * 2)
        ]
        assert {site.rest(job)["status"] for site in sites for job in imports} == {"ACTIVE"}
        assert len(sites[0].export(dataset, "ALL")) == 1000  # each import took the place of the one before
        version = sites[0].version(sites[1].solution(group))["solutionVersionArn"]
        campaign = sites[1].campaign(version)
        before = [site.recommend(campaign, userId="new", numResults=3) for site in sites]
        assert before[0] == before[1]

        tracker = sites[0].api.create_event_tracker(name="t", datasetGroupArn=group)
        sites[0].active(tracker["eventTrackerArn"])
        clicked = sites[1].filter(group, 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("click")')
        sites[1].active(clicked)
        for number, item in enumerate(before[0]):
            event = {"eventType": "click", "sentAt": 1_700_100_000, "itemId": item["itemId"]}
            putting, asking = sites[number % 2], sites[(number + 1) % 2]
            putting.events.put_events(trackingId=tracker["trackingId"], sessionId="s", userId="new", eventList=[event])
            left = {item["itemId"] for item in asking.recommend(campaign, userId="new", filterArn=clicked)}
            assert item["itemId"] not in left  # what one has answered the other knows


def test_a_job_that_a_killed_service_left_is_done_by_the_other(arguments, data):
    with serving(*arguments) as survivor:
        site = Site(survivor, data)
        dataset = site.dataset(site.group())
        with serving(*arguments) as killed:
            api = killed.client("personalize")
            job = api.create_dataset_import_job(jobName="import", datasetArn=dataset, dataSource=site.put(clicks()))
            killed.kill()
        assert site.rest(job["datasetImportJobArn"])["status"] == "ACTIVE"


def test_a_service_reads_and_writes_s3_where_boto3s_settings_say(tmp_path):
    with object_storage.serving() as url:
        settings = {**object_storage.SETTINGS, "AWS_ENDPOINT_URL_S3": url}
        keys = {name.lower(): value for name, value in settings.items() if "KEY" in name}
        bucket = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
        bucket.create_bucket(Bucket="news")
        bucket.put_object(Bucket="news", Key="in/a.csv.gz", Body=gzip.compress(clicks().to_csv(index=False).encode()))
        with serving(tmp_path, environment=settings) as service:
            site = Site(service, None)
            dataset = site.dataset(site.group())
            for key, status in (("in/", "ACTIVE"), ("in/a.csv.gz", "ACTIVE")):
                job = site.api.create_dataset_import_job(
                    jobName=site.name(), datasetArn=dataset, dataSource={"dataLocation": f"s3://news/{key}"}
                )
                assert site.rest(job["datasetImportJobArn"])["status"] == status
            with pytest.raises(ClientError, match="no such file"):
                site.api.create_dataset_import_job(
                    jobName=site.name(), datasetArn=dataset, dataSource={"dataLocation": "s3://news/none.csv"}
                )
            out = {"s3DataDestination": {"path": "s3://news/out/"}}
            job = site.api.create_dataset_export_job(
                jobName="all", datasetArn=dataset, ingestionMode="ALL", roleArn=ROLE, jobOutput=out
            )
            site.active(job["datasetExportJobArn"])
        written = pd.read_csv(bucket.get_object(Bucket="news", Key="out/all/part-00000.csv")["Body"])
        pd.testing.assert_frame_equal(written, clicks())
