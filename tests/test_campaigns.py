"""What a loaded solution version answers, on data small enough to work out by hand."""

import gc
import weakref
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib.campaigns import Campaign, Promotion, Restriction, Writing
from lib.data.datasets import Datasets
from lib.data.schema import Field, Schema
from lib.exploration import Exploration
from lib.filters import parse
from lib.ranking import uniforms
from lib.recipes import RECIPES
from lib.store.events import Answered, LiveEvent

ITEMS = Schema(
    name="Items",
    fields=(
        Field(name="ITEM_ID", type="string"),
        Field(name="GENRE", type="string", nullable=True, categorical=True),
        Field(name="PRICE", type="float", nullable=True),
        Field(name="YEAR", type="int", nullable=True),
    ),
)
USERS = Schema(
    name="Users", fields=(Field(name="USER_ID", type="string"), Field(name="AGE", type="int", nullable=True))
)
INTERACTIONS = Schema(
    name="Interactions",
    fields=(
        Field(name="USER_ID", type="string"),
        Field(name="ITEM_ID", type="string"),
        Field(name="TIMESTAMP", type="long"),
        Field(name="EVENT_TYPE", type="string"),
    ),
)

# Users per item: a 4, b 3, c 2, d 1; e and f are in Items only, f was never trained on.
SEEN = [
    ("u", "a"),
    ("u", "b"),
    ("v", "a"),
    ("v", "b"),
    ("v", "c"),
    ("w", "a"),
    ("w", "b"),
    ("w", "c"),
    ("x", "a"),
    ("x", "d"),
]
INTERACTION_ROWS = pd.DataFrame(
    {
        "USER_ID": [user for user, _ in SEEN],
        "ITEM_ID": [item for _, item in SEEN],
        "TIMESTAMP": range(100, 110),
        "EVENT_TYPE": ["click", "Buy"] * 5,
    }
)
ITEM_ROWS = pd.DataFrame(
    {
        "ITEM_ID": list("abcdef"),
        "GENRE": ["Jazz", "Jazz|Pop", "Pop", "Folk", None, "Jazz"],
        "PRICE": [1.5, 2.0, 3.0, 4.0, np.nan, 6.0],
        "YEAR": pd.array([1999, 2000, 2001, 2002, None, 2004], dtype="Int64"),
    }
)
USER_ROWS = pd.DataFrame({"USER_ID": ["u", "v"], "AGE": [12, 40]})
SCHEMAS = {"INTERACTIONS": INTERACTIONS, "ITEMS": ITEMS, "USERS": USERS}
DATASETS = Datasets(interactions=INTERACTION_ROWS, items=ITEM_ROWS, users=USER_ROWS, schemas=SCHEMAS)
TRAINED_ON = replace(DATASETS, items=ITEM_ROWS.iloc[:5])

POPULARITY = RECIPES["aws-popularity-count"]


@dataclass
class Echo:
    """A model that scores an item by when the history last had it, +10 for a neighbour of the request's item."""

    catalogue: object

    def scores(self, requests):
        self.asked = requests
        scores = np.zeros((len(requests), len(self.catalogue.item_ids)), np.float32)
        for row, request in enumerate(requests):
            scores[row, request.history.items] = np.arange(1, len(request.history.items) + 1)
            if request.item >= 0:
                scores[row, [request.item - 1, request.item]] += 10
        return scores


def model(datasets=TRAINED_ON):
    return POPULARITY.fit(datasets, {}, seed=0, progress=lambda step: None)


@pytest.fixture
def popular():
    return Campaign(POPULARITY, model(), DATASETS)


WRITING = Writing(lambda *item: f"{item};".encode(), lambda item_id: f"{item_id} ".encode())


def echo(**changes):
    recipe = replace(POPULARITY, **{"recipe_type": "USER_PERSONALIZATION", "scored": True, "real_time": True} | changes)
    return Campaign(recipe, Echo(model().catalogue), DATASETS, writing=WRITING)


def event(item, at, event_type="click"):
    return LiveEvent(session_id="s", user_id=None, event_type=event_type, sent_at=at, item_id=item)


def recommend(campaign, user="u", events=(), n=25, now=110, **options):
    return campaign.recommend(campaign.visitor(user, events), num_results=n, now=now, **options)


def only(text, **values):
    return Restriction(parse(text), values)


def test_the_most_popular_items_come_first_and_ties_in_catalogue_order(popular):
    assert recommend(popular).item_ids == ["a", "b", "c", "d", "e"]
    assert recommend(popular, n=2).item_ids == ["a", "b"]
    assert recommend(popular, n=0).item_ids == []
    assert recommend(popular).scores is None


