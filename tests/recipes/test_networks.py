import numpy as np
import pytest
import scipy.sparse as sparse
import torch

from lib.recipes import networks
from lib.recipes.networks import Events, Recurrent, SequenceNetwork, Side, Trainer, Transformer


def network(body, n_items=9, n_event_types=2, dim=8):
    torch.manual_seed(0)
    nothing = {"items": (0, 0), "users": (0, 0), "context": (0, 0)}
    return SequenceNetwork(body, dim, n_items, n_event_types, nothing).eval()


def bodies():
    torch.manual_seed(0)
    return [
        pytest.param(Transformer(8, 2, 2, 0.1, True), id="transformer"),
        pytest.param(Transformer(8, 2, 2, 0.1, False), id="transformer without recency"),
        pytest.param(Recurrent(8, 12, 0.1), id="recurrent"),
    ]


def places(net, items):
    history = torch.tensor([items])
    same = torch.zeros_like(history)
    return net(net.item, history, same, same, same, torch.zeros(1, 8))[0]


@pytest.mark.parametrize("body", bodies())
def test_a_later_item_does_not_change_an_earlier_score(body):
    net = network(body)
    with torch.no_grad():
        torch.testing.assert_close(places(net, [3, 1, 4, 0])[:4], places(net, [3, 1, 4, 5])[:4])


@pytest.mark.parametrize("body", bodies())
def test_the_last_item_changes_the_last_score(body):
    net = network(body)
    with torch.no_grad():
        assert not torch.allclose(places(net, [3, 1, 4, 0])[4], places(net, [3, 1, 4, 5])[4], atol=1e-3)


@pytest.mark.parametrize("body", bodies())
def test_one_place_of_each_history_is_what_all_places_hold_there(body):
    net = network(body)
    history, lengths = torch.tensor([[3, 1, 4, 0], [2, 2, 7, 5], [8, 6, 0, 1]]), torch.tensor([4, 0, 2])
    same = torch.zeros_like(history)
    asked = net.item, history, same, same, same, torch.zeros(3, 8)
    with torch.no_grad():
        torch.testing.assert_close(net(*asked, lengths), net(*asked)[torch.arange(3), lengths])


def test_recency_makes_attention_favour_what_is_near():
    torch.manual_seed(0)
    near, alike = Transformer(8, 2, 1, 0.0, True), Transformer(8, 2, 1, 0.0, False)
    alike.load_state_dict(near.state_dict())
    x = torch.randn(1, 30, 8)
    changed = x.clone()
    changed[0, 0] = torch.randn(8)
    with torch.no_grad():
        effect = [(body(changed) - body(x))[0, -1].norm() for body in (near, alike)]
    assert effect[0] < 0.5 * effect[1]


def none(n):
    return Side(sparse.csr_matrix((n, 0), dtype=np.float32), np.zeros((n, 0), np.float32))


def trainer(n_users=6, n_items=9, length=5, n_tokens=12, seed=0, decay=0.0):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 14, n_users))])
    n = offsets[-1]
    zeros = np.zeros(n, np.int64)
    events = Events(offsets, rng.integers(n_items, size=n), zeros, zeros, zeros, none(n_users), none(n))
    return Trainer(
        network(Transformer(8, 2, 1, 0.0, True), n_items),
        events,
        none(n_items),
        np.zeros((1, n_items), np.float32),
        length=length,
        n_tokens=n_tokens,
        learning_rate=1e-3,
        decay=decay,
        rng=rng,
    )


def test_windows_cover_every_event_once_and_are_no_longer_than_allowed():
    offsets = np.array([0, 5, 5, 75, 300])
    for seed in range(5):
        spans = networks.windows(offsets, 64, np.random.default_rng(seed))
        covered = np.concatenate([np.arange(begin, end) for begin, end in spans])
        assert np.array_equal(np.sort(covered), np.arange(300))
        assert (spans[:, 1] - spans[:, 0] <= 64).all()
        assert (
            np.searchsorted(offsets, spans[:, 0], "right") == np.searchsorted(offsets, spans[:, 1] - 1, "right")
        ).all()


def test_windows_of_some_users_cover_these_alone():
    spans = networks.windows(np.array([0, 5, 9, 30]), 8, np.random.default_rng(0), np.array([0, 2]))
    covered = np.concatenate([np.arange(begin, end) for begin, end in spans])
    assert np.array_equal(np.sort(covered), [*range(5), *range(9, 30)])


def test_batches_hold_every_window_once_and_keep_to_their_size():
    rng = np.random.default_rng(0)
    spans = networks.windows(np.arange(0, 400, 7), 64, rng)
    parts = list(networks.batches(spans, 50, rng))
    assert np.array_equal(np.sort(np.concatenate(parts), axis=0), spans)
    assert all(len(part) * (part[:, 1] - part[:, 0]).max() <= 50 for part in parts)


