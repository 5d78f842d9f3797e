import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.data import preparation, schema, tables
from lib.data.datasets import Datasets

NOW = 1_700_000_000


def test_cleaning_leaves_what_can_be_imported_and_says_what_it_did():
    interactions = pd.DataFrame(
        [
            ("u", " i ", 3.0, "a"),
            ("u", "i", 3.0, "a"),
            ("u", None, 4.0, "a"),
            ("u", "i", None, "a"),
            ("v", "j", 1_600_000_000_000.0, None),
            ("v", "unknown", 5.0, "a"),
            ("w", "j", 2.0, ""),
        ],
        columns=["USER_ID", "ITEM_ID", "TIMESTAMP", "EVENT_TYPE"],
    )
    items = pd.DataFrame({"ITEM_ID": ["j", "i", "i"], "GENRE": ["x", "old", "new"], "NOTE": [None, None, None]})
    cleaned, report = preparation.clean(Datasets(interactions=interactions, items=items))
    assert cleaned.interactions[["USER_ID", "ITEM_ID", "TIMESTAMP"]].to_numpy().tolist() == [
        ["w", "j", 2],
        ["u", "i", 3],
        ["v", "j", 1_600_000_000],
    ]
    assert cleaned.interactions["TIMESTAMP"].dtype == np.int64
    assert cleaned.interactions["EVENT_TYPE"].isna().tolist() == [True, False, True]
    assert cleaned.items.to_numpy().tolist() == [["i", "new"], ["j", "x"]]
    assert report.to_numpy().tolist() == [
        ["Interactions", "ITEM_ID", "trimmed", 1],
        ["Interactions", "TIMESTAMP", "milliseconds turned into seconds", 1],
        ["Interactions", "ITEM_ID", "left out, missing", 1],
        ["Interactions", "TIMESTAMP", "left out, missing", 1],
        ["Interactions", "", "left out, repeated", 1],
        ["Items", "ITEM_ID", "left out, repeated", 1],
        ["Items", "NOTE", "column left out, filled in 0%", 2],
        ["Interactions", "ITEM_ID", "left out, not in Items", 1],
    ]


def test_clean_tables_stay_as_they_are():
    once, _ = preparation.clean(small())
    again, report = preparation.clean(once)
    pd.testing.assert_frame_equal(again.interactions, once.interactions)
    assert report.empty


@pytest.mark.parametrize("factor", [1, 1_000, 1_000_000, 1_000_000_000])
def test_times_in_any_unit_become_seconds(factor):
    times = np.array([1_600_000_000, 1_600_000_001]) * factor
    table = pd.DataFrame({"USER_ID": ["u", "v"], "ITEM_ID": ["i", "i"], "TIMESTAMP": times})
    cleaned, _ = preparation.clean(Datasets(interactions=table))
    assert cleaned.interactions["TIMESTAMP"].tolist() == [1_600_000_000, 1_600_000_001]


@pytest.mark.parametrize("factor", [1, 1_000, 1_000_000, 1_000_000_000])
def test_the_first_and_last_day_are_told_before_times_in_any_unit_are_cleaned(factor):
    times = np.array([1_600_000_000, 1_600_100_000]) * factor
    table = pd.DataFrame({"USER_ID": ["u", "v"], "ITEM_ID": ["i", "i"], "TIMESTAMP": times})
    told = preparation.overview(Datasets(interactions=table)).loc["Interactions"]
    assert told[["first day", "last day"]].to_list() == ["2020-09-13", "2020-09-14"]


def test_dates_become_seconds():
    times = pd.to_datetime(["1970-01-02 00:00:00", "1970-01-01 00:00:01"])
    table = pd.DataFrame({"USER_ID": ["u", "v"], "ITEM_ID": ["i", "i"], "TIMESTAMP": times})
    cleaned, _ = preparation.clean(Datasets(interactions=table))
    assert cleaned.interactions["TIMESTAMP"].tolist() == [1, 86_400]


def test_numbers_as_ids_become_text_without_a_fraction():
    table = pd.DataFrame({"USER_ID": [17850.0, None, 3.0], "ITEM_ID": [7, 8, 9], "TIMESTAMP": [1, 2, 3]})
    cleaned, _ = preparation.clean(Datasets(interactions=table))
    assert cleaned.interactions["USER_ID"].tolist() == ["17850", "3"]
    assert cleaned.interactions["ITEM_ID"].tolist() == ["7", "9"]


def test_a_table_without_its_ids_is_refused():
    with pytest.raises(ValueError, match="Interactions lack ITEM_ID, TIMESTAMP; they have USER_ID, movie"):
        preparation.clean(Datasets(interactions=pd.DataFrame({"USER_ID": ["u"], "movie": ["i"]})))


