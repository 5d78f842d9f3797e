"""A whole run twice.  nbval makes the first, into ``WORKBOOK_RUNS``; papermill the second, with other threads.

``make notebooks`` does both; the comparison alone needs a first run that is there.
"""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from lib import run

pytestmark = pytest.mark.whole_run

COMPUTED = {".parquet", ".csv", ".avsc", ".safetensors", ".npz"}
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@pytest.fixture(scope="module")
def first() -> Path:
    return Path(os.environ["WORKBOOK_RUNS"], "quickstart")


@pytest.fixture(scope="module")
def second(tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "lib.run", "quickstart", "--runs", str(runs)]
    subprocess.run(command, cwd=run.ROOT, env={**os.environ, **THREADS}, check=True)
    return runs / "quickstart"


def computed(folder: Path) -> dict[str, bytes]:
    """Tables, models and metrics of a run, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in run.outputs(folder)
        if path.suffix in COMPUTED or path.name == "metrics.json"
    }


def shown(notebook: Path) -> list[tuple[str, object]]:
    """What the cells of a notebook say and show, those aside that measure time."""
    cells = run.reproducible_copy(nbformat.read(notebook, as_version=4)).cells
    return [
        (cell.source, cell.get("outputs"))
        for cell in cells
        if "nbval-ignore-output" not in cell.metadata.get("tags", [])
    ]


def test_tables_and_models_are_the_same_bytes(first, second):
    before, after = computed(first), computed(second)
    assert before.keys() == after.keys()
    assert before
    assert [path for path in before if before[path] != after[path]] == []


@pytest.mark.parametrize("stem", sorted(path.stem for path in (run.ROOT / "notebooks").glob("*.ipynb")))
def test_a_notebook_shows_what_is_stored_in_it(second, stem):
    assert shown(second / "notebooks" / f"{stem}.ipynb") == shown(run.ROOT / "notebooks" / f"{stem}.ipynb")
