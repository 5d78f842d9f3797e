"""An S3 for tests, out of moto, on a port of this machine."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer

from lib.store import bucket

SETTINGS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


@contextmanager
def serving() -> Iterator[str]:
    """The URL of a running server."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # one line a request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def empty(url: str) -> None:
    """Take all buckets away."""
    with urlopen(Request(f"{url}/moto-api/reset", method="POST")):
        pass


def configured(url: str, monkeypatch: pytest.MonkeyPatch):
    """A client, from an environment that says where S3 is, as its users would say it.  Making one takes a while."""
    for name, value in {**SETTINGS, "AWS_ENDPOINT_URL_S3": url}.items():
        monkeypatch.setenv(name, value)
    if bucket.connect().meta.endpoint_url != url:
        bucket._client.cache_clear()
    return bucket.connect()
