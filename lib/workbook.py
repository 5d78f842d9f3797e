"""What the notebooks share: where a run's files lie, clients, waiting, and what one notebook leaves for the next.

A notebook shows decisions and results; what would only be in the way there is here.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path

import boto3
import numpy as np
import optuna
import pandas as pd
import psutil
from botocore.client import BaseClient
from tqdm.auto import tqdm

from lib import evaluation, filters, jobs, off_policy, training, tuning
from lib.data import preparation, simulator, tables
from lib.data import schema as schemas
from lib.data.datasets import Datasets, histories
from lib.data.simulator import Truth
from lib.data.splits import split_users
from lib.load import Measurement
from lib.metrics import Interval
from lib.ranking import recommend
from lib.recipes import RECIPES
from lib.recipes.recipe import Model, Request
from lib.replay import replay
from lib.reproducible import environment
from lib.resources import solution_versions
from lib.resources.account import Account
from lib.resources.datasets import load as load_datasets
from lib.resources.operations import OPERATIONS
from lib.service.client import connect
from lib.service.dispatch import Dispatcher
from lib.store import recommendations

REGION, ACCOUNT = "us-east-1", "123456789012"
IN_PROCESS, AWS = "in-process", "aws"  # endpoints that are no URL
BUCKET = "workbook"
QUOTAS = {"hours_between_exploration_updates": 0}  # days pass in seconds here
POLL_SECONDS = 0.2
START_SECONDS = 60
MOVING = ("PENDING", "IN_PROGRESS", "STOPPING")
BAR = "{desc} {percentage:3.0f}% |{bar}| {elapsed}"
SHORT_NAMES = {
    "precision_at_10": "P@10",
    "precision_at_25": "P@25",
    "normalized_discounted_cumulative_gain_at_10": "NDCG@10",
    "normalized_discounted_cumulative_gain_at_25": "NDCG@25",
    "mean_reciprocal_rank_at_25": "MRR@25",
    "coverage": "coverage",
    "textbook_ndcg_at_25": "textbook NDCG@25",
    "recall_at_25": "recall@25",
}


_accounts: dict[str, Account] = {}  # stores that this process has opened
_owner = {"region": REGION, "account": ACCOUNT}  # of ARNs


def folder(run: str) -> Path:
    """Everything of a run: data/, store/, executed notebooks, report/.  WORKBOOK_RUNS moves all runs elsewhere."""
    return Path(os.environ.get("WORKBOOK_RUNS") or Path(__file__).parent.parent / "runs") / run


def note(run: str, **facts: object) -> None:
    """Leave facts, JSON values, for later notebooks of the run."""
    path = folder(run) / "notes.json"
    _write_json(path, {**(json.loads(path.read_text()) if path.exists() else {}), **facts})


def noted(run: str, fact: str) -> object:
    """What an earlier notebook left.  Raises KeyError naming the fact where none did."""
    path = folder(run) / "notes.json"
    facts = json.loads(path.read_text()) if path.exists() else {}
    if fact not in facts:
        raise KeyError(f"no earlier notebook of run {run!r} has noted {fact!r}: run the notebooks in order")
    return facts[fact]


def summary(run: str, figures: Mapping[str, str]) -> None:
    """Put figures on top of the run's report."""
    path = folder(run) / "summary.json"
    _write_json(path, {**(json.loads(path.read_text()) if path.exists() else {}), **figures})


def inputs(run: str, checksums: Mapping[str, str]) -> None:
    """Put the checksums of what was read into the run's manifest."""
    _write_json(folder(run) / "inputs.json", dict(checksums))


# --- The service -----------------------------------------------------------------------------------------------------