def test_items_that_nobody_interacted_with_are_refused_and_not_left_with_nothing():
    items = pd.DataFrame({"ITEM_ID": ["y", "z"], "GENRE": ["x", "x"]})
    with pytest.raises(ValueError, match="Items has no item of Interactions: 'i' is one there, 'y' one here; use the"):
        preparation.clean(small(items=items))


def small(**more):
    day = 86_400
    rows = [("a", "i", 0), ("a", "j", 1), ("a", "i", 3 * day), ("b", "i", 3 * day + 1), ("c", "j", 40 * day)]
    interactions = pd.DataFrame(rows, columns=["USER_ID", "ITEM_ID", "TIMESTAMP"])
    items = pd.DataFrame({"ITEM_ID": ["i", "j", "k"], "GENRE": ["x", None, "x"]})
    return Datasets(**{"interactions": interactions, "items": items} | more)


def test_a_window_keeps_the_last_calendar_months():
    assert preparation.window(small(), 1).interactions["USER_ID"].tolist() == ["c"]
    assert preparation.window(small(), 2).interactions["USER_ID"].tolist() == ["a", "a", "a", "b", "c"]
    with pytest.raises(ValueError, match="months is -1; expected 1 or more"):
        preparation.window(small(), -1)


def test_short_histories_are_left_out():
    assert preparation.minimum_history(small(), 2).interactions["USER_ID"].unique().tolist() == ["a"]
    with pytest.raises(ValueError, match="minimum_history is 4, but no user has more than 3 interactions; lower it"):
        preparation.minimum_history(small(), 4)


def test_an_item_is_as_old_as_its_first_sighting():
    datasets = small()
    shown = datasets.interactions.assign(IMPRESSION=[None, None, None, "k|i", "k|j"])
    derived = preparation.derive(small(interactions=shown))
    assert derived.items["CREATION_TIMESTAMP"].tolist() == [0, 1, 3 * 86_400 + 1]
    assert derived.items["CREATION_TIMESTAMP"].dtype == np.int64
    known = datasets.items.assign(CREATION_TIMESTAMP=[None, 77, None])
    derived = preparation.derive(small(items=known)).items["CREATION_TIMESTAMP"]
    assert derived[:2].tolist() == [0, 77] and derived.isna().tolist() == [False, False, True]


def test_the_long_tail_is_counted_from_the_head():
    items = np.repeat([f"i{n}" for n in range(10)], [55, 5, 5, 5, 5, 5, 5, 5, 5, 5])
    tail = preparation.long_tail(pd.DataFrame({"ITEM_ID": items}), [0.1, 0.5, 1.0])
    assert tail["items"].tolist() == [1, 5, 10]
    assert tail["share_of_interactions"].tolist() == [0.55, 0.75, 1.0]


def test_histories_and_days_are_counted():
    assert preparation.history_lengths(small().interactions).tolist() == [3, 1, 1]
    days = preparation.activity(small().interactions)
    assert len(days) == 41 and days.iloc[0].tolist() == [2, 1, 2] and days.iloc[3].tolist() == [2, 2, 1]
    assert days["interactions"].sum() == 5


def test_cold_users_and_items_are_counted():
    counted = preparation.cold(small())
    assert counted.loc["items"].tolist() == [3, 0, 1, 0, 0]
    assert counted.loc["users"].tolist() == [3, 3, 0, 2, 0]


def test_missing_values_are_counted_by_column():
    counted = preparation.missingness(small()).set_index(["dataset", "column"])
    assert counted.loc[("Items", "GENRE"), "filled"] == pytest.approx(2 / 3)
    assert counted.loc[("Items", "GENRE"), "values"] == 1
    assert len(counted) == 5


def test_insights_name_what_personalize_would_point_out():
    n = 2_000
    interactions = pd.DataFrame(
        {
            "USER_ID": [f"u{k % 20}" for k in range(n)],
            "ITEM_ID": [f"i{k % 30}" for k in range(n)],
            "TIMESTAMP": [5] * 500 + list(range(n - 500)),
            "EVENT_TYPE": [f"event{k % 11}" for k in range(n)],
        }
    )
    items = pd.DataFrame(
        {
            "ITEM_ID": [f"i{k}" for k in range(60)],
            "GENRE": ["x"] * 40 + [None] * 20,
            "PRICE": [*np.linspace(1, 2, 59), 1000.0],
            "PLOT": ["long story " * 20] * 50 + [None] * 10,
        }
    )
    found = preparation.insights(Datasets(interactions=interactions, items=items))
    assert found[["dataset", "column", "finding"]].to_numpy().tolist() == [
        ["Items", "", "33% of the rows have a missing value"],
        ["Items", "GENRE", "filled in 67% of the rows"],
        ["Items", "PLOT", "filled in 83% of the rows"],
        ["Items", "PRICE", "1.7% of the values are outliers"],
        ["Interactions", "", "2000 interactions"],
        ["Interactions", "USER_ID", "20 users with two or more"],
        ["Interactions", "EVENT_TYPE", "11 event types"],
        ["Interactions", "TIMESTAMP", "25% at one instant"],
        ["Items", "ITEM_ID", "50% without interactions"],
    ]


