import gzip
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.data import tables
from lib.data.schema import Field, Schema
from lib.data.tables import DataError, ImportSummary

NOW = 1_700_000_000
KEYS = (
    Field(name="USER_ID", type="string"),
    Field(name="ITEM_ID", type="string"),
    Field(name="TIMESTAMP", type="long"),
)
CLICKS = Schema(name="Interactions", fields=(*KEYS, Field(name="DEVICE", type="string", nullable=True)))
ITEMS = Schema(
    name="Items",
    fields=(
        Field(name="ITEM_ID", type="string"),
        Field(name="GENRE", type="string", categorical=True),
        Field(name="YEAR", type="int"),
        Field(name="PRICE", type="float", nullable=True),
        Field(name="ADULT", type="boolean", nullable=True),
        Field(name="PLOT", type="string", nullable=True, textual=True),
    ),
)
HEADER = "ITEM_ID,GENRE,YEAR,PRICE,ADULT,PLOT\n"


def imported(tmp_path, schema, *texts, minimum=1):
    """Import texts as files; the summary and the table."""
    streams = [io.BytesIO(text if isinstance(text, bytes) else text.encode()) for text in texts]
    summary = tables.import_csv(streams, schema, tmp_path / "table", now=NOW, minimum=minimum)
    return summary, tables.read([tmp_path / "table"])


def clicks(*rows):
    return "USER_ID,ITEM_ID,TIMESTAMP,DEVICE\n" + "".join(row + "\n" for row in rows)


def test_values_become_the_types_of_the_schema(tmp_path):
    summary, table = imported(tmp_path, ITEMS, HEADER + "a,War|Drama,1994,1.5,true,Long\nb,War,1.0,,FALSE,\n")
    assert table.to_dict("list") == {
        "ITEM_ID": ["a", "b"],
        "GENRE": ["War|Drama", "War"],
        "YEAR": [1994, 1],
        "PRICE": [1.5, pytest.approx(np.nan, nan_ok=True)],
        "ADULT": [True, False],
        "PLOT": ["Long", pytest.approx(np.nan, nan_ok=True)],
    }
    assert [str(kind) for kind in table.dtypes] == ["str", "str", "int64", "float64", "bool", "str"]
    assert summary == ImportSummary(
        rows=2,
        duplicates=0,
        nulls={"ITEM_ID": 0, "GENRE": 0, "YEAR": 0, "PRICE": 1, "ADULT": 0, "PLOT": 1},
        unreadable={},
    )


def test_columns_are_found_by_name_in_any_case_and_order_and_others_ignored(tmp_path):
    text = ",timestamp,Item_Id,note,note, user_id ,DEVICE\n0,5,i,x,y,u,tv\n"
    _, table = imported(tmp_path, CLICKS, "\ufeff" + text)
    assert table.to_dict("records") == [{"USER_ID": "u", "ITEM_ID": "i", "TIMESTAMP": 5, "DEVICE": "tv"}]


QUOTED = [
    (r'"a \"b\" c"', 'a "b" c'),
    ('"a ""b"" c"', 'a "b" c'),
    ('"a, b"', "a, b"),
    ('"a\nb"', "a\nb"),
    ('"a\r\nb"', "a\r\nb"),
    (r"AC\DC", r"AC\DC"),
    (r'"AC\DC, \\ live"', r"AC\DC, \ live"),
    ("naïve 本 😀", "naïve 本 😀"),
    (" a ", " a "),
    ('5" nail', '5" nail'),
]


