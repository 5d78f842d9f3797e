"""Published data sets, the simulated news site and one's own CSV files as raw tables with Personalize's column names.

Nothing is cleaned here, only put in shape.  What every source gives:

============== ================================================== ================================= ===================
source         Interactions (always USER_ID, ITEM_ID, TIMESTAMP)  Items (ITEM_ID)                   Users (USER_ID)
============== ================================================== ================================= ===================
simulated      EVENT_TYPE, EVENT_VALUE (dwell seconds), DEVICE,   CATEGORY, SUBCATEGORY,            AGE_GROUP, GENDER,
               IMPRESSION                                         AGE_RATING, CREATION_TIMESTAMP,   REGION
                                                                  TITLE, ABSTRACT
mind-small     EVENT_TYPE, IMPRESSION                             CATEGORY, SUBCATEGORY,            none
                                                                  CREATION_TIMESTAMP, TITLE,
                                                                  ABSTRACT
movielens-…    EVENT_TYPE                                         TITLE, GENRE, YEAR                1m: GENDER,
                                                                                                    AGE_GROUP,
                                                                                                    OCCUPATION
online-retail  EVENT_TYPE, EVENT_VALUE (quantity)                 TITLE, PRICE                      COUNTRY
csv            as in the file                                     as in the file                    as in the file
============== ================================================== ================================= ===================

Ids are text.  TIMESTAMP and CREATION_TIMESTAMP are epoch seconds (csv: numbers as they stand).  Missing values are NA.
"""

import csv
import gzip
import hashlib
import inspect
import io
import os
import re
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from lib.data.datasets import Datasets
from lib.data.schema import NAME, RESERVED
from lib.data.simulator import FILES as SIMULATED_FILES

MIND_TIME = "%m/%d/%Y %I:%M:%S %p"
DATES = r"(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])(\d{6})?"  # 20241231, and 20241231080000; no seconds since 1970
IMPRESSION_LENGTH = 1000  # characters Personalize takes
TEXTS = {name for name, rule in RESERVED["Interactions"].items() if rule.types == ("string",)}  # also where digits
GROUPLENS = "https://files.grouplens.org/datasets/movielens"
MIND_MIRROR = "https://huggingface.co/datasets/Recommenders/MIND/resolve/main"
RETAIL_COPY = (
    "https://raw.githubusercontent.com/BenJMcCarty/UCI_Dataset_Online_Retail/60b05ebffd34b8430ddb12563e1698de24dde07b"
)

