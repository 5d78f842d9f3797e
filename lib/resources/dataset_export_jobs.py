"""Exports: a dataset's rows as CSV."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Connection

from lib.data import tables
from lib.resources import datasets, locations, records
from lib.resources.account import Account
from lib.resources.datasets import Dataset
from lib.resources.errors import InvalidInputException
from lib.resources.lifecycle import UNFINISHED, Status
from lib.store import jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetExportJob:
    """One export.  ingestion_mode: what was imported (BULK), what was put (PUT), or both (ALL)."""

    KIND: ClassVar = "dataset-export-job"
    PARENT: ClassVar = "dataset_arn"

    job_name: str
    dataset_export_job_arn: str
    dataset_arn: str
    role_arn: str
    job_output: dict[str, Any]
    creation_date_time: datetime
    last_updated_date_time: datetime
    ingestion_mode: str = "PUT"
    status: Status = Status.CREATE_PENDING
    failure_reason: str | None = None


def create_dataset_export_job(
    account: Account,
    *,
    job_name: str,
    dataset_arn: str,
    role_arn: str,
    job_output: dict[str, Any],
    ingestion_mode: str = "PUT",
    tags: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """Ask for an export; a job process carries it out."""
    locations.check(account, job_output["s3DataDestination"]["path"])
    now = account.now()
    arn = account.arn(DatasetExportJob.KIND, job_name)
    with account.store.transaction() as tx:
        dataset = records.get(tx, account, Dataset, dataset_arn)
        records.require_active(dataset)
        if dataset.dataset_type.startswith("ACTION"):
            raise InvalidInputException(f"A dataset of type {dataset.dataset_type} cannot be exported.")
        pending = sum(job.status in UNFINISHED for job in records.every(tx, account, DatasetExportJob))
        new = DatasetExportJob(
            job_name=job_name,
            dataset_export_job_arn=arn,
            dataset_arn=dataset_arn,
            role_arn=role_arn,
            job_output=job_output,
            creation_date_time=now,
            last_updated_date_time=now,
            ingestion_mode=ingestion_mode,
        )
        records.add(tx, account, new, tags)
        records.limit(
            account, "pending_export_jobs", pending, "More than {} resources with PENDING or IN_PROGRESS status."
        )
        jobs.add(tx, arn, DatasetExportJob.KIND, "import", dataset_arn)
    account.wake()
    return {"datasetExportJobArn": arn}


def describe_dataset_export_job(account: Account, *, dataset_export_job_arn: str) -> dict[str, Any]:
    """The export, its status, and why it failed if it did."""
    job = records.find(account, DatasetExportJob, dataset_export_job_arn)
    if job.status in UNFINISHED:
        account.wake()
    return {"datasetExportJob": job}


def list_dataset_export_jobs(
    account: Account, *, dataset_arn: str | None = None, next_token: str | None = None, max_results: int | None = None
) -> dict[str, Any]:
    """All exports, or those of a dataset, oldest first."""
    return records.page(account, DatasetExportJob, "datasetExportJobs", dataset_arn, next_token, max_results)


def run(account: Account, arn: str, tell: Callable[..., None]) -> Callable[[Connection], None]:
    """Write ``<jobName>/part-00000.csv`` below the destination.  Raises InvalidInputException where that cannot be."""
    with account.store.read() as tx:
        job = records.get(tx, account, DatasetExportJob, arn)
        dataset = records.get(tx, account, Dataset, job.dataset_arn)
        table = datasets.table(tx, account, dataset, job.ingestion_mode, exported=True)
    destination = job.job_output["s3DataDestination"]
    name = f"{job.job_name}/part-00000.csv"
    with locations.writing(account, destination["path"], name, destination.get("kmsKeyArn")) as path:
        tables.write_csv(table, path)
    return lambda tx: None


OPERATIONS = {
    operation.__name__: operation
    for operation in (create_dataset_export_job, describe_dataset_export_job, list_dataset_export_jobs)
}
