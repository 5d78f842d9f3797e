"""Search a recipe's hyperparameters on validation users, and remember every trial.

The users that the final evaluation is made on (``splits.split_users`` of the same seed) are set aside first.  What is
left is split once more: trials are fitted on nine users of ten and compared on the tenth by Personalize's NDCG@25.
An optimization objective has no say in it: its tilt is added to the logits of whatever model is best.

The study lies in ``storage``: ``study.journal`` is Optuna's own (any Optuna tool can open it), ``trials.parquet`` the
table of what was tried.  A trial's parameters depend on the seed and on the trials that ended before it, so a search
that is killed goes on to the same end.
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from lib import reproducible
from lib.data.datasets import Datasets
from lib.data.splits import Split, split_users
from lib.evaluation import NDCG, evaluate, user_metrics
from lib.recipes.recipe import HyperParameter, Progress, Recipe, Value
from lib.training import STEPS, without_tested, written

if TYPE_CHECKING:
    import optuna

NAME = "tuning"
JOURNAL = "study.journal"
TRIALS = "trials.parquet"
VALIDATION = "validation"  # a measure of Progress whose name starts so is better when higher; trials are pruned by it
ERROR = "error"  # user attribute of a trial that its parameters made fail; a trial that was interrupted has none

KINDS = {  # member of algorithmHyperParameterRanges -> the type of the hyperparameters it is for
    "integerHyperParameterRanges": (int,),
    "continuousHyperParameterRanges": (float,),
    "categoricalHyperParameterRanges": (bool, str),
}


@dataclass(frozen=True, slots=True)
class Range:
    """Where to search: inclusive bounds of a number, or the values to choose from."""

    low: int | float | None = None
    high: int | float | None = None
    choices: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Tuned:
    """parameters: every hyperparameter's value in the best trial.  trials: as ``trials`` gives it."""

    parameters: dict[str, Value]
    trials: pd.DataFrame


def search_space(recipe: Recipe, ranges: Mapping[str, Sequence[Mapping[str, object]]] | None) -> dict[str, Range]:
    """Hyperparameter -> where to search, from the wire's ``algorithmHyperParameterRanges``.

    Without ranges, all that the recipe lets tune, each over its whole range.  Raises ValueError for a name that cannot
    be tuned or comes twice, a range of the wrong type, upside down or outside the recipe's.
    """
    tunable = {parameter.name: parameter for parameter in recipe.hyperparameters if parameter.tunable}
    space: dict[str, Range] = {}
    for member, entries in (ranges or {}).items():
        if member not in KINDS:
            raise ValueError(f"{member!r} is not one of {', '.join(KINDS)}")
        for entry in entries or ():
            given = str(entry.get("name", ""))
            name = given.rpartition(".")[2]  # DescribeSolution has been seen to answer training.bptt
            if name not in tunable:
                raise ValueError(
                    f"Provide a hyperparameter that is used in the algorithm: arn:aws:personalize:::algorithm/"
                    f"{recipe.algorithm}; {given!r} cannot be tuned, only {', '.join(tunable) or 'none'} can"
                )
            if name in space:
                raise ValueError(f"{name} has two ranges; give one")
            space[name] = _range(tunable[name], member, entry)
    if not space:
        space = {name: _whole(parameter) for name, parameter in tunable.items()}
    if not space:
        raise ValueError(f"{recipe.name} has no hyperparameter to tune; create the solution without performHPO")
    return space


