import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import reproducible
from lib.data.splits import newest, split_newest, split_time, split_users, time_before_newest


def interactions(counts, times=None):
    users = [user for user, count in counts.items() for _ in range(count)]
    times = list(range(len(users))) if times is None else times
    items = [f"i{n}" for n in range(len(users))]
    return pd.DataFrame({"USER_ID": users, "ITEM_ID": items, "TIMESTAMP": times})


def items(table):
    return table["ITEM_ID"].tolist()


@pytest.mark.parametrize(
    ("known", "held_out"), [(1, 0), (2, 1), (5, 1), (14, 1), (15, 2), (24, 2), (25, 3), (234, 23), (235, 24)]
)
def test_a_tenth_is_rounded_half_up_and_at_least_one(known, held_out):
    assert newest(interactions({"u": known}), share=0.1).sum() == held_out


def test_newest_goes_by_time_not_by_row():
    table = interactions({"u": 3}, times=[30, 10, 20])
    assert newest(table, share=0.1).tolist() == [True, False, False]


def test_of_equal_times_the_last_in_the_file_is_newest():
    times = np.random.default_rng(0).integers(3, size=500)
    found = newest(interactions({"u": 500}, times=times), share=0.1)
    assert found.nonzero()[0].tolist() == sorted(sorted(range(500), key=lambda row: (times[row], row))[-50:])


def test_newest_may_be_a_count_which_leaves_one_row_old():
    table = interactions({"a": 1, "b": 2, "c": 4})
    assert newest(table, count=2).tolist() == [False, False, True, False, False, True, True]


def test_a_tenth_of_the_users_is_tested_and_nobody_is_in_both_parts():
    split = split_users(interactions({f"u{n:03}": 5 for n in range(610)}), seed=1)
    tested = set(split.known["USER_ID"])
    assert len(tested) == 61 and set(split.held_out["USER_ID"]) == tested
    assert not tested & set(split.train["USER_ID"])


@given(st.lists(st.integers(1, 12), min_size=12, max_size=40), st.integers(0, 9), st.integers(0, 3))
def test_a_split_loses_no_row_and_holds_out_the_newest(counts, fold, seed):
    table = interactions({f"u{n:02}": count for n, count in enumerate([2] * 10 + counts)})
    split = split_users(table, seed=seed, fold=fold)
    assert sorted(items(split.train) + items(split.known) + items(split.held_out)) == sorted(items(table))
    first = split.held_out.groupby("USER_ID")["TIMESTAMP"].min()
    assert (split.known.groupby("USER_ID")["TIMESTAMP"].max() < first).all()


def test_folds_share_no_user_and_reach_everybody_with_two_interactions():
    table = interactions({**{f"u{n:02}": 2 for n in range(33)}, "once": 1})
    folds = [set(split_users(table, seed=0, fold=fold).held_out["USER_ID"]) for fold in range(10)]
    assert sum(map(len, folds)) == 33 == len(set.union(*folds))


def test_the_drawn_users_do_not_depend_on_the_order_of_rows():
    table = interactions({f"u{n:02}": 3 for n in range(50)})
    shuffled = table.sample(frac=1, random_state=3)
    assert items(split_users(table, seed=5).held_out) == items(split_users(shuffled, seed=5).held_out)


def test_the_drawn_users_are_the_same_in_any_process():
    told = (
        "import pandas as pd; from lib.data.splits import split_users;"
        "t = pd.DataFrame({'USER_ID': [f'u{n % 40}' for n in range(120)], 'ITEM_ID': 'i', 'TIMESTAMP': range(120)});"
        "print(split_users(t, seed=7).held_out['USER_ID'].tolist())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", told],
            env={**reproducible.environment(), "PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] and "u" in runs[0]


def test_users_of_one_interaction_cannot_be_tested():
    with pytest.raises(ValueError, match="1 of 3 users have two or more interactions"):
        split_users(interactions({"a": 1, "b": 1, "c": 3}), seed=0, fold=1)


def test_leave_one_out_knows_every_user():
    split = split_newest(interactions({"a": 3, "b": 2, "c": 1}), count=1)
    assert items(split.train) == ["i0", "i1", "i3", "i5"]
    assert items(split.known) == ["i0", "i1", "i3"]
    assert items(split.held_out) == ["i2", "i4"]


def test_the_past_trains_and_the_future_tests():
    split = split_time(interactions({"a": 2, "b": 2, "c": 1}, times=[1, 5, 2, 3, 6]), at=5)
    assert items(split.train) == ["i0", "i2", "i3"]
    assert items(split.known) == ["i0"]
    assert items(split.held_out) == ["i1", "i4"]


def test_a_time_that_parts_nothing_is_refused():
    with pytest.raises(ValueError, match="between 0 and 3"):
        split_time(interactions({"a": 4}), at=4)


def test_the_newest_tenth_begins_at_its_oldest_row():
    table = interactions({"a": 100}, times=np.arange(100)[::-1])
    assert time_before_newest(table) == 90
