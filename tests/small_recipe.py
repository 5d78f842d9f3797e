"""Data and a recipe that are small enough to follow by hand, for the tests of training, tuning and evaluation."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.data.datasets import Catalogue, Datasets, catalogue, histories
from lib.recipes import files
from lib.recipes.recipe import HyperParameter, Progress, Recipe


def circle(n_users=60, n_items=12, length=12, seed=0):
    """Users who step from an item to the next one, round and round; now and then somebody jumps."""
    rng = np.random.default_rng(seed)
    steps = np.where(rng.random((n_users, length)) < 0.1, rng.integers(n_items, size=(n_users, length)), 1)
    item = (rng.integers(n_items, size=(n_users, 1)) + steps.cumsum(axis=1)) % n_items
    table = pd.DataFrame(
        {
            "USER_ID": np.repeat([f"u{n:03}" for n in range(n_users)], length),
            "ITEM_ID": [f"i{n:02}" for n in item.ravel()],
            "TIMESTAMP": np.arange(n_users * length) * 10,
        }
    )
    return Datasets(interactions=table.sort_values("TIMESTAMP", kind="stable", ignore_index=True))


@dataclass(frozen=True)
class Next:
    """Scores the item that lies ``stride`` after the last one, then what is popular."""

    catalogue: Catalogue
    popularity: np.ndarray
    stride: int
    fits: int

    def scores(self, requests):
        out = np.tile(self.popularity.astype(np.float32), (len(requests), 1))
        for row, request in enumerate(requests):
            last = request.item if request.item >= 0 else request.history.items[-1:]
            out[row, (last + self.stride) % len(self.catalogue.item_ids)] += 1
        return out

    def save(self, folder):
        settings = {"stride": self.stride, "fits": self.fits}
        files.write(folder, self.catalogue, settings, {"popularity": self.popularity})

    def embeddings(self):
        return None


def fit(datasets, parameters, *, seed, progress, start=None):
    if parameters["stride"] == 13:
        raise ValueError("13 brings bad luck")
    numbers = catalogue(datasets)
    done = histories(datasets.interactions, numbers)
    for step in range(1, 5):
        quality = 1 / (1 + abs(parameters["stride"] - 1) + 1 / step)
        progress(Progress(step=step, steps=4, measures={"loss": 1 / step, "validation_score": quality}))
    popularity = np.bincount(done.items, minlength=len(numbers.item_ids)) / max(1, len(done.items))
    return Next(numbers, popularity, parameters["stride"], 1 + (start.fits if start else 0))


def load(folder):
    numbers, settings, arrays = files.read(folder)
    return Next(numbers, arrays["popularity"], settings["stride"], settings["fits"])


RECIPE = Recipe(
    name="next",
    recipe_type="USER_PERSONALIZATION",
    description="What comes next.",
    algorithm="next",
    feature_transformation="next",
    fit=fit,
    load=load,
    updates=True,
    hyperparameters=(
        HyperParameter(name="stride", default=4, meaning="how far to step", low=1, high=20, tunable=True),
        HyperParameter(name="rate", default=0.5, meaning="nothing", low=0, high=1, tunable=True),
        HyperParameter(name="mask", default=True, meaning="nothing", tunable=True),
        HyperParameter(name="width", default=8, meaning="nothing", low=1, high=9),
    ),
)


def saved(folder):
    """Every file of a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Killed(Exception):
    """What a test raises in the middle of a training."""


def killing(after):
    """A progress listener that ends the training at its n-th step."""
    heard = []

    def listen(step):
        heard.append(step)
        if len(heard) == after:
            raise Killed

    return listen
