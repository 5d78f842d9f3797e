"""What was answered is on disk, however often the service is killed while it answers."""

import json
import random
import threading
from functools import partial

import pandas as pd
from botocore.exceptions import BotoCoreError, ClientError

from lib.data.schema import parse
from lib.store import events
from lib.store.database import Store
from tests.resources.workflow import INTERACTIONS
from tests.wire.serving import rest, serving

KILLS = 4
CALLERS = 8


def put_until_killed(service, tracking_id, caller, round_, answered, first):
    client = service.client("personalize-events", connect_timeout=5, read_timeout=10)
    for number in range(100_000):
        names = [f"{round_}-{caller}-{number}-{n}" for n in range(5)]
        sent = [{"eventType": "click", "itemId": name, "eventId": name, "sentAt": 1.7e9} for name in names]
        try:
            client.put_events(trackingId=tracking_id, sessionId=f"s{caller}", userId=f"u{caller}", eventList=sent)
        except (BotoCoreError, ClientError):
            return
        answered.extend(names)
        first.set()


def test_no_event_that_was_answered_is_lost_by_kills(tmp_path):
    chance = random.Random(4)
    answered: list[str] = []
    tracking_id = dataset = None
    for round_ in range(KILLS):
        with serving(tmp_path / "store") as service:
            if tracking_id is None:
                personalize = service.client("personalize")
                group = personalize.create_dataset_group(name="g")["datasetGroupArn"]
                schema = personalize.create_schema(name="s", schema=json.dumps(INTERACTIONS))["schemaArn"]
                rest(partial(personalize.describe_dataset_group, datasetGroupArn=group))
                dataset = personalize.create_dataset(
                    name="d", schemaArn=schema, datasetGroupArn=group, datasetType="Interactions"
                )["datasetArn"]
                tracking_id = personalize.create_event_tracker(name="t", datasetGroupArn=group)["trackingId"]
            first = threading.Event()
            threads = [
                threading.Thread(target=put_until_killed, args=(service, tracking_id, n, round_, answered, first))
                for n in range(CALLERS)
            ]
            for thread in threads:
                thread.start()
            assert first.wait(30)
            first.clear()
            for _ in range(chance.randrange(1, 6)):
                first.wait(1)
            service.process.kill()
            for thread in threads:
                thread.join()
    store = Store.open(tmp_path / "store")
    with store.read() as tx:
        table = events.interactions(tx, dataset, parse(json.dumps(INTERACTIONS)))
    store.close()
    kept = pd.Series(table["ITEM_ID"])
    assert len(answered) >= KILLS * 5 and kept.is_unique
    assert set(answered) <= set(kept)