def test_a_saved_version_answers_like_the_trained_one(popular, tmp_path):
    popular.model.save(tmp_path)
    loaded = Campaign.load(POPULARITY, tmp_path, DATASETS)
    assert recommend(loaded) == recommend(popular)


def test_scores_are_shares_of_the_whole_catalogue():
    everything = recommend(echo())
    assert sum(everything.scores) == pytest.approx(1, abs=1e-6)
    filtered = recommend(echo(), restriction=only('EXCLUDE ItemID WHERE Items.GENRE IN ("Folk")'))
    share = dict(zip(everything.item_ids, everything.scores))
    assert filtered.scores == [share[item] for item in filtered.item_ids]


def test_live_events_change_the_next_answer():
    campaign = echo()
    assert recommend(campaign, "new").item_ids == ["a", "b", "c", "d", "e"]
    assert recommend(campaign, "new", [event("d", 120), event("c", 130)]).item_ids == ["c", "d", "a", "b", "e"]
    assert recommend(campaign, "u", [event("d", 120)]).item_ids[:3] == ["d", "b", "a"]


def test_live_events_are_merged_by_time():
    campaign = echo()
    assert campaign.visitor("u", [event("d", 99)]).history.items.tolist() == [3, 0, 1]
    assert campaign.visitor("u", [event("d", 100)]).history.times.tolist() == [100, 100, 101]


def test_live_events_change_nothing_where_the_recipe_is_not_in_real_time():
    assert recommend(echo(real_time=False), "new", [event("d", 120)]).item_ids == ["a", "b", "c", "d", "e"]


def test_events_the_model_cannot_know_are_left_out_of_the_history():
    campaign = echo()
    assert campaign.visitor("new", [event("f", 1), event("?", 2), event("a", 3, "rated")]).history.items.size == 0
    assert campaign.visitor("new", [event("a", 3, "BUY")]).history.event_types.tolist() == [0]


def test_a_model_without_event_types_takes_events_of_any_type():
    untyped = replace(TRAINED_ON, interactions=INTERACTION_ROWS.drop(columns="EVENT_TYPE"))
    campaign = Campaign(echo().recipe, Echo(model(untyped).catalogue), untyped)
    history = campaign.visitor("u", [event("d", 120, "click")]).history
    assert history.items.tolist() == [0, 1, 3] and history.event_types.tolist() == [0, 0, 0]


def test_a_model_of_one_event_type_sees_only_that_in_bulk_data_too():
    clicks = replace(TRAINED_ON, interactions=INTERACTION_ROWS[INTERACTION_ROWS.EVENT_TYPE == "click"])
    campaign = Campaign(echo().recipe, Echo(model(clicks).catalogue), DATASETS)
    assert campaign.visitor("u").history.items.tolist() == [0]
    unbought = only('EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("buy")')
    assert recommend(campaign, "v", restriction=unbought).item_ids == ["c", "a", "d", "e"]


def test_the_request_reaches_the_model_whole():
    campaign = echo()
    recommend(campaign, "v", now=123, context={"DEVICE": "tv"}, item_id="a")
    (asked,) = campaign.model.asked
    assert asked.now == 123 and asked.context == {"DEVICE": "tv"} and asked.item == -1
    assert asked.user["AGE"] == 40


def test_related_items_leave_out_the_item_itself():
    related = echo(recipe_type="RELATED_ITEMS")
    assert recommend(related, "new", item_id="c").item_ids == ["b", "a", "d", "e"]
    assert recommend(related, "new", item_id="?").item_ids == ["a", "b", "c", "d", "e"]
    assert related.model.asked[0].item == -1


def test_filters_see_the_users_bulk_and_live_interactions():
    campaign = echo()
    unseen = only('EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")')
    assert recommend(campaign, "u", restriction=unseen).item_ids == ["c", "d", "e"]
    assert recommend(campaign, "u", [event("e", 120)], restriction=unseen).item_ids == ["c", "d"]
    bought = only('EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("buy")')
    assert recommend(campaign, "u", restriction=bought).item_ids == ["a", "c", "d", "e"]


def test_filters_see_live_events_of_new_types_also_where_the_model_is_not_in_real_time(popular):
    again = only('INCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("like")')
    assert recommend(popular, "u", [event("d", 120, "Like")], restriction=again).item_ids == ["d"]


