"""Filter expressions: text -> Filter -> mask over items, users or actions."""

from lib.filters.columns import Attribute, Column, Columns, attribute
from lib.filters.expression import Filter, FilterError, check, parse, parse_values

__all__ = ["Attribute", "Column", "Columns", "Filter", "FilterError", "attribute", "check", "parse", "parse_values"]
