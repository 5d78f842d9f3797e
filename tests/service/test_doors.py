"""Genuine boto3 clients through both doors."""

import re
import socket
import threading
from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from lib.service import client
from lib.service.dispatch import Dispatcher
from tests.service.doors import CAMPAIGN, CREATED, OPERATIONS, REGION, remote


def test_what_is_created_is_described_with_its_milliseconds_and_without_what_it_lacks(door):
    personalize = door("personalize")
    arn = personalize.create_schema(name="news", schema="{}")["schemaArn"]
    described = personalize.describe_schema(schemaArn=arn)["schema"]
    assert described["creationDateTime"] == CREATED
    assert described.keys() == {"name", "schemaArn", "schema", "creationDateTime"}


def test_an_error_is_an_exception_of_the_client(door):
    personalize = door("personalize")
    personalize.create_schema(name="news", schema="{}")
    with pytest.raises(
        personalize.exceptions.ResourceAlreadyExistsException, match=r"schema/news already exists"
    ) as told:
        personalize.create_schema(name="news", schema="{}")
    assert told.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_shape_that_boto3_does_not_check_is_checked(door):
    personalize = door("personalize")
    with pytest.raises(personalize.exceptions.InvalidInputException, match=r"Value 'a\.b' at 'name'"):
        personalize.create_schema(name="a.b", schema="{}")


def test_a_shape_that_boto3_checks_is_refused_before_it_is_sent(door):
    with pytest.raises(ParamValidationError):
        door("personalize").create_schema(name="news")


def test_pages_hold_everything_once(door):
    personalize = door("personalize")
    for name in ("a", "b", "c"):
        personalize.create_schema(name=name, schema="{}")
    pages = list(personalize.get_paginator("list_schemas").paginate(PaginationConfig={"PageSize": 1}))
    assert [[schema["name"] for schema in page["schemas"]] for page in pages] == [["a"], ["b"], ["c"]]
    assert "nextToken" not in pages[-1]


def test_a_token_of_somebody_else_is_refused(door):
    personalize = door("personalize")
    with pytest.raises(personalize.exceptions.InvalidNextTokenException):
        personalize.list_schemas(nextToken="?")


def test_an_operation_without_output_answers_nothing(door):
    answer = door("personalize").delete_schema(schemaArn="arn:aws:personalize:us-east-1:1:schema/a")
    assert answer.keys() == {"ResponseMetadata"}
    assert answer["ResponseMetadata"]["HTTPHeaders"]["content-length"] == "0"


def test_recommendations_come_in_order(door):
    answer = door("personalize-runtime").get_recommendations(campaignArn=CAMPAIGN, userId="3", numResults=2)
    assert answer["itemList"] == [{"itemId": "item 0", "score": 1.0}, {"itemId": "item 1", "score": 0.5}]
    assert answer["recommendationId"] == "RID-1"


def test_an_error_of_the_runtime_has_the_models_status(door):
    runtime = door("personalize-runtime")
    with pytest.raises(runtime.exceptions.ResourceNotFoundException, match="no such campaign") as told:
        runtime.get_recommendations(campaignArn=CAMPAIGN + "s")
    assert told.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_events_arrive_with_times(door):
    event = {"eventType": "click", "sentAt": datetime(2024, 2, 29, tzinfo=UTC), "itemId": "1"}
    answer = door("personalize-events").put_events(trackingId="t", sessionId="s", eventList=[event])
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_what_this_version_does_not_have_is_told(door):
    with pytest.raises(ClientError, match="GetSolutionMetrics is not available in this version") as told:
        door("personalize").get_solution_metrics(solutionVersionArn="arn:aws:personalize:us-east-1:1:solution/a/1")
    assert told.value.response["Error"]["Code"] == "UnknownOperationException"


def test_a_member_this_version_does_not_have_is_told(door):
    runtime = door("personalize-runtime")
    with pytest.raises(runtime.exceptions.InvalidInputException, match="context is not available in this version"):
        runtime.get_recommendations(campaignArn=CAMPAIGN, userId="3", context={"DEVICE": "phone"})


def test_every_answer_has_a_request_id(door):
    answer = door("personalize").list_schemas()
    assert re.fullmatch(r"[0-9a-f-]{36}", answer["ResponseMetadata"]["RequestId"])


def calls(client):
    """Answers and errors of a few calls, without what differs from request to request."""
    seen = []
    for name, keywords in (
        ("create_schema", {"name": "news", "schema": "{}"}),
        ("create_schema", {"name": "news", "schema": "{}"}),
        ("create_schema", {"name": "-", "schema": "{}"}),
        ("list_schemas", {"maxResults": 1}),
        ("list_schemas", {"nextToken": "?"}),
        ("delete_schema", {"schemaArn": "arn:aws:personalize:us-east-1:1:schema/a"}),
        ("list_filters", {}),
    ):
        try:
            response = getattr(client, name)(**keywords)
        except ClientError as error:
            response = {**error.response, "exception": type(error).__name__, "text": str(error)}
        told = response["ResponseMetadata"]
        del told["RequestId"]
        for header in ("x-amzn-requestid", "date"):
            told["HTTPHeaders"].pop(header, None)
        seen.append(response)
    return seen


def test_both_doors_answer_alike(url):
    inside = client.connect("personalize", Dispatcher({}, OPERATIONS), REGION)
    assert calls(inside) == calls(remote("personalize", url))


def test_the_door_inside_opens_no_socket(monkeypatch):
    personalize = client.connect("personalize", Dispatcher({}, OPERATIONS), REGION)

    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    assert personalize.create_schema(name="news", schema="{}")["schemaArn"].endswith("schema/news")


def test_the_environment_of_aws_does_not_reach_the_door_inside(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1/elsewhere")
    personalize = client.connect("personalize", Dispatcher({}, OPERATIONS), REGION)
    assert personalize.list_schemas()["schemas"] == []


def test_a_mistake_of_ours_shows_itself_inside():
    runtime = client.connect("personalize-runtime", Dispatcher({}, OPERATIONS), REGION)
    with pytest.raises(RuntimeError, match="a bug that only the log may tell of"):
        runtime.get_recommendations(campaignArn=CAMPAIGN, userId="bug")


def test_threads_share_a_client(door):
    personalize = door("personalize")
    threads = [
        threading.Thread(target=personalize.create_schema, kwargs={"name": f"n{i}", "schema": "{}"}) for i in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(personalize.list_schemas()["schemas"]) == 16


def test_a_service_that_is_none_of_ours_is_refused():
    with pytest.raises(ValueError, match="'s3' is no service of Amazon Personalize"):
        client.connect("s3", Dispatcher({}, OPERATIONS), REGION)


def test_a_function_that_no_service_has_is_refused():
    with pytest.raises(ValueError, match="create_schem"):
        Dispatcher({}, {"create_schem": lambda account: None})
