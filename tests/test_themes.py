"""A list's theme is what its items' words share."""

import pytest

from lib.themes import Themes

ITEMS = {
    "a": ("Piano at night", "quiet evening music"),
    "b": ("Evening piano", "quiet and slow"),
    "c": ("Drums of flame", "loud music"),
    "d": ("Flame dance 1999", "loud drums"),
    "e": ("", ""),
}
THEMES = Themes(list(ITEMS), *map(list, zip(*ITEMS.values())))


def test_words_that_items_share_make_the_theme():
    theme, relevance = THEMES(["a", "b"])
    assert theme == "Evening, piano, quiet"
    assert relevance[0] == pytest.approx(0.83, abs=0.1) and relevance[1] > relevance[0]


def test_other_items_have_another_theme_and_do_not_speak_of_this_one():
    theme, relevance = THEMES(["c", "d", "b"])
    assert theme == "Drums, flame, loud"
    assert relevance[2] == 0 and min(relevance[:2]) > 0.5


def test_one_item_is_its_own_theme():
    assert THEMES(["d"])[0].startswith("D") and THEMES(["d"])[1][0] > 0.8


def test_items_without_words_and_unknown_ones_are_not_relevant():
    theme, relevance = THEMES(["a", "e", "nowhere", "b"])
    assert theme == "Evening, piano, quiet" and relevance[1:3] == [0, 0]
    assert THEMES(["e", "nowhere"]) == ("", [0.0, 0.0])
    assert THEMES([]) == ("", [])


def test_a_catalogue_of_numbers_has_names_for_themes():
    assert Themes(["a", "b"], ["7", "8"], ["1", "2"])(["b", "a"]) == ("8", [0.0, 0.0])


def test_a_theme_of_texts_without_blanks_is_of_what_they_share():
    themes = Themes(["a", "b", "c"], ["夜のピアノ", "静かな音楽会", "太鼓"], ["音楽を楽しむ", "ピアノです", "踊る"])
    theme, relevance = themes(["a", "b"])
    assert theme == "アノ, ピア, 音楽" and min(relevance) > 0.4
