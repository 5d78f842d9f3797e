"""An account with a clock that the test moves, and small data to import."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import orjson
import pandas as pd

from lib import jobs
from lib.resources import OPERATIONS
from lib.resources.account import Account
from lib.resources.quotas import quotas
from lib.store.database import Store

INTERACTIONS = {
    "type": "record",
    "name": "Interactions",
    "namespace": "com.amazonaws.personalize.schema",
    "fields": [
        {"name": "USER_ID", "type": "string"},
        {"name": "ITEM_ID", "type": "string"},
        {"name": "TIMESTAMP", "type": "long"},
        {"name": "EVENT_TYPE", "type": "string"},
    ],
    "version": "1.0",
}
ITEMS = {
    "type": "record",
    "name": "Items",
    "namespace": "com.amazonaws.personalize.schema",
    "fields": [
        {"name": "ITEM_ID", "type": "string"},
        {"name": "GENRE", "type": ["null", "string"], "categorical": True},
    ],
    "version": "1.0",
}
RECIPE = "arn:aws:personalize:::recipe/aws-popularity-count"


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self):
        return self.time

    def wait(self, seconds=10.0):
        self.time += timedelta(seconds=seconds)


class Personalize:
    """The operations of one account as methods, and shortcuts through its workflow."""

    def __init__(self, account, clock):
        self.account, self.clock = account, clock
        self.data = account.buckets["data"]

    @classmethod
    def open(cls, folder, place=None, **changed_quotas):
        """An account with a clock that stands still, whose jobs wait until ``work``.

        place: of the store as ``Store.open`` takes it, by default in the folder.
        """
        clock = Clock()
        (folder / "data").mkdir()
        account = Account(
            store=Store.open(*(place or [folder / "store"])),
            region="us-east-1",
            account_id="123456789012",
            now=clock,
            quotas=quotas(changed_quotas),
            buckets={"data": folder / "data"},
        )
        return cls(account, clock)

    def __getattr__(self, operation):
        def perform(**members):
            answer = OPERATIONS[operation](self.account, **members)
            if isinstance(answer, dict) and isinstance(answer.get("itemList"), orjson.Fragment):
                answer["itemList"] = orjson.loads(orjson.dumps(answer["itemList"]))
            return answer

        return perform

    def work(self):
        """Carry out the pending jobs, and let time pass."""
        jobs.run_pending(self.account)
        self.clock.wait()

    def group(self, name="news", **members):
        arn = self.create_dataset_group(name=name, **members)["datasetGroupArn"]
        self.clock.wait()
        return arn

    def schema(self, schema, name):
        return self.create_schema(name=name, schema=json.dumps(schema))["schemaArn"]

    def dataset(self, group, schema=INTERACTIONS, name=None):
        kind = schema["name"]
        arn = self.create_dataset(
            name=name or kind.lower(),
            schema_arn=self.schema(schema, f"{group.rpartition('/')[2]}-{name or kind}"),
            dataset_group_arn=group,
            dataset_type=kind,
        )["datasetArn"]
        self.clock.wait()
        return arn

    def put(self, table, name):
        table.to_csv(self.data / name, index=False)
        return {"dataLocation": f"s3://data/{name}"}

    def load(self, dataset, table, job, mode="FULL"):
        """Import a table; the job as DescribeDatasetImportJob shows it afterwards."""
        arn = self.create_dataset_import_job(
            job_name=job, dataset_arn=dataset, data_source=self.put(table, f"{job}.csv"), import_mode=mode
        )["datasetImportJobArn"]
        self.work()
        return self.describe_dataset_import_job(dataset_import_job_arn=arn)["datasetImportJob"]

    def filled(self, **members):
        """A group with 1,000 interactions."""
        group = self.group()
        assert self.load(self.dataset(group), interactions(**members), "first").status == "ACTIVE"
        return group

    def solution(self, group, name="popular", recipe_arn=RECIPE, **members):
        arn = self.create_solution(name=name, dataset_group_arn=group, recipe_arn=recipe_arn, **members)["solutionArn"]
        self.clock.wait()
        return arn

    def version(self, solution, **members):
        arn = self.create_solution_version(solution_arn=solution, **members)["solutionVersionArn"]
        self.work()
        return arn

    def trained(self):
        """A solution and an ACTIVE version of it."""
        solution = self.solution(self.filled())
        return solution, self.version(solution)

    def status(self, version):
        return self.describe_solution_version(solution_version_arn=version)["solutionVersion"].status


def interactions(rows=1000, users=50, items=40, event_type="click"):
    """Everybody clicks, low numbers more often than high ones."""
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "USER_ID": [f"u{n % users}" for n in range(rows)],
            "ITEM_ID": [f"i{n}" for n in np.minimum(rng.geometric(0.1, rows), items)],
            "TIMESTAMP": 1_700_000_000 + 60 * np.arange(rows),
            "EVENT_TYPE": event_type,
        }
    )