def account(run: str) -> Account:
    """The account whose store holds the run's resources: the one that 02_define_schema noted, or in the run's folder.

    Raises FileNotFoundError where that is the store of a service which the profile does not name.
    """
    if run not in _accounts:
        store = noted(run, "store") or folder(run) / "store"
        if noted(run, "endpoint") != IN_PROCESS and not noted(run, "store") and not store.is_dir():
            raise FileNotFoundError(
                f"what was made at {noted(run, 'endpoint')!r} is not in {store}: set 02_define_schema.store to the "
                "store of the service there (its --store; for a database also files, its --files). Amazon shows "
                "nobody its own, so a run on AWS ends where a notebook looks inside."
            )
        _accounts[run] = jobs.open_account(
            store,
            files=noted(run, "files") or None,
            region=_owner["region"],
            account_id=_owner["account"],
            buckets={BUCKET: folder(run) / "data"},
            changed_quotas=QUOTAS,
            seed=noted(run, "seed"),
        )
    return _accounts[run]


def client(service: str, run: str, endpoint: str = IN_PROCESS) -> BaseClient:
    """A boto3 client whose requests are answered in this process, at an endpoint URL, or with ``aws`` by Amazon.

    With ``aws``, boto3's own settings say where that is and who asks, and ARNs are of that account and region.
    """
    if endpoint == IN_PROCESS:
        return connect(service, Dispatcher(account(run), OPERATIONS), REGION)
    if endpoint == AWS:
        made = boto3.client(service)
        _owner.update(region=made.meta.region_name, account=_caller())
        return made
    # The service on this machine asks for no credentials, but boto3 does.
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
    return boto3.client(service, region_name=REGION, endpoint_url=endpoint, **keys)


@cache
def _caller() -> str:
    return boto3.client("sts").get_caller_identity()["Account"]


def arn(kind: str, name: str) -> str:
    """The ARN of a resource: here, as on AWS, it follows from kind and name."""
    return f"arn:aws:personalize:{_owner['region']}:{_owner['account']}:{kind}/{name}"


def recipe_arn(recipe: str) -> str:
    """The ARN of a recipe."""
    return f"arn:aws:personalize:::recipe/{recipe}"


def rest(personalize: BaseClient, resource_arn: str) -> dict:
    """Wait until a resource is no longer changing and return its description, whatever became of it.

    A bar shows a live notebook's reader how far it is.  Where WORKBOOK_PROGRESS names a file, that goes there instead,
    for the output of an executed notebook must not depend on how long anything took.
    """
    kind, *names = resource_arn.split(":")[5].split("/")
    noun = "solution_version" if kind == "solution" and len(names) == 2 else kind.replace("-", "_")
    describe = getattr(personalize, f"describe_{noun}")
    key = _camel(noun)
    watcher = os.environ.get("WORKBOOK_PROGRESS")
    with tqdm(desc="/".join(names), total=1.0, leave=False, disable=watcher is not None, bar_format=BAR) as bar:
        while (resource := describe(**{f"{key}Arn": resource_arn})[key])["status"].endswith(MOVING):
            bar.n = _progress(resource_arn)
            bar.refresh()
            if watcher:
                Path(watcher).write_text(f"{'/'.join(names)} {bar.n:.0%}")
            time.sleep(POLL_SECONDS)
    return resource


def wait(personalize: BaseClient, resource_arn: str) -> dict:
    """Wait until a resource is ACTIVE.  Raises RuntimeError with the failure reason if it becomes something else."""
    resource = rest(personalize, resource_arn)
    if resource["status"] != "ACTIVE":
        raise RuntimeError(f"{resource_arn}: {resource['status']}: {resource.get('failureReason', 'no reason given')}")
    return resource


def start_service(run: str, port: int = 0) -> str:
    """Start the service on the run's store as a process of its own and return its URL once it is ready.

    port: 0 for any free one.  What ran for this run before is stopped first.  Raises RuntimeError with the service's
    own words if it does not start.
    """
    stop_service(run)
    log = folder(run) / "service.log"
    ready = folder(run) / "service.url"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "lib.service", "--host", "127.0.0.1", "--port", str(port)]
    command += [*account(run).store.options(), "--bucket", f"{BUCKET}={folder(run) / 'data'}"]
    command += ["--region", REGION, "--account", ACCOUNT, "--ready-file", str(ready)]
    command += ["--workers", "1"]  # what is explored depends on how often a worker was asked
    command += [f"--quota={name}={number}" for name, number in QUOTAS.items()]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment() | account(run).store.secrets(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # it outlives the notebook that starts it
        )
    until = time.monotonic() + START_SECONDS
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise RuntimeError(f"the service did not start; {log} ends:\n{log.read_text()[-2000:]}")
        time.sleep(POLL_SECONDS)
    url = ready.read_text().strip()
    created = psutil.Process(process.pid).create_time()
    _write_json(folder(run) / "service.json", {"pid": process.pid, "created": created, "url": url})
    return url


