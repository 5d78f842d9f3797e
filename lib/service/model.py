"""The three services as AWS describes them: botocore's service models, compiled once into functions.

A request's members are checked for what the model says of them (required, type, length, range, pattern, enumeration,
size of lists and maps) and turned into Python values; an answer is walked along its output shape.  Whatever violates a
shape is an InvalidInputException, in all three services and for every kind of constraint; only a body that is no JSON
object is a SerializationException.  Members the model does not know, and members that are null, are left out.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import chain
from typing import Any

import orjson
from botocore import xform_name
from botocore.loaders import create_loader
from botocore.model import ServiceModel, Shape

from lib.resources.errors import InvalidInputException

SERVICES = ("personalize", "personalize-runtime", "personalize-events")

SHOWN_CHARACTERS = 100  # of a value that was refused

# Errors that any AWS service may answer and no model lists -> status at JSON 1.1 services, at REST services.
COMMON_ERRORS = {
    "AccessDeniedException": (400, 403),
    "IncompleteSignatureException": (400, 403),
    "InternalFailure": (500, 500),
    "InvalidSignatureException": (400, 403),
    "MissingAuthenticationTokenException": (400, 403),
    "RequestEntityTooLargeException": (413, 413),
    "SerializationException": (400, 400),
    "ThrottlingException": (400, 429),
    "UnknownOperationException": (400, 404),
    "UnrecognizedClientException": (400, 403),
}

# What the models' regular expressions (Java's) hold -> the same in Python's.
_TRANSLATIONS = {
    # the models never use letters without digits and "_"
    r"\p{ASCII}": r"[\x00-\x7f]",
    r"\p{L}": r"\w",
    r"\p{N}": r"\w",
    r"\p{Z}": r"\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    # one repetition less: the same language, but not a second of backtracking for a bad value of full length
    r"[\x21-\x7E]+[\x20-\x7E]*": r"[\x21-\x7E][\x20-\x7E]*",
}

Decoder = Callable[[Any], Any]
Encoder = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    function: its name and ``keywords`` (member -> keyword) the names of its parameters, as boto3 spells them.
    decode: the members of a request -> checked Python values, under the same names; raises InvalidInputException.
    encode: an answer, a dict of members or an object with boto3's names as attributes -> what JSON can say.
    """

    service: str
    name: str
    function: str
    is_rest: bool
    has_output: bool
    keywords: Mapping[str, str]
    decode: Decoder
    encode: Encoder


@cache
def operations() -> Mapping[tuple[str, str], Operation]:
    """(service, operation) -> what the models say of it."""
    return {
        (service, name): _operation(service, name) for service in SERVICES for name in _model(service).operation_names
    }


@cache
def targets() -> Mapping[str, Operation]:
    """X-Amz-Target -> operation, of the services that speak JSON 1.1."""
    return {
        f"{_model(operation.service).metadata['targetPrefix']}.{operation.name}": operation
        for operation in operations().values()
        if not operation.is_rest
    }


@cache
def paths() -> Mapping[str, Operation]:
    """Path -> operation, of the services that speak REST; all are called by POST."""
    return {
        _model(operation.service).operation_model(operation.name).http["requestUri"]: operation
        for operation in operations().values()
        if operation.is_rest
    }


@cache
def status(service: str, error: str) -> int:
    """The HTTP status of an error: the model's, else the one AWS's services have in common, else 400."""
    model = _model(service)
    if error in model.shape_names:
        return model.shape_for(error).metadata.get("error", {}).get("httpStatusCode", 400)
    return COMMON_ERRORS.get(error, (400, 400))[_is_rest(model)]


@cache
def _model(service: str) -> ServiceModel:
    return ServiceModel(create_loader().load_service_model(service, "service-2"), service)


def _is_rest(model: ServiceModel) -> bool:
    return model.metadata["protocol"] == "rest-json"


def _operation(service: str, name: str) -> Operation:
    model = _model(service)
    operation = model.operation_model(name)
    output = operation.output_shape
    return Operation(
        service=service,
        name=name,
        function=xform_name(name),
        is_rest=_is_rest(model),
        has_output=output is not None,
        keywords={member: xform_name(member) for member in operation.input_shape.members},
        decode=_refusing(_decoder(service, operation.input_shape.name)),
        encode=_nothing if output is None else _encoder(service, output.name),
    )


def _nothing(answer: Any) -> dict[str, Any]:
    if answer:
        raise TypeError(f"this operation answers nothing, but its function returned {answer!r}")
    return {}


# --- requests -------------------------------------------------------------------------------------------------------


class _Violation(Exception):
    """A value that its shape refuses, and the way to it, written while the walk unwinds."""

    def __init__(self, found: Any, accepted: str):
        self.found, self.accepted, self.path, self.sensitive = found, accepted, "", False

    def below(self, step: str) -> "_Violation":
        separator = "." if self.path and not self.path.startswith("[") else ""
        self.path = f"{step}{separator}{self.path}"
        return self


