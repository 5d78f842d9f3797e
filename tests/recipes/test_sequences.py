import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logsumexp

from lib import reproducible
from lib.data.datasets import Datasets, histories
from lib.ranking import softmax
from lib.recipes import RECIPES, sequences, transitions
from lib.recipes.recipe import Request


def walks(n_users=60, length=12, n_items=15, seed=0):
    """Users who walk around a ring of items, a step or two at a time."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(1, 3, (n_users, length))
    items = (rng.integers(n_items, size=(n_users, 1)) + steps.cumsum(axis=1)) % n_items
    rows = pd.DataFrame(
        {
            "USER_ID": np.repeat([f"u{n:02}" for n in range(n_users)], length),
            "ITEM_ID": [f"i{item:02}" for item in items.ravel()],
            "TIMESTAMP": np.tile(np.arange(length), n_users) * 60,
        }
    )
    return Datasets(interactions=rows.sort_values("TIMESTAMP", kind="stable", ignore_index=True))


@pytest.fixture(scope="module")
def model():
    recipe = RECIPES["aws-user-personalization-v2"]
    return recipe.fit(walks(), recipe.values({}), seed=0, progress=lambda step: None)


def test_an_own_column_called_weight_is_a_column_as_others_are():
    recipe, data = RECIPES["aws-user-personalization-v2"], walks()
    own = ["light", None] * (len(data.interactions) // 2)
    data = replace(data, interactions=data.interactions.assign(weight=own))
    model = recipe.fit(data, recipe.values({}), seed=0, progress=lambda step: None)
    assert np.isfinite(model.scores(asked(model))).all()


def asked(model):
    done = histories(walks().interactions, model.catalogue)
    return [Request(history=done[n], now=10_000) for n in range(5)]


def test_transitions_speak_of_what_is_new_to_a_user_alone(model):
    requests = asked(model)
    model = replace(model, transitions=replace(model.transitions, again=False))
    closed = model.components(requests)[1]
    seen = np.zeros(closed.shape, dtype=bool)
    for row, request in zip(seen, requests):
        row[request.history.items] = True
    assert not closed[seen].any()
    assert closed[~seen].max() > 0


def test_transitions_that_tell_what_is_taken_again_keep_what_they_say_of_it(model):
    requests = asked(model)
    done = histories(walks().interactions, model.catalogue)
    counted = transitions.count(done, len(model.catalogue.item_ids), decay=0.3, again=True)
    told = counted.scores([request.history for request in requests])
    found = replace(model, transitions=counted).components(requests)[1]
    np.testing.assert_array_equal(found, told)
    assert any(row[request.history.items].any() for row, request in zip(told, requests))


def test_transitions_are_offered_as_if_each_kind_were_learnt_alone_and_go_on_as_the_kind_they_are(model):
    done, n_items = histories(walks().interactions, model.catalogue), len(model.catalogue.item_ids)
    alone = [transitions.fit(done, n_items, **memory) for memory in sequences.MEMORIES]
    alone += [transitions.count(done, n_items, **memory) for memory in sequences.COUNTED]
    offered = sequences._transitions(done, n_items, model.plan, None, weighed=False)
    pasts = [request.history for request in asked(model)]
    assert [(one.counted, one.decay, one.again) for one in offered] == [(o.counted, o.decay, o.again) for o in alone]
    for one, expected in zip(offered, alone):
        np.testing.assert_array_equal(one.scores(pasts), expected.scores(pasts))
        (further,) = sequences._transitions(done, n_items, model.plan, replace(model, transitions=one), weighed=False)
        assert (further.counted, further.decay, further.again) == (one.counted, one.decay, one.again)
    weighed = sequences._transitions(done, n_items, model.plan, None, weighed=True)
    assert len(weighed) == len([one for one in alone if not one.again])
    assert not any(one.again for one in weighed)


def test_without_impressions_ranking_is_recommending():
    scores = []
    for name in ("aws-user-personalization-v2", "aws-personalized-ranking-v2"):
        reproducible.fix(0)
        fitted = RECIPES[name].fit(walks(), RECIPES[name].values({}), seed=0, progress=lambda step: None)
        scores.append(fitted.scores(asked(fitted)))
    np.testing.assert_array_equal(*scores)


def test_a_training_that_goes_on_keeps_the_time_scale_of_transitions_and_the_blend(model):
    recipe = RECIPES["aws-user-personalization-v2"]
    further = recipe.fit(walks(n_users=70), recipe.values({}), seed=0, progress=lambda step: None, start=model)
    assert further.transitions.decay == model.transitions.decay
    assert further.transitions.counted == model.transitions.counted
    np.testing.assert_array_equal(further.blend, model.blend)


def test_the_blend_is_the_one_under_which_withheld_items_are_likeliest(model):
    requests = asked(model)
    parts = model.components(requests)
    wanted = np.arange(5)
    uses = model._uses(requests, model._places(requests))

    def loss(weights, again):
        logits = np.tensordot(weights, parts, 1).astype(np.float64)
        uses.again(logits, offset=again)
        pull = (np.append(weights, again) - [*sequences.DEFAULT_BLEND, 0]) ** 2
        return float((logsumexp(logits, axis=1) - logits[np.arange(5), wanted]).mean() + pull.sum() / 2 / 5)

    found, again, told = sequences._blend(model, requests, wanted)
    assert told == pytest.approx(loss(found, again), abs=1e-4)
    for other in (found * 0.9 + 0.05, np.array([0.75, 1.0]), np.array([1.0, 0.0])):
        for offset in (again, again + 0.3, again - 0.3):
            assert loss(found, again) <= loss(other.clip(0.1, 3), offset) + 1e-3


def test_what_was_used_more_often_is_foreseen_nearly_as_well_as_by_who_knows_how_users_choose():
    """Three of four events repeat one of the user's earlier ones, drawn evenly; the others are of any item."""
    rng, rows = np.random.default_rng(0), []
    for user in range(300):
        past = []
        for n in range(20):
            past.append(rng.choice(past) if past and rng.random() < 0.75 else rng.integers(200))
            rows.append((f"u{user:03}", f"i{past[-1]:03}", 1_700_000_000 + 86_400 * n + user))
    table = pd.DataFrame(rows, columns=["USER_ID", "ITEM_ID", "TIMESTAMP"]).sort_values("TIMESTAMP", kind="stable")
    last = table.groupby("USER_ID").cumcount() == 19
    recipe = RECIPES["aws-user-personalization-v2"]
    found = recipe.fit(Datasets(interactions=table[~last]), recipe.values({}), seed=0, progress=lambda step: None)
    done = histories(table[~last], found.catalogue)
    asked = [Request(history=done[user], now=int(done[user].times[-1]) + 86_400) for user in range(300)]
    wanted = pd.Index(found.catalogue.item_ids).get_indexer(table[last].sort_values("USER_ID")["ITEM_ID"])
    there = wanted >= 0
    uses = np.stack([np.bincount(one.history.items, minlength=200)[:200] for one in asked])
    truth = 0.75 * uses / 19 + 0.25 / 200
    of_next = [
        np.log(chances[np.arange(300), wanted][there]).mean() for chances in (softmax(found.scores(asked)), truth)
    ]
    assert of_next[0] > of_next[1] - 0.15


