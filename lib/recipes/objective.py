r"""Recommendations that bring more of something, a price or a margin, and remain what the user wants.

A numeric column of Items tilts the logits of a trained model:

.. math:: s'_{ui} = s_{ui} + \lambda \, r_i

r in [0, 1] is the item's rank by that column, so neither scale nor outliers matter; lambda is the sensitivity.  At
LOW, the best item becomes e times likelier against the worst; at HIGH the objective decides among likely items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.datasets import Catalogue, Datasets
from lib.recipes import files
from lib.recipes.recipe import Fit, Model, Recipe, Request, Value

STRENGTHS = {"LOW": 1.0, "MEDIUM": 2.5, "HIGH": 6.0}  # objectiveSensitivity -> lambda
FOLDER = "objective"  # in the model's own


@dataclass(frozen=True, slots=True)
class Tilted:
    """A model with logits that are raised.  tilt: (I,) float32."""

    model: Model
    tilt: np.ndarray

    @property
    def catalogue(self) -> Catalogue:
        return self.model.catalogue

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """(B, I) float32 logits."""
        return self.model.scores(requests) + self.tilt

    def save(self, folder: Path) -> None:
        self.model.save(folder)
        files.write(folder / FOLDER, self.catalogue, {}, {"tilt": self.tilt})

    def embeddings(self) -> np.ndarray | None:
        return self.model.embeddings()


@dataclass(frozen=True, slots=True)
class AimedFit:
    """``fit``, then a tilt by a column of Items."""

    fit: Fit
    column: str
    strength: float

    def __call__(
        self,
        datasets: Datasets,
        parameters: Mapping[str, Value],
        *,
        start: Model | None = None,
        **how: object,
    ) -> Tilted:
        """Raises ValueError where Items have no such column."""
        if datasets.items is None or self.column not in datasets.items:
            raise ValueError(
                f"optimizationObjective: Items have no column {self.column}: import it, or do not exclude it"
            )
        start = start.model if isinstance(start, Tilted) else start
        model = self.fit(datasets, parameters, start=start, **how)
        return Tilted(model, np.float32(self.strength) * places(datasets, self.column, model.catalogue))


def places(datasets: Datasets, column: str, numbers: Catalogue) -> np.ndarray:
    """(I,) float32 in [0, 1]: the rank of each item by a column of Items; without a value an item is worth least."""
    worth = datasets.items.set_index("ITEM_ID")[column].reindex(numbers.item_ids)
    rank = pd.to_numeric(worth, errors="coerce").rank(method="min", na_option="top").to_numpy() - 1
    return (rank / max(1.0, rank.max())).astype(np.float32)


def aimed(recipe: Recipe, column: str, sensitivity: str) -> Recipe:
    """The recipe trained towards a column of Items.  sensitivity: OFF leaves it as it is."""
    if sensitivity == "OFF":
        return recipe
    return replace(recipe, fit=AimedFit(recipe.fit, column, STRENGTHS[sensitivity]))


def tilted(model: Model, folder: Path) -> Model:
    """The model kept in a folder, with the tilt that is kept beside it, if there is one."""
    if not (folder / FOLDER).exists():
        return model
    _, _, arrays = files.read(folder / FOLDER)
    return Tilted(model, arrays["tilt"])
