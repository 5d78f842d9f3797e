import pytest

from lib import training
from lib.recipes import RECIPES, networks, sequences
from lib.recipes.networks import Trainer
from lib.reproducible import fix
from tests.recipes.test_sequences import walks
from tests.small_recipe import Killed, killing, saved

NAMES = ("aws-user-personalization-v2", "aws-user-personalization")


@pytest.fixture
def epochs(monkeypatch):
    """The sizes of the epochs that are trained, as they are trained."""
    trained = []
    monkeypatch.setattr(sequences, "WORTH_KEEPING", 0)
    epoch = Trainer.epoch
    monkeypatch.setattr(Trainer, "epoch", lambda trainer, *users: trained.append(1) or epoch(trainer, *users))
    return trained


def train(name, folder, checkpoint=None, stop_at=None, seed=0):
    """The model in a folder, and the steps that progress was told."""
    heard = []

    def listen(step):
        heard.append((step.step, step.steps, dict(step.measures)))
        if step.step == stop_at:
            raise Killed

    recipe = RECIPES[name]
    fix(seed)
    model = recipe.fit(walks(), recipe.values({}), seed=seed, progress=listen, checkpoint=checkpoint)
    model.save(folder)
    return saved(folder), heard


@pytest.mark.parametrize(("name", "many_items"), [(NAMES[0], 10), (NAMES[0], 10_000), (NAMES[1], 10_000)])
def test_a_training_killed_between_epochs_goes_on_to_the_same_bytes(name, many_items, epochs, monkeypatch, tmp_path):
    monkeypatch.setattr(networks, "MANY_ITEMS", many_items)
    whole, heard = train(name, tmp_path / "whole")
    n_epochs = len(epochs)
    epochs.clear()
    for stop_at in (1, 3):
        with pytest.raises(Killed):
            train(name, tmp_path / "killed", tmp_path / "checkpoint", stop_at)
    killed, heard_again = train(name, tmp_path / "killed", tmp_path / "checkpoint")
    assert killed == whole
    assert heard_again == heard
    assert len(epochs) == n_epochs > 3


def test_a_version_killed_in_its_first_phase_trains_no_epoch_twice_and_leaves_no_checkpoint(epochs, tmp_path):
    recipe = RECIPES[NAMES[0]]

    def version(folder, **how):
        training.train(recipe, walks(), recipe.values({}), seed=1, folder=folder, **how)

    version(tmp_path / "whole")
    n_epochs = len(epochs)
    epochs.clear()
    with pytest.raises(Killed):
        version(tmp_path / "killed", progress=killing(3))
    assert (tmp_path / "killed" / training.CHECKPOINT).exists()
    version(tmp_path / "killed")
    assert saved(tmp_path / "killed") == saved(tmp_path / "whole")
    assert len(epochs) == n_epochs


def test_a_training_killed_after_its_last_epoch_trains_no_more(epochs, tmp_path):
    whole, heard = train(NAMES[0], tmp_path / "whole", tmp_path / "checkpoint")
    epochs.clear()
    assert train(NAMES[0], tmp_path / "again", tmp_path / "checkpoint") == (whole, heard)
    assert epochs == []


def test_a_checkpoint_of_another_recipe_or_cut_in_half_is_not_gone_on_from(epochs, tmp_path):
    whole, _ = train(NAMES[0], tmp_path / "whole")
    checkpoint = tmp_path / "checkpoint"
    train(NAMES[1], tmp_path / "other", checkpoint)
    assert train(NAMES[0], tmp_path / "after another", checkpoint)[0] == whole
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert train(NAMES[0], tmp_path / "after a cut", checkpoint)[0] == whole


def test_a_short_training_keeps_nothing(tmp_path):
    train(NAMES[0], tmp_path / "model", tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()
