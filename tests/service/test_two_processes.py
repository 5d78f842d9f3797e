"""Two services on one store: what one was told, the other knows at its next answer."""

import json
import time
from urllib.request import Request, urlopen

import pytest

from tests.faults import processes
from tests.resources.workflow import Personalize
from tests.wire.serving import until

UNSEEN = 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("click")'


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """Two URLs, what to ask there for a campaign's list without what was seen, and where events go."""
    folder = tmp_path_factory.mktemp("two")
    personalize = Personalize.open(folder)
    _, version = personalize.trained()
    (found,) = personalize.list_dataset_groups()["datasetGroups"]
    group = found.dataset_group_arn
    made = personalize.create_filter(name="unseen", dataset_group_arn=group, filter_expression=UNSEEN)
    campaign = personalize.create_campaign(name="c", solution_version_arn=version)["campaignArn"]
    asked = {"campaignArn": campaign, "filterArn": made["filterArn"], "userId": "reader", "numResults": 40}
    tracker = personalize.create_event_tracker(name="t", dataset_group_arn=group)["trackingId"]
    personalize.account.store.close()
    arguments = ["--port", "0", "--store", str(folder / "store")]
    files = [folder / "one", folder / "other"]
    running = [
        processes.start(processes.serve, folder / "log", *arguments, "--ready-file", str(file)) for file in files
    ]
    until(lambda there: there, lambda: all(file.exists() for file in files))
    yield [file.read_text() for file in files], asked, tracker
    for one in running:
        one.kill()
        one.join()


def post(url, path, members):
    request = Request(url + path, json.dumps(members).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"{}")


def answered(url, asked):
    return [item["itemId"] for item in post(url, "/recommendations", asked)["itemList"]]


def test_an_event_told_to_one_is_part_of_the_next_answer_of_the_other(services):
    urls, asked, tracker = services
    left = answered(urls[0], asked)
    assert answered(urls[1], asked) == left and len(left) > 20
    for n, item in enumerate(left[:20]):
        there, here = urls[n % 2], urls[1 - n % 2]
        click = {"eventType": "click", "itemId": item, "sentAt": 1_700_000_000 + n}
        post(there, "/events", {"trackingId": tracker, "sessionId": "s", "userId": "reader", "eventList": [click]})
        assert answered(here, asked) == answered(there, asked) == left[n + 1 :]


def test_the_other_knows_within_100_milliseconds(services):
    urls, asked, tracker = services
    seconds = []
    for n in range(20):
        visitor = {**asked, "userId": f"visitor-{n}"}
        first = answered(urls[1], visitor)[0]
        click = {"eventType": "click", "itemId": first, "sentAt": 1_700_000_000}
        put = {"trackingId": tracker, "sessionId": "s", "userId": f"visitor-{n}", "eventList": [click]}
        post(urls[0], "/events", put)
        answered_at = time.monotonic()
        assert first not in answered(urls[1], visitor)
        seconds.append(time.monotonic() - answered_at)
    assert sorted(seconds)[len(seconds) // 2] < 0.1
