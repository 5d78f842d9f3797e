"""A news site in MIND's file format, whose readers' tastes are known.

``simulate`` writes a folder.  Two files are MIND's own, tab-separated and without a header:

* ``behaviors.tsv``: impression id, user id, time (``1/9/2025 9:05:58 AM``, UTC), history (ids read before the log
  begins, oldest first), impressions (``N123-1 N4-0``: shown in this order, 1 = read).
* ``news.tsv``: id, category, subcategory, title, abstract, url, title entities, abstract entities (both ``[]``).

What that format does not have stands beside them, tab-separated, with a header:

* ``users.tsv``: user, age_group, gender, region.
* ``articles.tsv``: article, published (time), age_rating (``all``, ``12``, ``16`` or ``18``).
* ``events.tsv``: impression, user, time, article, event_type (``click``, ``like`` or ``share``), dwell_seconds (of
  clicks; empty elsewhere), device.  One row an event, ordered by time.
* ``sessions.tsv``: session, user (empty: never logged in).  Whoever has not logged in yet goes by the session's id
  (``S…``) in ``behaviors.tsv`` and ``events.tsv``.
* ``truth.npz``: why readers did what they did.  For evaluation only; ``Truth.load`` reads it.

How the site works: an editor fills each list with fresh, popular and random articles and some of the reader's favourite
topics.  Readers differ in how often they come and in what they like; tastes drift and lean on age group, gender and
region.  A click is chance, the likelier the better liked the topic and the better and newer the article.  What was read
last arouses interest in its topic and in the story it belongs to.  Some stories break: for a day everybody reads them.
Nobody reads an article twice.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from lib.data.headlines import RATINGS, REGIONS, TOPICS, write

START = 1_736_121_600  # Monday 6 January 2025, 0:00 UTC: a day like any other, so that no clock is read
FILES = ("articles.tsv", "behaviors.tsv", "events.tsv", "news.tsv", "sessions.tsv", "truth.npz", "users.tsv")
AGE_GROUPS = ("13-17", "18-24", "25-34", "35-49", "50-64", "65+")
RATING_OF_AGE = np.array((1, 3, 3, 3, 3, 3))  # the highest position in RATINGS that suits an age group
GENDERS = ("female", "male", "other")
DEVICES = ("desktop", "mobile", "tablet")
KINDS = ("click", "like", "share")

DAY = 86_400
BLOCK = 3 * 3_600  # seconds in which a reader starts at most one session, and popularity stands still
NIGHT = 6 * 3_600  # seconds of ``next_day`` in which its articles appear
WARM_UP_DAYS = 3  # what was read in them becomes MIND's history column
SHOWN = 12  # articles in a list
ROUNDS = 6  # lists in a session, at most
EVENTS_A_SESSION = 2.25  # measured; turns a number of events into one of visits
ACTIVITY = 0.8  # spread of how often readers come, as that of its logarithm
LATE_LOGIN = 0.02  # mean share of a reader's sessions that begin before login

# What draws a reader to an article, in logits.  These decide how much there is to learn.  Where lists leave out what
# was read, popularity gets a third of the truth's nDCG@10, items read together two thirds, topic and time nine tenths.
CLICKED = 0.075  # mean chance of a click on an article in a list, of readers in no mood
TASTE = 1.8  # spread over topics of the tastes of a kind of readers
KINDS_OF_READERS = 8
MIXED = 0.08  # concentration of a reader's mixture of kinds: low, so that most are of one or two
OWN_TASTE = 0.15  # spread of what sets a reader apart from his kind
GROUP_TASTE = 0.35  # spread of an age group's, a gender's and a region's tastes
TOPIC = 0.5  # spread of what everybody likes
DRIFT = 0.15  # spread of how far tastes move until the end
DEVICE_TASTE = 0.35  # spread of what is rather read on one device than on another
QUALITY = 0.8  # spread of articles' quality
MOOD = 7.0  # a topic that alone was read for a long time
MOOD_KEPT = 0.8  # of the mood, after one more article
STORY = 2.0  # another article of the story read last
LOCAL = 0.5  # it plays in the reader's region
SURGE = 2.5  # a story that breaks, at its first hour
SURGE_DAYS = 0.5  # half-life of that
UNSUITABLE = 1.5  # rated above the reader's age
POSITION = 0.97  # chance that is left one place further down the list

# What the editor's lists are made of.
FRESH, POPULAR, FAVOURITE, ANY = 0.2, 0.2, 0.4, 0.2
FAVOURITE_TASTE = 0.5  # how sharply the editor goes by a reader's tastes
FRONT_PAGE_LIVES = 3.0  # half-lives after which an article is no longer shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Everything that decides what a reader clicks.  U readers, I articles, S topics, N blocks of three hours.

    user_ids (U,), session_ids (A,), session_reader (A,): who is behind a session that began before login.
    item_ids (I,) in order of publication; topic, story (-1: none), region, rating (I,): positions in the vocabularies.
    published (I,) epoch seconds.  quality, half_life_days, surge (I,).  taste, drift (U, S): logits at the start and
    how they change until the end.  device_taste (3, S): logits added on a device.  reader_region, reader_age (U,).
    popularity (N, I): recent clicks when a block starts.
    base: logit of a click on an average article.  start, end: epoch seconds of the first block and after the last.
    """

    user_ids: np.ndarray
    session_ids: np.ndarray
    session_reader: np.ndarray
    item_ids: np.ndarray
    topic: np.ndarray
    story: np.ndarray
    region: np.ndarray
    rating: np.ndarray
    published: np.ndarray
    quality: np.ndarray
    half_life_days: np.ndarray
    surge: np.ndarray
    taste: np.ndarray
    drift: np.ndarray
    device_taste: np.ndarray
    reader_region: np.ndarray
    reader_age: np.ndarray
    popularity: np.ndarray
    base: float
    start: int
    end: int

    @classmethod
    def load(cls, path: Path) -> Self:
        """The truth of a simulated folder, from its ``truth.npz``.  Raises FileNotFoundError where there is none."""
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist: only a simulated site has a truth, make one with simulate()"
            )
        with np.load(path, allow_pickle=False) as file:
            arrays = {field.name: file[field.name] for field in fields(cls)}
        return cls(**{name: array if array.ndim else array.item() for name, array in arrays.items()})

    def relevance(
        self,
        user_ids: Sequence[str],
        now: np.ndarray,
        item_ids: Sequence[str],
        previous: Sequence[Sequence[str]],
        devices: Sequence[str] | None = None,
    ) -> np.ndarray:
        """(B, I) float64 chances that the next list shows an article and the reader clicks it.

        now: (B,) epoch seconds.  previous: what each reader did before, item ids oldest first, repeats included.
        devices: (B,) on which they read, None where it is not known.  0 for what is not published yet or was read
        before, except for the article read last: its chance is that of a like or share.
        Sorting by it is the best possible list for the logged next event.  Raises ValueError for an unknown id.
        """
        readers, known = self._readers(user_ids)
        now, device = np.asarray(now, dtype=np.int64), self._devices(devices, len(readers))
        mood, story, read = self._state(previous)
        every = np.broadcast_to(np.arange(len(self.item_ids)), read.shape)
        place = self._place(readers, known, now, every[0], ~read)
        chance = self._chance(readers, now, every, mood, story, device) * (1 - (1 - place) ** SHOWN)
        for row, ids in enumerate(previous):
            if len(ids) and ids[-1] not in ids[:-1]:
                last, one = self._items(ids[-1:]), slice(row, row + 1)
                chance[row, last] = _reactions(self._liking(readers[one], now[one], last[None], device[one])).sum()
        return chance[:, self._items(item_ids)]

    def chance(
        self,
        user_ids: Sequence[str],
        now: np.ndarray,
        item_ids: Sequence[str],
        previous: Sequence[Sequence[str]],
        devices: Sequence[str] | None = None,
    ) -> np.ndarray:
        """(B, I) float64 chances of a click by readers who see these articles; 0 if unpublished or read before."""
        readers, _ = self._readers(user_ids)
        mood, story, read = self._state(previous)
        items = np.broadcast_to(self._items(item_ids), (len(readers), len(item_ids)))
        device = self._devices(devices, len(readers))
        chance = self._chance(readers, np.asarray(now, dtype=np.int64), items, mood, story, device)
        return chance * ~np.take_along_axis(read, items, axis=1)

    def clicks(
        self,
        user_ids: Sequence[str],
        now: np.ndarray,
        shown: Sequence[Sequence[str]],
        previous: Sequence[Sequence[str]],
        rng: np.random.Generator,
        devices: Sequence[str] | None = None,
    ) -> list[np.ndarray]:
        """What readers click in the lists they are shown: (K,) bool each.  One draw an article, in the order given."""
        answers = []
        for row, ids in enumerate(shown):
            one = slice(row, row + 1)
            chance = self.chance(
                user_ids[one], np.asarray(now)[one], ids, previous[one], None if devices is None else devices[one]
            )
            answers.append(rng.random(len(ids)) < chance[0] * POSITION ** np.arange(len(ids)))
        return answers

    def _readers(self, user_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(B,) readers behind the ids, and whether the site knows them."""
        names = pd.Index(np.concatenate([self.user_ids, self.session_ids]))
        found = names.get_indexer(np.asarray(user_ids, dtype=str))
        if (found < 0).any():
            raise ValueError(f"user {user_ids[int(np.argmin(found))]!r} is not a reader of this simulated site")
        readers = np.concatenate([np.arange(len(self.user_ids)), self.session_reader])
        return readers[found], found < len(self.user_ids)

    def _items(self, item_ids: Sequence[str]) -> np.ndarray:
        found = pd.Index(self.item_ids).get_indexer(np.asarray(item_ids, dtype=str))
        if (found < 0).any():
            raise ValueError(f"item {item_ids[int(np.argmin(found))]!r} is not an article of this simulated site")
        return found

    def _devices(self, devices: Sequence[str] | None, n: int) -> np.ndarray:
        """(B,) positions in DEVICES, -1 where not known."""
        if devices is None:
            return np.full(n, -1)
        return pd.Index(DEVICES).get_indexer(np.asarray(devices, dtype=str))

    def _state(self, previous: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(B, S) mood, (B,) story read last, (B, I) read: what the articles read before left behind."""
        mood = np.zeros((len(previous), self.taste.shape[1]))
        story = np.full(len(previous), -1)
        read = np.zeros((len(previous), len(self.item_ids)), dtype=bool)
        for row, ids in enumerate(previous):
            items = self._items(list(dict.fromkeys(ids)))
            if len(items):
                weight = (1 - MOOD_KEPT) * MOOD_KEPT ** np.arange(len(items))[::-1]
                np.add.at(mood[row], self.topic[items], weight)
                story[row] = self.story[items[-1]]
                read[row, items] = True
        return mood, story, read

    def _liking(self, reader: np.ndarray, now: np.ndarray, items: np.ndarray, device: np.ndarray) -> np.ndarray:
        """(B, K) how much readers like the topics and places of articles (B, K) at that time, in logits."""
        passed = np.clip((now - self.start) / (self.end - self.start), 0, 1)
        taste = self.taste[reader] + passed[:, None] * self.drift[reader]
        taste = taste + np.where(device[:, None] >= 0, self.device_taste[device], 0)  # (B, S)
        near = self.reader_region[reader][:, None] == self.region[items]
        too_old = self.rating[items] > RATING_OF_AGE[self.reader_age[reader]][:, None]
        return np.take_along_axis(taste, self.topic[items], axis=1) + LOCAL * near - UNSUITABLE * too_old

    def _chance(
        self,
        reader: np.ndarray,
        now: np.ndarray,
        items: np.ndarray,
        mood: np.ndarray,
        story: np.ndarray,
        device: np.ndarray,
    ) -> np.ndarray:
        """(B, K) chance of a click on articles (B, K) that are shown and were not read; 0 before they are published."""
        age = (now[:, None] - self.published[items]) / DAY
        logit = self.base + self._liking(reader, now, items, device) + self.quality[items]
        logit -= np.log(2) * age / self.half_life_days[items]
        logit += self.surge[items] * 0.5 ** (np.maximum(age, 0) / SURGE_DAYS)
        logit += MOOD * np.take_along_axis(mood, self.topic[items], axis=1)
        logit += STORY * ((story[:, None] >= 0) & (story[:, None] == self.story[items]))
        return np.where(age >= 0, 1 / (1 + np.exp(-logit)), 0.0)

    def _place(
        self, reader: np.ndarray, known: np.ndarray, now: np.ndarray, items: np.ndarray, unread: np.ndarray
    ) -> np.ndarray:
        """(B, K) the editor's chance to pick each of the articles (K,) for one place of the list; rows sum to 1."""
        published = self.published[items]
        last_day = published + self.half_life_days[items] * (FRONT_PAGE_LIVES * DAY)
        offered = unread & (published <= now[:, None]) & (now[:, None] < last_day)
        block, row = np.unique(np.clip((now - self.start) // BLOCK, 0, len(self.popularity) - 1), return_inverse=True)
        age = (self.start + (block[:, None] + 1) * BLOCK - published) / DAY
        popular = (self.popularity[block[:, None], items] + 0.1)[row]
        favourite = np.exp(FAVOURITE_TASTE * self.taste)[reader][:, self.topic[items]]
        chance = np.zeros(offered.shape)
        for share, weight in (
            (FRESH, (0.5 ** np.maximum(age, 0))[row]),
            (POPULAR, popular),
            (FAVOURITE, np.where(known[:, None], favourite, popular)),
            (ANY, 1.0),
        ):
            weight = weight * offered
            chance += weight * (share / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12))
        return chance


def simulate(
    folder: Path, *, seed: int, readers: int = 2000, articles: int = 1500, interactions: int = 100_000, days: int = 28
) -> None:
    """Write the site described above: the same bytes for the same arguments, in a few seconds.

    interactions: how many events to aim at; the default site comes within a tenth, small ones within a half.  The
    folder appears whole or not at all; an older simulated site in it is replaced.
    Raises ValueError for sizes no site can be made of, FileExistsError if the folder holds anything else.
    """
    for name, value, least in (
        ("readers", readers, 10), ("articles", articles, 100), ("interactions", interactions, 100), ("days", days, 7)
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"{name} is {value}, a simulated site needs at least {least}")
    if folder.exists():
        strange = sorted({entry.name for entry in folder.iterdir()} - set(FILES))
        if strange:
            raise FileExistsError(f"{folder} holds {strange[0]}, which is not of a simulated site: name another folder")
    rng = np.random.default_rng(seed)
    people = _people(rng, readers)
    catalogue = _articles(rng, articles, days)
    titles = write(rng, catalogue["topic"], catalogue["story"], catalogue["region"])
    visits = _visits(rng, readers, interactions, days)
    truth = Truth(
        user_ids=np.array([f"U{number}" for number in rng.permutation(10 * readers)[:readers] + 1]),
        item_ids=np.array([f"N{number}" for number in rng.permutation(10 * articles)[:articles] + 1]),
        session_ids=np.array([], dtype=str),
        session_reader=np.array([], dtype=np.int64),
        popularity=np.zeros((len(visits), articles), dtype=np.float32),
        base=0.0,
        start=START,
        end=START + days * DAY,
        **{name: array for name, array in (people | catalogue).items() if name not in ("gender", "mobile")},
    )
    truth = replace(truth, base=_base(truth))
    log, behind = _live(rng, truth, people["mobile"], visits)
    truth = replace(
        truth, session_ids=np.array([f"S{n + 1:06d}" for n in range(len(behind))], dtype=str), session_reader=behind
    )
    partial = folder.parent / f".{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write(partial, truth, people, titles, log)
    for path in (*partial.iterdir(), partial):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def next_day(truth: Truth, *, articles: int, seed: int) -> tuple[Truth, pd.DataFrame]:
    """The site the day after its log ends, with new articles of the night: what is true then, and their Items rows.

    They are as good and as bad as articles are; none of their stories has begun before.  The columns are those of
    ``sources.read("simulated", ...)``'s Items.
    """
    rng = np.random.default_rng((seed, truth.end))
    added = _articles(rng, articles, days=1)
    added["published"] = truth.end + np.sort(rng.integers(NIGHT, size=articles))
    added["story"] = np.where(added["story"] >= 0, added["story"] + truth.story.max() + 1, -1)
    titles, abstracts = write(rng, added["topic"], added["story"], added["region"])
    ids = np.array([f"T{number + 1}" for number in range(articles)])
    grown = {name: np.concatenate([getattr(truth, name), array]) for name, array in added.items()}
    unseen = np.zeros((len(truth.popularity), articles), dtype=truth.popularity.dtype)
    grown |= {"item_ids": np.append(truth.item_ids, ids), "popularity": np.hstack([truth.popularity, unseen])}
    items = pd.DataFrame(
        {
            "ITEM_ID": ids,
            "CATEGORY": [TOPICS[topic].category for topic in added["topic"]],
            "SUBCATEGORY": [TOPICS[topic].name for topic in added["topic"]],
            "TITLE": titles,
            "ABSTRACT": abstracts,
            "AGE_RATING": np.array(RATINGS)[added["rating"]],
            "CREATION_TIMESTAMP": added["published"],
        }
    )
    return replace(truth, **grown), items


@dataclass(frozen=True, slots=True, kw_only=True)
class _Log:
    """What happened, ordered by time.  M impressions, V events.

    reader, session (-1: logged in from the start), known (logged in by now), time: (M,).  shown: (M, SHOWN), -1 past a
    list's end; clicked: (M, SHOWN).  impression (V,) positions in M; event_time, item, kind (position in KINDS),
    dwell, device: (V,).
    """

    reader: np.ndarray
    session: np.ndarray
    known: np.ndarray
    time: np.ndarray
    shown: np.ndarray
    clicked: np.ndarray
    impression: np.ndarray
    event_time: np.ndarray
    item: np.ndarray
    kind: np.ndarray
    dwell: np.ndarray
    device: np.ndarray


def _people(rng: np.random.Generator, readers: int) -> dict[str, np.ndarray]:
    """Readers: who they are, what they like, and how often they read on a mobile."""
    age = rng.choice(len(AGE_GROUPS), size=readers, p=(0.06, 0.14, 0.22, 0.25, 0.2, 0.13))
    gender = rng.choice(len(GENDERS), size=readers, p=(0.49, 0.48, 0.03))
    region = rng.choice(len(REGIONS), size=readers, p=(0.34, 0.22, 0.14, 0.1, 0.2))
    categories = sorted({topic.category for topic in TOPICS})
    category = np.array([categories.index(topic.category) for topic in TOPICS])
    shared = rng.normal(0, TOPIC, len(TOPICS))
    lean = sum(rng.normal(0, GROUP_TASTE, (n, len(TOPICS)))[group] for n, group in ((6, age), (3, gender), (5, region)))
    kinds = rng.normal(0, 1, (KINDS_OF_READERS, len(categories)))[:, category]
    kinds += rng.normal(0, 1, kinds.shape)
    share = rng.dirichlet(np.full(KINDS_OF_READERS, MIXED), readers)
    mixed = (share[:, :, None] * kinds).sum(axis=1)  # not a matrix product: its last digits vary with the machine
    own = rng.normal(0, 1, (readers, len(TOPICS)))
    drift = rng.normal(0, DRIFT, (readers, len(TOPICS)))
    mobile = np.array((0.85, 0.8, 0.7, 0.55, 0.4, 0.3))[age]
    return {
        "reader_age": age,
        "gender": gender,
        "reader_region": region,
        "mobile": mobile,
        "taste": (shared + lean + TASTE * mixed + OWN_TASTE * own).astype(np.float32),
        "drift": drift.astype(np.float32),
        "device_taste": rng.normal(0, DEVICE_TASTE, (len(DEVICES), len(TOPICS))).astype(np.float32),
    }


def _visits(rng: np.random.Generator, readers: int, interactions: int, days: int) -> np.ndarray:
    """(N, U) bool: whether a reader starts a session in a block.  Few come often; some join while the site runs."""
    by_hour = np.array((0.15, 0.1, 0.9, 1.3, 1.2, 1.0, 1.5, 1.2))
    by_day = np.array((1.0, 1.0, 1.05, 1.0, 0.95, 0.8, 0.9))
    block = (by_hour[None, :] * by_day[np.arange(days) % 7, None]).ravel()
    rate = block[:, None] * rng.lognormal(0, ACTIVITY, readers)
    joined = np.where(rng.random(readers) < 0.7, 0, rng.integers(0, len(block), readers))
    rate = np.where(np.arange(len(block))[:, None] >= joined, rate, 0.0)
    for _ in range(20):  # a block holds one session at most, so busy readers come less often than their rate says
        rate *= interactions / EVENTS_A_SESSION / (1 - np.exp(-rate)).sum()
    return rng.random(rate.shape) < 1 - np.exp(-rate)


def _articles(rng: np.random.Generator, articles: int, days: int) -> dict[str, np.ndarray]:
    """Articles in the order of publication: two fifths are there when the site opens, the others keep arriving."""
    first = 2 * articles // 5
    half_life_days = np.array([topic.half_life_days for topic in TOPICS])
    topic = rng.choice(len(TOPICS), size=articles, p=half_life_days**-0.25 / (half_life_days**-0.25).sum())
    age = rng.random(first) * 2 * half_life_days[topic[:first]]
    minute = rng.choice(24 * 60, size=articles - first, p=np.repeat(np.array((1, 1, 6, 7, 6, 6, 5, 3)) / 35, 180) / 180)
    arriving = rng.integers(days, size=articles - first) * DAY + minute * 60
    published = np.concatenate([-age * DAY, arriving]).astype(np.int64)
    order = np.argsort(published, kind="stable")
    topic, published = topic[order], published[order] + START
    story, region = _stories(rng, topic, published)
    breaking = np.unique(story[(story >= 0) & (half_life_days[topic] <= 8)])
    breaking = rng.choice(breaking, size=len(breaking) // 6, replace=False)
    rated = np.array([RATINGS.index(topic.rating) for topic in TOPICS])[topic]
    harsher = (rng.random(articles) < 0.08) & (half_life_days[topic] <= 8)
    return {
        "topic": topic,
        "story": story,
        "region": region,
        "rating": np.minimum(rated + harsher, len(RATINGS) - 1),
        "published": published,
        "quality": rng.normal(0, QUALITY, articles).astype(np.float32),
        "half_life_days": (half_life_days[topic] * rng.lognormal(0, 0.25, articles)).astype(np.float32),
        "surge": np.where(np.isin(story, breaking), SURGE, 0.0).astype(np.float32),
    }


def _stories(rng: np.random.Generator, topic: np.ndarray, published: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(I,) story of each article, -1 for none, and (I,) region it plays in: a story runs within a topic for days."""
    story = np.full(len(topic), -1)
    region = rng.choice(len(REGIONS), size=len(topic))
    count = 0
    for one in range(len(TOPICS)):
        current, until = -1, 0
        for at in np.flatnonzero(topic == one):
            if published[at] > until:
                current, until, place = count, published[at] + rng.integers(2, 7) * DAY, region[at]
                count += 1
            if rng.random() < 0.65:
                story[at], region[at] = current, place
    return story, region


def _base(truth: Truth) -> float:
    """The logit at which the chance of a click is ``CLICKED`` on average over what some readers are shown."""
    reader = np.arange(len(truth.user_ids))[:400]
    now = truth.start + (truth.end - truth.start) * (1 + np.arange(len(reader)) % 7) // 8
    items, nothing = np.arange(len(truth.item_ids)), np.full(len(reader), -1)
    unread = np.ones((len(reader), len(items)), dtype=bool)
    place = truth._place(reader, unread[:, 0], now, items, unread)
    mood = np.zeros((len(reader), truth.taste.shape[1]))
    chance = truth._chance(reader, now, np.broadcast_to(items, place.shape), mood, nothing, nothing)
    row, item = np.nonzero(place * chance)
    weight, odds = place[row, item] / len(reader), chance[row, item] / (1 - chance[row, item])
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        raised = odds * np.exp(middle)
        low, high = (middle, high) if (weight * raised / (1 + raised)).sum() < CLICKED else (low, middle)
    return low


def _live(rng: np.random.Generator, truth: Truth, mobile: np.ndarray, visits: np.ndarray) -> tuple[_Log, np.ndarray]:
    """Let the readers visit block by block; fills ``truth.popularity``.  Also (A,): who is behind each late login."""
    readers, articles = len(truth.user_ids), len(truth.item_ids)
    read = np.zeros((readers, articles), dtype=bool)
    mood, story = np.zeros_like(truth.taste, dtype=np.float64), np.full(readers, -1)
    clock = np.zeros(readers, dtype=np.int64)
    popular = np.zeros(articles)
    late_login = rng.beta(0.5, 0.5 / LATE_LOGIN - 0.5, readers)
    impressions, events, behind, n_sessions, n_impressions = [], [], [], 0, 0
    for block, present in enumerate(visits):
        truth.popularity[block] = popular
        popular *= 0.5 ** (BLOCK / DAY)
        reader = np.flatnonzero(present)
        opens = START + block * BLOCK
        clock[reader] = np.maximum(clock[reader] + 60, opens + rng.integers(0, BLOCK - 3600, len(reader)))
        late = (rng.random(len(reader)) < late_login[reader]) & (opens >= START + WARM_UP_DAYS * DAY)
        session = np.where(late, n_sessions + np.cumsum(late) - 1, -1)
        behind.append(reader[late])
        n_sessions += int(late.sum())
        known = ~late
        device = np.where(rng.random(len(reader)) < mobile[reader], 1, 2 * (rng.random(len(reader)) < 0.2))
        age_days = (opens + BLOCK - truth.published) / DAY
        items = np.flatnonzero((age_days > 0) & (age_days < FRONT_PAGE_LIVES * truth.half_life_days + 1))
        for _ in range(ROUNDS):
            now = clock[reader]
            place = truth._place(reader, known, now, items, ~read[reader][:, items])
            shown = _draw(rng, items, place)
            chance = truth._chance(reader, now, shown, mood[reader], story[reader], device)
            clicked = (shown >= 0) & (rng.random(shown.shape) < chance * POSITION ** np.arange(shown.shape[1]))
            impression, *event, spent = _react(rng, truth._liking(reader, now, shown, device), now, shown, clicked)
            events.append((n_impressions + impression, *event, device[impression]))
            impressions.append((reader, session, known, now, shown, clicked))
            n_impressions += len(reader)
            for column in range(shown.shape[1]):
                on = clicked[:, column]
                who, what = reader[on], shown[on, column]
                mood[who] *= MOOD_KEPT
                mood[who, truth.topic[what]] += 1 - MOOD_KEPT
                story[who] = truth.story[what]
                read[who, what] = True
                popular += np.bincount(what, minlength=articles)
            clock[reader] = now + spent + rng.integers(20, 75, len(reader))
            stays = rng.random(len(reader)) < np.where(clicked.any(axis=1), 0.72, 0.4)
            reader, session, device = reader[stays], session[stays], device[stays]
            known = known[stays] | (rng.random(len(reader)) < 0.35)
            if not len(reader):
                break
    return _in_order(impressions, events), np.concatenate(behind)


def _draw(rng: np.random.Generator, items: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(B, SHOWN) the editor's lists: articles (K,) drawn without replacement by their chances (B, K); -1 for none."""
    with np.errstate(divide="ignore"):
        turn = rng.exponential(size=place.shape) / place  # the first to come are such a draw
    pick = np.argpartition(turn, min(SHOWN, len(items)) - 1, axis=1)[:, :SHOWN]
    turn = np.take_along_axis(turn, pick, axis=1)
    order = np.argsort(turn, axis=1)
    shown = np.where(np.isfinite(turn), items[pick], -1)
    return np.take_along_axis(shown, order, axis=1)


def _react(
    rng: np.random.Generator, liking: np.ndarray, now: np.ndarray, shown: np.ndarray, clicked: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The events of clicks (B, K): row, time, item, kind, dwell seconds (-1 but for clicks); and (B,) seconds spent.

    Articles are read one after the other, as they stand in the list; likes and shares follow the reading.
    """
    dwell = np.ceil(np.minimum(rng.lognormal(3.4 + 0.25 * liking, 0.7), 900)).astype(np.int64) * clicked
    until = np.cumsum(dwell + 6 * clicked, axis=1)
    happens = np.stack([clicked, *(clicked & (rng.random((len(KINDS) - 1, *shown.shape)) < _reactions(liking)))])
    kind, row, column = np.nonzero(happens)
    read = dwell[row, column]
    time = now[row] + until[row, column] - np.where(kind > 0, 2 - kind, read + 2)
    return row, time, shown[row, column], kind, np.where(kind > 0, -1, read), until[:, -1]


def _reactions(liking: np.ndarray) -> np.ndarray:
    """(2, ...) chances that a reader likes, and shares, what he just read."""
    return np.stack([1 / (1 + np.exp(3.0 - 0.15 * liking)), 1 / (1 + np.exp(4.0 - 0.15 * liking))])


def _in_order(impressions: list[tuple[np.ndarray, ...]], events: list[tuple[np.ndarray, ...]]) -> _Log:
    """The pieces of the log as one, impressions and events each ordered by time."""
    reader, session, known, time, shown, clicked = (np.concatenate(column) for column in zip(*impressions))
    impression, event_time, item, kind, dwell, device = (np.concatenate(column) for column in zip(*events))
    order = np.argsort(time, kind="stable")
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order))
    turn = np.lexsort((number[impression], event_time))
    return _Log(
        reader=reader[order],
        session=session[order],
        known=known[order],
        time=time[order],
        shown=shown[order],
        clicked=clicked[order],
        impression=number[impression][turn],
        event_time=event_time[turn],
        item=item[turn],
        kind=kind[turn],
        dwell=dwell[turn],
        device=device[turn],
    )


def _write(
    folder: Path, truth: Truth, people: dict[str, np.ndarray], texts: tuple[list[str], list[str]], log: _Log
) -> None:
    """Write the files of the module's description."""
    logged = log.time >= START + WARM_UP_DAYS * DAY
    user = truth.user_ids[log.reader].astype(object)
    user[~log.known] = truth.session_ids[log.session[~log.known]]
    before = ~logged[log.impression] & (log.kind == 0)
    history = pd.Series(truth.item_ids[log.item[before]]).groupby(truth.user_ids[log.reader[log.impression[before]]])
    history = history.agg(" ".join)
    marked = np.stack([np.char.add(truth.item_ids, mark) for mark in ("-0", "-1")]).astype(object)
    lists = marked[log.clicked[logged].astype(int), log.shown[logged]]
    lists[log.shown[logged] < 0] = ""
    number = np.cumsum(logged)
    behaviors = {
        "impression": number[logged],
        "user": user[logged],
        "time": _times(log.time[logged]),
        "history": pd.Series(user[logged]).map(history).fillna(""),
        "impressions": [" ".join(filter(None, row)) for row in lists],
    }
    _table(folder / "behaviors.tsv", behaviors, header=False)
    order = np.argsort(truth.item_ids)
    topics = [TOPICS[topic] for topic in truth.topic[order]]
    news = {
        "id": truth.item_ids[order],
        "category": [topic.category for topic in topics],
        "subcategory": [topic.name for topic in topics],
        "title": np.array(texts[0])[order],
        "abstract": np.array(texts[1])[order],
        "url": [f"https://news.example/{topic.category}/{item}" for topic, item in zip(topics, truth.item_ids[order])],
        "title_entities": "[]",
        "abstract_entities": "[]",
    }
    _table(folder / "news.tsv", news, header=False)
    articles = {
        "article": truth.item_ids[order],
        "published": _times(truth.published[order]),
        "age_rating": np.array(RATINGS)[truth.rating[order]],
    }
    _table(folder / "articles.tsv", articles)
    order = np.argsort(truth.user_ids)
    users = {
        "user": truth.user_ids[order],
        "age_group": np.array(AGE_GROUPS)[truth.reader_age[order]],
        "gender": np.array(GENDERS)[people["gender"][order]],
        "region": np.array(REGIONS)[truth.reader_region[order]],
    }
    _table(folder / "users.tsv", users)
    told = logged[log.impression]
    dwell = log.dwell[told]
    events = {
        "impression": number[log.impression[told]],
        "user": user[log.impression[told]],
        "time": _times(log.event_time[told]),
        "article": truth.item_ids[log.item[told]],
        "event_type": np.array(KINDS)[log.kind[told]],
        "dwell_seconds": np.where(dwell >= 0, dwell.astype(str), ""),
        "device": np.array(DEVICES)[log.device[told]],
    }
    _table(folder / "events.tsv", events)
    logged_in = np.zeros(len(truth.session_ids), dtype=bool)
    logged_in[log.session[log.known & (log.session >= 0)]] = True
    sessions = {
        "session": truth.session_ids,
        "user": np.where(logged_in, truth.user_ids[truth.session_reader], ""),
    }
    _table(folder / "sessions.tsv", sessions)
    np.savez_compressed(folder / "truth.npz", **{field.name: getattr(truth, field.name) for field in fields(Truth)})


def _table(path: Path, columns: dict[str, object], header: bool = True) -> None:
    """Write a tab-separated file; no value holds a tab, a line break or a quote."""
    pd.DataFrame(columns).to_csv(path, sep="\t", header=header, index=False, lineterminator="\n")


def _times(seconds: np.ndarray) -> list[str]:
    """Epoch seconds as MIND writes time: ``1/9/2025 9:05:58 AM``."""
    time = pd.DatetimeIndex(pd.to_datetime(seconds, unit="s"))
    hour = (time.hour + 11) % 12 + 1
    half = np.where(time.hour < 12, "AM", "PM")
    parts = zip(time.month, time.day, time.year, hour, time.minute, time.second, half)
    return ["%d/%d/%d %d:%02d:%02d %s" % part for part in parts]  # noqa: UP031 - 150,000 of them