def tune(
    recipe: Recipe,
    datasets: Datasets,
    fixed: Mapping[str, Value],
    ranges: Mapping[str, Sequence[Mapping[str, object]]] | None,
    *,
    max_jobs: int,
    parallel_jobs: int,
    seed: int,
    storage: Path,
    progress: Callable[[Progress], None] = lambda step: None,
) -> Tuned:
    """Try up to ``max_jobs`` settings, those of an earlier call on the same storage included, and give the best.

    fixed: every hyperparameter's value; those with a range start the search.  ranges: as ``search_space`` takes them.
    parallel_jobs: trials at a time, each in its own process; the result depends on it, but not on which ends first.
    progress hears ``STEPS`` steps a trial; an exception it raises ends the search, and the next call goes on.
    Trials that fall behind the median of the ended ones are pruned, if the recipe measures a validation score.
    Raises ValueError for ranges that make no sense, or if no trial came to an end.
    """
    from optuna.trial import TrialState

    space = search_space(recipe, ranges)
    if max_jobs < 1 or parallel_jobs < 1:
        raise ValueError(f"{max_jobs} jobs, {parallel_jobs} at a time: expected at least 1 of each")
    split = split_users(without_tested(recipe, datasets, seed=seed).interactions, seed=seed)
    trying = _Trying(recipe, datasets, split, seed, storage)
    storage.mkdir(parents=True, exist_ok=True)
    _mend(storage / JOURNAL)
    study = _study(storage)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)  # it was interrupted, and will be tried again
    processes = ProcessPoolExecutor(parallel_jobs, mp_context=get_context("spawn"), initializer=_end_with_parent)
    with processes as pool:  # they start when first used
        while (ended := len(_ended(study))) < max_jobs:
            places = range(ended, min(ended + parallel_jobs, max_jobs))
            batch = [_ask(study, space, fixed, place, seed) for place in places]
            given = [{**fixed, **trial.params} for trial in batch]
            if len(batch) == 1:
                outcomes = [trying(batch[0], given[0], _listener(progress, ended, max_jobs))]
            else:
                outcomes = [*pool.map(_try_elsewhere, [trying] * len(batch), [t.number for t in batch], given)]
            for trial, outcome in zip(batch, outcomes):
                if outcome.error is not None:
                    trial.set_user_attr(ERROR, outcome.error)
                study.tell(trial, outcome.value, state=TrialState[outcome.state])
            _keep(study, storage)
            progress(Progress(step=len(_ended(study)) * STEPS, steps=max_jobs * STEPS, measures=_best_so_far(study)))
    table = _keep(study, storage)
    if not (table["state"] == "COMPLETE").any():
        errors = [trial.user_attrs[ERROR] for trial in _ended(study) if ERROR in trial.user_attrs]
        raise ValueError(f"none of {len(table)} trials came to an end; the last one said: {errors[-1]}")
    best = max(_complete(study), key=lambda trial: (trial.value, -trial.number))
    return Tuned({**fixed, **best.params}, table)


def load(storage: Path) -> "optuna.Study":
    """The study in a folder, for looking at; nothing is written.  Raises FileNotFoundError where there is none."""
    if not (storage / JOURNAL).exists():
        raise FileNotFoundError(f"no study in {storage}; tune first")
    return _study(storage)


def trials(study: "optuna.Study") -> pd.DataFrame:
    """One row a trial that ended: number, state, value (validation NDCG@25), steps, error, then its parameters."""
    rows = [
        {
            "number": place,
            "state": trial.state.name,
            "value": trial.value if trial.state.name == "COMPLETE" else float("nan"),
            "steps": len(trial.intermediate_values),
            "error": trial.user_attrs.get(ERROR, ""),
            **trial.params,
        }
        for place, trial in enumerate(_ended(study))
    ]
    return pd.DataFrame(rows)


def importances(study: "optuna.Study", *, seed: int) -> dict[str, float]:
    """How much of the variance of the value each hyperparameter explains, greatest first; they sum to 1.

    Empty with fewer than two different values.  Source: fANOVA, Hutter et al., ICML 2014.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    if len({trial.value for trial in _complete(study)}) < 2:
        return {}
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))


def _study(storage: Path) -> "optuna.Study":
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = optuna.storages.JournalStorage(JournalFileBackend(str(storage / JOURNAL)))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3)
    if journal.get_all_studies():
        return optuna.load_study(study_name=NAME, storage=journal, pruner=pruner)
    return optuna.create_study(study_name=NAME, storage=journal, direction="maximize", pruner=pruner)


@dataclass(frozen=True, slots=True)
class _Outcome:
    state: str
    value: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Trying:
    """What a trial needs besides its parameters."""

    recipe: Recipe
    datasets: Datasets
    split: Split
    seed: int
    storage: Path

    def __call__(
        self, trial: "optuna.Trial", parameters: Mapping[str, Value], progress: Callable[[Progress], None]
    ) -> _Outcome:
        import optuna

        reproducible.fix(self.seed)

        def listen(step: Progress) -> None:
            progress(step)
            score = next((value for name, value in step.measures.items() if name.startswith(VALIDATION)), None)
            if score is not None:
                trial.report(float(score), step.step)
                if trial.should_prune():
                    raise optuna.TrialPruned

        try:
            train = replace(self.datasets, interactions=self.split.train)
            model = self.recipe.fit(train, parameters, seed=self.seed, progress=listen)
        except optuna.TrialPruned:
            return _Outcome("PRUNED")
        except ValueError as error:
            return _Outcome("FAIL", error=str(error))
        table = evaluate(model, self.split, self.datasets, self.recipe.recipe_type)
        return _Outcome("COMPLETE", float(user_metrics(table)[NDCG].mean()))


def _end_with_parent() -> None:
    """Let this process end once the one that started it has, even if that was killed."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _try_elsewhere(trying: _Trying, number: int, parameters: Mapping[str, Value]) -> _Outcome:
    import optuna

    study = load(trying.storage)
    trial_id = next(trial._trial_id for trial in study.get_trials(deepcopy=False) if trial.number == number)
    return trying(optuna.Trial(study, trial_id), parameters, lambda step: None)


