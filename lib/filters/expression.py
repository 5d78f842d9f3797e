"""What a filter expression says, and what it lets through."""

import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from typing import NoReturn

import numpy as np
from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from lib.data.schema import Schema
from lib.filters.columns import NUMERIC, Attribute, Columns, holds, number

ORDER = ("<", "<=", ">", ">=")  # of numbers alone
FIELDS_PER_FILTER = 10
FIELDS_PER_GROUP = 20
LENGTH = 2500
NOT_FILTERABLE = ("ACTION_EXPIRATION_TIMESTAMP", "EXPIRATION_TIMESTAMP", "REPEAT_FREQUENCY")
OF_ID = {
    "ItemID": ("INTERACTIONS", "ITEMS"),
    "UserID": ("INTERACTIONS", "USERS"),
    "ActionID": ("ACTIONS", "ACTION_INTERACTIONS"),
}
SPELLED = {
    "INTERACTIONS": "Interactions",
    "ITEMS": "Items",
    "USERS": "Users",
    "ACTIONS": "Actions",
    "ACTION_INTERACTIONS": "Action_Interactions",
    "CURRENTUSER": "CurrentUser",
    "CURRENTITEM": "CurrentItem",
}
TERMINALS = {
    "KIND": "INCLUDE or EXCLUDE",
    "ID": "ItemID, UserID or ActionID",
    "DATASET": "a dataset (Items, Interactions, Users, Actions or Action_Interactions)",
    "CURRENT_USER": "CurrentUser",
    "CURRENT_ITEM": "CurrentItem",
    "NAME": "a column",
    "PLACEHOLDER": "a placeholder such as $NAME",
    "STRING": "a quoted string",
    "NUMBER": "a number",
    "COMPARE": "one of = != < <= > >=",
    "NOT": "NOT IN",
    "PIPE": "|",
    "DOT": "a dot",
    "COMMA": "a comma",
    "OPEN": "(",
    "CLOSE": ")",
    "$END": "the end",
}
SHOWN = 90  # characters of an expression around the place an error points to


class FilterError(ValueError):
    """An expression, or values for one, that cannot be used: what was found, where, and what was expected."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """``$NAME``: the request brings the value."""

    name: str


@dataclass(frozen=True, slots=True)
class CurrentItem:
    """``CurrentItem.COLUMN``: the attribute of the request's item."""

    column: str


@dataclass(frozen=True, slots=True)
class Condition:
    """dataset.column operator operands.  dataset, column: upper case; CURRENTUSER for conditions after IF.

    operands: literals as they were written, without quotes; or what the request decides.
    """

    dataset: str
    column: str
    operator: str
    operands: tuple[str, ...] | Placeholder | CurrentItem
    position: int


@dataclass(frozen=True, slots=True)
class Expression:
    """conditions: alternatives, each of which is conditions that must all hold.  users: all must hold, or it is off."""

    include: bool
    conditions: tuple[tuple[Condition, ...], ...]
    users: tuple[Condition, ...]

    @property
    def placeholders(self) -> tuple[str, ...]:
        return tuple(
            c.operands.name for c in (*_flat(self.conditions), *self.users) if isinstance(c.operands, Placeholder)
        )


