"""From an operation's name and members to its answer: what both doors call."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from lib.resources.errors import ApiError, InvalidInputException
from lib.service import model


class UnknownOperationException(ApiError):
    """No operation answers to that, or not yet."""


@dataclass(frozen=True, slots=True)
class _Call:
    """An operation and the function that performs it.  unavailable: members the function has no parameter for."""

    operation: model.Operation
    function: Callable[..., Any] | None
    unavailable: frozenset[str]


class Prepared(NamedTuple):
    """A request that its model lets through.  members: checked, by the names of the function's parameters."""

    operation: model.Operation
    function: Callable[..., Any]
    members: dict[str, Any]


class Dispatcher:
    """The operations of one account.

    functions: name as boto3 spells it -> function of the account and of the operation's members as keywords.  Raises
    ValueError for a name that no service has.
    """

    def __init__(self, account: Any, functions: Mapping[str, Callable[..., Any]]):
        known = {operation.function for operation in model.operations().values()}
        if unknown := functions.keys() - known:
            raise ValueError(f"no operation of {', '.join(model.SERVICES)} is called {', '.join(sorted(unknown))}")
        self.account = account
        self._calls = {
            key: _call(operation, functions.get(operation.function)) for key, operation in model.operations().items()
        }

    def call(self, service: str, operation: str, parameters: Any) -> dict[str, Any]:
        """Perform an operation: its members as JSON holds them -> the members of its answer as JSON holds them.

        Raises ApiError: the operation's own errors, InvalidInputException for what the model refuses,
        UnknownOperationException for what is not there.
        """
        return self.perform(self.prepare(service, operation, parameters))

    def prepare(self, service: str, operation: str, parameters: Any) -> Prepared:
        """All of ``call`` that does not ask the account anything."""
        call = self._calls.get((service, operation))
        if call is None:
            raise UnknownOperationException(f"{service} has no operation {operation}")
        if call.function is None:
            raise UnknownOperationException(f"{operation} is not available in this version")
        members = call.operation.decode(parameters)
        if call.unavailable and (unavailable := call.unavailable & members.keys()):
            raise InvalidInputException(
                f"{operation}: {min(unavailable)} is not available in this version; leave it out"
            )
        keywords = call.operation.keywords
        return Prepared(call.operation, call.function, {keywords[name]: value for name, value in members.items()})

    def perform(self, prepared: Prepared) -> dict[str, Any]:
        """The members of the answer as JSON holds them.  Raises the operation's own errors."""
        return prepared.operation.encode(prepared.function(self.account, **prepared.members))


def _call(operation: model.Operation, function: Callable[..., Any] | None) -> _Call:
    if function is None:
        return _Call(operation, None, frozenset())
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return _Call(operation, function, frozenset())
    unavailable = (member for member, keyword in operation.keywords.items() if keyword not in parameters)
    return _Call(operation, function, frozenset(unavailable))
