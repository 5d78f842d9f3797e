"""Shapes: what a request may be, and how an answer is written."""

import copy
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import botocore.session
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.resources.errors import InvalidInputException
from lib.service import model

SHAPES = {
    service: botocore.session.Session().get_service_model(service)
    for service in ("personalize", "personalize-runtime", "personalize-events")
}
OPERATIONS = [(service, name) for service, shapes in SHAPES.items() for name in shapes.operation_names]

# One value that satisfies each of the models' patterns, and one of allowed length that does not.
EXAMPLES = {
    r"arn:([a-z\d-]+):personalize:.*:.*:.+": ("arn:aws:personalize:us-east-1:1:schema/a", "arn:aws:s3:::a"),
    r"[A-Za-z_][A-Za-z\d_]*": ("ITEM_ID", "1ST"),
    r"^[A-Za-z_]+$": ("Interactions", "Items\n"),
    r"arn:aws.*:kms:.*:[0-9]{12}:key/.*": ("arn:aws:kms:us-east-1:123456789012:key/a", "arn:aws:kms:::key/a"),
    r"^[a-zA-Z0-9][a-zA-Z0-9\-_]*": ("news-1", "a.b"),
    r"\p{ASCII}{0,1500}": ("MQ==", "ä"),
    r"arn:([a-z\d-]+):iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+": ("arn:aws:iam::123456789012:role/a", "arn:aws:iam::"),
    r"(s3|http|https)://.+": ("s3://bucket/key", "file:///etc/passwd"),
    r"rate\(\d+ days?\)": ("rate(7 days)", "rate(7 weeks)"),
    r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$": ("Größe 1²\u2003@", "a!"),
    r"[A-Za-z\d_]+": ("DEVICE", "DE VICE"),
    r"[A-Za-z0-9_]+": ("MAX", "MAX-1"),
    r"^[\x20-\x7E]*[\x21-\x7E]+[\x20-\x7E]*$": (" a b ", "   "),
}


def valid(shape):
    """A value that satisfies a shape, with every member it may have."""
    of = shape.metadata.get
    match shape.type_name:
        case "string" if shape.enum:
            return shape.enum[0]
        case "string" if of("pattern"):
            return EXAMPLES[of("pattern")][0]
        case "string":
            return "x" * max(of("min", 1), 1)
        case "integer":
            return of("min", 1)
        case "double" | "float":
            return of("min", 0.5)
        case "boolean":
            return True
        case "timestamp":
            return 1542392161.837
        case "list":
            return [valid(shape.member) for _ in range(max(of("min", 1), 1))]
        case "map":
            return {valid(shape.key): valid(shape.value)}
    return {name: valid(member) for name, member in shape.members.items()}


def violations(shape):
    """(value, what the message says) for every constraint of one shape, without those of the shapes within."""
    of = shape.metadata.get
    match shape.type_name:
        case "string":
            yield 3, "be a string"
            yield "\0", "hold no NUL character"
            if of("min"):
                yield "", f"greater than or equal to {of('min')}"
            if of("max"):
                yield "x" * (of("max") + 1), f"less than or equal to {of('max')}"
            if of("pattern"):
                yield EXAMPLES[of("pattern")][1], "satisfy regular expression pattern"
            if shape.enum:
                yield "x", "satisfy enum value set"
        case "integer":
            yield "1", "be an integer"
            yield True, "be an integer"
            yield 1.5, "be an integer"
            yield of("min", -(2**31)) - 1, "greater than or equal to"
            yield of("max", 2**31 - 1) + 1, "less than or equal to"
        case "double" | "float":
            yield "1", "be a number"
            if of("min") is not None:
                yield of("min") - 0.001, "greater than or equal to"
            if of("max") is not None:
                yield of("max") + 0.001, "less than or equal to"
        case "boolean":
            yield "true", "be true or false"
        case "timestamp":
            yield "yesterday", "be a time"
        case "list":
            yield {}, "be a list"
            if of("max"):
                yield [valid(shape.member)] * (of("max") + 1), f"less than or equal to {of('max')}"
            if of("min"):
                yield [], "greater than or equal to"
            yield [None], "Member must"
        case "map":
            yield [], "be an object"
            if of("max"):
                yield (
                    {valid(shape.key) + str(i): valid(shape.value) for i in range(of("max") + 1)},
                    "less than or equal",
                )
        case "structure":
            yield [], "be an object"


def steps(shape, path=()):
    """(path, shape) of a shape and all within it."""
    yield path, shape
    match shape.type_name:
        case "structure":
            for name, member in shape.members.items():
                yield from steps(member, (*path, name))
        case "list":
            yield from steps(shape.member, (*path, 0))
        case "map":
            yield from steps(shape.value, (*path, valid(shape.key)))