MOVIELENS_AGES = {
    "1": "Under 18", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55", "56": "56+"
}  # fmt: skip
MOVIELENS_OCCUPATIONS = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One file of a publisher: where it is, what it must be, where it goes below the download folder.

    members: files to take out of a zip archive; none for a file that is used as it is.
    """

    url: str
    sha256: str
    into: str
    members: tuple[str, ...] = ()


DOWNLOADS: dict[str, tuple[Download, ...]] = {
    "mind-small": (
        Download(
            url=f"{MIND_MIRROR}/MINDsmall_train.zip",
            sha256="0d6d50cfb534b494a1153694f8a488170b28b0ac1c254363b565aa6b11c7761f",
            into="mind-small/MINDsmall_train",
            members=("behaviors.tsv", "news.tsv"),
        ),
        Download(
            url=f"{MIND_MIRROR}/MINDsmall_dev.zip",
            sha256="e3db712b7eb4339bc1729c5a0075c2e8204107690f9d5f0f974de4852622564f",
            into="mind-small/MINDsmall_dev",
            members=("behaviors.tsv", "news.tsv"),
        ),
    ),
    "movielens-small": (
        Download(
            url=f"{GROUPLENS}/ml-latest-small.zip",
            sha256="696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
            into="ml-latest-small",
            members=("README.txt", "movies.csv", "ratings.csv"),
        ),
    ),
    "movielens-1m": (
        Download(
            url=f"{GROUPLENS}/ml-1m.zip",
            sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
            into="ml-1m",
            members=("README", "movies.dat", "ratings.dat", "users.dat"),
        ),
    ),
    "online-retail": (
        Download(
            url=f"{RETAIL_COPY}/data/Online%20Retail.parquet",
            sha256="518b36c8452f511e938535aebce2c3ea051432fe999bd85e81720ebb07af5931",
            into="online_retail/online_retail.parquet",
        ),
    ),
}


# Source -> names its folder may have, a file of which one is surely in it, where to get it.
PLACES: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "simulated": (("simulated",), ("events.tsv",), "make it with lib.data.simulator.simulate"),
    "mind-small": (
        ("mind-small", "mind-small-subset", "MINDsmall"),
        ("MINDsmall_train/behaviors.tsv",),
        "accept the licence at https://msnews.github.io and put MINDsmall_train/ (and MINDsmall_dev/) there",
    ),
    "movielens-small": (
        ("ml-latest-small", "movielens-small"),
        ("ratings.csv",),
        "get it at https://grouplens.org/datasets/movielens",
    ),
    "movielens-1m": (
        ("ml-1m", "movielens-1m"),
        ("ratings.dat", "ratings_no_timestamps.csv.gz"),
        "get it at https://grouplens.org/datasets/movielens/1m",
    ),
    "online-retail": (
        ("online_retail", "online-retail"),
        ("online_retail.parquet",),
        "get it at https://archive.ics.uci.edu/dataset/352/online+retail",
    ),
}


def read(source: str, folder: Path | None, *, download_to: Path | None = None, **options: object) -> Datasets:
    """The raw tables of a source, interactions ordered by time, items and users by id; no schemas yet.

    source: ``simulated``, ``mind-small``, ``movielens-small``, ``movielens-1m``, ``online-retail`` or ``csv``.
    folder: the data set's own folder or one that holds it.  download_to: fetch the data set into this folder first, if
    it is not there already, and check it; only then is ``folder`` None.  options: see the reader of each source below.
    Raises ValueError or FileNotFoundError that names file, line, column and value found, and what to do.
    """
    if source not in READERS:
        raise ValueError(f"source is {source!r}, expected one of {', '.join(READERS)}")
    reader = READERS[source]
    known = [name for name, it in inspect.signature(reader).parameters.items() if it.kind is it.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise ValueError(f"source {source} has no option {name!r}, expected one of {', '.join(known) or '(none)'}")
    if (folder is None) == (download_to is None):
        raise ValueError(f"source {source} needs either a folder to read or one to download to, and not both")
    if folder is None:
        fetch(source, download_to)
    interactions, items, users = reader(locate(source, folder or download_to), **options)
    return Datasets(
        interactions=interactions.sort_values("TIMESTAMP", kind="stable", ignore_index=True),
        items=None if items is None else items.sort_values("ITEM_ID", kind="stable", ignore_index=True),
        users=None if users is None else users.sort_values("USER_ID", kind="stable", ignore_index=True),
    )


def locate(source: str, folder: Path) -> Path:
    """The folder of a data set: the given one, or one of its usual names in it.  Raises FileNotFoundError."""
    if source not in PLACES:
        return folder
    names, files, remedy = PLACES[source]
    for place in (folder, *(folder / name for name in names)):
        if any((place / file).is_file() for file in files):
            return place
    inside = " or ".join(f"{name}/" for name in names)
    raise FileNotFoundError(f"{folder} does not hold {' or '.join(files)}, nor does {inside} in it: {remedy}")


def checksums(source: str, folder: Path) -> dict[str, str]:
    """File of a data set -> its sha256, by which a later run can tell that it reads the same."""
    place = locate(source, folder)
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return {path.relative_to(place).as_posix(): _sha256(path) for path in files}


def fetch(source: str, folder: Path) -> None:
    """Download a source below a folder, unless it is there; a file appears only after its checksum was right.

    Raises ValueError for a source nobody publishes or bytes that are not the publisher's, OSError if it cannot be had.
    """
    if source not in DOWNLOADS:
        raise ValueError(f"source {source} cannot be downloaded, only {', '.join(DOWNLOADS)}: give a folder")
    for download in DOWNLOADS[source]:
        target = folder / download.into
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        try:
            with urllib.request.urlopen(download.url, timeout=60) as answer, partial.open("wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
        except urllib.error.URLError as error:
            raise OSError(
                f"{download.url} cannot be read ({error.reason}): check the network, or put the files into {target}"
            ) from error
        found = _sha256(partial)
        if found != download.sha256:
            partial.unlink()
            raise ValueError(
                f"{download.url} has sha256 {found}, expected {download.sha256}: "
                "it was changed or cut on the way; nothing was kept, try again"
            )
        if download.members:
            _unpack(partial, target, download)
            partial.unlink()
        else:
            _rename(partial, target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(archive: Path, target: Path, download: Download) -> None:
    """Take the wanted files out of an archive, by name, whatever folder they lie in there."""
    unpacked = target.with_name(f".{target.name}.unpacked")
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    with zipfile.ZipFile(archive) as packed:
        entries = {name.rsplit("/", 1)[-1]: name for name in packed.namelist()}
        for member in download.members:
            if member not in entries:
                raise ValueError(f"{download.url} does not hold {member}, only {', '.join(sorted(entries))}")
            with packed.open(entries[member]) as source, (unpacked / member).open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
    unpacked.rename(target)


def _rename(partial: Path, target: Path) -> None:
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.rename(target)


Tables = tuple[pd.DataFrame, pd.DataFrame | None, pd.DataFrame | None]


def _simulated(folder: Path, *, histories: bool = True) -> Tables:
    """The folder that ``lib.data.simulator.simulate`` writes.

    Events before login belong to the user who logged in later in the session; sessions that never log in keep their id
    as user.  histories: also take what readers had read before the log begins, as in mind-small.
    """
    for name in set(SIMULATED_FILES) - {"truth.npz"}:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} does not exist: the simulated site is incomplete, make it again")
    behaviors, news = _Behaviors.read(folder / "behaviors.tsv"), _news(folder / "news.tsv")
    articles = _unquoted(folder / "articles.tsv", ("article", "published", "age_rating"), header=True)
    events_path = folder / "events.tsv"
    events = _unquoted(
        events_path,
        ("impression", "user", "time", "article", "event_type", "dwell_seconds", "device"),
        header=True,
    )
    sessions = _unquoted(folder / "sessions.tsv", ("session", "user"), header=True, may_be_empty=True)
    login = sessions[sessions["user"] != ""].set_index("session")["user"]
    impression = behaviors.impressions().set_axis(behaviors.table["impression"])
    rows = pd.DataFrame(
        {
            "USER_ID": events["user"].map(login).fillna(events["user"]),
            "ITEM_ID": events["article"],
            "TIMESTAMP": _times(events_path, events["time"], header=True),
            "EVENT_TYPE": events["event_type"],
            "EVENT_VALUE": _numbers(events_path, events["dwell_seconds"], header=True),
            "DEVICE": events["device"],
            "IMPRESSION": events["impression"].map(impression).where(events["event_type"] == "click"),
        }
    )
    published = pd.Series(_times(folder / "articles.tsv", articles["published"], header=True), articles["article"])
    if histories:
        earlier = behaviors.histories()
        born = earlier["ITEM_ID"].map(published).to_numpy()
        earlier["TIMESTAMP"] = np.maximum(earlier["TIMESTAMP"], born)
        earlier["TIMESTAMP"] = earlier.groupby("USER_ID")["TIMESTAMP"].cummax()
        rows = pd.concat([earlier, rows], ignore_index=True)
    rating = articles.set_index("article")["age_rating"]
    news.insert(3, "AGE_RATING", news["ITEM_ID"].map(rating))
    news.insert(4, "CREATION_TIMESTAMP", news["ITEM_ID"].map(published).astype("Int64"))
    users = _unquoted(folder / "users.tsv", ("user", "age_group", "gender", "region"), header=True)
    users.columns = ["USER_ID", "AGE_GROUP", "GENDER", "REGION"]
    return rows, news, users


def _mind(folder: Path, *, histories: bool = True) -> Tables:
    """MIND as published: ``MINDsmall_train/`` and, where it is there, ``MINDsmall_dev/``.

    A click is an interaction at the time of its impression (local time, read as UTC).  IMPRESSION holds what was shown;
    longer than Personalize takes, it keeps the clicked articles and as many of the others as fit.  CREATION_TIMESTAMP
    is the first time an article is seen anywhere.  histories: also take each user's earlier clicks.  MIND gives their
    order but no times: they are set a minute apart, the last a minute before the log begins; repeats count once.
    """
    parts = [part for part in (folder / "MINDsmall_train", folder / "MINDsmall_dev") if part.is_dir()]
    logs = [_Behaviors.read(part / "behaviors.tsv") for part in parts]
    news = pd.concat([_news(part / "news.tsv") for part in parts]).drop_duplicates("ITEM_ID", ignore_index=True)
    clicks = pd.concat([log.clicks() for log in logs], ignore_index=True)
    earlier = pd.concat([log.histories() for log in logs], ignore_index=True)
    seen = [pd.DataFrame({"ITEM_ID": log.candidate_item, "TIMESTAMP": log.time[log.candidate_row]}) for log in logs]
    seen.append(earlier[["ITEM_ID", "TIMESTAMP"]])
    first = pd.concat(seen).groupby("ITEM_ID")["TIMESTAMP"].min()
    news.insert(3, "CREATION_TIMESTAMP", news["ITEM_ID"].map(first).astype("Int64"))
    if not histories:
        return clicks, news, None
    rows = pd.concat([earlier, clicks], ignore_index=True)
    first = ~rows.sort_values("TIMESTAMP", kind="stable").duplicated(["USER_ID", "ITEM_ID"])
    return rows[first.sort_index() | (rows.index >= len(earlier))], news, None


@dataclass(frozen=True, slots=True)
class _Behaviors:
    """A ``behaviors.tsv``: its rows, their times, and all shown articles in one piece.

    table: impression, user, time, history, shown, as text.  time: (M,) epoch seconds.  candidate_row, candidate_item,
    candidate_clicked: (C,) of every article shown.
    """

    path: Path
    table: pd.DataFrame
    time: np.ndarray
    candidate_row: np.ndarray
    candidate_item: np.ndarray
    candidate_clicked: np.ndarray

    @classmethod
    def read(cls, path: Path) -> "_Behaviors":
        table = _unquoted(path, ("impression", "user", "time", "history", "shown"))
        time = _times(path, table["time"])
        lists = pc.split_pattern(pa.array(table["shown"], pa.large_string()), " ")
        marked = lists.flatten()
        row = np.repeat(np.arange(len(table)), np.asarray(pc.list_value_length(lists)))
        good = np.asarray(pc.match_substring_regex(marked, "^.+-[01]$"))
        if not good.all():
            at = int(np.argmin(good))
            remedy = "expected an id and -1 (clicked) or -0 (not), such as N123-1; MIND's test set cannot be used"
            raise _bad(path, row[at] + 1, "impressions", marked[at].as_py(), remedy)
        item = pc.utf8_slice_codeunits(marked, 0, -2).to_numpy(zero_copy_only=False)
        return cls(path, table, time, row, item, np.asarray(pc.ends_with(marked, "1")))

    def histories(self) -> pd.DataFrame:
        """What users clicked before the log: USER_ID, ITEM_ID, TIMESTAMP, EVENT_TYPE, oldest first for each user."""
        users = self.table.drop_duplicates("user")
        users = users[users["history"] != ""]
        rows = users[["user"]].assign(item=users["history"].str.split(" ")).explode("item", ignore_index=True)
        rows = rows.drop_duplicates(ignore_index=True)
        after = rows.groupby("user").cumcount(ascending=False).to_numpy()
        return pd.DataFrame(
            {
                "USER_ID": rows["user"],
                "ITEM_ID": rows["item"].astype("str"),
                "TIMESTAMP": self.time.min() - 60 * (after + 1),
                "EVENT_TYPE": "click",
            }
        )

    def clicks(self) -> pd.DataFrame:
        """What users clicked: USER_ID, ITEM_ID, TIMESTAMP, EVENT_TYPE, IMPRESSION."""
        row = self.candidate_row[self.candidate_clicked]
        return pd.DataFrame(
            {
                "USER_ID": self.table["user"].to_numpy()[row],
                "ITEM_ID": self.candidate_item[self.candidate_clicked],
                "TIMESTAMP": self.time[row],
                "EVENT_TYPE": "click",
                "IMPRESSION": self.impressions().to_numpy()[row],
            }
        )

    def impressions(self) -> pd.Series:
        """(M,) ids shown, joined by ``|``, at most as long as Personalize takes."""
        shown = pc.replace_substring_regex(pa.array(self.table["shown"], pa.large_string()), "-[01]( |$)", "|")
        shown = pd.Series(pc.utf8_rtrim(shown, "|").to_numpy(zero_copy_only=False), dtype="str")
        for row in np.flatnonzero(shown.str.len() > IMPRESSION_LENGTH):
            marked = sorted(self.table["shown"].iat[row].split(" "), key=lambda mark: mark[-1] == "0")  # clicked first
            kept = "|".join(mark[:-2] for mark in marked)[: IMPRESSION_LENGTH + 1]
            shown.iat[row] = kept[: kept.rindex("|")]
        return shown


def _news(path: Path) -> pd.DataFrame:
    """A ``news.tsv``: ITEM_ID, CATEGORY, SUBCATEGORY, TITLE, ABSTRACT; empty ones missing."""
    names = ("id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
    table = _unquoted(path, names)
    repeated = table["id"].duplicated()
    if repeated.any():
        at = int(np.argmax(repeated))
        raise _bad(path, at + 1, "id", table["id"].iat[at], "it stands on an earlier line too, keep one of them")
    table = table[["id", "category", "subcategory", "title", "abstract"]]
    table.columns = ["ITEM_ID", "CATEGORY", "SUBCATEGORY", "TITLE", "ABSTRACT"]
    return table.replace("", pd.NA)


def _movielens_small(folder: Path, *, click_above: float = 1.0, watch_above: float | None = 3.0) -> Tables:
    """MovieLens latest-small: a rating above ``click_above`` is a click, above ``watch_above`` also a watch.

    Both rows carry the rating's time, the click stands first.  watch_above None: no watch rows.
    """
    ratings = _Csv.read(folder / "ratings.csv", ("userId", "movieId", "rating", "timestamp"))
    rows = _events(
        ratings.table["userId"], ratings.table["movieId"], ratings.numbers("timestamp").astype(np.int64),
        ratings.numbers("rating"), click_above, watch_above,
    )  # fmt: skip
    movies = _Csv.read(folder / "movies.csv", ("movieId", "title", "genres"))
    return rows, _movies(movies.table["movieId"], movies.table["title"], movies.table["genres"]), None


def _movielens_1m(folder: Path, *, click_above: float = 1.0, watch_above: float | None = 3.0) -> Tables:
    """MovieLens 1M as published (``ratings.dat``), or rebuilt without times (``ratings_no_timestamps.csv.gz``).

    The rebuilt form knows the order of each user's ratings and the time of the last: the others are set a second apart
    before it; ratings of unknown place (films with fewer than five) come first.  Options as for movielens-small.
    """
    original = folder / "ratings.dat"
    if original.is_file():
        table = _unquoted(original, ("user", "movie", "rating", "timestamp"), separator="::")
        user, movie = table["user"], table["movie"]
        time, rating = (_numbers(original, table[name], required=True) for name in ("timestamp", "rating"))
    else:
        ratings = _Csv.read(folder / "ratings_no_timestamps.csv.gz", ("user_id", "movie_id", "rating", "sas_rank"))
        user, movie, rating = ratings.table["user_id"], ratings.table["movie_id"], ratings.numbers("rating")
        rank = ratings.numbers("sas_rank", required=False).fillna(-1)
        last = _Csv.read(folder / "user_last_timestamp.csv", ("user_id", "last_rating_timestamp"))
        ends = pd.Series(last.numbers("last_rating_timestamp").to_numpy(), last.table["user_id"])
        order = np.lexsort((rank, user.to_numpy()))
        after = user.iloc[order].groupby(user.iloc[order].to_numpy()).cumcount(ascending=False).sort_index()
        time = user.map(ends) - after
        if time.isna().any():
            raise ValueError(f"{last.path} has no line for user {user[time.isna()].iat[0]!r}: fetch the file again")
    rows = _events(user, movie, time.astype(np.int64), rating, click_above, watch_above)
    movies = _unquoted(folder / "movies.dat", ("id", "title", "genres"), separator="::", encoding="latin-1")
    people = _unquoted(folder / "users.dat", ("USER_ID", "GENDER", "age", "occupation", "zip"), separator="::")
    age = people["age"].map(MOVIELENS_AGES)
    occupation = people["occupation"].map({str(code): name for code, name in enumerate(MOVIELENS_OCCUPATIONS)})
    for column, values in (("age", age), ("occupation", occupation)):
        if values.isna().any():
            at = int(np.argmax(values.isna()))
            raise _bad(folder / "users.dat", at + 1, column, people[column].iat[at], "not a code of MovieLens' README")
    users = people[["USER_ID", "GENDER"]].assign(AGE_GROUP=age, OCCUPATION=occupation)
    return rows, _movies(movies["id"], movies["title"], movies["genres"]), users


def _events(
    user: pd.Series, item: pd.Series, time: pd.Series, rating: pd.Series, click_above: float, watch_above: float | None
) -> pd.DataFrame:
    """Ratings as events, in file order; a rating's click stands before its watch."""
    kinds = [("click", click_above)] + ([] if watch_above is None else [("watch", watch_above)])
    rows = pd.DataFrame({"USER_ID": user, "ITEM_ID": item, "TIMESTAMP": time})
    events = [rows[rating > least].assign(EVENT_TYPE=kind) for kind, least in kinds]
    return pd.concat(events).sort_index(kind="stable", ignore_index=True)


