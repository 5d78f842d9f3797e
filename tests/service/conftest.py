"""What the tests of the service share: an account, an application on a port, and clients through both doors."""

import pytest

from lib.service import client, http
from lib.service.dispatch import Dispatcher
from tests.service.doors import OPERATIONS, REGION, allow, listening, remote


@pytest.fixture
def log():
    return []


@pytest.fixture
def account():
    return {}


@pytest.fixture
def application(account, log):
    return http.Application(Dispatcher(account, OPERATIONS), authorise=allow, log=log.append)


@pytest.fixture
def url(application):
    with listening(application) as url:
        yield url


@pytest.fixture(params=["in process", "over HTTP"])
def door(request):
    """service -> boto3 client, through one door or the other, each with an account of its own."""
    if request.param == "in process":
        dispatcher = Dispatcher({}, OPERATIONS)
        return lambda service: client.connect(service, dispatcher, REGION)
    url = request.getfixturevalue("url")
    return lambda service: remote(service, url)
