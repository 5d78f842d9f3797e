"""The headlines of the simulated news site: a subject and what happens to it, both words of one topic.

So text tells the topic.  The words stand in ``headlines.toml``.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True)
class Topic:
    """A subcategory and its words.

    subjects, happenings: together a headline, subjects singular, happenings in the present.  details: first sentence of
    an abstract.  rating: the youngest age most of its articles are suitable for.  half_life_days: how long its articles
    stay of interest.
    """

    category: str
    name: str
    rating: str
    half_life_days: float
    subjects: tuple[str, ...]
    happenings: tuple[str, ...]
    details: tuple[str, ...]


_WORDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
TOPICS = tuple(
    Topic(**{name: tuple(value) if isinstance(value, list) else value for name, value in topic.items()})
    for topic in _WORDS["topics"]
)
REGIONS = tuple(_WORDS["places"])
RATINGS = ("all", "12", "16", "18")


def write(
    rng: np.random.Generator, topics: np.ndarray, stories: np.ndarray, regions: np.ndarray
) -> tuple[list[str], list[str]]:
    """Titles, each unique, and abstracts of (I,) articles.

    topics: (I,) int positions in TOPICS.  stories: (I,) int, articles of one story (-1: none) share subject and place.
    regions: (I,) int positions in REGIONS, where the article plays.
    Raises ValueError where a topic's words do not suffice for that many titles.
    """
    titles: list[str] = []
    abstracts: list[str] = []
    taken: set[str] = set()
    running: dict[int, tuple[str, str, str]] = {}
    for topic, story, region in zip(topics.tolist(), stories.tolist(), regions.tolist()):
        words = TOPICS[topic]
        for _ in range(200):
            scene = running.get(story) or (
                _draw(rng, words.subjects),
                _draw(rng, _WORDS["places"][REGIONS[region]]),
                _draw(rng, _WORDS["people"]),
            )
            subject, place, person = scene
            title = f"{subject} {_draw(rng, words.happenings)}".format(place=place, person=person)
            if title not in taken:
                break
            if story in running and rng.random() < 0.1:  # the story has said everything: it goes on elsewhere
                running.pop(story)
        else:
            raise ValueError(f"no unused title left in {words.category}/{words.name}: simulate fewer articles")
        if story >= 0:
            running[story] = scene
        taken.add(title)
        titles.append(title)
        sentences = f"{_draw(rng, words.details)} {_draw(rng, _WORDS['closings'])}"
        abstracts.append(sentences.format(place=place, person=person))
    return titles, abstracts


def _draw(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]
