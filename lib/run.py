"""Execute the seven notebooks on a profile of parameters: ``python -m lib.run PROFILE``.

A run owns ``runs/<profile>/``: the executed notebooks, the tables and the store that they make, ``report/index.html``
and ``manifest.json``.  A process may be killed at any instant.  So a notebook counts as run once the manifest lists it,
which is written last: after the executed notebook, and after ``.states/<notebook>``, a copy of all tables and of the
store as the notebook left them.  Going on from a notebook starts from that copy, and gives what a whole run gives.

Every process that a run starts bears ``WORKBOOK_RUN`` in its environment.  That tells whose memory to count, and what
to stop when a run ends early or when an earlier one was killed.
"""

import argparse
import errno
import fcntl
import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import nbformat
import papermill
import psutil
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import LocalHandler, papermill_io

from lib import off_policy, params, report, reproducible
from lib.data import simulator
from lib.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[1]
MEBIBYTE = 2**20
MANIFEST = "manifest.json"
STATES = ".states"
NOTES = "notes.json"  # of notebooks for later ones, so that it tells of a folder that they made
NOTE = ".progress"  # a line that a long step may write for whoever watches
IMMUTABLE = {".parquet", ".csv", ".safetensors", ".npz"}  # written aside and renamed, so a hard link is a copy
TRACEBACK_LINES = 16
FOR_ITEMS = ("USER_PERSONALIZATION", "POPULAR_ITEMS", "PERSONALIZED_RANKING", "RELATED_ITEMS")
SOLUTIONS = (  # notebook, parameter, types of recipes that will do
    ("05_evaluate", "baseline", ("USER_PERSONALIZATION", "POPULAR_ITEMS")),
    ("06_deploy", "ranking", ("PERSONALIZED_RANKING",)),
    ("06_deploy", "similar", ("RELATED_ITEMS",)),
)


class Refused(Exception):
    """Nothing was run: what was asked for does not fit what is there."""


class Failed(Exception):
    """A notebook did not come to its end."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: a checked profile and the notebooks it is for.

    again: the command that runs it from a notebook on, but for the notebook's number at its end.
    """

    profile: params.Profile
    notebooks: dict[str, Path]
    declarations: dict[str, dict[str, params.Value]]
    again: str = "make run FROM="

    def changes(self, stem: str) -> dict[str, params.Value]:
        """The parameters whose value is not the notebook's own; the others need no injecting."""
        own = self.declarations[stem]
        return {name: value for name, value in self.profile.parameters[stem].items() if value != own[name]}


def plan(profile: str, *, root: Path = ROOT, data: Path | None = None, overrides: list[str] | None = None) -> Plan:
    """Read and check everything that can be checked before a notebook runs.

    profile: the name of a file in ``params/``, or a path to a YAML file.  data: a folder with raw data, which goes
    before the profile's own.  Raises ValueError or FileNotFoundError.
    """
    paths = params.notebooks(root / "notebooks")
    declarations = {stem: params.declared(path) for stem, path in paths.items()}
    is_path = "/" in profile or (profile.endswith((".yaml", ".yml")) and Path(profile).is_file())
    named = root / "params" / f"{profile.removesuffix('.yaml')}.yaml"
    checked = params.read(Path(profile) if is_path else named, declarations)
    for assignment in overrides or []:
        checked = params.override(checked, assignment, declarations)
    reading = [stem for stem in paths if params.FOLDER in declarations[stem]]
    if data is not None and not reading:
        raise ValueError(f"--data {data}: no notebook has a parameter {params.FOLDER!r} to take it")
    parameters = dict(checked.parameters)
    for stem in reading:
        own = parameters[stem][params.FOLDER]
        folder = data.resolve() if data is not None else (root / own).resolve() if own else None
        if folder is not None:
            if not folder.is_dir():
                raise FileNotFoundError(f"{folder}: no such folder of raw data; {_nearest(folder)}")
            parameters[stem] = {**parameters[stem], params.FOLDER: str(folder)}
    _check_values(parameters)
    return Plan(replace(checked, parameters=parameters), paths, declarations)