@pytest.mark.parametrize("written, meant", QUOTED)
def test_quotes_and_backslashes_are_read_as_meant(tmp_path, written, meant):
    _, table = imported(tmp_path, CLICKS, clicks(f"u,i,5,{written}", "u,i,6,x"))
    assert table["DEVICE"].tolist() == [meant, "x"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_backslash_at_the_end_of_a_block_is_read_with_the_next(size):
    class Trickle(io.BytesIO):
        def read(self, _=-1):
            return super().read(size)

    text = rb"a\"b\\c\d\\\"e\\\\"
    stream = tables._Unescaped(Trickle(text), None)
    assert b"".join(iter(lambda: stream.read(2), b"")) == rb"a\"b\\c\\d\\\"e\\\\"


def test_timestamps_may_be_floats(tmp_path):
    _, table = imported(tmp_path, CLICKS, clicks("u,i,1600000000.0,", "u,i, 1600000001 ,", "u,i,1.5e9,", "u,i,7.9,"))
    assert table["TIMESTAMP"].tolist() == [1_600_000_000, 1_600_000_001, 1_500_000_000, 7]


def test_text_in_a_number_s_place_is_null_and_counted(tmp_path):
    rows = ["a,War,2006-2007,1,,", "b,War,,free,,", "c,War,2.5,nan,,", "d,War,4294967296,inf,,", "e,War,1999,2,maybe,"]
    summary, table = imported(tmp_path, ITEMS, HEADER + "\n".join([*rows, "f,War,1999,2,true,"]))
    assert table["YEAR"].isna().tolist() == [True, True, True, True, False, False]
    assert table["PRICE"].isna().tolist() == [False, True, True, True, False, False]
    assert summary.unreadable == {"ADULT": 1, "PRICE": 3, "YEAR": 3}
    assert summary.nulls["YEAR"] == 4


def test_a_number_beyond_what_its_type_holds_is_null(tmp_path):
    fields = (KEYS[0], *(Field(name=kind.upper(), type=kind, nullable=True) for kind in ("float", "double")))
    text = "USER_ID,FLOAT,DOUBLE\na,3.4e38,1e308\nb,-1e39,1e309\n"
    summary, table = imported(tmp_path, Schema(name="Users", fields=fields), text)
    assert table["FLOAT"].tolist() == [3.4e38, pytest.approx(np.nan, nan_ok=True)]
    assert table["DOUBLE"].tolist() == [1e308, pytest.approx(np.nan, nan_ok=True)]
    assert summary.unreadable == {"DOUBLE": 1, "FLOAT": 1}


def test_large_integers_stay_exact_beside_unreadable_ones(tmp_path):
    wide = Schema(name="Users", fields=(KEYS[0], Field(name="N", type="long", nullable=True)))
    _, table = imported(tmp_path, wide, "USER_ID,N\na,123456789012345678\nb,5.0\n")
    assert table["N"].tolist() == [123456789012345678, 5]
    _, table = imported(tmp_path, wide, "USER_ID,N\na,+123456789012345679\nb,?\n")
    assert table["N"].tolist() == [123456789012345679, pd.NA] and table["N"].dtype == "Int64"
    tables.write_csv(table, tmp_path / "users.csv")
    assert (tmp_path / "users.csv").read_text() == "USER_ID,N\na,123456789012345679\nb,\n"


def test_long_text_is_cut_and_shorter_in_chinese_and_japanese(tmp_path):
    text = HEADER + f"a,War,1,,,{'x' * 30_000}\nb,War,1,,,{'本' * 30_000}\nc,War,1,,,{'x' * 8_000}\n"
    _, table = imported(tmp_path, ITEMS, text)
    assert table["PLOT"].str.len().tolist() == [20_000, 7_000, 8_000]


def test_interactions_equal_in_everything_are_kept_once(tmp_path):
    rows = ["u,i,5,tv", "u,i,5,", "u,i,5,tv", "u,j,5,tv", "u,i,6,tv", "u,i,5,"]
    summary, table = imported(tmp_path, CLICKS, clicks(*rows[:3]), clicks(*rows[3:]))
    assert (summary.rows, summary.duplicates, summary.nulls["DEVICE"]) == (4, 2, 1)
    assert table["ITEM_ID"].tolist() == ["i", "i", "j", "i"]
    assert table["TIMESTAMP"].tolist() == [5, 5, 5, 6]


def test_of_items_with_one_id_the_last_is_kept(tmp_path):
    rows = "a,War,1,,,\nb,War,2,,,\na,Drama,3,9,,\n"
    summary, table = imported(tmp_path, ITEMS, HEADER + rows, HEADER + "b,Comedy,4,,,")
    assert table[["ITEM_ID", "GENRE", "YEAR"]].to_numpy().tolist() == [["a", "Drama", 3], ["b", "Comedy", 4]]
    assert (summary.rows, summary.duplicates, summary.nulls["PRICE"]) == (2, 2, 1)


def test_rows_that_only_hash_alike_in_one_part_are_all_kept():
    hashes = np.array([[1, 1, 1, 2, 2], [5, 6, 5, 7, 7]], np.uint64)
    assert tables._repeated(hashes, keep_last=False).tolist() == [False, False, True, False, True]
    assert tables._repeated(hashes, keep_last=True).tolist() == [True, False, False, True, False]


REFUSED = [
    (
        "USER_ID,item_id\nu,i\n",
        "Input CSV is missing the following columns: [TIMESTAMP, DEVICE] (input). "
        "Its first line names USER_ID, item_id.",
    ),
    ("", "The file is empty (input). Its first line must name the columns."),
    (
        "USER_ID,user_id,ITEM_ID,TIMESTAMP,DEVICE\n",
        "USER_ID is there more than once (input, row 1). Rename or drop one.",
    ),
    (
        clicks("u,i,5,", "u,,5,"),
        "ITEM_ID is empty (input, row 3, column ITEM_ID, value ''). Fill it or leave the record out.",
    ),
    (
        clicks("u,i,5,", 'u,i,6,"two\nlines"', "", "u,i,soon,"),
        "TIMESTAMP is not of type long (input, row 6, column TIMESTAMP, value 'soon'). Give epoch seconds.",
    ),
    (
        clicks("u,i,1600000000,", "u,i,1600000000000,"),
        "TIMESTAMP is not in epoch seconds (input, row 3, column TIMESTAMP, value '1600000000000'). "
        "It looks like milliseconds: divide by 1000.",
    ),
    (
        clicks("u,i,1700000000,", "u,i,1700086401,"),
        "TIMESTAMP lies in the future (input, row 3, column TIMESTAMP, value '1700086401'). "
        "Give seconds up to now, 1700000000.",
    ),
    (
        clicks("u,i,-1,"),
        "TIMESTAMP is negative (input, row 2, column TIMESTAMP, value '-1'). Give epoch seconds.",
    ),
    (
        clicks("u" * 257 + ",i,5,"),
        "Length cannot be more than 256 characters for USER_ID (input, row 2, column USER_ID, "
        f"value '{'u' * 57}...'). Shorten it.",
    ),
    (
        clicks("u,i,5," + "x" * 1001),
        "Length cannot be more than 1000 characters for DEVICE (input, row 2, column DEVICE, "
        f"value '{'x' * 57}...'). Shorten it.",
    ),
    (
        clicks("u,i,5,tv", "u,i,5,tv,red"),
        "The record has 5 fields, the header 4 (input, row 3). "
        'Put text with commas, quotes or line breaks in double quotes, and write \\" for a quote in it.',
    ),
    (
        clicks("u,i,5,tv").encode() + b"u,i,5,caf\xe9\n",
        r"The text is not UTF-8 (input, row 3, column DEVICE, value 'caf\\xe9'). Save as UTF-8.",
    ),
    (
        clicks("u,i,5,tv") + clicks("u,i,6,tv"),
        "USER_ID holds its own name (input, row 3, column USER_ID, value 'USER_ID'). "
        "It looks like a second header line: remove it.",
    ),
    (
        clicks(),
        "Interactions need at least 1 rows per import job, found 0 (input). "
        "Collect more, or import several files of one folder together.",
    ),
    (
        clicks("u,i,5,tv", 'u,i,6,"open', "u,i,7,tv"),
        "A quote is opened and never closed (input, row 3). "
        'Close it, or write \\" for a quote that belongs to the text.',
    ),
    (gzip.compress(clicks("u,i,5,tv").encode() * 1000)[:40], None),
]


@pytest.mark.parametrize("text, message", REFUSED, ids=[str(message)[:50] for _, message in REFUSED])
def test_a_wrong_file_is_refused_with_place_and_remedy_and_nothing_is_left(tmp_path, text, message):
    with pytest.raises(DataError) as error:
        imported(tmp_path, CLICKS, text)
    assert message is None or str(error.value) == message
    assert str(error.value).startswith("The file cannot be read") or message is not None
    assert list(tmp_path.iterdir()) == []


def test_an_error_carries_its_place_as_values(tmp_path):
    (tmp_path / "clicks.csv").write_text(clicks("u,i,5,", "u,i,x,"))
    with pytest.raises(DataError) as error:
        tables.import_csv([tmp_path / "clicks.csv"], CLICKS, tmp_path / "table", now=NOW)
    found = error.value
    assert (found.file, found.row, found.column, found.value) == ("clicks.csv", 3, "TIMESTAMP", "x")
    assert found.remedy == "Give epoch seconds"


def test_a_text_column_that_cannot_be_null_must_be_filled(tmp_path):
    with pytest.raises(DataError, match=r'GENRE is empty \(input, row 3.*or let the schema allow \["null", "string"\]'):
        imported(tmp_path, ITEMS, HEADER + "a,War,1,,,\nb,,1,,,\n")


def test_a_column_with_no_readable_value_is_refused(tmp_path):
    message = r"No value of YEAR is of type int \(input, row 3, column YEAR, value 'old'\)"
    with pytest.raises(DataError, match=message):
        imported(tmp_path, ITEMS, HEADER + "a,War,,,,\nb,War,old,,,\nc,War,new,,,\n")


def test_milliseconds_are_refused_in_other_times_too_but_not_the_past(tmp_path):
    made = Schema(name="Items", fields=(ITEMS.fields[0], Field(name="CREATION_TIMESTAMP", type="long", nullable=True)))
    _, table = imported(tmp_path, made, "ITEM_ID,CREATION_TIMESTAMP\na,-86400\nb,\n")
    assert table["CREATION_TIMESTAMP"].iloc[0] == -86400
    with pytest.raises(DataError, match="CREATION_TIMESTAMP is not in epoch seconds"):
        imported(tmp_path, made, "ITEM_ID,CREATION_TIMESTAMP\na,1600000000000\n")


def test_interactions_need_a_thousand_rows(tmp_path):
    rows = [f"u{n},i,5," for n in range(1000)]
    with pytest.raises(DataError, match="Interactions need at least 1000 rows per import job, found 999"):
        imported(tmp_path, CLICKS, clicks(*rows[1:]), minimum=None)
    assert imported(tmp_path, CLICKS, clicks(*rows), minimum=None)[0].rows == 1000


def test_an_error_late_in_many_blocks_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK_BYTES", 1 << 10)
    rows = [f"u{n},i,{n}," for n in range(5000)]
    rows[4321] = "u,i,never,"
    with pytest.raises(DataError, match="row 4323, column TIMESTAMP, value 'never'"):
        imported(tmp_path, CLICKS, clicks(*rows))
    rows[4321] = "u0,i,0,"
    summary, table = imported(tmp_path, CLICKS, clicks(*rows))
    assert (summary.rows, summary.duplicates) == (4999, 1)
    assert table["USER_ID"].tolist() == [f"u{n}" for n in range(5000) if n != 4321]


def test_a_failed_import_leaves_what_was_there(tmp_path):
    imported(tmp_path, CLICKS, clicks("u,i,5,tv"))
    with pytest.raises(DataError):
        imported(tmp_path, CLICKS, clicks("u,i,x,tv"))
    assert len(tables.read([tmp_path / "table"])) == 1
    imported(tmp_path, CLICKS, clicks("u,i,5,tv", "u,i,6,tv"))
    assert len(tables.read([tmp_path / "table"])) == 2


def test_the_same_files_give_the_same_bytes(tmp_path):
    text = clicks(*(f"u{n % 7},i{n % 5},{n},tv" for n in range(500)))
    imported(tmp_path / "a", CLICKS, text)
    imported(tmp_path / "b", CLICKS, text)
    one, other = ((tmp_path / part / "table" / "part-00000.parquet").read_bytes() for part in "ab")
    assert one == other


def test_a_folder_is_read_one_level_deep_with_compressed_files(tmp_path):
    folder = tmp_path / "data"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.csv").write_text(clicks("u,i,1,"))
    (folder / "b.csv.gz").write_bytes(gzip.compress(clicks("u,i,2,").encode()))
    (folder / "deeper" / "c.csv").write_text(clicks("u,i,3,"))
    (folder / "_SUCCESS").write_text("")
    tables.import_csv([folder], CLICKS, tmp_path / "table", now=NOW, minimum=1)
    assert tables.read([tmp_path / "table"])["TIMESTAMP"].tolist() == [1, 2]


def test_a_folder_or_file_that_is_not_there_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"The folder holds no file \(empty\)"):
        tables.import_csv([tmp_path / "empty"], CLICKS, tmp_path / "table", now=NOW)
    with pytest.raises(DataError, match=r"There is no such file \(clicks.csv\)"):
        tables.import_csv([tmp_path / "clicks.csv"], CLICKS, tmp_path / "table", now=NOW)


