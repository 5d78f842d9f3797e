import re

import pytest

from lib import params

CELL = """\
run = "quickstart"  # its files lie in runs/<run>/
seed = 20
learning_rate = 0.01
update = True
recipe = "aws-user-personalization-v2"
cutoffs = [5, 10]
ranges = {"dim": [16, 64], "dropout": 0.2}
limit = None
"""


@pytest.fixture
def declarations(tmp_path, write_notebook):
    first = write_notebook(tmp_path, "01_prepare_data", 'run = "quickstart"\nseed = 1\nfolder = ""')
    third = write_notebook(tmp_path, "03_train", CELL)
    return {path.stem: params.declared(path) for path in (first, third)}


@pytest.fixture
def read(tmp_path, declarations):
    def read(text: str) -> params.Profile:
        path = tmp_path / "news.yaml"
        path.write_text(text)
        return params.read(path, declarations)

    return read


def test_a_profile_fills_in_what_the_notebook_declares(read):
    profile = read("description: News\n03_train:\n  seed: 5\n")
    assert profile.parameters["03_train"]["seed"] == 5
    assert profile.parameters["03_train"]["recipe"] == "aws-user-personalization-v2"
    assert profile.parameters["01_prepare_data"] == {"run": "news", "seed": 1, "folder": ""}


def test_defaults_reach_every_notebook_that_declares_the_name_and_a_notebook_goes_before(read):
    profile = read("description: News\n03_train:\n  seed: 7\ndefaults:\n  seed: 3\n  update: false\n")
    assert [profile.parameters[stem]["seed"] for stem in profile.parameters] == [3, 7]
    assert profile.parameters["03_train"]["update"] is False


