import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.data import schema
from lib.data.schema import Field, Schema


def record(name="Interactions", fields=(), **more):
    entries = [field if isinstance(field, dict) else {"name": field[0], "type": field[1]} for field in fields]
    return json.dumps({"type": "record", "name": name, "namespace": schema.NAMESPACE, "fields": entries, **more})


KEYS = [("USER_ID", "string"), ("ITEM_ID", "string"), ("TIMESTAMP", "long")]
ITEM = ("ITEM_ID", "string")


def test_a_schema_is_read_with_types_nullability_and_attributes():
    text = record(
        "Items",
        [
            ITEM,
            {"name": "GENRES", "type": ["null", "string"], "categorical": True},
            {"name": "TITLE", "type": ["string"], "itemName": True},
            {"name": "DESCRIPTION", "type": ["string", "null"], "textual": True},
            ("PRICE", "float"),
        ],
        version=1,
    )
    assert schema.parse(text) == Schema(
        name="Items",
        fields=(
            Field(name="ITEM_ID", type="string"),
            Field(name="GENRES", type="string", nullable=True, categorical=True),
            Field(name="TITLE", type="string", item_name=True),
            Field(name="DESCRIPTION", type="string", nullable=True, textual=True),
            Field(name="PRICE", type="float"),
        ),
    )


@pytest.mark.parametrize("kind", ["Interactions", "INTERACTIONS", "interactions"])
def test_a_dataset_type_is_known_in_any_case(kind):
    assert schema.parse(record("interactions", KEYS), kind).name == "Interactions"


@pytest.mark.parametrize("kind", ["Action_Interactions", "ActionInteractions", "ACTION_INTERACTIONS"])
def test_action_interactions_are_known_with_and_without_underscore(kind):
    assert schema.canonical_type(kind) == "ACTION_INTERACTIONS"


def test_a_record_with_a_name_of_its_own_takes_the_rules_of_the_dataset_it_is_used_for():
    text = record("MyShop", [("USER_ID", "string"), ("AGE", "int")])
    assert schema.parse(text).name == "MyShop"
    assert schema.parse(text, "Users").name == "Users"
    with pytest.raises(ValueError, match="required field ITEM_ID"):
        schema.parse(text, "Items")


