"""Avro schemas as Amazon Personalize reads them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One column.  type: Avro's primitive type without null."""

    name: str
    type: str
    nullable: bool = False
    categorical: bool = False
    textual: bool = False
    item_name: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """A dataset's columns in order.  name: Interactions, Items, Users, Actions or ActionInteractions."""

    name: str
    fields: tuple[Field, ...]
