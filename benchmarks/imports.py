"""Imports: rows a second from CSV to validated Parquet, beside pandas with the same checks written by hand.

Either runs in a process of its own, ours as a job.  Then an import of ten million interactions, which has to stay below
2 GiB of memory: the script ends with status 1 if it does not.  ``python benchmarks/imports.py [ROWS]``
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from batch import ROLE, Bench

LARGE = 10_000_000
COMPARED = 2_000_000
MOST_GIB = 2.0
BLOCK = 1_000_000
DEVICES = ["phone", "tablet", "tv"]
SCHEMA = {
    "type": "record",
    "name": "Interactions",
    "namespace": "com.amazonaws.personalize.schema",
    "fields": [
        {"name": "USER_ID", "type": "string"},
        {"name": "ITEM_ID", "type": "string"},
        {"name": "TIMESTAMP", "type": "long"},
        {"name": "EVENT_TYPE", "type": "string"},
        {"name": "EVENT_VALUE", "type": ["null", "float"]},
        {"name": "DEVICE", "type": ["null", "string"], "categorical": True},
    ],
    "version": "1.0",
}


def write(path: Path, rows: int) -> None:
    """A CSV file of interactions, no two of them equal."""
    rng = np.random.default_rng(0)
    names = [field["name"] for field in SCHEMA["fields"]]
    schema = pa.schema(zip(names, [pa.string(), pa.string(), pa.int64(), pa.string(), pa.float64(), pa.string()]))
    options = pyarrow.csv.WriteOptions(quoting_style="needed")
    with pyarrow.csv.CSVWriter(path, schema, write_options=options) as file:
        for start in range(0, rows, BLOCK):
            size = min(BLOCK, rows - start)
            columns = [
                pc.binary_join_element_wise("user-", pa.array(rng.integers(0, rows // 20, size)).cast("string"), ""),
                pc.binary_join_element_wise("item-", pa.array(rng.integers(0, 100_000, size)).cast("string"), ""),
                pa.array(1_600_000_000 + np.arange(start, start + size)),
                pa.array(["click"] * size),
                pa.array(rng.random(size).round(3)),
                pa.array(np.array(DEVICES)[rng.integers(0, len(DEVICES), size)]),
            ]
            file.write_table(pa.table(columns, schema=schema))


def by_hand(source: str, target: str) -> None:
    """What somebody would write with pandas: read, check, drop repeated rows, keep as Parquet."""
    import pandas as pd

    texts = {field["name"]: str for field in SCHEMA["fields"] if "string" in field["type"]}
    table = pd.read_csv(source, dtype=texts, keep_default_na=False, na_values=[""])
    missing = [field["name"] for field in SCHEMA["fields"] if field["name"] not in table]
    if missing:
        raise ValueError(f"missing columns: {missing}")
    required = ["USER_ID", "ITEM_ID", "TIMESTAMP", "EVENT_TYPE"]
    if len(table) < 1000 or table[required].isna().any().any():
        raise ValueError("too few rows, or an empty required value")
    for name in texts:
        if (table[name].str.len() > 256).any():
            raise ValueError(f"{name} is too long")
    times = table["TIMESTAMP"].astype("int64")
    if times.min() < 0 or times.max() > 10**11 or times.max() > time.time() + 86_400:
        raise ValueError("TIMESTAMP is out of range")
    table["EVENT_VALUE"] = pd.to_numeric(table["EVENT_VALUE"], errors="coerce")
    table.drop_duplicates().to_parquet(target, index=False)


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds that a process takes, and its most memory in GiB."""
    begin = time.perf_counter()
    process = subprocess.Popen(command)
    status, used = os.wait4(process.pid, 0)[1:]
    if status:
        raise RuntimeError(f"{command} ended with {status}")
    return time.perf_counter() - begin, used.ru_maxrss / 2**20


class Imports(Bench):
    """A store with an empty dataset, and a bucket of files."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        group = self.create_dataset_group(name="bench")["datasetGroupArn"]
        schema = self.create_schema(name="interactions", schema=json.dumps(SCHEMA))["schemaArn"]
        self.dataset = self.create_dataset(
            name="interactions", schema_arn=schema, dataset_group_arn=group, dataset_type="INTERACTIONS"
        )["datasetArn"]

    def load(self, file: str) -> tuple[float, float]:
        """Seconds that a job process takes to import a file, and its most memory in GiB."""
        arn = self.create_dataset_import_job(
            job_name=file, dataset_arn=self.dataset, data_source={"dataLocation": f"s3://data/{file}"}, role_arn=ROLE
        )["datasetImportJobArn"]
        begin = time.perf_counter()
        _, memory = self.work("describe_dataset_import_job", dataset_import_job_arn=arn)
        return time.perf_counter() - begin, memory


def main() -> int:
    """Print the rates and the memory; 1 where the memory is over the limit."""
    if sys.argv[1:2] == ["--by-hand"]:
        by_hand(*sys.argv[2:])
        return 0
    large = int(sys.argv[1]) if len(sys.argv) > 1 else LARGE
    with tempfile.TemporaryDirectory() as name:
        bench = Imports(Path(name))
        compared = min(COMPARED, large)
        write(bench.data / "compared", compared)
        hand, hand_memory = timed(
            [sys.executable, __file__, "--by-hand", str(bench.data / "compared"), f"{name}/by-hand.parquet"]
        )
        own, own_memory = bench.load("compared")
        write(bench.data / "large", large)
        long, memory = bench.load("large")
    for title, rows, seconds, used in (
        ("pandas and checks by hand", compared, hand, hand_memory),
        ("an import job", compared, own, own_memory),
        ("an import job", large, long, memory),
    ):
        ratio = rows / seconds / (compared / hand)
        print(f"{title:27}{rows:12,} rows{rows / seconds:12,.0f} a second{ratio:7.2f} of pandas{used:7.2f} GiB at most")
    if memory >= MOST_GIB:
        print(f"an import may take {MOST_GIB:g} GiB", file=sys.stderr)
    return int(memory >= MOST_GIB)


if __name__ == "__main__":
    sys.exit(main())
