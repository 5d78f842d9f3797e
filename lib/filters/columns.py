"""Columns of a dataset in the shape that conditions are quick on."""

import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lib.data.schema import Field, Schema

Attribute = frozenset[str] | float
"""One value as conditions see it: its words (none: null), or a number (NaN: null)."""

NUMERIC = ("int", "long", "float", "double")
WRITTEN_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
KEPT_BYTES = 64 * 2**20  # of results of tests
REPLACED = 1000  # rows kept beside the columns; each costs every new test about a microsecond


def attribute(field: Field, value: object) -> Attribute:
    """A stored value as conditions see it: ``A|B`` of a categorical field is two words, null is no word or NaN."""
    null = value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
    if field.type in NUMERIC:
        return math.nan if null else float(value)
    if null or field.type != "string":
        return frozenset()
    return frozenset(value.split("|")) - {""} if field.categorical else frozenset((value,))


def holds(value: Attribute, operator: str, operands: Sequence[str | float]) -> bool:
    """Whether one value satisfies a test.  Null satisfies NOT IN and != alone."""
    if isinstance(value, float):
        return bool(_compare(np.float64(value), operator, operands))
    return value.isdisjoint(operands) == (operator in ("NOT IN", "!="))


class Column:
    """One column over all rows.  Built on the raw values; the index conditions need is made at the first one."""

    def __init__(self, field: Field, values: np.ndarray):
        """values: (n,) object for strings (None is null), float64 for numbers (NaN is null)."""
        self.field = field
        self.values = values
        self._rows_of: dict[str, np.ndarray] | None = None

    def test(self, operator: str, operands: Sequence[str | float]) -> np.ndarray:
        """(n,) bool: the rows whose value satisfies the test."""
        if self.field.type in NUMERIC:
            return _compare(self.values, operator, operands)
        if self._rows_of is None:
            self._rows_of = self._index()
        mask = np.zeros(len(self.values), dtype=bool)
        for word in operands:
            rows = self._rows_of.get(word)
            if rows is not None:
                mask[rows] = True
        return ~mask if operator in ("NOT IN", "!=") else mask

    def _index(self) -> dict[str, np.ndarray]:
        """Word -> rows that have it."""
        if self.field.type != "string":
            return {}
        codes, distinct = pd.factorize(self.values)  # null is -1
        order = np.argsort(codes, kind="stable").astype(np.int32)
        order = order[np.count_nonzero(codes < 0) :]
        ends = np.cumsum(np.bincount(codes[codes >= 0], minlength=len(distinct)))
        rows_of: dict[str, list[np.ndarray]] = {}
        for value, rows in zip(distinct, np.split(order, ends[:-1])):
            for word in attribute(self.field, value):
                rows_of.setdefault(word, []).append(rows)
        return {word: rows[0] if len(rows) == 1 else np.concatenate(rows) for word, rows in rows_of.items()}