def _movies(movie: pd.Series, title: pd.Series, genres: pd.Series) -> pd.DataFrame:
    year = title.str.extract(r"\((\d{4})\)\s*$")[0]
    return pd.DataFrame(
        {
            "ITEM_ID": movie,
            "TITLE": title.str.strip(),
            "GENRE": genres.replace({"(no genres listed)": pd.NA, "": pd.NA}),
            "YEAR": pd.to_numeric(year).astype("Int64"),
        }
    )


def _online_retail(folder: Path) -> Tables:
    """UCI Online Retail as Parquet: a line of an invoice is a purchase.

    Left out: lines without a customer, cancellations, prices of zero or less, and codes that are no products (postage,
    fees, samples: those that do not begin with five digits).  An item's title is its commonest description, its price
    the median; a user's country the last one.
    """
    path = folder / "online_retail.parquet"
    wanted = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
    try:
        found = pyarrow.parquet.read_schema(path).names
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file ({error}): fetch it again") from None
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]}, only {', '.join(found)}: fetch it again")
    lines = pd.read_parquet(path, columns=list(wanted))
    lines["StockCode"] = lines["StockCode"].astype("str").str.strip().str.upper()
    lines = lines[
        lines["CustomerID"].notna()
        & ~lines["InvoiceNo"].astype("str").str.startswith("C")
        & (lines["UnitPrice"] > 0)
        & (lines["Quantity"] > 0)
        & lines["StockCode"].str.fullmatch(r"\d{5}[A-Z]*")
    ]
    rows = pd.DataFrame(
        {
            "USER_ID": lines["CustomerID"].astype(np.int64).astype("str"),
            "ITEM_ID": lines["StockCode"],
            "TIMESTAMP": lines["InvoiceDate"].astype("datetime64[s]").astype(np.int64),
            "EVENT_TYPE": "purchase",
            "EVENT_VALUE": lines["Quantity"],  # columns of one's own would be context, known before an item is chosen
        }
    )
    title = lines["Description"].astype("str").str.strip().replace("nan", pd.NA)
    commonest = title.groupby(lines["StockCode"]).agg(
        lambda names: names.mode().iat[0] if names.notna().any() else pd.NA
    )
    price = lines["UnitPrice"].groupby(lines["StockCode"]).median()
    items = pd.DataFrame({"ITEM_ID": commonest.index, "TITLE": commonest.to_numpy(), "PRICE": price.to_numpy()})
    country = lines["Country"].astype("str").groupby(rows["USER_ID"]).last()
    return rows, items, pd.DataFrame({"USER_ID": country.index, "COUNTRY": country.to_numpy()})