def test_a_training_with_few_steps_an_epoch_is_not_ended_by_the_first_that_is_no_better():
    assert [sequences._ended(losses, 9, 3) for losses in ([], [2, 3], [2, 3, 3, 3], [2, 3, 3, 1], [2] * 9)] == [
        *(False, False, True, False, True)
    ]


def test_of_users_with_two_events_one_is_withheld():
    held = sequences._held_out(np.array([1, 2] * 50), np.random.default_rng(0))
    assert held.sum() == 10 and not held[::2].any()


@pytest.mark.parametrize(
    ("n_events", "epochs"), [(10_000, 25), (40_000, 12), (1_000_000, 10), (4_000_000, 3), (10**8, 2)]
)
def test_the_more_there_is_to_read_the_fewer_epochs_are_allowed(n_events, epochs):
    plan = sequences.Plan(body="transformer", dim=8, hidden=8, length=8, recency=True, closed=True)
    assert plan.epochs(n_events) == epochs


def test_scores_are_the_components_blended(model):
    requests = asked(model)
    blended = np.tensordot(model.blend, model.components(requests), 1)
    model._uses(requests, model._places(requests)).again(blended, offset=model.again)
    np.testing.assert_allclose(model.scores(requests), blended, rtol=1e-4, atol=1e-4)


def test_in_large_catalogues_the_best_are_exact_and_the_others_nearly_so(model, monkeypatch):
    requests = asked(model)
    exact = model.scores(requests)
    monkeypatch.setattr(sequences, "MANY_ITEMS", 1)
    monkeypatch.setattr(sequences, "EXACT", 6)
    rough = model.scores(requests)
    best = np.argsort(-exact, axis=1)[:, :4]
    np.testing.assert_allclose(
        np.take_along_axis(rough, best, axis=1), np.take_along_axis(exact, best, axis=1), rtol=1e-5
    )
    assert (rough != exact).any()
    np.testing.assert_allclose(rough, exact, atol=0.02 * exact.std())


def test_the_time_since_the_last_event_counts_once_the_visit_is_over(model):
    history = asked(model)[0].history
    last = int(history.times[-1])
    soon, later, days = (
        model.scores([Request(history=history, now=last + seconds)]) for seconds in (5, 300, 3 * 86_400)
    )
    parts = [model.components([Request(history=history, now=now)])[0] for now in (last + 5, last + 3 * 86_400)]
    assert np.abs(parts[0] - parts[1]).max() > 1e-3
    np.testing.assert_allclose(soon, later, atol=1e-5)
    assert np.abs(soon - days).max() > 1e-3


def test_what_a_request_tells_the_network_is_what_training_told_it_of_that_event(model):
    done = histories(walks().interactions, model.catalogue)
    history = done[3]
    times = history.times * 100
    past = type(history)(history.items[:-1], times[:-1], history.event_types[:-1])
    *_, gaps, pauses, lengths = model._inputs([Request(history=past, now=int(times[-1]))])
    whole = sequences.gap_codes(times)
    assert gaps[0].tolist() == whole[:-1].tolist()
    assert pauses[0].tolist() == sequences.pause_codes(whole[1:]).tolist()
    assert lengths.tolist() == [len(past.items)]


def test_a_model_that_another_version_kept_says_so(model, tmp_path):
    network = copy.deepcopy(model.network)
    network.gate = torch.nn.Linear(2, 2)
    replace(model, network=network.requires_grad_(False)).save(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path} was kept by another version, .* train it again"):
        sequences.load(tmp_path)
