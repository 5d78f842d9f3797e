"""Columns of Items, Users and Interactions -> numbers a model can learn from: categories, numbers, text.

What is learnt here (which values exist, means, term weights) comes from the training data alone and is kept with the
model, so that an item that arrives later, or a value nobody has seen, is read the same way.  Booleans are never used,
plain strings neither; a text column counts if 85 % of its rows are filled.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib.data.schema import Schema

RESERVED = frozenset(
    {
        "USER_ID",
        "ITEM_ID",
        "TIMESTAMP",
        "EVENT_TYPE",
        "EVENT_VALUE",
        "IMPRESSION",
        "RECOMMENDATION_ID",
        "EVENT_ATTRIBUTION_SOURCE",
        "CREATION_TIMESTAMP",
    }
)
MAX_VALUES = 5_000  # of one categorical column; rarer ones count as unknown
TEXT_TERMS = 20_000
TEXT_DIM = 64
TEXT_FILLED = 0.85
OUTLIER = 5.0  # standard deviations at which a number is cut
WITHOUT_BLANKS = re.compile(  # runs of letters and marks that are not parted into words
    "([\u0e01-\u0e3a\u0e40-\u0e4e"  # Thai
    "\u0e80-\u0ecf\u1000-\u103f\u1780-\u17d3"  # Lao, Burmese, Khmer
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # Hiragana, Katakana
    "\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]+)"  # Han
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """N rows as arrays.

    categories: (N, C) float32 CSR; each column's values of a row share the weight 1.  dense: (N, F) float32, about unit
    scale: numbers with an indicator of their absence, then the text's coordinates.
    """

    categories: sparse.csr_matrix
    dense: np.ndarray


@dataclass(frozen=True, slots=True)
class Categorical:
    """A column of one or several values joined by ``|``, compared without regard to case.  values: sorted."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Numeric:
    """A column of numbers; absent ones become the mean."""

    name: str
    mean: float
    scale: float


@dataclass(frozen=True, slots=True)
class Text:
    """Term weights (tf-idf) and the directions that matter most (latent semantic analysis, Deerwester et al. 1990).

    terms: (V,) str, sorted.  weights: (V,) inverse document frequencies.  directions: (V, D) float32.
    """

    name: str
    terms: np.ndarray
    weights: np.ndarray
    directions: np.ndarray

    def __call__(self, texts: Sequence[object]) -> np.ndarray:
        """(N, D) float32 of length 1, or 0 where no term is known."""
        places = self.terms_of(texts) @ self.directions
        length = np.linalg.norm(places, axis=1, keepdims=True)
        return (places / np.where(length > 1e-6, length, 1)).astype(np.float32)

    def terms_of(self, texts: Sequence[object]) -> sparse.csr_matrix:
        """(N, V) float32 weights of each text's terms, of length 1 a row, or empty."""
        reader = vectorizer(vocabulary={term: n for n, term in enumerate(self.terms)})
        reader.idf_ = self.weights
        return reader.transform([_filled(text) for text in texts])


