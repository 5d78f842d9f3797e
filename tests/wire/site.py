"""What a boto3 caller does all day, in a line each, against a service behind a port."""

import json
from itertools import count

import numpy as np
import pandas as pd

from tests.wire.serving import rest

RECIPE = "arn:aws:personalize:::recipe/"
ROLE = "arn:aws:iam::123456789012:role/r"
CLICKS = {
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
    **CLICKS,
    "name": "Items",
    "fields": [
        {"name": "ITEM_ID", "type": "string"},
        {"name": "GENRE", "type": ["null", "string"], "categorical": True},
    ],
}


def clicks(rows=1000, users=50, items=45):
    """Everybody clicks, low numbers more often than high ones."""
    chosen = np.minimum(np.random.default_rng(3).geometric(0.1, rows), items) - 1
    return pd.DataFrame(
        {
            "USER_ID": [f"u{n % users}" for n in range(rows)],
            "ITEM_ID": [f"i{n}" for n in chosen],
            "TIMESTAMP": 1_700_000_000 + 60 * np.arange(rows),
            "EVENT_TYPE": "click",
        }
    )


class Site:
    """Clients of a service, and the folder that it reads as bucket ``data``."""

    def __init__(self, service, data):
        self.api = service.client("personalize")
        self.runtime = service.client("personalize-runtime")
        self.events = service.client("personalize-events")
        self.data = data
        self._count = count(1)

    def name(self, what="n"):
        """A name that nothing has yet."""
        return f"{what}-{next(self._count)}"

    def describe(self, arn):
        """The description of whatever an ARN names."""
        kind, _, name = arn.split(":")[5].partition("/")
        if kind == "solution" and "/" in name:
            kind = "solution-version"
        first, *others = kind.split("-")
        member = first + "".join(other.capitalize() for other in others) + "Arn"
        return getattr(self.api, f"describe_{kind.replace('-', '_')}")(**{member: arn})

    def rest(self, arn):
        """The resource, once its state no longer changes."""
        return rest(lambda: self.describe(arn))

    def active(self, arn):
        """The ARN, once the resource is ACTIVE."""
        found = self.rest(arn)
        assert found["status"] == "ACTIVE", found
        return arn

    def group(self, **members):
        return self.active(self.api.create_dataset_group(name=self.name("group"), **members)["datasetGroupArn"])

    def schema(self, schema, **members):
        text = schema if isinstance(schema, str) else json.dumps(schema)
        return self.api.create_schema(name=self.name("schema"), schema=text, **members)["schemaArn"]

    def dataset(self, group, schema=CLICKS, kind="Interactions"):
        return self.active(
            self.api.create_dataset(
                name=self.name("dataset"), schemaArn=self.schema(schema), datasetGroupArn=group, datasetType=kind
            )["datasetArn"]
        )

    def put(self, table, name=None):
        """Write a table as CSV; where the service finds it."""
        name = name or self.name("table") + ".csv"
        table.to_csv(self.data / name, index=False)
        return {"dataLocation": f"s3://data/{name}"}

    def load(self, dataset, table, **members):
        """Import a table; the job at rest."""
        job = self.api.create_dataset_import_job(
            jobName=self.name("import"), datasetArn=dataset, dataSource=self.put(table), roleArn=ROLE, **members
        )
        return self.rest(job["datasetImportJobArn"])

    def export(self, dataset, mode):
        """The rows of a dataset as an export job writes them, everything as text."""
        name = self.name("export")
        job = self.api.create_dataset_export_job(
            jobName=name,
            datasetArn=dataset,
            ingestionMode=mode,
            roleArn=ROLE,
            jobOutput={"s3DataDestination": {"path": "s3://data/exports/"}},
        )
        self.active(job["datasetExportJobArn"])
        files = sorted((self.data / "exports" / name).glob("*.csv"))
        return pd.concat([pd.read_csv(file, dtype=str, keep_default_na=False) for file in files])

    def solution(self, group, recipe="aws-popularity-count", **members):
        return self.active(
            self.api.create_solution(
                name=self.name("solution"), datasetGroupArn=group, recipeArn=RECIPE + recipe, **members
            )["solutionArn"]
        )

    def version(self, solution, **members):
        """A solution version at rest."""
        made = self.api.create_solution_version(solutionArn=solution, **members)
        return self.rest(made["solutionVersionArn"])

    def campaign(self, version, **config):
        return self.active(
            self.api.create_campaign(name=self.name("campaign"), solutionVersionArn=version, campaignConfig=config)[
                "campaignArn"
            ]
        )

    def filter(self, group, expression):
        return self.api.create_filter(name=self.name("filter"), datasetGroupArn=group, filterExpression=expression)[
            "filterArn"
        ]

    def recommend(self, campaign, **members):
        return self.runtime.get_recommendations(campaignArn=campaign, **members)["itemList"]
