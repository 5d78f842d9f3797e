"""Schemas: Avro records, region wide, unchangeable."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from lib.data import schema as avro
from lib.resources import records
from lib.resources.account import Account
from lib.resources.errors import InvalidInputException, ResourceInUseException


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The schema of datasets of one type.  schema: JSON, as it was given."""

    KIND: ClassVar = "schema"
    PARENT: ClassVar = ""

    name: str
    schema_arn: str
    schema: str
    domain: str | None
    creation_date_time: datetime
    last_updated_date_time: datetime

    def parsed(self) -> avro.Schema:
        """Its columns."""
        return avro.parse(self.schema, domain=self.domain)


def create_schema(account: Account, *, name: str, schema: str, domain: str | None = None) -> dict[str, Any]:
    """Keep a schema after checking it against the rules for its dataset type and domain."""
    try:
        avro.parse(schema, domain=domain)
    except ValueError as error:
        raise InvalidInputException(str(error)) from error
    now = account.now()
    arn = account.arn(Schema.KIND, name)
    with account.store.transaction() as tx:
        new = Schema(
            name=name,
            schema_arn=arn,
            schema=schema,
            domain=domain,
            creation_date_time=now,
            last_updated_date_time=now,
        )
        existing = records.count(tx, Schema)
        records.add(tx, account, new)
        records.limit(account, "schemas", existing, "More than {} schemas. Please delete some and try again.")
    return {"schemaArn": arn}


def describe_schema(account: Account, *, schema_arn: str) -> dict[str, Any]:
    """The schema as it was given."""
    return {"schema": records.find(account, Schema, schema_arn)}


def list_schemas(account: Account, *, next_token: str | None = None, max_results: int | None = None) -> dict[str, Any]:
    """All schemas, oldest first."""
    return records.page(account, Schema, "schemas", None, next_token, max_results)


def delete_schema(account: Account, *, schema_arn: str) -> dict[str, Any]:
    """Delete a schema that no dataset uses."""
    from lib.resources.datasets import Dataset

    with account.store.transaction() as tx:
        schema = records.get(tx, account, Schema, schema_arn)
        for dataset in records.every(tx, account, Dataset):
            update = dataset.latest_dataset_update
            if schema_arn in (dataset.schema_arn, update.schema_arn if update else None):
                raise ResourceInUseException(f"{schema_arn} is used by {dataset.dataset_arn}: delete that first.")
        records.gone(tx, account, schema)
    return {}


OPERATIONS = {
    operation.__name__: operation for operation in (create_schema, describe_schema, list_schemas, delete_schema)
}