def test_imports_are_read_in_order_and_new_columns_are_null_in_old_ones(tmp_path):
    short = Schema(name="Items", fields=ITEMS.fields[:2])
    for name, schema, text in (("a", short, "ITEM_ID,GENRE\nx,War\n"), ("b", ITEMS, HEADER + "y,War,1999,1,true,\n")):
        tables.import_csv([io.BytesIO(text.encode())], schema, tmp_path / name, now=NOW)
    both = tables.read([tmp_path / "a", tmp_path / "b"])
    assert both["ITEM_ID"].tolist() == ["x", "y"]
    assert both["YEAR"].isna().tolist() == [True, False]
    assert tables.read([tmp_path / "a"], columns=["GENRE"]).columns.tolist() == ["GENRE"]


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
awkward = st.text(st.sampled_from(['"', "\\", ",", "\n", "\r", "a", " ", "é", "|"]), min_size=1, max_size=8)
values = st.one_of(st.none(), texts, awkward)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)
rows = st.tuples(texts, values, values, numbers, st.integers(-(2**53), 2**53), st.booleans())


@settings(max_examples=60)
@given(st.lists(rows, min_size=1, max_size=6))
def test_what_is_written_is_read_again(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    kinds = {"A": "string", "B": "string", "C": "string", "X": "double", "N": "long", "F": "boolean"}
    table = pd.DataFrame(rows, columns=list(kinds)).astype(dict.fromkeys("ABC", "str"))
    schema = Schema(name="Own", fields=tuple(Field(name=n, type=t, nullable=True) for n, t in kinds.items()))
    tables.write_csv(table, path)
    pd.testing.assert_frame_equal(tables.read_csv(path, schema), table)


@settings(max_examples=40)
@given(st.lists(values, min_size=1, max_size=6))
def test_a_single_column_keeps_its_empty_fields(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    table = pd.DataFrame({"A": values}, dtype="str")
    tables.write_csv(table, path)
    schema = Schema(name="Own", fields=(Field(name="A", type="string", nullable=True),))
    pd.testing.assert_frame_equal(tables.read_csv(path, schema), table)


def test_a_table_is_written_as_personalize_wants_it(tmp_path):
    table = pd.DataFrame({"ITEM_ID": ["a", "b"], "TITLE": ['He said "no", twice', None], "YEAR": [1999.0, None]})
    tables.write_csv(table, tmp_path / "items.csv")
    assert (tmp_path / "items.csv").read_bytes() == b'ITEM_ID,TITLE,YEAR\na,"He said \\"no\\", twice",1999\nb,,\n'


def test_a_table_is_compressed_where_its_name_says_so_with_the_same_bytes(tmp_path):
    table = pd.DataFrame({"ITEM_ID": ["a", "b"]})
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        tables.write_csv(table, tmp_path / folder / "items.csv.gz")
    one, other = ((tmp_path / folder / "items.csv.gz").read_bytes() for folder in "xy")
    assert gzip.decompress(one) == b"ITEM_ID\na\nb\n" and one == other


def test_an_empty_table_is_written_and_read(tmp_path):
    schema = Schema(name="Items", fields=ITEMS.fields[:3])
    tables.write_csv(pd.DataFrame(columns=["ITEM_ID", "GENRE", "YEAR"]), tmp_path / "items.csv")
    read = tables.read_csv(tmp_path / "items.csv", schema)
    assert len(read) == 0 and read.columns.tolist() == ["ITEM_ID", "GENRE", "YEAR"]
