"""Batch inference against the same questions asked one by one: lines per second, both in one run, and their ratio.

A sequence recipe on made-up data of 10,000 items, then popularity for a million users on 50,000 items, answer one
request after another over HTTP (a client that waits for each answer), and a batch job's lines in a worker of its own.
``python benchmarks/batch.py [USERS]``
"""

import json
import os
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
from botocore import UNSIGNED
from botocore.config import Config

from lib import jobs, load, reproducible
from lib.resources import OPERATIONS
from lib.resources.account import no_wake

ROLE = "arn:aws:iam::123456789012:role/benchmark"
SCHEMA = {
    "type": "record",
    "name": "Interactions",
    "namespace": "com.amazonaws.personalize.schema",
    "fields": [
        {"name": "USER_ID", "type": "string"},
        {"name": "ITEM_ID", "type": "string"},
        {"name": "TIMESTAMP", "type": "long"},
    ],
    "version": "1.0",
}
LARGE = 1_000_000  # users
REQUESTS = 300
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

    def work(self, describe: str, **arn: str) -> float:
        """Let a worker do what waits; the most memory it had, in GiB.  Raises RuntimeError where the job fails."""
        command = [sys.executable, "-m", "lib.jobs", "--store", str(self.location), "--linger", "0"]
        worker = subprocess.Popen([*command, "--bucket", f"data={self.data}"], env=ENVIRONMENT)
        used = os.wait4(worker.pid, 0)[2]
        (found,) = getattr(self, describe)(**arn).values()
        if found.status != "ACTIVE":
            raise RuntimeError(found.failure_reason)
        return used.ru_maxrss / 2**20

    def version(self, table: pd.DataFrame, recipe: str) -> str:
        """A version trained on a table of interactions."""
        table.to_csv(self.data / "interactions.csv", index=False)
        group = self.create_dataset_group(name="bench")["datasetGroupArn"]
        schema = self.create_schema(name="interactions", schema=json.dumps(SCHEMA))["schemaArn"]
        dataset = self.create_dataset(
            name="interactions", schema_arn=schema, dataset_group_arn=group, dataset_type="INTERACTIONS"
        )["datasetArn"]
        source = {"dataLocation": "s3://data/interactions.csv"}
        arn = self.create_dataset_import_job(job_name="bench", dataset_arn=dataset, data_source=source, role_arn=ROLE)
        self.work("describe_dataset_import_job", dataset_import_job_arn=arn["datasetImportJobArn"])
        recipe = f"arn:aws:personalize:::recipe/{recipe}"
        solution = self.create_solution(
            name="bench", dataset_group_arn=group, recipe_arn=recipe, perform_auto_training=False
        )["solutionArn"]
        version = self.create_solution_version(solution_arn=solution)["solutionVersionArn"]
        self.work("describe_solution_version", solution_version_arn=version)
        return version

    def batch(self, version: str, users: np.ndarray) -> tuple[float, float]:
        """Seconds that a batch job for these users takes, loading included, and the worker's most memory in GiB."""
        with (self.data / "users.json").open("w") as file:
            file.writelines(f'{{"userId": "{user}"}}\n' for user in users)
        arn = self.create_batch_inference_job(
            job_name=f"bench-{len(users)}",
            solution_version_arn=version,
            job_input={"s3DataSource": {"path": "s3://data/users.json"}},
            job_output={"s3DataDestination": {"path": "s3://data/out/"}},
            role_arn=ROLE,
        )["batchInferenceJobArn"]
        begin = time.perf_counter()
        memory = self.work("describe_batch_inference_job", batch_inference_job_arn=arn)
        return time.perf_counter() - begin, memory


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
    """Requests per second with boto3 and with a bare HTTP client, each asked after the one before was answered."""
    campaign = bench.create_campaign(name="bench", solution_version_arn=version)["campaignArn"]
    ready = bench.location.parent / "url"
    command = [sys.executable, "-m", "lib.service", "--workers", "1", "--port", "0", "--store", str(bench.location)]
    service = subprocess.Popen([*command, "--ready-file", str(ready)], env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    try:
        while not ready.exists():
            time.sleep(0.1)
        url = ready.read_text()
        config = Config(signature_version=UNSIGNED)
        runtime = boto3.client("personalize-runtime", region_name="us-east-1", endpoint_url=url, config=config)
        runtime.get_recommendations(campaignArn=campaign, userId="u0")  # the campaign is loaded at its first request
        begin = time.perf_counter()
        for user in users:
            runtime.get_recommendations(campaignArn=campaign, userId=str(user))
        with_boto3 = len(users) / (time.perf_counter() - begin)
        bodies = [json.dumps({"campaignArn": campaign, "userId": str(user)}).encode() for user in users]
        bare = load.measure(url, "/recommendations", bodies, clients=1, requests=len(bodies)).requests_per_second
    finally:
        service.terminate()
        service.wait()
    return with_boto3, bare


def compare(title: str, bench: Bench, version: str, users: np.ndarray) -> None:
    """Print how fast a version answers these users one by one and all at once."""
    asked = users[:: max(1, len(users) // REQUESTS)][:REQUESTS]
    with_boto3, bare = one_by_one(bench, version, asked)
    short, _ = bench.batch(version, users[: len(users) // 5])
    long, memory = bench.batch(version, users)
    rate = (len(users) - len(users) // 5) / (long - short)  # what each further line costs: both jobs load the model
    print(title)
    print(f"  one by one, boto3           {with_boto3:8.0f} a second")
    print(f"  one by one, a bare client   {bare:8.0f} a second")
    print(
        f"  batch                       {rate:8.0f} a second, {rate / with_boto3:.1f} x boto3, {rate / bare:.1f} x bare"
    )
    print(f"  batch, with loading         {len(users) / long:8.0f} a second, {memory:.2f} GiB of memory at most")


def main() -> None:
    """Print the rates and their ratios."""
    users = int(sys.argv[1]) if len(sys.argv) > 1 else LARGE
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder, "sequence"))
        version = bench.version(interactions(3_000, 10_000, 30), "aws-user-personalization-v2")
        everybody = np.tile([f"u{n}" for n in range(3_000)], 5)
        compare("aws-user-personalization-v2, 10,000 items, 30 events a user", bench, version, everybody)
        bench = Bench(Path(folder, "large"))
        version = bench.version(interactions(users, 50_000, 3), "aws-popularity-count")
        everybody = np.array([f"u{n}" for n in range(users)])
        compare(f"aws-popularity-count, 50,000 items, {users:,} users, 3 events each", bench, version, everybody)


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != str(reproducible.THREADS):
        reproducible.launch([sys.executable, *sys.argv])
    main()
