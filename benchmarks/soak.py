"""Two hours' worth of mixed traffic on a service of several workers, while models are switched and workers are killed.

28,800 requests are two hours at four a second, asked as fast as they are answered.  What must hold: no request fails
but by throttling (one whose connection a killed worker cut is asked again by boto3's standard retries, and counted
here), memory stays flat, and every event that was acknowledged is in the store in the end, once.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import boto3
import numpy as np
import orjson
import psutil
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from serving import START, USERS, deploy, untrained

from lib import jobs, reproducible, resources
from lib.recipes import RECIPES
from lib.service.dispatch import Dispatcher
from lib.store import events
from lib.store.database import Store

REQUESTS = 28_800
CLIENTS = 8
PUT_ITEMS = 500
N_ITEMS = 2_000
SWITCHES, KILLS, FILTERS = 40, 40, 100  # spread evenly over the requests
RANKING = "aws-personalized-ranking-v2"
EXPRESSIONS = (
    'INCLUDE ItemID WHERE Items.GENRE IN ("Jazz", "Pop")',
    'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("click")',
    'INCLUDE ItemID WHERE Items.PRICE < 0.5 | EXCLUDE ItemID WHERE Items.GENRE IN ("Folk")',
)


@dataclass(frozen=True)
class Site:
    """What there is to ask for.  versions: of the campaign."""

    campaign: str
    ranking: str
    versions: tuple[str, str]
    group: str
    tracker: str
    items: str
    interactions: str


@dataclass
class Ledger:
    """What the clients saw.  acknowledged: ids of items whose click was answered with success, each clicked once."""

    asked: Counter = field(default_factory=Counter)
    throttled: Counter = field(default_factory=Counter)
    failed: Counter = field(default_factory=Counter)
    retried: Counter = field(default_factory=Counter)
    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    put: dict[str, float] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def note(self, name: str, call):
        """The answer of a call, None where there is none."""
        begun = time.perf_counter()
        answer, error = None, None
        try:
            answer = call()
            retries = answer["ResponseMetadata"]["RetryAttempts"]
        except ClientError as refused:
            error, retries = refused.response["Error"]["Code"], refused.response["ResponseMetadata"]["RetryAttempts"]
        except BotoCoreError as broken:
            error, retries = type(broken).__name__, 0
        with self.guard:
            self.asked[name] += 1
            self.retried[name] += retries
            self.milliseconds.setdefault(name, []).append((time.perf_counter() - begun) * 1000)
            if error is not None:
                (self.throttled if error == "ThrottlingException" else self.failed)[name, error] += 1
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = furnish(folder)
        with serving(folder, options.workers) as (process, url):
            ledger, samples, done = soak(process, url, site, options.requests, options.workers)
        report(ledger, samples, done, options.requests)
        check(folder, site, ledger)


def furnish(folder: Path) -> Site:
    """A site with a campaign of two versions and one that ranks."""
    asked, clicks = deploy(folder, N_ITEMS)
    account = jobs.open_account(folder / "store", buckets={"data": folder / "data"})
    dispatcher = Dispatcher(account, resources.OPERATIONS)

    def call(operation: str, **members: object) -> dict:
        return dispatcher.call("personalize", operation, members)

    def made(kind: str, arn: str) -> str:
        jobs.run_pending(account)
        for _ in range(600):
            if (
                next(iter(call(f"Describe{kind}", **{f"{kind[0].lower()}{kind[1:]}Arn": arn}).values()))["status"]
                == "ACTIVE"
            ):
                return arn
            time.sleep(0.05)
        raise RuntimeError(f"{arn} did not become ACTIVE")

    group = call("ListDatasetGroups")["datasetGroups"][0]["datasetGroupArn"]
    (solution,) = (one["solutionArn"] for one in call("ListSolutions")["solutions"])
    (first,) = (one["solutionVersionArn"] for one in call("ListSolutionVersions")["solutionVersions"])
    second = made("SolutionVersion", call("CreateSolutionVersion", solutionArn=solution)["solutionVersionArn"])
    RECIPES[RANKING] = untrained(RECIPES[RANKING])
    recipe = f"arn:aws:personalize:::recipe/{RANKING}"
    ranked = made("Solution", call("CreateSolution", name="r", datasetGroupArn=group, recipeArn=recipe)["solutionArn"])
    version = made("SolutionVersion", call("CreateSolutionVersion", solutionArn=ranked)["solutionVersionArn"])
    ranking = made("Campaign", call("CreateCampaign", name="r", solutionVersionArn=version)["campaignArn"])
    found = {one["datasetType"]: one["datasetArn"] for one in call("ListDatasets", datasetGroupArn=group)["datasets"]}
    account.store.close()
    campaign = asked(None)[0]["campaignArn"]
    tracker = clicks[0]["trackingId"]
    return Site(campaign, ranking, (first, second), group, tracker, found["ITEMS"], found["INTERACTIONS"])


class serving:
    """The service with its workers."""

    def __init__(self, folder: Path, workers: int, *arguments: str):
        self.folder, self.workers, self.arguments = folder, workers, arguments

    def __enter__(self) -> tuple[psutil.Process, str]:
        command = [sys.executable, "-m", "lib.service", "--port", "0", "--store", str(self.folder / "store")]
        command += ["--workers", str(self.workers), "--bucket", f"data={self.folder / 'data'}"]
        command += ["--quota=filters_per_group=inf", "--quota=filter_fields_per_group=inf", *self.arguments]
        environment = {**reproducible.environment(), "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
        self.log = (self.folder / "service.log").open("w+b")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=environment)
        while not (self.folder / "service.log").read_bytes().endswith(b"\n"):
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "service.log").read_text())
            time.sleep(0.05)
        url = orjson.loads((self.folder / "service.log").read_bytes().splitlines()[0])["url"]
        return psutil.Process(self.process.pid), url

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        self.log.close()


def client(url: str, service: str):
    config = Config(signature_version=UNSIGNED, retries={"mode": "standard", "total_max_attempts": 4}, read_timeout=120)
    return boto3.Session(region_name="us-east-1").client(service, endpoint_url=url, config=config)


def soak(process: psutil.Process, url: str, site: Site, requests: int, workers: int):
    """Ask; the ledger, samples of memory over time, and what was done meanwhile."""
    ledger, done, samples = Ledger(), Counter(), []
    counter, filters = iter(range(requests)), deque(maxlen=3)
    control, runtime = client(url, "personalize"), client(url, "personalize-runtime")
    runtime.get_recommendations(campaignArn=site.campaign, userId="first")

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        runtime, sending = client(url, "personalize-runtime"), client(url, "personalize-events")
        for number in counter:
            one(number, rng, runtime, sending)

    def one(number: int, rng: np.random.Generator, runtime, sending) -> None:
        user, draw = f"new-{rng.integers(USERS)}", rng.random()
        if draw < 0.6:
            members = {"filterArn": filters[-1]} if draw < 0.2 and filters else {}
            ledger.note(
                "GetRecommendations" + (", filter" if members else ""),
                lambda: runtime.get_recommendations(campaignArn=site.campaign, userId=user, **members),
            )
        elif draw < 0.75:
            listed = [f"item-{item:05}" for item in rng.choice(N_ITEMS, 50, replace=False)]
            ledger.note(
                "GetPersonalizedRanking",
                lambda: runtime.get_personalized_ranking(campaignArn=site.ranking, userId=user, inputList=listed),
            )
        elif draw < 0.95:
            ids = [f"clicked-{number}-{n}" for n in range(5)]
            sent = [
                {"eventType": "click", "itemId": id, "eventId": id, "sentAt": START + 1_300_000 + number} for id in ids
            ]
            put = {"trackingId": site.tracker, "userId": user, "sessionId": f"session-{user}", "eventList": sent}
            if ledger.note("PutEvents", lambda: sending.put_events(**put)) is not None:
                with ledger.guard:
                    ledger.acknowledged.update(ids)
        else:
            id, price = f"put-{number % PUT_ITEMS}", float(number)
            row = {"genre": "Jazz", "price": price, "creationTimestamp": START}
            put = [{"itemId": id, "properties": orjson.dumps(row).decode()}]
            if ledger.note("PutItems", lambda: sending.put_items(datasetArn=site.items, items=put)) is not None:
                with ledger.guard:
                    ledger.put[id] = max(price, ledger.put.get(id, price))

    def disturb() -> None:
        """Whatever goes on beside the requests, each as often as it shall be."""
        started = done.copy()
        while any(thread.is_alive() for thread in threads):
            part = sum(ledger.asked.values()) / requests
            if started["switches"] < part * SWITCHES:
                started["switches"] += 1
                switch = partial(
                    control.update_campaign,
                    campaignArn=site.campaign,
                    solutionVersionArn=site.versions[started["switches"] % 2],
                )
                done["switches"] += ledger.note("UpdateCampaign", switch) is not None
            if started["filters"] < part * FILTERS:
                started["filters"] += 1
                create = partial(
                    control.create_filter,
                    name=f"soak-{started['filters']}",
                    datasetGroupArn=site.group,
                    filterExpression=EXPRESSIONS[started["filters"] % len(EXPRESSIONS)],
                )
                made = ledger.note("CreateFilter", create)
                if made:
                    time.sleep(0.5)  # until it is ACTIVE
                    filters.append(made["filterArn"])
                    done["filters"] += 1
            if started["kills"] < part * KILLS:
                started["kills"] += 1
                others = sorted(process.children(), key=lambda child: child.create_time())[1:]
                others = [child for child in others if "lib.service" in " ".join(child.cmdline())]
                if others:  # the oldest lives on: its memory tells
                    others[started["kills"] % len(others)].kill()
                    done["kills"] += 1
            if len(samples) < part * 100:
                samples.append((part, memory(process)))
            time.sleep(0.05)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(CLIENTS)]
    begun, used = time.perf_counter(), cpu(process)
    for thread in threads:
        thread.start()
    disturb()
    done["seconds"], done["processor seconds of those alive at the end"] = (
        round(time.perf_counter() - begun),
        round(cpu(process) - used),
    )
    return ledger, samples, done


def cpu(process: psutil.Process) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children()))


def own_and_shared(process: psutil.Process) -> list[tuple[str, float, float]]:
    """Of the first process and its workers, the oldest first: name, MiB of its own, MiB with its share of the rest."""
    found = []
    workers = sorted(process.children(), key=lambda child: child.create_time())
    for number, one in enumerate((process, *workers)):
        try:
            told = Path(f"/proc/{one.pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        size = {name: int(kib) / 1024 for name, kib in re.findall(r"(\w+): +(\d+) kB", told)}
        if "Pss" in size:
            title = f"worker {number}" if number else "first process"
            found.append((title, size["Private_Dirty"], size["Pss"]))
    return found


def memory(process: psutil.Process) -> dict[str, float]:
    """MiB: of the worker that lives longest its own, of all together with what they share counted once."""
    sizes = own_and_shared(process)
    own = next((own for title, own, _ in sizes if title == "worker 1"), np.nan)
    return {"own memory of the longest-lived worker": own, "all processes together": sum(one[2] for one in sizes)}


def report(ledger: Ledger, samples: list, done: Counter, requests: int) -> None:
    print(f"{requests} requests, {CLIENTS} clients; {dict(done)}")
    for name, count in ledger.asked.most_common():
        p50, p99 = np.percentile(ledger.milliseconds[name], [50, 99])
        throttled = sum(many for (what, _), many in ledger.throttled.items() if what == name)
        failed = {error: many for (what, error), many in ledger.failed.items() if what == name}
        told = f"asked again {ledger.retried[name]:4}  throttled {throttled:4}  failed {failed or 0}"
        print(f"  {name:28} {count:7}  p50 {p50:7.1f} p99 {p99:8.1f} ms  {told}")
    for name in samples[0][1]:
        quarters = [
            np.nanmean([found[name] for part, found in samples if begin <= part < begin + 0.25])
            for begin in (0.05, 0.25, 0.5, 0.75)
        ]
        print(f"  MiB, {name:38} by quarters " + " ".join(f"{size:7.1f}" for size in quarters))


def check(folder: Path, site: Site, ledger: Ledger) -> None:
    """What was acknowledged, against the store."""
    store = Store.open(folder / "store")
    with store.read() as tx:
        kept = Counter(event.item_id for event in events.after(tx, site.interactions, 0)[0])
        items, _ = events.records(tx, site.items)
    store.close()
    lost = ledger.acknowledged - kept.keys()
    twice = [item for item, count in kept.items() if count > 1 and str(item).startswith("clicked-")]
    stale = [id for id, price in ledger.put.items() if id not in items or items[id]["PRICE"] != price]
    print(f"  events acknowledged {len(ledger.acknowledged)}, lost {len(lost)}, kept twice {len(twice)}")
    print(f"  items acknowledged {len(ledger.put)}, lost or older than the last put {len(stale)}")


if __name__ == "__main__":
    main()
