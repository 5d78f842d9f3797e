"""Raw tables of every source: real files where they are, tiny hand-written ones otherwise, and what bad files get."""

import gzip
import hashlib
import os
import threading
import zipfile
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.data import sources
from lib.data.simulator import simulate
from lib.data.sources import Download, fetch, read

SHARED = Path(os.environ.get("SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data"))

BEHAVIORS = (
    "1\tU1\t11/11/2019 9:05:58 AM\tN1 N2 N1\tN3-1 N4-0\n"
    "2\tU2\t11/10/2019 12:00:00 AM\t\tN4-0 N5-1 N3-1\n"
    "3\tU1\t11/12/2019 1:00:00 PM\tN1 N2 N1\tN5-0 N4-1\n"
)
NEWS = "".join(
    f"N{number}\tsports\t{'golf' if number == 1 else ''}\tTitle {number}\t\thttps://x\t[]\t[]\n"
    for number in range(1, 7)
)


def shared(name):
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} not found")
    return SHARED


def seconds(text):
    return int(pd.Timestamp(text, tz="UTC").timestamp())


@pytest.fixture
def mind(tmp_path):
    (tmp_path / "MINDsmall_train").mkdir()
    (tmp_path / "MINDsmall_train" / "behaviors.tsv").write_text(BEHAVIORS)
    (tmp_path / "MINDsmall_train" / "news.tsv").write_text(NEWS)
    return tmp_path


@pytest.fixture
def movies(tmp_path):
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,10,1.0,5\n1,11,4.0,7\n2,10,3.0,6\n")
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n10,"Kid, The (1921)",Comedy|Drama\n11,Untitled,(no genres listed)\n'
    )
    return tmp_path


@pytest.fixture
def million(tmp_path):
    (tmp_path / "movies.dat").write_bytes("10::Café (1990)::Drama\n11::Up (2009)::Comedy|Drama\n".encode("latin-1"))
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n2::M::56::0::70072\n")
    return tmp_path


# MIND


def test_mind_clicks_carry_time_and_what_was_shown(mind):
    rows = read("mind-small", mind, histories=False).interactions
    assert list(rows) == ["USER_ID", "ITEM_ID", "TIMESTAMP", "EVENT_TYPE", "IMPRESSION"]
    assert rows.values.tolist() == [
        ["U2", "N5", seconds("2019-11-10 00:00:00"), "click", "N4|N5|N3"],
        ["U2", "N3", seconds("2019-11-10 00:00:00"), "click", "N4|N5|N3"],
        ["U1", "N3", seconds("2019-11-11 09:05:58"), "click", "N3|N4"],
        ["U1", "N4", seconds("2019-11-12 13:00:00"), "click", "N5|N4"],
    ]


def test_mind_histories_stand_before_the_log_in_their_order_and_once(mind):
    rows = read("mind-small", mind).interactions
    assert rows[["USER_ID", "ITEM_ID"]].values.tolist()[:2] == [["U1", "N1"], ["U1", "N2"]]
    start = seconds("2019-11-10 00:00:00")
    assert rows["TIMESTAMP"].tolist()[:2] == [start - 120, start - 60]
    assert len(rows) == 6 and rows["IMPRESSION"].isna().tolist() == [True] * 2 + [False] * 4


def test_mind_articles_are_created_when_first_seen(mind):
    items = read("mind-small", mind).items.set_index("ITEM_ID")
    start = seconds("2019-11-10 00:00:00")
    assert list(items) == ["CATEGORY", "SUBCATEGORY", "CREATION_TIMESTAMP", "TITLE", "ABSTRACT"]
    assert items["CREATION_TIMESTAMP"].tolist()[:5] == [start - 120, start - 60, start, start, start]
    assert items["CREATION_TIMESTAMP"].isna().tolist() == [False] * 5 + [True]
    assert items["SUBCATEGORY"].notna().sum() == 1 and items["ABSTRACT"].isna().all()


