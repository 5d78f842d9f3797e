"""A training under way, kept after each epoch in one file, so that one that was killed goes on from there.

What goes on gives the same bytes as what was never killed: weights, their average, the best so far, the optimiser's
moments and both generators are kept.  It may go on on another device, but then draws other chances there.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from safetensors.torch import load_file

from lib.recipes import files
from lib.recipes.networks import Trainer
from lib.recipes.recipe import Progress

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW knows of a parameter
BESIDE = ("step.", "chances.")  # what stays on the processor


def keep(
    path: Path,
    trainer: Trainer,
    best: Sequence[torch.Tensor],
    heard: Sequence[Progress],
    plan: Mapping[str, object],
) -> None:
    """Write the state of a training.  best: weights.  heard: what progress was told so far.  plan: what it trains."""
    arrays = {}
    for number, parameter in enumerate(trainer.network.parameters()):
        arrays[f"present.{number}"] = parameter.detach()
        arrays[f"average.{number}"] = trainer.average[number]
        arrays[f"best.{number}"] = best[number]
        for moment, value in trainer.optimiser.state.get(parameter, {}).items():
            arrays[f"{moment}.{number}"] = value
    arrays[f"chances.{_generator(trainer).device.type}"] = _generator(trainer).get_state()
    state = {
        "plan": plan,
        "steps": trainer.steps,
        "rng": trainer.rng.bit_generator.state,
        "heard": [[step.step, step.steps, dict(step.measures)] for step in heard],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(array.cpu().numpy()) for name, array in arrays.items()}
    files.replace(path, save(contiguous, {"state": json.dumps(state)}))


def resume(path: Path, trainer: Trainer, plan: Mapping[str, object]) -> tuple[list[torch.Tensor], list[Progress]]:
    """Put a trainer where ``keep`` found it; gives best and heard, both empty where there is nothing to go on from.

    What was kept of another plan, or cannot be read, is nothing to go on from: the training begins anew.
    """
    try:
        with safe_open(path, "pt") as kept:
            state = json.loads(kept.metadata()["state"])
        tensors = load_file(path)
    except (FileNotFoundError, SafetensorError):
        return [], []
    parameters = list(trainer.network.parameters())
    numbers = range(len(parameters))
    if state["plan"] != plan or any(
        f"present.{number}" not in tensors or tensors[f"present.{number}"].shape != parameters[number].shape
        for number in numbers
    ):
        return [], []
    chances = _generator(trainer)
    if f"chances.{chances.device.type}" in tensors:
        chances.set_state(tensors[f"chances.{chances.device.type}"])
    tensors = {name: value if name.startswith(BESIDE) else value.to(trainer.device) for name, value in tensors.items()}
    trainer.put_back([tensors[f"present.{number}"] for number in numbers])
    trainer.average = [tensors[f"average.{number}"] for number in numbers]
    for number, parameter in enumerate(parameters):
        known = {moment: tensors[f"{moment}.{number}"] for moment in MOMENTS if f"{moment}.{number}" in tensors}
        if known:
            trainer.optimiser.state[parameter].update(known)
    trainer.steps = state["steps"]
    trainer.rng.bit_generator.state = state["rng"]
    heard = [Progress(step=step, steps=steps, measures=measures) for step, steps, measures in state["heard"]]
    return [tensors[f"best.{number}"] for number in numbers], heard


def _generator(trainer: Trainer) -> torch.Generator:
    """What draws the dropout: each GPU has its own."""
    if trainer.device.type == "cuda":
        return torch.cuda.default_generators[torch.cuda.current_device()]
    return torch.default_generator
