"""The door for notebooks: genuine boto3 clients whose requests are answered inside the process.

botocore validates, serialises and retries as ever; just before it would open a socket, its ``before-send`` event hands
the request to the dispatcher, and what comes back is parsed, turned into exceptions and paginated as ever.
"""

import io
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from urllib3.response import HTTPResponse

from lib import jobs, resources
from lib.service import model, wire
from lib.service.dispatch import Dispatcher
from lib.store.database import database_url

# Never connected to: an address that could not answer, should the event ever fail to.
ENDPOINT = "http://in-process.invalid"

# Whatever profile, configuration file or endpoint the environment names is meant for AWS.
_UNCONFIGURED = {"profile": (None, None, None, None), "config_file": (None, None, "/dev/null", None)}


def client(
    service: str,
    *,
    store: str | Path,
    files: str | Path | None = None,
    region: str = "us-east-1",
    account_id: str = "123456789012",
    buckets: Mapping[str, str | Path] | None = None,
) -> Any:
    """A boto3 client of ``service`` on a store.

    store, files: a folder; or postgresql://user@host/database, and a folder for its files.
    buckets: name of an S3 bucket -> the folder that stands for it.  Clients of one store share what is open.
    """
    folders = tuple(sorted((name, Path(folder).absolute()) for name, folder in (buckets or {}).items()))
    location = store if database_url(store) else Path(store).absolute()
    return connect(
        service, _dispatcher(location, files and Path(files).absolute(), region, account_id, folders), region
    )


@cache
def _dispatcher(
    store: str | Path, files: Path | None, region: str, account_id: str, buckets: tuple[tuple[str, Path], ...]
) -> Dispatcher:
    account = jobs.open_account(store, files=files, region=region, account_id=account_id, buckets=dict(buckets))
    account.wake()
    return Dispatcher(account, resources.OPERATIONS)


def connect(service: str, dispatcher: Dispatcher, region: str) -> Any:
    """A boto3 client of ``service`` whose operations ``dispatcher`` performs."""
    if service not in model.SERVICES:
        raise ValueError(f"{service!r} is no service of Amazon Personalize: choose one of {', '.join(model.SERVICES)}")
    session = boto3.Session(botocore_session=botocore.session.Session(session_vars=dict(_UNCONFIGURED)))
    client = session.client(
        service,
        region_name=region,
        endpoint_url=ENDPOINT,
        config=Config(signature_version=UNSIGNED),
    )

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        parts = urlsplit(request.url)
        answered = wire.answer(
            dispatcher,
            request.method,
            parts.path or "/",
            {name.lower(): _text(value) for name, value in request.headers.items()},
            request.body or b"",
            request_id=str(uuid.uuid4()),
        )
        raw = HTTPResponse(io.BytesIO(answered.body), preload_content=False)
        return AWSResponse(request.url, answered.status, dict(answered.headers), raw)

    client.meta.events.register("before-send", answer)
    return client


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