def test_mind_dev_goes_on_from_train_without_telling_it_again(mind):
    (mind / "MINDsmall_dev").mkdir()
    (mind / "MINDsmall_dev" / "news.tsv").write_text(NEWS + "N7\tnews\t\tNew\t\t\t[]\t[]\n")
    (mind / "MINDsmall_dev" / "behaviors.tsv").write_text(
        "1\tU1\t11/15/2019 9:00:00 AM\tN1 N2 N3\tN7-1\n2\tU3\t11/15/2019 9:00:00 AM\tN2\tN7-1\n"
    )
    datasets = read("mind-small", mind)
    of = datasets.interactions.groupby("USER_ID")["ITEM_ID"].agg(list)
    assert of.to_dict() == {"U1": ["N1", "N2", "N3", "N4", "N7"], "U2": ["N5", "N3"], "U3": ["N2", "N7"]}
    assert len(datasets.items) == 7


def test_a_long_impression_keeps_the_click_and_whole_ids(mind):
    shown = " ".join(f"N{number}-0" for number in range(10_000, 10_400)) + " N3-1"
    (mind / "MINDsmall_train" / "behaviors.tsv").write_text(f"1\tU1\t11/11/2019 9:05:58 AM\t\t{shown}\n")
    impression = read("mind-small", mind).interactions["IMPRESSION"].iat[0]
    assert 990 < len(impression) <= 1000
    assert impression.startswith("N3|N10000|") and all(len(item) in (2, 6) for item in impression.split("|"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "3\tU1\t11/12/2019 25:00:00 PM\t\tN1-1",
            r"behaviors\.tsv, line 4, column time: found '11/12/2019 25:00:00 PM'",
        ),
        ("3\tU1\t11/12/2019 1:00:00 PM\t\tN1", r"line 4, column impressions: found 'N1'; expected an id and -1"),
        ("3\tU1\t11/12/2019 1:00:00 PM\t\t", r"line 4, column impressions: found ''"),
        (
            "3\tU1\t11/12/2019 1:00:00 PM\tN1-1",
            r"line 4: found 4 columns, expected 5 \(impression, user, time, history",
        ),
        ("", r"line 4: found 1 columns, expected 5"),
    ],
)
def test_a_bad_line_of_behaviors_is_named(mind, line, message):
    (mind / "MINDsmall_train" / "behaviors.tsv").write_text(BEHAVIORS + line + "\n")
    with pytest.raises(ValueError, match=message):
        read("mind-small", mind)


def test_an_article_that_stands_twice_is_named(mind):
    (mind / "MINDsmall_train" / "news.tsv").write_text(NEWS + "N2\tnews\t\tAgain\t\t\t[]\t[]\n")
    with pytest.raises(ValueError, match=r"news\.tsv, line 7, column id: found 'N2'"):
        read("mind-small", mind)


def test_bytes_that_are_no_utf8_are_named(mind):
    (mind / "MINDsmall_train" / "news.tsv").write_bytes(NEWS.encode() + b"N9\tnews\t\tCaf\xe9\t\t\t[]\t[]\n")
    with pytest.raises(ValueError, match=r"news\.tsv, line 7: byte \d+ is not utf-8; save the file as utf-8"):
        read("mind-small", mind)


def test_an_empty_file_says_so(mind):
    (mind / "MINDsmall_train" / "news.tsv").write_text("\n")
    with pytest.raises(ValueError, match=r"news\.tsv is empty: fetch or copy it again"):
        read("mind-small", mind)


def test_windows_line_ends_are_read(mind):
    expected = read("mind-small", mind).interactions
    (mind / "MINDsmall_train" / "behaviors.tsv").write_bytes(BEHAVIORS.replace("\n", "\r\n").encode())
    pd.testing.assert_frame_equal(read("mind-small", mind).interactions, expected)


def test_the_mind_subset_is_read():
    datasets = read("mind-small", shared("mind-small-subset"))
    rows = datasets.interactions
    assert rows["IMPRESSION"].notna().sum() == 10_403
    assert rows["USER_ID"].nunique() == 6_227 and len(datasets.items) == 51_282
    assert rows["IMPRESSION"].str.len().max() <= 1000
    created = rows["ITEM_ID"].map(datasets.items.set_index("ITEM_ID")["CREATION_TIMESTAMP"])
    assert (rows["TIMESTAMP"] >= created).all()
    inside = [
        item in shown.split("|")
        for item, shown in rows.loc[rows["IMPRESSION"].notna(), ["ITEM_ID", "IMPRESSION"]].values
    ]
    assert all(inside)