@dataclass(frozen=True, slots=True)
class Features:
    """How to read the columns of one dataset; ``fit`` makes it, calling it reads rows."""

    categorical: tuple[Categorical, ...] = ()
    numeric: tuple[Numeric, ...] = ()
    text: Text | None = None

    @property
    def n_categories(self) -> int:
        return sum(len(column.values) for column in self.categorical)

    @property
    def n_text(self) -> int:
        return 0 if self.text is None else self.text.directions.shape[1]

    @property
    def n_dense(self) -> int:
        return 2 * len(self.numeric) + self.n_text

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(column.name for column in (*self.categorical, *self.numeric, *filter(None, [self.text])))

    def __call__(self, columns: Mapping[str, Sequence[object]], n_rows: int) -> Encoded:
        """Read n_rows rows; a column that is not there is absent in every row."""
        parts = [_read_categories(column, columns, n_rows) for column in self.categorical]
        dense = [_read_numbers(column, columns, n_rows) for column in self.numeric]
        if self.text is not None:
            dense.append(self.text(columns.get(self.text.name, [None] * n_rows)))
        return Encoded(
            sparse.hstack(parts, "csr", np.float32) if parts else sparse.csr_matrix((n_rows, 0), dtype=np.float32),
            np.concatenate(dense, axis=1) if dense else np.zeros((n_rows, 0), np.float32),
        )

    def settings(self) -> dict[str, object]:
        """What ``load`` needs beside ``arrays``, ready for JSON."""
        return {
            "categorical": [[column.name, list(column.values)] for column in self.categorical],
            "numeric": [[column.name, column.mean, column.scale] for column in self.numeric],
            "text": None if self.text is None else [self.text.name, self.text.terms.tolist()],
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The text's weights and directions by name."""
        if self.text is None:
            return {}
        return {"text_weights": self.text.weights, "text_directions": self.text.directions}

    @classmethod
    def load(cls, settings: Mapping[str, list], arrays: Mapping[str, np.ndarray]) -> "Features":
        """The features whose ``settings`` and ``arrays`` these are."""
        text = settings["text"]
        return cls(
            tuple(Categorical(name, tuple(values)) for name, values in settings["categorical"]),
            tuple(Numeric(*column) for column in settings["numeric"]),
            text and Text(text[0], np.array(text[1], dtype=str), arrays["text_weights"], arrays["text_directions"]),
        )


def fit(table: pd.DataFrame | None, schema: Schema | None) -> Features:
    """Learn from a table which values, means and terms its columns have.

    Without a schema every string column counts as categorical.  Columns that tell nothing (constant, empty) are left
    out, and so are ids, times and what a schema does not list.
    """
    if table is None or not len(table):
        return Features()
    categorical, numeric, text = [], [], None
    for name, kind in kinds(table, schema):
        if kind == "categorical":
            values = _frequent_values(table[name])
            if len(values):
                categorical.append(Categorical(name, values))
        elif kind == "numeric":
            numbers = _numbers(table[name])
            numbers = numbers[np.isfinite(numbers)]
            if len(numbers) and numbers.std() > 1e-9 * max(1.0, np.abs(numbers).max()):
                numeric.append(Numeric(name, float(numbers.mean()), float(numbers.std())))
        elif kind == "textual" and text is None:
            text = _fit_text(name, [_filled(value) for value in table[name]])
    return Features(tuple(categorical), tuple(numeric), text)


def aligned(columns: Features, table: pd.DataFrame | None, key: str, ids: np.ndarray) -> Encoded:
    """The features of these ids, in their order; an id that the table does not have has none."""
    if table is None:
        return columns({}, len(ids))
    rows = table.set_index(key).reindex(ids)
    return columns({name: rows[name].to_numpy(dtype=object) for name in columns.names if name in rows}, len(ids))


def is_filled(texts: Sequence[object]) -> bool:
    """Whether enough rows of a textual column are filled for it to count."""
    return sum(bool(_filled(text).strip()) for text in texts) >= TEXT_FILLED * len(texts)


def kinds(table: pd.DataFrame, schema: Schema | None) -> Iterator[tuple[str, str]]:
    """(column, categorical | numeric | textual) for every column that is trained on."""
    if schema is None:
        for name in table.columns:
            if name in RESERVED or pd.api.types.is_bool_dtype(table[name]):
                continue
            yield name, "numeric" if pd.api.types.is_numeric_dtype(table[name]) else "categorical"
        return
    for field in schema.fields:
        if field.name in RESERVED or field.name not in table:
            continue
        if field.textual:
            yield field.name, "textual"
        elif field.categorical:
            yield field.name, "categorical"
        elif field.type in ("int", "long", "float", "double"):
            yield field.name, "numeric"


def _filled(value: object) -> str:
    return value if isinstance(value, str) else ""


def _values(value: object) -> list[str]:
    """The values of one cell: trimmed, lower case, without empty ones and repetitions."""
    if value is None or value is pd.NA or value != value:
        return []
    return list(dict.fromkeys(part.strip().lower() for part in str(value).split("|") if part.strip()))


def _frequent_values(column: pd.Series) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for cell, n in column.value_counts().sort_index().items():
        for value in _values(cell):
            counts[value] = counts.get(value, 0) + int(n)
    frequent = sorted(counts, key=lambda value: (-counts[value], value))[:MAX_VALUES]
    return tuple(sorted(value for value in frequent if counts[value] > 1))


def _read_categories(column: Categorical, columns: Mapping[str, Sequence[object]], n_rows: int) -> sparse.csr_matrix:
    place = {value: n for n, value in enumerate(column.values)}
    if column.name not in columns:
        return sparse.csr_matrix((n_rows, len(place)), dtype=np.float32)
    code, cells = pd.factorize(np.asarray(columns[column.name], dtype=object))  # each distinct cell is read once
    known = [[place[value] for value in _values(cell) if value in place] for cell in cells]
    lengths = np.array([len(values) for values in known], dtype=np.int64)
    distinct = sparse.csr_matrix(
        (
            np.repeat(1 / np.maximum(lengths, 1), lengths).astype(np.float32),
            np.array([value for values in known for value in values], dtype=np.int32),
            np.concatenate([[0], np.cumsum(lengths)]),
        ),
        shape=(len(cells), len(place)),
    )
    absent = sparse.csr_matrix((1, len(place)), dtype=np.float32)
    return sparse.vstack([distinct, absent], "csr")[np.where(code < 0, len(cells), code)]


def _numbers(column: object) -> np.ndarray:
    """(N,) float64, NaN where there is no number, or one that no float32 can hold."""
    numbers = pd.to_numeric(pd.Series(column), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.abs(numbers) <= np.finfo(np.float32).max, numbers, np.nan)


def _read_numbers(column: Numeric, columns: Mapping[str, Sequence[object]], n_rows: int) -> np.ndarray:
    """(N, 2) float32: the standardised number, and 1 where it is absent."""
    numbers = _numbers(columns[column.name]) if column.name in columns else np.full(n_rows, np.nan)
    absent = ~np.isfinite(numbers)
    standard = np.clip((np.where(absent, column.mean, numbers) - column.mean) / column.scale, -OUTLIER, OUTLIER)
    return np.stack([standard, absent], axis=1).astype(np.float32)


def vectorizer(**settings: object):
    """Reads texts as term weights: scikit-learn's tf-idf with these settings beside ours.

    Where a script parts no words by blanks, its overlapping pairs of letters count as words.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer, strip_accents_unicode

    def plain(text: str) -> str:
        parts = WITHOUT_BLANKS.split(unicodedata.normalize("NFKC", text))  # others, a run, others, a run, …
        parts[::2] = map(strip_accents_unicode, parts[::2])
        parts[1::2] = map(_pairs, parts[1::2])
        return "".join(parts)

    return TfidfVectorizer(sublinear_tf=True, strip_accents=plain, dtype=np.float32, **settings)


def _pairs(run: str) -> str:
    """Each letter with the next one, which stand for words where no blanks part them; marks are left out."""
    letters = [letter for letter in run if letter.isalnum()]
    return f" {' '.join(map(''.join, pairwise(letters)))} "


def _fit_text(name: str, texts: list[str]) -> Text | None:
    """None where too few rows are filled, or no two rows share a word."""
    from sklearn.utils.extmath import randomized_svd

    filled = [text for text in texts if text.strip()]
    if len(filled) < 2 or not is_filled(texts):
        return None
    reader = vectorizer(max_features=TEXT_TERMS, min_df=2, max_df=0.5, stop_words="english")
    try:
        weights = reader.fit_transform(filled)
    except ValueError:  # no term is left
        return None
    dim = min(TEXT_DIM, min(weights.shape) - 1)
    if dim < 1:
        return None
    _, _, directions = randomized_svd(weights, dim, n_iter=4, random_state=0)  # signs are settled by svd_flip
    terms = reader.get_feature_names_out().astype(str)
    return Text(name, terms, reader.idf_.astype(np.float32), np.ascontiguousarray(directions.T, dtype=np.float32))
