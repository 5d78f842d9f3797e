"""How fast the service answers, beside a bare endpoint of the same server stack in the same run: prints ratios.

The bare endpoint parses the same requests and builds a constant answer of the same size; what is missing to its rate is
the price of recommending.  The model has the sequential recipe's full size and weights drawn by chance: what is asked
here is how long an answer takes, not how good it is.  Both run as one process on one core, the clients on another.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import psutil
import torch

from lib import jobs, load, reproducible, resources
from lib.data import features
from lib.data.datasets import Datasets, catalogue
from lib.recipes import RECIPES, sequences, sequential
from lib.recipes.recipe import Model
from lib.recipes.situation import Situation
from lib.recipes.transitions import MAX_ITEMS, Transitions
from lib.resources.account import Account
from lib.service.dispatch import Dispatcher
from lib.store.database import Store

CLIENTS = 64
USERS, EVENTS = 1_000, 10  # whose history comes from live events
REQUESTS = 6_000
RECIPE = "aws-user-personalization-v2"
FIELDS = {
    "Interactions": [("USER_ID", "string"), ("ITEM_ID", "string"), ("TIMESTAMP", "long"), ("EVENT_TYPE", "string")],
    "Items": [("ITEM_ID", "string"), ("GENRE", "string"), ("PRICE", "float"), ("CREATION_TIMESTAMP", "long")],
}
FILTER = (
    'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("click") | INCLUDE ItemID WHERE Items.GENRE IN ("Jazz","Pop")'
)
START = 1_700_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="*", default=[10_000, 50_000])
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        bare()
        return
    for n_items in options.items:
        report(n_items, options.requests)


def report(n_items: int, requests: int) -> None:
    """Measure one size of catalogue and print it."""
    with tempfile.TemporaryDirectory() as name:
        asked, clicks = deploy(Path(name), n_items)
        plain = [orjson.dumps(one) for one in asked(None)]
        filtered = [orjson.dumps(one) for one in asked("two")]
        with process(__file__, "--bare") as server:
            server.measure("/recommendations", plain, requests)
            floor = server.measure("/recommendations", plain, 2 * requests)
        with process("-m", "lib.service", "--workers", "1", "--port", "0", "--store", f"{name}/store") as server:
            server.measure("/events", [orjson.dumps(body) for body in clicks], USERS)
            puts = [orjson.dumps({**body, "sessionId": f"{body['sessionId']}-"}) for body in clicks]
            server.measure("/recommendations", plain, 1)
            first = server.measure("/recommendations", plain[1:], USERS - 1)
            again = server.measure("/recommendations", plain, requests)
            calm = server.measure("/recommendations", plain, requests, per_second=again.rate / 2)
            server.measure("/recommendations", filtered, USERS)
            narrow = server.measure("/recommendations", filtered, requests)
            events = server.measure("/events", puts, 2 * USERS)
    print(f"{n_items} items, {CLIENTS} clients")
    for title, found in [
        ("bare endpoint", floor),
        ("users seen for the first time", first),
        ("users whose history has not changed", again),
        ("the same, two-condition filter", narrow),
        ("at half of the rate without a filter", calm),
        ("PutEvents of ten events, on disk", events),
    ]:
        ratios = (
            f"{100 * found.rate / floor.rate:5.1f} % of bare, by processor time {100 * floor.cost / found.cost:5.1f} %"
        )
        told = f"{found.rate:7.0f}/s  {1e6 * found.cost:6.0f} us  {ratios}"
        p50, p99 = found.seen.percentile(50), found.seen.percentile(99)
        print(f"  {title:37} {told}  p50 {p50:6.1f} p99 {p99:6.1f} ms  errors {sum(found.seen.errors.values())}")
    sys.stdout.flush()


@dataclass(frozen=True)
class Found:
    """seen: by the clients.  cost: the server's processor time a request, in seconds."""

    seen: load.Measurement
    cost: float

    @property
    def rate(self) -> float:
        return self.seen.requests_per_second


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    process: psutil.Process

    def measure(self, path: str, bodies: list[bytes], requests: int, **options: float) -> Found:
        before = sum(self.process.cpu_times()[:2])
        seen = load.measure(self.url, path, bodies, clients=CLIENTS, requests=requests, **options)
        return Found(seen, (sum(self.process.cpu_times()[:2]) - before) / requests)