# MovieLens


def test_a_rating_above_1_is_a_click_and_above_3_a_watch_after_it(movies):
    rows = read("movielens-small", movies).interactions
    assert rows.values.tolist() == [["2", "10", 6, "click"], ["1", "11", 7, "click"], ["1", "11", 7, "watch"]]


def test_every_rating_can_be_one_event(movies):
    rows = read("movielens-small", movies, click_above=0, watch_above=None).interactions
    assert rows["EVENT_TYPE"].tolist() == ["click"] * 3


def test_movies_have_title_genre_and_year_where_known(movies):
    items = read("movielens-small", movies).items
    assert items.iloc[0].tolist() == ["10", "Kid, The (1921)", "Comedy|Drama", 1921]
    assert items.loc[1, ["GENRE", "YEAR"]].isna().all()


def test_movielens_small_gives_the_rows_of_the_published_example():
    datasets = read("movielens-small", shared("ml-latest-small"))
    assert len(datasets.interactions) == 158_371
    assert datasets.interactions["USER_ID"].nunique() == 610 and len(datasets.items) == 9_742
    assert datasets.interactions["TIMESTAMP"].is_monotonic_increasing


def test_movielens_1m_as_published(million):
    (million / "ratings.dat").write_text("1::10::5::978300760\n1::11::2::978300700\n2::11::1::978300701\n")
    datasets = read("movielens-1m", million)
    assert datasets.interactions[["USER_ID", "ITEM_ID", "EVENT_TYPE"]].values.tolist() == [
        ["1", "11", "click"], ["1", "10", "click"], ["1", "10", "watch"],
    ]  # fmt: skip
    assert datasets.items["TITLE"].tolist() == ["Café (1990)", "Up (2009)"]
    assert datasets.users.values.tolist() == [["1", "F", "Under 18", "K-12 student"], ["2", "M", "56+", "other"]]


def test_movielens_1m_rebuilt_keeps_order_and_last_time(million):
    ratings = "user_id,movie_id,rating,sas_rank\n1,10,2,1\n1,11,2,0\n2,11,3,0\n1,12,2,\n"
    (million / "ratings_no_timestamps.csv.gz").write_bytes(gzip.compress(ratings.encode()))
    (million / "user_last_timestamp.csv").write_text("user_id,last_rating_timestamp\n1,1000\n2,500\n")
    rows = read("movielens-1m", million).interactions
    assert rows[["USER_ID", "ITEM_ID", "TIMESTAMP"]].values.tolist() == [
        ["2", "11", 500], ["1", "12", 998], ["1", "11", 999], ["1", "10", 1000],
    ]  # fmt: skip


def test_the_rebuilt_movielens_1m_has_the_published_order():
    folder = shared("ml-1m")
    rows = read("movielens-1m", folder, click_above=0, watch_above=None).interactions
    assert len(rows) == 1_000_209 and rows["USER_ID"].nunique() == 6_040
    original = dict(
        line.split()[:2] for line in (folder / "ml-1m/sasrec/sas_to_original_items.txt").read_text().splitlines()
    )
    with gzip.open(folder / "ml-1m/sasrec/ml-1m.txt.gz", "rt") as file:
        published = [line.split()[1] for line in file if line.startswith("1 ")]
    users = dict(
        line.split()[:2] for line in (folder / "ml-1m/sasrec/sas_to_original_users.txt").read_text().splitlines()
    )
    mine = rows[rows["USER_ID"] == users["1"]]["ITEM_ID"].tolist()
    assert mine == [original[item] for item in published]


def test_an_unreadable_rating_is_named(movies):
    with (movies / "ratings.csv").open("a") as file:
        file.write("2,11,many,8\n")
    with pytest.raises(ValueError, match=r"ratings\.csv, line 5, column rating: found 'many'; expected a number"):
        read("movielens-small", movies)


def test_a_cut_archive_says_so(million):
    (million / "ratings_no_timestamps.csv.gz").write_bytes(gzip.compress(b"user_id" * 100)[:-9])
    with pytest.raises(ValueError, match="is not a complete gzip file"):
        read("movielens-1m", million)