def service(run: str, endpoint: str = IN_PROCESS) -> str:
    """The endpoint, or where the run's own service listens; one that was stopped is started again on any free port."""
    if endpoint != IN_PROCESS:
        return endpoint
    path = folder(run) / "service.json"
    if path.exists():
        url = json.loads(path.read_text())["url"]
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return url
        except urllib.error.URLError:
            pass
    return start_service(run)


def stop_service(run: str) -> None:
    """Stop the run's service if it is running; its store keeps everything."""
    path = folder(run) / "service.json"
    if not path.exists():
        return
    started = json.loads(path.read_text())
    try:
        process = psutil.Process(started["pid"])
        if process.create_time() == started["created"]:  # else the number belongs to somebody else by now
            process.terminate()
            process.wait(START_SECONDS)
    except psutil.NoSuchProcess:
        pass
    path.unlink()


# --- Data ------------------------------------------------------------------------------------------------------------


def datasets(run: str) -> Datasets:
    """The run's dataset group as a training sees it."""
    return load_datasets(account(run), arn("dataset-group", run))


def items(run: str) -> pd.DataFrame:
    """The run's Items by ITEM_ID, those put after the import included."""
    return datasets(run).items.set_index("ITEM_ID")


def upload(run: str, file: Path, bucket: str, endpoint: str) -> str:
    """Bring a file of the run's data folder to where an import can read it; returns its s3:// location.

    bucket: one in S3, as boto3's settings find it; BUCKET is the folder itself, for a service that knows it.
    """
    key = file.relative_to(folder(run) / "data").as_posix()
    if endpoint != IN_PROCESS and bucket != BUCKET:
        boto3.client("s3").upload_file(str(file), bucket, f"{run}/{key}")
        return f"s3://{bucket}/{run}/{key}"
    return f"s3://{BUCKET}/{key}"  # stands for the folder itself


def upload_table(run: str, table: pd.DataFrame, name: str, bucket: str, endpoint: str) -> str:
    """Write a table as CSV among the run's data and ``upload`` it."""
    path = folder(run) / "data" / "mistakes" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    tables.write_csv(table, path)
    return upload(run, path, bucket, endpoint)


def imported(run: str, kinds: Iterable[str]) -> pd.DataFrame:
    """What the imports left in each dataset: rows, and how much of each column is filled."""
    found = {kind: table for kind, table in preparation.named(datasets(run)) if kind in set(kinds)}
    rows = {
        kind: {"rows": len(table), "columns": table.shape[1], "filled": f"{table.notna().to_numpy().mean():.2f}"}
        for kind, table in found.items()
    }
    return pd.DataFrame(rows).T


def exported_gigabytes(run: str) -> float:
    """Size of the CSV files that the run imports."""
    files = (folder(run) / "data" / "exports" / noted(run, "export")).glob("*.csv")
    return sum(file.stat().st_size for file in files) / 1e9


def newest_time(run: str) -> int:
    """Epoch seconds of the newest interaction."""
    return int(datasets(run).interactions["TIMESTAMP"].max())


def popular_items(run: str, count: int) -> list[str]:
    """The items with the most interactions in the newest tenth of all."""
    interactions = datasets(run).interactions
    newest = interactions["ITEM_ID"].iloc[-len(interactions) // 10 :]
    return newest.value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:count].to_list()


def active_user(run: str) -> str:
    """A user with a long history who was here lately: the longest history among the newest tenth's hundred users."""
    interactions = datasets(run).interactions
    lately = interactions["USER_ID"].drop_duplicates(keep="last").iloc[-100:]
    lengths = interactions["USER_ID"].value_counts()[lately].sort_index()
    return lengths.sort_values(ascending=False, kind="stable").index[0]


