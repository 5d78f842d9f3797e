"""Dataset groups: what belongs to one domain of recommendation."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from lib.resources import records
from lib.resources.account import Account
from lib.resources.errors import InvalidInputException, ResourceInUseException
from lib.resources.lifecycle import Status

MEMBERS = ("dataset", "event-tracker", "filter", "metric-attribution", "recommender", "solution")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetGroup:
    """A container.  domain: ECOMMERCE, VIDEO_ON_DEMAND or, for a custom group, None."""

    KIND: ClassVar = "dataset-group"
    PARENT: ClassVar = ""

    name: str
    dataset_group_arn: str
    creation_date_time: datetime
    last_updated_date_time: datetime
    status: Status = Status.CREATE_PENDING
    rests: datetime | None = None
    role_arn: str | None = None
    kms_key_arn: str | None = None
    domain: str | None = None
    failure_reason: str | None = None


def create_dataset_group(
    account: Account,
    *,
    name: str,
    role_arn: str | None = None,
    kms_key_arn: str | None = None,
    domain: str | None = None,
    tags: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """Make an empty group."""
    if (role_arn is None) != (kms_key_arn is None):
        raise InvalidInputException("roleArn and kmsKeyArn go together: give both or none.")
    now = account.now()
    arn = account.arn(DatasetGroup.KIND, name)
    with account.store.transaction() as tx:
        existing = records.count(tx, DatasetGroup)
        new = DatasetGroup(
            name=name,
            dataset_group_arn=arn,
            creation_date_time=now,
            last_updated_date_time=now,
            rests=now + account.settling,
            role_arn=role_arn,
            kms_key_arn=kms_key_arn,
            domain=domain,
        )
        records.add(tx, account, new, tags)
        records.limit(account, "dataset_groups", existing, "More than {} resources in ACTIVE state")
    return {"datasetGroupArn": arn, "domain": domain}


def describe_dataset_group(account: Account, *, dataset_group_arn: str) -> dict[str, Any]:
    """The group and its status."""
    return {"datasetGroup": records.find(account, DatasetGroup, dataset_group_arn)}


def list_dataset_groups(
    account: Account, *, next_token: str | None = None, max_results: int | None = None
) -> dict[str, Any]:
    """All groups, oldest first."""
    return records.page(account, DatasetGroup, "datasetGroups", None, next_token, max_results)


def delete_dataset_group(account: Account, *, dataset_group_arn: str) -> dict[str, Any]:
    """Delete a group that holds nothing any more."""
    with account.store.transaction() as tx:
        group = records.get(tx, account, DatasetGroup, dataset_group_arn)
        records.refuse_moving(group)
        for member, _ in records.children(tx, dataset_group_arn, *MEMBERS):
            raise ResourceInUseException(f"{dataset_group_arn} still holds {member}: delete that first.")
        records.gone(tx, account, group)
    return {}


OPERATIONS = {
    operation.__name__: operation
    for operation in (create_dataset_group, describe_dataset_group, list_dataset_groups, delete_dataset_group)
}