def test_an_unknown_occupation_is_named(million):
    (million / "ratings.dat").write_text("1::10::5::978300760\n")
    (million / "users.dat").write_text("1::F::1::99::48067\n")
    with pytest.raises(ValueError, match=r"users\.dat, line 1, column occupation: found '99'"):
        read("movielens-1m", million)


# Online Retail


def test_online_retail_keeps_purchases_of_products_by_customers(tmp_path):
    line = {
        "InvoiceNo": "1", "StockCode": "85123a", "Description": "LAMP", "Quantity": 2,
        "InvoiceDate": pd.Timestamp("2010-12-01 08:26"), "UnitPrice": 2.5, "CustomerID": 17850.0, "Country": "Norway",
    }  # fmt: skip
    bad = [{"InvoiceNo": "C1"}, {"StockCode": "POST"}, {"UnitPrice": 0.0}, {"CustomerID": np.nan}, {"Quantity": -1}]
    lines = [line, *({**line, **change} for change in bad), {**line, "StockCode": "22222", "Description": "nan"}]
    pd.DataFrame(lines).to_parquet(tmp_path / "online_retail.parquet")
    datasets = read("online-retail", tmp_path)
    assert datasets.interactions.values.tolist()[0] == ["17850", "85123A", seconds("2010-12-01 08:26"), "purchase", 2]
    assert datasets.items["ITEM_ID"].tolist() == ["22222", "85123A"]
    assert datasets.items["TITLE"].isna().tolist() == [True, False]
    assert datasets.users.values.tolist() == [["17850", "Norway"]]


def test_the_whole_of_online_retail_is_read():
    datasets = read("online-retail", shared("online_retail"))
    assert len(datasets.interactions) == 396_337
    assert len(datasets.users) == 4_334 and len(datasets.items) == 3_659
    assert (datasets.interactions["EVENT_VALUE"] > 0).all() and datasets.items["TITLE"].notna().all()


def test_a_parquet_file_without_a_column_says_so(tmp_path):
    pd.DataFrame({"StockCode": ["1"]}).to_parquet(tmp_path / "online_retail.parquet")
    with pytest.raises(ValueError, match="has no column InvoiceNo, only StockCode"):
        read("online-retail", tmp_path)


# The simulated site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "simulated"
    simulate(folder, seed=5, readers=150, articles=300, interactions=4000, days=14)
    return folder


def test_the_simulated_site_has_what_mind_does_not(site):
    datasets = read("simulated", site.parent)
    assert list(datasets.interactions) == [
        "USER_ID", "ITEM_ID", "TIMESTAMP", "EVENT_TYPE", "EVENT_VALUE", "DEVICE", "IMPRESSION",
    ]  # fmt: skip
    assert list(datasets.items) == [
        "ITEM_ID", "CATEGORY", "SUBCATEGORY", "AGE_RATING", "CREATION_TIMESTAMP", "TITLE", "ABSTRACT",
    ]  # fmt: skip
    assert list(datasets.users) == ["USER_ID", "AGE_GROUP", "GENDER", "REGION"]
    assert set(datasets.items["AGE_RATING"]) == {"all", "12", "16", "18"}
    assert datasets.items.notna().all(axis=None) and datasets.users.notna().all(axis=None)
    clicks = datasets.interactions[datasets.interactions["IMPRESSION"].notna()]
    assert (clicks["EVENT_VALUE"] > 0).all() and clicks["DEVICE"].notna().all()


def test_what_was_done_before_login_belongs_to_the_user(site):
    events = pd.read_csv(site / "events.tsv", sep="\t", dtype=str, keep_default_na=False)
    sessions = pd.read_csv(site / "sessions.tsv", sep="\t", dtype=str, keep_default_na=False).set_index("session")[
        "user"
    ]
    rows = read("simulated", site, histories=False).interactions
    anonymous = events["user"].isin(sessions[sessions == ""].index)
    assert set(rows["USER_ID"][rows["USER_ID"].str.startswith("S")]) == set(events["user"][anonymous])
    assert len(rows) == len(events) and events["user"].isin(sessions[sessions != ""].index).any()


