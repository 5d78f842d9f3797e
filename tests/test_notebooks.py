"""The house style of the notebooks, read off their files without running anything."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest

from lib import evaluation, params, plots
from lib.data.datasets import Catalogue

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROFILES = sorted((ROOT / "params").glob("*.yaml"))
FIGURES = 4
IGNORED = "nbval-ignore-output"

# What would differ on another machine or at another time, by what to call it.
FLEETING = {
    "a path": r"(?<![\w.:/>~-])/(?:work|root|home|opt|tmp|var|usr|Users)/\w|file://|[A-Z]:\\\w",
    "a duration": r"\d\s?(?:ms|µs|ns)\b|\bit/s\b|\d\d:\d\d<|\bs/it\b|Wall time",
    "an address in memory": r"\b0x[0-9a-f]{6,}",
    "a warning": r"Warning:|Traceback",
    "a progress bar": r"[█▏▎▍▌▋▊▉]",
}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def cells(path) -> list[nbformat.NotebookNode]:
    return nbformat.read(path, as_version=4).cells


@pytest.fixture
def code(cells) -> list[nbformat.NotebookNode]:
    return [cell for cell in cells if cell.cell_type == "code"]


def text(output: nbformat.NotebookNode) -> str:
    """What a reader of an output sees as text."""
    data = output.get("data", {})
    return "\n".join([output.get("text", ""), *(data[kind] for kind in data if kind.startswith("text/"))])


def test_it_opens_with_its_number_and_title(path, cells):
    number = int(path.stem[:2])
    assert cells[0].cell_type == "markdown"
    assert re.match(rf"# {number} · \w", cells[0].source)
    assert sum(len(re.findall(r"^# ", cell.source, re.M)) for cell in cells if cell.cell_type == "markdown") == 1


def test_its_parameters_are_those_of_quickstart(path):
    declarations = {each.stem: params.declared(each) for each in NOTEBOOKS}
    profile = params.read(ROOT / "params" / "quickstart.yaml", declarations)
    assert profile.parameters[path.stem] == declarations[path.stem]


def test_it_declares_the_run_that_it_belongs_to(path):
    assert params.declared(path)[params.RUN] == "quickstart"


def test_it_was_executed_from_top_to_bottom(code):
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


def test_it_defines_no_functions_and_no_classes(code):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = [node for cell in code for node in ast.walk(ast.parse(cell.source)) if isinstance(node, kinds)]
    assert [node.name for node in defined] == []


def test_no_cell_ends_in_a_semicolon_which_nbval_would_not_heed(code):
    assert [cell.source for cell in code if cell.source.rstrip().endswith(";")] == []


def test_its_outputs_would_be_the_same_anywhere_and_at_any_time(code):
    found = [
        f"In [{cell.execution_count}] shows {what}: {match[0]}"
        for cell in code
        if IGNORED not in cell.metadata.get("tags", [])
        for output in cell.outputs
        for what, pattern in FLEETING.items()
        for match in re.finditer(pattern, text(output))
    ]
    assert found == []


def test_nothing_went_wrong_in_it(code):
    assert [output for cell in code for output in cell.outputs if output.output_type == "error"] == []
    assert [output.text for cell in code for output in cell.outputs if output.get("name") == "stderr"] == []


def test_it_shows_no_widgets(path, code):
    assert "widgets" not in nbformat.read(path, as_version=4).metadata
    assert not [kind for cell in code for output in cell.outputs for kind in output.get("data", {}) if "widget" in kind]


def test_it_has_few_figures(code):
    assert sum("image/png" in output.get("data", {}) for cell in code for output in cell.outputs) <= FIGURES


def test_its_cells_have_ids_and_its_kernel_is_any_python(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "version" not in notebook.metadata.get("language_info", {})


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_every_profile_fits_it(path, profile):
    declarations = {each.stem: params.declared(each) for each in NOTEBOOKS}
    assert path.stem in params.read(profile, declarations).parameters


def test_at_most_one_cell_of_the_book_shows_what_cannot_be_repeated():
    cells = [cell for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells]
    assert sum(IGNORED in cell.metadata.get("tags", []) for cell in cells) <= 1


@pytest.mark.parametrize("recipes", [["counts"], ["counts", "learns"]])
def test_training_draws_the_first_recipe_that_has_something_to_draw(recipes, monkeypatch, capsys):
    logs = {"counts": {"step": [1], "users": [3]}, "learns": {"step": [1, 2], "loss": [2.0, 1.0]}}
    numbers = Catalogue(item_ids=np.array(["a", "b", "c"]), event_types=np.array([""]))
    places = {"counts": None, "learns": np.array([[1.0, 0], [1, 0.1], [0, 1]], dtype=np.float32)}
    workbook = SimpleNamespace(
        training_log=lambda run, version: pd.DataFrame(logs[version]),
        model=lambda run, version: SimpleNamespace(catalogue=numbers, embeddings=lambda: places[version]),
    )
    names = {"run": "news", "versions": {name: name for name in recipes}, "workbook": workbook}
    names["kinds"] = pd.Series(["x", "x", "y"], index=["a", "b", "c"])
    names |= {"np": np, "plt": plt, "plots": plots, "evaluation": evaluation}
    monkeypatch.setattr(plt, "show", plt.close)
    cells = nbformat.read(ROOT / "notebooks" / "03_train.ipynb", as_version=4).cells
    looks = [cell.source for cell in cells if cell.cell_type == "code" and re.search(r"learning|placing", cell.source)]
    for source in looks:
        exec(source, names)
    assert len(looks) == 3 and names["learning"] == names["placing"] == (recipes[1] if recipes[1:] else None)
    assert ("share it" in capsys.readouterr().out) == bool(recipes[1:])


@pytest.mark.parametrize("shares", [{}, {"bptt": 1.0}])
def test_tuning_draws_what_mattered_only_where_trials_differ(shares, monkeypatch, capsys):
    names = {"study": None, "seed": 1, "plt": plt, "plots": plots}
    names["tuning"] = SimpleNamespace(importances=lambda study, seed: shares)
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.close()))
    cells = nbformat.read(ROOT / "notebooks" / "04_tune.ipynb", as_version=4).cells
    exec(next(cell.source for cell in cells if "plots.importances" in cell.source), names)
    assert len(shown) == len(shares)
    assert capsys.readouterr().out == f"settings weighed: {len(shares)}\n"


def test_a_group_of_which_nothing_came_has_a_place_among_the_groups():
    _, ax = plots.figure()
    plots.reliability(ax, pd.DataFrame({"chance": [0.001, 0.1], "came_next": [0, 0.1], "low": [0, 0.05], "high": 0.2}))
    assert ax.get_ylim()[0] == 0 and ax.get_xscale() == "log"
    plt.close()