def _ask(
    study: "optuna.Study", space: Mapping[str, Range], fixed: Mapping[str, Value], place: int, seed: int
) -> "optuna.Trial":
    """The next trial: what ``fixed`` says first, then what is likely to be better than the trials that ended."""
    import optuna

    study.sampler = optuna.samplers.TPESampler(seed=seed + place, n_startup_trials=8)
    waiting = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
    if place == 0 and not waiting:
        study.enqueue_trial({name: _inside(fixed[name], part) for name, part in space.items()})
    return study.ask({name: _distribution(part) for name, part in space.items()})


def _distribution(part: Range) -> "optuna.distributions.BaseDistribution":
    from optuna import distributions

    if part.choices:
        return distributions.CategoricalDistribution(part.choices)
    kind = distributions.IntDistribution if isinstance(part.low, int) else distributions.FloatDistribution
    return kind(part.low, part.high)


def _inside(value: Value, part: Range) -> Value:
    """The nearest value of a range."""
    if part.choices:
        return value if value in part.choices else part.choices[0]
    return min(max(value, part.low), part.high)


def _range(parameter: HyperParameter, member: str, entry: Mapping[str, object]) -> Range:
    kind = type(parameter.default)
    if kind not in KINDS[member]:
        right = next(name for name, kinds in KINDS.items() if kind in kinds)
        raise ValueError(f"{parameter.name} is of type {kind.__name__}: give its range in {right}, not in {member}")
    if kind in (bool, str):
        choices = tuple(dict.fromkeys(parameter.parse(str(value)) for value in entry.get("values", ())))
        if not choices:
            raise ValueError(f"{parameter.name} has no values to choose from")
        return Range(choices=choices)
    low = parameter.parse(str(entry.get("minValue", parameter.low)))
    high = parameter.parse(str(entry.get("maxValue", parameter.high)))
    if low > high:
        raise ValueError(f"{parameter.name}: minValue {low} lies above maxValue {high}")
    return Range(low, high)


def _whole(parameter: HyperParameter) -> Range:
    kind = type(parameter.default)
    if kind is bool:
        return Range(choices=(True, False))
    return Range(choices=parameter.choices) if kind is str else Range(kind(parameter.low), kind(parameter.high))


def _ended(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """The trials that count, in the order they were asked for: all but the interrupted ones."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name in ("COMPLETE", "PRUNED") or ERROR in trial.user_attrs
    ]


def _complete(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    return [trial for trial in _ended(study) if trial.state.name == "COMPLETE"]


def _best_so_far(study: "optuna.Study") -> dict[str, float]:
    values = [trial.value for trial in _complete(study)]
    return {NDCG: max(values)} if values else {}


def _keep(study: "optuna.Study", storage: Path) -> pd.DataFrame:
    table = trials(study)
    with written(storage / TRIALS) as aside:
        table.to_parquet(aside, index=False)
    return table


def _listener(progress: Callable[[Progress], None], ended: int, max_jobs: int) -> Callable[[Progress], None]:
    def listen(step: Progress) -> None:
        within = STEPS * step.step // max(1, step.steps)
        progress(replace(step, step=ended * STEPS + within, steps=max_jobs * STEPS))

    return listen


def _mend(journal: Path) -> None:
    """Cut off the line that was being written when the machine stopped; Optuna reads whole lines only."""
    if not journal.exists():
        return
    whole = journal.read_bytes().rfind(b"\n") + 1
    if whole < journal.stat().st_size:
        os.truncate(journal, whole)