def replaced(value, path, new):
    """A copy of a value in which what lies at a path is another."""
    if not path:
        return new
    value = copy.copy(value)
    value[path[0]] = replaced(value[path[0]], path[1:], new)
    return value


def input_shape(service, name):
    return SHAPES[service].operation_model(name).input_shape


@pytest.mark.parametrize(("service", "name"), OPERATIONS)
def test_every_member_of_every_operation_is_accepted(service, name):
    request = valid(input_shape(service, name))
    assert model.operations()[service, name].decode(request).keys() == request.keys()


@pytest.mark.parametrize(("service", "name"), OPERATIONS)
def test_every_constraint_of_every_operation_is_enforced(service, name):
    shape, decode = input_shape(service, name), model.operations()[service, name].decode
    request = valid(shape)
    for path, inner in steps(shape):
        for value, message in violations(inner):
            with pytest.raises(InvalidInputException) as refused:
                decode(replaced(request, path, value))
            assert message in str(refused.value)
            assert not path or str(path[0]) in str(refused.value)


@pytest.mark.parametrize(("service", "name"), OPERATIONS)
def test_every_required_member_is_required(service, name):
    shape, decode = input_shape(service, name), model.operations()[service, name].decode
    request = valid(shape)
    for path, inner in steps(shape):
        for member in inner.required_members if inner.type_name == "structure" else ():
            with pytest.raises(InvalidInputException, match=rf"at '.*{member}' .*must not be null"):
                decode(replaced(request, (*path, member), None))


def test_the_examples_are_those_of_the_models_patterns():
    patterns = {
        shapes.shape_for(name).metadata["pattern"]
        for shapes in SHAPES.values()
        for name in shapes.shape_names
        if "pattern" in shapes.shape_for(name).metadata
    }
    assert patterns == EXAMPLES.keys()


def test_every_operation_has_a_way_in():
    ways = [*model.targets().values(), *model.paths().values()]
    assert len(ways) == 79
    assert {(way.service, way.name) for way in ways} == set(OPERATIONS)
    assert model.targets()["AmazonPersonalize.CreateSchema"].function == "create_schema"
    assert model.paths()["/action-interactions"].function == "put_action_interactions"


def test_members_travel_in_the_body_under_their_own_names():
    for service, name in OPERATIONS:
        for shape in (input_shape(service, name), SHAPES[service].operation_model(name).output_shape):
            for _, inner in steps(shape) if shape else ():
                for member in inner.members.values() if inner.type_name == "structure" else ():
                    assert not member.serialization.keys() - {"jsonvalue"}


def test_members_that_are_unknown_or_null_are_left_out():
    decode = model.operations()["personalize", "CreateSchema"].decode
    assert decode({"name": "a", "schema": "{}", "domain": None, "colour": 3}) == {"name": "a", "schema": "{}"}


@pytest.mark.parametrize("name", ["-x", "a.b", "a" * 64, " ", "", "a\n", "_a", "ä"])
def test_a_bad_name_is_shown_with_its_place(name):
    with pytest.raises(InvalidInputException) as refused:
        model.operations()["personalize", "CreateSchema"].decode({"name": name, "schema": "{}"})
    assert f"Value '{name}' at 'name' failed to satisfy constraint" in str(refused.value)


def test_a_name_may_have_63_characters():
    model.operations()["personalize", "CreateSchema"].decode({"name": "a" * 63, "schema": "{}"})


def event(**members):
    return {"trackingId": "t", "sessionId": "s", "eventList": [{"eventType": "click", "sentAt": 0, **members}]}


def test_the_place_of_a_nested_value_is_told_and_a_sensitive_value_is_not():
    request = event(impression=["a", "b" * 257])
    with pytest.raises(InvalidInputException) as refused:
        model.operations()["personalize-events", "PutEvents"].decode(request)
    assert "Value at 'eventList[0].impression[1]' failed" in str(refused.value)
    assert "bbb" not in str(refused.value)


def test_a_key_of_a_map_is_a_place():
    request = {"filterValues": {"MAX-1": "3"}}
    with pytest.raises(InvalidInputException, match=r"at 'filterValues\['MAX-1'\]'"):
        model.operations()["personalize-runtime", "GetRecommendations"].decode(request)


def test_a_long_value_is_shown_in_part():
    with pytest.raises(InvalidInputException) as refused:
        model.operations()["personalize", "DescribeSchema"].decode({"schemaArn": "x" * 10_000})
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "sent", [1542392161.837, "1542392161.837", "2018-11-16T18:16:01.837Z", "2018-11-16T19:16:01.837+01:00"]
)
def test_a_time_is_a_number_a_numeric_string_or_iso_8601(sent):
    decoded = model.operations()["personalize-events", "PutEvents"].decode(event(sentAt=sent))
    assert decoded["eventList"][0]["sentAt"] == datetime(2018, 11, 16, 18, 16, 1, 837000, tzinfo=UTC)


