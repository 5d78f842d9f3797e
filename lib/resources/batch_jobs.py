"""Batch inference and batch segments: the same answers for many users or items, files in, files out.

A job that was killed goes on with the input file it was at; what it had written stays.
"""

import gzip
import posixpath
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, ClassVar

import numpy as np
import orjson
import pandas as pd
from sqlalchemy import Connection

from lib import filters
from lib.batch import Batch, Segments, Tally, answer_file
from lib.campaigns import Campaign as Loaded
from lib.data.datasets import Datasets, combine, last_arrivals
from lib.data.schema import Schema
from lib.filters import Columns
from lib.recipes.recipe import Progress, Recipe
from lib.resources import datasets, locations, recipes, records, serving
from lib.resources.account import Account
from lib.resources.campaigns import check_exploration
from lib.resources.errors import InvalidInputException
from lib.resources.filters import Filter
from lib.resources.lifecycle import UNFINISHED, Status
from lib.resources.solution_versions import SolutionVersion, version_folder
from lib.store import events, jobs
from lib.themes import Themes

NUM_RESULTS, MOST_RESULTS, MOST_USERS = 25, 500, 5_000_000
SEGMENTATION = "USER_SEGMENTATION"
WITHOUT_INTERACTIONS = "aws-item-attribute-affinity"  # in its filters


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchInferenceJob:
    """Recommendations for each line of the input."""

    KIND: ClassVar = "batch-inference-job"
    PARENT: ClassVar = "solution_version_arn"

    job_name: str
    batch_inference_job_arn: str
    solution_version_arn: str
    job_input: dict[str, Any]
    job_output: dict[str, Any]
    role_arn: str
    creation_date_time: datetime
    last_updated_date_time: datetime
    filter_arn: str | None = None
    num_results: int = NUM_RESULTS
    batch_inference_job_config: dict[str, Any] | None = None
    batch_inference_job_mode: str = "BATCH_INFERENCE"
    theme_generation_config: dict[str, Any] | None = None
    status: Status = Status.CREATE_PENDING
    failure_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSegmentJob:
    """Users for each line of the input."""

    KIND: ClassVar = "batch-segment-job"
    PARENT: ClassVar = "solution_version_arn"

    job_name: str
    batch_segment_job_arn: str
    solution_version_arn: str
    job_input: dict[str, Any]
    job_output: dict[str, Any]
    role_arn: str
    creation_date_time: datetime
    last_updated_date_time: datetime
    filter_arn: str | None = None
    num_results: int = NUM_RESULTS
    status: Status = Status.CREATE_PENDING
    failure_reason: str | None = None


