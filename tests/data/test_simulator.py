"""The simulated news site: its format, its laws, and how much of its truth can be learnt."""

import filecmp
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from lib.data.headlines import TOPICS, write
from lib.data.simulator import FILES, SHOWN, START, Truth, simulate
from lib.data.sources import read

SIZE = {"readers": 150, "articles": 300, "interactions": 4000, "days": 14}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "news"
    simulate(folder, seed=3, **SIZE)
    return folder


@pytest.fixture(scope="module")
def truth(site):
    return Truth.load(site / "truth.npz")


@pytest.fixture(scope="module")
def datasets(site):
    return read("simulated", site)


def table(folder, name, **options):
    return pd.read_csv(folder / name, sep="\t", dtype=str, keep_default_na=False, **options)


def test_the_same_seed_gives_the_same_bytes(site, tmp_path):
    simulate(tmp_path / "again", seed=3, **SIZE)
    same, other, missing = filecmp.cmpfiles(site, tmp_path / "again", FILES, shallow=False)
    assert (sorted(same), other, missing) == (sorted(FILES), [], [])


def test_another_seed_gives_another_site(site, tmp_path):
    simulate(tmp_path / "other", seed=4, **SIZE)
    assert not filecmp.cmp(site / "behaviors.tsv", tmp_path / "other" / "behaviors.tsv", shallow=False)


def test_behaviors_have_the_five_columns_of_mind(site):
    behaviors = table(site, "behaviors.tsv", header=None)
    assert behaviors.shape[1] == 5
    assert behaviors[1].str.fullmatch(r"[US]\d+").all()
    assert behaviors[2].str.fullmatch(r"\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d\d:\d\d [AP]M").all()
    assert behaviors[3].str.fullmatch(r"(N\d+( N\d+)*)?").all()
    assert behaviors[4].str.fullmatch(r"N\d+-[01]( N\d+-[01])*").all()


def test_a_users_history_is_the_same_in_all_impressions(site):
    behaviors = table(site, "behaviors.tsv", header=None)
    assert behaviors.groupby(1)[3].nunique().max() == 1


def test_news_has_the_eight_columns_of_mind_and_every_title_once(site):
    news = table(site, "news.tsv", header=None)
    assert news.shape == (SIZE["articles"], 8)
    assert news[3].is_unique
    assert not news[[3, 4]].stack().str.contains(r"[{}\"]").any()


def test_every_click_of_behaviors_is_an_event_and_the_other_way_round(site):
    behaviors, events = table(site, "behaviors.tsv", header=None), table(site, "events.tsv")
    marked = behaviors[[0, 4]].assign(mark=behaviors[4].str.split(" ")).explode("mark")
    marked = marked[marked["mark"].str.endswith("-1")]
    clicks = events[events["event_type"] == "click"]
    assert set(zip(marked[0], marked["mark"].str[:-2])) == set(zip(clicks["impression"], clicks["article"]))


def test_nobody_reads_an_article_before_it_is_published(datasets):
    published = datasets.items.set_index("ITEM_ID")["CREATION_TIMESTAMP"]
    assert (datasets.interactions["TIMESTAMP"] >= datasets.interactions["ITEM_ID"].map(published)).all()


def test_nobody_clicks_an_article_twice(datasets):
    clicks = datasets.interactions[datasets.interactions["EVENT_TYPE"] == "click"]
    assert not clicks.duplicated(["USER_ID", "ITEM_ID"]).any()


def test_likes_and_shares_follow_the_click(datasets):
    rows = datasets.interactions
    first = rows.groupby(["USER_ID", "ITEM_ID"])["EVENT_TYPE"].first()
    assert (first == "click").all()
    assert {"like", "share"} < set(rows["EVENT_TYPE"])


def test_some_sessions_log_in_and_some_never_do(site):
    sessions = table(site, "sessions.tsv")
    assert 0 < (sessions["user"] == "").sum() < len(sessions)


def test_articles_keep_arriving(datasets):
    day = (datasets.items["CREATION_TIMESTAMP"] - START) // 86_400
    assert set(range(SIZE["days"])) <= set(day)


def test_about_as_many_interactions_as_asked_for(datasets):
    assert 0.5 < len(datasets.interactions) / SIZE["interactions"] < 1.5