def test_filters_look_at_the_newest_hundred_interactions_of_each_type():
    campaign = echo()
    many = [event("a", 200), *(event("b", 201 + n) for n in range(100)), event("c", 400, "view")]
    done = campaign.visitor("new", many).interactions
    assert {name: set(rows.tolist()) for name, rows in done.items()} == {"click": {1}, "view": {2}}


def test_scores_of_a_moment_that_is_over_are_kept_no_longer(popular):
    one, other = popular.visitor("u"), popular.visitor("v")
    for visitor in (one, other):
        popular.recommend(visitor, num_results=1, now=120)
    assert popular.at_hand(one, 120) and popular.at_hand(other, 120)
    popular.recommend(one, num_results=1, now=180)
    assert popular.at_hand(one, 180) and not popular.at_hand(one, 120) and not popular.at_hand(other, 120)


def test_a_filter_that_leaves_nothing_leaves_an_empty_list(popular):
    assert recommend(popular, restriction=only("INCLUDE ItemID WHERE Items.PRICE > 100")).item_ids == []


def test_the_list_is_refilled_from_lower_ranks(popular):
    assert recommend(popular, n=2, restriction=only('EXCLUDE ItemID WHERE Items.GENRE IN ("Jazz")')).item_ids == [
        "c",
        "d",
    ]


def test_the_current_user_is_known_to_filters(popular):
    minors = only('EXCLUDE ItemID WHERE Items.GENRE IN ("Jazz") IF CurrentUser.AGE < 18')
    assert recommend(popular, "u", restriction=minors).item_ids == ["c", "d", "e"]
    assert recommend(popular, "v", restriction=minors).item_ids == ["a", "b", "c", "d", "e"]
    popular.put_users({"v": {"AGE": 9}, "new": {"AGE": 5}})
    assert recommend(popular, "v", restriction=minors).item_ids == ["c", "d", "e"]
    assert recommend(popular, "new", restriction=minors).item_ids == ["c", "d", "e"]


def test_the_current_item_is_known_to_filters_of_related_items_alone(popular):
    cheaper = only("INCLUDE ItemID WHERE Items.PRICE < CurrentItem.PRICE")
    assert recommend(echo(recipe_type="RELATED_ITEMS"), "new", item_id="c", restriction=cheaper).item_ids == ["b", "a"]
    with pytest.raises(ValueError, match=r"uses CurrentItem.*aws-popularity-count"):
        recommend(popular, item_id="c", restriction=cheaper)


def test_a_filter_of_users_cannot_choose_items(popular):
    with pytest.raises(ValueError, match="chooses among UserID"):
        recommend(popular, restriction=only("INCLUDE UserID WHERE Users.AGE > 1"))


def test_put_items_change_filters_and_metadata_at_once(popular):
    jazz = only('INCLUDE ItemID WHERE Items.GENRE IN ("Jazz")')
    assert recommend(popular, restriction=jazz).item_ids == ["a", "b"]
    popular.put_items({"d": {"GENRE": "Jazz", "PRICE": 9.0, "YEAR": 2010}, "brand-new": {"GENRE": "Jazz"}})
    answer = recommend(popular, restriction=jazz, metadata_columns=["PRICE", "year"])
    assert answer.item_ids == ["a", "b", "d"]
    assert answer.metadata[2] == {"price": "9.0", "year": "2010"}


def test_metadata_is_text_under_lower_case_names(popular):
    answer = recommend(popular, metadata_columns=["GENRE", "PRICE", "YEAR"])
    assert answer.metadata[1] == {"genre": "Jazz|Pop", "price": "2.0", "year": "2000"}
    assert answer.metadata[4] == {}
    assert recommend(popular).metadata is None


def test_a_promotion_takes_its_share_and_both_parts_keep_their_order(popular):
    folk_and_pop = only('INCLUDE ItemID WHERE Items.GENRE IN ("Folk","Pop")')
    answer = recommend(popular, n=4, promotion=Promotion("fresh", 50, folk_and_pop), random=uniforms("3").__next__)
    promoted = [item for item, is_promoted in zip(answer.item_ids, answer.promoted) if is_promoted]
    others = [item for item, is_promoted in zip(answer.item_ids, answer.promoted) if not is_promoted]
    assert promoted == ["b", "c"] and others == ["a", "d"]


def test_the_requests_filter_does_not_bind_promoted_items(popular):
    answer = recommend(
        popular,
        n=3,
        restriction=only('INCLUDE ItemID WHERE Items.GENRE IN ("Jazz")'),
        promotion=Promotion("folk", 34, only('INCLUDE ItemID WHERE Items.GENRE IN ("Folk")')),
        random=uniforms("3").__next__,
    )
    assert sorted(zip(answer.item_ids, answer.promoted)) == [("a", False), ("b", False), ("d", True)]