WRONG = [
    ("{", None, "Schema: not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    ("[]", None, 'Schema: expected a JSON object with "type": "record"'),
    (record("Items", [ITEM]), None, "Schema Items: at least one field besides ITEM_ID is needed"),
    (record("Users", [("USER_ID", "string")]), None, "Schema Users: at least one field besides USER_ID is needed"),
    (record(fields=KEYS[:2]), None, "Schema Interactions: required field TIMESTAMP (long) is missing"),
    (
        record(fields=[*KEYS[:2], ("TIMESTAMP", "string")]),
        None,
        "Schema Interactions: field TIMESTAMP is of type string, but this name is reserved for long",
    ),
    (
        record(fields=[("USER_ID", ["null", "string"]), *KEYS[1:]]),
        None,
        "Schema Interactions: field USER_ID is required, its type cannot allow null",
    ),
    (
        record(fields=[*KEYS, {"name": "EVENT_TYPE", "type": "string", "categorical": True}]),
        None,
        'Schema Interactions: field EVENT_TYPE cannot be categorical; remove "categorical": true',
    ),
    (
        record(fields=[*KEYS, {"name": "REVIEW", "type": "string", "textual": True}]),
        None,
        "Field REVIEW: textual is for Items, not for Interactions",
    ),
    (
        record("Items", [ITEM, *({"name": n, "type": "string", "textual": True} for n in ("A", "B"))]),
        None,
        "Schema Items: textual fields A, B; only one is allowed",
    ),
    (
        record("Items", [ITEM, {"name": "YEAR", "type": "int", "categorical": True}]),
        None,
        "Field YEAR: categorical goes with type string, not int",
    ),
    (
        record("Items", [ITEM, {"name": "A", "type": "string", "categorical": "yes"}]),
        None,
        'Field A: categorical is "yes", expected true or false',
    ),
    (
        record("Items", [ITEM, ("GENRES_FIELD_1", "string"), ("GENRESFIELD1", "string")]),
        None,
        "Schema Items: fields GENRES_FIELD_1 and GENRESFIELD1 are the same to events, which write them in camelCase; "
        "rename one",
    ),
    (
        record("Items", [ITEM, ("CREATIONTIMESTAMP", "long")]),
        None,
        "Schema Items: field CREATIONTIMESTAMP: CREATION_TIMESTAMP is a reserved name; spell it so, or rename it",
    ),
    (
        record("Items", [ITEM, ("A-B", "string")]),
        None,
        "Field 'A-B': names are letters, digits and underscores, and start with no digit",
    ),
    (
        record("Items", [ITEM, ("A", "text")]),
        None,
        "Schema Items: unknown type com.amazonaws.personalize.schema.text; "
        "types are string, int, long, float, double, boolean",
    ),
    (
        record("Items", [ITEM, ("A", {"type": "array", "items": "string"})]),
        None,
        'Field A: type {"type": "array", "items": "string"}; expected one of string, int, long, float, double, '
        'boolean, alone or with null, such as ["null", "string"]',
    ),
    (
        record("Items", [ITEM, ("A", ["null"])]),
        None,
        'Field A: type ["null"]; expected one of string, int, long, float, double, boolean, alone or with null, '
        'such as ["null", "string"]',
    ),
    (
        record(fields=[*KEYS, *((f"C{n}X", "string") for n in range(6))]),
        None,
        "Schema Interactions: 6 columns of your own, at most 5 are allowed",
    ),
    (
        record("Users", [("USER_ID", "string"), ("AGE", "int")]),
        "Items",
        "Schema Users: a dataset of type Items needs one named Items",
    ),
    (
        record(fields=KEYS),
        "Clicks",
        "Dataset type 'Clicks': expected one of Interactions, Items, Users, Actions, Action_Interactions",
    ),
    (record(fields=KEYS).ljust(20_001), None, "Schema: 20001 characters, at most 20000 are allowed"),
]


@pytest.mark.parametrize("text, kind, message", WRONG, ids=[message[:60] for *_, message in WRONG])
def test_a_wrong_schema_is_refused_with_what_was_found_and_what_would_do(text, kind, message):
    with pytest.raises(ValueError) as error:
        schema.parse(text, kind)
    assert str(error.value) == message


def test_a_domain_asks_for_its_own_columns():
    plain = record(fields=KEYS)
    assert schema.parse(plain, "Interactions")
    with pytest.raises(ValueError, match=r"required field EVENT_TYPE \(string\) is missing"):
        schema.parse(plain, "Interactions", "ECOMMERCE")
    category = {"name": "CATEGORY_L1", "type": ["string"], "categorical": True}
    shop = [ITEM, ("PRICE", "float"), category, ("CREATION_TIMESTAMP", "float")]
    assert schema.parse(record("Items", shop), "Items", "ECOMMERCE")["CATEGORY_L1"].categorical
    with pytest.raises(ValueError, match="CATEGORY_L1 must be categorical"):
        schema.parse(record("Items", [ITEM, ("PRICE", "float"), ("CATEGORY_L1", "string")]), "Items", "ECOMMERCE")
    with pytest.raises(ValueError, match="no Actions dataset"):
        schema.parse(record("Actions", [("ACTION_ID", "string"), ("VALUE", "long")]), None, "ECOMMERCE")


@pytest.mark.parametrize("genres", ["GENRES", "GENRES_L1"])
def test_video_on_demand_knows_its_genres_by_two_names(genres):
    fields = [ITEM, {"name": genres, "type": "string", "categorical": True}, ("CREATION_TIMESTAMP", "long")]
    assert genres in schema.parse(record("Items", fields), "Items", "VIDEO_ON_DEMAND")


def test_metadata_are_the_columns_with_unreserved_names():
    read = schema.parse(record(fields=[*KEYS, ("EVENT_TYPE", "string"), ("DEVICE", "string")]))
    assert [field.name for field in read.metadata] == ["DEVICE"]
    assert read.required == ("USER_ID", "ITEM_ID", "TIMESTAMP")


def test_an_unknown_column_is_named_with_those_there_are():
    with pytest.raises(KeyError, match="Interactions has no column PRICE; it has USER_ID, ITEM_ID, TIMESTAMP"):
        schema.parse(record(fields=KEYS))["PRICE"]


def items(*fields):
    return Schema(name="Items", fields=(Field(name="ITEM_ID", type="string"), *fields))


def test_a_schema_may_grow_by_columns_that_can_be_null():
    price = Field(name="PRICE", type="float")
    schema.check_extends(items(price), items(Field(name="SIZE", type="int", nullable=True), price))
    with pytest.raises(ValueError, match=r"new field SIZE must allow null.*\[\"null\", \"int\"\]"):
        schema.check_extends(items(price), items(price, Field(name="SIZE", type="int")))
    with pytest.raises(ValueError, match="field PRICE of the present schema is missing"):
        schema.check_extends(items(price), items())
    with pytest.raises(ValueError, match="field PRICE must keep its type"):
        schema.check_extends(items(price), items(Field(name="PRICE", type="double")))


def test_interactions_cannot_change_their_schema():
    same = schema.parse(record(fields=KEYS))
    with pytest.raises(ValueError, match="only Items and Users"):
        schema.check_extends(same, same)


@pytest.mark.parametrize("column, key", [("NUM_RATINGS", "numRatings"), ("PRICE", "price"), ("A_B_1", "aB1")])
def test_properties_bear_the_columns_names_in_camel_case(column, key):
    assert schema.camel_case(column) == key
    wanted = items(Field(name=column, type="int"))
    assert schema.row(wanted, {"itemId": "x", key: "12"}) == {"ITEM_ID": "x", column: 12}
    assert schema.row(wanted, {"ITEM_ID": "x", column: 12}) == {"ITEM_ID": "x", column: 12}


VALUES = [
    ("string", 5, "5"),
    ("string", True, "true"),
    ("int", "5.0", 5),
    ("long", 9_007_199_254_740_993, 9_007_199_254_740_993),
    ("float", "0.5", 0.5),
    ("boolean", "True", True),
]


@pytest.mark.parametrize("kind, given, expected", VALUES)
def test_a_value_put_becomes_the_columns_type(kind, given, expected):
    value = schema.row(items(Field(name="A", type=kind)), {"itemId": "x", "a": given})["A"]
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    "kind, given",
    [
        ("int", 2**31),
        ("int", "2006-2007"),
        ("int", 1.5),
        ("float", "inf"),
        ("float", 1e39),
        ("double", "nan"),
        ("boolean", 1),
        ("string", ["a"]),
    ],
)
def test_a_value_of_another_type_is_refused(kind, given):
    with pytest.raises(ValueError, match=f"A is .*, expected {kind}"):
        schema.row(items(Field(name="A", type=kind)), {"itemId": "x", "a": given})