def run(plan: Plan, *, runs: Path, first: str | None = None, output: str | None = None, command: str = "") -> Path:
    """Execute the notebooks of a plan in order and return the run's folder, ``runs/<profile>``.

    first: the notebook to go on from; those before it must have been run with the same parameters.  output: a further
    place for notebooks, report and manifest, a folder or any location that papermill can write to (s3://, gs://, …).
    Raises Refused where nothing was run, Failed where a notebook failed, OSError where a file could not be written.
    """
    runs = runs.resolve()
    folder = runs / plan.profile.name
    stems = list(plan.notebooks)
    earlier = stems[: stems.index(first)] if first else []
    if runs.is_file():
        raise Refused(f"{_shown(runs)} is a file, but runs are kept in a folder; choose one with --runs")
    runs.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        records = _records(folder, plan, earlier)
        _stop(started(folder))
        _check_unused(folder)
        manifest = {**_circumstances(plan, command), "state": "running", "notebooks": records}
        _write_manifest(folder, manifest)
        _prepare(folder, earlier)
        _publish(folder, output, [MANIFEST])
        progress = _Progress(sys.stdout, width=max(map(len, stems)), note=folder / NOTE)
        environment = {
            **reproducible.ENVIRONMENT,
            "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this interpreter, whatever the user's home holds
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # the debugger's warning would stand in a notebook's output
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "WORKBOOK_PROGRESS": str(folder / NOTE),
            "WORKBOOK_RUN": str(folder),
            "WORKBOOK_RUNS": str(runs),
        }
        try:
            with _environment(environment):
                for stem in stems[len(earlier) :]:
                    records[stem] = _execute(plan, stem, folder, progress)
                    _write_manifest(folder, manifest)
                    _publish(folder, output, [f"notebooks/{stem}.ipynb"])
        except BaseException as error:
            manifest["state"] = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
            with suppress(OSError, Failed):  # a full disk: the first error says so already
                _finish(folder, manifest, output)
            raise
        finally:
            progress.close()
            _stop(started(folder))
        manifest["state"] = "complete"
        _finish(folder, manifest, output)
    return folder


def started(folder: Path) -> list[psutil.Process]:
    """The processes that runs of a folder started and that are still there: kernels, workers, the service."""
    above = {process.pid for process in psutil.Process().parents()} | {os.getpid()}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in above and process.environ().get("WORKBOOK_RUN") == str(folder):
                found.append(process)
        except (psutil.Error, OSError):  # it ended meanwhile, or is another user's
            continue
    return found


def reproducible_copy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove from an executed notebook, in place, what differs from run to run: times, paths and drawn ids."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = "injected-parameters"
    return notebook


def store_outputs(folder: Path, plan: Plan) -> None:
    """Make a run's executed notebooks the stored ones; cells tagged ``timings`` keep no output: it would differ."""
    for stem, source in plan.notebooks.items():
        notebook = nbformat.read(folder / "notebooks" / f"{stem}.ipynb", as_version=4)
        for cell in notebook.cells:
            if "timings" in cell.metadata.get("tags", []):
                cell.outputs = []
        _write(source, nbformat.writes(notebook) + "\n")


def _check_values(parameters: Mapping[str, Mapping[str, params.Value]]) -> None:
    """That the notebooks can use the values, as far as that is known without data.  Raises ValueError."""
    for stem, values in parameters.items():
        if not 0 <= values.get("seed", 0) < 2**32:
            raise ValueError(f"{stem}.seed is {values['seed']}; expected 0 to {2**32 - 1}")
    if "03_train" not in parameters:
        return
    later = parameters["05_evaluate"]
    if not 0 < later["temporal_share"] < 1:
        raise ValueError(f"05_evaluate.temporal_share is {later['temporal_share']}; expected more than 0, less than 1")
    able = [name for name, recipe in RECIPES.items() if recipe.recipe_type in FOR_ITEMS]
    for name in later["temporal_recipes"]:
        if name not in able:
            raise ValueError(
                f"05_evaluate.temporal_recipes has {name!r}, which is no recipe that chooses items; there are "
                f"{', '.join(able)}"
            )
    trained = [*parameters["03_train"]["recipes"], parameters["03_train"]["update_recipe"]]
    made = {"tuned": parameters["04_tune"]["recipe"]} | {recipe.removeprefix("aws-"): recipe for recipe in trained}
    kinds = {solution: RECIPES[recipe] for solution, recipe in made.items() if recipe in RECIPES}
    for stem, name, types in SOLUTIONS:
        _check_solution(parameters, stem, name, [each for each, kind in kinds.items() if kind.recipe_type in types])
    if parameters["01_prepare_data"]["source"] == "simulated":
        _check_solution(parameters, "07_query", "explorer", [each for each, kind in kinds.items() if kind.explores])
        _check_simulation(parameters)