def _own_csv(
    folder: Path,
    *,
    interactions: str = "interactions.csv",
    items: str | None = None,
    users: str | None = None,
    interaction_columns: Mapping[str, str] | None = None,
    item_columns: Mapping[str, str] | None = None,
    user_columns: Mapping[str, str] | None = None,
    time_format: str | None = None,
    delimiter: str = ",",
) -> Tables:
    """One's own files: a header line, UTF-8, quotes doubled within quotes, an empty field for a missing value.

    interactions, items, users: the files' names; items.csv and users.csv are taken where they exist.
    …_columns: Personalize's name -> name in the file (``{"USER_ID": "customer"}``); then only these columns are taken.
    Otherwise all are, their names in upper case with underscores.  time_format: as in ``strptime``, for times that are
    neither numbers nor ISO 8601; times without a zone are UTC.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: name the one that holds {interactions}")
    tables = []
    for file, default, mapping, required in (
        (interactions, interactions, interaction_columns, ("USER_ID", "ITEM_ID", "TIMESTAMP")),
        (items, "items.csv", item_columns, ("ITEM_ID",)),
        (users, "users.csv", user_columns, ("USER_ID",)),
    ):
        if file is None and not (folder / default).is_file():
            tables.append(None)
            continue
        tables.append(_own_table(folder / (file or default), mapping, required, time_format, delimiter))
    return tuple(tables)


def _own_table(
    path: Path, mapping: Mapping[str, str] | None, required: Sequence[str], time_format: str | None, delimiter: str
) -> pd.DataFrame:
    """A table with Personalize's column names; ids and categories text, times and measures numbers."""
    file = _Csv.read(path, tuple((mapping or {}).values()), delimiter)
    names = dict(mapping or {})
    for found in file.table if not mapping else ():
        name = "".join(c if c.isalnum() else "_" for c in found).upper()
        if name in names:
            raise ValueError(
                f"{path}, line 1: columns {names[name]!r} and {found!r} would both be {name}; rename one, or say which "
                "to take in the column mapping"
            )
        names[name] = found
    for name in required:
        if name not in names:
            raise ValueError(
                f"{path} has no column {name}, only {', '.join(file.table)}: say which one it is in the column mapping"
            )
    for name, found in names.items():
        if not NAME.fullmatch(name):
            raise ValueError(
                f"{path}, line 1: column {found!r} cannot be named {name!r}: names are letters from A to Z, digits and "
                "underscores, and start with no digit; rename it, or say which columns to take in the column mapping"
            )
    columns = {}
    for name, found in names.items():
        if name in TEXTS:
            columns[name] = file.table[found].replace("", pd.NA)
        elif name in ("TIMESTAMP", "CREATION_TIMESTAMP"):
            columns[name] = file.times(found, time_format)
        else:
            columns[name] = _typed(file.table[found])
    return pd.DataFrame(columns)