def last_items(run: str, user: str, columns: Sequence[str], count: int) -> pd.DataFrame:
    """The items of a user's newest interactions, newest first, each once, with columns of Items."""
    interactions = datasets(run).interactions
    ids = interactions["ITEM_ID"][interactions["USER_ID"] == user].iloc[::-1].drop_duplicates()[:count]
    return items(run).reindex(ids)[list(columns)]


def item_kinds(run: str, column: str) -> pd.Series:
    """Of what kind each item is, by ITEM_ID: the first value of a column of Items; of "", its first categorical one.

    Where that has none, items are of one kind.  Raises ValueError for a column that Items lacks.
    """
    known = items(run)
    if column and column not in known:
        raise ValueError(f"03_train.item_category is {column!r}, but Items has {', '.join(known)}")
    categorical = [field.name for field in datasets(run).schemas["ITEMS"].fields if field.categorical]
    name = column or next(iter(categorical), "")
    kinds = known[name] if name else pd.Series("(any)", index=known.index)
    return kinds.astype("str").str.split("|").str[0]


def shown(run: str, columns: Sequence[str]) -> list[str]:
    """The columns of Items to show, of which the last tells kinds apart; by default a categorical one after another.

    Raises ValueError for a column that Items lacks.
    """
    fields = [field for field in datasets(run).schemas["ITEMS"].fields if field.name != "ITEM_ID"]
    names = [field.name for field in fields]
    lacking = [column for column in columns if column not in names]
    if lacking:
        raise ValueError(f"07_query.columns: Items has no column {lacking[0]}; it has {', '.join(names)}")
    categorical = [field.name for field in fields if field.categorical]
    kind = (categorical or names[1:] or names)[0]
    return list(columns) or [*[name for name in names if name != kind][:1], kind]


def newcomers(run: str, count: int, prefix: str = "new") -> list[dict[str, object]]:
    """Items nobody has seen: ``described`` like items that are popular now, under new ids."""
    data = datasets(run)
    rows = data.items.set_index("ITEM_ID").loc[popular_items(run, count)].reset_index()
    rows["ITEM_ID"] = [f"{prefix}-{number}" for number in range(1, len(rows) + 1)]
    if "CREATION_TIMESTAMP" in rows:
        rows["CREATION_TIMESTAMP"] = newest_time(run)
    if "TITLE" in rows:
        rows["TITLE"] = "New: " + rows["TITLE"]
    return described(run, rows)


def described(run: str, rows: pd.DataFrame) -> list[dict[str, object]]:
    """Rows of Items as PutItems names their members: itemId, and the columns of the schema that are filled."""
    names = ("ITEM_ID", *datasets(run).schemas["ITEMS"].columns)
    return [
        {schemas.camel_case(name): value for name, value in row.items() if name in names and pd.notna(value)}
        for row in rows.to_dict("records")
    ]


def possible_filters(run: str, expressions: Mapping[str, str]) -> dict[str, str]:
    """Those of the filters, expressions by name, that the data allow: without EVENT_TYPE none about interactions."""
    told = "EVENT_TYPE" in datasets(run).schemas["INTERACTIONS"]
    return {name: text for name, text in expressions.items() if told or not filters.parse(text).reads("INTERACTIONS")}


def user_filters(run: str) -> dict[str, str]:
    """Those of the filters of 06_deploy, expressions by name, that choose items and need no more than a user."""
    parsed = {name: filters.parse(text) for name, text in noted(run, "filters").items()}
    return {
        name: wanted.text
        for name, wanted in parsed.items()
        if wanted.id_name == "ItemID" and not wanted.placeholders and not wanted.reads("CURRENTITEM")
    }


# --- Models ----------------------------------------------------------------------------------------------------------


