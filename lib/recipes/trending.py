r"""Trending-Now: what is used more and more, the same for everyone, counted anew from all events instead of learnt.

The interval that ends now is compared with the interval before it:

.. math:: s_i = \max(0, \; n_i(t - L, t] - n_i(t - 2L, t - L]) + p_i

n counts events, L is ``trend_discovery_frequency``, t the time of the request.  p in [0, 1) grows with the number of
users an item has: it orders what rises alike, and all that does not rise; without events in both intervals that is
every item.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.datasets import Catalogue, Datasets, catalogue
from lib.recipes import files
from lib.recipes.popularity import unique_users
from lib.recipes.recipe import HyperParameter, Model, Progress, Recipe, Request, Value

MINUTE, HOUR = 60, 3_600
INTERVALS = {  # trend_discovery_frequency -> seconds
    "30 minutes": 30 * MINUTE,
    "1 hour": HOUR,
    "2 hours": 2 * HOUR,
    "3 hours": 3 * HOUR,
    "1 day": 24 * HOUR,
}
EVENTS_A_SECOND = 20_000  # a tenth of what can be counted
OLDEST = 2 * HOUR  # at which a list is counted anew, however many events there are
RISING = 25  # items whose rise the metric adds up


@dataclass(frozen=True, slots=True)
class Trend:
    """Every event in the order of time.  items: (N,) int32.  times: (N,) int64 epoch seconds.

    users: (I,) int64, how many different users each item has.  interval: seconds.
    """

    catalogue: Catalogue
    items: np.ndarray
    times: np.ndarray
    users: np.ndarray
    interval: int
    _newest: dict[int, np.ndarray] = field(default_factory=dict, compare=False)  # the last moment's scores

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """(B, I) float32: by how many events each item rose, plus less than 1 for its popularity."""
        moments, rows = np.unique([request.now for request in requests], return_inverse=True)
        return np.stack([self._at(int(now)) for now in moments])[rows]

    def rise(self, now: int) -> np.ndarray:
        """(I,) int64: events in the interval that ends at ``now`` (epoch seconds) less those in the one before."""
        before, begin, end = np.searchsorted(self.times, now - self.interval * np.array([2, 1, 0]), side="right")
        n_items = len(self.users)
        lately = np.bincount(self.items[begin:end], minlength=n_items)
        return lately - np.bincount(self.items[before:begin], minlength=n_items)

    def refreshed(self, datasets: Datasets) -> "Trend":
        """The same over other events, those of new items among them; without any, items are as popular as they were."""
        if datasets.interactions.empty:
            return replace(self, items=self.items[:0], times=self.times[:0], _newest={})
        return _counted(datasets, self.interval)

    @property
    def pace(self) -> float:
        """Seconds after which a campaign counts anew where events came in: counting takes little of its time."""
        return min(OLDEST, len(self.items) / EVENTS_A_SECOND)

    def save(self, folder: Path) -> None:
        arrays = {"items": self.items, "times": self.times, "users": self.users}
        files.write(folder, self.catalogue, {"interval": self.interval}, arrays)

    def embeddings(self) -> None:
        return None

    def _at(self, now: int) -> np.ndarray:
        found = self._newest.get(now)
        if found is None:
            popularity = self.users / (self.users.max() + 1)
            found = (np.maximum(self.rise(now), 0) + popularity).astype(np.float32)
            self._newest.clear()
            self._newest[now] = found
        return found


def fit(
    datasets: Datasets,
    parameters: Mapping[str, Value],
    *,
    seed: int,
    progress: Callable[[Progress], None],
    start: Model | None = None,
) -> Trend:
    """Keep the events; there is nothing to learn, nor to go on from.  Raises ValueError where there are none."""
    model = _counted(datasets, INTERVALS[parameters["trend_discovery_frequency"]])
    progress(Progress(step=1, steps=1, measures={"events": len(model.items)}))
    return model


def load(folder: Path) -> Trend:
    numbers, settings, arrays = files.read(folder)
    return Trend(numbers, arrays["items"], arrays["times"], arrays["users"], settings["interval"])


def trend_prediction(model: Trend, datasets: Datasets) -> dict[str, float]:
    """Of the rise of the fastest rising items into the newest interval, the share that the items forecast had.

    The list of ``RISING`` items is made as it stood one interval before the newest event.  0 where nothing rose.
    """
    truth = model.refreshed(datasets)
    end = int(truth.times[-1])
    forecast = model.scores([Request(history=None, now=end - model.interval)])[0]
    place = pd.Index(truth.catalogue.item_ids).get_indexer(model.catalogue.item_ids)
    chosen = place[np.argsort(-forecast, kind="stable")[:RISING]]
    rise = np.maximum(truth.rise(end), 0)
    most = np.sort(rise)[-RISING:].sum()
    return {"trend_prediction_accuracy": float(rise[chosen].sum() / most) if most else 0.0}


def _counted(datasets: Datasets, interval: int) -> Trend:
    if not len(datasets.interactions):
        raise ValueError("Interactions has no rows to count: import interactions, or let more event types in")
    numbers = catalogue(datasets)
    items = pd.Index(numbers.item_ids).get_indexer(datasets.interactions["ITEM_ID"].to_numpy(dtype=str))
    times = datasets.interactions["TIMESTAMP"].to_numpy(dtype=np.int64)
    return Trend(numbers, items.astype(np.int32), times, unique_users(datasets, numbers), interval)


TRENDING_NOW = Recipe(
    name="aws-trending-now",
    recipe_type="POPULAR_ITEMS",
    description="Ranks items by how fast their use grows from one interval to the next, the same for everyone. "
    "Counted anew from imported and live events, without training.",
    algorithm="aws-trending-now-custom",
    feature_transformation="aws-trending-now",
    fit=fit,
    load=load,
    hyperparameters=(
        HyperParameter(
            name="trend_discovery_frequency",
            default="2 hours",
            meaning="length of the intervals that are compared",
            choices=tuple(INTERVALS),
            transformation=True,
        ),
    ),
    scored=False,
    real_time=False,
    batch=False,
    refreshes=True,
    measure=trend_prediction,
)
