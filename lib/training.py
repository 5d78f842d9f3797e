"""Fit a recipe, measure it on users it has not seen, then let it learn from them too: a solution version's folder.

| file | what |
|---|---|
| ``model/`` | the served model, fitted on all users; there once everything else is |
| ``metrics.json`` | what GetSolutionMetrics answers: measured on the users that were held out |
| ``evaluation.parquet`` | one row a test user (``lib.evaluation``) |
| ``training_log.jsonl`` | one line a step: phase, step, steps and what was measured |

A killed training goes on from the last phase that ended, and within the first, the longest, from the last epoch of a
recipe that keeps a checkpoint: both it and the model of the split are kept until they are needed no more.  What a
recipe is to be chosen by is measured in the same way on users of the training part (``validate``).
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd

from lib.data.datasets import Datasets
from lib.data.splits import Split, split_newest, split_users
from lib.evaluation import (
    action_metrics,
    evaluate,
    evaluate_actions,
    evaluate_segments,
    segment_metrics,
    solution_metrics,
)
from lib.recipes.recipe import Model, Progress, Recipe, Value
from lib.reproducible import fix

MEASURED = (
    *("USER_PERSONALIZATION", "PERSONALIZED_RANKING", "RELATED_ITEMS", "POPULAR_ITEMS"),
    *("USER_SEGMENTATION", "PERSONALIZED_ACTIONS"),
)
CHECKPOINT = "checkpoint.safetensors"
SPLIT_MODEL = "split_model"
STEPS = 1000  # one scale for a whole training
PHASES = {"split": (0, 600), "evaluation": (600, 650), "served": (650, STEPS)}  # where each lies on it


def train(
    recipe: Recipe,
    datasets: Datasets,
    parameters: Mapping[str, Value],
    *,
    seed: int,
    folder: Path,
    progress: Callable[[Progress], None] = lambda step: None,
    event_weights: Mapping[str, float] | None = None,
    objective: str | None = None,
) -> dict[str, float]:
    """Train a FULL version into ``folder`` and give Personalize's metrics, rounded to 4 decimals.

    Nine users of ten train the model that is measured on the tenth; the served model goes on from it with all users.
    progress hears ``STEPS`` steps in all; an exception it raises ends the training, and the next call goes on.
    event_weights, objective: as in ``evaluation.evaluate``.
    Raises ValueError with cause and remedy for data no model can be made of.
    """
    if not (folder / "model").exists():
        measured = _measured(recipe, datasets, parameters, seed, folder, progress, event_weights, objective)
        _fit_served(recipe, datasets, parameters, seed, folder, progress, start=measured)
    _remove(folder / SPLIT_MODEL)
    return metrics_of(folder)


def validate(
    recipe: Recipe,
    datasets: Datasets,
    parameters: Mapping[str, Value],
    *,
    seed: int,
    folder: Path,
    progress: Callable[[Progress], None] = lambda step: None,
    event_weights: Mapping[str, float] | None = None,
    objective: str | None = None,
) -> dict[str, float]:
    """The metrics of ``train`` on validation users, to choose by; nothing is fitted to be served.

    What ``train`` measures on is set aside first.  Arguments, the folder and errors are as in ``train``.
    """
    if not (folder / "metrics.json").exists():
        known = without_tested(recipe, datasets, seed=seed)
        _measured(recipe, known, parameters, seed, folder, progress, event_weights, objective)
    _remove(folder / SPLIT_MODEL)
    return metrics_of(folder)


def without_tested(recipe: Recipe, datasets: Datasets, *, seed: int) -> Datasets:
    """The data without what the final evaluation of a recipe is made on."""
    return _training_part(recipe, datasets, _split(recipe, datasets, seed))


def _measured(
    recipe: Recipe,
    datasets: Datasets,
    parameters: Mapping[str, Value],
    seed: int,
    folder: Path,
    progress: Callable[[Progress], None],
    event_weights: Mapping[str, float] | None,
    objective: str | None,
) -> Model:
    """The model of a split, whose metrics and evaluation are then in the folder."""
    if recipe.recipe_type not in MEASURED:
        raise ValueError(f"{recipe.name} is of type {recipe.recipe_type}; only {', '.join(MEASURED)} can be evaluated")
    folder.mkdir(parents=True, exist_ok=True)
    split_model, evaluation = folder / SPLIT_MODEL, folder / "evaluation.parquet"
    split = _split(recipe, datasets, seed)
    if not split_model.exists():
        listen = _listener(folder, "split", progress)
        fix(seed)
        known = _training_part(recipe, datasets, split)
        how = {"checkpoint": folder / CHECKPOINT} if recipe.resumes else {}
        model = recipe.fit(known, parameters, seed=seed, progress=listen, **how)
        with written(split_model) as aside:
            model.save(aside)
        _remove(folder / CHECKPOINT)
    model = recipe.load(split_model)  # also when just fitted: a training that was killed gives the same bytes
    if not (folder / "metrics.json").exists():
        listen = _listener(folder, "evaluation", progress)
        if recipe.recipe_type == "USER_SEGMENTATION":
            table = evaluate_segments(model, split, datasets, recipe.queries, seed=seed)
            found = segment_metrics(table)
        elif recipe.recipe_type == "PERSONALIZED_ACTIONS":
            table = evaluate_actions(model, split, datasets)
            found = action_metrics(table, len(model.action_ids))
        elif split.held_out.empty:
            table, found = pd.DataFrame({"USER_ID": []}), {}
        else:
            table = evaluate(
                model, split, datasets, recipe.recipe_type, event_weights=event_weights, objective=objective
            )
            found = solution_metrics(table)
        with written(evaluation) as aside:
            table.to_parquet(aside, index=False)
        own = {} if recipe.measure is None else recipe.measure(model, datasets)
        _write_metrics(folder, {**{name: round(own[name], 4) for name in own}, **found})
        listen(Progress(step=1, steps=1, measures={}))
    return model


def _split(recipe: Recipe, datasets: Datasets, seed: int) -> Split:
    """Personalize's: of segments each user's newest fifth is held out, else a part of a tenth of the users.

    Recipes for actions are tested on action interactions; where nobody has two of them, nothing is held out, nor where
    nobody has two interactions and Items are enough.
    """
    if recipe.recipe_type == "USER_SEGMENTATION":
        return split_newest(datasets.interactions, share=0.2)
    if recipe.items_alone and not _testable(datasets.interactions):
        return Split(datasets.interactions, datasets.interactions[:0], datasets.interactions[:0])
    if recipe.recipe_type != "PERSONALIZED_ACTIONS":
        return split_users(datasets.interactions, seed=seed)
    done = datasets.action_interactions
    if done is None or not _testable(done):
        nothing = pd.DataFrame({name: [] for name in ("USER_ID", "ACTION_ID", "EVENT_TYPE", "TIMESTAMP")})
        return Split(done, nothing, nothing)
    return split_users(done, seed=seed)


def _testable(done: pd.DataFrame) -> bool:
    """Whether one of several users did something twice."""
    return done["USER_ID"].nunique() >= 2 and bool(done["USER_ID"].duplicated().any())


def _training_part(recipe: Recipe, datasets: Datasets, split: Split) -> Datasets:
    """The data without what the model is tested on."""
    if recipe.recipe_type != "PERSONALIZED_ACTIONS":
        return replace(datasets, interactions=split.train)
    tested = datasets.interactions["USER_ID"].isin(split.held_out["USER_ID"])
    return replace(datasets, interactions=datasets.interactions[~tested], action_interactions=split.train)


def update(
    recipe: Recipe,
    datasets: Datasets,
    parameters: Mapping[str, Value],
    *,
    seed: int,
    folder: Path,
    previous: Path,
    progress: Callable[[Progress], None] = lambda step: None,
) -> dict[str, float]:
    """Train an UPDATE version: go on from the served model in ``previous`` with what came since.

    Its metrics are those of the FULL training it goes back to: the users of that evaluation are learnt from by now.
    Raises ValueError for a recipe without updates.
    """
    if not recipe.updates:
        raise ValueError(f"{recipe.name} has no UPDATE training; train a FULL version")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model").exists():
        for name in ("evaluation.parquet", "metrics.json"):
            with written(folder / name) as aside:
                shutil.copyfile(previous / name, aside)
        start = recipe.load(previous / "model")
        _fit_served(recipe, datasets, parameters, seed, folder, progress, start=start, since=0)
    return metrics_of(folder)


def metrics_of(folder: Path) -> dict[str, float]:
    """The metrics of the version in a folder."""
    return json.loads((folder / "metrics.json").read_text())


def training_log(folder: Path) -> pd.DataFrame:
    """The version's steps so far: columns phase, step, steps, and one a measure."""
    path = folder / "training_log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return pd.DataFrame([json.loads(line) for line in lines], columns=None if lines else ["phase", "step", "steps"])


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A place to write a file or folder, which is on disk under ``path`` once the block has ended without an error."""
    aside = path.with_name(f".{path.name}.part")
    _remove(aside)
    try:
        yield aside
        for file in [aside, *aside.rglob("*")]:
            _sync(file)
        os.replace(aside, path)
        _sync(path.parent)
    finally:
        _remove(aside)


def _fit_served(
    recipe: Recipe,
    datasets: Datasets,
    parameters: Mapping[str, Value],
    seed: int,
    folder: Path,
    progress: Callable[[Progress], None],
    *,
    start: Model,
    since: int | None = None,
) -> None:
    listen = _listener(folder, "served", progress, since)
    fix(seed)  # again, so that a training that was killed goes on with the same chances
    model = recipe.fit(datasets, parameters, seed=seed, progress=listen, start=start)
    with written(folder / "model") as aside:
        model.save(aside)


def _listener(
    folder: Path, phase: str, progress: Callable[[Progress], None], since: int | None = None
) -> Callable[[Progress], None]:
    """Puts a phase's steps into the log, in place of what an earlier try left there, and on the scale of the whole.

    since: where on the scale the phase starts, if not at its usual place.
    """
    path = folder / "training_log.jsonl"
    done = list(PHASES)[: list(PHASES).index(phase)]
    kept = [line for line in path.read_text().splitlines() if _phase(line) in done] if path.exists() else []
    with written(path) as aside:
        aside.write_text("".join(f"{line}\n" for line in kept))
    low, high = PHASES[phase]
    low = low if since is None else since

    def listen(step: Progress) -> None:
        line = {"phase": phase, "step": step.step, "steps": step.steps}
        line |= {name: float(value) for name, value in step.measures.items()}
        with path.open("a") as log:
            log.write(json.dumps(line) + "\n")
        progress(replace(step, step=low + (high - low) * step.step // max(1, step.steps), steps=STEPS))

    return listen


def _phase(line: str) -> str | None:
    try:
        return json.loads(line)["phase"]
    except ValueError:  # the line that was being written when the training was killed
        return None


def _write_metrics(folder: Path, metrics: Mapping[str, float]) -> None:
    with written(folder / "metrics.json") as aside:
        aside.write_text(json.dumps(metrics, indent=1) + "\n")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