def bare() -> None:
    """The same server with nothing behind it."""
    import uvicorn

    from lib.service.http import Protocol

    answer = {
        "itemList": [{"itemId": f"item-{n:05}", "score": round(0.0123456 / (n + 1), 7)} for n in range(25)],
        "recommendationId": "RID-0000-0000-0000-000000000000-CID-000000",
    }

    async def application(scope, receive, send) -> None:
        message = await receive()
        orjson.loads(message["body"])
        body = orjson.dumps(answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    options = {"loop": "uvloop", "http": Protocol, "lifespan": "off", "log_config": None, "access_log": False}
    uvicorn.Server(uvicorn.Config(application, **options)).run(sockets=[listener])


@contextmanager
def process(*command: str) -> Iterator[Server]:
    """A server on the last core."""
    environment = {**os.environ, **reproducible.environment(), "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    with tempfile.TemporaryFile() as log:
        running = subprocess.Popen([sys.executable, *command], stdout=log, env=environment)
        try:
            psutil.Process(running.pid).cpu_affinity([max(psutil.Process().cpu_affinity())])
            while not os.pread(log.fileno(), 4096, 0).endswith(b"\n"):
                if running.poll() is not None:
                    raise RuntimeError(f"{' '.join(command)} ended with {running.returncode}")
                time.sleep(0.05)
            url = json.loads(os.pread(log.fileno(), 4096, 0).splitlines()[0])["url"]
            yield Server(url, psutil.Process(running.pid))
        finally:
            running.kill()
            running.wait()


def deploy(folder: Path, n_items: int):
    """A campaign on ``n_items``; what to ask it, with a filter's name or none, and what its users did."""
    rng = np.random.default_rng(1)
    ids = [f"item-{n:05}" for n in range(n_items)]
    (folder / "data").mkdir()
    pd.DataFrame(
        {
            "USER_ID": [f"old-{n % 500}" for n in range(20_000)],
            "ITEM_ID": rng.choice(ids, 20_000),
            "TIMESTAMP": START + 60 * np.arange(20_000),
            "EVENT_TYPE": "click",
        }
    ).to_csv(folder / "data" / "interactions.csv", index=False)
    pd.DataFrame(
        {
            "ITEM_ID": ids,
            "GENRE": rng.choice(["Jazz", "Folk", "Pop", "Rock"], n_items),
            "PRICE": rng.random(n_items),
            "CREATION_TIMESTAMP": START + rng.integers(0, 1_200_000, n_items),
        }
    ).to_csv(folder / "data" / "items.csv", index=False)
    account = Account(
        store=Store.open(folder / "store"),
        region="us-east-1",
        account_id="123456789012",
        now=lambda: datetime.now(UTC),
        buckets={"data": folder / "data"},
        settling=timedelta(0),
    )
    dispatcher = Dispatcher(account, resources.OPERATIONS)

    def call(operation: str, **members: object) -> dict:
        answer = dispatcher.call("personalize", operation, members)
        jobs.run_pending(account)
        return answer

    group = call("CreateDatasetGroup", name="site")["datasetGroupArn"]
    for name, columns in FIELDS.items():
        schema = {"type": "record", "name": name, "namespace": "com.amazonaws.personalize.schema", "version": "1.0"}
        schema["fields"] = [
            {"name": column, "type": kind, **({"categorical": True} if column == "GENRE" else {})}
            for column, kind in columns
        ]
        arn = call("CreateSchema", name=name, schema=json.dumps(schema))["schemaArn"]
        dataset = call("CreateDataset", name=name, schemaArn=arn, datasetGroupArn=group, datasetType=name)["datasetArn"]
        source = {"dataLocation": f"s3://data/{name.lower()}.csv"}
        role = "arn:aws:iam::123456789012:role/r"
        call("CreateDatasetImportJob", jobName=name, datasetArn=dataset, dataSource=source, roleArn=role)
    two = call("CreateFilter", name="two", datasetGroupArn=group, filterExpression=FILTER)["filterArn"]
    tracker = call("CreateEventTracker", name="t", datasetGroupArn=group)["trackingId"]
    RECIPES[RECIPE] = untrained(RECIPES[RECIPE])
    recipe = f"arn:aws:personalize:::recipe/{RECIPE}"
    solution = call("CreateSolution", name="s", datasetGroupArn=group, recipeArn=recipe)["solutionArn"]
    version = call("CreateSolutionVersion", solutionArn=solution)["solutionVersionArn"]
    campaign = call("CreateCampaign", name="c", solutionVersionArn=version)["campaignArn"]
    account.store.close()
    users = [f"new-{n}" for n in range(USERS)]

    def asked(filter_name: str | None) -> list[dict]:
        extra = {} if filter_name is None else {"filterArn": two}
        return [{"campaignArn": campaign, "userId": user, **extra} for user in users]

    clicks = [
        {
            "trackingId": tracker,
            "sessionId": f"session-{user}",
            "userId": user,
            "eventList": [
                {"eventType": "click", "itemId": item, "sentAt": START + 1_200_000 + n}
                for n, item in enumerate(rng.choice(ids, EVENTS).tolist())
            ],
        }
        for user in users
    ]
    return asked, clicks


def untrained(recipe):
    """The recipe with a training that draws its weights."""

    def fit(datasets: Datasets, parameters, *, seed, progress, start=None) -> Model:
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        numbers = catalogue(datasets)
        n_items = len(numbers.item_ids)
        plan = sequences.Plan(
            body="transformer",
            dim=sequential.DIM,
            hidden=sequential.DIM,
            length=sequential.LENGTH,
            recency=True,
            closed=True,
        )
        known = {
            "items": features.fit(datasets.items, datasets.schemas["ITEMS"]),
            "users": features.fit(None, None),
            "context": features.fit(None, None),
        }
        sizes = {side: (columns.n_categories, columns.n_dense) for side, columns in known.items()}
        network = plan.network(n_items, len(numbers.event_types), sizes)
        network.eval()
        n_linked = min(n_items, MAX_ITEMS)
        place = np.full(n_items, -1, np.int32)
        place[:n_linked] = np.arange(n_linked)
        created = datasets.items["CREATION_TIMESTAMP"].to_numpy(np.float64)
        moments = START + np.arange(0, 1_200_000, 20_000, dtype=np.int64)
        ages = rng.normal(size=18).astype(np.float32)
        logits = rng.normal(size=(len(moments), n_items)).astype(np.float32)
        return sequences.SequenceModel(
            catalogue=numbers,
            plan=plan,
            network=network,
            table=torch.from_numpy(rng.normal(size=(n_items, sequential.DIM)).astype(np.float32) / 4),
            features=known,
            situation=Situation(moments, logits, created, ages, np.ones(6, np.float32)),
            transitions=Transitions(
                np.arange(n_linked, dtype=np.int32),
                rng.random((n_linked, n_linked), np.float32),
                place,
                sequences.MEMORIES[0]["decay"],
            ),
            choice=None,
            likeness=None,
            blend=np.array([1, 0.5], np.float32),
            again=0.0,
            epochs=1,
            learnt=(np.zeros(0, np.uint64), np.zeros(0, np.int64)),
        )

    return replace(recipe, fit=fit, resumes=False)


if __name__ == "__main__":
    main()
