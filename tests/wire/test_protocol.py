"""The product's own operations as bytes: what stands in headers and bodies on the way out."""

import http.client
import json
import re
from urllib.parse import urlsplit

import pytest

from tests.wire.serving import serving
from tests.wire.site import CLICKS, ITEMS, Site

JSON_TYPE, REST_TYPE = "application/x-amz-json-1.1", "application/json"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
GROUP = "arn:aws:personalize:us-east-1:123456789012:dataset-group/"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("protocol")
    with serving(folder) as service:
        site = Site(service, folder)
        site.url = service.url
        site.group = site.group()
        site.items = site.dataset(site.group, ITEMS, "Items")
        site.dataset(site.group)
        site.tracking_id = site.api.create_event_tracker(name="t", datasetGroupArn=site.group)["trackingId"]
        yield site


def ask(site, to, body):
    """Status, headers and body of an operation of the control plane, or of what lies at a path."""
    path, headers = (to, {}) if to.startswith("/") else ("/", {"X-Amz-Target": f"AmazonPersonalize.{to}"})
    connection = http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=30)
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    told = answer.status, answer.headers, answer.read()
    connection.close()
    return told


def event(**members):
    return {"sessionId": "s", "eventList": [{"eventType": "click", "itemId": "i", "sentAt": 1, **members}]}


def test_the_control_plane_answers_json_1_1_with_a_request_id(site):
    status, headers, body = ask(site, "DescribeDatasetGroup", {"datasetGroupArn": site.group})
    assert (status, headers["content-type"]) == (200, JSON_TYPE)
    assert UUID.fullmatch(headers["x-amzn-requestid"])
    assert json.loads(body)["datasetGroup"]["datasetGroupArn"] == site.group


def test_times_are_numbers_of_seconds_with_milliseconds_and_nothing_is_null(site):
    body = ask(site, "DescribeDatasetGroup", {"datasetGroupArn": site.group})[2]
    written = re.findall(rb'"(?:creation|lastUpdated)DateTime":(\d{10}(?:\.\d{1,3})?)[,}]', body)
    assert len(written) == 2 and b"null" not in body


def test_no_two_requests_share_an_id(site):
    given = {ask(site, "ListSchemas", {})[1]["x-amzn-requestid"] for _ in range(20)}
    assert len(given) == 20


@pytest.mark.parametrize(
    ("to", "body", "code"),
    [
        ("DescribeDatasetGroup", {"datasetGroupArn": GROUP + "none"}, "ResourceNotFoundException"),
        ("CreateDatasetGroup", {"name": "a.b"}, "InvalidInputException"),
        ("ListDatasetGroups", {"nextToken": "?"}, "InvalidNextTokenException"),
        ("NoSuchOperation", {}, "UnknownOperationException"),
    ],
)
def test_an_error_of_the_control_plane_is_told_in_the_body_with_status_400(site, to, body, code):
    status, headers, told = ask(site, to, body)
    assert (status, headers["content-type"]) == (400, JSON_TYPE)
    assert UUID.fullmatch(headers["x-amzn-requestid"])
    error = json.loads(told)
    assert error.keys() == {"__type", "message"} and error["__type"] == code and error["message"]


@pytest.mark.parametrize(
    ("to", "body", "status", "code"),
    [
        ("/recommendations", {"campaignArn": GROUP.replace("dataset-group", "campaign")}, 400, "InvalidInputException"),
        ("/events", {"trackingId": "none", **event()}, 400, "InvalidInputException"),
        ("/items", {"datasetArn": GROUP + "none", "items": [{"itemId": "i"}]}, 404, "ResourceNotFoundException"),
        ("/users", {}, 400, "InvalidInputException"),
    ],
)
def test_an_error_of_the_other_services_is_told_in_a_header_with_the_models_status(site, to, body, status, code):
    answered, headers, told = ask(site, to, body)
    assert (answered, headers["content-type"], headers["x-amzn-errortype"]) == (status, REST_TYPE, code)
    assert UUID.fullmatch(headers["x-amzn-requestid"])
    assert json.loads(told).keys() == {"message"}


def test_an_operation_without_output_answers_nothing_at_all(site):
    schema = site.schema(CLICKS)
    put = {"datasetArn": site.items, "items": [{"itemId": "i"}]}
    for to, body in (
        ("DeleteSchema", {"schemaArn": schema}),
        ("/items", put),
        ("/events", {"trackingId": site.tracking_id, **event()}),
    ):
        status, headers, told = ask(site, to, body)
        assert (status, headers["content-length"], told) == (200, "0", b"")


def test_tagging_answers_an_empty_object(site):
    tag = {"resourceArn": site.group, "tags": [{"tagKey": "k", "tagValue": "v"}]}
    assert ask(site, "TagResource", tag)[2] == b"{}"
    assert ask(site, "UntagResource", {"resourceArn": site.group, "tagKeys": ["k"]})[2] == b"{}"


@pytest.mark.parametrize("sent_at", [1_700_000_000, 1_700_000_000.25, "1700000000", "2024-01-01T00:00:00Z"])
def test_times_come_in_as_numbers_or_text(site, sent_at):
    assert ask(site, "/events", {"trackingId": site.tracking_id, **event(sentAt=sent_at)})[0] == 200


@pytest.mark.parametrize("sent_at", [1_700_000_000_000, -1, "yesterday", None, True])
def test_what_is_no_time_in_seconds_is_refused(site, sent_at):
    assert ask(site, "/events", {"trackingId": site.tracking_id, **event(sentAt=sent_at)})[0] == 400


def test_a_doubly_encoded_properties_object_is_refused_in_the_words_of_aws(site):
    double = json.dumps(json.dumps({"colour": "red"}))
    status, _, told = ask(site, "/events", {"trackingId": site.tracking_id, **event(properties=double)})
    assert status == 400 and json.loads(told)["message"].startswith("Error parsing properties json")