@pytest.mark.parametrize("sent", [1542392161, "1542392161", "2018-11-16T18:16:01"])
def test_a_time_without_fraction_or_zone_is_utc(sent):
    decoded = model.operations()["personalize-events", "PutEvents"].decode(event(sentAt=sent))
    assert decoded["eventList"][0]["sentAt"] == datetime(2018, 11, 16, 18, 16, 1, tzinfo=UTC)


@pytest.mark.parametrize("sent", [1.6e12, 10**400, "nan", "inf", "", True, [], "0001-01-01T00:00:00+01:00"])
def test_what_is_no_time_is_refused(sent):
    with pytest.raises(InvalidInputException, match="must be a time"):
        model.operations()["personalize-events", "PutEvents"].decode(event(sentAt=sent))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (datetime(2018, 11, 16, 18, 16, 1, 837000, tzinfo=UTC), 1542392161.837),
        (datetime(2018, 11, 16, 18, 16, 1, 837499, tzinfo=UTC), 1542392161.837),
        (datetime(2018, 11, 16, 19, 16, 1, tzinfo=timezone(timedelta(hours=1))), 1542392161.0),
    ],
)
def test_a_time_is_written_in_seconds_with_milliseconds(found, expected):
    encode = model.operations()["personalize", "DescribeSchema"].encode
    assert encode({"schema": {"creationDateTime": found}}) == {"schema": {"creationDateTime": expected}}


def test_a_time_without_zone_is_refused():
    with pytest.raises(TypeError, match="no time zone"):
        model.operations()["personalize", "DescribeSchema"].encode(
            {"schema": {"creationDateTime": datetime(2018, 1, 1)}}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    campaign_arn: str
    creation_date_time: datetime
    failure_reason: str | None = None
    campaign_config: dict | None = None
    seen_only_here: int = 3


def test_an_object_is_written_by_boto3s_names_without_what_it_has_no_value_for():
    campaign = Campaign(
        campaign_arn="a",
        creation_date_time=datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
        campaign_config={"itemExplorationConfig": {"explorationWeight": "0.3"}, "syncWithLatestSolutionVersion": None},
    )
    assert model.operations()["personalize", "DescribeCampaign"].encode({"campaign": campaign}) == {
        "campaign": {
            "campaignArn": "a",
            "creationDateTime": 1.0,
            "campaignConfig": {"itemExplorationConfig": {"explorationWeight": "0.3"}},
        }
    }


def test_a_member_that_the_answer_cannot_have_is_a_mistake_of_ours():
    with pytest.raises(TypeError, match="'campaign_arn' is no member of CreateCampaignResponse"):
        model.operations()["personalize", "CreateCampaign"].encode({"campaign_arn": "a"})


@pytest.mark.parametrize(
    ("service", "error", "status"),
    [
        ("personalize", "ResourceNotFoundException", 400),
        ("personalize-runtime", "ResourceNotFoundException", 404),
        ("personalize-events", "ResourceInUseException", 409),
        ("personalize-runtime", "ResourceInUseException", 400),
        ("personalize", "ThrottlingException", 400),
        ("personalize-runtime", "ThrottlingException", 429),
        ("personalize-events", "InternalFailure", 500),
    ],
)
def test_an_errors_status_is_the_models_or_the_common_one(service, error, status):
    assert model.status(service, error) == status


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(derandomize=True)
@given(st.data())
def test_whatever_is_asked_is_decoded_or_refused(data):
    service, name = data.draw(st.sampled_from(OPERATIONS))
    shape, request = input_shape(service, name), valid(input_shape(service, name))
    path, _ = data.draw(st.sampled_from(list(steps(shape))))
    request = replaced(request, path, data.draw(JSON))
    try:
        decoded = model.operations()[service, name].decode(request)
    except InvalidInputException:
        return
    assert decoded.keys() <= request.keys()


def test_a_bad_value_of_full_length_is_refused_at_once():
    request = event(metricAttribution={"eventAttributionSource": "a" * 1023 + "\n"})
    started = time.process_time()
    with pytest.raises(InvalidInputException):
        model.operations()["personalize-events", "PutEvents"].decode(request)
    assert time.process_time() - started < 0.2


def test_what_is_shown_of_a_value_is_json():
    with pytest.raises(InvalidInputException) as refused:
        model.operations()["personalize", "CreateSchema"].decode({"name": {"a": [1, None]}, "schema": "{}"})
    assert json.dumps({"a": [1, None]}) in str(refused.value)
