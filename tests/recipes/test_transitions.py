import numpy as np
import pandas as pd

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
