"""Requests drawn from the service models' shapes: valid ones, and ones with something wrong somewhere."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

from botocore.model import Shape
from hypothesis import strategies as st

from tests.wire.members import REQUEST, shapes

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300)  # lone surrogates too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=6,
)
# What the models' patterns say in Java -> near enough in Python, for drawing: what is drawn need not be valid.
JAVA = {r"\p{L}\p{Z}\p{N}": "a-zA-Z0-9 ", r"\p{ASCII}": r"[\x00-\x7f]"}

Known = Mapping[str, Sequence[Any]]


@cache
def _of_pattern(pattern: str) -> st.SearchStrategy[str]:
    for java, python in JAVA.items():
        pattern = pattern.replace(java, python)
    return st.from_regex(pattern, fullmatch=True)


class Requests:
    """Strategies of an operation's members.

    known: name of a member, or of its shape -> values that mean something to the service.
    """

    def __init__(self, known: Known):
        self.known = known

    def valid(self, operation: str) -> st.SearchStrategy[dict[str, Any]]:
        """Requests that the model permits, or nearly so; many name things that exist."""
        return self._of(shapes(operation)[REQUEST], "")

    @st.composite
    @staticmethod
    def _spoilt(draw: Any, requests: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
        request = deepcopy(draw(requests))  # parts of it may be among what is known
        place, steps = request, draw(st.integers(0, 4))
        while isinstance(place, dict | list) and place:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if steps == 0 or not isinstance(place[key], dict | list) or not place[key]:
                if draw(st.booleans()):
                    place[key] = draw(JSON)
                else:
                    del place[key]
                break
            place, steps = place[key], steps - 1
        return request

    def spoilt(self, operation: str) -> st.SearchStrategy[dict[str, Any]]:
        """The same with one member, at any depth, replaced by something else or left out."""
        return self._spoilt(self.valid(operation))

    def _of(self, shape: Shape, member: str) -> st.SearchStrategy[Any]:
        found = [*self.known.get(member, ()), *self.known.get(shape.name, ())]
        drawn = self._drawn(shape)
        return st.one_of(st.sampled_from(found), st.sampled_from(found), drawn) if found else drawn

    def _drawn(self, shape: Shape) -> st.SearchStrategy[Any]:
        low, high = shape.metadata.get("min"), shape.metadata.get("max")
        match shape.type_name:
            case "structure":
                members = {name: self._of(inner, name) for name, inner in shape.members.items()}
                needed = {name: members.pop(name) for name in shape.required_members}
                return st.fixed_dictionaries(needed, optional=members)
            case "list":
                return st.lists(self._of(shape.member, ""), min_size=low or 0, max_size=min(high or 3, (low or 0) + 3))
            case "map":
                return st.dictionaries(self._of(shape.key, "key"), self._of(shape.value, "value"), max_size=3)
            case "boolean":
                return st.booleans()
            case "integer" | "long":
                edges = [edge for edge in (low, high) if edge is not None] or [0]
                return st.sampled_from(edges) | st.integers(low, high)
            case "float" | "double":
                return st.floats(low, high, allow_nan=False)
            case "timestamp":
                return st.integers(-(2**63), 2**63) | st.floats() | st.just("2024-01-01T00:00:00Z") | ANY_TEXT
        if shape.enum:
            return st.sampled_from(shape.enum)
        free = st.text(min_size=low or 0, max_size=min(high or 40, 300))
        return _of_pattern(shape.metadata["pattern"]) | free if "pattern" in shape.metadata else free