def test_histories_of_the_simulated_site_come_first_and_can_be_left_out(site):
    with_them, without = (read("simulated", site, histories=wanted).interactions for wanted in (True, False))
    earlier = with_them.iloc[: len(with_them) - len(without)]
    assert len(earlier) > 0 and earlier["DEVICE"].isna().all()
    assert earlier["TIMESTAMP"].max() < without["TIMESTAMP"].min()


def test_training_tables_say_nothing_of_the_truth(site, tmp_path):
    copy = tmp_path / "simulated"
    copy.mkdir()
    for file in site.iterdir():
        if file.name != "truth.npz":
            (copy / file.name).write_bytes(file.read_bytes())
    pd.testing.assert_frame_equal(read("simulated", copy).interactions, read("simulated", site).interactions)


def test_an_incomplete_site_is_refused(site, tmp_path):
    (tmp_path / "events.tsv").write_bytes((site / "events.tsv").read_bytes())
    with pytest.raises(FileNotFoundError, match="the simulated site is incomplete, make it again"):
        read("simulated", tmp_path)


def test_a_wrong_header_is_refused(site, tmp_path):
    for file in site.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "users.tsv").write_text("user\tage\tgender\tregion\nU1\t18-24\tfemale\tcoast\n")
    with pytest.raises(ValueError, match=r"users\.tsv, line 1: found user, age, gender, region, expected the header"):
        read("simulated", tmp_path)


# One's own files


def test_own_files_keep_their_columns_under_personalize_names(tmp_path):
    (tmp_path / "interactions.csv").write_text(
        'user id,Item-ID,TimeStamp,event type,price,code,night\n007,A1,5,buy,2.5,01,true\n8,"B, 2",4,,3,02,\n'
    )
    mapping = {"USER_ID": "user id", "ITEM_ID": "Item-ID", "TIMESTAMP": "TimeStamp"}
    rows = read("csv", tmp_path).interactions
    assert list(rows) == ["USER_ID", "ITEM_ID", "TIMESTAMP", "EVENT_TYPE", "PRICE", "CODE", "NIGHT"]
    assert rows["USER_ID"].tolist() == ["8", "007"] and rows["ITEM_ID"].tolist() == ["B, 2", "A1"]
    assert rows["PRICE"].tolist() == [3.0, 2.5] and rows["CODE"].tolist() == ["02", "01"]
    assert rows["EVENT_TYPE"].isna().tolist() == [True, False] and rows["NIGHT"].iat[1]
    assert list(read("csv", tmp_path, interaction_columns=mapping).interactions) == list(mapping)


def test_ids_event_types_and_impressions_may_be_numbers_and_stay_text(tmp_path):
    (tmp_path / "interactions.csv").write_text("USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE,IMPRESSION\n1,2,3,1,2\n1,4,5,,\n")
    rows = read("csv", tmp_path).interactions
    assert rows.iloc[0].to_list() == ["1", "2", 3, "1", "2"]
    assert rows.iloc[1].isna().to_list() == [False, False, False, True, True]


def test_own_items_and_users_are_read_where_they_are(tmp_path):
    (tmp_path / "interactions.csv").write_text("USER_ID,ITEM_ID,TIMESTAMP\n1,2,3\n")
    (tmp_path / "items.csv").write_text("ITEM_ID,CREATION_TIMESTAMP\n9,2020-01-01T00:00:00Z\n2,\n")
    (tmp_path / "people.csv").write_text("USER_ID;AGE\n1;30\n")
    datasets = read("csv", tmp_path)
    assert datasets.items["ITEM_ID"].tolist() == ["2", "9"] and datasets.users is None
    assert datasets.items["CREATION_TIMESTAMP"].tolist()[1] == seconds("2020-01-01")
    with pytest.raises(ValueError, match=r"people\.csv, line 1: found 'USER_ID;AGE', expected .* the option delimiter"):
        read("csv", tmp_path, users="people.csv")


