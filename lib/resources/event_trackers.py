"""Event trackers: the door through which a group's events come in."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from lib.resources import records
from lib.resources.account import Account
from lib.resources.dataset_groups import DatasetGroup
from lib.resources.errors import ResourceAlreadyExistsException, ResourceNotFoundException
from lib.resources.lifecycle import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTracker:
    """One a group.  tracking_id: what PutEvents is called with, another one than the end of the ARN."""

    KIND: ClassVar = "event-tracker"
    PARENT: ClassVar = "dataset_group_arn"

    name: str
    event_tracker_arn: str
    account_id: str
    tracking_id: str
    dataset_group_arn: str
    creation_date_time: datetime
    last_updated_date_time: datetime
    status: Status = Status.CREATE_PENDING
    rests: datetime | None = None
    failure_reason: str | None = None


def create_event_tracker(
    account: Account, *, name: str, dataset_group_arn: str, tags: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    """Make the group's tracker."""
    now = account.now()
    with account.store.transaction() as tx:
        records.require_active(records.get(tx, account, DatasetGroup, dataset_group_arn))
        for existing, _ in records.children(tx, dataset_group_arn, EventTracker.KIND):
            raise ResourceAlreadyExistsException(
                f"Another resource with Arn {existing} already exists. A dataset group has one event tracker."
            )
        ordinal = records.next_number(tx, f"event tracker {dataset_group_arn}")
        arn = account.arn(EventTracker.KIND, records.digest("event tracker", dataset_group_arn, ordinal)[:8])
        new = EventTracker(
            name=name,
            event_tracker_arn=arn,
            account_id=account.account_id,
            tracking_id=str(UUID(records.digest("tracking id", arn)[:32], version=4)),
            dataset_group_arn=dataset_group_arn,
            creation_date_time=now,
            last_updated_date_time=now,
            rests=now + account.settling,
        )
        records.add(tx, account, new, tags)
    return {"eventTrackerArn": arn, "trackingId": new.tracking_id}


def describe_event_tracker(account: Account, *, event_tracker_arn: str) -> dict[str, Any]:
    """The tracker and its tracking id."""
    return {"eventTracker": records.find(account, EventTracker, event_tracker_arn)}


def list_event_trackers(
    account: Account,
    *,
    dataset_group_arn: str | None = None,
    next_token: str | None = None,
    max_results: int | None = None,
) -> dict[str, Any]:
    """All trackers, or that of a group."""
    return records.page(account, EventTracker, "eventTrackers", dataset_group_arn, next_token, max_results)


def delete_event_tracker(account: Account, *, event_tracker_arn: str) -> dict[str, Any]:
    """Delete the tracker; what it brought in stays."""
    with account.store.transaction() as tx:
        tracker = records.get(tx, account, EventTracker, event_tracker_arn)
        records.refuse_moving(tracker)
        records.gone(tx, account, tracker)
    return {}


def of_tracking_id(account: Account, tracking_id: str) -> EventTracker:
    """The tracker that events with this id go to.  Raises ResourceNotFoundException."""
    with account.store.read() as tx:
        for tracker in records.every(tx, account, EventTracker):
            if tracker.tracking_id == tracking_id:
                return tracker
    raise ResourceNotFoundException(f"No event tracker has the trackingId {tracking_id}.")


OPERATIONS = {
    operation.__name__: operation
    for operation in (create_event_tracker, describe_event_tracker, list_event_trackers, delete_event_tracker)
}
