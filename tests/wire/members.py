"""What the service models can carry, and what a dispatcher has seen of it."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import orjson
from botocore.loaders import create_loader
from botocore.model import ServiceModel, Shape

from lib.service.dispatch import Dispatcher, Prepared
from lib.service.model import SERVICES

REQUEST, ANSWER = "request", "answer"


@cache
def models() -> tuple[ServiceModel, ...]:
    """The three service models, as botocore reads them."""
    return tuple(ServiceModel(create_loader().load_service_model(name, "service-2"), name) for name in SERVICES)


@cache
def shapes(operation: str) -> dict[str, Shape | None]:
    """The shapes of an operation's request and answer."""
    (found,) = (model.operation_model(operation) for model in models() if operation in model.operation_names)
    return {REQUEST: found.input_shape, ANSWER: found.output_shape}


@cache
def described() -> dict[str, frozenset[str]]:
    """Of requests and of answers, every member at every depth: ``CreateSolution.solutionConfig.hpoConfig``."""
    names = sorted(name for model in models() for name in model.operation_names)
    return {
        way: frozenset(f"{name}.{path}" for name in names if shapes(name)[way] for path in _paths(shapes(name)[way]))
        for way in (REQUEST, ANSWER)
    }


def _paths(shape: Shape) -> Iterator[str]:
    """The members below a shape; elements of lists and values of maps add no step."""
    match shape.type_name:
        case "structure":
            for name, member in shape.members.items():
                yield name
                yield from (f"{name}.{path}" for path in _paths(member))
        case "list":
            yield from _paths(shape.member)
        case "map":
            yield from _paths(shape.value)


def carried(value: Any, shape: Shape) -> Iterator[str]:
    """The members that a request or answer holds, each as ``described`` spells it."""
    match shape.type_name:
        case "structure":
            for name, inner in value.items():
                yield name
                yield from (f"{name}.{path}" for path in carried(inner, shape.members[name]))
        case "list":
            for inner in value:
                yield from carried(inner, shape.member)
        case "map":
            for inner in value.values():
                yield from carried(inner, shape.value)


class Recording(Dispatcher):
    """Remembers what was accepted and what was returned.

    calls: operation -> request and answer of each call that was not refused.
    """

    def __init__(self, account: Any, functions: Mapping[str, Callable[..., Any]]):
        super().__init__(account, functions)
        self.calls: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
        self._prepared: dict[int, tuple[Prepared, dict[str, Any]]] = {}

    def prepare(self, service: str, operation: str, parameters: Any) -> Prepared:
        prepared = super().prepare(service, operation, parameters)
        self._prepared[id(prepared)] = prepared, parameters
        return prepared

    def perform(self, prepared: Prepared) -> dict[str, Any]:
        _, parameters = self._prepared.pop(id(prepared))
        answer = super().perform(prepared)
        told = orjson.loads(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))
        self.calls.setdefault(prepared.operation.name, []).append((parameters, told))
        return answer

    def seen(self) -> dict[str, set[str]]:
        """As ``described``, but only what was there."""
        found: dict[str, set[str]] = {REQUEST: set(), ANSWER: set()}
        for operation, calls in self.calls.items():
            for call in calls:
                for way, value in zip((REQUEST, ANSWER), call):
                    if shapes(operation)[way] is not None:
                        found[way] |= {f"{operation}.{path}" for path in carried(value, shapes(operation)[way])}
        return found