@pytest.mark.parametrize(("time", "meant"), [("20241231", "2024-12-31"), ("20241231T0800", "2024-12-31 08:00")])
def test_own_dates_without_dashes_are_no_seconds(tmp_path, time, meant):
    (tmp_path / "interactions.csv").write_text(f"USER_ID,ITEM_ID,TIMESTAMP\n1,2,{time}\n")
    assert read("csv", tmp_path).interactions["TIMESTAMP"].tolist() == [seconds(meant)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_own_lines_may_end_as_on_any_machine(tmp_path, end):
    (tmp_path / "interactions.csv").write_bytes(end.join(["USER_ID,ITEM_ID,TIMESTAMP", "1,2,3", "4,5,6", ""]).encode())
    assert read("csv", tmp_path).interactions.to_numpy().tolist() == [["1", "2", 3], ["4", "5", 6]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"USER_ID,ITEM_ID,TIMESTAMP\n1,2,3\n"), r"line 1: .*; save the file so, not packed"),
        (
            "USER_ID,ITEM_ID,TIMESTAMP\n1,2,3\n".encode("utf-16"),
            r"line 1: expected .* in UTF-8 \('utf-8' codec",
        ),
        (b"\nUSER_ID,ITEM_ID,TIMESTAMP\n1,2,3\n", r"line 1: found '', expected the names of columns separated by ','"),
        (b'USER_ID,ITEM_ID,TIMESTAMP\n1,2,"' + b"3" * 3_000_000 + b'"\n', r"a value longer than a mebibyte; see"),
    ],
)
def test_own_bytes_that_are_no_csv_are_told_how_to_be(tmp_path, content, message):
    (tmp_path / "interactions.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read("csv", tmp_path)


def test_own_times_may_be_dates_of_any_format(tmp_path):
    (tmp_path / "interactions.csv").write_text("USER_ID,ITEM_ID,TIMESTAMP\n1,2,31.12.2024 08:00\n")
    rows = read("csv", tmp_path, time_format="%d.%m.%Y %H:%M").interactions
    assert rows["TIMESTAMP"].tolist() == [seconds("2024-12-31 08:00")]


def test_milliseconds_stay_for_the_cleaning_to_see(tmp_path):
    (tmp_path / "interactions.csv").write_text("USER_ID,ITEM_ID,TIMESTAMP\n1,2,1700000000000\n1,3,\n")
    rows = read("csv", tmp_path).interactions
    assert rows["TIMESTAMP"].iat[0] == 1_700_000_000_000 and rows["TIMESTAMP"].isna().iat[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("USER_ID,ITEM_ID,TIMESTAMP\n1,2,3\n1,2,3,4\n", r"interactions\.csv, line 3: found 4 columns, expected 3"),
        ("USER_ID,ITEM_ID,TIMESTAMP\n1,2,3\n1,2\n", r"line 3: found 2 columns, expected 3"),
        (
            'USER_ID,ITEM_ID,TIMESTAMP\n1,"2\n2",3\n\n1,2,soon\n',
            r"line 5, column TIMESTAMP: found 'soon'; expected epoch",
        ),
        ("USER_ID,ITEM_ID\n1,2\n", r"has no column TIMESTAMP, only USER_ID, ITEM_ID: say which one it is"),
        ("USER_ID,USER_ID\n1,2\n", r"line 1: column 'USER_ID' stands twice in the header"),
        (
            "user_id,user id,ITEM_ID,TIMESTAMP\n1,2,3,4\n",
            r"line 1: columns 'user_id' and 'user id' would both be USER_ID; rename one, or say which",
        ),
        (",USER_ID,ITEM_ID,TIMESTAMP\n0,1,2,3\n", r"line 1: column '' cannot be named '': names are letters"),
        ("USER_ID,ITEM_ID,TIMESTAMP,2nd\n1,2,3,4\n", r"line 1: column '2nd' cannot be named '2ND': .*; rename it, or"),
        ("USER_ID,ITEM_ID,TIMESTAMP,Größe\n1,2,3,4\n", r"column 'Größe' cannot be named 'GRÖSSE'"),
        ("USER_ID,ITEM_ID,TIMESTAMP\n1,2,20241231080000\n", r"found '20241231080000'; .* give the option time_format"),
        ("USER_ID,ITEM_ID,TIMESTAMP\n", r"has a header and no rows"),
        ("", r"interactions\.csv is empty"),
    ],
)
def test_a_bad_own_file_is_named(tmp_path, content, message):
    (tmp_path / "interactions.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        read("csv", tmp_path)


def test_a_mapped_column_that_is_not_there_is_named(tmp_path):
    (tmp_path / "interactions.csv").write_text("a,b,c\n1,2,3\n")
    with pytest.raises(ValueError, match=r"line 1: no column 'customer' in the header, only a, b, c"):
        read("csv", tmp_path, interaction_columns={"USER_ID": "customer"})


# Finding and fetching


@pytest.mark.parametrize("source", sorted(set(sources.READERS) - {"csv"}))
def test_a_folder_without_the_data_says_what_was_looked_for(tmp_path, source):
    with pytest.raises(FileNotFoundError, match=r"does not hold .* nor does .* in it: "):
        read(source, tmp_path)


def test_an_unknown_source_or_option_is_refused(tmp_path):
    with pytest.raises(ValueError, match="source is 'netflix', expected one of simulated, mind-small"):
        read("netflix", tmp_path)
    with pytest.raises(ValueError, match="has no option 'history', expected one of histories"):
        read("mind-small", tmp_path, history=False)
    with pytest.raises(ValueError, match="needs either a folder to read or one to download to"):
        read("mind-small", None)
    with pytest.raises(ValueError, match="csv cannot be downloaded"):
        read("csv", None, download_to=tmp_path)


@pytest.fixture
def publisher(tmp_path, movies, monkeypatch):
    """A server on the loopback that publishes the two films; (its folder, its archive's checksum)."""
    published = tmp_path / "published"
    published.mkdir()
    with zipfile.ZipFile(published / "films.zip", "w") as archive:
        for name in ("ratings.csv", "movies.csv"):
            archive.write(movies / name, f"ml-latest-small/{name}")
    handler = partial(SimpleHTTPRequestHandler, directory=published)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield (
            f"http://127.0.0.1:{server.server_port}/films.zip",
            hashlib.sha256((published / "films.zip").read_bytes()).hexdigest(),
        )
        server.shutdown()
        thread.join()


def publish(monkeypatch, url, sha256, members=("ratings.csv", "movies.csv")):
    download = Download(url=url, sha256=sha256, into="ml-latest-small", members=members)
    monkeypatch.setitem(sources.DOWNLOADS, "movielens-small", (download,))


def test_a_download_is_checked_unpacked_and_kept(publisher, tmp_path, monkeypatch):
    publish(monkeypatch, *publisher)
    first = read("movielens-small", None, download_to=tmp_path / "data")
    assert sorted(file.name for file in (tmp_path / "data").rglob("*")) == [
        "ml-latest-small",
        "movies.csv",
        "ratings.csv",
    ]
    publish(monkeypatch, "http://127.0.0.1:9/gone", "")
    pd.testing.assert_frame_equal(read("movielens-small", None, download_to=tmp_path / "data").items, first.items)


def test_a_download_with_other_bytes_is_thrown_away(publisher, tmp_path, monkeypatch):
    publish(monkeypatch, publisher[0], "0" * 64)
    with pytest.raises(ValueError, match=f"has sha256 {publisher[1]}, expected 0000"):
        fetch("movielens-small", tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_an_archive_without_a_wanted_file_is_refused(publisher, tmp_path, monkeypatch):
    publish(monkeypatch, *publisher, members=("tags.csv",))
    with pytest.raises(ValueError, match=r"does not hold tags\.csv, only movies\.csv, ratings\.csv"):
        fetch("movielens-small", tmp_path / "data")
    assert not (tmp_path / "data" / "ml-latest-small").exists()


def test_a_publisher_that_cannot_be_reached_is_named(publisher, tmp_path, monkeypatch):
    publish(monkeypatch, publisher[0].replace("films", "gone"), publisher[1])
    with pytest.raises(OSError, match=r"gone\.zip cannot be read .* check the network, or put the files into"):
        fetch("movielens-small", tmp_path / "data")


def test_every_download_names_a_checksum_and_lies_where_it_is_looked_for(tmp_path):
    for downloads in sources.DOWNLOADS.values():
        for download in downloads:
            assert len(download.sha256) == 64 and int(download.sha256, 16)
            assert download.url.startswith("https://")
