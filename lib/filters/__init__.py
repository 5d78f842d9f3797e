"""Filter expressions: text -> Filter -> mask over items, users or actions."""

from lib.filters.columns import Attribute, Column, Columns, attribute
from lib.filters.expression import Filter, check, parse, parse_values

__all__ = ["Attribute", "Column", "Columns", "Filter", "attribute", "check", "parse", "parse_values"]
