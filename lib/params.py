"""A profile of parameters: one experiment, one YAML file, checked against the notebooks before anything runs.

A notebook declares its parameters in the cell tagged ``parameters``, as plain literals; the cell is read, never run.
A profile may give other values: a mapping per notebook, and under ``defaults`` values for every notebook that declares
the name.  papermill would only warn of a name that no notebook knows and pass on any type, so both are refused here.
"""

import ast
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import nbformat
import yaml

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]

RUN = "run"  # the parameter that names the folder under runs/; its value is the profile's name
MAX_NAME = 63 - len("-user-personalization-v2")  # characters of a profile's; 63 are a resource's
FOLDER = "folder"  # the parameter that names a folder of raw data, which `--data` sets


@dataclass(frozen=True, slots=True)
class Profile:
    """What one experiment sets.

    name: the file's stem, and the folder's name under ``runs/``.  parameters: by notebook, then by name, every
    parameter that the notebook declares with the value it will have.
    """

    name: str
    description: str
    parameters: dict[str, dict[str, Value]]


def notebooks(folder: Path) -> dict[str, Path]:
    """The notebooks of a folder by stem (``01_prepare_data``), in the order in which they run."""
    found = {path.stem: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    if not found:
        raise FileNotFoundError(f"{folder}: no notebook named like 01_prepare_data.ipynb; run from a full clone")
    return found


def declared(notebook: Path) -> dict[str, Value]:
    """The names and default values that a notebook's tagged ``parameters`` cell declares, in its order.

    Raises ValueError where the notebook has not exactly one such cell or the cell holds more than plain literals.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{notebook}: {len(tagged)} cells are tagged 'parameters', but a notebook has exactly one")
    values: dict[str, Value] = {}
    for statement in ast.parse(tagged[0]).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if len(targets) != 1 or not isinstance(targets[0], ast.Name):
            raise ValueError(f"{notebook}: parameters cell: `{ast.unparse(statement)}` is not of the form name = value")
        try:
            value = ast.literal_eval(statement.value)
        except ValueError:
            value = ...
        if not _plain(value):
            raise ValueError(
                f"{notebook}: parameters cell: `{ast.unparse(statement)}` is no plain literal; write a number, text, "
                "True, False, None, or a list or dict of these"
            )
        values[targets[0].id] = value
    return values


def read(path: Path, declarations: Mapping[str, Mapping[str, Value]]) -> Profile:
    """Read a profile and check it against what the notebooks declare (``{stem: declared(notebook)}``).

    Raises FileNotFoundError, or ValueError with one line for each thing that is wrong: file, line, key, what was found
    and what the notebook declares.
    """
    if not path.is_file():
        names = sorted(file.stem for file in path.parent.glob("*.yaml"))
        there = f"{path.parent} has {', '.join(names)}" if names else f"{path.parent} has no profile"
        raise FileNotFoundError(f"{path}: no such profile{_meant(path.stem, names)}; {there}")
    if not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{MAX_NAME - 1}}}", path.stem):
        raise ValueError(
            f"{path}: a profile's name becomes the name of a folder and of resources; use at most {MAX_NAME} letters, "
            "digits, - and _, and begin with a letter or digit"
        )
    document, lines = _load(path)
    faults: list[str] = []

    def fault(keys: tuple[str, ...], message: str) -> None:
        line = next((lines[keys[:depth]] for depth in range(len(keys), 0, -1) if keys[:depth] in lines), 1)
        faults.append(f"{path}:{line}: {'.'.join(keys)} {message}")

    parameters = {stem: dict(names) for stem, names in declarations.items()}
    for stem, names in parameters.items():
        if RUN in declarations[stem]:
            names[RUN] = path.stem
    sections = {key: value for key, value in document.items() if key != "description"}
    description = document.get("description")
    if not isinstance(description, str):
        fault(("description",), f"is {_shown(description)}, but a profile describes itself in a line of text")

    for stem, values in sorted(sections.items(), key=lambda entry: entry[0] != "defaults"):
        if stem != "defaults" and stem not in declarations:
            known = [*declarations, "defaults", "description"]
            fault((stem,), f"is not a notebook{_meant(stem, known)}; there are {', '.join(declarations)}")
            continue
        if not isinstance(values, dict):
            fault((stem,), f"is {_shown(values)}, but it has to map names of parameters to values")
            continue
        stems = list(declarations) if stem == "defaults" else [stem]
        for name, value in values.items():
            declaring = [each for each in stems if name in declarations[each]]
            if name == RUN:
                fault((stem, name), f"cannot be set: it is the profile's name, {path.stem!r}")
            elif not declaring:
                known = sorted({known for each in stems for known in declarations[each]} - {RUN})
                owner = "any notebook" if stem == "defaults" else "the notebook"
                fault((stem, name), f"is not a parameter of {owner}{_meant(name, known)}; there are {', '.join(known)}")
            for each in declaring if name != RUN else []:
                wrong = list(_mismatches(value, declarations[each][name]))
                for keys, message in wrong:
                    fault((stem, name, *keys), message)
                if wrong:
                    break
                parameters[each][name] = _converted(value, declarations[each][name])
    if faults:
        raise ValueError("\n".join(faults))
    return Profile(path.stem, description, parameters)


def override(profile: Profile, assignment: str, declarations: Mapping[str, Mapping[str, Value]]) -> Profile:
    """The profile with one parameter changed by ``NOTEBOOK.NAME=VALUE``; VALUE is YAML, and ``03`` names 03_train."""
    key, equals, text = assignment.partition("=")
    notebook, dot, name = key.partition(".")
    if not (equals and dot and name):
        raise ValueError(f"-p {assignment}: write NOTEBOOK.NAME=VALUE, as in 01.seed=5")
    stem = find(notebook, declarations)
    known = [known for known in declarations[stem] if known != RUN]
    if name not in known:
        owners = [other for other, names in declarations.items() if name in names and name != RUN]
        raise ValueError(
            f"-p {assignment}: {stem} has no parameter {name}{_meant(name, known)}; it has {', '.join(known)}"
            + (f"; {name} is of {', '.join(owners)}" if owners else "")
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"-p {assignment}: the value is not YAML: {error}") from None
    for keys, message in _mismatches(value, declarations[stem][name]):
        raise ValueError(f"-p {assignment}: {'.'.join((stem, name, *keys))} {message}")
    changed = {**profile.parameters[stem], name: _converted(value, declarations[stem][name])}
    return Profile(profile.name, profile.description, {**profile.parameters, stem: changed})


def find(notebook: str, stems: Mapping[str, object]) -> str:
    """The one stem that a number, a stem or the beginning of one names: ``4``, ``04`` and ``04_tune`` are the same."""
    wanted = notebook.zfill(2) if notebook.isdigit() else notebook
    found = [stem for stem in stems if notebook and stem.startswith(wanted)]
    if len(found) != 1:
        raise ValueError(
            f"{notebook!r} names no notebook{_meant(notebook, list(stems))}; there are {', '.join(stems)}"
            if not found
            else f"{notebook!r} names more than one notebook: {', '.join(found)}"
        )
    return found[0]


def _load(path: Path) -> tuple[dict[str, Value], dict[tuple[str, ...], int]]:
    """A YAML mapping, and the line on which each of its keys stands."""
    loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
    try:
        node = loader.get_single_node()
        lines: dict[tuple[str, ...], int] = {}
        for keys, line in _keys(node, ()):
            if keys in lines:
                raise ValueError(f"{path}:{line}: {'.'.join(keys)} is set twice, first on line {lines[keys]}")
            lines[keys] = line
        document = loader.construct_document(node) if node else None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from None
    finally:
        loader.dispose()
    if not isinstance(document, dict):
        raise ValueError(
            f"{path}: holds {_shown(document)}, but a profile is a mapping that starts with `description:`"
        )
    return document, lines


def _keys(node: yaml.Node | None, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            keys = (*above, str(key.value))
            yield keys, key.start_mark.line + 1
            yield from _keys(value, keys)


def _mismatches(found: object, expected: Value) -> Iterator[tuple[tuple[str, ...], str]]:
    """Where a value differs in type from the one declared: the keys below the parameter, and what is wrong there.

    A list's elements are all of the kind of the declared ones.  A dict may have further keys; a key that the notebook
    declares keeps its kind.
    """
    if expected is None:
        yield from _unfit(found)
    elif isinstance(expected, dict) and isinstance(found, dict):
        for key, value in found.items():
            if not isinstance(key, str):
                yield (str(key),), f"is a key of type {type(key).__name__}, but keys are text; write it in quotes"
            else:
                for keys, message in _mismatches(value, expected.get(key)):
                    yield (key, *keys), message
    elif isinstance(expected, list) and isinstance(found, list):
        for position, value in enumerate(found):
            for keys, message in _mismatches(value, _element(expected)):
                yield (str(position), *keys), message
    elif _kind(found) != _kind(expected) and not (_kind(found) is int and _kind(expected) is float):
        yield (), f"is {_shown(found)}, but the notebook declares {_name(expected)}{_remedy(found, expected)}"
    elif isinstance(found, float) and not math.isfinite(found):
        yield (), f"is {found}, but a parameter is a finite number"


def _unfit(found: object) -> Iterator[tuple[tuple[str, ...], str]]:
    """What could not be meant at a place where any type is welcome."""
    if isinstance(found, dict):
        yield from _mismatches(found, {})
    elif isinstance(found, list):
        yield from _mismatches(found, [])
    elif not _plain(found):
        yield (), f"is {_shown(found)}, but a parameter is a number, text, true, false, a list or a mapping"
    elif isinstance(found, str) and _number(found) is not None:
        yield (), f"is {found!r} (str), which reads like a number; write {_number(found)}"


def _converted(found: Value, expected: Value) -> Value:
    """The value with whole numbers made floats where floats are declared, so that 1 and 1.0 are the same parameter."""
    if isinstance(expected, float) and _kind(found) is int:
        return float(found)
    if isinstance(expected, dict):
        return {key: _converted(value, expected.get(key)) for key, value in found.items()}
    if isinstance(expected, list):
        return [_converted(value, _element(expected)) for value in found]
    return found


def _element(expected: list[Value]) -> Value:
    """An element that stands for all of a declared list, or None where they differ in kind."""
    kinds = {_kind(value) for value in expected}
    if kinds == {int, float}:
        return 0.0
    return expected[0] if len(kinds) == 1 else None


def _plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(element) for key, element in value.items())
    if isinstance(value, list):
        return all(_plain(element) for element in value)
    return value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


def _kind(value: object) -> type:
    return type(value)  # and not isinstance, for which True is an int


def _name(value: object) -> str:
    name = {dict: "mapping", type(None): "nothing"}.get(type(value), type(value).__name__)
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _shown(value: object) -> str:
    if value is None:
        return "empty"
    return f"{value!r} ({'mapping' if isinstance(value, dict) else type(value).__name__})"


def _remedy(found: object, expected: Value) -> str:
    if isinstance(expected, int | float) and not isinstance(expected, bool) and isinstance(found, str):
        number = _number(found)
        return f"; write {number}" if number is not None and isinstance(expected, float | type(number)) else ""
    if isinstance(expected, str) and not isinstance(found, dict | list | None):
        return "; write it in quotes"
    if isinstance(expected, list) and not isinstance(found, dict | list | None):
        return f"; write [{found}]"
    return ""


def _number(text: str) -> int | float | None:
    """The number that a text stands for, such as 1e-3, which YAML 1.1 takes for text."""
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", text, flags=re.IGNORECASE):
        return None
    return float(text) if re.search(r"[.e]", text, flags=re.IGNORECASE) else int(text)


def _meant(wrong: str, known: list[str]) -> str:
    close = get_close_matches(wrong, known, n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
