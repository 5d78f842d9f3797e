import json
import subprocess
import sys

import pytest
import torch

from lib import reproducible
from lib.recipes import RECIPES, networks
from lib.recipes.networks import WORTH_MOVING, Hardware, hardware
from tests.recipes.test_sequences import walks
from tests.small_recipe import saved

PROCESSOR = Hardware(torch.device("cpu"), torch.float32)
NAMES = ("aws-user-personalization-v2", "aws-user-personalization")


@pytest.fixture(scope="module")
def claims():
    """What came of training on a device that is made up; see ``tests/elsewhere.py``."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.elsewhere"],
        env=reproducible.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(done.stdout)


def fitted(name, on, monkeypatch):
    """A model, and its loss on withheld events: 2.7 for guessing, 0.7 for whoever knows how users walk."""
    heard = []
    monkeypatch.setattr(networks, "hardware", lambda n_events: on)
    reproducible.fix(0)
    data = walks(n_users=100, length=30)
    model = RECIPES[name].fit(data, RECIPES[name].values({}), seed=0, progress=heard.append)
    return model, min(step.measures["withheld_loss"] for step in heard)


@pytest.mark.parametrize("way", ["all rows", "the rows that are read"])
def test_all_of_a_training_moves_to_its_device_and_gives_the_same_there(claims, way):
    assert claims[f"the same, stepping over {way}"]


@pytest.mark.parametrize("way", ["all rows", "the rows that are read"])
def test_a_model_is_the_processors_wherever_it_was_trained(claims, way):
    assert claims[f"served by the processor, stepping over {way}"]


@pytest.mark.parametrize("way", ["there", "back"])
def test_a_checkpoint_of_one_device_is_gone_on_from_on_another(claims, way):
    assert claims[f"gone on {way}"]


def test_what_stays_on_the_processor_by_mistake_is_found(claims):
    assert claims["what stays behind is found"]


@pytest.mark.parametrize("name", NAMES)
def test_products_of_bfloat16_learn_as_much(name, monkeypatch):
    exact, loss = fitted(name, PROCESSOR, monkeypatch)
    rough, its_loss = fitted(name, Hardware(torch.device("cpu"), torch.bfloat16), monkeypatch)
    assert its_loss == pytest.approx(loss, abs=0.02)
    assert loss < 0.85
    assert not torch.equal(rough.table, exact.table)
    assert {value.dtype for value in rough.network.state_dict().values()} == {torch.float32}


def test_a_gpu_is_taken_where_there_is_one_and_much_to_learn(monkeypatch):
    assert hardware(WORTH_MOVING - 1) == PROCESSOR
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert hardware(WORTH_MOVING) == PROCESSOR
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for known, precision in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, known=known: known)
        assert hardware(WORTH_MOVING) == Hardware(torch.device("cuda"), precision)
        assert hardware(WORTH_MOVING - 1) == PROCESSOR


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU was found")
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_learns_as_much_as_the_processor_and_the_same_each_time(name, monkeypatch, tmp_path):
    on = Hardware(torch.device("cuda"), torch.bfloat16)
    files = []
    for folder in ("first", "second"):
        model, loss = fitted(name, on, monkeypatch)
        model.save(tmp_path / folder)
        files.append(saved(tmp_path / folder))
    assert files[0] == files[1]
    assert loss == pytest.approx(fitted(name, PROCESSOR, monkeypatch)[1], abs=0.05)