def rerank(campaign, items, user="x", **options):
    return campaign.rerank(campaign.visitor(user), items, now=110, **options)


def test_a_ranking_orders_known_items_and_puts_unknown_ones_last_with_score_0():
    answer = rerank(echo(), ["b", "?", "a", "d", "f"])
    assert answer.item_ids == ["d", "a", "b", "?", "f"]
    assert sum(answer.scores) == pytest.approx(1) and answer.scores[3:] == [0, 0]
    assert answer.scores[0] / answer.scores[1] == pytest.approx(np.e)


def test_a_ranking_keeps_the_first_of_repeated_items_and_ties_in_given_order():
    assert rerank(echo(), ["c", "e", "b", "c"], "new").item_ids == ["c", "e", "b"]


def test_a_ranking_drops_filtered_items_and_keeps_the_others_scores():
    everything = rerank(echo(), ["a", "b", "d", "f", "?"])
    jazz = rerank(echo(), ["a", "b", "d", "f", "?"], restriction=only('INCLUDE ItemID WHERE Items.GENRE IN ("Jazz")'))
    assert jazz.item_ids == ["a", "b", "f"]
    assert jazz.scores[:2] == everything.scores[1:3]


def test_a_ranking_of_unknown_items_alone_is_their_order():
    assert rerank(echo(), ["?", "f", "!"]).item_ids == ["?", "f", "!"]


def test_a_ranking_can_carry_metadata_also_of_items_the_model_does_not_know():
    answer = rerank(echo(), ["?", "f", "a"], metadata_columns=["PRICE"])
    assert answer.metadata == [{"price": "1.5"}, {}, {"price": "6.0"}]


def explore(campaign, weight=1.0, cut_off=30.0, seed=1, user="x", n=25, **options):
    random = uniforms(str(seed)).__next__
    return recommend(campaign, user, n=n, exploration=Exploration(weight, cut_off), random=random, **options)


def test_without_weight_the_list_is_the_models_to_the_letter():
    assert explore(echo(), 0.0) == recommend(echo(), "x")


def test_new_items_that_the_model_does_not_know_are_shown_by_exploration_alone():
    campaign = echo()
    assert {"f", "g"}.isdisjoint(recommend(campaign, "x").item_ids)
    assert "f" in explore(campaign).item_ids and "g" not in explore(campaign).item_ids
    campaign.put_items({"g": {"GENRE": "Pop"}})
    answer = explore(campaign)
    assert sorted(answer.item_ids) == list("abcdefg")
    assert [item for item, mark in zip(answer.item_ids, answer.explored) if mark] in (["f", "g"], ["g", "f"])
    assert sum(answer.scores) == pytest.approx(1, abs=1e-6) and min(answer.scores) > 0


def test_an_item_beyond_the_cut_off_is_only_shown_where_the_model_wants_it():
    day = 86_400
    items = ITEM_ROWS.assign(CREATION_TIMESTAMP=[100, 100, 100, 100 - 2 * day, 100, 100])
    schema = replace(ITEMS, fields=(*ITEMS.fields, Field(name="CREATION_TIMESTAMP", type="long")))
    datasets = replace(DATASETS, items=items, schemas={**SCHEMAS, "ITEMS": schema})
    campaign = Campaign(echo().recipe, Echo(model().catalogue), datasets)
    lists = [explore(campaign, cut_off=1.0, user="new", n=1, seed=seed).item_ids[0] for seed in range(60)]
    assert "d" not in lists and len(set(lists)) > 2
    assert "d" in [explore(campaign, cut_off=3.0, user="new", n=1, seed=seed).item_ids[0] for seed in range(60)]


def test_what_resembles_what_the_user_likes_is_explored_first():
    campaign = echo()
    campaign.put_items({"folk": {"GENRE": "Folk"}, "pop": {"GENRE": "Pop"}})
    user = campaign.visitor("new", [event("d", 120), event("d", 121), event("d", 122), event("d", 123)])
    firsts = [
        campaign.recommend(
            user,
            num_results=1,
            now=130,
            exploration=Exploration(1.0, 30.0),
            restriction=only("EXCLUDE ItemID WHERE Items.YEAR > 0"),
            random=uniforms(str(seed)).__next__,
        ).item_ids[0]
        for seed in range(100)
    ]
    assert firsts.count("folk") > 1.2 * firsts.count("pop")


