"""Imports: CSV files become a dataset's bulk data, wholly or not at all."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Connection

from lib.data import tables
from lib.data.schema import KEYS
from lib.resources import locations, records
from lib.resources.account import Account
from lib.resources.datasets import Dataset, folder_name
from lib.resources.errors import InvalidInputException
from lib.resources.lifecycle import UNFINISHED, Status
from lib.resources.schemas import Schema
from lib.store import events, jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetImportJob:
    """One import.  FULL replaces the bulk data of the dataset, INCREMENTAL adds to it.

    Of items, users and actions an INCREMENTAL one also replaces what was put by the time it was asked for.
    """

    KIND: ClassVar = "dataset-import-job"
    PARENT: ClassVar = "dataset_arn"

    job_name: str
    dataset_import_job_arn: str
    dataset_arn: str
    data_source: dict[str, str]
    creation_date_time: datetime
    last_updated_date_time: datetime
    import_mode: str = "FULL"
    role_arn: str | None = None
    publish_attribution_metrics_to_s3: bool | None = None
    status: Status = Status.CREATE_PENDING
    failure_reason: str | None = None


def create_dataset_import_job(
    account: Account,
    *,
    job_name: str,
    dataset_arn: str,
    data_source: dict[str, str],
    role_arn: str | None = None,
    tags: list[dict[str, str]] | None = None,
    import_mode: str = "FULL",
    publish_attribution_metrics_to_s3: bool | None = None,
) -> dict[str, Any]:
    """Ask for an import; a job process carries it out."""
    if not data_source.get("dataLocation"):
        raise InvalidInputException("dataSource.dataLocation is missing: name a file or a folder, s3://bucket/key.")
    locations.readable(account, data_source["dataLocation"])
    now = account.now()
    arn = account.arn(DatasetImportJob.KIND, job_name)
    with account.store.transaction() as tx:
        dataset = records.get(tx, account, Dataset, dataset_arn)
        records.require_begun(dataset)
        if import_mode == "INCREMENTAL" and not dataset.parts:
            raise InvalidInputException(
                f"{dataset_arn} has no bulk data yet: the first import must have importMode FULL."
            )
        pending = sum(job.status in UNFINISHED for job in records.every(tx, account, DatasetImportJob))
        new = DatasetImportJob(
            job_name=job_name,
            dataset_import_job_arn=arn,
            dataset_arn=dataset_arn,
            data_source=data_source,
            creation_date_time=now,
            last_updated_date_time=now,
            import_mode=import_mode,
            role_arn=role_arn,
            publish_attribution_metrics_to_s3=publish_attribution_metrics_to_s3,
        )
        records.add(tx, account, new, tags)
        records.limit(
            account, "pending_import_jobs", pending, "More than {} resources with PENDING or IN_PROGRESS status."
        )
        jobs.add(tx, arn, DatasetImportJob.KIND, "import", dataset_arn)
    account.wake()
    return {"datasetImportJobArn": arn}


def describe_dataset_import_job(account: Account, *, dataset_import_job_arn: str) -> dict[str, Any]:
    """The import, its status, and why it failed if it did."""
    job = records.find(account, DatasetImportJob, dataset_import_job_arn)
    if job.status in UNFINISHED:
        account.wake()
    return {"datasetImportJob": job}


def list_dataset_import_jobs(
    account: Account, *, dataset_arn: str | None = None, next_token: str | None = None, max_results: int | None = None
) -> dict[str, Any]:
    """All imports, or those of a dataset, oldest first."""
    return records.page(account, DatasetImportJob, "datasetImportJobs", dataset_arn, next_token, max_results)


def run(account: Account, arn: str, tell: Callable[..., None]) -> Callable[[Connection], None]:
    """Read and check the files into a Parquet table; what is returned makes it part of the dataset.

    Raises DataError or InvalidInputException that name file, row, column, value and remedy; then nothing is imported.
    """
    from lib.resources.attribution import count_import

    with account.store.read() as tx:
        job = records.get(tx, account, DatasetImportJob, arn)
        dataset = records.get(tx, account, Dataset, job.dataset_arn)
        schema = records.get(tx, account, Schema, dataset.schema_arn).parsed()
    files = locations.readable(account, job.data_source["dataLocation"])
    quota = "incremental_import_bytes" if job.import_mode == "INCREMENTAL" else "full_import_bytes"
    size = sum(locations.size(file) for file in files)
    if size > account.quotas[quota]:
        raise InvalidInputException(
            f"{job.data_source['dataLocation']} holds {size} bytes, one {job.import_mode} import may hold "
            f"{account.quotas[quota]:g}: split it."
        )
    part = f"{folder_name(dataset)}/{job.job_name}"
    _sweep(account, dataset)
    interactions = dataset.dataset_type == "INTERACTIONS"
    minimum = int(account.quotas["minimum_interactions"]) if interactions else 1
    with account.store.files.working(part) as folder:
        tables.import_csv(files, schema, folder, now=int(account.now().timestamp()), minimum=minimum)
        count = count_import(account, job, dataset, folder)
        replaced = None
        if job.import_mode == "INCREMENTAL" and schema.name in KEYS:
            key = KEYS[schema.name]
            replaced = tables.read([folder], [key])[key]

    def publish(tx: Connection) -> None:
        count(tx)
        current = records.get(tx, account, Dataset, job.dataset_arn)
        now = account.now().timestamp()
        parts, imported = (part,), (now,)
        if job.import_mode != "FULL":
            parts = (*current.parts, part)
            imported = (*(current.imported or (now,) * len(current.parts)), now)
        records.save(tx, replace(current, parts=parts, imported=imported))
        if replaced is not None:
            events.give_way(tx, job.dataset_arn, replaced, job.creation_date_time.timestamp())

    return publish


def _sweep(account: Account, dataset: Dataset) -> None:
    """Remove tables that are no part of a dataset: replaced by an earlier import, or left by one that was killed.

    What an import replaces is removed by the next one only, so that a training that is reading it can end.
    """
    for name in account.store.files.names(folder_name(dataset)):
        if name not in dataset.parts:
            account.store.files.remove(name)


OPERATIONS = {
    operation.__name__: operation
    for operation in (create_dataset_import_job, describe_dataset_import_job, list_dataset_import_jobs)
}
