import numpy as np
import pandas as pd
import pytest

from lib.data.datasets import Datasets, catalogue, histories
from lib.recipes import transitions


def some_histories(seed=0, n_users=12, n_items=7):
    rng = np.random.default_rng(seed)
    rows = [(f"u{n:02}", f"i{item}") for n in range(n_users) for item in rng.integers(n_items, size=rng.integers(1, 9))]
    table = pd.DataFrame(rows, columns=["USER_ID", "ITEM_ID"]).assign(TIMESTAMP=range(len(rows)))
    numbers = catalogue(Datasets(interactions=table))
    return histories(table, numbers), len(numbers.item_ids)


def test_the_weights_are_those_of_the_ridge_regression_written_out(monkeypatch):
    monkeypatch.setattr(transitions, "NEGLIGIBLE", 1e-9)
    monkeypatch.setattr(transitions, "MIN_COUNT", 1)
    done, n_items = some_histories()
    gamma, phi, ridge, alpha = 0.6, 0.3, 2.0, 0.1
    pasts, futures, profiles = [], [], []
    for user in range(len(done.user_ids)):
        items = done[user].items
        profiles.append(np.isin(np.arange(n_items), items))
        for t in range(len(items) - 1):
            past, future = np.zeros(n_items), np.zeros(n_items)
            for k in range(t + 1):
                past[items[k]] += gamma ** (t - k)
            for k in range(t + 1, len(items)):
                future[items[k]] += phi ** (k - t - 1)
            pasts.append(past)
            futures.append(future)
    S, Y, X = np.array(pasts), np.array(futures), np.array(profiles, dtype=float)
    left = (1 - alpha) * S.T @ S + alpha * X.T @ X + ridge * np.eye(n_items)
    expected = np.linalg.solve(left, (1 - alpha) * S.T @ Y + alpha * X.T @ X)
    found = transitions.fit(done, n_items, decay=gamma, future=phi, ridge=ridge, alpha=alpha)
    np.testing.assert_allclose(found.weights, expected, atol=1e-5)


def test_the_newest_event_counts_most():
    done, n_items = some_histories()
    model = transitions.fit(done, n_items, decay=0.5, future=0.3, ridge=1.0, alpha=0.1)
    past = model.pasts([done[0]]).toarray()[0]
    expected = np.zeros(n_items)
    for age, item in enumerate(done[0].items[::-1]):
        expected[item] += 0.5**age
    np.testing.assert_allclose(past, expected[model.items], rtol=1e-5)


def test_rare_items_are_left_out_and_score_nothing():
    done, n_items = some_histories(n_users=40)
    model = transitions.fit(done, n_items, decay=0.5, future=0.3, ridge=1.0, alpha=0.1, max_items=4)
    assert len(model.items) == 4
    scores = model.scores([done[n] for n in range(5)])
    assert scores.shape == (5, n_items)
    assert not scores[:, model.place < 0].any()
    assert (scores >= 0).all()


def test_counted_weights_are_shares_of_the_steps_that_follow_an_item_written_out():
    done, n_items = some_histories(n_users=6)
    model = transitions.count(done, n_items, decay=0.5, again=True)
    steps = np.zeros((n_items, n_items))
    for user in range(len(done.user_ids)):
        items = done[user].items
        items = items[np.append(True, items[1:] != items[:-1])]
        for k, item in enumerate(items):
            for gap, follower in enumerate(items[k + 1 : k + 1 + transitions.NEAR]):
                steps[item, follower] += transitions.NEARNESS**gap * (item != follower)
    expected = steps / (steps.sum(axis=1, keepdims=True) + transitions.PRIOR)
    np.testing.assert_allclose(model.weights.toarray(), expected[np.ix_(model.items, model.items)], rtol=1e-5)
    scores = model.scores([done[n] for n in range(6)])
    pasts = model.pasts([done[n] for n in range(6)]).toarray()
    np.testing.assert_allclose(
        scores[:, model.items], np.log1p(pasts @ model.weights.toarray() / transitions.DOUBT), rtol=1e-4
    )


def test_counted_transitions_know_rare_items_and_keep_the_strongest_followers_alone(monkeypatch):
    monkeypatch.setattr(transitions, "KEPT", 2)
    done, n_items = some_histories(n_users=40)
    model = transitions.count(done, n_items, decay=0.5, again=True)
    assert len(model.items) == len(np.unique(done.items))
    assert np.diff(model.weights.indptr).max() == 2


@pytest.mark.parametrize("counted", [False, True])
def test_kept_transitions_score_as_they_did(counted):
    done, n_items = some_histories(n_users=40)
    model = transitions.fit(done, n_items, decay=0.5, future=0.3, ridge=1.0, alpha=0.1)
    if counted:
        model = transitions.count(done, n_items, decay=0.5, again=True)
    again = transitions.Transitions.load(model.arrays(), model.decay, model.again)
    assert again.counted == counted
    np.testing.assert_array_equal(again.scores([done[3]]), model.scores([done[3]]))
