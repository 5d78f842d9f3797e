"""Which interactions a model may learn from, and which it has to foresee."""

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, slots=True)
class Split:
    """Interactions in three parts, each ordered by TIMESTAMP, ties in file order.

    train: what the model learns from.  known: what a request may know of the users it is tested on.
    held_out: what these users did next, at least one row each.
    """

    train: pd.DataFrame
    known: pd.DataFrame
    held_out: pd.DataFrame


def split_users(interactions: pd.DataFrame, *, seed: int, fold: int = 0) -> Split:
    """Personalize's own split: nine users of ten train; of the tenth the newest tenth of the interactions is held out.

    fold: 0 to 9, which tenth of the users is tested; the ten folds do not overlap.  Users of one interaction train.
    Raises ValueError where nobody can be tested.
    """
    if not 0 <= fold < 10:
        raise ValueError(f"fold is {fold}, expected 0 to 9")
    user, user_ids = pd.factorize(interactions["USER_ID"], sort=True)
    counts = np.bincount(user)
    eligible = np.flatnonzero(counts >= 2)
    drawn = np.random.default_rng(seed).permutation(eligible)[fold::10]
    if not len(drawn) or len(drawn) == len(user_ids):
        raise ValueError(
            f"{len(eligible)} of {len(user_ids)} users have two or more interactions: too few to train on some and "
            "test on others; add interactions"
        )
    ordered = _by_time(interactions)
    tested = np.isin(user, drawn)[ordered]
    interactions = interactions.iloc[ordered]
    rest = interactions[tested]
    held_out = newest(rest, share=0.1)
    return Split(interactions[~tested], rest[~held_out], rest[held_out])


def split_newest(interactions: pd.DataFrame, *, share: float | None = None, count: int | None = None) -> Split:
    """Every user trains and is tested: each one's newest interactions, a share or a count of them, are held out.

    ``share=0.2`` is Personalize's split for user segmentation, ``count=1`` the literature's leave-one-out.
    """
    interactions = interactions.iloc[_by_time(interactions)]
    held_out = newest(interactions, share=share, count=count)
    train = interactions[~held_out]
    tested = train["USER_ID"].isin(interactions["USER_ID"][held_out]).to_numpy()
    return Split(train, train[tested], interactions[held_out])


def split_time(interactions: pd.DataFrame, *, at: int) -> Split:
    """A model of the past meets what came: rows before ``at`` (epoch seconds) train, the others are held out.

    Users who first appear after ``at`` are tested without a history.  Raises ValueError where either part is empty.
    """
    interactions = interactions.iloc[_by_time(interactions)]
    later = interactions["TIMESTAMP"].to_numpy() >= at
    if later.all() or not later.any():
        times = interactions["TIMESTAMP"]
        raise ValueError(f"time {at} does not part the interactions, which lie between {times.min()} and {times.max()}")
    train, held_out = interactions[~later], interactions[later]
    return Split(train, train[train["USER_ID"].isin(held_out["USER_ID"]).to_numpy()], held_out)


def time_before_newest(interactions: pd.DataFrame, share: float = 0.1) -> int:
    """The time (epoch seconds) at or after which the newest share of the interactions lies, for ``split_time``."""
    times = np.sort(interactions["TIMESTAMP"].to_numpy(dtype=np.int64))
    return int(times[len(times) - _rounded(share, len(times))])


def newest(interactions: pd.DataFrame, *, share: float | None = None, count: int | None = None) -> np.ndarray:
    """(N,) bool: the newest rows of each user, by TIMESTAMP, ties in file order.

    Of n rows max(1, floor(share * n + 0.5)), or ``count``, are newest; at least one row stays old, so a user of one row
    has none.
    """
    if (share is None) == (count is None):
        raise ValueError("newest needs either share or count")
    ordered = _by_time(interactions)
    user = pd.factorize(interactions["USER_ID"], sort=True)[0][ordered]
    counts = np.bincount(user)
    wanted = np.full(len(counts), count) if share is None else _rounded(share, counts)
    grouped = np.argsort(user, kind="stable")
    place = np.empty(len(user), dtype=np.int64)  # 0 for a user's oldest row
    place[grouped] = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.empty(len(user), dtype=bool)
    chosen[ordered] = place >= (counts - np.minimum(wanted, counts - 1))[user]
    return chosen


def _rounded(share: float, counts: np.ndarray) -> np.ndarray:
    return np.maximum(1, np.floor(share * counts + 0.5)).astype(np.int64)


def _by_time(interactions: pd.DataFrame) -> np.ndarray:
    return np.argsort(interactions["TIMESTAMP"].to_numpy(dtype=np.int64), kind="stable")