def _refusing(decode: Decoder) -> Decoder:
    def refuse(parameters: Any) -> Any:
        try:
            return decode(parameters)
        except _Violation as violation:
            raise InvalidInputException(_explain(violation)) from None

    return refuse


def _explain(violation: _Violation) -> str:
    """The sentence of AWS's own validation errors; a member marked sensitive keeps its value to itself."""
    shown = "" if violation.sensitive else f" {_shorten(violation.found)}"
    place = f"'{violation.path}'" if violation.path else "the top level"
    return (
        f"1 validation error detected: Value{shown} at {place} failed to satisfy constraint: "
        f"Member must {violation.accepted}"
    )


def _shorten(found: Any) -> str:
    if found is None:
        return "null"
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)
    return f"'{text}'" if len(text) <= SHOWN_CHARACTERS else f"'{text[:SHOWN_CHARACTERS]}...'"


@cache
def _decoder(service: str, name: str) -> Decoder:
    shape = _model(service).shape_for(name)
    if shape.metadata.get("sensitive"):
        return _hiding(_DECODERS[shape.type_name](service, shape))
    return _DECODERS[shape.type_name](service, shape)


def _hiding(decode: Decoder) -> Decoder:
    def hide(found: Any) -> Any:
        try:
            return decode(found)
        except _Violation as violation:
            violation.sensitive = True
            raise

    return hide


def _string(service: str, shape: Shape) -> Decoder:
    shortest, longest = shape.metadata.get("min", 0), shape.metadata.get("max", math.inf)
    pattern, values = shape.metadata.get("pattern"), frozenset(shape.enum)
    matches = _matcher(pattern) if pattern else None

    def decode(found: Any) -> str:
        if type(found) is not str:
            raise _Violation(found, "be a string")
        if "\0" in found:
            raise _Violation(found, "hold no NUL character")  # no database could be asked for it
        if not shortest <= len(found) <= longest:
            raise _Violation(found, _length(len(found), shortest, longest))
        if matches is not None and not matches(found):
            raise _Violation(found, f"satisfy regular expression pattern: {pattern}")
        if values and found not in values:
            raise _Violation(found, f"satisfy enum value set: [{', '.join(shape.enum)}]")
        return found

    return decode


def _matcher(pattern: str) -> Callable[[str], object]:
    """AWS matches the whole value, whether or not the pattern says so by ^ and $."""
    translated = pattern
    for java, python in _TRANSLATIONS.items():
        translated = translated.replace(java, python)
    return re.compile(translated, 0 if r"\w" in translated else re.ASCII).fullmatch


def _length(found: int, shortest: float, longest: float) -> str:
    """Of strings, lists and maps."""
    if found < shortest:
        return f"have length greater than or equal to {shortest}"
    return f"have length less than or equal to {longest}"


def _integer(service: str, shape: Shape) -> Decoder:
    bits = 63 if shape.type_name == "long" else 31
    low, high = shape.metadata.get("min", -(2**bits)), shape.metadata.get("max", 2**bits - 1)

    def decode(found: Any) -> int:
        if type(found) is not int:
            raise _Violation(found, "be an integer")
        if not low <= found <= high:
            raise _Violation(found, _range(found, low, high))
        return found

    return decode


def _number(service: str, shape: Shape) -> Decoder:
    low, high = shape.metadata.get("min", -math.inf), shape.metadata.get("max", math.inf)

    def decode(found: Any) -> float:
        if type(found) is not float and type(found) is not int:
            raise _Violation(found, "be a number")
        if not low <= found <= high:
            raise _Violation(found, _range(found, low, high))
        return float(found)

    return decode


def _range(found: float, low: float, high: float) -> str:
    if found < low:
        return f"have value greater than or equal to {low}"
    return f"have value less than or equal to {high}"


def _boolean(service: str, shape: Shape) -> Decoder:
    def decode(found: Any) -> bool:
        if type(found) is not bool:
            raise _Violation(found, "be true or false")
        return found

    return decode


def _timestamp(service: str, shape: Shape) -> Decoder:
    return _moment


def _moment(found: Any) -> datetime:
    """Seconds since 1970 as a number or in a string, or ISO 8601 -> UTC, aware."""
    try:
        if type(found) is str:
            return _parse_moment(found)
        if type(found) is int or type(found) is float:
            return datetime.fromtimestamp(found, UTC)
    except (ValueError, OverflowError, OSError):
        pass  # told below, in the words of the other violations
    raise _Violation(found, "be a time: seconds since 1970-01-01 UTC, or ISO 8601; years 1 to 9999")


def _parse_moment(text: str) -> datetime:
    try:
        seconds = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return datetime.fromtimestamp(seconds, UTC)