def versions(personalize: BaseClient, run: str) -> dict[str, str]:
    """Every ACTIVE version of the run that was trained in full: the solution's name -> ARN, in the order of making.

    Versions trained by UPDATE keep the metrics of the full training they go back to, so they add nothing to compare.
    """
    solutions = personalize.get_paginator("list_solutions").paginate(datasetGroupArn=arn("dataset-group", run))
    found = {}
    for solution in solutions.search("solutions[]"):
        pages = personalize.get_paginator("list_solution_versions").paginate(solutionArn=solution["solutionArn"])
        for version in pages.search("solutionVersions[?status=='ACTIVE' && trainingMode=='FULL']"):
            found[solution["name"].removeprefix(f"{run}-")] = version["solutionVersionArn"]
    return found


def trainable(recipes: Sequence[str], update_recipe: str) -> list[str]:
    """The recipes that 03_train trains, that of the UPDATE among them, each once.

    Raises ValueError for one that is not in the catalogue, does not choose items or has no UPDATE where it needs one.
    """
    wanted = list(dict.fromkeys([*recipes, update_recipe]))
    for name in wanted:
        if name not in RECIPES:
            raise ValueError(f"03_train: there is no recipe {name!r}; there are {', '.join(RECIPES)}")
        chosen = {"USER_SEGMENTATION": "users", "PERSONALIZED_ACTIONS": "actions"}.get(RECIPES[name].recipe_type)
        if chosen:
            raise ValueError(
                f"03_train: {name} chooses {chosen} and the others items, so 05_evaluate cannot compare them; leave it "
                "out, and make a solution of it by itself"
            )
    if not RECIPES[update_recipe].updates:
        able = ", ".join(name for name, recipe in RECIPES.items() if recipe.updates)
        raise ValueError(f"03_train.update_recipe is {update_recipe!r}, which has no UPDATE; those that have: {able}")
    return wanted


def latest_version(personalize: BaseClient, run: str, solution: str) -> str:
    """The newest version of one of the run's solutions."""
    solution = personalize.describe_solution(solutionArn=arn("solution", f"{run}-{solution}"))["solution"]
    return solution["latestSolutionVersion"]["solutionVersionArn"]


def version_folder(run: str, version_arn: str) -> Path:
    """The files of a solution version: model/, evaluation.parquet, training_log.jsonl, metrics.json."""
    return solution_versions.version_folder(account(run), version_arn)


def model(run: str, version_arn: str) -> Model:
    """The model that a version serves, to look inside."""
    recipe = solution_versions.describe_solution_version(account(run), solution_version_arn=version_arn)
    name = recipe["solutionVersion"].recipe_arn.rsplit("/", 1)[1]
    return RECIPES[name].load(version_folder(run, version_arn) / "model")


def hyperparameters(recipe: str) -> pd.DataFrame:
    """What a recipe lets one set: default, range, whether it can be searched, meaning."""
    rows = [
        {
            "name": parameter.name,
            "default": parameter.default,
            "range": " or ".join(map(str, parameter.choices)) or f"{parameter.low} to {parameter.high}",
            "tunable": "yes" if parameter.tunable else "",
            "meaning": parameter.meaning,
        }
        for parameter in RECIPES[recipe].hyperparameters
    ]
    return pd.DataFrame(rows).set_index("name")


def newcomer_shares(run: str, version_arn: str, prefix: str = "new-") -> dict[str, float]:
    """How often items under new ids are among the first 25 of every user: share of users, share of all places."""
    asked, data = model(run, version_arn), datasets(run)
    known = histories(data.interactions, asked.catalogue)
    now = newest_time(run)
    requests = [Request(history=known[user], now=now) for user in range(len(known.user_ids))]
    new = np.char.startswith(asked.catalogue.item_ids, prefix)
    seen = new[recommend(asked, requests, 25).items]
    return {"users": float(seen.any(axis=1).mean()), "lists": float(seen.mean())}


def tested(run: str, version_arn: str) -> pd.DataFrame:
    """A version's evaluation table: one row a test user, columns as in ``lib.evaluation``."""
    return pd.read_parquet(version_folder(run, version_arn) / "evaluation.parquet")


def training_log(run: str, version_arn: str) -> pd.DataFrame:
    """A version's training, step by step, as far as it was measured: the model of the split."""
    log = training.training_log(version_folder(run, version_arn))
    return log[log["phase"] == "split"]


