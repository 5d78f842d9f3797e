"""Columns of a dataset in the shape that conditions are quick on."""

import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pandas as pd

from lib.data.schema import INTEGERS, REALS, Field, Schema

Attribute = frozenset[str] | int | float
"""One value as conditions see it: its words (none: null), or a number (NaN: null)."""

NUMERIC = (*INTEGERS, *REALS)
ABSENT = np.int64(-(2**63))  # null among integers; none that can be put is so far from 0
WRITTEN_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
KEPT_BYTES = 64 * 2**20  # of results of tests
REPLACED = 1000  # rows kept beside the columns; each costs every new test about a microsecond


def attribute(field: Field, value: object) -> Attribute:
    """A stored value as conditions see it: ``A|B`` of a categorical field is two words, null is no word or NaN."""
    null = _is_null(value)
    if field.type in NUMERIC:
        return math.nan if null else int(value) if field.type in INTEGERS else float(value)
    if null or field.type != "string":
        return frozenset()
    return frozenset(value.split("|")) - {""} if field.categorical else frozenset((value,))


def holds(value: Attribute, operator: str, operands: Sequence[str | int | float]) -> bool:
    """Whether one value satisfies a test.  Null satisfies NOT IN and != alone."""
    if isinstance(value, (int, float)):
        return bool(_compare(np.asarray(value), operator, operands))
    return value.isdisjoint(operands) == (operator in ("NOT IN", "!="))


class Column:
    """One column over all rows.  Built on the raw values; the index conditions need is made at the first one."""

    def __init__(self, field: Field, values: np.ndarray):
        """values: (n,), int64 for integers (ABSENT is null), float64 for reals (NaN is null), object (None is null)."""
        self.field = field
        self.values = values
        self._rows_of: dict[str, np.ndarray] | None = None

    def test(self, operator: str, operands: Sequence[str | int | float]) -> np.ndarray:
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
            values, cells = _nulls(described, n_rows), table[described.name]
            if described.type in NUMERIC:
                values[rows] = cells.to_numpy(dtype=values.dtype, na_value=_null(described))
            else:
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
            values = _nulls(column.field, self.n_rows)
            values[: len(column.values)] = column.values
            values[list(self.replaced)] = self._beside(name)
            columns[name] = Column(column.field, values)
        return Columns(self.n_rows, columns)

    def _beside(self, name: str) -> np.ndarray:
        """The raw values of the rows that are kept beside a column, in their order."""
        described = self.columns[name].field
        values = _nulls(described, len(self.replaced))
        for n, cells in enumerate(self.replaced.values()):
            value = cells.get(name)
            if value is not None:
                values[n] = value
        return values

    def value(self, name: str, row: int) -> object:
        """The raw value, None for null."""
        if row in self.replaced:
            return self.replaced[row].get(name)
        column = self.columns.get(name)
        if column is None or row >= len(column.values):
            return None
        value = column.values[row]
        return None if _is_null(value) else value

    def text(self, name: str, row: int) -> str | None:
        """The value as metadata of an answer gives it, None for null."""
        value = self.value(name, row)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "true" if value else "false"
        whole = self.columns[name].field.type in INTEGERS
        return str(int(value)) if whole else repr(float(value))

    def attribute(self, name: str, row: int) -> Attribute:
        """The value as conditions see it."""
        column = self.columns.get(name)
        return frozenset() if column is None else attribute(column.field, self.value(name, row))

    def test(self, name: str, operator: str, operands: Sequence[str | int | float]) -> np.ndarray:
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

    def _test(self, name: str, operator: str, operands: Sequence[str | int | float]) -> np.ndarray:
        column = self.columns.get(name)
        if column is None:
            return np.full(self.n_rows, operator in ("NOT IN", "!="))
        known = column.test(operator, operands)
        mask = np.zeros(self.n_rows, dtype=bool)
        mask[: len(known)] = known
        if self.replaced and column.field.type in NUMERIC:
            mask[list(self.replaced)] = _compare(self._beside(name), operator, operands)
            return mask
        for row in self.replaced:
            mask[row] = holds(self.attribute(name, row), operator, operands)
        return mask


def number(text: str) -> int | float:
    """The number an operand stands for, to the last digit if it is whole.  Raises ValueError."""
    value = float(text) if WRITTEN_NUMBER.fullmatch(text) else math.inf
    if math.isinf(value):
        raise ValueError(f"{text!r} is not a number")
    return int(Decimal(text)) if value.is_integer() else value


def _null(field: Field) -> np.int64 | float | None:
    """What stands for null among the values of a column."""
    return ABSENT if field.type in INTEGERS else math.nan if field.type in REALS else None


def _nulls(field: Field, n_rows: int) -> np.ndarray:
    kind = np.int64 if field.type in INTEGERS else np.float64 if field.type in REALS else object
    return np.full(n_rows, _null(field), dtype=kind)


def _is_null(value: object) -> bool:
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or value is pd.NA or value == ABSENT


def _compare(values: np.ndarray, operator: str, operands: Sequence[str | int | float]) -> np.ndarray:
    """Null, on either side, satisfies != and NOT IN alone."""
    numbers = [number(operand) if isinstance(operand, str) else operand for operand in operands]
    match operator:
        case "IN" | "NOT IN" | "=" | "!=":
            found = _among(values, numbers)
        case "<":
            found = values < numbers[0]
        case "<=":
            found = values <= numbers[0]
        case ">":
            found = values > numbers[0]
        case ">=":
            found = values >= numbers[0]
        case _:
            raise ValueError(f"{operator!r} is no operator")
    if values.dtype == np.int64:
        found &= values != ABSENT
    return ~found if operator in ("NOT IN", "!=") else found


def _among(values: np.ndarray, numbers: Sequence[int | float]) -> np.ndarray:
    """Which values are one of these numbers; integers are compared as such, to the last digit."""
    if len(numbers) == 1:
        return values == numbers[0]
    if values.dtype == np.int64:
        return np.isin(values, np.array([int(n) for n in numbers if n % 1 == 0 and abs(n) < 2**63], dtype=np.int64))
    return np.isin(values, np.array(numbers, dtype=np.float64))