@dataclass(frozen=True, slots=True)
class Filter:
    """A whole filter.  id_name: ItemID, UserID or ActionID: what it chooses among."""

    text: str
    id_name: str
    expressions: tuple[Expression, ...]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All of them, those after IF included."""
        return tuple(c for e in self.expressions for c in (*_flat(e.conditions), *e.users))

    @property
    def fields(self) -> frozenset[tuple[str, str]]:
        """The (dataset, column) pairs the quotas count; CurrentUser is Users, CurrentItem is Items."""
        named = {(c.dataset.replace("CURRENTUSER", "USERS"), c.column) for c in self.conditions}
        return frozenset(
            named | {("ITEMS", c.operands.column) for c in self.conditions if isinstance(c.operands, CurrentItem)}
        )

    @property
    def placeholders(self) -> frozenset[str]:
        """Names that a request may bring values for."""
        return frozenset(name for e in self.expressions for name in e.placeholders)

    def chained(self, other: "Filter") -> "Filter":
        """With the expressions of another filter, which chooses among the same, behind these; of any length."""
        return replace(self, text=f"{self.text} | {other.text}", expressions=self.expressions + other.expressions)

    def reads(self, dataset: str) -> bool:
        """Whether a condition is about this dataset: INTERACTIONS, CURRENTUSER, CURRENTITEM, …"""
        if dataset == "CURRENTITEM":
            return any(isinstance(c.operands, CurrentItem) for c in self.conditions)
        return any(c.dataset == dataset for c in self.conditions)

    def allowed(
        self,
        columns: Columns,
        *,
        values: Mapping[str, str] | None = None,
        user: Mapping[str, Attribute] | None = None,
        current_item: int | None = None,
        interactions: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:
        """The rows of ``columns`` that pass: (n_rows,) bool, not to be written to.

        values: as in ``filterValues``, still quoted.  user: upper-case column -> attribute of the request's user; what
        is missing is null.  current_item: row of the request's item, None if unknown.  interactions: lower-case event
        type -> rows that the request's user (for a UserID filter: each row's user) has such an event with.
        Raises FilterError for values that are missing, unknown, badly quoted or of the wrong type.
        """
        given = {name: parse_values(name, text) for name, text in (values or {}).items()}
        if unknown := sorted(given.keys() - self.placeholders):
            expected = ", ".join(f"${name}" for name in sorted(self.placeholders)) or "none"
            raise FilterError(
                f"Filter values for ${', $'.join(unknown)} were given, the filter's placeholders: {expected}"
            )
        request = _Request(columns, given, user or {}, current_item, interactions or {})
        included: np.ndarray | None = None
        excluded: np.ndarray | None = None
        for expression in self.expressions:
            missing = [name for name in expression.placeholders if name not in given]
            if missing and expression.include:
                raise FilterError(f"Filter value for ${missing[0]} is missing: an INCLUDE filter needs all its values")
            if missing:
                continue
            # both in any case: a value of the wrong type is refused for every user
            applies, rows = request.applies(expression.users), request.any_of(expression.conditions)
            if not applies:
                continue
            if expression.include:
                included = rows if included is None else included | rows
            else:
                excluded = rows if excluded is None else excluded | rows
        if included is None:
            return np.ones(columns.n_rows, dtype=bool) if excluded is None else ~excluded
        return included if excluded is None else included & ~excluded


@dataclass(frozen=True, slots=True)
class _Request:
    """What one request brings, and the conditions decided on it."""

    columns: Columns
    values: Mapping[str, tuple[str, ...]]
    user: Mapping[str, Attribute]
    current_item: int | None
    interactions: Mapping[str, np.ndarray]

    def applies(self, users: Sequence[Condition]) -> bool:
        found = [self.user_has(condition) for condition in users]
        return all(found)

    def any_of(self, alternatives: Sequence[Sequence[Condition]]) -> np.ndarray:
        rows = [self.all_of(conditions) for conditions in alternatives]
        return rows[0] if len(rows) == 1 else np.logical_or.reduce(rows)

    def all_of(self, conditions: Sequence[Condition]) -> np.ndarray:
        rows = [self.rows(condition) for condition in conditions]
        return rows[0] if len(rows) == 1 else np.logical_and.reduce(rows)

    def rows(self, condition: Condition) -> np.ndarray:
        operands = self.operands(condition)
        if not condition.dataset.endswith("INTERACTIONS"):
            return _explained(condition, lambda: self.columns.test(condition.column, condition.operator, operands))
        wanted = self.interactions if "*" in operands else {operand.lower() for operand in operands}
        mask = np.zeros(self.columns.n_rows, dtype=bool)
        for event_type in wanted:
            if event_type in self.interactions:
                mask[self.interactions[event_type]] = True
        return ~mask if condition.operator == "NOT IN" else mask

    def user_has(self, condition: Condition) -> bool:
        value, operands = self.user.get(condition.column, frozenset()), self.operands(condition)
        if condition.operator in ORDER:
            # also for a user without a record
            _explained(condition, lambda: [number(one) for one in operands if isinstance(one, str)])
        return _explained(condition, lambda: holds(value, condition.operator, operands))

    def operands(self, condition: Condition) -> Sequence[str | int | float]:
        match condition.operands:
            case Placeholder(name):
                values = self.values[name]
                if condition.operator != "IN" and len(values) != 1:
                    raise FilterError(
                        f"Filter value for ${name} holds {len(values)} values, {condition.operator} needs one"
                    )
                return values
            case CurrentItem(column):
                value = frozenset() if self.current_item is None else self.columns.attribute(column, self.current_item)
                return (tuple(sorted(value)) or (math.nan,)) if isinstance(value, frozenset) else (value,)
        return condition.operands


def _explained(condition: Condition, test):
    try:
        return test()
    except ValueError as error:
        what = f"{SPELLED[condition.dataset]}.{condition.column} {condition.operator}"
        if isinstance(condition.operands, Placeholder):
            what += f" ${condition.operands.name}"
        raise FilterError(f"Filter condition {what}: {error}") from None


_QUOTED = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')\s*(,|$)""", re.DOTALL)


