import numpy as np

from lib.recipes import situation

DAY = 86_400


def news(n_days=20, n_items=40, seed=0):
    """Every other day a new item comes out, and everybody reads it for two days."""
    rng = np.random.default_rng(seed)
    created = np.arange(n_items) * DAY / 2
    times = np.sort(rng.integers(0, n_days * DAY, 4_000))
    newest = (times // (DAY // 2)).astype(int)
    items = np.maximum(newest - rng.integers(0, 3, len(times)), 0)
    return items, times, created


def fitted(**how):
    items, times, created = news()
    return situation.fit(items, times, how.pop("created", created), **{"recency": True, "seed": 0} | how)


def test_news_of_today_lead_and_lead_on_their_own_day_only():
    now = fitted()
    for day in (5, 12, 18):
        moment = np.array([day * DAY + DAY // 4])
        best = np.argmax(now(moment) + now.unpublished(moment))
        assert abs(now.created[best] - moment[0]) < 2 * DAY


def test_without_recency_what_was_ever_popular_leads_and_ages_do_not_count():
    now = fitted(recency=False)
    assert now.weights.shape == (1,)
    assert not len(now.ages)


def test_the_past_alone_decides():
    items, times, created = news()
    half = times < 10 * DAY
    whole, part = (
        situation.fit(items[some], times[some], np.full(len(created), np.nan), recency=True, seed=0, start=start)
        for some, start in ((half, None), (half, None))
    )
    np.testing.assert_array_equal(whole(np.array([9 * DAY])), part(np.array([9 * DAY])))
    later = situation.fit(items, times, np.full(len(created), np.nan), recency=True, seed=0, start=part)
    first = np.array([times[0]])
    np.testing.assert_allclose(later(first), part(first))


def test_an_item_still_to_come_is_behind_all_others_and_finite():
    now = fitted()
    moment = np.array([5 * DAY])
    hidden = now.unpublished(moment)[0]
    assert (hidden[now.created > 5 * DAY] == situation.UNPUBLISHED).all()
    assert not hidden[now.created <= 5 * DAY].any()


def test_what_somebody_read_was_out_whatever_the_table_says():
    items, times, created = news()
    now = situation.fit(items, times, created + 30 * DAY, recency=True, seed=0)
    read = np.unique(items)
    first = np.array([times[items == item].min() for item in read])
    np.testing.assert_array_equal(now.created[read], first)


def test_counts_halve_in_a_half_life():
    times = np.array([0, 0, 7_200, 14_400])
    counts = situation.decayed_counts(
        np.array([0, 0, 1, 0]), times, np.array([0, 7_200, 14_400]), (7_200.0,), 2, times[-1] + 1
    )
    np.testing.assert_allclose(counts[:3, 0], [[0, 0], [1, 0], [0.5, 0.5]], rtol=1e-6)


def test_a_moment_that_goes_on_from_another_is_what_it_would_be_alone():
    for dated in (True, False):
        now = fitted() if dated else fitted(created=np.full(40, np.nan))
        moment = None
        for time in (3 * DAY, 3 * DAY + 1, 3 * DAY + 5_000, 9 * DAY, 30 * DAY, 30 * DAY + 7_200, 90 * DAY, 2 * DAY):
            moment, alone = now.at(time, moment), np.array([time])
            np.testing.assert_array_equal(moment.logits, now(alone))
            np.testing.assert_array_equal(moment.unpublished, now.unpublished(alone))
