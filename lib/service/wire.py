"""One request of AWS's JSON protocols answered: bytes in, bytes out.  Both doors are this function.

``personalize`` speaks JSON 1.1 (POST / with X-Amz-Target), the other two REST (POST to the operation's path).  Nothing
here opens a socket, reads a clock or draws a request id.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from lib.resources.errors import ApiError
from lib.service import model
from lib.service.dispatch import Dispatcher, Prepared, UnknownOperationException

JSON_TYPE, REST_TYPE = "application/x-amz-json-1.1", "application/json"
JSON_PATH = "/"  # all operations of the JSON 1.1 service are called here

Authorise = Callable[[str, str, Mapping[str, str], bytes], None]


class SerializationException(ApiError):
    """The body is no JSON object."""


class Answer(NamedTuple):
    """An HTTP response.  operation: what was called, for the log; None if nothing could be.  error: its code."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    operation: model.Operation | None
    error: str | None


def answer(
    dispatcher: Dispatcher,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    request_id: str,
    authorise: Authorise | None = None,
) -> Answer:
    """Answer one request.

    target: path and query as sent.  headers: names in lower case.  authorise: raises ApiError for who may not call;
    it is asked before anything else is looked at.  Raises whatever an operation raises that is no ApiError.
    """
    prepared = prepare(dispatcher, method, target, headers, body, request_id=request_id, authorise=authorise)
    if isinstance(prepared, Answer):
        return prepared
    return perform(dispatcher, prepared, method, target, request_id=request_id)


def prepare(
    dispatcher: Dispatcher,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    request_id: str,
    authorise: Authorise | None = None,
) -> Prepared | Answer:
    """The first half of ``answer``, which asks the account nothing: what is to be performed, or why it will not be."""
    path = target.partition("?")[0]
    operation = None
    try:
        if authorise is not None:
            authorise(method, target, headers, body)
        operation = _route(method, path, headers)
        return read(dispatcher, operation, body)
    except ApiError as error:
        return refuse(method, path, error, request_id=request_id, operation=operation)


def read(dispatcher: Dispatcher, operation: model.Operation, body: bytes) -> Prepared:
    """What a body asks of an operation.  Raises ApiError for what cannot be read, or is refused."""
    return dispatcher.prepare(operation.service, operation.name, _members(body))


def perform(dispatcher: Dispatcher, prepared: Prepared, method: str, target: str, *, request_id: str) -> Answer:
    """The second half of ``answer``."""
    operation = prepared.operation
    try:
        encoded = dispatcher.perform(prepared)
    except ApiError as error:
        return refuse(method, target.partition("?")[0], error, request_id=request_id, operation=operation)
    content = orjson.dumps(encoded, option=orjson.OPT_SERIALIZE_NUMPY) if operation.has_output else b""
    kind = REST_TYPE if operation.is_rest else JSON_TYPE
    return Answer(200, _headers(kind, content, request_id), content, operation, None)


def refuse(
    method: str, path: str, error: ApiError, *, request_id: str, operation: model.Operation | None = None
) -> Answer:
    """The answer that is an error, as the path's protocol has it."""
    code, message = type(error).__name__, str(error)
    if path == JSON_PATH:
        status = model.status("personalize", code)
        content = orjson.dumps({"__type": code, "message": message})
        headers = _headers(JSON_TYPE, content, request_id)
    else:
        status = model.status(operation.service if operation else "personalize-runtime", code)
        content = orjson.dumps({"message": message})
        headers = [*_headers(REST_TYPE, content, request_id), ("x-amzn-errortype", code)]
    if _wrong_method(method, path):
        status = 405
        headers.append(("allow", "POST"))
    return Answer(status, headers, content, operation, code)


def _headers(kind: str, content: bytes, request_id: str) -> list[tuple[str, str]]:
    return [("content-type", kind), ("content-length", str(len(content))), ("x-amzn-requestid", request_id)]


def _wrong_method(method: str, path: str) -> bool:
    return method != "POST" and (path == JSON_PATH or path in model.paths())


def _route(method: str, path: str, headers: Mapping[str, str]) -> model.Operation:
    if _wrong_method(method, path):
        raise UnknownOperationException(f"{method} {path}: operations are called by POST")
    if path != JSON_PATH:
        operation = model.paths().get(path)
        if operation is None:
            raise UnknownOperationException(f"nothing answers at {path}; there are {', '.join(model.paths())}")
        return operation
    target = headers.get("x-amz-target")
    if target is None:
        raise UnknownOperationException("the header X-Amz-Target is missing: it names the operation")
    operation = model.targets().get(target)
    if operation is None:
        raise UnknownOperationException(f"X-Amz-Target {target} names no operation of Amazon Personalize")
    return operation


def _members(body: bytes) -> dict[str, Any]:
    try:
        members = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise SerializationException(f"the body is not JSON: {error}") from None
    if not isinstance(members, dict):
        raise SerializationException(f"the body is a JSON {type(members).__name__}; send an object of members")
    return members