def test_a_time_put_is_in_seconds_and_may_lie_in_the_past():
    made = Schema(name="Items", fields=(Field(name="CREATION_TIMESTAMP", type="long"),))
    for seconds in (-86_400, schema.LAST_SECOND):
        assert schema.row(made, {"creationTimestamp": seconds}) == {"CREATION_TIMESTAMP": seconds}
    for milliseconds in (1_795_379_455_000, "1795379455000", 2**62):
        with pytest.raises(ValueError, match=r"CREATION_TIMESTAMP is .*, not in epoch seconds.*divide by 1000"):
            schema.row(made, {"creationTimestamp": milliseconds})


def test_a_missing_value_needs_a_column_that_can_be_null():
    wanted = items(Field(name="A", type="int", nullable=True), Field(name="B", type="string"))
    assert schema.row(wanted, {"itemId": "x", "b": "y", "unheardOf": 1}) == {"ITEM_ID": "x", "A": None, "B": "y"}
    with pytest.raises(ValueError, match="B is missing and cannot be null; give it as b"):
        schema.row(wanted, {"itemId": "x"})


def test_values_put_are_as_long_as_those_imported():
    wanted = items(Field(name="T", type="string", textual=True))
    with pytest.raises(ValueError, match="Length cannot be more than 256 characters for ITEM_ID"):
        schema.row(wanted, {"itemId": "x" * 257, "t": "y"})
    assert len(schema.row(wanted, {"itemId": "x", "t": "y" * 30_000})["T"]) == 20_000
    assert len(schema.row(wanted, {"itemId": "x", "t": "本" * 30_000})["T"]) == 7_000