@lru_cache(maxsize=4096)
def parse_values(name: str, text: str) -> tuple[str, ...]:
    r"""The values in one entry of ``filterValues``: ``"\"a\",\"b\""`` is two; a bare word or number is one.

    Raises FilterError with the position where a list of quoted strings stops being one.
    """
    if not text.strip():
        raise FilterError(f'Filter value for ${name} is empty; give one or more quoted values, as in "a","b"')
    if text.strip()[0] not in "\"'":
        return (text.strip(),)
    values: list[str] = []
    position = 0
    while True:
        match = _QUOTED.match(text, position)
        if match is None:
            raise FilterError(
                f"Filter value for ${name}: expected a quoted string at position {position}\n"
                f"  {text}\n  {' ' * position}^"
            )
        values.append(_unescaped(match[1] if match[1] is not None else match[2]))
        position = match.end()
        if match[3] != ",":
            return tuple(values)


def parse(text: str) -> Filter:
    """Read an expression.  Raises FilterError with what was found, what was expected, and the place."""
    if not 1 <= len(text) <= LENGTH:
        raise FilterError(f"Filter expression has {len(text)} characters, expected 1 to {LENGTH}")
    try:
        tree = _grammar().parse(text)
    except UnexpectedInput as error:
        _unexpected(text, error)
    return _Reader(text).filter(tree)


def check(
    parsed: Filter,
    schemas: Mapping[str, Schema],
    others: Iterable[Filter] = (),
    *,
    fields_per_filter: float = FIELDS_PER_FILTER,
    fields_per_group: float = FIELDS_PER_GROUP,
) -> None:
    """Hold a filter against its dataset group.

    schemas: dataset type in upper case -> schema.  others: the group's filters; their fields count towards its quota.
    Raises FilterError: dataset or column that does not exist or cannot be used, values of the wrong type, quotas.
    """
    for condition in parsed.conditions:
        dataset = "USERS" if condition.dataset == "CURRENTUSER" else condition.dataset
        kind = _kind(parsed, condition.position, schemas, dataset, condition.column)
        operands = condition.operands
        if isinstance(operands, CurrentItem):
            other = _kind(parsed, condition.position, schemas, "ITEMS", operands.column)
            if other != kind:
                _refuse(parsed.text, condition.position, f"{condition.column} holds {kind}s, CurrentItem's a {other}")
        elif isinstance(operands, tuple) and "*" in operands:
            if len(operands) > 1 or not dataset.endswith("INTERACTIONS"):
                said = '"*" stands for any event type: it goes with EVENT_TYPE only, and alone in its list'
                _refuse(parsed.text, condition.position, said)
        elif kind == "number" and not isinstance(operands, Placeholder):
            for operand in operands:
                try:
                    number(operand)
                except ValueError:
                    _refuse(
                        parsed.text, condition.position, f"{condition.column} is a number, it cannot be {operand!r}"
                    )
        if kind == "string" and condition.operator in ORDER:
            _refuse(
                parsed.text,
                condition.position,
                f"{condition.column} is a string, {condition.operator} compares numbers; use IN, NOT IN, = or !=",
            )
    if len(parsed.fields) > fields_per_filter:
        raise FilterError(
            f"Filter expression uses {len(parsed.fields)} distinct fields, at most {fields_per_filter:g} are allowed"
        )
    everywhere = parsed.fields.union(*(other.fields for other in others))
    if len(everywhere) > fields_per_group:
        raise FilterError(
            f"The dataset group's filters would use {len(everywhere)} distinct fields, at most {fields_per_group:g} "
            "may be used; delete a filter or use fields that other filters use"
        )


