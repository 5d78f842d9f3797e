"""Batch inference against the same questions asked one by one: processor time a line, both in one run, and the ratio.

A sequence recipe on made-up data of 10,000 items, then popularity and the sequence recipe for a million users on 50,000
items, answer one request after another over HTTP (a client that waits for each answer), and a batch job's lines in a
worker of its own.  The last was trained on a few users; the others' events came since.
``python benchmarks/batch.py [--users USERS] [short popular long …]``; the script ends with status 1 where a job for a
million users takes 1.5 GiB or more.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import boto3
import numpy as np
import pandas as pd
import psutil
from botocore import UNSIGNED
from botocore.config import Config

from lib import jobs, load, reproducible
from lib.data.schema import propose
from lib.resources import OPERATIONS
from lib.resources.account import no_wake

ROLE = "arn:aws:iam::123456789012:role/benchmark"
SEQUENCE, POPULAR = "aws-user-personalization-v2", "aws-popularity-count"
LARGE = 1_000_000  # users
MOST_GIB = 1.5
REQUESTS = 600
ENVIRONMENT = {**reproducible.environment(), "PYTHONPATH": str(Path(__file__).resolve().parents[1])}


class Bench:
    """An account whose jobs run in worker processes, one after another."""

    def __init__(self, folder: Path):
        (folder / "data").mkdir(parents=True)
        self.data, self.location = folder / "data", folder / "store"
        buckets = {"data": self.data}
        self.account = replace(jobs.open_account(self.location, buckets=buckets, settling=timedelta()), wake=no_wake)

    def __getattr__(self, operation):
        return lambda **members: OPERATIONS[operation](self.account, **members)

    def work(self, describe: str, **arn: str) -> tuple[float, float]:
        """Let a worker do what waits; its processor seconds and the most memory it had, in GiB.

        Raises RuntimeError where the job fails.
        """
        command = [sys.executable, "-m", "lib.jobs", "--store", str(self.location), "--linger", "0"]
        worker = subprocess.Popen([*command, "--bucket", f"data={self.data}"], env=ENVIRONMENT)
        used = os.wait4(worker.pid, 0)[2]
        (found,) = getattr(self, describe)(**arn).values()
        if found.status != "ACTIVE":
            raise RuntimeError(found.failure_reason)
        return used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20

    def version(self, table: pd.DataFrame, recipe: str) -> str:
        """A version trained on a table of interactions."""
        group = self.create_dataset_group(name="bench")["datasetGroupArn"]
        schema = self.create_schema(name="interactions", schema=propose(table, "INTERACTIONS"))["schemaArn"]
        self.dataset = self.create_dataset(
            name="interactions", schema_arn=schema, dataset_group_arn=group, dataset_type="INTERACTIONS"
        )["datasetArn"]
        self.load(table, "FULL")
        recipe = f"arn:aws:personalize:::recipe/{recipe}"
        solution = self.create_solution(
            name="bench", dataset_group_arn=group, recipe_arn=recipe, perform_auto_training=False
        )["solutionArn"]
        version = self.create_solution_version(solution_arn=solution)["solutionVersionArn"]
        self.work("describe_solution_version", solution_version_arn=version)
        return version

    def load(self, table: pd.DataFrame, mode: str) -> None:
        """Import interactions: FULL in place of those that are there, INCREMENTAL beside them."""
        table.to_csv(self.data / "interactions.csv", index=False)
        arn = self.create_dataset_import_job(
            job_name=f"bench-{len(table)}",
            dataset_arn=self.dataset,
            data_source={"dataLocation": "s3://data/interactions.csv"},
            role_arn=ROLE,
            import_mode=mode,
        )
        self.work("describe_dataset_import_job", dataset_import_job_arn=arn["datasetImportJobArn"])

    def batch(self, version: str, users: np.ndarray) -> tuple[float, float]:
        """Processor seconds of a batch job for these users, loading included, and the worker's most memory in GiB."""
        with (self.data / "users.json").open("w") as file:
            file.writelines(f'{{"userId": "{user}"}}\n' for user in users)
        arn = self.create_batch_inference_job(
            job_name=f"bench-{len(users)}",
            solution_version_arn=version,
            job_input={"s3DataSource": {"path": "s3://data/users.json"}},
            job_output={"s3DataDestination": {"path": "s3://data/out/"}},
            role_arn=ROLE,
        )["batchInferenceJobArn"]
        return self.work("describe_batch_inference_job", batch_inference_job_arn=arn)


