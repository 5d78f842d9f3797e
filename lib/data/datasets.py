"""A dataset group's tables as training, evaluation and campaigns see them, and the arrays made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from lib.data.schema import RECORDS, Schema, canonical_type

MIN_INTERACTIONS, MIN_USERS, MIN_USER_SHARE = 1000, 25, 0.01
MAX_EVENT_TYPES = 10  # together with the columns of context
Arrivals = Sequence[tuple[np.ndarray | None, float | np.ndarray]]
"""Different users, None for everybody, and when something of theirs came in, epoch seconds."""

WEIGHT = "event weight"  # column of interactions that select_events adds; with its blank no column of a schema can be


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasets:
    """The tables of one dataset group, columns named as in their schemas.

    interactions, action_interactions: rows ordered by TIMESTAMP, ties in file order.  items, users, actions: one row an
    id, ordered by id.  None where the group has no such dataset.
    schemas: dataset type in upper case (``INTERACTIONS``, …) -> its schema.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame | None = None
    users: pd.DataFrame | None = None
    schemas: Mapping[str, Schema] = field(default_factory=dict)
    actions: pd.DataFrame | None = None
    action_interactions: pd.DataFrame | None = None


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
    item_ids = np.unique(np.concatenate([numbered(column)[0] for column in ids]))
    return Catalogue(item_ids, _event_types(datasets.interactions)[0])


def histories(interactions: pd.DataFrame, numbers: Catalogue) -> Histories:
    """Interactions, ordered by time, as one history a user; rows of items outside the catalogue are left out."""
    item_ids, item = numbered(interactions["ITEM_ID"])
    item = _places(numbers.item_ids, item_ids)[item]
    known = item >= 0
    user_ids, user = numbered(interactions["USER_ID"])
    order = np.flatnonzero(known)[np.argsort(user[known], kind="stable")]
    event_types, event_type = _event_types(interactions)
    event_type = _places(numbers.event_types, event_types)[event_type]
    return Histories(
        user_ids,
        np.concatenate([[0], np.cumsum(np.bincount(user[known], minlength=len(user_ids)))]).astype(np.int64),
        item[order],
        interactions["TIMESTAMP"].to_numpy(dtype=np.int64)[order],
        event_type[order],
    )