def test_relevance_is_a_chance_and_zero_before_publication(truth):
    now = np.full(4, (truth.start + truth.end) // 2)
    relevance = truth.relevance(truth.user_ids[:4], now, truth.item_ids, [[]] * 4)
    assert relevance.shape == (4, SIZE["articles"])
    assert (relevance >= 0).all() and (relevance <= 1).all()
    assert (relevance[:, truth.published > now[0]] == 0).all()
    assert relevance.max() > 0.01


def test_what_was_read_is_not_relevant_but_for_a_reaction_to_the_last(truth):
    now = np.array([truth.end])
    shown = truth.item_ids[-3:].tolist()
    relevance = truth.relevance(truth.user_ids[:1], now, shown, [shown[:2]])[0]
    assert relevance[0] == 0 and 0 < relevance[1] < 0.3
    assert truth.relevance(truth.user_ids[:1], now, shown, [[*shown[:2], shown[1]]])[0, 1] == 0


def test_reading_a_topic_makes_its_other_articles_likelier(truth):
    topic = np.bincount(truth.topic).argmax()
    first, second = truth.item_ids[truth.topic == topic][-2:]
    now = np.array([truth.end])
    before = truth.chance(truth.user_ids[:1], now, [second], [[]])
    assert truth.chance(truth.user_ids[:1], now, [second], [[first]]) > before


def test_the_order_of_requests_and_items_does_not_matter(truth):
    now = np.array([truth.end, truth.end - 86_400])
    users, items = truth.user_ids[:2], truth.item_ids[-40:]
    forward = truth.relevance(users, now, items, [[], [items[0]]])
    backward = truth.relevance(users[::-1], now[::-1], items[::-1], [[items[0]], []])
    np.testing.assert_allclose(forward, backward[::-1, ::-1], rtol=1e-12)


def test_a_session_is_the_reader_behind_it(truth):
    session, reader = truth.session_ids[0], truth.user_ids[truth.session_reader[0]]
    now = np.array([truth.end])
    by_session, by_name = (truth.chance([who], now, truth.item_ids[-20:], [[]]) for who in (session, reader))
    np.testing.assert_array_equal(by_session, by_name)


def test_a_device_changes_what_is_read(truth):
    now = np.array([truth.end, truth.end])
    users = [truth.user_ids[0]] * 2
    desktop, mobile = truth.chance(users, now, truth.item_ids[-50:], [[], []], ["desktop", "mobile"])
    assert not np.allclose(desktop, mobile)


def test_clicks_come_as_often_as_their_chance(truth):
    now, shown = np.array([truth.end]), truth.item_ids[-SHOWN:].tolist()
    rng = np.random.default_rng(0)
    clicked = np.mean([truth.clicks(truth.user_ids[:1], now, [shown], [[]], rng)[0] for _ in range(400)], axis=0)
    expected = truth.chance(truth.user_ids[:1], now, shown, [[]])[0] * 0.97 ** np.arange(SHOWN)
    assert np.abs(clicked - expected).max() < 4.5 * np.sqrt(0.25 / 400)
    assert np.abs(clicked.sum() - expected.sum()) < 0.3


def test_logged_clicks_are_those_the_truth_calls_relevant(site, truth, datasets):
    rows = datasets.interactions
    rows = rows[rows["IMPRESSION"].notna() & rows["USER_ID"].isin(truth.user_ids)]
    last = rows.groupby("USER_ID").tail(1).head(60)
    everything = datasets.interactions.groupby("USER_ID")["ITEM_ID"].agg(list)
    previous = [
        everything[user][: everything[user].index(item)] for user, item in zip(last["USER_ID"], last["ITEM_ID"])
    ]
    relevance = truth.relevance(last["USER_ID"].tolist(), last["TIMESTAMP"].to_numpy(), truth.item_ids, previous)
    clicked = truth._items(last["ITEM_ID"].tolist())
    rank = (relevance > relevance[np.arange(len(last)), clicked][:, None]).sum(axis=1)
    assert np.mean(rank < 25) > 5 * 25 / SIZE["articles"]


def test_an_unknown_reader_or_article_is_named(truth):
    now = np.array([truth.end])
    with pytest.raises(ValueError, match="'U0'"):
        truth.relevance(["U0"], now, truth.item_ids, [[]])
    with pytest.raises(ValueError, match="'N0'"):
        truth.relevance(truth.user_ids[:1], now, ["N0"], [[]])


def test_a_truth_is_loaded_the_same_twice(site, truth):
    again = Truth.load(site / "truth.npz")
    assert isinstance(again.start, int) and again.end == START + SIZE["days"] * 86_400
    for field in fields(Truth):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(truth, field.name))


def test_a_folder_without_truth_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="only a simulated site has a truth"):
        Truth.load(tmp_path / "truth.npz")


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"thesis\.doc"):
        simulate(tmp_path, seed=1, **SIZE)
    assert (tmp_path / "thesis.doc").exists()


def test_an_older_site_is_replaced(site, tmp_path):
    folder = tmp_path / "news"
    simulate(folder, seed=1, **SIZE)
    simulate(folder, seed=3, **SIZE)
    assert filecmp.cmp(site / "events.tsv", folder / "events.tsv", shallow=False)


@pytest.mark.parametrize("name", SIZE)
def test_too_small_a_site_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} is 1"):
        simulate(tmp_path / "news", seed=1, **{**SIZE, name: 1})
    assert not (tmp_path / "news").exists()


def test_articles_of_a_story_are_about_the_same_thing():
    topic = np.zeros(3, dtype=int)
    titles, _ = write(np.random.default_rng(0), topic, np.zeros(3, dtype=int), topic)
    happening = [next(end for end in TOPICS[0].happenings if title.endswith(end)) for title in titles]
    assert len({title.removesuffix(end) for title, end in zip(titles, happening)}) == 1
    assert len(set(happening)) == 3


def test_too_many_titles_of_one_topic_are_refused():
    many = np.zeros(3000, dtype=int)
    with pytest.raises(ValueError, match="no unused title left in politics/elections"):
        write(np.random.default_rng(0), many, many - 1, many)