def _check_solution(
    parameters: Mapping[str, Mapping[str, params.Value]], stem: str, name: str, able: Sequence[str]
) -> None:
    """That a parameter names one of the solutions that can do what its notebook asks of it."""
    if parameters[stem][name] not in able:
        raise ValueError(
            f"{stem}.{name} is {parameters[stem][name]!r}, but of the solutions of 03_train and 04_tune these will do: "
            f"{', '.join(able) or 'none'}; name one of them, or add a recipe that will do to 03_train.recipes"
        )


def _check_simulation(parameters: Mapping[str, Mapping[str, params.Value]]) -> None:
    """That a site of these sizes can be simulated, and the weights be compared at which its readers are shown lists."""
    sizes = [name for name in inspect.signature(simulator.simulate).parameters if name not in ("folder", "seed")]
    for name in parameters["01_prepare_data"]["simulation"]:
        if name not in sizes:
            raise ValueError(f"01_prepare_data.simulation has {name!r}; expected {', '.join(sizes)}")
    weights = parameters["07_query"]["weights"]
    for name in ("weights", "other_weights"):
        for weight in parameters["07_query"][name]:
            if not re.fullmatch(r"0|1|0?\.\d+|[01]\.0*", weight):
                raise ValueError(f"07_query.{name} has {weight!r}; expected numbers from 0 to 1")
    if not weights or not 0 < float(weights[-1]) <= off_policy.MOST:
        raise ValueError(
            f"07_query.weights is {weights}; expected a last one above 0 and up to {off_policy.MOST}, for its lists "
            "tell what other weights would bring"
        )


def _execute(plan: Plan, stem: str, folder: Path, progress: "_Progress") -> dict[str, object]:
    """Execute one notebook, keep it and the state it leaves, and return its record in the manifest."""
    source = plan.notebooks[stem]
    running, failed, done = (folder / "notebooks" / f"{stem}{end}.ipynb" for end in (".running", ".failed", ""))
    progress.notebook(stem, nbformat.read(source, as_version=4))
    begun = time.monotonic()
    with _watched(folder, progress) as watch:
        try:
            papermill.execute_notebook(
                str(source).replace("{", "{{").replace("}", "}}"),
                str(running).replace("{", "{{").replace("}", "}}"),
                plan.changes(stem),
                kernel_name="python3",
                cwd=source.parent,
                progress_bar=False,
                record_timing=False,
                coalesce_streams=True,
                extra_arguments=["--log-level=CRITICAL"],  # the kernel's own remarks, not the notebook's
                on_cell_start=progress.cell,
            )
        except PapermillExecutionError as error:
            running.replace(failed)
            raise Failed(_failure(stem, progress.place, error, failed, plan.again)) from None
        except (DeadKernelError, RuntimeError) as error:
            running.replace(failed)
            raise Failed(
                f"{stem} failed in {progress.place}: {error or 'the kernel died'}. Its processes had taken "
                f"{watch.peak / MEBIBYTE:,.0f} MiB, and {psutil.virtual_memory().available / MEBIBYTE:,.0f} MiB are "
                f"free now.\n{_go_on(stem, failed, plan.again)}"
            ) from None
    seconds = time.monotonic() - begun
    notebook = reproducible_copy(nbformat.read(running, as_version=4))
    _write(done, nbformat.writes(notebook))
    running.unlink()
    _keep_state(folder, stem)
    progress.done(seconds, watch.peak)
    return {
        "parameters": plan.profile.parameters[stem],
        "source_sha256": _sha256(source),
        "sha256": _sha256(done),
        "seconds": round(seconds, 2),
        "peak_memory_mib": round(watch.peak / MEBIBYTE),
    }


def _failure(stem: str, place: str, error: PapermillExecutionError, notebook: Path, again: str) -> str:
    """What a reader needs to mend a cell: which one, its first lines, the end of the traceback, and how to go on."""
    source = [f"    {line}" for line in error.source.strip().splitlines()[:3]]
    trace = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", "\n".join(error.traceback)).splitlines()[1:]  # a line of dashes first
    shown = trace if len(trace) <= TRACEBACK_LINES else ["…", *trace[-TRACEBACK_LINES:]]
    lines = [f"{stem} failed in {place}, In [{error.exec_count}]:", *source, "", *shown, ""]
    return "\n".join([*lines, *filter(None, [_room(error.evalue, notebook)]), _go_on(stem, notebook, again)])


def _go_on(stem: str, notebook: Path, again: str) -> str:
    return (
        f"The notebook as far as it came: {_shown(notebook)}\n"
        f"When the cause is mended, go on from there: {again}{stem[:2]}"
    )


