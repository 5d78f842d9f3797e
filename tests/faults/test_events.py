"""A service is killed 200 times while it takes events: none that was answered is lost, and no call is torn."""

import json
import socket
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException

import numpy as np
import pytest
from sqlalchemy import select

from lib.store.database import Store
from lib.store.events import live_events
from tests.faults import processes
from tests.resources.workflow import Personalize

KILLS = 200
SEED = 21
PAUSE = 0.02  # seconds from the first answer of a service to its end, on average
SENDERS = 8
EVENTS = 3  # of a call


class Sender(threading.Thread):
    """Puts events without a pause, and notes what was asked for and what was answered."""

    def __init__(self, number, port, tracking_id, heard):
        super().__init__(daemon=True)
        self.number, self.port, self.tracking_id, self.heard = number, port, tracking_id, heard
        self.asked, self.answered, self.refused = [], [], []
        self.enough = threading.Event()

    def run(self):
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self.enough.is_set():
            call = f"{self.number}-{len(self.asked)}"
            self.asked.append(call)
            sent = [{"eventType": "click", "itemId": "i", "eventId": f"{call}-{n}", "sentAt": n} for n in range(EVENTS)]
            body = {"trackingId": self.tracking_id, "sessionId": call, "userId": call, "eventList": sent}
            try:
                connection.request("POST", "/events", json.dumps(body), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                told = answer.read()
            except (OSError, HTTPException):  # nobody lives to answer
                connection.close()
                self.enough.wait(0.005)
                continue
            (self.answered if answer.status == 200 else self.refused).append(call if answer.status == 200 else told)
            self.heard.set()


@pytest.fixture(scope="module")
def senders(tmp_path_factory):
    """Who sent events to a service that was killed again and again, and what the store keeps: event id -> how often."""
    folder = tmp_path_factory.mktemp("events")
    personalize = Personalize.open(folder)
    group = personalize.group()
    personalize.dataset(group)
    tracking_id = personalize.create_event_tracker(name="t", dataset_group_arn=group)["trackingId"]
    personalize.account.store.close()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    heard = threading.Event()
    senders = [Sender(number, port, tracking_id, heard) for number in range(SENDERS)]
    rng = np.random.default_rng(SEED)
    for sender in senders:
        sender.start()
    for _ in range(KILLS):
        heard.clear()
        service = processes.start(
            processes.serve, folder / "log", "--port", str(port), "--store", str(folder / "store")
        )
        assert heard.wait(60)
        time.sleep(rng.exponential(PAUSE))  # a random instant
        service.kill()
        service.join()
    for sender in senders:
        sender.enough.set()
    for sender in senders:
        sender.join()
    store = Store.open(folder / "store")
    with store.read() as tx:
        kept = Counter(tx.execute(select(live_events.c.event_id)).scalars())
    store.close()
    return senders, kept


def test_no_answered_event_is_lost_and_none_is_there_twice(senders):
    senders, kept = senders
    answered = {f"{call}-{n}" for sender in senders for call in sender.answered for n in range(EVENTS)}
    assert [told for sender in senders for told in sender.refused] == []
    assert len(answered) > KILLS * EVENTS
    assert answered - kept.keys() == set() and set(kept.values()) == {1}


def test_the_events_of_a_call_are_all_there_or_none_of_them(senders):
    senders, kept = senders
    asked = {call for sender in senders for call in sender.asked}
    calls = Counter(event_id.rpartition("-")[0] for event_id in kept)
    assert calls.keys() <= asked and set(calls.values()) == {EVENTS}
