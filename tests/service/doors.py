"""A few operations that remember nothing but schemas, and both doors to them."""

import base64
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from lib.resources.errors import (
    InvalidInputException,
    InvalidNextTokenException,
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
)
from lib.service import http

REGION = "us-east-1"
CREATED = datetime(2018, 11, 16, 18, 16, 1, 837000, tzinfo=UTC)
CAMPAIGN = "arn:aws:personalize:us-east-1:123456789012:campaign/news"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    name: str
    schema_arn: str
    schema: str
    creation_date_time: datetime = CREATED
    last_updated_date_time: datetime | None = None


def create_schema(account, *, name, schema, domain=None):
    arn = f"arn:aws:personalize:{REGION}:123456789012:schema/{name}"
    if arn in account:
        raise ResourceAlreadyExistsException(f"Another resource with Arn {arn} already exists.")
    account[arn] = Schema(name=name, schema_arn=arn, schema=schema)
    return {"schemaArn": arn}


def describe_schema(account, *, schema_arn):
    if schema_arn not in account:
        raise ResourceNotFoundException(f"The given schema does not exist: {schema_arn}")
    return {"schema": account[schema_arn]}


def delete_schema(account, *, schema_arn):
    account.pop(schema_arn, None)


def list_schemas(account, *, next_token=None, max_results=100):
    try:
        start = int(base64.b64decode(next_token or b"MA==", validate=True))
    except ValueError:
        raise InvalidNextTokenException("The token was not issued by ListSchemas.") from None
    schemas = sorted(account.values(), key=lambda schema: schema.name)
    end = start + max_results
    more = base64.b64encode(str(end).encode()).decode() if end < len(schemas) else None
    return {"schemas": schemas[start:end], "nextToken": more}


def get_recommendations(account, *, campaign_arn, user_id=None, num_results=25):
    if campaign_arn != CAMPAIGN:
        raise ResourceNotFoundException("no such campaign")
    if user_id == "bug":
        raise RuntimeError("a bug that only the log may tell of: user_id=bug")
    items = [{"itemId": f"item {i}", "score": 1 / (i + 1)} for i in range(num_results)]
    return {"itemList": items, "recommendationId": "RID-1"}


def put_events(account, *, tracking_id, session_id, event_list, user_id=None):
    if tracking_id == "unknown":
        raise InvalidInputException("no such tracker")


OPERATIONS = {
    function.__name__: function
    for function in (create_schema, describe_schema, delete_schema, list_schemas, get_recommendations, put_events)
}


@contextmanager
def listening(application):
    """Serve an application on a port of its own; the URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = http.server(application)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def allow(method, target, headers, body):
    """Everybody may call."""


def remote(service, url, key=None, **options):
    """A boto3 client that speaks HTTP to ``url``, signing with ``key`` if there is one."""
    signing = {} if key else {"signature_version": UNSIGNED}
    access = dict(zip(("aws_access_key_id", "aws_secret_access_key", "aws_session_token"), key)) if key else {}
    config = Config(**signing, **options)
    return boto3.Session(region_name=REGION).client(service, endpoint_url=url, config=config, **access)