@dataclass(slots=True)
class Columns:
    """The columns of a dataset, aligned with some numbering of its rows; names in upper case.

    A row that ``put`` replaced or added is kept beside the columns, so that a put costs what it changes.  Results of
    tests are kept until the rows change.
    """

    n_rows: int
    columns: Mapping[str, Column]
    replaced: Mapping[int, Mapping[str, object]] = field(default_factory=dict)
    _kept: OrderedDict[tuple, np.ndarray] = field(default_factory=OrderedDict)

    @classmethod
    def of(cls, table: pd.DataFrame, schema: Schema, rows: np.ndarray, n_rows: int) -> "Columns":
        """The columns of a table whose line i is row ``rows[i]`` of n_rows; all other rows are null."""
        columns = {}
        for described in schema.fields:
            if described.name not in table:
                continue
            if described.type in NUMERIC:
                values = np.full(n_rows, np.nan)
                values[rows] = table[described.name].to_numpy(dtype=np.float64, na_value=np.nan)
            else:
                values = np.full(n_rows, None, dtype=object)
                cells = table[described.name]
                values[rows] = cells.astype(object).where(cells.notna(), None).to_numpy()
            columns[described.name.upper()] = Column(described, values)
        return cls(n_rows, columns)

    def put(self, rows: Mapping[int, Mapping[str, object]]) -> "Columns":
        """The same with whole rows (column -> value) replaced, or added where the number is new."""
        replaced = {**self.replaced, **{r: {k.upper(): v for k, v in row.items()} for r, row in rows.items()}}
        put = Columns(max(self.n_rows, max(rows, default=-1) + 1), self.columns, replaced)
        return put if len(replaced) <= REPLACED else put._folded()

    def _folded(self) -> "Columns":
        """The same with nothing kept beside the columns; they are copied and will be indexed anew."""
        columns = {}
        for name, column in self.columns.items():
            null = math.nan if column.field.type in NUMERIC else None
            values = np.full(self.n_rows, null, dtype=column.values.dtype)
            values[: len(column.values)] = column.values
            for row, cells in self.replaced.items():
                value = cells.get(name)
                values[row] = null if value is None else value
            columns[name] = Column(column.field, values)
        return Columns(self.n_rows, columns)

    def value(self, name: str, row: int) -> object:
        """The raw value, None for null."""
        if row in self.replaced:
            return self.replaced[row].get(name)
        column = self.columns.get(name)
        if column is None or row >= len(column.values):
            return None
        value = column.values[row]
        return None if isinstance(value, float) and math.isnan(value) else value

    def text(self, name: str, row: int) -> str | None:
        """The value as metadata of an answer gives it, None for null."""
        value = self.value(name, row)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "true" if value else "false"
        whole = self.columns[name].field.type in ("int", "long")
        return str(int(value)) if whole else repr(float(value))

    def attribute(self, name: str, row: int) -> Attribute:
        """The value as conditions see it."""
        column = self.columns.get(name)
        return frozenset() if column is None else attribute(column.field, self.value(name, row))

    def test(self, name: str, operator: str, operands: Sequence[str | float]) -> np.ndarray:
        """(n_rows,) bool, read only: the rows whose value satisfies the test.  Raises ValueError for a bad operand."""
        key = (name, operator, *operands)
        mask = self._kept.get(key)
        if mask is None:
            mask = self._test(name, operator, operands)
            mask.setflags(write=False)
            self._kept[key] = mask
            while len(self._kept) * self.n_rows > KEPT_BYTES and len(self._kept) > 1:
                self._kept.popitem(last=False)
        return mask

    def _test(self, name: str, operator: str, operands: Sequence[str | float]) -> np.ndarray:
        column = self.columns.get(name)
        if column is None:
            return np.full(self.n_rows, operator in ("NOT IN", "!="))
        known = column.test(operator, operands)
        mask = np.zeros(self.n_rows, dtype=bool)
        mask[: len(known)] = known
        for row in self.replaced:
            mask[row] = holds(self.attribute(name, row), operator, operands)
        return mask


def number(text: str) -> float:
    """The number an operand stands for.  Raises ValueError."""
    value = float(text) if WRITTEN_NUMBER.fullmatch(text) else math.inf
    if math.isinf(value):
        raise ValueError(f"{text!r} is not a number")
    return value


def _compare(values: np.ndarray, operator: str, operands: Sequence[str | float]) -> np.ndarray:
    """NaN, on either side, satisfies != and NOT IN alone, as null should."""
    numbers = [operand if isinstance(operand, float) else number(operand) for operand in operands]
    match operator:
        case "IN":
            return np.isin(values, numbers)
        case "NOT IN":
            return ~np.isin(values, numbers)
        case "=":
            return values == numbers[0]
        case "!=":
            return values != numbers[0]
        case "<":
            return values < numbers[0]
        case "<=":
            return values <= numbers[0]
        case ">":
            return values > numbers[0]
        case ">=":
            return values >= numbers[0]
    raise ValueError(f"{operator!r} is no operator")