def _records(folder: Path, plan: Plan, earlier: list[str]) -> dict[str, dict[str, object]]:
    """The manifest's records of the notebooks before the first to be run.  Raises Refused if they cannot be built on.

    The folder of raw data, unless it is given anew, is the one that was read.
    """
    known = {}
    if folder.is_dir() and any(folder.iterdir()):
        try:
            known = json.loads((folder / MANIFEST).read_text())["notebooks"]
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            if not (folder / NOTES).is_file():
                raise Refused(
                    f"{_shown(folder)} has no {MANIFEST} of a run and no {NOTES} of notebooks, so neither made it, and "
                    "a run would empty it; move it elsewhere, or choose another folder with --runs"
                ) from None
    for stem in earlier:
        executed = folder / "notebooks" / f"{stem}.ipynb"
        if stem not in known or not executed.is_file() or _sha256(executed) != known[stem]["sha256"]:
            raise Refused(
                f"{stem} has not been run in {_shown(folder)}, and what comes after builds on it; start there: "
                f"{plan.again}{stem[:2]}"
            )
        before, now = known[stem]["parameters"], plan.profile.parameters[stem]
        if not now.get(params.FOLDER, True):
            now[params.FOLDER] = before.get(params.FOLDER, "")
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                raise Refused(
                    f"{stem}.{name} is {now.get(name)!r}, but {_shown(folder)} was run with {before.get(name)!r}; "
                    f"start there: {plan.again}{stem[:2]}"
                )
        if known[stem]["source_sha256"] != _sha256(plan.notebooks[stem]):
            print(f"note: {stem} has been edited since it was run; its results are the old ones", file=sys.stderr)
    return {stem: known[stem] for stem in earlier}


def _prepare(folder: Path, earlier: list[str]) -> None:
    """Bring the folder to where the earlier notebooks left it, once the manifest lists no others; empty without any."""
    keep = {f"{stem}.ipynb" for stem in earlier}
    for path in folder.iterdir():
        if path.name not in (MANIFEST, STATES, "notebooks"):
            _remove(path)
    for path in [*(folder / "notebooks").glob("*"), *(folder / STATES).glob("*")]:
        if path.name not in keep and path.name not in earlier:
            _remove(path)
    (folder / "notebooks").mkdir(exist_ok=True)
    if earlier:
        _copy(folder / STATES / earlier[-1], folder)


def _keep_state(folder: Path, stem: str) -> None:
    """Keep a copy of everything the notebooks so far have made, for a run that goes on from the next one."""
    aside, state = folder / STATES / f"{stem}.partial", folder / STATES / stem
    _remove(aside)
    aside.mkdir(parents=True)
    for path in folder.iterdir():
        if path.name not in (MANIFEST, STATES, "notebooks", "report", NOTE):
            _copy(path, aside / path.name)
    _remove(state)
    aside.replace(state)


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a tree; a database as of now even where a process has it open, a file never changed by a link."""
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for path in source.iterdir():
            _copy(path, target / path.name)
    elif source.name.endswith(("-wal", "-shm", ".sock")):
        return  # a database's own, and part of its copy
    elif _is_database(source):
        with closing(sqlite3.connect(source)) as database, closing(sqlite3.connect(target)) as copy:
            database.backup(copy)
    elif source.suffix in IMMUTABLE:
        target.hardlink_to(source)
    else:
        shutil.copy2(source, target)


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _finish(folder: Path, manifest: dict[str, object], output: str | None) -> None:
    """Write the report and the manifest with everything that is known at the end."""
    inputs = folder / "inputs.json"
    manifest["inputs"] = json.loads(inputs.read_text()) if inputs.is_file() else {}
    manifest["outputs"] = {
        path.relative_to(folder).as_posix(): _sha256(path) for path in outputs(folder) if not _is_database(path)
    }
    records = manifest["notebooks"].values()
    manifest["seconds"] = round(sum(record["seconds"] for record in records), 2)
    manifest["peak_memory_mib"] = max((record["peak_memory_mib"] for record in records), default=0)
    manifest["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    (folder / NOTE).unlink(missing_ok=True)
    _write(folder / "report" / "index.html", report.page(folder, manifest))
    _write_manifest(folder, manifest)
    _publish(folder, output, ["report/index.html", MANIFEST])


def outputs(folder: Path) -> list[Path]:
    """The files that the notebooks of a run made, the executed notebooks included, sorted by path."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.relative_to(folder).parts[0] not in (MANIFEST, STATES, "report", NOTE)
        and not path.name.endswith(("-wal", "-shm", ".running.ipynb"))
    )