def test_versions_of_an_export_live_side_by_side(tmp_path):
    first = preparation.export(small(), tmp_path, parameters={"months": 2})
    second = preparation.export(preparation.window(small(), 1), tmp_path, parameters={"months": 1})
    assert [first.name, second.name] == ["v1", "v2"]
    assert sorted(path.name for path in first.iterdir()) == ["checksums.json", "interactions.csv", "items.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v1", "v2"]
    contents = json.loads((first / "checksums.json").read_text())
    assert contents["parameters"] == {"months": 2}
    assert contents["files"]["interactions.csv"]["rows"] == 5


def test_the_same_content_again_is_the_same_version(tmp_path):
    first = preparation.export(small(), tmp_path, parameters={"shares": (1, 2)})
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    assert preparation.export(small(), tmp_path, parameters={"shares": (1, 2)}) == first
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    assert preparation.export(small(), tmp_path, parameters={"shares": (1, 3)}).name == "v2"


def test_an_export_is_read_back_as_it_was(tmp_path):
    users = pd.DataFrame(
        {"USER_ID": ["007", "a", "b"], "AGE": [30.0, None, 50.0], "NOTE": ['say "x", \\', None, "é\n"]}
    )
    written = small(users=users.astype({"AGE": "Int64"}))
    read = preparation.read_export(preparation.export(written, tmp_path))
    for name in ("interactions", "items", "users"):
        pd.testing.assert_frame_equal(getattr(read, name), getattr(written, name))
    assert read.schemas["USERS"]["AGE"].nullable


def test_an_interrupted_export_is_never_read_and_does_not_stop_the_next(tmp_path, monkeypatch):
    with monkeypatch.context() as failing:
        failing.setattr(tables, "write_csv", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            preparation.export(small(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".aside").mkdir()
    (tmp_path / ".aside" / "interactions.csv").write_text("half")
    assert preparation.export(small(), tmp_path).name == "v1"


def test_a_changed_export_is_refused(tmp_path):
    version = preparation.export(small(), tmp_path)
    (version / "items.csv").write_text("ITEM_ID,GENRE\ni,y\n")
    with pytest.raises(ValueError, match=r"items.csv was changed after it was exported"):
        preparation.read_export(version)
    (version / "checksums.json").unlink()
    with pytest.raises(ValueError, match="is no exported version"):
        preparation.read_export(version)


def test_movielens_is_prepared_exported_and_imported(tmp_path):
    shared = Path(os.environ.get("SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    folder = shared / "ml-latest-small"
    if not folder.exists():
        pytest.skip(f"{folder} not found")
    ratings, movies = pd.read_csv(folder / "ratings.csv"), pd.read_csv(folder / "movies.csv")
    names = {"userId": "USER_ID", "movieId": "ITEM_ID", "timestamp": "TIMESTAMP", "rating": "EVENT_VALUE"}
    items = movies.rename(columns={"movieId": "ITEM_ID", "title": "TITLE", "genres": "GENRES"})
    raw = Datasets(interactions=ratings.rename(columns=names), items=items)
    cleaned, report = preparation.clean(raw)
    assert len(cleaned.interactions) == 100_836 and len(cleaned.items) == 9_742
    assert report.to_numpy().tolist() == [["Items", "TITLE", "trimmed", 11]]
    preparation.check_minima(cleaned.interactions)
    version = preparation.export(preparation.derive(cleaned), tmp_path / "export")
    proposed = schema.parse(schema.propose(preparation.read_export(version).items, "Items"))
    assert proposed["GENRES"].categorical and not proposed["TITLE"].categorical
    assert proposed["CREATION_TIMESTAMP"].nullable  # 18 films were never rated
    summary = tables.import_csv([version / "items.csv"], proposed, tmp_path / "items", now=NOW)
    assert summary.rows == 9_742 and summary.nulls["CREATION_TIMESTAMP"] == 18
    again = tables.read([tmp_path / "items"])
    assert again.set_index("ITEM_ID").loc["1", "TITLE"] == "Toy Story (1995)"


def test_interactions_alone_give_a_table_of_items_by_first_sighting():
    alone = Datasets(interactions=small().interactions)
    derived = preparation.derive(alone).items
    first = alone.interactions.groupby("ITEM_ID")["TIMESTAMP"].min()
    assert derived["ITEM_ID"].tolist() == derived["TITLE"].tolist() == sorted(first.index)
    assert derived["CREATION_TIMESTAMP"].tolist() == first.sort_index().tolist()
