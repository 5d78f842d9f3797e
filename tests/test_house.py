"""The rules of the house that a program can read off the files."""

import ast
import re
import subprocess
import tomllib
from graphlib import TopologicalSorter
from importlib.metadata import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
MODULES = {
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path
    for path in sorted((ROOT / "lib").rglob("*.py"))
}

# Data flows down this list and never back: a part imports what stands above it or beside it.
LAYERS = [
    ["reproducible", "params", "cost"],
    ["data"],
    ["recipes"],
    ["metrics", "ranking", "exploration", "filters", "themes"],
    ["training", "tuning", "evaluation", "off_policy"],
    ["store", "campaigns", "resources", "batch"],
    ["jobs"],
    ["service", "load", "plots", "replay", "report", "run", "workbook"],
]
LAYER = {name: depth for depth, names in enumerate(LAYERS) for name in names}
EDGES = {"service", "run", "plots", "workbook"}  # imported by each other at most


def imports() -> dict[str, set[str]]:
    """By part of ``lib``, the other parts that it imports, at the top of a module or inside a function."""
    found: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: an import from {'.' * node.level} hides where it leads"
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        parts = {name.split(".")[1] for name in names if name.startswith("lib.")}
        if module != "lib":
            own = module.split(".")[1]
            found.setdefault(own, set()).update(parts - {own})
    return found


def test_every_part_has_its_place_in_the_order():
    assert sorted(imports().keys() - LAYER.keys()) == []


def test_imports_point_one_way():
    wrong = [
        f"{part} imports {other}"
        for part, others in imports().items()
        for other in others
        if LAYER[other] > LAYER[part] or (other in EDGES and part not in LAYERS[-1])
    ]
    assert wrong == []


def test_no_two_parts_import_each_other():
    TopologicalSorter(imports()).prepare()  # raises CycleError, which names the circle


def pinned() -> dict[str, str]:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] != "#"]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ;.*)?", line)] == []
    return dict(line.split(" ")[0].split("==") for line in lines)


def test_the_lock_pins_every_direct_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = pinned()
    for dependency in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        wanted = Requirement(dependency)  # pip-compile pins what an extra asks for on lines of its own
        assert wanted.name in pins, f"{wanted.name} is not in requirements.lock; run `make lock`"
        assert pins[wanted.name] in wanted.specifier


def test_the_lock_can_be_installed_with_the_oldest_python_that_is_promised():
    wanted = {name: metadata(name)["Requires-Python"] or "" for name in pinned()}
    assert {name: pythons for name, pythons in wanted.items() if "3.11.0" not in SpecifierSet(pythons)} == {}


def test_conda_and_pip_build_the_same_environment():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, packages = environment["dependencies"]
    minor = python.removeprefix("python=")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"].startswith(f">={minor},")
    assert f"PYTHON3 ?= python{minor}\n" in (ROOT / "Makefile").read_text()
    assert (pip, packages) == ("pip", {"pip": ["-r requirements.lock", "-e ."]})


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)[1].split()
    printed = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    assert sorted(re.findall(r"^  make (\w+)  +\w", printed, flags=re.MULTILINE)) == sorted(targets)
    assert {"env", "run", "test", "lab", "serve", "refresh", "lint", "lock", "bench"} <= set(targets)
    bare = [target for target in targets if not re.search(rf"^{target}:.* (env|lint|\.venv/\.built) ", makefile, re.M)]
    assert bare == ["help"]  # every other one sets up what it needs


def test_no_file_names_a_registry_or_a_path_of_one_machine():
    hosts = "|".join(["py" + "pi.org", "python" + "hosted", "download.py" + "torch"])
    folders = "|".join(["work", "root", "home", "opt", "Users"])
    forbidden = re.compile(rf"{hosts}|(?<![\w.:/>~-])/(?:{folders})/\w")
    files = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True).stdout
    found = [
        f"{name}: {match[0]}"
        for name in files.splitlines()
        if (ROOT / name).is_file() and name != Path(__file__).relative_to(ROOT).as_posix()
        for match in forbidden.finditer((ROOT / name).read_text(errors="replace"))
    ]
    assert found == []
