"""What a recipe declares and what a trained model can do; every recipe file fills in these two."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lib.data.datasets import Catalogue, Datasets, History

Value = int | float | bool | str


def number(text: str, kind: type = float) -> int | float:
    """A number that a caller sent as a string.  Raises ValueError for blanks, underscores, words, other digits."""
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        raise ValueError(f"{text!r} is not a number")
    return kind(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class HyperParameter:
    """One setting of a recipe: the only place that knows its type, default and range.

    low, high: inclusive bounds of an int or float.  choices: the values of a bool or str.  tunable: HPO may search it.
    transformation: it travels in ``featureTransformationParameters`` rather than ``algorithmHyperParameters``.
    """

    name: str
    default: Value
    meaning: str
    low: int | float | None = None
    high: int | float | None = None
    choices: tuple[Value, ...] = ()
    tunable: bool = False
    transformation: bool = False

    def parse(self, text: str) -> Value:
        """The value a caller sent as a string.  Raises ValueError that names what was found and expected."""
        kind = type(self.default)
        if kind is bool:
            if text.lower() in ("true", "false"):
                return text.lower() == "true"
            raise ValueError(f"{self.name} is {text!r}, expected true or false")
        if kind is str:
            if text in self.choices:
                return text
            raise ValueError(f"{self.name} is {text!r}, expected one of {', '.join(map(str, self.choices))}")
        try:
            value = number(text, kind)
        except ValueError:
            raise ValueError(
                f"{self.name} is {text!r}, expected {kind.__name__} in [{self.low}, {self.high}]"
            ) from None
        if not self.low <= value <= self.high:
            raise ValueError(f"{self.name} is {text}, outside [{self.low}, {self.high}]")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a model is asked: whom to recommend for, when, and in which situation.

    now: epoch seconds; ages of items count back from it.  item: position in the catalogue of the item that related ones
    are wanted for, -1 for none or an unknown one.  user: the user's row of the Users dataset.  context: column of
    Interactions -> value, for this request only.  actions: what the user did about actions, as positions among the
    model's, None for nothing; only models of actions look at it.
    """

    history: History
    now: int
    item: int = -1
    user: Mapping[str, object] = field(default_factory=dict)
    context: Mapping[str, str] = field(default_factory=dict)
    actions: History | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of a training: step of steps, and what was measured (loss, validation score).  No clock in it."""

    step: int
    steps: int
    measures: Mapping[str, float]


class Model(Protocol):
    """Something trained.  The same arrays give the same scores in any process."""

    catalogue: Catalogue

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """(B, I) float32: logits of every item of the catalogue, finite; higher is better, softmax is their chance."""
        ...

    def save(self, folder: Path) -> None:
        """Write what ``Recipe.load`` reads: safetensors, Parquet and JSON, never pickle; the same bytes every time."""
        ...

    def embeddings(self) -> np.ndarray | None:
        """(I, D) float32 places of the items in the model's own space, None where it has none."""
        ...


class Segmenter(Protocol):
    """Something trained that chooses users.  user_ids: (U,) str, sorted."""

    catalogue: Catalogue
    user_ids: np.ndarray

    def scores(self, queries: Sequence[np.ndarray]) -> np.ndarray:
        """Sets of items, as positions in the catalogue -> (B, U) float32: finite; higher is better."""
        ...

    def save(self, folder: Path) -> None:
        """As ``Model.save``."""
        ...

    def embeddings(self) -> np.ndarray | None:
        """As ``Model.embeddings``."""
        ...


class Fit(Protocol):
    """Train on these datasets.

    start: a model of the same recipe to go on from: new users, events and items enter cheaply, what was learnt is kept.
    progress is told after each step; an exception it raises (stopped, pruned) ends the training.
    Raises ValueError with cause and remedy for data no model can be made of.
    """

    def __call__(
        self,
        datasets: Datasets,
        parameters: Mapping[str, Value],
        *,
        seed: int,
        progress: Callable[[Progress], None],
        start: Model | None = None,
    ) -> Model: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One line of the recipe catalogue.

    scored: answers carry scores.  real_time: a user's events change the next answer.  updates: UPDATE versions can be
    trained.  batch: batch inference jobs can run it.  explores: campaigns mix in new items.  refreshes: its models have
    ``refreshed(datasets)``, the same model over what came since, and ``pace``, the seconds after which that is due.
    resumes: its fit takes ``checkpoint``, a file from which the training of the same data goes on after a kill.
    items_alone: Items are enough to train on, interactions add what they can.
    measure: a trained model and all data -> metrics that only this recipe has.  queries: what segments of users may be
    asked for by: all data and a catalogue -> text of the query -> positions of its items.  forget: of models that name
    users: a saved model's folder, and users to take out of it.
    """

    name: str
    recipe_type: str
    description: str
    algorithm: str
    feature_transformation: str
    fit: Fit
    load: Callable[[Path], Model]
    hyperparameters: tuple[HyperParameter, ...] = ()
    scored: bool = True
    real_time: bool = True
    updates: bool = False
    batch: bool = True
    explores: bool = False
    refreshes: bool = False
    resumes: bool = False
    items_alone: bool = False
    measure: Callable[[Any, Datasets], Mapping[str, float]] | None = None
    queries: Callable[[Datasets, Catalogue], Mapping[str, np.ndarray]] | None = None
    forget: Callable[[Path, Collection[str]], None] | None = None

    def values(self, given: Mapping[str, str]) -> dict[str, Value]:
        """Every hyperparameter's value: the given strings parsed, defaults for the rest.

        Raises ValueError for a name the recipe does not have, a value outside its range, a ``min_`` above its ``max_``.
        """
        known = {parameter.name: parameter for parameter in self.hyperparameters}
        for name in given:
            if name not in known:
                raise ValueError(
                    f"Provide a hyperparameter that is used in the algorithm: arn:aws:personalize:::algorithm/"
                    f"{self.algorithm}; {name!r} is not one of {', '.join(known) or '(none)'}"
                )
        found = {name: p.parse(given[name]) if name in given else p.default for name, p in known.items()}
        for most in (name for name in found if name.startswith("max_")):
            least = most.replace("max_", "min_", 1)
            if least in found and found[least] > found[most]:
                raise ValueError(f"{least} is {found[least]}, above {most}, which is {found[most]}")
        return found
