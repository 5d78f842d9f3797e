"""Tags of resources."""

from typing import Any

from sqlalchemy import delete, select

from lib.resources import records
from lib.resources.account import Account
from lib.resources.errors import InvalidInputException, TooManyTagKeysException
from lib.store import tables

UNTAGGABLE = ("schema", "metric-attribution")


def tag_resource(account: Account, *, resource_arn: str, tags: list[dict[str, str]]) -> dict[str, Any]:
    """Add tags; an existing key gets the new value."""
    with account.store.transaction() as tx:
        _require(tx, account, resource_arn)
        records.put_tags(tx, account, resource_arn, tags)
    return {}


def untag_resource(account: Account, *, resource_arn: str, tag_keys: list[str]) -> dict[str, Any]:
    """Remove tags by their keys; a key that is not there is passed over."""
    if len(tag_keys) > account.quotas["tags_per_resource"]:
        raise TooManyTagKeysException(
            f"{len(tag_keys)} tag keys at one time, {account.quotas['tags_per_resource']:g} are allowed."
        )
    with account.store.transaction() as tx:
        _require(tx, account, resource_arn)
        table = tables.tags.c
        tx.execute(delete(tables.tags).where(table.arn == resource_arn, table.key.in_(tag_keys)))
    return {}


def list_tags_for_resource(account: Account, *, resource_arn: str) -> dict[str, Any]:
    """The tags, by key."""
    table = tables.tags.c
    with account.store.read() as tx:
        _require(tx, account, resource_arn)
        rows = tx.execute(select(table.key, table.value).where(table.arn == resource_arn).order_by(table.key))
        return {"tags": [{"tagKey": row.key, "tagValue": row.value} for row in rows]}


def _require(tx: Any, account: Account, arn: str) -> None:
    kind = records.kind_of(tx, account, arn)
    if kind in UNTAGGABLE:
        raise InvalidInputException(f"{arn}: a {kind.replace('-', ' ')} carries no tags.")


OPERATIONS = {operation.__name__: operation for operation in (tag_resource, untag_resource, list_tags_for_resource)}
