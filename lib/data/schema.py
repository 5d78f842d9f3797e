"""Avro schemas as Amazon Personalize reads them: what a dataset's columns are called, hold, and may leave empty."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import pandas as pd
from fastavro import parse_schema
from fastavro.schema import SchemaParseException, UnknownType

NAMESPACE = "com.amazonaws.personalize.schema"
MAX_SCHEMA_LENGTH = 20_000
MAX_ID_LENGTH = 256
MAX_STRING_LENGTH = 1000
MAX_TEXT_LENGTH, MAX_CHINESE_OR_JAPANESE_LENGTH = 20_000, 7_000
NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")  # of a column
CHINESE_OR_JAPANESE = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
MIN_TEXT_FILLED = 0.85  # a textual column with less is not trained on
MAX_CATEGORIES = 1000
LAST_SECOND = 10**11  # the year 5138; what lies beyond is in milliseconds

INTEGERS, REALS = ("int", "long"), ("float", "double")
TYPES = ("string", *INTEGERS, *REALS, "boolean")
LIMITS = {"int": 2**31, "long": 2**63, "float": 2.0**128, "double": math.inf}  # numbers of a type are nearer to 0

# Dataset type, as it stands in ARNs -> the name of its Avro record, and the most columns of one's own it may have.
RECORDS = {
    "INTERACTIONS": "Interactions",
    "ITEMS": "Items",
    "USERS": "Users",
    "ACTIONS": "Actions",
    "ACTION_INTERACTIONS": "ActionInteractions",
}
MAX_METADATA = {"Interactions": 5, "Items": 100, "Users": 25, "Actions": 10, "ActionInteractions": 5}
KEYS = {"Items": "ITEM_ID", "Users": "USER_ID", "Actions": "ACTION_ID"}  # of the datasets with one record an id
IDS = ("USER_ID", "ITEM_ID", "ACTION_ID")
DOMAINS = ("ECOMMERCE", "VIDEO_ON_DEMAND")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One column.  type: Avro's primitive type without null."""

    name: str
    type: str
    nullable: bool = False
    categorical: bool = False
    textual: bool = False
    item_name: bool = False

    @property
    def numeric(self) -> bool:
        return self.type in INTEGERS or self.type in REALS

    @property
    def time(self) -> bool:
        """Whether values are epoch seconds."""
        return self.numeric and self.name.endswith("TIMESTAMP")

    @property
    def max_length(self) -> int | None:
        """The most characters a value may have; None where values are no text, or are cut rather than refused."""
        if self.type != "string" or self.textual:
            return None
        return MAX_ID_LENGTH if self.name in IDS else MAX_STRING_LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """A dataset's columns in order.  name: Interactions, Items, Users, Actions or ActionInteractions."""

    name: str
    fields: tuple[Field, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @property
    def metadata(self) -> tuple[Field, ...]:
        """The columns whose names Personalize does not reserve in a custom dataset group."""
        reserved = RESERVED.get(self.name, {})
        return tuple(field for field in self.fields if field.name not in reserved)

    @property
    def required(self) -> tuple[str, ...]:
        """The columns no record can be without, whatever the schema's types say."""
        return tuple(name for name, rule in RESERVED.get(self.name, {}).items() if rule.required)

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def __getitem__(self, column: str) -> Field:
        for field in self.fields:
            if field.name == column:
                return field
        raise KeyError(f"{self.name} has no column {column}; it has {', '.join(self.columns)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """What a required or reserved column must look like.  attribute: categorical, textual or nothing."""

    types: tuple[str, ...]
    required: bool = False
    nullable: bool = True
    attribute: str = ""


_STRING, _LONG, _FLOAT = (_Rule(types=(kind,)) for kind in ("string", "long", "float"))
_ID = _Rule(types=("string",), required=True, nullable=False)
_TIME = _Rule(types=("long",), required=True, nullable=False)
_CATEGORY = _Rule(types=("string",), attribute="categorical")
_TEXT = _Rule(types=("string",), attribute="textual")

RESERVED = {
    "Interactions": {
        "USER_ID": _ID,
        "ITEM_ID": _ID,
        "TIMESTAMP": _TIME,
        "EVENT_TYPE": _STRING,
        "EVENT_VALUE": _FLOAT,
        "IMPRESSION": _STRING,
        "RECOMMENDATION_ID": _STRING,
        "EVENT_ATTRIBUTION_SOURCE": _STRING,
    },
    "Items": {"ITEM_ID": _ID, "CREATION_TIMESTAMP": _LONG},
    "Users": {"USER_ID": _ID},
    "Actions": {
        "ACTION_ID": _ID,
        "CREATION_TIMESTAMP": _LONG,
        "VALUE": _LONG,
        "TYPE": _STRING,
        "EXPIRATION_TIMESTAMP": _LONG,
        "ACTION_EXPIRATION_TIMESTAMP": _LONG,
        "REPEAT_FREQUENCY": _LONG,
    },
    "ActionInteractions": {
        "USER_ID": _ID,
        "ACTION_ID": _ID,
        "EVENT_TYPE": _ID,
        "TIMESTAMP": _TIME,
        "IMPRESSION": _STRING,
        "RECOMMENDATION_ID": _STRING,
    },
}

# What a domain dataset group asks for on top, or reserves.
_IN_DOMAIN = {
    ("ECOMMERCE", "Interactions"): {"EVENT_TYPE": _ID},
    ("ECOMMERCE", "Items"): {
        "PRICE": _Rule(types=("float",), required=True),
        "CATEGORY_L1": _Rule(types=("string",), required=True, attribute="categorical"),
        "CATEGORY_L2": _CATEGORY,
        "CATEGORY_L3": _CATEGORY,
        "PRODUCT_DESCRIPTION": _TEXT,
        "CREATION_TIMESTAMP": _Rule(types=("long", "float")),
        "AGE_GROUP": _CATEGORY,
        "ADULT": _CATEGORY,
        "GENDER": _CATEGORY,
    },
    ("VIDEO_ON_DEMAND", "Interactions"): {"EVENT_TYPE": _ID},
    ("VIDEO_ON_DEMAND", "Users"): {"SUBSCRIPTION_MODEL": _CATEGORY},
    ("VIDEO_ON_DEMAND", "Items"): {
        "GENRES": _Rule(types=("string",), required=True, attribute="categorical"),
        "CREATION_TIMESTAMP": _TIME,
        "PRICE": _FLOAT,
        "DURATION": _FLOAT,
        "GENRE_L2": _CATEGORY,
        "GENRE_L3": _CATEGORY,
        "AVERAGE_RATING": _FLOAT,
        "PRODUCT_DESCRIPTION": _TEXT,
        "CONTENT_OWNER": _CATEGORY,
        "CONTENT_CLASSIFICATION": _CATEGORY,
    },
}
_ALSO_CALLED = {"GENRES": "GENRES_L1"}  # by the default schema of VIDEO_ON_DEMAND


def canonical_type(name: str) -> str:
    """A dataset type as it stands in ARNs (``ACTION_INTERACTIONS``), from any spelling.  Raises ValueError."""
    for kind in RECORDS:
        if _folded(kind) == _folded(name):
            return kind
    raise ValueError(f"Dataset type {name!r}: expected one of Interactions, Items, Users, Actions, Action_Interactions")


def parse(text: str, dataset_type: str | None = None, domain: str | None = None) -> Schema:
    """The schema in an Avro record's JSON.

    dataset_type: what the schema is for, in any spelling; without it the record's own name says so, and a record with
    a name of its own is held to the general rules alone.  domain: ECOMMERCE, VIDEO_ON_DEMAND or None (custom).
    Raises ValueError that says what was found, where, and what would do.
    """
    if len(text) > MAX_SCHEMA_LENGTH:
        raise ValueError(f"Schema: {len(text)} characters, at most {MAX_SCHEMA_LENGTH} are allowed")
    record = _avro(text)
    schema = Schema(name=_record_name(record["name"], dataset_type), fields=tuple(map(_field, record["fields"])))
    _check_names(schema)
    _check_attributes(schema)
    if schema.name in RESERVED:
        _check_dataset(schema, domain)
    return schema


def _avro(text: str) -> dict:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"Schema: not JSON: {error}") from None
    if not isinstance(record, dict) or record.get("type") != "record":
        raise ValueError('Schema: expected a JSON object with "type": "record"')
    if not isinstance(record.get("name"), str) or not record["name"]:
        raise ValueError('Schema: expected a "name" such as "Interactions"')
    if not isinstance(record.get("fields"), list) or not record["fields"]:
        raise ValueError(f'Schema {record["name"]}: expected "fields", a list with at least one field')
    try:
        parse_schema(record)
    except (SchemaParseException, UnknownType, TypeError) as error:
        found = f"unknown type {error}" if isinstance(error, UnknownType) else str(error)
        raise ValueError(f"Schema {record['name']}: {found}; types are {', '.join(TYPES)}") from None
    return record


def _record_name(name: str, wanted: str | None) -> str:
    found = next((record for record in RECORDS.values() if _folded(record) == _folded(name)), name)
    if wanted is None:
        return found
    expected = RECORDS[canonical_type(wanted)]
    if found in MAX_METADATA and found != expected:
        raise ValueError(f"Schema {found}: a dataset of type {wanted} needs one named {expected}")
    return expected


def _field(entry: Mapping[str, object]) -> Field:
    name = entry["name"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"Field {name!r}: names are letters, digits and underscores, and start with no digit")
    union = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    types = [kind for kind in union if kind != "null"]
    if len(types) != 1 or types[0] not in TYPES or len(union) - len(types) > 1:
        raise ValueError(
            f"Field {name}: type {json.dumps(entry['type'])}; expected one of {', '.join(TYPES)}, "
            'alone or with null, such as ["null", "string"]'
        )
    for attribute in ("categorical", "textual", "itemName"):
        if not isinstance(entry.get(attribute, False), bool):
            raise ValueError(f"Field {name}: {attribute} is {json.dumps(entry[attribute])}, expected true or false")
    return Field(
        name=name,
        type=types[0],
        nullable=len(union) > 1,
        categorical=entry.get("categorical", False),
        textual=entry.get("textual", False),
        item_name=entry.get("itemName", False),
    )


def _check_names(schema: Schema) -> None:
    seen: dict[str, str] = {}
    for column in schema.columns:
        earlier = seen.setdefault(_folded(column), column)
        if earlier is not column:
            raise ValueError(
                f"Schema {schema.name}: fields {earlier} and {column} are the same to events, which write them in "
                "camelCase; rename one"
            )


def _check_attributes(schema: Schema) -> None:
    for field in schema.fields:
        for attribute, marked in (
            ("categorical", field.categorical),
            ("textual", field.textual),
            ("itemName", field.item_name),
        ):
            if marked and field.type != "string":
                raise ValueError(f"Field {field.name}: {attribute} goes with type string, not {field.type}")
        if field.categorical and field.textual:
            raise ValueError(f"Field {field.name}: either categorical or textual, not both")
    for attribute, marked in (
        ("textual", [field.name for field in schema.fields if field.textual]),
        ("itemName", [field.name for field in schema.fields if field.item_name]),
    ):
        if marked and schema.name in RESERVED and schema.name != "Items":
            raise ValueError(f"Field {marked[0]}: {attribute} is for Items, not for {schema.name}")
        if len(marked) > 1:
            raise ValueError(f"Schema {schema.name}: {attribute} fields {', '.join(marked)}; only one is allowed")


def _check_dataset(schema: Schema, domain: str | None) -> None:
    """Hold a schema to its dataset type's required and reserved columns, and to its number of own columns."""
    if domain is not None and domain not in DOMAINS:
        raise ValueError(f"Domain {domain!r}: expected {' or '.join(DOMAINS)}, or none")
    if domain is not None and schema.name.startswith("Action"):
        raise ValueError(f"Schema {schema.name}: a domain dataset group has no {schema.name} dataset")
    rules = RESERVED[schema.name] | _IN_DOMAIN.get((domain, schema.name), {})
    for name, rule in list(rules.items()):
        if _ALSO_CALLED.get(name) in schema.columns:
            rules[_ALSO_CALLED[name]] = rules.pop(name)
            continue
        if rule.required and name not in schema:
            raise ValueError(f"Schema {schema.name}: required field {name} ({' or '.join(rule.types)}) is missing")
    own = 0
    for field in schema.fields:
        rule = rules.get(field.name)
        if rule is None:
            _check_reserved_spelling(schema.name, field.name, rules)
            own += 1
        else:
            _check_rule(schema.name, field, rule)
    if schema.name in KEYS and len(schema.fields) == 1:
        raise ValueError(f"Schema {schema.name}: at least one field besides {KEYS[schema.name]} is needed")
    if own > MAX_METADATA[schema.name]:
        raise ValueError(
            f"Schema {schema.name}: {own} columns of your own, at most {MAX_METADATA[schema.name]} are allowed"
        )


def _check_reserved_spelling(record: str, name: str, rules: Mapping[str, _Rule]) -> None:
    for reserved in rules:
        if _folded(reserved) == _folded(name):
            raise ValueError(f"Schema {record}: field {name}: {reserved} is a reserved name; spell it so, or rename it")


def _check_rule(record: str, field: Field, rule: _Rule) -> None:
    where = f"Schema {record}: field {field.name}"
    if field.type not in rule.types:
        raise ValueError(f"{where} is of type {field.type}, but this name is reserved for {' or '.join(rule.types)}")
    if field.nullable and not rule.nullable:
        raise ValueError(f"{where} is required, its type cannot allow null")
    found = {"categorical": field.categorical, "textual": field.textual}
    for attribute, marked in found.items():
        if marked and attribute != rule.attribute:
            raise ValueError(f'{where} cannot be {attribute}; remove "{attribute}": true')
        if not marked and attribute == rule.attribute:
            raise ValueError(f'{where} must be {attribute}; add "{attribute}": true')


def check_extends(old: Schema, new: Schema) -> None:
    """That a dataset of Items or Users may change from one schema to another: nothing old changes, new may be null.

    Raises ValueError that names the field.
    """
    if old.name != new.name:
        raise ValueError(f"Schema {new.name}: the dataset holds {old.name}")
    if old.name not in ("Items", "Users"):
        raise ValueError(f"Schema {old.name}: only Items and Users datasets can change their schema")
    for field in old.fields:
        if field.name not in new:
            raise ValueError(f"Schema {new.name}: field {field.name} of the present schema is missing")
        if new[field.name] != field:
            raise ValueError(f"Schema {new.name}: field {field.name} must keep its type and attributes")
    for field in new.fields:
        if field.name not in old and not field.nullable:
            raise ValueError(
                f"Schema {new.name}: new field {field.name} must allow null, records already there lack it; "
                f'write ["null", "{field.type}"]'
            )


def camel_case(column: str) -> str:
    """A column's name in the properties of Put* operations: ``NUM_RATINGS`` -> ``numRatings``."""
    return re.sub(r"_+(.?)", lambda match: match[1].upper(), column.lower())


def row(schema: Schema, properties: Mapping[str, object]) -> dict[str, object]:
    """A record put through the API as a row of its dataset: column -> value of the column's type, or None.

    properties: in camelCase or in the schema's own spelling; numbers may come as text; what the schema lacks is left
    out.  Raises ValueError for a value of another type, a value too long, a time in milliseconds, or a missing value
    that cannot be null.
    """
    given = {_folded(name): value for name, value in properties.items()}
    return {field.name: _value(field, given.get(_folded(field.name))) for field in schema.fields}


def _value(field: Field, value: object) -> object:
    if value is None or value == "":
        if field.nullable:
            return None
        raise ValueError(f"{field.name} is missing and cannot be null; give it as {camel_case(field.name)}")
    converted = _converted(field, value)
    if converted is None:
        raise ValueError(f"{field.name} is {json.dumps(value)[:80]}, expected {field.type}")
    if field.max_length is not None and len(converted) > field.max_length:
        raise ValueError(f"Length cannot be more than {field.max_length} characters for {field.name}")
    if field.time and converted > LAST_SECOND:
        raise ValueError(
            f"{field.name} is {converted}, not in epoch seconds; it looks like milliseconds: divide by 1000"
        )
    return cut(converted) if field.textual else converted


def _converted(field: Field, value: object) -> str | int | float | bool | None:
    """The value as the field's type, None where it cannot be."""
    if isinstance(value, (list, dict)):
        return None
    if field.type == "string":
        return value if isinstance(value, str) else json.dumps(value)
    if field.type == "boolean":
        return {"true": True, "false": False}.get(str(value).lower())
    if isinstance(value, bool):
        return None
    try:
        if field.type in REALS:
            return float(value) if abs(float(value)) < LIMITS[field.type] else None
        return _whole(field, value)
    except (TypeError, ValueError, OverflowError):
        return None


def _whole(field: Field, value: object) -> int | None:
    """Times lose their fraction; other integers must have none."""
    try:
        number = value if type(value) is int else int(str(value))
    except ValueError:
        if not float(value).is_integer() and field.name != "TIMESTAMP":
            return None
        number = int(float(value))
    return number if abs(number) < LIMITS[field.type] else None


def cut(text: str) -> str:
    """A textual value, shortened to what Personalize reads of it: 20,000 characters, 7,000 of Chinese or Japanese."""
    if len(text) <= MAX_CHINESE_OR_JAPANESE_LENGTH:
        return text
    ideographic = 2 * len(CHINESE_OR_JAPANESE.findall(text)) > len(text)
    return text[: MAX_CHINESE_OR_JAPANESE_LENGTH if ideographic else MAX_TEXT_LENGTH]


def propose(table: pd.DataFrame, dataset_type: str) -> str:
    """Avro JSON for a table whose columns bear Personalize's names: types, nullability, categorical and textual.

    Reserved names get their reserved types.  Text is categorical where values (apart at ``|``) repeat and are few, and
    one long, well filled text of Items is textual.  What has gaps may be null, and of interactions what a live event
    may lack too: all that is not required, but for its type.  Raises ValueError for a column no schema can describe.
    """
    record = RECORDS[canonical_type(dataset_type)]
    longest = _longest_text(table) if record == "Items" else None
    filled = set(table.columns) if record in KEYS else {"EVENT_TYPE"}  # may do without null
    fields = [
        _proposed(
            table[name],
            RESERVED[record].get(name),
            nullable=name not in filled or bool(table[name].isna().any()),
            textual=name == longest,
        )
        for name in table.columns
    ]
    text = avro(Schema(name=record, fields=tuple(fields)))
    parse(text, dataset_type)
    return text


def _proposed(column: pd.Series, rule: _Rule | None, *, nullable: bool, textual: bool) -> Field:
    kind = rule.types[0] if rule else _avro_type(column)
    free_text = rule is None and kind == "string"
    return Field(
        name=column.name,
        type=kind,
        nullable=nullable and (rule is None or rule.nullable),
        categorical=free_text and not textual and _is_categorical(column),
        textual=free_text and textual,
    )


def _avro_type(column: pd.Series) -> str:
    """long and double rather than int and float: a filter then compares with the very number that was written."""
    if pd.api.types.is_bool_dtype(column):
        return "boolean"
    if pd.api.types.is_integer_dtype(column):
        return "long"
    values = column.dropna()
    if pd.api.types.is_float_dtype(column):  # whole numbers with gaps are floats in pandas
        return "long" if len(values) and len(values) < len(column) and (values % 1 == 0).all() else "double"
    if pd.api.types.is_string_dtype(column):
        return "string"
    if len(values) and values.map(lambda value: isinstance(value, bool)).all():
        return "boolean"
    if values.map(lambda value: isinstance(value, str)).all():
        return "string"
    raise ValueError(
        f"Column {column.name} is {column.dtype}, expected text, numbers or booleans; "
        "turn times into epoch seconds and lists into one text joined by |"
    )


def _is_categorical(column: pd.Series) -> bool:
    values = column.dropna()
    n_categories = pd.Series(values.unique(), dtype="str").str.split("|").explode().nunique()
    return 0 < n_categories <= MAX_CATEGORIES and 2 * n_categories <= len(values) + values.str.count(r"\|").sum()


def _longest_text(table: pd.DataFrame) -> str | None:
    """The column of running text (five words or more on average, hardly repeated, well filled) with most characters."""
    lengths = {}
    for name in table.columns:
        if name in RESERVED["Items"] or _avro_type(table[name]) != "string":
            continue
        values = table[name].dropna()
        if not len(values) or len(values) < MIN_TEXT_FILLED * len(table) or 2 * values.nunique() < len(values):
            continue
        if values.str.split().str.len().mean() >= 5:
            lengths[name] = values.str.len().sum()
    return max(lengths, key=lengths.__getitem__) if lengths else None


def avro(schema: Schema) -> str:
    """A schema as Avro JSON, what ``parse`` reads."""
    fields = []
    for field in schema.fields:
        entry: dict[str, object] = {"name": field.name, "type": ["null", field.type] if field.nullable else field.type}
        marks = {"categorical": field.categorical, "textual": field.textual, "itemName": field.item_name}
        fields.append(entry | {mark: True for mark, marked in marks.items() if marked})
    record = {"type": "record", "name": schema.name, "namespace": NAMESPACE, "fields": fields, "version": "1.0"}
    return json.dumps(record, indent=2)


def describe(schema: Schema) -> pd.DataFrame:
    """A schema for reading, index its columns: type, whether it may be empty, and what it is used for."""
    reserved = RESERVED.get(schema.name, {})
    rows = [
        {
            "column": field.name,
            "type": field.type,
            "may be empty": "yes" if field.nullable else "",
            "meaning": "textual"
            if field.textual
            else "categorical"
            if field.categorical
            else "reserved"
            if field.name in reserved
            else "",
        }
        for field in schema.fields
    ]
    return pd.DataFrame(rows).set_index("column")


@lru_cache(maxsize=4096)
def _folded(name: str) -> str:
    """Names that fold to the same text are one column to Personalize, in whatever case they are written."""
    return name.replace("_", "").lower()
