"""From a source's tables to files that can be imported: cleaning, features, a look at the data, versions on disk."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import file_digest
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data import tables
from lib.data.datasets import MAX_EVENT_TYPES, MIN_INTERACTIONS, MIN_USERS, Datasets, check_minima
from lib.data.schema import (
    IDS,
    KEYS,
    LAST_SECOND,
    MAX_CATEGORIES,
    MAX_STRING_LENGTH,
    MIN_TEXT_FILLED,
    RESERVED,
    Field,
    Schema,
    parse,
    propose,
)

__all__ = [
    "activity",
    "check_minima",
    "clean",
    "cold",
    "derive",
    "export",
    "history_lengths",
    "insights",
    "long_tail",
    "minimum_history",
    "missingness",
    "read_export",
    "window",
]

MIN_FILLED = 0.1  # columns with less say nothing
WELL_FILLED = 0.7  # recommended by Personalize
FILES = {"Interactions": "interactions.csv", "Items": "items.csv", "Users": "users.csv"}
CHECKSUMS = "checksums.json"


def clean(datasets: Datasets, *, min_filled: float = MIN_FILLED) -> tuple[Datasets, pd.DataFrame]:
    """The datasets as an import takes them, and what was done: dataset, column, action, rows.

    Trims text; takes times in milliseconds, microseconds or nanoseconds down to seconds; leaves out records without an
    id or time, repeated records (of Items and Users all but the last of an id), interactions with items that Items
    lacks, columns without any value, and columns of one's own filled in less than ``min_filled`` of the records.  Ids
    become text.
    """
    done: list[tuple[str, str, str, int]] = []
    cleaned = {name: _clean_table(name, table, min_filled, done) for name, table in named(datasets)}
    interactions = cleaned["Interactions"]
    if "Items" in cleaned:
        known = interactions["ITEM_ID"].isin(cleaned["Items"]["ITEM_ID"]).to_numpy(dtype=bool)
        _note(done, "Interactions", "ITEM_ID", "left out, not in Items", (~known).sum())
        if len(known) and not known.any():
            raise ValueError(
                f"Items has no item of Interactions: {interactions['ITEM_ID'].iat[0]!r} is one there, "
                f"{cleaned['Items']['ITEM_ID'].iat[0]!r} one here; use the same ids in both, or leave Items out"
            )
        interactions = interactions[known]
    report = pd.DataFrame(done, columns=["dataset", "column", "action", "rows"])
    return _replaced(datasets, {**cleaned, "Interactions": interactions.reset_index(drop=True)}), report


def _clean_table(name: str, table: pd.DataFrame, min_filled: float, done: list) -> pd.DataFrame:
    required = [column for column, rule in RESERVED[name].items() if rule.required]
    absent = [column for column in required if column not in table]
    if absent:
        raise ValueError(f"{name} lack {', '.join(absent)}; they have {', '.join(map(str, table.columns))}")
    table = table.copy()
    for column in table.columns:
        if column in IDS or pd.api.types.infer_dtype(table[column], skipna=True) == "string":
            table[column] = _texts(table[column])
        if pd.api.types.is_string_dtype(table[column]):
            trimmed = table[column].str.strip()
            _note(done, name, column, "trimmed", (trimmed.ne(table[column]) & table[column].notna()).sum())
            table[column] = trimmed.where(trimmed != "")
        if column.endswith("TIMESTAMP"):
            table[column] = _seconds(name, table[column], done)
    for column in required:
        missing = table[column].isna().to_numpy(dtype=bool)
        _note(done, name, column, "left out, missing", missing.sum())
        table = table[~missing]
    if "TIMESTAMP" in table:
        table = table.astype({"TIMESTAMP": np.int64})
    key = KEYS.get(name)
    repeated = table.duplicated(key, keep="last" if key else "first").to_numpy(dtype=bool)
    _note(done, name, key or "", "left out, repeated", repeated.sum())
    table = table[~repeated].sort_values(key or "TIMESTAMP", kind="stable", ignore_index=True)
    for column in table.columns.difference(required):
        least = 0 if column in RESERVED[name] else min_filled
        filled = table[column].notna().mean()
        if filled == 0 or filled < least:
            _note(done, name, column, f"column left out, filled in {filled:.0%}", table[column].isna().sum())
            table = table.drop(columns=column)
    return table


def _texts(ids: pd.Series) -> pd.Series:
    """As text; ids that a gap made floats (17850.0) as the whole numbers they were."""
    if pd.api.types.is_float_dtype(ids) and (ids.dropna() % 1 == 0).all():
        ids = ids.astype("Int64")
    return ids.astype("string").astype("str")


def _seconds(name: str, times: pd.Series, done: list) -> pd.Series:
    if pd.api.types.is_datetime64_any_dtype(times):
        _note(done, name, times.name, "turned into seconds", len(times))
        return times.astype("datetime64[s]").astype("int64").where(times.notna())
    numbers = pd.to_numeric(times, errors="coerce")
    _note(done, name, times.name, "unreadable", (numbers.isna() & times.notna()).sum())
    for unit, factor in (("nanoseconds", 10**9), ("microseconds", 10**6), ("milliseconds", 10**3)):
        finer = (numbers.abs() > LAST_SECOND * factor // 10**3).fillna(False).to_numpy(dtype=bool)
        _note(done, name, times.name, f"{unit} turned into seconds", finer.sum())
        numbers = numbers.mask(finer, numbers // factor)
    return numbers


def _note(done: list, dataset: str, column: str, action: str, rows: int) -> None:
    if rows:
        done.append((dataset, column, action, int(rows)))


def window(datasets: Datasets, months: int) -> Datasets:
    """Only the interactions of the last calendar months, counted back from the newest; items and users stay.

    Raises ValueError for less than one month.
    """
    if months < 1:
        raise ValueError(f"months is {months}; expected 1 or more, or 0 in a profile to keep all interactions")
    times = datasets.interactions["TIMESTAMP"]
    if times.empty:
        return datasets
    first = (pd.Timestamp(times.max(), unit="s") - pd.DateOffset(months=months)).timestamp()
    return replace(datasets, interactions=datasets.interactions[times > first].reset_index(drop=True))


def minimum_history(datasets: Datasets, n: int) -> Datasets:
    """Only the interactions of users who have at least n of them; items and users stay.

    Raises ValueError where no user has.
    """
    counts = datasets.interactions.groupby("USER_ID")["ITEM_ID"].transform("size")
    if n > counts.max():
        raise ValueError(f"minimum_history is {n}, but no user has more than {counts.max()} interactions; lower it")
    return replace(datasets, interactions=datasets.interactions[counts >= n].reset_index(drop=True))


def derive(datasets: Datasets) -> Datasets:
    """Items with a CREATION_TIMESTAMP: where the source has none, when the item was first shown or interacted with.

    Without an Items table there will be one, of all items with interactions, whose ids stand for their titles.
    """
    if datasets.items is None:
        known = np.unique(datasets.interactions["ITEM_ID"].to_numpy(dtype=str))
        ids = pd.Series(known, dtype="str")
        datasets = replace(datasets, items=pd.DataFrame({"ITEM_ID": ids, "TITLE": ids}))
    seen = datasets.interactions[["ITEM_ID", "TIMESTAMP"]]
    if "IMPRESSION" in datasets.interactions:
        shown = datasets.interactions[["IMPRESSION", "TIMESTAMP"]].dropna()
        shown = shown.assign(ITEM_ID=shown["IMPRESSION"].str.split("|")).explode("ITEM_ID")
        seen = pd.concat([seen, shown[["ITEM_ID", "TIMESTAMP"]]])
    first = datasets.items["ITEM_ID"].map(seen.groupby("ITEM_ID")["TIMESTAMP"].min())
    items = datasets.items.copy()
    items["CREATION_TIMESTAMP"] = items["CREATION_TIMESTAMP"].fillna(first) if "CREATION_TIMESTAMP" in items else first
    if items["CREATION_TIMESTAMP"].notna().all():
        items["CREATION_TIMESTAMP"] = items["CREATION_TIMESTAMP"].astype(np.int64)
    return replace(datasets, items=items)


def overview(datasets: Datasets) -> pd.DataFrame:
    """One row a table: its rows, how many users and items it names, and the first and last day of its interactions.

    Times may be in any unit that ``clean`` takes.
    """
    rows = {}
    for name, table in named(datasets):
        counts = {column: table[column].nunique() if column in table else "" for column in ("USER_ID", "ITEM_ID")}
        days = pd.Series([""])
        if name == "Interactions":
            days = pd.to_datetime(_seconds(name, table["TIMESTAMP"], []), unit="s").dt.date
        rows[name] = {"rows": len(table), "users": counts["USER_ID"], "items": counts["ITEM_ID"]}
        rows[name] |= {"first day": str(days.min()), "last day": str(days.max())}
    return pd.DataFrame(rows).T


def long_tail(interactions: pd.DataFrame, shares: Sequence[float] = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0)) -> pd.DataFrame:
    """How unevenly items are liked: of the most popular share of items, their number and share of all interactions."""
    counts = np.sort(interactions["ITEM_ID"].value_counts().to_numpy())[::-1]
    n_items = [max(1, round(share * len(counts))) for share in shares]
    reached = counts.cumsum() / counts.sum()
    return pd.DataFrame(
        {"share_of_items": shares, "items": n_items, "share_of_interactions": [reached[n - 1] for n in n_items]}
    )


def history_lengths(interactions: pd.DataFrame) -> np.ndarray:
    """(U,) int64: how many interactions each user has, users in the order of their ids."""
    return interactions["USER_ID"].value_counts().sort_index().to_numpy(dtype=np.int64)


def activity(interactions: pd.DataFrame) -> pd.DataFrame:
    """Interactions, users and items per day (UTC), one row a day from the first to the last."""
    day = pd.to_datetime(interactions["TIMESTAMP"], unit="s").dt.floor("D").rename("day")
    grouped = interactions.groupby(day)
    table = pd.DataFrame(
        {
            "interactions": grouped.size(),
            "users": grouped["USER_ID"].nunique(),
            "items": grouped["ITEM_ID"].nunique(),
        }
    )
    return table.asfreq("D", fill_value=0)


def cold(datasets: Datasets) -> pd.DataFrame:
    """Users and items by what is known of them.

    known: in the table or in interactions.  without_metadata: only in interactions.  without_interactions: only in the
    table.  with_one, with_five: with a single interaction, with five or more.
    """
    rows = {}
    for name, column, table in (("users", "USER_ID", datasets.users), ("items", "ITEM_ID", datasets.items)):
        counts = datasets.interactions[column].value_counts()
        listed = pd.Index([]) if table is None else pd.Index(table[column])
        rows[name] = {
            "known": len(counts.index.union(listed)),
            "without_metadata": len(counts.index.difference(listed)),
            "without_interactions": len(listed.difference(counts.index)),
            "with_one": int((counts == 1).sum()),
            "with_five": int((counts >= 5).sum()),
        }
    return pd.DataFrame(rows).T


def missingness(datasets: Datasets) -> pd.DataFrame:
    """One row a column: dataset, column, type (of pandas), filled (share of rows), values (different ones)."""
    return pd.DataFrame(
        [
            (name, column, str(table[column].dtype), table[column].notna().mean(), table[column].nunique())
            for name, table in named(datasets)
            for column in table.columns
        ],
        columns=["dataset", "column", "type", "filled", "values"],
    )


def insights(datasets: Datasets) -> pd.DataFrame:
    """What Personalize's console would point out about the data: dataset, column, finding, advice; empty if nothing.

    Source: data insights of the developer guide, with its recommended numbers.
    """
    found: list[tuple[str, str, str, str]] = []
    for name, table in named(datasets):
        _inspect_columns(name, table, found)
    _inspect_interactions(datasets, found)
    return pd.DataFrame(found, columns=["dataset", "column", "finding", "advice"])


def _inspect_interactions(datasets: Datasets, found: list) -> None:
    interactions = datasets.interactions
    lengths = history_lengths(interactions)
    if len(interactions) < MIN_INTERACTIONS:
        found.append(("Interactions", "", f"{len(interactions)} interactions", f"{MIN_INTERACTIONS} are needed"))
    elif len(interactions) < 50_000:
        found.append(("Interactions", "", f"{len(interactions)} interactions", "50000 are recommended"))
    returning = int((lengths >= 2).sum())
    if returning < MIN_USERS:
        found.append(("Interactions", "USER_ID", f"{returning} users with two or more", f"{MIN_USERS} are needed"))
    elif len(lengths) < 1000:
        found.append(("Interactions", "USER_ID", f"{len(lengths)} users", "1000 are recommended"))
    if "EVENT_TYPE" in interactions:
        n_types = interactions["EVENT_TYPE"].str.lower().nunique()
        if n_types > MAX_EVENT_TYPES:
            found.append(("Interactions", "EVENT_TYPE", f"{n_types} event types", f"at most {MAX_EVENT_TYPES}"))
    if len(interactions):
        share = interactions["TIMESTAMP"].value_counts().iloc[0] / len(interactions)
        if share > 0.1:
            found.append(("Interactions", "TIMESTAMP", f"{share:.0%} at one instant", "order within it is arbitrary"))
    for name, table in named(datasets):
        key = KEYS.get(name)
        if key and len(table):
            share = 1 - table[key].isin(interactions[key].unique()).mean()
            if share > 0.1:
                found.append(
                    (name, key, f"{share:.0%} without interactions", "they are cold: metadata must carry them")
                )


def _inspect_columns(name: str, table: pd.DataFrame, found: list) -> None:
    if table.empty:
        return
    incomplete = table.isna().any(axis=1).mean()
    if incomplete:
        found.append((name, "", f"{incomplete:.0%} of the rows have a missing value", "fill what can be filled"))
    for column in table.columns.difference(list(IDS)):
        values = table[column].dropna()
        filled = len(values) / len(table)
        text = pd.api.types.is_string_dtype(table[column])
        long = text and len(values) and values.str.len().mean() > 100
        needed = MIN_TEXT_FILLED if long else WELL_FILLED
        if filled < needed:
            found.append((name, column, f"filled in {filled:.0%} of the rows", f"{needed:.0%} are recommended"))
        own = column not in RESERVED[name]
        if text and own and not long and len(values):
            categories = pd.Series(values.unique()).str.split("|").explode().nunique()
            if MAX_CATEGORIES < categories < len(values) / 2:
                found.append((name, column, f"{categories} categories", f"at most {MAX_CATEGORIES} are recommended"))
            if values.str.len().max() > MAX_STRING_LENGTH:
                found.append(
                    (name, column, "values beyond 1000 characters", "shorten them, or mark the column textual")
                )
        if own and pd.api.types.is_numeric_dtype(table[column]) and not pd.api.types.is_bool_dtype(table[column]):
            low, high = np.quantile(values, [0.25, 0.75]) if len(values) else (0, 0)
            outside = (
                ((values < low - 3 * (high - low)) | (values > high + 3 * (high - low))).mean() if high > low else 0
            )
            if outside > 0:
                found.append((name, column, f"{outside:.1%} of the values are outliers", "check them"))


def export(datasets: Datasets, folder: Path, *, parameters: Mapping[str, object] | None = None) -> Path:
    """Write the datasets as CSV into ``folder/v1``, ``v2``, …, and return the folder of this version.

    A version holds interactions.csv, items.csv, users.csv (those there are) and checksums.json: SHA-256, rows and
    columns of each file, and ``parameters``; no clock is read, so the same tables give the same bytes.  The same
    content and parameters again give the version that is already there.  A version appears whole or not at all; those
    that exist are never changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / ".aside"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        contents = {"parameters": dict(parameters or {}), "files": {}}
        for name, table in named(datasets):
            tables.write_csv(table, aside / FILES[name])
            contents["files"][FILES[name]] = {
                "sha256": _sha256(aside / FILES[name]),
                "rows": len(table),
                "columns": _columns(name, table, datasets.schemas.get(name.upper())),
            }
        contents = json.loads(json.dumps(contents))  # as it will be read again: tuples are lists
        versions = {int(path.name[1:]): path for path in folder.iterdir() if re.fullmatch(r"v[1-9][0-9]*", path.name)}
        for _, version in sorted(versions.items()):
            if _checksums(version) == contents:
                return version
        (aside / CHECKSUMS).write_text(json.dumps(contents, indent=2) + "\n")
        version = folder / f"v{max(versions, default=0) + 1}"
        tables.into_place(aside, version)
        return version
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read_export(version: Path) -> Datasets:
    """The datasets of an exported version, as they were written.  Raises ValueError where a file was changed since."""
    contents = _checksums(version)
    found, schemas = {}, {}
    for name, file in FILES.items():
        if file not in contents["files"]:
            continue
        written = contents["files"][file]
        if _sha256(version / file) != written["sha256"]:
            raise ValueError(f"{version / file} was changed after it was exported; export again")
        schemas[name.upper()] = schema = Schema(name=name, fields=tuple(Field(**field) for field in written["columns"]))
        found[name] = tables.read_csv(version / file, schema)
    return Datasets(
        interactions=found["Interactions"], items=found.get("Items"), users=found.get("Users"), schemas=schemas
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def _checksums(version: Path) -> dict:
    try:
        return json.loads((version / CHECKSUMS).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{version} is no exported version: {error}; remove it, or export elsewhere") from None


def _columns(name: str, table: pd.DataFrame, schema: Schema | None) -> list[dict]:
    """The schema the table was cleaned for, or else the one that would be proposed for it."""
    if schema is None or set(schema.columns) != set(table.columns):
        schema = parse(propose(table, name))
    return [asdict(schema[column]) for column in table.columns]


def named(datasets: Datasets) -> list[tuple[str, pd.DataFrame]]:
    """The tables there are, each with its dataset type."""
    tables = (("Interactions", datasets.interactions), ("Items", datasets.items), ("Users", datasets.users))
    return [(name, table) for name, table in tables if table is not None]


def _replaced(datasets: Datasets, named: Mapping[str, pd.DataFrame]) -> Datasets:
    return replace(datasets, interactions=named["Interactions"], items=named.get("Items"), users=named.get("Users"))
