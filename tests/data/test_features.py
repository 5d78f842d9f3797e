import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from lib.data import features
from lib.data.features import Features
from lib.data.schema import Field, Schema

FILMS = pd.DataFrame(
    {
        "ITEM_ID": ["a", "b", "c", "d"],
        "GENRE": ["Drama|Comedy", "drama", None, " comedy |Comedy"],
        "YEAR": [1990.0, 2000.0, np.nan, 2010.0],
        "SEEN": [True, False, True, False],
        "CREATION_TIMESTAMP": [1, 2, 3, 4],
    }
)
SCHEMA = Schema(
    name="Items",
    fields=(
        Field(name="ITEM_ID", type="string"),
        Field(name="GENRE", type="string", categorical=True),
        Field(name="YEAR", type="int"),
        Field(name="SEEN", type="boolean"),
        Field(name="CREATION_TIMESTAMP", type="long"),
    ),
)


def columns(table):
    return {name: table[name].to_numpy(dtype=object) for name in table}


def test_values_joined_by_bars_share_the_weight_of_a_row_whatever_their_case():
    read = features.fit(FILMS, SCHEMA)
    assert read.categorical[0].values == ("comedy", "drama")
    assert read(columns(FILMS), 4).categories.toarray().tolist() == [[0.5, 0.5], [0, 1], [0, 0], [1, 0]]


def test_numbers_are_standardised_and_absent_ones_marked():
    dense = features.fit(FILMS, SCHEMA)(columns(FILMS), 4).dense
    spread = np.std([1990, 2000, 2010])
    np.testing.assert_allclose(dense[:, 0], [-10 / spread, 0, 0, 10 / spread], rtol=1e-6)
    assert dense[:, 1].tolist() == [0, 0, 1, 0]


def test_ids_times_and_booleans_are_not_learnt_from():
    assert features.fit(FILMS, SCHEMA).names == ("GENRE", "YEAR")
    assert features.fit(FILMS, None).names == ("GENRE", "YEAR")


def test_plain_strings_count_without_a_schema_alone():
    plain = Schema(name="Items", fields=(Field(name="GENRE", type="string"),))
    assert features.fit(FILMS, plain).names == ()


@pytest.mark.parametrize("cell", [None, np.nan, pd.NA, "", "|", "western"])
def test_an_absent_or_unknown_value_is_no_category(cell):
    read = features.fit(FILMS, SCHEMA)
    assert read({"GENRE": [cell], "YEAR": ["1995"]}, 1).categories.nnz == 0


@pytest.mark.parametrize("cell", [None, np.nan, "", "many", float("inf")])
def test_an_unreadable_number_is_absent(cell):
    assert features.fit(FILMS, SCHEMA)({"YEAR": [cell]}, 1).dense.tolist() == [[0, 1]]


def test_a_number_far_out_is_cut():
    assert features.fit(FILMS, SCHEMA)({"YEAR": [1e12]}, 1).dense[0, 0] == features.OUTLIER


def test_constant_and_empty_columns_are_left_out():
    table = pd.DataFrame({"X": [3.0, 3.0, 3.0], "Y": [np.nan] * 3, "Z": [None] * 3})
    fields = (
        Field(name="X", type="float"),
        Field(name="Y", type="float"),
        Field(name="Z", type="string", categorical=True),
    )
    assert features.fit(table, Schema(name="Items", fields=fields)).names == ()


def texts(rows):
    table = pd.DataFrame({"TITLE": rows})
    return table, Schema(name="Items", fields=(Field(name="TITLE", type="string", textual=True),))


def test_texts_of_the_same_subject_are_near():
    table, schema = texts(
        ["sun over sea", "rain over sea", "goal in cup", "cup goal scored", "sun and rain", "cup final goal"]
    )
    place = features.fit(table, schema)(columns(table), 6).dense
    likeness = place @ place.T
    assert likeness[2, 3] > 0.5 > abs(likeness[0, 3])
    np.testing.assert_allclose(np.linalg.norm(place, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "rows",
    [
        ["海の太陽です", "海の雨です", "優勝の得点", "優勝と得点だ", "太陽と雨", "最後の得点"],
        ["ทะเลแสงแดด", "ทะเลฝนตก", "ฟุตบอลถ้วยรางวัล", "ถ้วยฟุตบอลโลก", "แสงแดดฝนตก", "ฟุตบอลชิงถ้วย"],
    ],
)
def test_texts_without_blanks_of_the_same_subject_are_near(rows):
    table, schema = texts(rows)
    place = features.fit(table, schema)(columns(table), 6).dense
    likeness = place @ place.T
    assert likeness[2, 3] > 0.5 > abs(likeness[0, 3])


def test_words_are_parted_by_blanks_where_a_script_has_them_and_are_pairs_of_letters_elsewhere():
    read = features.vectorizer().build_analyzer()
    assert read("Größe 42, naïve_x Ёлка 한국어") == TfidfVectorizer(strip_accents="unicode").build_analyzer()(
        "Größe 42, naïve_x Ёлка 한국어"
    )
    assert read("iPhone用の新型ケース、茶。") == ["iphone", "用の", "の新", "新型", "型ケ", "ケー", "ース"]


def test_a_text_without_known_words_stands_at_the_origin():
    table, schema = texts(["sun over sea", "rain over sea", "goal in cup", "cup goal scored"])
    assert not features.fit(table, schema)({"TITLE": ["", None, "xyzzy"]}, 3).dense.any()


def test_a_text_column_that_is_mostly_empty_is_not_used():
    table, schema = texts(["sun over sea", "rain over sea", "sun", "rain", None, ""])
    assert features.fit(table, schema).text is None


def test_features_that_were_kept_read_the_same():
    table, schema = texts(["sun over sea", "rain over sea", "goal in cup", "cup goal scored"])
    table = table.assign(GENRE=["a", "b", "a", "b"], N=[1.0, 2.0, 3.0, 4.0])
    schema = Schema(
        name="Items",
        fields=(
            *schema.fields,
            Field(name="GENRE", type="string", categorical=True),
            Field(name="N", type="float"),
        ),
    )
    read = features.fit(table, schema)
    again = Features.load(read.settings(), read.arrays())
    first, second = read(columns(table), 4), again(columns(table), 4)
    np.testing.assert_array_equal(first.dense, second.dense)
    np.testing.assert_array_equal(first.categories.toarray(), second.categories.toarray())
    assert read.n_dense == first.dense.shape[1]


def test_rows_are_put_in_the_order_of_the_ids_and_unknown_ids_have_no_features():
    read = features.fit(FILMS, SCHEMA)
    encoded = features.aligned(read, FILMS, "ITEM_ID", np.array(["d", "x", "a"]))
    assert encoded.categories.toarray().tolist() == [[1, 0], [0, 0], [0.5, 0.5]]
    assert encoded.dense[1].tolist() == [0, 1]