def metrics_table(metrics: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Personalize's metrics of several versions, short names, best first, rounded for reading."""
    table = pd.DataFrame(metrics).T.sort_values(evaluation.NDCG, ascending=False, kind="stable")
    return table[[name for name in SHORT_NAMES if name in table]].rename(columns=SHORT_NAMES).round(2)


def recommending(personalize: BaseClient, versions: Mapping[str, str]) -> list[str]:
    """Those of the versions whose campaigns answer GetRecommendations for a user."""
    described = {
        name: personalize.describe_solution_version(solutionVersionArn=version)["solutionVersion"]["recipeArn"]
        for name, version in versions.items()
    }
    types = {name: RECIPES[recipe.rsplit("/", 1)[1]].recipe_type for name, recipe in described.items()}
    return [name for name, kind in types.items() if kind in ("USER_PERSONALIZATION", "POPULAR_ITEMS")]


def later(run: str, recipes: Sequence[str], share: float) -> dict[str, pd.DataFrame]:
    """The temporal hold-out's evaluation table of each recipe: fitted on all but the newest share of interactions."""
    data, seed = datasets(run), noted(run, "seed")
    at = int(data.interactions["TIMESTAMP"].quantile(1 - share, interpolation="higher"))
    tested = {}
    for name in recipes:
        recipe = RECIPES[name]
        tested[name] = evaluation.evaluate_later(
            recipe, data, recipe.values({}), at=at, seed=seed, progress=lambda step: None
        )
    return tested


def shares_of_oracle(run: str, tested: Mapping[str, pd.DataFrame]) -> pd.DataFrame | None:
    """How much of the best possible NDCG@10 each version reaches, with its interval; None on data of unknown truth."""
    best = oracle(run)
    if best is None:
        return None
    seed = noted(run, "seed")
    shares = {name: evaluation.share_of_oracle(table, best, seed=seed) for name, table in tested.items()}
    return pd.DataFrame({name: asdict(share) for name, share in shares.items()}).T


def study(run: str, version_arn: str) -> optuna.Study:
    """The study of a tuned version."""
    return tuning.load(solution_versions.study_folder(account(run), version_arn))


def oracle(run: str) -> pd.DataFrame | None:
    """The evaluation table of somebody who knows the truth of simulated data; None where there is none to know."""
    known = truth(run)
    if known is None:
        return None
    data = datasets(run)
    items = data.items[data.items["ITEM_ID"].isin(known.item_ids)]  # without those that were put since
    data = replace(data, items=items.reset_index(drop=True))
    split = split_users(data.interactions, seed=noted(run, "seed"))
    return evaluation.evaluate_oracle(known.relevance, split, data, "USER_PERSONALIZATION")


def truth(run: str) -> Truth | None:
    """Why the readers of a simulated site did what they did; None for data of which nobody knows."""
    path = folder(run) / "data" / "raw" / "truth.npz"
    return Truth.load(path) if path.exists() else None


# --- Answers ---------------------------------------------------------------------------------------------------------


def answer_table(answered: Iterable[Mapping]) -> pd.DataFrame:
    """The items of an answer, best first: their metadata and, where the recipe has them, scores of 4 decimals."""
    rows = [
        {name.upper(): value for name, value in item.get("metadata", {}).items()}
        | ({"score": f"{item['score']:.4f}"} if "score" in item else {})
        for item in answered
    ]
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="rank")).fillna("")


def same_kind(answered: Sequence[Mapping], column: str, count: int) -> list[str]:
    """The first ``count`` items of the rarest kind that fills as many places of an answer, by a metadata column.

    Where no kind does, the first items of any.
    """
    kinds = pd.Series({item["itemId"]: item["metadata"].get(column.lower(), "") for item in answered})
    enough = kinds.value_counts().sort_index().loc[lambda counts: counts >= count]
    if len(enough):
        kinds = kinds[kinds == enough.sort_values(kind="stable").index[0]]
    return kinds.index[:count].to_list()