def _kind(parsed: Filter, position: int, schemas: Mapping[str, Schema], dataset: str, column: str) -> str:
    """``string`` or ``number``: what a column that may be used in a filter holds."""
    if dataset not in schemas:
        _refuse(parsed.text, position, f"the dataset group has no {SPELLED[dataset]} dataset")
    fields = {field.name.upper(): field for field in schemas[dataset].fields}
    if column not in fields:
        known = ", ".join(sorted(fields))
        _refuse(parsed.text, position, f"{SPELLED[dataset]} has no column {column}; it has {known}")
    described = fields[column]
    if described.type == "boolean":
        _refuse(parsed.text, position, f'{column} is boolean; store it as the string "True" or "False", or as 0 or 1')
    if described.textual:
        _refuse(parsed.text, position, f"{column} is textual and cannot be used in a filter")
    return "number" if described.type in NUMERIC else "string"


class _Reader:
    """The parse tree as a Filter; refuses what the grammar alone lets pass."""

    def __init__(self, text: str):
        self.text = text

    def filter(self, tree: Tree) -> Filter:
        trees = [child for child in tree.children if isinstance(child, Tree)]
        ids = [expression.children[1] for expression in trees]
        id_name = _spelled(ids[0], OF_ID)
        for token in ids:
            if _spelled(token, OF_ID) != id_name:
                _refuse(self.text, token.start_pos, f"expected {id_name} as before, but found {token}")
        return Filter(self.text, id_name, tuple(self.expression(expression, id_name) for expression in trees))

    def expression(self, tree: Tree, id_name: str) -> Expression:
        kind, _, _, disjunction, *rest = tree.children
        conditions = tuple(
            tuple(self.condition(c, id_name) for c in _trees(conjunction)) for conjunction in _trees(disjunction)
        )
        first = conditions[0][0].dataset
        for condition in _flat(conditions):
            if condition.dataset != first:
                _refuse(
                    self.text,
                    condition.position,
                    f"expected {SPELLED[first]} as before, but found {SPELLED[condition.dataset]}; "
                    "chain expressions about different datasets with |",
                )
        users = tuple(self.condition(c, None) for c in _trees(rest[1])) if rest else ()
        return Expression(kind.upper() == "INCLUDE", conditions, users)

    def condition(self, tree: Tree, id_name: str | None) -> Condition:
        source, _, name, test = tree.children
        dataset, column = source.upper(), name.upper()
        if dataset == "ACTION":
            warnings.warn(f"{source}. in a filter expression is read as Actions.", stacklevel=2)
            dataset = "ACTIONS"
        if id_name is not None and dataset not in OF_ID[id_name]:
            expected = " or ".join(SPELLED[name] for name in OF_ID[id_name])
            remedy = "; reach the user through CurrentUser after IF" if dataset == "USERS" else ""
            _refuse(self.text, source.start_pos, f"expected {expected} with {id_name}, but found {source}{remedy}")
        if dataset.endswith("INTERACTIONS") and column != "EVENT_TYPE":
            _refuse(
                self.text,
                name.start_pos,
                f"expected EVENT_TYPE, the only field of {source} in a filter, but found {name}",
            )
        if column in NOT_FILTERABLE:
            _refuse(self.text, name.start_pos, f"{name} filters actions by itself and cannot be used in an expression")
        operator, value = self.operator(test)
        if dataset.endswith("INTERACTIONS") and operator not in ("IN", "NOT IN", "="):
            _refuse(self.text, source.start_pos, f"expected IN or NOT IN after EVENT_TYPE, but found {operator}")
        operands = self.operands(value, operator)
        if dataset.endswith("INTERACTIONS") and isinstance(operands, CurrentItem):
            _refuse(self.text, source.start_pos, "EVENT_TYPE cannot be compared with CurrentItem")
        return Condition(dataset, column, operator, operands, source.start_pos)

    def operator(self, test: Tree) -> tuple[str, list[Token | Tree]]:
        if test.data == "is_in":
            return "IN", test.children[1:]
        if test.data == "is_not_in":
            return "NOT IN", test.children[2:]
        return str(test.children[0]), test.children[1:]

    def operands(self, parts: Sequence[Token | Tree], operator: str) -> tuple[str, ...] | Placeholder | CurrentItem:
        if isinstance(parts[0], Tree) and parts[0].data == "current_item":
            return CurrentItem(parts[0].children[2].upper())
        listed = isinstance(parts[0], Tree)
        tokens = [t for t in (parts[0].children if listed else parts) if t.type in ("STRING", "NUMBER", "PLACEHOLDER")]
        placeholders = [token for token in tokens if _placeholder(token)]
        if not placeholders:
            return tuple(_unescaped(token[1:-1]) if token.type == "STRING" else str(token) for token in tokens)
        name = _placeholder(placeholders[0])
        if operator == "NOT IN":
            raise FilterError(f"Invalid input symbol: ${name}. Placeholders are not allowed with NOT_IN operator.")
        if len(tokens) > 1:
            _refuse(
                self.text, tokens[1].start_pos, f"expected ) after the placeholder ${name}: it stands for a whole list"
            )
        return Placeholder(name)