def _typed(text: pd.Series) -> pd.Series:
    """Numbers and truth values where every value is one; codes with leading zeros stay text."""
    text = text.replace("", pd.NA)
    filled = text.dropna()
    if len(filled) == 0:
        return text
    if filled.str.lower().isin(("true", "false")).all():
        return text.str.lower().map({"true": True, "false": False}).astype("boolean")
    if filled.str.fullmatch(r"-?(0|[1-9]\d{0,17})").all():
        return pd.to_numeric(text).astype("Int64")
    if filled.str.fullmatch(r"-?(0|[1-9]\d*)?(\.\d+)?([eE][-+]?\d+)?").all():
        return pd.to_numeric(text)
    return text


READERS: dict[str, Callable[..., Tables]] = {
    "simulated": _simulated,
    "mind-small": _mind,
    "movielens-small": _movielens_small,
    "movielens-1m": _movielens_1m,
    "online-retail": _online_retail,
    "csv": _own_csv,
}


def _bad(path: Path, line: int, column: str, value: object, remedy: str) -> ValueError:
    return ValueError(f"{path}, line {line}, column {column}: found {value!r}; {remedy}")


def _bytes(path: Path) -> bytes:
    """A file's content, unpacked, never empty."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: the data set is incomplete, fetch or copy it again")
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise ValueError(f"{path} is not a complete gzip file ({error}): fetch or copy it again") from None
    if not content.strip():
        raise ValueError(f"{path} is empty: fetch or copy it again")
    return content


def _unquoted(
    path: Path,
    columns: Sequence[str],
    *,
    separator: str = "\t",
    encoding: str = "utf-8",
    header: bool = False,
    may_be_empty: bool = False,
) -> pd.DataFrame:
    """A file in which nothing is quoted, as text; every line must have these columns, an absent value is ''."""
    content = _bytes(path)
    try:
        content = content.decode(encoding).replace("\r\n", "\n").replace(separator, "\t").encode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line}: byte {error.start} is not {encoding}; save the file as {encoding}"
        ) from None
    data = np.frombuffer(content, dtype=np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    lines = len(ends) + (content[-1:] != b"\n")
    tabs = np.bincount(np.searchsorted(ends, np.flatnonzero(data == ord("\t"))), minlength=lines)
    wrong = np.flatnonzero(tabs != len(columns) - 1)
    if len(wrong):
        raise ValueError(
            f"{path}, line {wrong[0] + 1}: found {tabs[wrong[0]] + 1} columns, expected {len(columns)} "
            f"({', '.join(columns)}) separated by {separator!r}; repair or fetch the file again"
        )
    table = pd.read_csv(
        io.BytesIO(content), sep="\t", header=None, names=list(columns), index_col=False, dtype=str,
        quoting=csv.QUOTE_NONE, keep_default_na=False, skip_blank_lines=False,
    )  # fmt: skip
    if not header:
        return table
    if tuple(table.iloc[0]) != tuple(columns):
        raise ValueError(f"{path}, line 1: found {', '.join(table.iloc[0])}, expected the header {', '.join(columns)}")
    if len(table) == 1 and not may_be_empty:
        raise ValueError(f"{path} has a header and no rows: fetch or make it again")
    return table.iloc[1:].reset_index(drop=True)


def _times(path: Path, text: pd.Series, header: bool = False) -> np.ndarray:
    """(N,) int64 epoch seconds of times as MIND writes them."""
    time = pd.to_datetime(text, format=MIND_TIME, errors="coerce")
    if time.isna().any():
        at = int(np.argmax(time.isna()))
        raise _bad(path, at + 1 + header, text.name, text.iat[at], "expected a time such as 11/13/2019 8:36:57 AM")
    return time.astype("datetime64[s]").astype(np.int64).to_numpy()


def _numbers(path: Path, text: pd.Series, header: bool = False, required: bool = False) -> pd.Series:
    """Numbers, NA for ''."""
    number = pd.to_numeric(text.replace("", pd.NA), errors="coerce")
    wrong = number.isna() & ((text != "") | required)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise _bad(path, at + 1 + header, text.name, text.iat[at], "expected a number")
    return number


@dataclass(frozen=True, slots=True)
class _Csv:
    """A CSV file as text, with what is needed to say where in it a value stands.  blank: positions of empty lines."""

    path: Path
    table: pd.DataFrame
    blank: tuple[int, ...]

    @classmethod
    def read(cls, path: Path, required: Sequence[str], delimiter: str = ",") -> "_Csv":
        content = _bytes(path)
        try:
            line = re.split(b"[\r\n]", content, maxsplit=1)[0].decode("utf-8-sig")
            header = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(
                f"{path}, line 1: expected the names of columns in UTF-8 ({error}); save the file so, not packed"
            ) from None
        if len(header) < 2:
            raise ValueError(
                f"{path}, line 1: found {line!r}, expected the names of columns separated by {delimiter!r}; mend it, "
                "or say what separates them in the option delimiter"
            )
        for name in required:
            if name not in header:
                raise ValueError(f"{path}, line 1: no column {name!r} in the header, only {', '.join(header)}")
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise ValueError(f"{path}, line 1: column {twice!r} stands twice in the header; rename one")
        blank: list[int] = []
        wrong: list[pyarrow.csv.InvalidRow] = []

        def refuse(row: pyarrow.csv.InvalidRow) -> str:
            if not row.text.strip():
                blank.append(row.number)
                return "skip"
            wrong.append(row)
            return "error"

        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(content),
                pyarrow.csv.ReadOptions(use_threads=False, column_names=header, skip_rows=1),
                pyarrow.csv.ParseOptions(
                    delimiter=delimiter, newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=refuse
                ),
                pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(header, pa.large_string()), strings_can_be_null=False
                ),
            )
        except pa.ArrowInvalid as error:
            if wrong:
                raise ValueError(
                    f"{path}, line {wrong[0].number}: found {wrong[0].actual_columns} columns, expected "
                    f"{wrong[0].expected_columns} ({', '.join(header)}); quote values that hold {delimiter!r}"
                ) from None
            if "straddling" in str(error):
                raise ValueError(
                    f"{path} has a value longer than a mebibyte; see whether a quote lacks its second, or shorten it"
                ) from None
            raise ValueError(f"{path} cannot be read as CSV in UTF-8 ({error}); save it again") from None
        if table.num_rows == 0:
            raise ValueError(f"{path} has a header and no rows: fetch or export it again")
        return cls(path, table.to_pandas(), tuple(blank))

    def line(self, at: int) -> int:
        """The line of the file on which a row begins."""
        before = self.table.iloc[:at]
        breaks = sum(int(before[name].str.count("\n").sum()) for name in before)
        return at + 2 + breaks + sum(number <= at + 2 for number in self.blank)

    def numbers(self, name: str, required: bool = True) -> pd.Series:
        """A column of numbers; NA for '' unless required."""
        text = self.table[name]
        number = pd.to_numeric(text.replace("", pd.NA), errors="coerce")
        wrong = number.isna() & ((text != "") | required)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise _bad(self.path, self.line(at), name, text.iat[at], "expected a number")
        return number

    def times(self, name: str, time_format: str | None) -> pd.Series:
        """A column of numbers as they stand, or of dates as epoch seconds; NA for ''."""
        text = self.table[name]
        filled = text != ""
        number = pd.to_numeric(text.where(filled), errors="coerce")
        dates = text[filled].str.fullmatch(DATES).all()
        if time_format is None and not dates and number.notna().sum() >= max(1, filled.sum() / 2):
            wrong, expected, time = number.isna() & filled, "epoch seconds like the other lines", number
            if (number.dropna() % 1 == 0).all():
                time = number.astype("Int64")
        else:
            parsed = pd.to_datetime(text.where(filled), format=time_format or "ISO8601", errors="coerce", utc=True)
            wrong = parsed.isna() & filled
            expected = "epoch seconds or a time in ISO 8601; for others give the option time_format"
            if time_format:
                expected = f"a time such as {time_format}"
            time = parsed.dt.tz_localize(None).astype("datetime64[s]").astype("int64").where(filled).astype("Int64")
        if wrong.any():
            at = int(np.argmax(wrong))
            raise _bad(self.path, self.line(at), name, text.iat[at], f"expected {expected}")
        return time.astype(np.int64) if filled.all() and time.dtype == "Int64" else time