def create_batch_inference_job(
    account: Account,
    *,
    job_name: str,
    solution_version_arn: str,
    job_input: dict[str, Any],
    job_output: dict[str, Any],
    role_arn: str,
    filter_arn: str | None = None,
    num_results: int | None = None,
    batch_inference_job_config: dict[str, Any] | None = None,
    tags: list[dict[str, str]] | None = None,
    batch_inference_job_mode: str = "BATCH_INFERENCE",
    theme_generation_config: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Ask for recommendations for every line of the input."""
    now = account.now()
    arn = account.arn(BatchInferenceJob.KIND, job_name)
    _check_size(num_results, MOST_RESULTS)
    _check_paths(account, job_input, job_output)
    themes = batch_inference_job_mode == "THEME_GENERATION"
    if themes != (theme_generation_config is not None):
        raise InvalidInputException("themeGenerationConfig goes with batchInferenceJobMode THEME_GENERATION.")
    with account.store.transaction() as tx:
        version = _checked(tx, account, solution_version_arn, filter_arn, "ItemID")
        recipe = recipes.of_arn(version.recipe_arn)
        if not recipe.batch or recipe.recipe_type == SEGMENTATION:
            raise InvalidInputException(f"{recipe.name} does not answer batch inference jobs.")
        _check_config(recipe, batch_inference_job_config or {})
        if themes:
            _check_themes(tx, account, version, theme_generation_config)
        new = BatchInferenceJob(
            job_name=job_name,
            batch_inference_job_arn=arn,
            solution_version_arn=solution_version_arn,
            job_input=job_input,
            job_output=job_output,
            role_arn=role_arn,
            creation_date_time=now,
            last_updated_date_time=now,
            filter_arn=filter_arn,
            num_results=num_results or NUM_RESULTS,
            batch_inference_job_config=batch_inference_job_config,
            batch_inference_job_mode=batch_inference_job_mode,
            theme_generation_config=theme_generation_config,
        )
        _keep(tx, account, new, tags, "pending_batch_inference_jobs", version)
    account.wake()
    return {"batchInferenceJobArn": arn}


def create_batch_segment_job(
    account: Account,
    *,
    job_name: str,
    solution_version_arn: str,
    job_input: dict[str, Any],
    job_output: dict[str, Any],
    role_arn: str,
    filter_arn: str | None = None,
    num_results: int | None = None,
    tags: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """Ask for a segment of users for every line of the input."""
    now = account.now()
    arn = account.arn(BatchSegmentJob.KIND, job_name)
    _check_size(num_results, MOST_USERS)
    _check_paths(account, job_input, job_output)
    with account.store.transaction() as tx:
        version = _checked(tx, account, solution_version_arn, filter_arn, "UserID")
        recipe = recipes.of_arn(version.recipe_arn)
        if recipe.recipe_type != SEGMENTATION:
            raise InvalidInputException(f"{recipe.name} makes no segments: a recipe of type {SEGMENTATION} does.")
        new = BatchSegmentJob(
            job_name=job_name,
            batch_segment_job_arn=arn,
            solution_version_arn=solution_version_arn,
            job_input=job_input,
            job_output=job_output,
            role_arn=role_arn,
            creation_date_time=now,
            last_updated_date_time=now,
            filter_arn=filter_arn,
            num_results=num_results or NUM_RESULTS,
        )
        _keep(tx, account, new, tags, "pending_batch_segment_jobs", version)
    account.wake()
    return {"batchSegmentJobArn": arn}


def describe_batch_inference_job(account: Account, *, batch_inference_job_arn: str) -> dict[str, Any]:
    """The job, its status, and why it failed if it did."""
    job = records.find(account, BatchInferenceJob, batch_inference_job_arn)
    if job.status in UNFINISHED:
        account.wake()
    return {"batchInferenceJob": job}


def describe_batch_segment_job(account: Account, *, batch_segment_job_arn: str) -> dict[str, Any]:
    """The job, its status, and why it failed if it did."""
    job = records.find(account, BatchSegmentJob, batch_segment_job_arn)
    if job.status in UNFINISHED:
        account.wake()
    return {"batchSegmentJob": job}


def list_batch_inference_jobs(
    account: Account,
    *,
    solution_version_arn: str | None = None,
    next_token: str | None = None,
    max_results: int | None = None,
) -> dict[str, Any]:
    """All jobs, or those of a version, oldest first."""
    return records.page(account, BatchInferenceJob, "batchInferenceJobs", solution_version_arn, next_token, max_results)


def list_batch_segment_jobs(
    account: Account,
    *,
    solution_version_arn: str | None = None,
    next_token: str | None = None,
    max_results: int | None = None,
) -> dict[str, Any]:
    """All jobs, or those of a version, oldest first."""
    return records.page(account, BatchSegmentJob, "batchSegmentJobs", solution_version_arn, next_token, max_results)


def run(account: Account, arn: str, tell: Callable[[Progress], None]) -> Callable[[Connection], None]:
    """Write ``<input>.out`` below the destination for each input file.

    Raises InvalidInputException where files cannot be read or written, or no line of them can be answered.
    """
    job = records.find(account, BatchInferenceJob, arn)
    return _answer(account, job, _batch(account, job), tell)


def run_segment(account: Account, arn: str, tell: Callable[[Progress], None]) -> Callable[[Connection], None]:
    """``run`` for segments: the users of each line's item or attributes."""
    job = records.find(account, BatchSegmentJob, arn)
    return _answer(account, job, _segments(account, job), tell)


def _answer(
    account: Account,
    job: BatchInferenceJob | BatchSegmentJob,
    batch: Batch | Segments,
    tell: Callable[[Progress], None],
) -> Callable[[Connection], None]:
    source = job.job_input["s3DataSource"]["path"]
    files = _inputs(account, source)
    names = _outputs(files)
    sizes = [locations.size(file) for file in files]
    total, ended = Tally(), 0
    for number, (file, size) in enumerate(zip(files, sizes)):

        def told(read: int, tally: Tally, before: int = ended, size: int = size) -> None:
            if isinstance(batch, Batch) and batch.themes is not None:
                _check_lines(account, tally)
            lines, errors = total.lines + tally.lines, total.errors + tally.errors
            step = before + min(read, size)  # what gzip has packed is longer than the file
            tell(Progress(step=step, steps=sum(sizes), measures={"lines": lines, "errors": errors}))

        try:
            tally = _answered(account, job, number, file, names[number], batch, told)
        except OSError as error:
            raise InvalidInputException(f"Insufficient privileges for reading {source}: {error}.") from error
        total.add(tally)
        ended += size
    if total.errors == total.lines:
        raise InvalidInputException(
            f"Invalid S3 input path. None of the {total.lines} lines of {source} can be answered"
            + (f"; the first says: {total.error}." if total.error else ".")
        )
    account.store.files.remove(_notes(job))
    return lambda tx: None


def _segments(account: Account, job: BatchSegmentJob) -> Segments:
    """The version, and the imported users and items that lines and filters are about."""
    with account.store.read() as tx:
        version = records.get(tx, account, SolutionVersion, job.solution_version_arn)
        text = job.filter_arn and records.get(tx, account, Filter, job.filter_arn).filter_expression
        group = datasets.of_group(tx, account, version.dataset_group_arn)
    arrivals = datasets.arrivals(account, group.get("INTERACTIONS"))
    data = datasets.load(account, version.dataset_group_arn, live_interactions=False)
    recipe = recipes.of_arn(version.recipe_arn)
    model = _model(account, version, recipe)
    user = pd.Index(model.user_ids).get_indexer(data.interactions["USER_ID"].to_numpy(dtype=str))
    forgotten = last_arrivals(model.user_ids, arrivals) < datasets.remembered_from(account)
    user[forgotten[user]] = -1
    types = data.interactions["EVENT_TYPE"].fillna("").str.lower() if "EVENT_TYPE" in data.interactions else ""
    done = pd.DataFrame({"user": user, "type": types}).query("user >= 0").groupby("type")["user"].unique()
    return Segments(
        model=model,
        num_results=job.num_results,
        by_attributes=recipe.name == "aws-item-attribute-affinity",
        items=_columns(data.items, "ITEM_ID", data.schemas.get("ITEMS"), model.catalogue.item_ids),
        users=_columns(data.users, "USER_ID", data.schemas.get("USERS"), model.user_ids),
        schemas=data.schemas,
        done=done.to_dict(),
        wanted=filters.parse(text) if text else None,
    )


def _columns(table: pd.DataFrame | None, key: str, schema: Schema | None, ids: np.ndarray) -> Columns:
    """The rows of these ids, in their order."""
    if table is None:
        return Columns(len(ids), {})
    place = pd.Index(ids).get_indexer(table[key].to_numpy(dtype=str))
    return Columns.of(table[place >= 0], schema, place[place >= 0], len(ids))


def _batch(account: Account, job: BatchInferenceJob) -> Batch:
    """The version with everything that was imported and put until now."""
    with account.store.read() as tx:
        version = records.get(tx, account, SolutionVersion, job.solution_version_arn)
        group = datasets.of_group(tx, account, version.dataset_group_arn)
        live, state, arrivals = None, {}, datasets.arrivals(account, group.get("INTERACTIONS"))
        if "INTERACTIONS" in group:
            interactions = group["INTERACTIONS"].dataset_arn
            schema = datasets.schemas(tx, account, version.dataset_group_arn)["INTERACTIONS"]
            live, state = events.interactions(tx, interactions, schema), events.state(tx, [interactions])
            arrivals = (*arrivals, events.arrivals(tx, interactions))
        text = job.filter_arn and records.get(tx, account, Filter, job.filter_arn).filter_expression
    data = datasets.load(account, version.dataset_group_arn, live_interactions=False)
    latest = int(data.interactions["TIMESTAMP"].max()) if len(data.interactions) else 0
    newest = [int(one.newest) for one in state.values() if one.newest is not None]
    data = replace(data, interactions=combine(data.interactions, live, None))
    recipe = recipes.of_arn(version.recipe_arn)
    model = _model(account, version, recipe)
    config = job.batch_inference_job_config or {}
    with account.store.read() as tx:
        model = serving.prepared(tx, account, job.solution_version_arn, recipe, model, config)
    return Batch(
        loaded=Loaded(recipe, model, data, arrivals),
        num_results=job.num_results,
        now=max([latest, *newest]),
        wanted=filters.parse(text) if text else None,
        exploration=serving.exploration(recipe, config) if config.get("itemExplorationConfig") else None,
        seed=f"{account.seed}|{job.solution_version_arn}",
        themes=None if job.theme_generation_config is None else _themes(data, job.theme_generation_config),
        remembered_from=datasets.remembered_from(account),
    )


def _themes(data: Datasets, config: Mapping[str, Any]) -> Themes:
    """By the items' names and their textual columns."""
    textual = [field.name for field in data.schemas["ITEMS"].fields if field.textual]
    told = data.items[textual].fillna("").astype(str).agg(" ".join, axis=1)
    names = data.items[config["fieldsForThemeGeneration"]["itemName"]].fillna("").astype(str)
    return Themes(data.items["ITEM_ID"].tolist(), names.tolist(), told.tolist())


def _check_lines(account: Account, tally: Tally) -> None:
    most = account.quotas["batch_lines_with_themes"]
    if tally.lines > most:
        raise InvalidInputException(f"A file has {tally.lines} lines or more, with themes at most {most:g}: split it.")


def _inputs(account: Account, source: str) -> list[locations.File]:
    """The input's files in order; answers that an earlier job left beside them are no input."""
    files = locations.beginning(account, source)
    names = {file.name for file in files}
    files = [file for file in files if file.name.removesuffix(".out") not in names - {file.name}]
    for quota, found in (("batch_files", len(files)), ("batch_bytes", sum(map(locations.size, files)))):
        if found > account.quotas[quota]:
            raise InvalidInputException(
                f"{source} holds {found} {quota.removeprefix('batch_')}, a job may have {account.quotas[quota]:g}: "
                "split it."
            )
    return files


def _outputs(files: list[locations.File]) -> list[str]:
    """``<input>.out`` for each input; those of a name that several folders have keep their folders."""
    addresses = [locations.address(file) for file in files]
    shared = posixpath.commonpath([posixpath.dirname(address) for address in addresses])
    many = Counter(file.name for file in files)
    below = [posixpath.relpath(address, shared) for address in addresses]
    return [f"{file.name if many[file.name] == 1 else place}.out" for file, place in zip(files, below)]


def _answered(
    account: Account,
    job: BatchInferenceJob | BatchSegmentJob,
    number: int,
    file: locations.File,
    name: str,
    batch: Batch | Segments,
    tell: Callable[[int, Tally], None],
) -> Tally:
    """Answer one file under a name, if that was not done before the job was killed; how its lines fared."""
    note = f"{_notes(job)}/{number}.json"
    path = account.store.files.path(note)
    destination = job.job_output["s3DataDestination"]
    place = destination["path"], name
    if path.exists() and locations.written(account, *place):
        return Tally(**orjson.loads(path.read_bytes()))
    with (
        locations.writing(account, *place, destination.get("kmsKeyArn")) as aside,
        locations.reading(file) as lines,
        aside.open("wb") as out,
    ):
        try:
            tally = answer_file(batch, lines, out, tell)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InvalidInputException(f"Invalid S3 input path. {file.name} cannot be unpacked: {error}.") from error
    with account.store.files.writing(note) as aside:
        aside.write_bytes(orjson.dumps(asdict(tally)))
    return tally


def _notes(job: BatchInferenceJob | BatchSegmentJob) -> str:
    """Where the store keeps which files of a job are done."""
    return f"{job.KIND}s/{job.job_name}"


def _model(account: Account, version: SolutionVersion, recipe: Recipe) -> Any:
    """What was trained.  Raises InvalidInputException where it is gone: nothing keeps the version of a job."""
    arn = version.solution_version_arn
    try:
        return recipe.load(version_folder(account, arn) / "model")
    except FileNotFoundError as error:
        raise InvalidInputException(
            f"{arn} was deleted before the job began: create the job with another version."
        ) from error


def _checked(
    tx: Connection,
    account: Account,
    version_arn: str,
    filter_arn: str | None,
    id_name: str,
) -> SolutionVersion:
    """An ACTIVE version, and a filter of its group that chooses among what the job's answers hold."""
    version = records.get(tx, account, SolutionVersion, version_arn)
    records.require_active(version)
    if filter_arn is not None:
        found = records.get(tx, account, Filter, filter_arn)
        records.require_active(found)
        if found.dataset_group_arn != version.dataset_group_arn:
            raise InvalidInputException(f"{filter_arn} belongs to another dataset group than {version_arn}.")
        wanted = filters.parse(found.filter_expression)
        if wanted.id_name != id_name:
            raise InvalidInputException(
                f"{filter_arn} chooses among {wanted.id_name}, this job needs a filter of {id_name}: {wanted.text}"
            )
        if recipes.of_arn(version.recipe_arn).name == WITHOUT_INTERACTIONS and wanted.reads("INTERACTIONS"):
            raise InvalidInputException(
                f"{filter_arn} asks for Interactions, which filters of {WITHOUT_INTERACTIONS} cannot: {wanted.text}"
            )
    return version


def _check_paths(account: Account, job_input: dict[str, Any], job_output: dict[str, Any]) -> None:
    """Outside of transactions: S3 is asked what lies there."""
    for what, check, path in (
        ("input", locations.beginning, job_input["s3DataSource"]["path"]),
        ("output", locations.check, job_output["s3DataDestination"]["path"]),
    ):
        try:
            check(account, path)
        except InvalidInputException as error:
            raise InvalidInputException(f"Invalid S3 {what} path. {error}") from error


def _check_size(num_results: int | None, most: int) -> None:
    if num_results is not None and not 1 <= num_results <= most:
        raise InvalidInputException(f"numResults is {num_results}, expected 1 to {most}.")


def _check_config(recipe: Recipe, config: dict[str, Any]) -> None:
    check_exploration(recipe, config.get("itemExplorationConfig") or {})
    if config.get("rankingInfluence") and recipe.name != "aws-semantic-similarity":
        raise InvalidInputException(f"rankingInfluence goes with aws-semantic-similarity, not with {recipe.name}.")


def _check_themes(tx: Connection, account: Account, version: SolutionVersion, config: dict[str, Any]) -> None:
    name = config["fieldsForThemeGeneration"]["itemName"]
    items = datasets.schemas(tx, account, version.dataset_group_arn).get("ITEMS")
    if not version.recipe_arn.endswith("/aws-similar-items"):
        raise InvalidInputException("THEME_GENERATION goes with versions of aws-similar-items alone.")
    if items is None or name not in items or not any(field.textual for field in items.fields):
        raise InvalidInputException(f"Themes need an ITEMS schema with a textual field and with {name}.")


def _keep(
    tx: Connection,
    account: Account,
    new: BatchInferenceJob | BatchSegmentJob,
    tags: list[dict[str, str]] | None,
    quota: str,
    version: SolutionVersion,
) -> None:
    pending = sum(job.status in UNFINISHED for job in records.every(tx, account, type(new)))
    records.add(tx, account, new, tags)
    records.limit(account, quota, pending, "More than {} resources with PENDING or IN_PROGRESS status.")
    jobs.add(tx, records.arn_of(new), type(new).KIND, "training", version.dataset_group_arn)


OPERATIONS = {
    operation.__name__: operation
    for operation in (
        create_batch_inference_job,
        create_batch_segment_job,
        describe_batch_inference_job,
        describe_batch_segment_job,
        list_batch_inference_jobs,
        list_batch_segment_jobs,
    )
}
