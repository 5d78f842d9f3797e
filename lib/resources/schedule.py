"""What Amazon Personalize does by itself, on a clock: automatic training, and counting for metric attributions.

``tick`` looks at what is due and begins it.  It may be called as often as one likes, by many processes: what is due is
told from the store and the time, and each transaction looks again before it begins anything.
"""

from datetime import datetime, timedelta

from sqlalchemy import Connection

from lib.resources import attribution, datasets, recommenders, records, solution_config, solution_versions
from lib.resources.account import Account
from lib.resources.dataset_import_jobs import DatasetImportJob
from lib.resources.errors import InvalidInputException, LimitExceededException
from lib.resources.lifecycle import UNFINISHED, Status
from lib.resources.recommenders import Recommender
from lib.resources.solution_versions import SolutionVersion
from lib.resources.solutions import Solution
from lib.store import events

FIRST = timedelta(hours=1)  # a version made by hand within it stands for the first automatic one
RECOMMENDERS = timedelta(days=7)
TICK_SECONDS = 20.0


def tick(account: Account) -> None:
    """Begin what is due by the account's clock."""
    with account.store.read() as tx:
        due = bool(_due_solutions(tx, account) or _due_recommenders(tx, account))
    if due:
        with account.store.transaction() as tx:
            for solution in _due_solutions(tx, account):
                try:
                    solution_versions.add(tx, account, solution, training_mode="AUTOTRAIN", training_type="AUTOMATIC")
                except LimitExceededException:
                    break  # there is work enough: the next tick tries again
            for recommender in _due_recommenders(tx, account):
                recommenders.retrain(tx, account, recommender)
        account.wake()
    attribution.collect_due(account)


def _due_solutions(tx: Connection, account: Account) -> list[Solution]:
    return [
        solution
        for solution in records.every(tx, account, Solution)
        if solution.status is Status.ACTIVE and solution.perform_auto_training and _is_due(tx, account, solution)
    ]


def _is_due(tx: Connection, account: Account, solution: Solution) -> bool:
    versions = records.every(tx, account, SolutionVersion, solution.solution_arn)
    if any(version.status in UNFINISHED for version in versions):
        return False
    if not versions:
        came = _arrivals(tx, account, solution.dataset_group_arn, account.now())
        return account.now() >= solution.creation_date_time + FIRST and bool(came)
    last = max(version.creation_date_time for version in versions)
    try:
        period = solution_config.training_period(solution.solution_config or {})
    except InvalidInputException:
        return False  # a schedule that was once let in must not keep the others from theirs
    return _again(tx, account, solution.dataset_group_arn, last, period)


def _due_recommenders(tx: Connection, account: Account) -> list[Recommender]:
    return [
        found
        for found in records.every(tx, account, Recommender)
        if found.status is Status.ACTIVE
        and not _under_way(found)
        and _again(tx, account, found.dataset_group_arn, _last_training(found), RECOMMENDERS)
    ]


def _under_way(found: Recommender) -> bool:
    begun = (found.latest_recommender_update, found.latest_retraining)
    return any(one is not None and one.status in UNFINISHED for one in begun)


def _last_training(found: Recommender) -> datetime:
    update, retraining = found.latest_recommender_update, found.latest_retraining
    times = [found.creation_date_time]
    times += [update.creation_date_time] if update is not None and update.training is not None else []
    times += [retraining.creation_date_time] if retraining is not None else []
    return max(times)


def _again(tx: Connection, account: Account, group: str, last: datetime, period: timedelta) -> bool:
    """Whether a training is due since its last time on the schedule, for which new interactions had come in."""
    times = (account.now() - last) // period
    return times >= 1 and any(came > last for came in _arrivals(tx, account, group, last + times * period))


def _arrivals(tx: Connection, account: Account, group: str, until: datetime) -> list[datetime]:
    """When interactions came into a group by a time: each import, and the last event."""
    dataset = datasets.of_group(tx, account, group).get("INTERACTIONS")
    if dataset is None:
        return []
    imports = records.every(tx, account, DatasetImportJob, dataset.dataset_arn)
    times = [job.last_updated_date_time for job in imports if job.status is Status.ACTIVE]
    event = events.last_arrival(tx, dataset.dataset_arn, until.timestamp())
    if event is not None:
        times.append(datetime.fromtimestamp(event[1], until.tzinfo))
    return [time for time in times if time <= until]