def _circumstances(plan: Plan, command: str) -> dict[str, object]:
    """What a manifest says before anything ran, and what a repetition needs."""
    seeds = {stem: values["seed"] for stem, values in plan.profile.parameters.items() if "seed" in values}
    return {
        "profile": plan.profile.name,
        "description": plan.profile.description,
        "command": command,
        "commit": _commit(),
        "seeds": seeds,
        "environment": reproducible.ENVIRONMENT,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": dict(sorted((each.name, each.version) for each in importlib.metadata.distributions())),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """The commit that the code was at, with ``+`` where files differ from it; None outside a clone."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}+" if dirty else head


def _publish(folder: Path, output: str | None, names: list[str]) -> None:
    """Copy files of the run to the further output location, through papermill's handler for it."""
    for name in names if output is not None else []:
        target = f"{output.rstrip('/')}/{name}"
        try:
            if isinstance(papermill_io.get_handler(target), LocalHandler):
                Path(target).parent.mkdir(parents=True, exist_ok=True)
            papermill_io.write((folder / name).read_text(), target, [".ipynb", ".json", ".html"])
        except Exception as error:  # each handler has its own
            raise Failed(f"--output {output}: could not write {name}: {type(error).__name__}: {error}") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the one right to run into a folder.  The lock ends with the process, however that ends."""
    with (folder.parent / f".{folder.name}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Refused(
                f"{_shown(folder)}: process {lock.read()} is running this profile; wait for it, or stop it first"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _check_unused(folder: Path) -> None:
    """Refuse to work beneath a service or a worker that somebody else started on the run's store."""
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            store = Path(process.cwd(), command[command.index("--store") + 1]).resolve()
        except (psutil.Error, OSError, ValueError, IndexError):  # gone, another user's, or without a store
            continue
        if store.is_relative_to(folder) and any(name in command for name in ("lib.service", "lib.jobs")):
            raise Refused(f"{_shown(store)} is in use by process {process.pid}, {' '.join(command)!r}; stop it first")


def _stop(processes: list[psutil.Process]) -> None:
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            try:
                ask(process)
            except psutil.NoSuchProcess:
                continue
        _, processes = psutil.wait_procs(processes, timeout=5)


@dataclass
class _Watch:
    """The most memory, in bytes, that a run's processes held at once: the sum of their resident sets."""

    peak: int = 0


@contextmanager
def _watched(folder: Path, progress: "_Progress") -> Iterator[_Watch]:
    """Look twice a second at the memory of the run's processes, and redraw the progress line."""
    watch, ended = _Watch(), threading.Event()

    def look() -> None:
        while not ended.wait(0.5):
            memory = 0
            for process in started(folder):
                try:
                    memory += process.memory_info().rss
                except psutil.Error:
                    continue
            watch.peak = max(watch.peak, memory)
            progress.tick()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()


class _Progress:
    """A line per notebook and, below it, one for the cell that runs: redrawn on a terminal, printed once elsewhere."""

    def __init__(self, stream: TextIO, width: int, note: Path, now: Callable[[], float] = time.monotonic):
        self.stream, self.width, self.note, self.now = stream, width, note, now
        self.live = stream.isatty()
        self.stem, self.place, self.cells = "", "", {}

    def notebook(self, stem: str, notebook: nbformat.NotebookNode) -> None:
        self.stem, self.place, self.cells, heading = stem, "the start of the kernel", {}, ""
        code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
        for cell in notebook.cells:
            titles = re.findall(r"^#+ +(.+)$", cell.source, flags=re.MULTILINE) if cell.cell_type == "markdown" else []
            heading = titles[-1] if titles else heading
            if cell in code:
                self.cells[cell.id] = f"cell {len(self.cells) + 1}/{len(code)}, {heading}"
        self.begun = self.cell_begun = self.now()
        self.tick()

    def cell(self, cell: nbformat.NotebookNode, cell_index: int) -> None:
        if cell.id not in self.cells:  # prose, or what papermill injected
            return
        self.place, self.cell_begun = self.cells[cell.id], self.now()
        self.note.unlink(missing_ok=True)
        if self.live:
            self.tick()
        else:
            print(f"{self.stem:{self.width}}  {self.place}", file=self.stream, flush=True)

    def tick(self) -> None:
        if self.live:
            line = f"{self.stem:{self.width}}  {_clock(self.now() - self.begun)}  {self.place}"
            if self.now() - self.cell_begun >= 2:
                line += f"  {_clock(self.now() - self.cell_begun)}"
            note = self.note.read_text(errors="replace").split() if self.note.is_file() else []
            line = f"{line}  {' '.join(note)}"[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[K{line}", end="", file=self.stream, flush=True)

    def done(self, seconds: float, peak: int) -> None:
        self.close()
        count = f"{len(self.cells)} cells"
        print(
            f"{self.stem:{self.width}}  {_clock(seconds)}  {count:>9}  {peak / MEBIBYTE:6,.0f} MiB",
            file=self.stream,
            flush=True,
        )

    def close(self) -> None:
        if self.live:
            print("\r\x1b[K", end="", file=self.stream, flush=True)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _write_manifest(folder: Path, manifest: dict[str, object]) -> None:
    _write(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    """Write a file aside and rename it into place, so that it is read whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:2}:{int(seconds) % 60:02}"


def _shown(path: Path) -> str:
    """A path as a reader would type it."""
    return os.path.relpath(path) if path.absolute().is_relative_to(Path.cwd()) else str(path)


def _nearest(path: Path) -> str:
    parent = next(parent for parent in path.parents if parent.is_dir())
    names = sorted(each.name for each in parent.iterdir() if each.is_dir() and not each.name.startswith("."))
    return f"{parent} has {', '.join(names[:12]) or 'no folders'}"


def _room(said: str, path: Path) -> str:
    """What would do where an error says that a file found no room; nothing where it says something else."""
    if os.strerror(errno.EFBIG) in said:
        return f"A file grew beyond what is allowed here ({said}); allow larger ones, as by `ulimit -f unlimited`."
    if not any(os.strerror(number) in said for number in (errno.ENOSPC, errno.EDQUOT)):
        return ""
    there = next(parent for parent in path.absolute().parents if parent.is_dir())
    return (
        f"No space is left in {_shown(there)}: {shutil.disk_usage(there).free / MEBIBYTE:,.0f} MiB free; free some, or "
        "choose another folder with --runs."
    )


def _again(options: argparse.Namespace, runs: Path) -> str:
    """The command that was given, but for the notebook to go on from: by make, if that takes all that was asked.

    runs: where runs are kept if nobody says otherwise.
    """
    asked = {
        "--data": options.data,
        "--runs": options.runs if options.runs != runs else None,
        "--output": options.output,
    }
    given = [word for name, value in asked.items() if value for word in (name, str(value))]
    given += [word for assignment in options.overrides or [] for word in ("-p", assignment)]
    given += ["--refresh"] * options.refresh
    if given[2 * bool(options.data) :]:
        return f"{shlex.join(['python', '-m', 'lib.run', options.profile, *given])} --from "
    data = f"DATA={shlex.quote(str(options.data))} " if options.data else ""
    return f"make run PROFILE={options.profile} {data}FROM="


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run from the command line; returns 0, 1 where a notebook failed, 2 where nothing was run, 130 if interrupted."""
    parser = argparse.ArgumentParser(prog="python -m lib.run", description=__doc__.partition("\n")[0])
    parser.add_argument("profile", help="a name in params/, or a path to a YAML file")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="read raw data from this folder")
    parser.add_argument("--from", dest="first", metavar="04", help="go on from this notebook")
    default = Path(os.environ.get("WORKBOOK_RUNS", root / "runs"))
    parser.add_argument("--runs", type=Path, metavar="FOLDER", default=default, help="where runs are kept (runs/)")
    parser.add_argument("--output", metavar="LOCATION", help="copy notebooks and report there too: a folder, s3://…")
    parser.add_argument(
        "-p", dest="overrides", action="append", metavar="NOTEBOOK.NAME=VALUE", help="change a parameter of the profile"
    )
    parser.add_argument("--refresh", action="store_true", help="make what was executed the notebooks' stored outputs")
    options = parser.parse_args(arguments)
    try:
        planned = plan(options.profile, root=root, data=options.data, overrides=options.overrides)
        planned = replace(planned, again=_again(options, default))
        first = params.find(options.first, planned.notebooks) if options.first else None
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    command = " ".join(["python -m lib.run", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        folder = run(planned, runs=options.runs, first=first, output=options.output, command=command)
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {_room(str(error), options.runs / planned.profile.name) or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what is complete is kept, and FROM= goes on after it", file=sys.stderr)
        return 130
    if options.refresh:
        store_outputs(folder, planned)
    print(f"report: {_shown(folder / 'report' / 'index.html')}")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