def test_a_proposal_has_types_nullability_and_attributes():
    n = 40
    table = pd.DataFrame(
        {
            "ITEM_ID": [f"i{k}" for k in range(n)],
            "GENRES": ["Drama|War", "Comedy", None, "War"] * (n // 4),
            "YEAR": [1990.0, None] * (n // 2),
            "PRICE": [0.5, 1.0] * (n // 2),
            "SEEN": [True, False] * (n // 2),
            "TITLE": [f"Film {k}" for k in range(n)],
            "PLOT": [f"A long story of {k} people who meet" for k in range(n)],
            "CREATION_TIMESTAMP": range(n),
        }
    )
    assert schema.parse(schema.propose(table, "ITEMS")).fields == (
        Field(name="ITEM_ID", type="string"),
        Field(name="GENRES", type="string", nullable=True, categorical=True),
        Field(name="YEAR", type="long", nullable=True),
        Field(name="PRICE", type="double"),
        Field(name="SEEN", type="boolean"),
        Field(name="TITLE", type="string"),
        Field(name="PLOT", type="string", textual=True),
        Field(name="CREATION_TIMESTAMP", type="long"),
    )


def test_a_proposed_text_is_the_longest_that_is_filled():
    plots = [f"A long story of {k} people who meet" for k in range(40)]
    table = pd.DataFrame({"ITEM_ID": range(40), "SHORT": plots, "LONG": [p * 2 for p in plots]})
    table.loc[:6, "LONG"] = None
    assert schema.parse(schema.propose(table, "Items"))["SHORT"].textual
    table["LONG"] = table["LONG"].fillna("An epilogue that somebody else has written")
    assert schema.parse(schema.propose(table, "Items"))["LONG"].textual


def test_reserved_names_are_proposed_with_their_types():
    row = {"USER_ID": "u", "ITEM_ID": "i", "TIMESTAMP": 1, "EVENT_TYPE": "a", "EVENT_VALUE": 3}
    proposed = schema.parse(schema.propose(pd.DataFrame([row]), "Interactions"))
    assert [field.type for field in proposed.fields] == ["string", "string", "long", "string", "float"]
    assert not any(field.categorical for field in proposed.fields)


def test_a_live_event_may_lack_what_fills_the_interactions_that_a_schema_was_proposed_for():
    row = {"USER_ID": "u", "ITEM_ID": "i", "TIMESTAMP": 1, "EVENT_TYPE": "a", "EVENT_VALUE": 3.0, "DEVICE": "phone"}
    proposed = schema.parse(schema.propose(pd.DataFrame([row]), "Interactions"))
    event = {"USER_ID": "u", "ITEM_ID": "i", "TIMESTAMP": 2, "EVENT_TYPE": "a"}
    assert schema.row(proposed, event) == {**event, "EVENT_VALUE": None, "DEVICE": None}
    assert not proposed["EVENT_TYPE"].nullable  # PutEvents always has it, and filters need it


def test_a_column_no_schema_can_hold_is_refused_with_a_remedy():
    table = pd.DataFrame({"USER_ID": ["u"], "BORN": pd.to_datetime(["2020-01-01"])})
    with pytest.raises(ValueError, match=r"Column BORN is datetime64.*turn times into epoch seconds"):
        schema.propose(table, "Users")


names = st.from_regex(r"[A-W]{1,8}", fullmatch=True).map(lambda name: name + "X")
own_fields = st.builds(
    Field,
    name=names,
    type=st.sampled_from(schema.TYPES),
    nullable=st.booleans(),
)


@given(st.lists(own_fields, min_size=1, max_size=20, unique_by=lambda field: field.name))
def test_what_is_written_as_avro_is_read_again(fields):
    wanted = items(*fields)
    assert schema.parse(schema.avro(wanted), "Items") == wanted
