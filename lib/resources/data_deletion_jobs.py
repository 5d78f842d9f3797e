"""Data deletion: users leave a group's datasets, the models that name them, and whatever is trained afterwards."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import Connection

from lib.resources import datasets, locations, recipes, records
from lib.resources.account import Account
from lib.resources.campaigns import Campaign
from lib.resources.dataset_groups import DatasetGroup
from lib.resources.datasets import Dataset
from lib.resources.errors import InvalidInputException
from lib.resources.lifecycle import Status
from lib.resources.recommenders import Recommender
from lib.resources.solution_versions import SolutionVersion, version_files
from lib.store import events, jobs, recommendations

OF_USERS = ("INTERACTIONS", "USERS", "ACTION_INTERACTIONS")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDeletionJob:
    """One deletion.  num_deleted: records that were removed."""

    KIND: ClassVar = "data-deletion-job"
    PARENT: ClassVar = "dataset_group_arn"

    job_name: str
    data_deletion_job_arn: str
    dataset_group_arn: str
    data_source: dict[str, str]
    role_arn: str
    creation_date_time: datetime
    last_updated_date_time: datetime
    num_deleted: int | None = None
    status: Status = Status.PENDING
    failure_reason: str | None = None


def create_data_deletion_job(
    account: Account,
    *,
    job_name: str,
    dataset_group_arn: str,
    data_source: dict[str, str],
    role_arn: str,
    tags: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """Ask for a deletion; a job process carries it out."""
    if not data_source.get("dataLocation"):
        raise InvalidInputException("dataSource.dataLocation is missing: name a file or a folder, s3://bucket/key.")
    _lists(account, data_source["dataLocation"])
    now = account.now()
    arn = account.arn(DataDeletionJob.KIND, job_name)
    with account.store.transaction() as tx:
        records.require_active(records.get(tx, account, DatasetGroup, dataset_group_arn))
        earlier = records.every(tx, account, DataDeletionJob, dataset_group_arn)
        new = DataDeletionJob(
            job_name=job_name,
            data_deletion_job_arn=arn,
            dataset_group_arn=dataset_group_arn,
            data_source=data_source,
            role_arn=role_arn,
            creation_date_time=now,
            last_updated_date_time=now,
        )
        records.add(tx, account, new, tags)
        records.limit(
            account,
            "pending_data_deletion_jobs_per_group",
            sum(job.status is Status.PENDING for job in earlier),
            "More than {} resources with PENDING status.",
        )
        jobs.add(tx, arn, DataDeletionJob.KIND, "import", dataset_group_arn)
    account.wake()
    return {"dataDeletionJobArn": arn}


def describe_data_deletion_job(account: Account, *, data_deletion_job_arn: str) -> dict[str, Any]:
    """The deletion, its status, and how many records it removed."""
    job = records.find(account, DataDeletionJob, data_deletion_job_arn)
    if job.status in (Status.PENDING, Status.IN_PROGRESS):
        account.wake()
    return {"dataDeletionJob": job}


def list_data_deletion_jobs(
    account: Account,
    *,
    dataset_group_arn: str | None = None,
    next_token: str | None = None,
    max_results: int | None = None,
) -> dict[str, Any]:
    """All deletions, or those of a group, newest first."""
    return records.page(
        account, DataDeletionJob, "dataDeletionJobs", dataset_group_arn, next_token, max_results, newest_first=True
    )


def run(account: Account, arn: str, tell: Callable[..., None]) -> Callable[[Connection], None]:
    """Take the users out of models, and write the datasets' tables without them; what is returned puts these in place.

    Raises InvalidInputException for a file that is no list of users.
    """
    job = records.find(account, DataDeletionJob, arn)
    users = _users(_lists(account, job.data_source["dataLocation"]))
    with account.store.read() as tx:
        found = datasets.of_group(tx, account, job.dataset_group_arn)
    concerned = [found[kind] for kind in OF_USERS if kind in found]
    deleted, rewritten = 0, {}
    for dataset in concerned:
        parts = []
        for number, part in enumerate(dataset.parts):
            name = f"{datasets.folder_name(dataset)}/{job.job_name}-{number}"
            deleted += _without(account, part, name, users)
            parts.append(name)
        rewritten[dataset.dataset_arn] = tuple(parts)
    _forget(account, job.dataset_group_arn, users)

    def publish(tx: Connection) -> None:
        removed = deleted
        for dataset in concerned:
            current = records.get(tx, account, Dataset, dataset.dataset_arn)
            if current.parts != dataset.parts:
                raise InvalidInputException(f"{dataset.dataset_arn} was imported into meanwhile: create the job again.")
            records.save(tx, replace(current, parts=rewritten[dataset.dataset_arn]))
            removed += events.forget_users(tx, dataset.dataset_arn, users)
        answering = [*records.every(tx, account, Campaign), *records.every(tx, account, Recommender)]
        group = [records.arn_of(one) for one in answering if one.dataset_group_arn == job.dataset_group_arn]
        recommendations.forget_users(tx, group, users)
        records.save(tx, replace(records.get(tx, account, DataDeletionJob, arn), num_deleted=removed))

    return publish


def _forget(account: Account, dataset_group_arn: str, users: list[str]) -> None:
    """Take users out of the models of a group that name them."""
    with account.store.read() as tx:
        versions = records.every(tx, account, SolutionVersion)
    for version in versions:
        if version.dataset_group_arn != dataset_group_arn or version.status is not Status.ACTIVE:
            continue
        forget = recipes.of_arn(version.recipe_arn).forget
        if forget is not None:
            with (
                suppress(FileNotFoundError),  # of a solution that is deleted meanwhile
                account.store.files.working(version_files(version.solution_version_arn)) as folder,
            ):
                forget(folder / "model", users)


def _lists(account: Account, location: str) -> list[locations.File]:
    """The file, or the ``.csv`` files of a folder and of what lies in it."""
    return locations.readable(account, location, deep=True, suffix=".csv")


def _users(files: list[locations.File]) -> list[str]:
    users: set[str] = set()
    for file in files:
        try:
            with locations.reading(file) as stream:
                table = pd.read_csv(stream, dtype=str, keep_default_na=False)
        except (ValueError, OSError) as error:
            raise InvalidInputException(f"{file.name} cannot be read as CSV: {error}.") from error
        if list(table.columns) != ["USER_ID"]:
            raise InvalidInputException(
                f"{file.name} has columns {', '.join(map(str, table.columns))}, expected USER_ID alone."
            )
        users.update(table["USER_ID"])
    return sorted(users)


def _without(account: Account, part: str, name: str, users: list[str]) -> int:
    """Write a part of a dataset again without some users; how many rows they had."""
    deleted = 0
    with account.store.files.writing_folder(name) as folder:
        for file in sorted(account.store.files.path(part).glob("*.parquet")):
            table = pq.read_table(file)
            gone = pc.is_in(table["USER_ID"], value_set=pa.array(users, table.schema.field("USER_ID").type))
            pq.write_table(table.filter(pc.invert(gone)), folder / file.name)
            deleted += pc.sum(gone).as_py() or 0
    return deleted


OPERATIONS = {
    operation.__name__: operation
    for operation in (create_data_deletion_job, describe_data_deletion_job, list_data_deletion_jobs)
}