def interactions(users: int, items: int, per_user: int) -> pd.DataFrame:
    """Users who step on from item to item, popular ones more often."""
    rng = np.random.default_rng(0)
    start = (items * rng.random((users, per_user)) ** 2).astype(np.int64)
    walk = (start + np.arange(per_user)) % items
    return pd.DataFrame(
        {
            "USER_ID": np.repeat([f"u{n}" for n in range(users)], per_user),
            "ITEM_ID": pd.Series(np.array([f"i{n}" for n in range(items)])[walk.ravel()]),
            "TIMESTAMP": 1_700_000_000 + np.arange(users * per_user) % 50_000_000,
        }
    )


def one_by_one(bench: Bench, version: str, users: np.ndarray) -> tuple[float, float]:
    """Processor seconds a request, of client and service, with boto3 and with a bare HTTP client."""
    campaign = bench.create_campaign(name="bench", solution_version_arn=version)["campaignArn"]
    ready = bench.location.parent / "url"
    command = [sys.executable, "-m", "lib.service", "--port", "0", "--store", str(bench.location)]
    service = subprocess.Popen([*command, "--ready-file", str(ready)], env=ENVIRONMENT, stdout=subprocess.DEVNULL)

    def used() -> float:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        running = [sum(process.cpu_times()[:2]) for process in psutil.Process().children(recursive=True)]
        return time.process_time() + ended.ru_utime + ended.ru_stime + sum(running)

    try:
        while not ready.exists():
            time.sleep(0.1)
        url = ready.read_text()
        config = Config(signature_version=UNSIGNED)
        runtime = boto3.client("personalize-runtime", region_name="us-east-1", endpoint_url=url, config=config)
        runtime.get_recommendations(campaignArn=campaign, userId="u0")  # the campaign is loaded at its first request
        half = len(users) // 2  # each user asks once: a second answer would be kept from the first
        begin = used()
        for user in users[:half]:
            runtime.get_recommendations(campaignArn=campaign, userId=str(user))
        with_boto3 = (used() - begin) / half
        bodies = [json.dumps({"campaignArn": campaign, "userId": str(user)}).encode() for user in users[half:]]
        begin = used()
        load.measure(url, "/recommendations", bodies, clients=1, requests=len(bodies))
        bare = (used() - begin) / len(bodies)
    finally:
        service.terminate()
        service.wait()
    return with_boto3, bare


def compare(title: str, bench: Bench, version: str, users: np.ndarray) -> float:
    """Print what it costs to answer these users one by one and all at once; gives the most GiB that took."""
    asked = np.unique(users)
    with_boto3, bare = one_by_one(bench, version, asked[:: max(1, len(asked) // REQUESTS)][:REQUESTS])
    short, _ = bench.batch(version, users[: len(users) // 5])
    long, memory = bench.batch(version, users)
    cost = (long - short) / (len(users) - len(users) // 5)  # of each further line: both jobs load the model
    print(title)
    print(f"  one by one, boto3           {1e6 * with_boto3:8.0f} µs of processor time a line")
    print(f"  one by one, a bare client   {1e6 * bare:8.0f} µs")
    ratios = f"1/{with_boto3 / cost:.1f} of boto3, 1/{bare / cost:.1f} of bare"
    print(f"  batch                       {1e6 * cost:8.0f} µs, {ratios}")
    print(f"  batch, with loading         {long:8.0f} s for all lines, {memory:.2f} GiB of memory at most", flush=True)
    return memory


def short(bench: Bench, n_users: int) -> float:
    """The sequence recipe for few users."""
    version = bench.version(interactions(3_000, 10_000, 30), SEQUENCE)
    everybody = np.tile([f"u{n}" for n in range(3_000)], 5)
    return compare(f"{SEQUENCE}, 10,000 items, 30 events a user", bench, version, everybody)


def popular(bench: Bench, n_users: int) -> float:
    """Popularity for many users."""
    version = bench.version(interactions(n_users, 50_000, 3), POPULAR)
    return compare(f"{POPULAR}, 50,000 items, {n_users:,} users, 3 events each", bench, version, _users(n_users))


def long(bench: Bench, n_users: int) -> float:
    """The sequence recipe for many users."""
    version = bench.version(interactions(3_000, 50_000, 30), SEQUENCE)
    bench.load(interactions(n_users, 50_000, 3), "INCREMENTAL")
    return compare(f"{SEQUENCE}, 50,000 items, {n_users:,} users, 3 events each", bench, version, _users(n_users))


def main() -> int:
    """Print the rates and their ratios; 1 where a job takes too much memory."""
    parts = {one.__name__: one for one in (short, popular, long)}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", default=list(parts))
    parser.add_argument("--users", type=int, default=LARGE)
    options = parser.parse_args()
    most = 0.0
    for name in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            most = max(most, parts[name](Bench(Path(folder, name)), options.users))
    return int(most >= MOST_GIB)


def _users(n: int) -> np.ndarray:
    return np.array([f"u{number}" for number in range(n)])


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != str(reproducible.THREADS):
        reproducible.launch([sys.executable, *sys.argv])
    sys.exit(main())