def _list(service: str, shape: Shape) -> Decoder:
    shortest, longest = shape.metadata.get("min", 0), shape.metadata.get("max", math.inf)
    element = _decoder(service, shape.member.name)

    def decode(found: Any) -> list[Any]:
        if type(found) is not list:
            raise _Violation(found, "be a list")
        if not shortest <= len(found) <= longest:
            raise _Violation(found, _length(len(found), shortest, longest))
        decoded: list[Any] = []
        try:
            for value in found:
                decoded.append(element(value))  # one by one: the length tells which was refused
        except _Violation as violation:
            raise violation.below(f"[{len(decoded)}]") from None
        return decoded

    return decode


def _map(service: str, shape: Shape) -> Decoder:
    shortest, longest = shape.metadata.get("min", 0), shape.metadata.get("max", math.inf)
    decode_key, decode_value = _decoder(service, shape.key.name), _decoder(service, shape.value.name)

    def decode(found: Any) -> dict[str, Any]:
        if type(found) is not dict:
            raise _Violation(found, "be an object")
        if not shortest <= len(found) <= longest:
            raise _Violation(found, _length(len(found), shortest, longest))
        decoded = {}
        for key, value in found.items():
            try:
                decoded[decode_key(key)] = decode_value(value)
            except _Violation as violation:
                raise violation.below(f"[{_shorten(key)}]") from None
        return decoded

    return decode


def _structure(service: str, shape: Shape) -> Decoder:
    members = {name: _decoder(service, member.name) for name, member in shape.members.items()}
    required = tuple(shape.required_members)

    def decode(found: Any) -> dict[str, Any]:
        if type(found) is not dict:
            raise _Violation(found, "be an object")
        decoded = {}
        for name, value in found.items():
            member = members.get(name)
            if member is None or value is None:
                continue
            try:
                decoded[name] = member(value)
            except _Violation as violation:
                raise violation.below(name) from None
        for name in required:
            if name not in decoded:
                raise _Violation(None, "not be null").below(name)
        return decoded

    return decode


_DECODERS: dict[str, Callable[[str, Shape], Decoder]] = {
    "boolean": _boolean,
    "double": _number,
    "float": _number,
    "integer": _integer,
    "list": _list,
    "long": _integer,
    "map": _map,
    "string": _string,
    "structure": _structure,
    "timestamp": _timestamp,
}


# --- answers --------------------------------------------------------------------------------------------------------


@cache
def _encoder(service: str, name: str) -> Encoder | None:
    """None for what JSON says as it is."""
    shape = _model(service).shape_for(name)
    match shape.type_name:
        case "structure":
            return _structure_encoder(service, shape)
        case "list":
            return _list_encoder(service, shape)
        case "map":
            inner = _encoder(service, shape.value.name)
            return None if inner is None else lambda values: {key: inner(value) for key, value in values.items()}
        case "timestamp":
            return _seconds
    return None


def _list_encoder(service: str, shape: Shape) -> Encoder | None:
    element, member = _encoder(service, shape.member.name), shape.member
    if element is None:
        return None
    plain = member.type_name == "structure" and frozenset(
        name for name, inner in member.members.items() if _encoder(service, inner.name) is None
    )

    def encode(values: Any) -> list[Any] | orjson.Fragment:
        if type(values) is orjson.Fragment:
            return values  # JSON already
        if plain and set(map(type, values)) == {dict}:
            # the answers there are most of, for which looking at each member would cost most of the time
            found = chain.from_iterable(map(dict.values, values))
            if plain.issuperset(chain.from_iterable(values)) and None not in found:
                return values
        return [element(value) for value in values]

    return encode


def _seconds(moment: datetime) -> float:
    """Seconds since 1970, with milliseconds."""
    if moment.tzinfo is None:
        raise TypeError(f"{moment!r} is in no time zone; the account's clock is UTC and aware")
    return round(moment.timestamp(), 3)


def _structure_encoder(service: str, shape: Shape) -> Encoder:
    members = {name: _encoder(service, member.name) for name, member in shape.members.items()}
    attributes = [(name, xform_name(name), encoder) for name, encoder in members.items()]
    plain = frozenset(name for name, encoder in members.items() if encoder is None)
    shape_name = shape.name

    def encode(value: Any) -> dict[str, Any]:
        encoded = {}
        if isinstance(value, dict):
            if plain.issuperset(value) and None not in value.values():
                return value
            for name, found in value.items():
                if found is None:
                    continue
                if name not in members:
                    raise TypeError(f"{name!r} is no member of {shape_name}, which has {', '.join(members)}")
                encoder = members[name]
                encoded[name] = found if encoder is None else encoder(found)
            return encoded
        for name, attribute, encoder in attributes:
            found = getattr(value, attribute, None)
            if found is not None:
                encoded[name] = found if encoder is None else encoder(found)
        return encoded

    return encode