def recommendation_bodies(run: str, campaign: str, count: int) -> list[bytes]:
    """Requests for recommendations as they go over the wire, one each for ``count`` users of the run, or for all."""
    users = datasets(run).interactions["USER_ID"].drop_duplicates().iloc[-count:]
    asked = {"campaignArn": arn("campaign", f"{run}-{campaign}"), "numResults": 25}
    return [json.dumps({**asked, "userId": user}).encode() for user in users]


def visit(
    run: str,
    day: Truth,
    runtime: BaseClient,
    events: BaseClient,
    campaigns: Mapping[str, str],
    *,
    places: int,
    visits: int,
) -> pd.DataFrame:
    """Let the readers of a simulated site visit on its next ``day``, as ``lib.replay.replay`` tells.

    campaigns: name -> ARN; each reader is always shown ``places`` items of the same one, none that earlier notebooks
    made up and, where 06_deploy made the filter not-read, none that they have read.  Clicks are reported by PutEvents,
    with what was shown and the id of the recommendation.
    """
    of_the_site = set(day.item_ids)
    made_up = len(set(items(run).index) - of_the_site)
    unread = {"filterArn": arn("filter", f"{run}-not-read")} if "not-read" in noted(run, "filters") else {}

    def ask(campaign_arn: str, user: str) -> tuple[str, list[str]]:
        answer = runtime.get_recommendations(
            campaignArn=campaign_arn, userId=user, numResults=places + made_up, **unread
        )
        found = [item["itemId"] for item in answer["itemList"]]
        return answer["recommendationId"], [item for item in found if item in of_the_site][:places]

    def report(user: str, recommendation_id: str, shown: Sequence[str], clicked: Sequence[str], at: int) -> None:
        told = {"eventType": "click", "sentAt": at, "recommendationId": recommendation_id, "impression": list(shown)}
        events.put_events(
            trackingId=noted(run, "tracking_id"),
            userId=user,
            sessionId=f"{user}-{at}",
            eventList=[{**told, "itemId": item} for item in clicked[:10]],  # as many as one call takes
        )

    read = datasets(run).interactions.groupby("USER_ID")["ITEM_ID"].agg(list).to_dict()
    since = day.end + simulator.NIGHT
    return replay(
        day,
        read,
        {name: partial(ask, campaign_arn) for name, campaign_arn in campaigns.items()},
        report,
        places=places,
        visits=visits,
        since=since,
        until=day.end + simulator.DAY,
        seed=noted(run, "seed"),
    )


def expected_clicks(run: str, visited: pd.DataFrame, *, weight: float, wanted: float) -> Interval:
    """Clicks a visit to be expected, had the lists of these visits been shown at another exploration weight.

    visited: as ``visit`` gives them, of a campaign with this ``weight``.
    """
    with account(run).store.read() as tx:
        kept = recommendations.of_ids(tx, visited["recommendation"])
    lists = [kept[id] for id in visited["recommendation"]]
    return off_policy.clicks_at(
        [one.propensities for one in lists],
        [[item in chosen for item in one.item_ids] for one, chosen in zip(lists, map(set, visited["clicked"]))],
        weight=weight,
        wanted=wanted,
        seed=noted(run, "seed"),
    )


def load_summary(measured: Mapping[str, Mapping[int, Measurement]]) -> dict[str, str]:
    """What the report says of a load test, as ``lib.load.first_and_again`` gives it: of users asked for first."""
    first = measured["first time"]
    least, most = min(first), max(first, key=lambda clients: first[clients].requests_per_second)
    return {
        f"Median latency of first requests, clients: {least}": f"{first[least].percentile(50):.1f} ms",
        f"First requests a second, clients: {most}": f"{first[most].requests_per_second:,.0f}",
    }


def _progress(resource_arn: str) -> float:
    """How far the newest job about a resource of a store of this process has come, 0 to 1."""
    reports = filter(None, (jobs.progress(account, resource_arn) for account in _accounts.values()))
    return max((report["step"] / report["steps"] for report in reports), default=0.0)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with training.written(path) as aside:
        aside.write_text(json.dumps(value, indent=1) + "\n")