@cache
def _grammar() -> Lark:
    text = (files("lib.filters") / "grammar.lark").read_text(encoding="utf-8")
    return Lark(text, parser="lalr", maybe_placeholders=False, keep_all_tokens=True)


def _trees(tree: Tree) -> list[Tree]:
    return [child for child in tree.children if isinstance(child, Tree)]


def _flat(conditions: Iterable[Iterable[Condition]]) -> tuple[Condition, ...]:
    return tuple(condition for conjunction in conditions for condition in conjunction)


def _spelled(token: Token, names: Iterable[str]) -> str:
    return next(name for name in names if name.lower() == token.lower())


def _placeholder(token: Token) -> str | None:
    """The name of ``$NAME``, also in quotes, as one of AWS's own examples has it."""
    match = re.fullmatch(r"""(["']?)\$([A-Za-z0-9_]{1,50})\1""", token)
    return match and match[2]


def _unescaped(text: str) -> str:
    return re.sub(r"""\\(["'\\])""", r"\1", text)


def _unexpected(text: str, error: UnexpectedInput) -> NoReturn:
    position = len(text) if _ended(error) else error.pos_in_stream
    terminals = getattr(error, "accepts", None) or getattr(error, "expected", None) or getattr(error, "allowed", ())
    names = sorted((TERMINALS.get(name, name) for name in terminals), key=lambda name: (not name.isupper(), name))
    found = re.match(r"""[\w$.]+|["'][^"']*["']?|<=|>=|!=|\S""", text[position:])
    said = f"found {found[0]}" if found else "the expression ended"
    _refuse(text, position, f"expected {', '.join(names[:-1])}{' or ' if names[:-1] else ''}{names[-1]} but {said}")


def _ended(error: UnexpectedInput) -> bool:
    return (
        isinstance(error, UnexpectedToken)
        and error.token.type == "$END"
        and not isinstance(error, UnexpectedCharacters)
    )


def _refuse(text: str, position: int, said: str) -> NoReturn:
    """Raise ValueError: what is wrong, and the line with a caret under the place."""
    line = re.sub(r"\s", " ", text)
    start = max(0, min(position - SHOWN // 2, len(line) - SHOWN))
    shown = line[start : start + SHOWN]
    raise FilterError(f"Filter expression: {said} at position {position}\n  {shown}\n  {' ' * (position - start)}^")
