"""A device that is not there: its tensors are computed by the processor, and refuse to meet those of the processor.

``python -m tests.elsewhere`` trains on the processor and on that device, which torch lets Python make up once a
process, and prints as JSON which of the claims of ``tests/recipes/test_hardware.py`` hold.
"""

import json
import tempfile
from pathlib import Path
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from lib.recipes import RECIPES, networks, sequences
from lib.recipes.networks import Hardware, Trainer
from lib.reproducible import fix
from tests.recipes.test_contract import small_shop
from tests.small_recipe import Killed, saved

DEVICE = torch.device("privateuseone", 0)
PROCESSOR = torch.device("cpu")
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
RECIPE = RECIPES["aws-user-personalization-v2"]
EPOCHS, KILLED = 4, 2


class Elsewhere(torch.Tensor):
    """A tensor of that device, and as ``here`` what it holds."""

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> "Elsewhere":
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, here.shape, device=DEVICE, **layout)

    def __init__(self, here: torch.Tensor):
        self.here = here

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return computed(function, args, kwargs or {})


class Everywhere(TorchDispatchMode):
    """What is made anew may be made on that device too."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return computed(function, args, kwargs or {})


def computed(function, args, kwargs):
    """What the function gives, on the device that it is asked for or else that of its tensors.

    Raises RuntimeError where tensors of several devices meet, numbers (tensors without dimensions) aside.
    """
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    there = [isinstance(one, Elsewhere) for one in tensors]
    moves = function in MOVES
    if any(there) and not moves and not all(is_there or not one.dim() for is_there, one in zip(there, tensors)):
        raise RuntimeError(f"{function} was given tensors of two devices")
    wanted = kwargs.get("device")
    lands = wanted == DEVICE if wanted is not None else there[0] if moves else any(there)
    args_here, kwargs_here = tree_map_only(Elsewhere, lambda one: one.here, (args, kwargs))
    out = function(*args_here, **(kwargs_here | ({} if wanted is None else {"device": PROCESSOR})))
    if function._schema.is_mutable:  # it changed what it was given
        return args[0] if function._schema.returns else None
    return tree_map_only(torch.Tensor, Elsewhere, out) if lands else out


def trained(device: torch.device, *, many_items: int, checkpoint: Path | None = None, stop_at: int | None = None):
    """The files of a model, whether its weights are the processor's, and how many epochs it trained."""
    epochs, epoch = [], Trainer.epoch

    def listen(step):
        if step.step == stop_at:
            raise Killed

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.multiple(networks, MANY_ITEMS=many_items, hardware=lambda n: Hardware(device, torch.float32)),
        mock.patch.object(sequences, "WORTH_KEEPING", 0),
        mock.patch.object(sequences.Plan, "epochs", lambda plan, n_events: EPOCHS),
        mock.patch.object(Trainer, "epoch", lambda trainer, *users: epochs.append(1) or epoch(trainer, *users)),
    ):
        fix(0)
        model = RECIPE.fit(small_shop(), RECIPE.values({}), seed=0, progress=listen, checkpoint=checkpoint)
        model.save(Path(folder))
        here = all(parameter.device == PROCESSOR for parameter in model.network.parameters())
        return saved(Path(folder)), here, len(epochs)


def went_on(before: torch.device, after: torch.device, folder: Path):
    """As ``trained``, after a training on one device that was killed went on on another."""
    checkpoint = folder / f"{before.type}.safetensors"
    try:
        trained(before, many_items=1, checkpoint=checkpoint, stop_at=KILLED)
    except Killed:
        return trained(after, many_items=1, checkpoint=checkpoint)


def main() -> None:
    """Print which claims hold."""
    _setup_privateuseone_for_python_backend("elsewhere")
    torch.elsewhere.get_amp_supported_dtype = lambda: [torch.bfloat16]
    claims = {}
    with Everywhere(), tempfile.TemporaryDirectory() as folder:
        for many_items, way in ((10_000, "all rows"), (1, "the rows that are read")):
            files, _, epochs = trained(PROCESSOR, many_items=many_items)
            files_there, here, _ = trained(DEVICE, many_items=many_items)
            claims[f"the same, stepping over {way}"] = files_there == files
            claims[f"served by the processor, stepping over {way}"] = here
        for before, after, name in ((PROCESSOR, DEVICE, "there"), (DEVICE, PROCESSOR, "back")):
            files_after, _, further = went_on(before, after, Path(folder))
            claims[f"gone on {name}"] = files_after == files and further == epochs - KILLED > 0
        with mock.patch.object(Trainer, "_features", lambda trainer, side, rows: side[rows]):  # not moved
            try:
                claims["what stays behind is found"] = not trained(DEVICE, many_items=1)
            except RuntimeError as error:
                claims["what stays behind is found"] = "two devices" in str(error)
    print(json.dumps(claims))


if __name__ == "__main__":
    main()