def test_a_whole_number_becomes_the_float_that_is_declared(read):
    value = read("description: News\n03_train:\n  learning_rate: 1\n").parameters["03_train"]["learning_rate"]
    assert (value, type(value)) == (1.0, float)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            "03_train:\n  learning_rate: 1e-3",
            ":3: 03_train.learning_rate is '1e-3' (str), but the notebook declares a float; write 0.001",
        ),
        ("03_train:\n  seed: 1.5", ":3: 03_train.seed is 1.5 (float), but the notebook declares an int"),
        ("03_train:\n  seed: true", ":3: 03_train.seed is True (bool), but the notebook declares an int"),
        ("03_train:\n  update: 1", ":3: 03_train.update is 1 (int), but the notebook declares a bool"),
        (
            "03_train:\n  recipe: no",
            ":3: 03_train.recipe is False (bool), but the notebook declares a str; write it in quotes",
        ),
        ("03_train:\n  seed:", ":3: 03_train.seed is empty, but the notebook declares an int"),
        ("03_train:\n  cutoffs: 5", ":3: 03_train.cutoffs is 5 (int), but the notebook declares a list; write [5]"),
        (
            "03_train:\n  cutoffs: [5, ten]",
            ":3: 03_train.cutoffs.1 is 'ten' (str), but the notebook declares an int",
        ),
        (
            "03_train:\n  ranges:\n    dim: [8, 1e2]",
            ":4: 03_train.ranges.dim.1 is '1e2' (str), but the notebook declares an int",
        ),
        (
            "03_train:\n  ranges:\n    momentum: 1e-1",
            ":4: 03_train.ranges.momentum is '1e-1' (str), which reads like a number; write 0.1",
        ),
        ("03_train:\n  learning_rate: .inf", ":3: 03_train.learning_rate is inf, but a parameter is a finite number"),
        (
            "03_train:\n  learning_rat: 0.1",
            ":3: 03_train.learning_rat is not a parameter of the notebook (did you mean learning_rate?); there are "
            "cutoffs, learning_rate, limit, ranges, recipe, seed, update",
        ),
        (
            "03_trian:\n  seed: 1",
            ":2: 03_trian is not a notebook (did you mean 03_train?); there are 01_prepare_data, 03_train",
        ),
        ("defaults:\n  sead: 1", ":3: defaults.sead is not a parameter of any notebook (did you mean seed?)"),
        ("03_train:\n  run: other", ":3: 03_train.run cannot be set: it is the profile's name, 'news'"),
        ("03_train: 5", ":2: 03_train is 5 (int), but it has to map names of parameters to values"),
        ("03_train:\n  seed: 1\n  seed: 2", ":4: 03_train.seed is set twice, first on line 3"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_line_key_and_remedy(read, section, message):
    with pytest.raises(ValueError, match=re.escape(f"news.yaml{message}")):
        read(f"description: News\n{section}\n")


def test_everything_that_is_wrong_is_said_at_once(read):
    with pytest.raises(ValueError) as caught:
        read("description: News\n01_prepare_data:\n  sed: 1\n03_train:\n  seed: x\n  update: 1\n")
    assert str(caught.value).count("\n") == 2


def test_an_undeclared_kind_takes_any_plain_value(read):
    for text, value in (("7", 7), ("[a, 1]", ["a", 1]), ("", None), ("{a: 0.5}", {"a": 0.5})):
        assert read(f"description: News\n03_train:\n  limit: {text}\n").parameters["03_train"]["limit"] == value


def test_a_date_is_no_parameter(read):
    with pytest.raises(ValueError, match=re.escape("03_train.limit is datetime.date(2024, 1, 1) (date)")):
        read("description: News\n03_train:\n  limit: 2024-01-01\n")


def test_a_profile_without_a_description_is_refused(read):
    with pytest.raises(ValueError, match="description is empty, but a profile describes itself"):
        read("03_train:\n  seed: 1\n")


def test_broken_yaml_is_refused_with_its_place(read):
    with pytest.raises(ValueError, match=r"news\.yaml: not YAML: (.|\n)*line 2"):
        read("description: News\n03_train: [1\n")


def test_a_profile_that_is_not_there_names_those_that_are(tmp_path, declarations):
    (tmp_path / "quickstart.yaml").write_text("description: News\n")
    with pytest.raises(FileNotFoundError, match=r"did you mean quickstart\?\); .* has quickstart"):
        params.read(tmp_path / "quikstart.yaml", declarations)


def test_a_profile_has_a_name_that_a_resource_may_bear(tmp_path, declarations):
    for name in ("my news", "n" * 40, "-news"):
        (tmp_path / f"{name}.yaml").write_text("description: News\n")
        with pytest.raises(ValueError, match="use at most 39 letters, digits, - and _, and begin with"):
            params.read(tmp_path / f"{name}.yaml", declarations)
    longest = tmp_path / f"{'n' * 39}.yaml"
    longest.write_text("description: News\n")
    assert len(f"{params.read(longest, declarations).name}-personalized-ranking-v2") == 63


def test_an_override_changes_one_parameter(read, declarations):
    profile = read("description: News\n")
    changed = params.override(profile, "03.learning_rate=1", declarations)
    assert changed.parameters["03_train"] == {**profile.parameters["03_train"], "learning_rate": 1.0}
    assert changed.parameters["01_prepare_data"] == profile.parameters["01_prepare_data"]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("seed=5", "write NOTEBOOK.NAME=VALUE"),
        ("01.update=true", "it has seed, folder; update is of 03_train"),
        ("03.sed=5", "03_train has no parameter sed (did you mean seed?)"),
        ("03.seed=1e-3", "03_train.seed is '1e-3' (str), but the notebook declares an int"),
        ("03.seed=[1", "the value is not YAML"),
        ("04.seed=5", "'04' names no notebook; there are 01_prepare_data, 03_train"),
        ("03.run=other", "03_train has no parameter run"),
    ],
)
def test_an_override_is_checked_like_the_profile(read, declarations, assignment, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        params.override(read("description: News\n"), assignment, declarations)


def test_a_notebook_is_found_by_number_beginning_or_name():
    stems = {"03_train": None, "04_tune": None}
    assert [params.find(name, stems) for name in ("4", "04", "04_t", "04_tune")] == ["04_tune"] * 4
    with pytest.raises(ValueError, match="names more than one notebook: 03_train, 03_tune"):
        params.find("3", {"03_train": None, "03_tune": None})


@pytest.mark.parametrize("line", ["n = 2 * 3", "n: int = 3", "a = b = 3", "import os", "n = (1, 2)", "a, b = 1, 2"])
def test_a_parameters_cell_holds_plain_literals_only(tmp_path, write_notebook, line):
    with pytest.raises(ValueError, match="parameters cell"):
        params.declared(write_notebook(tmp_path, "03_train", line))


def test_a_notebook_has_one_parameters_cell(tmp_path, write_notebook):
    path = write_notebook(tmp_path, "03_train", "seed = 1")
    path.write_text(path.read_text().replace('"parameters"\n', '"other"\n'))
    with pytest.raises(ValueError, match="0 cells are tagged 'parameters'"):
        params.declared(path)
