"""Bulk CSV -> validated Parquet, and back: what an import job does to files, in bounded memory.

The dialect is Personalize's: a header with the schema's column names, commas, text with commas, quotes or line breaks
in double quotes, a quote inside escaped with a backslash (or doubled), an empty field for null.  A backslash before
anything but a quote or a backslash stands for itself.
"""

import csv
import gzip
import io
import os
import re
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from lib.data.schema import INTEGERS, KEYS, LAST_SECOND, LIMITS, REALS, Field, Schema, cut

BLOCK_BYTES = 8 << 20
MIN_INTERACTIONS = 1000  # in one import job
DAY = 86_400
INTEGER = r"^[+-]?[0-9]{1,18}$"
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"

_ARROW_TYPES = {"string": pa.string(), "boolean": pa.bool_()}
_ARROW_TYPES |= dict.fromkeys(INTEGERS, pa.int64()) | dict.fromkeys(REALS, pa.float64())


class DataError(ValueError):
    """Data that cannot be imported: what is wrong, where (file, line, column, value), and what would do.

    row: the line of the file, counted from 1, in which the record begins; None where no single record is to blame.
    """

    def __init__(self, what: str, *, file: str, row: int | None = None, column="", value: str | None = None, remedy=""):
        self.what, self.file, self.row, self.column, self.value, self.remedy = what, file, row, column, value, remedy
        where = [file] if row is None else [file, f"row {row}"]
        if column:
            where.append(f"column {column}")
        if value is not None:
            where.append(f"value {value if len(value) <= 60 else value[:57] + '...'!r}")
        super().__init__(f"{what} ({', '.join(where)}).{f' {remedy}.' if remedy else ''}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSummary:
    """What an import stored.  rows: stored.  duplicates: read, but the same as (or replaced by) another row.

    nulls: column -> rows without a value.  unreadable: column -> rows among them that had a value of another type.
    """

    rows: int
    duplicates: int
    nulls: Mapping[str, int]
    unreadable: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Source:
    """A CSV file, plain or gzip, that can be read from its beginning more than once."""

    file: Path | BinaryIO

    @property
    def name(self) -> str:
        return Path(str(getattr(self.file, "name", "input"))).name

    def open(self) -> "_Unescaped":
        if isinstance(self.file, Path):
            raw = self.file.open("rb")
        else:
            raw = self.file
            raw.seek(0)
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        return _Unescaped(gzip.GzipFile(fileobj=raw) if compressed else raw, raw if raw is not self.file else None)

    def records(self, *ending: str) -> Iterator[tuple[int, list[str]]]:
        """Every record with the line in which it begins; slow, for headers and for finding the row of an error.

        ending: lines to read after the file's own.
        """
        csv.field_size_limit(BLOCK_BYTES)
        with io.TextIOWrapper(self.open(), encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            reader = csv.reader(chain(text, ending), escapechar="\\")
            line = 1
            for record in reader:
                if record:
                    yield line, record
                line = reader.line_num + 1

    def check_quotes(self) -> None:
        """That the last quote is closed: else it swallows all records after it.  Raises DataError."""
        *_, (row, last) = self.records("\n", "end")
        if last != ["end"]:
            remedy = 'Close it, or write \\" for a quote that belongs to the text'
            raise DataError("A quote is opened and never closed", file=self.name, row=row, remedy=remedy)


class _Unescaped(io.BufferedIOBase):
    """A stream in which a backslash that escapes nothing is doubled, as readers of CSV would drop it.

    quotes: how many were read that are not escaped.
    """

    def __init__(self, file: BinaryIO, owned: BinaryIO | None):
        self._file, self._owned, self._ready, self._pending = file, owned, b"", b""
        self.quotes = 0

    def close(self) -> None:
        if self._owned is not None:
            self._owned.close()
        super().close()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = BLOCK_BYTES if size is None or size < 0 else size
        while not self._ready:
            block = self._file.read(max(size, 1 << 16))
            data, self._pending = self._pending + block, b""
            if not data:
                return b""
            if b"\\" in data:
                if block:  # whether the last backslashes escape something shows in the next block
                    whole = data.rstrip(b"\\")
                    data, self._pending = whole, data[len(whole) :]
                data = re.sub(rb'\\(["\\])?', lambda found: found[0] if found[1] else rb"\\", data)
            self._ready = data
            self.quotes += data.count(b'"') - data.count(b'\\"')
        taken, self._ready = self._ready[:size], self._ready[size:]
        return taken

    read1 = read


@dataclass(slots=True)
class _Import:
    """The running account of one import."""

    schema: Schema
    now: int | None
    rows: int = 0
    nulls: Counter = field(default_factory=Counter)
    unreadable: Counter = field(default_factory=Counter)
    first_unreadable: dict[str, tuple[_Source, int, str]] = field(default_factory=dict)

    def batches(self, source: _Source) -> Iterator[pa.Table]:
        """The records of one file, checked and of the schema's types.  Raises DataError."""
        positions, header_lines, width = _header(source, self.schema)
        if not header_lines:
            return
        read_options = pyarrow.csv.ReadOptions(
            block_size=BLOCK_BYTES, skip_rows=header_lines, column_names=[str(n) for n in range(width)]
        )
        parse_options = pyarrow.csv.ParseOptions(escape_char="\\", newlines_in_values=True)
        convert_options = pyarrow.csv.ConvertOptions(
            column_types={str(n): pa.string() for n in positions},
            include_columns=[str(n) for n in positions],
            null_values=[""],
            strings_can_be_null=True,
        )
        seen = 0
        with (
            source.open() as stream,
            pyarrow.csv.open_csv(
                pa.PythonFile(stream, mode="r"), read_options, parse_options, convert_options
            ) as reader,
        ):
            for batch in reader:
                columns = [self._checked(batch.column(n), f, source, seen) for n, f in enumerate(self.schema.fields)]
                seen += len(batch)
                self.rows += len(batch)
                yield pa.table(columns, names=list(self.schema.columns))
            if stream.quotes % 2:
                source.check_quotes()

    def _checked(self, texts: pa.Array, column: Field, source: _Source, before: int) -> pa.Array:
        """A column's values in its type.  before: how many records of the file came earlier."""

        def refuse(bad: pa.Array, what: str, remedy: str) -> None:
            n = pc.index(bad, True).as_py()
            if n >= 0:
                raise _at(source, before + n, what, column.name, texts[n].as_py() or "", remedy)

        required = column.name in self.schema.required
        if texts.null_count and (required or (column.type == "string" and not column.nullable)):
            remedy = "Fill it or leave the record out" + (
                "" if required else ', or let the schema allow ["null", "string"]'
            )
            refuse(pc.is_null(texts), f"{column.name} is empty", remedy)
        if column.type == "string":
            values = _strings(texts, column, refuse)
        else:
            values = _numbers(texts, column) if column.numeric else _booleans(texts)
            bad = pc.and_(pc.is_valid(texts), pc.is_null(values))
            if required:
                remedy = "Give epoch seconds" if column.name == "TIMESTAMP" else f"Give a value of type {column.type}"
                refuse(bad, f"{column.name} is not of type {column.type}", remedy)
            n_bad = pc.sum(bad).as_py() or 0
            if n_bad and column.name not in self.first_unreadable:
                n = pc.index(bad, True).as_py()
                self.first_unreadable[column.name] = source, before + n, texts[n].as_py()
            self.unreadable[column.name] += n_bad
            if column.time:
                self._check_times(values, column.name, refuse)
        self.nulls[column.name] += values.null_count
        return values

    def _check_times(self, values: pa.Array, column: str, refuse) -> None:
        bounds = pc.min_max(values).as_py()
        if bounds["max"] is None:
            return
        if bounds["max"] > LAST_SECOND:
            late = pc.fill_null(pc.greater(values, LAST_SECOND), False)
            refuse(late, f"{column} is not in epoch seconds", "It looks like milliseconds: divide by 1000")
        if column != "TIMESTAMP":
            return
        if self.now is not None and bounds["max"] > self.now + DAY:
            late = pc.greater(values, self.now + DAY)
            refuse(late, f"{column} lies in the future", f"Give seconds up to now, {self.now}")
        if bounds["min"] < 0:
            refuse(pc.less(values, 0), f"{column} is negative", "Give epoch seconds")

    def check_readable(self) -> None:
        """That no column was unreadable from the first row to the last.  Raises DataError."""
        for name, (source, record, value) in self.first_unreadable.items():
            if self.nulls[name] == self.rows:
                kind = self.schema[name].type
                remedy = f"Correct the column or its type in the schema, {kind}"
                raise _at(source, record, f"No value of {name} is of type {kind}", name, value, remedy)


def import_csv(
    paths: Sequence[Path | BinaryIO],
    schema: Schema,
    destination: Path,
    *,
    now: int,
    minimum: int | None = None,
) -> ImportSummary:
    """Check CSV files against a schema and store them as Parquet in a folder, which appears whole or not at all.

    paths: files, folders (their files; what lies deeper or starts with ``.`` or ``_`` is left out), or open binary
    streams that can seek; plain or gzip.  now: epoch seconds.  minimum: rows an import must have, by default 1,000 for
    Interactions and 1 for others.  Of rows equal in everything the first is stored; of rows with one id the last.
    Text in a number's place is null, unless the column is required.  Raises DataError; nothing is stored then.
    """
    sources = _sources(paths)
    account = _Import(schema, now)
    aside = destination.with_name(f".{destination.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        target = aside / "part-00000.parquet"
        hashes = _write(target, schema, account, sources)
        if minimum is None:
            minimum = MIN_INTERACTIONS if schema.name == "Interactions" else 1
        if account.rows < minimum:
            names = ", ".join(source.name for source in sources[:5]) + (", ..." if len(sources) > 5 else "")
            what = f"{schema.name} need at least {minimum} rows per import job, found {account.rows}"
            raise DataError(what, file=names, remedy="Collect more, or import several files of one folder together")
        account.check_readable()
        repeated = _repeated(hashes, keep_last=schema.name in KEYS)
        if repeated.any():
            _drop(target, repeated, account)
        into_place(aside, destination)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    duplicates = int(repeated.sum())
    return ImportSummary(
        rows=account.rows - duplicates,
        duplicates=duplicates,
        nulls={column: account.nulls[column] for column in schema.columns},
        unreadable={column: n for column, n in sorted(account.unreadable.items()) if n},
    )


def read(folders: Sequence[Path], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Imported tables, one below the other in the order given; a column that an earlier import lacks is null there.

    Text is of dtype str, integers int64, or Int64 where some are null; booleans bool, or object where some are null.
    """
    files = [file for folder in folders for file in sorted(folder.glob("*.parquet"))]
    return _frame(pa.concat_tables([pq.read_table(file, columns=columns) for file in files], promote_options="default"))


def read_csv(path: Path, schema: Schema) -> pd.DataFrame:
    """A CSV file in Personalize's dialect as a table of the schema's types.  Raises DataError."""
    account = _Import(schema, None)
    return _frame(pa.concat_tables([_empty(schema), *account.batches(_Source(path))]))


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table in Personalize's dialect, gzip if the name ends so; the file appears whole or not at all.

    Missing values and empty texts become empty fields.  The same table gives the same bytes.
    """
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    empty = '""' if arrow.num_columns == 1 else ""  # readers of CSV skip blank lines
    aside = path.with_name(f".{path.name}.aside")
    with aside.open("wb") as raw:
        file = gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) if path.suffix == ".gz" else raw
        file.write((",".join(arrow.column_names) + "\n").encode())
        for batch in arrow.to_batches(max_chunksize=100_000):
            fields = [_csv_field(column) for column in batch.columns]
            lines = pc.binary_join_element_wise(*fields, ",", null_handling="replace", null_replacement=empty)
            file.write(("\n".join(lines.to_pylist()) + "\n").encode())
        if file is not raw:
            file.close()
        raw.flush()
        os.fsync(raw.fileno())
    os.replace(aside, path)
    _sync_folder(path.parent)


def _csv_field(values: pa.Array) -> pa.Array:
    texts = values.cast(pa.string())
    if not pa.types.is_string(values.type) and not pa.types.is_large_string(values.type):
        return texts
    special = pc.match_substring_regex(texts, '[",\\\\\r\n]')
    if not pc.any(special).as_py():
        return texts
    escaped = pc.replace_substring_regex(texts, r'(["\\])', r"\\\1")
    return pc.if_else(special, pc.binary_join_element_wise('"', escaped, '"', ""), texts)


def _sources(paths: Sequence[Path | BinaryIO]) -> list[_Source]:
    files: list[Path | BinaryIO] = []
    for path in paths:
        if isinstance(path, Path) and path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.is_file() and file.name[0] not in "._")
            if not inside:
                raise DataError(
                    "The folder holds no file", file=path.name, remedy="Give a file, or a folder with CSV files"
                )
            files += inside
        else:
            files.append(path)
    for file in files:
        if isinstance(file, Path) and not file.is_file():
            raise DataError("There is no such file", file=file.name, remedy="Check the location of the data")
    return [_Source(file) for file in files]


def _header(source: _Source, schema: Schema) -> tuple[list[int], int, int]:
    """Where the schema's columns stand, the lines before the first record (0: there is none), the number of columns."""
    try:
        with closing(source.records()) as records:
            _, header = next(records, (0, []))
            following = next(records, None)
    except (OSError, EOFError, csv.Error, zlib.error) as error:
        raise DataError(f"The file cannot be read: {error}", file=source.name) from None
    if not header:
        raise DataError("The file is empty", file=source.name, remedy="Its first line must name the columns")
    names = [name.strip().upper() for name in header]
    missing = [column for column in schema.columns if column.upper() not in names]
    if missing:
        raise DataError(
            f"Input CSV is missing the following columns: [{', '.join(missing)}]",
            file=source.name,
            remedy=f"Its first line names {', '.join(header)[:200]}",
        )
    for column in schema.columns:
        if names.count(column.upper()) > 1:
            raise DataError(f"{column} is there more than once", file=source.name, row=1, remedy="Rename or drop one")
    positions = [names.index(column.upper()) for column in schema.columns]
    return positions, following[0] - 1 if following else 0, len(names)


def _write(target: Path, schema: Schema, account: _Import, sources: Sequence[_Source]) -> np.ndarray:
    """Store all records; (2, N) uint64, the hash of what makes a record the same as another."""
    identity = [KEYS[schema.name]] if schema.name in KEYS else list(schema.columns)
    hashes = [np.empty((2, 0), np.uint64)]
    with pq.ParquetWriter(target, _empty(schema).schema) as writer:
        for source in sources:
            try:
                for batch in account.batches(source):
                    hashes.append(_hash(batch.select(identity)))
                    writer.write_table(batch)
            except (pa.ArrowInvalid, csv.Error, OSError, EOFError, zlib.error) as error:
                raise _explained(source, schema, error) from None
    return np.concatenate(hashes, axis=1)


def _explained(source: _Source, schema: Schema, error: Exception) -> Exception:
    """Find the row that a reader of CSV stumbled over."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    try:
        records = source.records()
        _, header = next(records)
        for row, record in records:
            if len(record) != len(header):
                what = f"The record has {len(record)} fields, the header {len(header)}"
                remedy = 'Put text with commas, quotes or line breaks in double quotes, and write \\" for a quote in it'
                return DataError(what, file=source.name, row=row, remedy=remedy)
            for name, value in zip(header, record, strict=True):
                if any("\udc80" <= character <= "\udcff" for character in value):
                    value = value.encode(errors="surrogateescape").decode(errors="backslashreplace")
                    return DataError(
                        "The text is not UTF-8",
                        file=source.name,
                        row=row,
                        column=name,
                        value=value,
                        remedy="Save as UTF-8",
                    )
    except (csv.Error, OSError, EOFError, zlib.error):
        return DataError(f"The file cannot be read: {error}", file=source.name, remedy="Check that it is whole")
    return DataError(f"The file cannot be read: {error}", file=source.name)


def _at(source: _Source, record: int, what: str, column: str, value: str, remedy: str) -> DataError:
    """The error of the nth record of a file, counted from 0."""
    row = next((row for n, (row, _) in enumerate(source.records()) if n == record + 1), None)
    return DataError(what, file=source.name, row=row, column=column, value=value, remedy=remedy)


def _strings(texts: pa.Array, column: Field, refuse) -> pa.Array:
    longest = pc.max(pc.utf8_length(texts)).as_py() or 0
    if column.max_length is not None and longest > column.max_length:
        too_long = pc.fill_null(pc.greater(pc.utf8_length(texts), column.max_length), False)
        refuse(too_long, f"Length cannot be more than {column.max_length} characters for {column.name}", "Shorten it")
    if column.textual and longest > len(cut("本" * longest)):
        return pa.array([None if text is None else cut(text) for text in texts.to_pylist()], pa.string())
    if column.name.endswith("_ID"):
        header = pc.fill_null(pc.equal(texts, column.name), False)
        refuse(header, f"{column.name} holds its own name", "It looks like a second header line: remove it")
    return texts


def _numbers(texts: pa.Array, column: Field) -> pa.Array:
    """int64 or float64; null where the text is no such number."""
    try:
        values = texts.cast(_ARROW_TYPES[column.type])
    except pa.ArrowInvalid:
        texts = pc.utf8_ltrim(pc.utf8_trim_whitespace(texts), "+")
        if column.type in REALS:
            values = _matching(texts, NUMBER).cast(pa.float64())
        else:
            values = pc.coalesce(
                _matching(texts, INTEGER).cast(pa.int64()), _whole(_matching(texts, NUMBER).cast(pa.float64()), column)
            )
    if column.type in REALS:
        return pc.if_else(pc.less(pc.abs(values), LIMITS[column.type]), values, None)
    if column.type == "int":
        bounds = pc.min_max(values).as_py()
        if bounds["max"] is not None and (bounds["max"] >= 2**31 or bounds["min"] < -(2**31)):
            fits = pc.and_(pc.less(values, 2**31), pc.greater_equal(values, -(2**31)))
            return pc.if_else(fits, values, None)
    return values


def _matching(texts: pa.Array, pattern: str) -> pa.Array:
    return pc.if_else(pc.match_substring_regex(texts, pattern), texts, None)


def _whole(values: pa.Array, column: Field) -> pa.Array:
    """float64 -> int64: times lose their fraction, other numbers with one become null."""
    floor = pc.floor(values)
    whole = floor if column.name == "TIMESTAMP" else pc.if_else(pc.equal(floor, values), values, None)
    return pc.if_else(pc.less(pc.abs(whole), 2.0**63), whole, None).cast(pa.int64())


def _booleans(texts: pa.Array) -> pa.Array:
    words = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    return pc.if_else(pc.equal(words, "true"), True, pc.if_else(pc.equal(words, "false"), False, None))


def _hash(table: pa.Table) -> np.ndarray:
    """(2, N) uint64: two hashes a row; rows that agree in both are taken as equal.

    By chance two of ten million different rows do so once in 10^24 imports.
    """
    hashes = np.zeros((2, len(table)), np.uint64)
    factors = np.array([[0x9E3779B97F4A7C15], [0xC2B2AE3D27D4EB4F]], np.uint64)
    for column in table.columns:
        encoded = column.combine_chunks().dictionary_encode()
        words = pd.util.hash_array(encoded.dictionary.to_numpy(zero_copy_only=False), categorize=False)
        values = np.append(words, np.uint64(1))[pc.fill_null(encoded.indices, len(words)).to_numpy()]
        hashes = (hashes ^ values) * factors
        hashes ^= hashes >> np.uint64(29)
    return hashes


def _repeated(hashes: np.ndarray, *, keep_last: bool) -> np.ndarray:
    """(N,) bool: the rows that another one, the first or the last of its kind, stands for."""
    repeated = np.zeros(hashes.shape[1], bool)
    in_order = np.sort(hashes[0])
    if (in_order[1:] == in_order[:-1]).any():
        order = np.lexsort(hashes)
        same = (hashes[:, order[1:]] == hashes[:, order[:-1]]).all(axis=0)
        repeated[order[:-1][same] if keep_last else order[1:][same]] = True
    return repeated


def _drop(target: Path, repeated: np.ndarray, account: _Import) -> None:
    """Write the file again without some rows, and count its nulls again."""
    account.nulls.clear()
    whole = target.rename(target.with_suffix(".whole"))
    first = 0
    with pq.ParquetFile(whole) as file, pq.ParquetWriter(target, file.schema_arrow) as writer:
        for n in range(file.num_row_groups):
            group = file.read_row_group(n)
            kept = group.filter(pa.array(~repeated[first : first + len(group)]))
            first += len(group)
            account.nulls.update({name: kept[name].null_count for name in kept.column_names})
            if len(kept):
                writer.write_table(kept)
    whole.unlink()


def into_place(aside: Path, destination: Path) -> None:
    """Put a folder that was written aside where it is read, and its files on disk before that."""
    for file in aside.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())
    _sync_folder(aside)
    shutil.rmtree(destination, ignore_errors=True)  # left by a job that was killed before it could report
    os.replace(aside, destination)
    _sync_folder(destination.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _empty(schema: Schema) -> pa.Table:
    return pa.schema([(column.name, _ARROW_TYPES[column.type]) for column in schema.fields]).empty_table()


def _frame(table: pa.Table) -> pd.DataFrame:
    with_null = [name for name in table.column_names if table[name].type == pa.int64() and table[name].null_count]
    exact = {name: table[name].to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get) for name in with_null}
    return table.to_pandas(self_destruct=True, split_blocks=True).assign(**exact)
