"""What every recipe promises, whoever uses it: one suite over the whole catalogue."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib import reproducible
from lib.data.datasets import Datasets, History, histories
from lib.data.schema import Field, Schema
from lib.recipes import RECIPES
from lib.recipes.recipe import Progress, Request

NEWEST = 1_700_000_000
FAMILIES = list({recipe.fit: name for name, recipe in reversed(RECIPES.items())}.values())[
    ::-1
]  # one name a way to fit
ITEMS = [name for name, recipe in RECIPES.items() if recipe.recipe_type != "USER_SEGMENTATION"]  # what is recommended
SCHEMAS = {
    "INTERACTIONS": Schema(name="Interactions", fields=(Field(name="DEVICE", type="string", categorical=True),)),
    "ITEMS": Schema(
        name="Items",
        fields=(
            Field(name="GENRE", type="string", categorical=True),
            Field(name="PRICE", type="float"),
            Field(name="TITLE", type="string", textual=True),
            Field(name="CREATION_TIMESTAMP", type="long"),
        ),
    ),
    "USERS": Schema(name="Users", fields=(Field(name="AGE", type="string", categorical=True),)),
}


def small_shop(n_users=40, n_items=30, n_events=12):
    """Users walk through the items of their genre, each item often used twice."""
    rng = np.random.default_rng(1)
    taste = rng.integers(3, size=n_users)
    steps = rng.integers(0, 3, (n_users, n_events)).cumsum(axis=1)
    item = 3 * ((rng.integers(10, size=(n_users, 1)) + steps) % (n_items // 3)) + taste[:, None]
    time = NEWEST - 86_400 * 30 + rng.integers(0, 86_400 * 29, (n_users, 1)) + 600 * np.arange(n_events)
    interactions = pd.DataFrame(
        {
            "USER_ID": np.repeat([f"u{n:02}" for n in range(n_users)], n_events),
            "ITEM_ID": [f"i{n:02}" for n in item.ravel()],
            "TIMESTAMP": time.ravel(),
            "EVENT_TYPE": np.where(rng.random(item.size) < 0.5, "click", "Buy"),
            "DEVICE": np.where(rng.random(item.size) < 0.5, "phone", "tablet"),
        }
    )
    items = pd.DataFrame(
        {
            "ITEM_ID": [f"i{n:02}" for n in range(n_items)],
            "GENRE": [f"genre{n % 3}|all" for n in range(n_items)],
            "PRICE": [np.nan if n % 7 == 0 else float(n) for n in range(n_items)],
            "TITLE": [f"the great {('red', 'green', 'blue')[n % 3]} thing" for n in range(n_items)],
            "CREATION_TIMESTAMP": NEWEST - 86_400 * 40,
        }
    )
    users = pd.DataFrame({"USER_ID": [f"u{n:02}" for n in range(n_users)], "AGE": ["young", "old"] * (n_users // 2)})
    actions = pd.DataFrame(
        {"ACTION_ID": ["enrol", "install", "rate"], "KIND": ["app", "app", "shop"], "VALUE": [1, 5, 3]}
    )
    met = rng.integers(3, size=n_users * 12)
    action_interactions = pd.DataFrame(
        {
            "USER_ID": np.repeat(users.USER_ID.to_numpy(), 12),
            "ACTION_ID": actions.ACTION_ID.to_numpy()[met],
            "EVENT_TYPE": np.where(rng.random(len(met)) < 0.3 + 0.1 * met, "TAKEN", "Not Taken"),
            "TIMESTAMP": NEWEST - 86_400 * rng.integers(40, size=len(met)),
        }
    )
    ordered, met_in_order = (
        table.sort_values("TIMESTAMP", kind="stable", ignore_index=True)
        for table in (interactions, action_interactions)
    )
    return Datasets(
        interactions=ordered,
        items=items,
        users=users,
        schemas=SCHEMAS,
        actions=actions,
        action_interactions=met_in_order,
    )


def fitted(name, datasets, seed=3, **how):
    recipe = RECIPES[name]
    reproducible.fix(seed)
    return recipe.fit(datasets, recipe.values({}), seed=seed, **{"progress": lambda step: None, **how})


def asked(model, datasets, n=6, **what):
    """Requests of the first users, as they stand after the last event, each about the last item.

    Of models that choose users: questions about the first items.
    """
    if hasattr(model, "user_ids"):
        return [np.array([item]) for item in range(n)]
    done = histories(datasets.interactions, model.catalogue)
    return [Request(history=done[user], now=NEWEST, item=int(done[user].items[-1]), **what) for user in range(n)]


def nobody():
    return History(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int32))


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def shop():
    return small_shop()


@pytest.fixture(scope="module", params=RECIPES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name, shop):
    return fitted(name, shop)


def candidates(model):
    for name in ("user_ids", "action_ids"):
        if hasattr(model, name):
            return getattr(model, name)
    return model.catalogue.item_ids


def test_a_score_for_every_candidate_and_request_and_all_finite(model, shop):
    scores = model.scores(asked(model, shop))
    assert scores.shape == (6, len(candidates(model)))
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_a_kept_model_scores_the_same_and_is_kept_as_the_same_bytes(name, model, shop, tmp_path):
    model.save(tmp_path / "first")
    again = RECIPES[name].load(tmp_path / "first")
    again.save(tmp_path / "second")
    requests = asked(model, shop, user={"AGE": "old"}, context={"DEVICE": "phone"})
    np.testing.assert_array_equal(again.scores(requests), model.scores(requests))
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    assert list(again.catalogue.item_ids) == list(model.catalogue.item_ids)


@pytest.mark.parametrize("name", ITEMS, scope="module")
def test_somebody_without_a_history_gets_finite_scores_that_differ_by_item(model):
    scores = model.scores([Request(history=nobody(), now=NEWEST)])
    assert np.isfinite(scores).all()
    assert np.ptp(scores) > 0


@pytest.mark.parametrize("name", ITEMS, scope="module")
def test_an_unknown_item_user_value_and_event_type_are_taken_calmly(model):
    odd = History(np.array([3], np.int32), np.array([NEWEST]), np.array([-1], np.int32))
    strange = {"user": {"AGE": "ancient", "X": 1}, "context": {"DEVICE": "toaster"}}
    assert np.isfinite(model.scores([Request(history=odd, now=NEWEST, item=-1, **strange)])).all()


def test_a_request_scores_the_same_alone_and_among_others(model, shop):
    requests = asked(model, shop)
    alone = np.concatenate([model.scores([request]) for request in requests])
    np.testing.assert_allclose(model.scores(requests), alone, rtol=1e-4, atol=1e-4)


def test_every_item_has_a_place_or_none_has(model):
    places = model.embeddings()
    assert places is None or (len(places) == 30 and places.dtype == np.float32 and np.isfinite(places).all())


def test_training_that_goes_on_scores_items_that_came_since(name, model, shop):
    new = shop.items.iloc[:1].assign(ITEM_ID="i00new")
    more = replace(shop, items=pd.concat([shop.items, new]).sort_values("ITEM_ID", ignore_index=True))
    later = fitted(name, more, start=model)
    assert "i00new" in later.catalogue.item_ids
    scores = later.scores(asked(later, more))
    assert scores.shape == (6, len(candidates(later)))
    assert np.isfinite(scores).all()


def test_training_tells_its_steps_in_order(name, shop):
    told: list[Progress] = []
    fitted(name, shop, progress=told.append)
    steps = [step.step for step in told]
    assert steps == sorted(steps)
    assert steps
    assert steps[-1] <= told[-1].steps
    assert all(np.isfinite(list(step.measures.values())).all() for step in told)


def test_an_exception_from_progress_ends_training(name, shop):
    class StoppedError(Exception):
        pass

    def stop(step):
        raise StoppedError

    with pytest.raises(StoppedError):
        fitted(name, shop, progress=stop)


def test_no_interactions_at_all_is_refused_with_a_remedy_unless_items_are_enough(name, shop):
    nothing_done = replace(shop, interactions=shop.interactions[:0])
    if RECIPES[name].items_alone:
        request = Request(history=nobody(), now=NEWEST, item=0)
        assert np.isfinite(fitted(name, nothing_done).scores([request])).all()
        return
    with pytest.raises(ValueError, match="import interactions"):
        fitted(name, nothing_done)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda table: table.assign(ITEM_ID="only"), id="one item"),
        pytest.param(lambda table: table.assign(TIMESTAMP=NEWEST), id="one moment"),
        pytest.param(lambda table: table.assign(USER_ID="robot"), id="one user of many events"),
        pytest.param(lambda table: table.drop_duplicates("USER_ID"), id="one event a user"),
        pytest.param(lambda table: table.drop(columns=["EVENT_TYPE", "DEVICE"]), id="ids and times alone"),
    ],
)
@pytest.mark.parametrize("name", FAMILIES)
def test_poor_data_train_to_finite_scores(name, change, shop):
    table = change(shop.interactions)
    poor = Datasets(
        interactions=table.reset_index(drop=True),
        items=table[["ITEM_ID"]].drop_duplicates(),
        actions=shop.actions[["ACTION_ID"]],
    )
    if RECIPES[name].recipe_type == "USER_SEGMENTATION" and table.TIMESTAMP.nunique() == 1:
        with pytest.raises(ValueError, match="same TIMESTAMP"):
            fitted(name, poor)
        return
    model = fitted(name, poor)
    scores = model.scores(asked(model, poor, n=1))
    assert scores.shape == (1, len(candidates(model)))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_metadata_without_a_value_train_to_finite_scores(name, shop):
    empty = shop.items.assign(GENRE=None, PRICE=np.nan, TITLE="", CREATION_TIMESTAMP=np.nan)
    users = shop.users.assign(AGE=None)
    model = fitted(name, replace(shop, items=empty, users=users))
    assert np.isfinite(model.scores(asked(model, shop))).all()


def digest(name):
    """Train in this process and say what was kept; called in another one too."""
    import tempfile
    from pathlib import Path

    model = fitted(name, small_shop(), seed=5)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        return hashlib.sha256(b"".join(content for _, content in sorted(contents(Path(folder)).items()))).hexdigest()


def test_the_same_seed_gives_the_same_bytes_in_any_process_and_on_any_number_of_threads():
    code = (
        "from tests.recipes.test_contract import FAMILIES, digest;print('\\n'.join(digest(name) for name in FAMILIES))"
    )
    said = []
    for threads in ("1", "4"):
        environment = {**reproducible.environment(), "OMP_NUM_THREADS": threads, "PYTHONPATH": "."}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        said.append(dict(zip(FAMILIES, run.stdout.split())))
    assert said[0] == said[1]
    assert len(set(said[0].values())) > 1