def test_filters_bind_what_is_explored_too():
    campaign = echo()
    campaign.put_items({"g": {"GENRE": "Jazz"}, "h": {"GENRE": "Pop"}})
    jazz = only('INCLUDE ItemID WHERE Items.GENRE IN ("Jazz")')
    assert set(explore(campaign, restriction=jazz).item_ids) == {"a", "b", "f", "g"}
    nothing = only("INCLUDE ItemID WHERE Items.PRICE > 100")
    assert explore(campaign, restriction=nothing).item_ids == []


def test_exploration_learns_from_lists_and_clicks():
    campaign = echo()
    shown = list("abcdef")
    clicks = [Answered(session_id="s", user_id="u", item_id="f", at=111.0, shown=shown) for _ in range(300)]

    def share(item):
        return np.mean([explore(campaign, user="new", n=1, seed=seed).item_ids[0] == item for seed in range(100)])

    before = share("f")
    campaign.learn(clicks)
    assert share("f") > 2 * before and share("f") > 0.8


def test_promotions_and_exploration_go_together():
    campaign = echo()
    folk = Promotion("folk", 25, only('INCLUDE ItemID WHERE Items.GENRE IN ("Folk")'))
    answer = explore(campaign, 0.5, n=4, promotion=folk)
    assert [item for item, put in zip(answer.item_ids, answer.promoted) if put] == ["d"]
    assert [propensity is None for propensity in answer.propensities] == answer.promoted
    assert not any(mark and put for mark, put in zip(answer.explored, answer.promoted))


def test_what_is_kept_for_a_visitor_follows_time_and_context():
    campaign = echo()
    visitor = campaign.visitor("u")
    for now, context in [(110, {}), (110, {}), (111, {}), (111, {"DEVICE": "tv"})]:
        campaign.recommend(visitor, num_results=1, now=now, context=context)
        (asked,) = campaign.model.asked
        assert asked.now == now and asked.context == context


def test_visitors_are_brought_to_hand_in_one_pass_which_later_answers_need_not_repeat():
    campaign, passes = echo(), []
    scores = campaign.model.scores

    def counted(requests):
        passes.append(len(requests))
        return scores(requests)

    visitors = [campaign.visitor(name) for name in ("u", "x", None)]
    alone = [recommend(echo(), name) for name in ("u", "x", None)]
    campaign.model = SimpleNamespace(scores=counted, catalogue=campaign.model.catalogue)
    campaign.recommend(visitors[0], num_results=3, now=0)
    assert [campaign.at_hand(visitor, 0) for visitor in visitors] == [True, False, False]
    campaign.bring_to_hand([(visitor, None, {}) for visitor in visitors], 0)
    assert passes == [1, 2] and all(campaign.at_hand(visitor, 0) for visitor in visitors)
    assert not campaign.at_hand(visitors[1], 0, context={"EVENT_TYPE": "click"})
    assert [campaign.recommend(visitor, num_results=25, now=0).item_ids for visitor in visitors] == [
        one.item_ids for one in alone
    ]
    assert passes == [1, 2]


@pytest.mark.parametrize("exploration", [None, Exploration(0.4, 30.0)])
@pytest.mark.parametrize("scored", [True, False])
def test_what_is_written_is_what_would_be_recommended(exploration, scored):
    campaign = echo(scored=scored)
    visitor, firsts = campaign.visitor("u"), set()
    for seed in range(40):
        asked = {"num_results": 4, "now": 110, "exploration": exploration}
        told = campaign.recommend(visitor, random=uniforms(str(seed)).__next__, **asked)
        written = campaign.write(visitor, random=uniforms(str(seed)).__next__, **asked)
        explored = told.explored or [False] * 4
        assert written.item_ids.decode().split() == told.item_ids
        expected = zip(told.item_ids, told.scores or [None] * 4, explored)
        assert written.items == b"".join(WRITING.item(*item) for item in expected)
        assert told.propensities == (None if written.propensities is None else list(written.propensities))
        firsts.add(tuple(told.item_ids))
    assert len(firsts) > 10 if exploration else len(firsts) == 1


def test_what_was_kept_for_a_visitor_is_freed_without_a_search_for_garbage():
    campaign = echo()
    gc.disable()
    try:
        campaign.write(
            campaign.visitor("u"), num_results=4, now=110, exploration=Exploration(1.0, 30.0), random=lambda: 0.5
        )
        kept = [weakref.ref(scored) for scored in campaign._scored.values()]
        campaign.write(campaign.visitor("u"), num_results=4, now=111)  # nobody asks for an earlier moment any more
        assert [scored() for scored in kept] == [None]
    finally:
        gc.enable()