def test_the_loss_is_the_cross_entropy_of_each_event_written_out():
    train = trainer(n_users=1, length=20)
    events, net = train.events, train.network
    with torch.no_grad():
        net.repeat.copy_(torch.linspace(-1, 1, net.repeat.numel()).view_as(net.repeat))
        net.again.copy_(torch.linspace(0, -3, net.again.numel()).view_as(net.again))
        net.returning.copy_(torch.linspace(-1, 1, net.returning.numel()))
        items = torch.from_numpy(events.items)
        n = len(items)
        same = torch.zeros(1, n, dtype=torch.long)
        place = net(net.item, items[None], same, same, same, torch.zeros(1, 8))[0]
        expected = 0.0
        for t in range(n):
            logits = place[t] @ net.item.T
            shares = torch.zeros(9)
            for k in range(t):
                lag = networks.lag_codes(np.array(t - k))
                logits[items[k]] += net.repeat[lag, 0]
                shares[items[k]] += torch.exp(net.again[lag, 0] + place[t] @ net.returning)
            chances = logits.exp() + shares
            expected -= torch.log(chances[items[t]] / chances.sum()) / n
        spans, rows = np.array([[0, n]]), np.arange(9)
        found = train._loss(events, spans, np.zeros(1, np.int64), rows, None, net.item)
    torch.testing.assert_close(found, expected)


def test_the_share_of_uses_longer_ago_than_any_that_was_seen_stays_as_little_as_it_began():
    train = trainer(n_users=6, length=5, decay=0.1)  # windows of five events: none is more than four ago
    for _ in range(3):
        train.epoch()
    again = train.network.again.detach()
    assert (again[4:] == networks.AGAIN).all() and (again[:, 1] == networks.AGAIN).all()
    assert (again[:4, 0] != networks.AGAIN).all()


def test_a_sample_of_the_items_gives_the_loss_of_all_on_average(monkeypatch):
    train = trainer(n_users=3, n_items=40)
    events = train.events
    spans, skip = networks.windows(events.offsets, 20, np.random.default_rng(0)), np.zeros(3, np.int64)
    spans = spans[: len(skip)]
    skip = skip[: len(spans)]
    needed = np.unique(np.concatenate([events.items[begin:end] for begin, end in spans]))
    share, losses = 0.5, []
    rest = np.setdiff1d(np.arange(40), needed)
    rng = np.random.default_rng(1)
    with torch.no_grad():
        table = train.network.item
        everything = train._loss(events, spans, skip, np.arange(40), None, table)
        for _ in range(300):
            rows = np.union1d(needed, rest[rng.random(len(rest)) < share])
            log_share = np.where(np.isin(rows, needed), 0, np.log(share)).astype(np.float32)
            losses.append(train._loss(events, spans, skip, rows, log_share, table[torch.from_numpy(rows)]))
    assert float(torch.stack(losses).mean()) == pytest.approx(float(everything), abs=0.01)


def test_the_averaged_weights_move_towards_the_trained_ones():
    train = trainer()
    before = [value.clone() for value in train.average]
    train.epoch()
    present = train.use_average()
    assert any(not torch.equal(old, new) for old, new in zip(before, train.average))
    assert any(not torch.equal(mine, used) for mine, used in zip(present, train.network.parameters()))


def test_steps_over_the_rows_that_are_read_train_as_steps_over_all(monkeypatch):
    monkeypatch.setattr(networks, "MAX_CANDIDATES", 8)
    monkeypatch.setattr(networks, "LEAST_SHARE", 0.01)
    found = []
    for many in (10_000, 1):
        monkeypatch.setattr(networks, "MANY_ITEMS", many)
        torch.manual_seed(0)
        train = trainer(n_users=40, n_items=300)
        before = train.network.item.detach().clone()
        for _ in range(3):
            train.epoch()
        assert (train.rows is None) == (many > 300)
        present, average = train.network.item.detach(), train.average[train.item_place]
        found.append((present - before, average - before, train.network.start.detach()))
    for dense, sparse_rows in zip(*found):
        assert (dense - sparse_rows).norm() < 1e-3 * dense.norm()


@pytest.mark.parametrize(("lag", "code"), [(1, 0), (2, 1), (4, 3), (5, 4), (8, 4), (9, 5), (17, 6), (33, 7), (900, 7)])
def test_how_long_ago_is_told_in_eight_steps(lag, code):
    assert networks.lag_codes(np.array([lag])).tolist() == [code]


def test_gaps_are_told_in_powers_of_two_and_start_anew_with_each_history():
    times = np.array([10, 10, 11, 14, 5, 1_000_000])
    assert networks.gap_codes(times, np.array([0, 4])).tolist() == [0, 1, 2, 3, 0, 20]


def test_pauses_within_a_visit_are_all_alike_and_longer_ones_are_told():
    codes = networks.duration_codes(np.array([-5, 0, 500, 600, 3_600, 86_400, 10**9]))
    assert networks.pause_codes(codes).tolist() == [0, 0, 0, 0, 2, 7, networks.GAPS - networks.VISIT - 1]


def test_a_large_catalogue_is_measured_in_smaller_parts_with_the_same_loss(monkeypatch):
    train = trainer(n_users=30, n_items=200)
    n_last = np.minimum(np.diff(train.events.offsets), 3)
    whole = train.measure(train.events, n_last)
    monkeypatch.setattr(networks, "MEASURED_CELLS", 200 * 3 * 2)
    assert train.measure(train.events, n_last) == pytest.approx(whole, rel=1e-5)


def test_a_step_draws_a_share_of_the_catalogue_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(networks, "MAX_CANDIDATES", 100)
    for n_items, expected in ((400, 100), (3_000, 150), (40_000, 200)):
        train = trainer(n_items=n_items)
        train.seen, train.chance = np.arange(n_items), np.full(n_items, 1 / n_items)
        drawn = [len(train._candidates(np.zeros(0, np.int64), 10)[0]) for _ in range(20)]
        assert np.mean(drawn) == pytest.approx(expected, rel=0.1)
