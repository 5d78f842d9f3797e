"""Lines of a batch job are answered as a campaign answers requests."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from lib import batch, filters
from lib.batch import Batch, Tally
from lib.campaigns import Campaign, Restriction
from lib.exploration import Exploration
from lib.recipes import RECIPES
from tests.test_campaigns import DATASETS, Echo, echo, model


def answered(loaded, *lines, n=3, wanted=None, **how):
    """The output's lines and the tally, for inputs given as objects or as raw lines."""
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines]
    out = io.BytesIO()
    job = Batch(loaded=loaded, num_results=n, now=110, wanted=wanted and filters.parse(wanted), **how)
    tally = batch.answer_file(job, io.BytesIO(b"".join(raw)), out, lambda read, tally: None)
    return [json.loads(line) for line in out.getvalue().splitlines()], tally


def ranking():
    recipe = replace(RECIPES["aws-popularity-count"], recipe_type="PERSONALIZED_RANKING", scored=True, real_time=True)
    return Campaign(recipe, Echo(model().catalogue), DATASETS)


@pytest.mark.parametrize("restriction", [None, 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("buy")'])
def test_users_get_what_the_campaign_answers_in_the_order_of_the_lines(monkeypatch, restriction):
    monkeypatch.setattr(batch, "ROWS_AT_ONCE", 2)
    loaded = echo()
    users = ["v", "nobody", "x", "u", "w", "v"]
    lines, tally = answered(loaded, *({"userId": user} for user in users), n=4, wanted=restriction)
    for user, line in zip(users, lines, strict=True):
        asked = restriction and Restriction(filters.parse(restriction))
        one = loaded.recommend(loaded.visitor(user), num_results=4, now=110, restriction=asked)
        scores = [round(score, 7) for score in one.scores]
        assert line == {
            "input": {"userId": user},
            "output": {"recommendedItems": one.item_ids, "scores": scores},
            "error": None,
        }
    assert tally == Tally(lines=6)


def test_exploration_brings_items_the_model_does_not_know_and_draws_the_same_again(monkeypatch):
    lines = [{"userId": user} for user in ["u", "v", "w", "x", "nobody"] * 4]
    explored, _ = answered(echo(), *lines, exploration=Exploration(0.5, 30.0), seed="a")
    plain, _ = answered(echo(), *lines)
    unknown = set(DATASETS.items["ITEM_ID"]) - set(model().catalogue.item_ids)
    shown = {item for line in explored for item in line["output"]["recommendedItems"]}
    assert shown & unknown and explored != plain
    monkeypatch.setattr(batch, "LINES_AT_ONCE", 3)
    monkeypatch.setattr(batch, "ROWS_AT_ONCE", 2)
    assert answered(echo(), *lines, exploration=Exploration(0.5, 30.0), seed="a")[0] == explored
    assert answered(echo(), *lines, exploration=Exploration(0.5, 30.0), seed="b")[0] != explored


def test_what_is_explored_passes_the_filter():
    jazz = "INCLUDE ItemID WHERE Items.GENRE IN ($G)"
    lines = [{"userId": user, "filterValues": {"G": '"Jazz"'}} for user in ["u", "v", "w", "x"] * 5]
    found, _ = answered(echo(), *lines, wanted=jazz, exploration=Exploration(1.0, 30.0))
    genres = DATASETS.items.set_index("ITEM_ID")["GENRE"]
    assert all("Jazz" in genres[item] for line in found for item in line["output"]["recommendedItems"])


def test_a_list_is_ranked_with_unknown_items_last():
    lines, _ = answered(ranking(), {"userId": "v", "itemList": ["d", "strange", "c", "a"]})
    assert lines[0]["output"]["recommendedItems"] == ["c", "a", "d", "strange"]
    assert lines[0]["output"]["scores"][-1] == 0
    assert sum(lines[0]["output"]["scores"]) == pytest.approx(1, abs=1e-6)


def test_items_get_related_ones_without_themselves_and_without_scores():
    related = echo(recipe_type="RELATED_ITEMS", scored=False)
    lines, _ = answered(related, {"itemId": "c"}, {"itemId": "strange"})
    assert lines[0]["output"] == {"recommendedItems": ["b", "a", "d"]}
    assert lines[1]["output"] == {"recommendedItems": ["a", "b", "c"]}


def test_each_line_brings_its_own_filter_values():
    wanted = "INCLUDE ItemID WHERE Items.GENRE IN ($G)"
    jazz, pop = ({"userId": "u", "filterValues": {"G": f'"{genre}"'}} for genre in ("Jazz", "Pop"))
    lines, _ = answered(echo(), jazz, pop, {"userId": "u"}, wanted=wanted)
    assert [set(line["output"]["recommendedItems"]) for line in lines] == [{"a", "b"}, {"b", "c"}, set()]
    assert "$G is missing" in lines[2]["error"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{no json\n", "no JSON object"),
        (b"\n", "no JSON object"),
        (b'"text"\n', "no JSON object"),
        (b'{"userId": "\xff"}\n', "no JSON object"),
        (b"[" * 2**21 + b"\n", "no JSON object"),
        ({"itemId": "a"}, "Required fields for the provided recipe are userId"),
        ({"userId": ""}, "Required fields for the provided recipe are userId"),
        ({"userId": 7}, "userId is 7, expected a string"),
        ({"userId": "u", "filterValues": {"G": "'Jazz'"}}, "the job has no filter"),
        ({"userId": "u", "filterValues": "'Jazz'"}, "no object of strings"),
    ],
)
def test_a_bad_line_carries_its_error_and_the_others_their_answers(line, told):
    lines, tally = answered(echo(), {"userId": "u"}, line, {"userId": "v"})
    assert [bool(one["output"]["recommendedItems"]) for one in lines] == [True, False, True]
    assert lines[1]["error"].startswith("User error: ") and told in lines[1]["error"]
    assert (tally.lines, tally.errors, told in tally.error) == (3, 1, True)


def test_a_byte_order_mark_belongs_to_no_line():
    lines, tally = answered(echo(), b'\xef\xbb\xbf{"userId": "v"}\n', b'\xef\xbb\xbf{"userId": "v"}\n')
    assert (lines[0]["input"], lines[0]["error"]) == ({"userId": "v"}, None)
    assert tally.errors == 1  # a mark is one at the beginning of a file alone


def test_a_filter_about_users_needs_one():
    related = echo(recipe_type="RELATED_ITEMS", scored=False)
    wanted = 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")'
    lines, _ = answered(related, {"itemId": "c"}, {"itemId": "c", "userId": "u"}, wanted=wanted)
    assert "userId is missing" in lines[0]["error"]
    assert lines[1]["output"]["recommendedItems"] == ["d", "e"]


def test_lots_do_not_change_the_answers(monkeypatch):
    lines = [{"userId": user} for user in ["u", "v", "w", "x", "nobody"] * 3]
    whole, _ = answered(echo(), *lines)
    monkeypatch.setattr(batch, "LINES_AT_ONCE", 2)
    assert answered(echo(), *lines) == (whole, Tally(lines=15))


def test_scores_are_shares_of_the_whole_catalogue():
    lines, _ = answered(echo(), {"userId": "u"}, n=5)
    expected = np.exp([2, 1, 0, 0, 0]) / np.exp([2, 1, 0, 0, 0]).sum()
    assert lines[0]["output"]["scores"] == pytest.approx(expected, abs=1e-7)
