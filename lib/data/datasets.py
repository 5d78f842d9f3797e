"""A dataset group's tables as training, evaluation and campaigns see them, and the arrays made of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lib.data.schema import Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasets:
    """The tables of one dataset group, columns named as in their schemas.

    interactions: rows ordered by TIMESTAMP, ties in file order.  items, users: one row an id, ordered by id; None where
    the group has no such dataset.  schemas: dataset type in upper case (``INTERACTIONS``, …) -> its schema.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame | None = None
    users: pd.DataFrame | None = None
    schemas: Mapping[str, Schema] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What a model numbers: items and event types, each sorted, so that a number means the same in every process.

    item_ids: (I,) str, all items of Interactions and Items.  event_types: (E,) str, lower case.
    """

    item_ids: np.ndarray
    event_types: np.ndarray


@dataclass(frozen=True, slots=True)
class History:
    """What one user did, oldest first.

    items: (T,) int32 positions in ``Catalogue.item_ids``; items outside the catalogue are left out.
    times: (T,) int64 epoch seconds.  event_types: (T,) int32 positions in ``Catalogue.event_types``, -1 if unknown.
    """

    items: np.ndarray
    times: np.ndarray
    event_types: np.ndarray


@dataclass(frozen=True, slots=True)
class Histories:
    """All users' histories in one piece.  user_ids: (U,) str, sorted.  offsets: (U + 1,) int64 into the flat arrays.

    items, times, event_types: (N,) as in ``History``; user n owns ``offsets[n]:offsets[n + 1]``.
    """

    user_ids: np.ndarray
    offsets: np.ndarray
    items: np.ndarray
    times: np.ndarray
    event_types: np.ndarray

    def __getitem__(self, user: int) -> History:
        rows = slice(self.offsets[user], self.offsets[user + 1])
        return History(self.items[rows], self.times[rows], self.event_types[rows])

    def of(self, user_id: str) -> History:
        """The history of a user, empty for an unknown one."""
        user = int(np.searchsorted(self.user_ids, user_id))
        if user < len(self.user_ids) and self.user_ids[user] == user_id:
            return self[user]
        return History(self.items[:0], self.times[:0], self.event_types[:0])


def catalogue(datasets: Datasets) -> Catalogue:
    """Number the items and event types of a dataset group."""
    ids = [datasets.interactions["ITEM_ID"]]
    if datasets.items is not None:
        ids.append(datasets.items["ITEM_ID"])
    item_ids = np.unique(np.concatenate([column.to_numpy(dtype=str) for column in ids]))
    return Catalogue(item_ids, np.unique(_event_types(datasets.interactions)))


def histories(interactions: pd.DataFrame, numbers: Catalogue) -> Histories:
    """Interactions, ordered by time, as one history a user; rows of items outside the catalogue are left out."""
    item = pd.Index(numbers.item_ids).get_indexer(interactions["ITEM_ID"].to_numpy(dtype=str))
    known = item >= 0
    user_ids, user = np.unique(interactions["USER_ID"].to_numpy(dtype=str), return_inverse=True)
    order = np.flatnonzero(known)[np.argsort(user[known], kind="stable")]
    event_type = pd.Index(numbers.event_types).get_indexer(_event_types(interactions))
    return Histories(
        user_ids,
        np.concatenate([[0], np.cumsum(np.bincount(user[known], minlength=len(user_ids)))]).astype(np.int64),
        item[order].astype(np.int32),
        interactions["TIMESTAMP"].to_numpy(dtype=np.int64)[order],
        event_type[order].astype(np.int32),
    )


def _event_types(interactions: pd.DataFrame) -> np.ndarray:
    """(N,) str: event types compare without regard to case; none at all counts as one type without a name."""
    if "EVENT_TYPE" not in interactions:
        return np.full(len(interactions), "")
    return interactions["EVENT_TYPE"].fillna("").str.lower().to_numpy(dtype=str)