def numbered(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values of a column of ids, (V,) str, sorted, and (N,) int64, which of them each row holds."""
    code, values = pd.factorize(column, use_na_sentinel=False)  # rows become text once for each value
    values, place = np.unique(np.asarray(values, dtype=str), return_inverse=True)
    return values, place[code]


def last_arrivals(user_ids: np.ndarray, arrivals: Arrivals) -> np.ndarray:
    """(U,) float64: epoch seconds at which something of each user last came in, -inf where nothing is told.

    user_ids: (U,) str, sorted.
    """
    last = np.full(len(user_ids), -np.inf)
    for users, at in arrivals:
        rows = slice(None) if users is None else _places(user_ids, np.asarray(users, dtype=str))
        at = np.broadcast_to(at, last[rows].shape)
        if users is not None:
            rows, at = rows[rows >= 0], at[rows >= 0]
        last[rows] = np.maximum(last[rows], at)
    return last


def combine(older: pd.DataFrame, newer: pd.DataFrame | None, key: str | None) -> pd.DataFrame:
    """Two lots of records of one dataset as one: bulk imports in their order, then what was put, or as they came.

    key: the id column of Items, Users, Actions, where the newest record of an id counts, ordered by id.  None: all
    records count, those equal in everything once, ordered by TIMESTAMP with ties as they came.
    """
    together = older
    if newer is not None and len(newer):
        together = newer if older.empty else pd.concat([older, newer], ignore_index=True)
    if key is not None:
        return together.drop_duplicates(key, keep="last").sort_values(key, ignore_index=True)
    if together is not older and len(older):
        together = together.drop_duplicates()
    return together.sort_values("TIMESTAMP", kind="stable", ignore_index=True)


def select_events(
    interactions: pd.DataFrame,
    event_type: str | None = None,
    event_value_threshold: float | str | None = None,
    events_config: Mapping[str, object] | None = None,
) -> pd.DataFrame:
    """The interactions a solution trains on: one event type, values from a threshold on, or as ``eventsConfig`` says.

    event_type: compared without regard to case.  events_config: ``{"eventParametersList": [{"eventType", …}]}``; types
    it does not list are left out, and the column ``WEIGHT`` says how much each row counts, heaviest 1.
    Raises ValueError where a column is missing, or both ways are used at once.
    """
    if events_config is None:
        chosen = np.ones(len(interactions), bool)
        if event_type is not None:
            chosen = _of_type(interactions, event_type)
        return interactions[chosen & _reaches(interactions, event_value_threshold)]
    if event_type is not None or event_value_threshold is not None:
        raise ValueError("Give either eventsConfig, or eventType and eventValueThreshold, not both")
    weight = np.full(len(interactions), np.nan)
    for event in events_config["eventParametersList"]:
        rows = _of_type(interactions, event["eventType"]) & _reaches(interactions, event.get("eventValueThreshold"))
        weight[rows] = event.get("weight", 1.0)
    chosen = weight > 0  # a weight of 0 is as good as not listed
    if len(weight) and not chosen.any():
        raise ValueError("eventsConfig leaves no interaction: check event types, thresholds and weights above 0")
    return interactions[chosen].assign(**{WEIGHT: weight[chosen] / weight[chosen].max(initial=0)})


def check_minima(
    interactions: pd.DataFrame,
    event_type: str | None = None,
    event_value_threshold: str | None = None,
    *,
    minimum: int = MIN_INTERACTIONS,
    minimum_users: int = MIN_USERS,
) -> None:
    """That there is enough to train on: 1,000 interactions, and 25 users (1 % of them) with two or more.

    event_type, event_value_threshold: what ``select_events`` chose them by, for the message.
    Raises ValueError with the counts found.
    """
    if len(interactions) < minimum:
        filters, remedies = [], ["Import more"]
        if event_type is not None:
            filters.append(f"event type: {event_type}")
            remedies.append("train on more event types")
        if event_value_threshold is not None:
            filters.append(f"event value: {event_value_threshold} or more")
            remedies.append("lower the threshold")
        after = f" after filtering by {' and '.join(filters)}" if filters else ""
        raise ValueError(
            f"Dataset has fewer than {minimum} interactions{after} (found {len(interactions)}). "
            f"{', or '.join(remedies)}."
        )
    counts = interactions["USER_ID"].value_counts()
    returning = int((counts >= 2).sum())
    found = f"(found {returning} of {len(counts)} users). Import more interactions of the same users."
    if returning < minimum_users:
        raise ValueError(
            f"Create failed. Dataset has fewer than {minimum_users} users with at least 2 interactions each {found}"
        )
    if returning < MIN_USER_SHARE * len(counts):
        raise ValueError(f"Create failed. Fewer than 1 % of the users have at least 2 interactions each {found}")


def check_event_types(datasets: Datasets) -> None:
    """That event types and columns of context are at most ten together.  Raises ValueError."""
    types = _event_types(datasets.interactions)[0] if "EVENT_TYPE" in datasets.interactions else ()
    schema = datasets.schemas.get("INTERACTIONS")
    context = [field.name for field in schema.metadata] if schema else []
    if len(types) + len(context) > MAX_EVENT_TYPES:
        raise ValueError(
            f"Interactions have {len(types)} event types and {len(context)} columns of their own, together at most "
            f"{MAX_EVENT_TYPES} are allowed. Leave out columns, or import fewer event types."
        )


def exclude_columns(datasets: Datasets, training_data_config: Mapping[str, Mapping] | None) -> Datasets:
    """The datasets with the columns a solution trains on, as its ``trainingDataConfig`` says.

    Ids, times and EVENT_TYPE stay in any case.  Raises ValueError for an unknown dataset or column, for one that cannot
    be excluded, and for lists of excluded and included columns together.
    """
    config = training_data_config or {}
    excluded, included = config.get("excludedDatasetColumns"), config.get("includedDatasetColumns")
    if excluded and included:
        raise ValueError("Give either excludedDatasetColumns or includedDatasetColumns, not both")
    tables = {kind: getattr(datasets, kind.lower()) for kind in RECORDS}
    schemas = dict(datasets.schemas)
    for name, columns in (excluded or included or {}).items():
        kind = canonical_type(name)
        if tables.get(kind) is None:
            raise ValueError(f"trainingDataConfig names {name}, but the dataset group has no such dataset")
        left_out = _left_out(tables[kind], kind, {column.upper() for column in columns}, excluding=bool(excluded))
        tables[kind] = tables[kind].drop(columns=left_out)
        if kind in schemas:
            kept = tuple(field for field in schemas[kind].fields if field.name not in left_out)
            schemas[kind] = replace(schemas[kind], fields=kept)
    return Datasets(**{kind.lower(): table for kind, table in tables.items()}, schemas=schemas)


def _left_out(table: pd.DataFrame, kind: str, named: set[str], *, excluding: bool) -> list[str]:
    always = {
        "INTERACTIONS": {"USER_ID", "ITEM_ID", "TIMESTAMP", "EVENT_TYPE"},
        "ITEMS": {"ITEM_ID"},
        "USERS": {"USER_ID"},
        "ACTIONS": {"ACTION_ID"},
        "ACTION_INTERACTIONS": {"USER_ID", "ACTION_ID", "TIMESTAMP", "EVENT_TYPE"},
    }
    for name in sorted(named):
        if name not in (column.upper() for column in table.columns):
            raise ValueError(f"trainingDataConfig: {kind} has no column {name}; it has {', '.join(table.columns)}")
        if excluding and name in always[kind]:
            raise ValueError(f"trainingDataConfig: {name} of {kind} cannot be excluded")
    if excluding:
        return [column for column in table.columns if column.upper() in named]
    return [column for column in table.columns if column.upper() not in named | always[kind] and column != WEIGHT]


def _of_type(interactions: pd.DataFrame, event_type: str) -> np.ndarray:
    if "EVENT_TYPE" not in interactions:
        raise ValueError(f"Event type {event_type} is asked for, but Interactions have no column EVENT_TYPE")
    types, row = _event_types(interactions)
    return (types == event_type.lower())[row]


def _reaches(interactions: pd.DataFrame, threshold: float | str | None) -> np.ndarray:
    """(N,) bool: EVENT_VALUE is there and at least the threshold."""
    if threshold is None:
        return np.ones(len(interactions), bool)
    if "EVENT_VALUE" not in interactions:
        raise ValueError(f"Event values from {threshold} on are asked for, but Interactions have no column EVENT_VALUE")
    return interactions["EVENT_VALUE"].to_numpy(dtype=float) >= float(threshold)


def _event_types(interactions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """As ``numbered``: event types compare without regard to case; none at all counts as one type without a name."""
    if "EVENT_TYPE" not in interactions:
        return np.array([""])[: len(interactions)], np.zeros(len(interactions), np.int64)
    code, cells = pd.factorize(interactions["EVENT_TYPE"], use_na_sentinel=False)
    types, row = numbered(pd.Series(cells, dtype=object).fillna("").str.lower())
    return types, row[code]


def _places(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(W,) int32: where each of the wanted stands among ids, -1 for nowhere."""
    return pd.Index(ids).get_indexer(wanted).astype(np.int32)
