import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path

import nbformat
import pytest

from lib import run

HERE = 'import os\nfrom pathlib import Path\n\nhere = Path(os.environ["WORKBOOK_RUNS"]) / run\n'
PREPARE = f"""{HERE}
(here / "data").mkdir()
(here / "data" / "interactions.csv").write_text("USER_ID\\n" * rows)
print(rows, "rows", os.environ["OMP_NUM_THREADS"], "threads")"""
TRAIN = f"""{HERE}
import sqlite3

database = sqlite3.connect(here / "store.db")
database.execute("PRAGMA journal_mode=WAL")
database.execute("CREATE TABLE IF NOT EXISTS versions (name)")
database.execute("INSERT INTO versions VALUES ('first')")
database.commit()
print(database.execute("SELECT count(*) FROM versions").fetchone()[0], "versions")"""
CHILD = """
import subprocess, sys

subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
"""


class House:
    """A repository with two notebooks, and what running it printed."""

    def __init__(self, root: Path, write_notebook):
        self.root, self.write_notebook = root, write_notebook
        self.folder = root / "runs" / "news"
        write_notebook(root, "01_prepare_data", 'run = "news"\nseed = 20\nrows = 3\nfolder = ""', PREPARE)
        self.train(TRAIN)
        (root / "params").mkdir()
        (root / "params" / "news.yaml").write_text("description: News & views\n")

    def train(self, code: str) -> None:
        self.write_notebook(self.root, "02_train", 'run = "news"', "1 + 1", code)

    def alone(self, code: str) -> None:
        (self.root / "notebooks" / "01_prepare_data.ipynb").unlink()
        self.train(code)

    def run(self, *arguments: str) -> int:
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            code = run.main(["news", "--runs", str(self.root / "runs"), *arguments], root=self.root)
        self.out, self.err = out.getvalue(), err.getvalue()
        return code

    def manifest(self) -> dict:
        return json.loads((self.folder / "manifest.json").read_text())

    def bytes(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in run.outputs(self.folder) if path.suffix != ".db"}

    def versions(self) -> int:
        with closing(sqlite3.connect(self.folder / "store.db")) as database:
            return database.execute("SELECT count(*) FROM versions").fetchone()[0]


@pytest.fixture
def house(tmp_path, write_notebook) -> House:
    return House(tmp_path, write_notebook)


@pytest.fixture(scope="module")
def complete(tmp_path_factory, write_notebook) -> House:
    """A house whose notebooks have been run, for what only looks at it."""
    house = House(tmp_path_factory.mktemp("house"), write_notebook)
    assert house.run("-p", "01.rows=4", "--output", str(house.root / "shelf")) == 0
    house.told = house.out
    return house


def test_a_run_leaves_notebooks_report_and_manifest(complete):
    manifest = complete.manifest()
    assert manifest["state"] == "complete"
    assert manifest["seeds"] == {"01_prepare_data": 20}
    assert manifest["notebooks"]["01_prepare_data"]["parameters"] == {
        "run": "news",
        "seed": 20,
        "rows": 4,
        "folder": "",
    }
    made = ["data/interactions.csv", "notebooks/01_prepare_data.ipynb", "notebooks/02_train.ipynb"]
    assert list(manifest["outputs"]) == made
    assert "4 rows 2 threads" in (complete.folder / "report" / "index.html").read_text()
    assert "02_train         cell 3/3, Step 2" in complete.told


def test_two_runs_give_the_same_bytes_whatever_number_of_threads_the_caller_asks_for(complete, house, monkeypatch):
    first = complete.bytes()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert house.run("-p", "01.rows=4") == 0
    assert house.bytes() == first
    assert first["interactions.csv"] == b"USER_ID\n" * 4


def test_an_executed_notebook_differs_from_its_source_by_outputs_and_given_values_alone(complete):
    for stem, given in (("01_prepare_data", ["# Parameters\nrows = 4\n"]), ("02_train", [])):
        source = nbformat.read(complete.root / "notebooks" / f"{stem}.ipynb", as_version=4)
        executed = nbformat.read(complete.folder / "notebooks" / f"{stem}.ipynb", as_version=4)
        code = [cell for cell in executed.cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
        for cell in code:
            cell.outputs, cell.execution_count = [], None
        assert [cell.source for cell in executed.cells if cell not in source.cells] == given
        assert [cell for cell in executed.cells if cell in source.cells] == source.cells


def test_going_on_from_a_notebook_starts_from_what_the_one_before_left(house):
    (house.root / "raw").mkdir()
    assert house.run("--data", str(house.root / "raw")) == 0
    assert house.manifest()["notebooks"]["01_prepare_data"]["parameters"]["folder"] == str(house.root / "raw")
    whole = house.bytes()
    (house.folder / "data" / "stray.csv").touch()
    assert house.run("--from", "02") == 0
    assert house.bytes() == whole
    assert house.versions() == 1
    assert "01_prepare_data" not in house.out


def test_going_on_is_refused_where_the_earlier_notebooks_were_not_run(house):
    assert house.run("--from", "02") == 2
    assert "01_prepare_data has not been run in" in house.err


def test_going_on_is_refused_where_the_earlier_notebooks_were_run_differently(complete):
    assert complete.run("--from", "02", "-p", "01.rows=5") == 2
    assert "01_prepare_data.rows is 5, but" in complete.err
    assert "was run with 4; start there: python -m lib.run news -p 01.rows=5 --from 01" in complete.err
    assert complete.manifest()["state"] == "complete"


def test_a_failure_names_notebook_cell_and_cause_and_can_be_mended(house):
    house.train("def divide(n):\n    return 1 / n\n\n\ndivide(0)")
    assert house.run() == 1
    for words in ("02_train failed in cell 3/3, Step 2, In [3]:", "ZeroDivisionError: division by zero", "FROM=02"):
        assert words in house.err
    assert house.manifest()["state"] == "failed"
    assert "ZeroDivisionError" in (house.folder / "report" / "index.html").read_text()
    house.train(TRAIN)
    assert house.run("--from", "02") == 0
    assert sorted(path.name for path in (house.folder / "notebooks").iterdir()) == [
        "01_prepare_data.ipynb",
        "02_train.ipynb",
    ]


@pytest.mark.parametrize(
    ("arguments", "again"),
    [
        (["my/news.yaml"], "make run PROFILE=my/news.yaml FROM=02"),
        (["news", "--data", "my data"], "make run PROFILE=news DATA='my data' FROM=02"),
        (["news", "-p", "01.rows=[1, 2]"], "python -m lib.run news -p '01.rows=[1, 2]' --from 02"),
        (["news", "--runs", "my runs"], "python -m lib.run news --runs 'my runs' --from 02"),
        (["news", "--data", "d", "--from", "01", "--refresh"], "python -m lib.run news --data d --refresh --from 02"),
    ],
)
def test_the_advice_to_go_on_repeats_what_was_asked(arguments, again, monkeypatch, capsys):
    monkeypatch.delenv("WORKBOOK_RUNS", raising=False)

    def failing(plan, **options):
        raise run.Failed(run._go_on("02_train", Path("02_train.failed.ipynb"), plan.again))

    monkeypatch.setattr(run, "plan", lambda *names, **options: run.Plan(None, {"01_prepare_data": None}, {}))
    monkeypatch.setattr(run, "run", failing)
    assert run.main(arguments) == 1
    assert capsys.readouterr().err.endswith(f"go on from there: {again}\n")


def test_a_profile_in_params_may_be_named_as_its_file_is(house, monkeypatch):
    monkeypatch.chdir(house.root)
    assert run.plan("news.yaml", root=house.root).profile.name == "news"
    Path("news.yaml").write_text("description: Mine\n")
    assert run.plan("news.yaml", root=house.root).profile.description == "Mine"


def test_runs_cannot_be_kept_in_a_file(house):
    (house.root / "runs").touch()
    assert house.run() == 2
    assert f"{house.root / 'runs'} is a file, but runs are kept in a folder; choose one with --runs" in house.err


def test_a_run_killed_at_any_place_leaves_nothing_that_the_next_one_trips_over(house):
    house.train(f"{TRAIN}\n{CHILD}import signal\n\nos.kill(os.getppid(), signal.SIGKILL)\ninput()")
    command = "from pathlib import Path; from lib import run; run.main(['news', '--runs', 'runs'], Path.cwd())"
    environment = {**os.environ, "PYTHONPATH": str(run.ROOT)}
    killed = subprocess.run([sys.executable, "-c", command], cwd=house.root, env=environment, stdout=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL
    assert list(house.manifest()["notebooks"]) == ["01_prepare_data"]
    assert not (house.folder / "notebooks" / "02_train.ipynb").exists()
    assert run.started(house.folder)
    house.train(TRAIN)
    assert house.run("--from", "02") == 0
    assert house.versions() == 1
    assert not run.started(house.folder)


@pytest.fixture
def interruptible():
    """A shell that starts the tests in the background has them ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_stops_what_the_run_started(house):
    house.alone(f"{HERE}{CHILD}import signal\n\nos.kill(os.getppid(), signal.SIGINT)\ninput()")
    assert house.run() == 130
    assert house.manifest()["state"] == "stopped"
    assert not run.started(house.folder)


def test_a_kernel_that_dies_is_a_failure_with_a_place(house):
    house.alone("import os\n\nos._exit(1)")
    assert house.run() == 1
    assert "02_train failed in cell 3/3, Step 2: Kernel died" in house.err


def test_a_full_disk_is_named_with_its_space(house):
    house.alone("import errno, os\n\nraise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))")
    assert house.run() == 1
    assert "No space is left in" in house.err
    assert "MiB free; free some" in house.err
    house.train("import errno, os\n\nraise OSError(errno.EFBIG, os.strerror(errno.EFBIG))")
    assert house.run() == 1
    assert "allow larger ones, as by `ulimit -f unlimited`" in house.err


def test_memory_of_processes_that_a_notebook_starts_is_counted(house):
    child = "held = bytearray(300 * 2**20); print(flush=True); input()"
    house.alone(
        "import subprocess, sys, threading\n\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdin=-1, stdout=-1)\n"
        "child.stdout.readline()\n"
        "threading.Event().wait(1)  # the run looks twice a second\n"
        "child.kill()"
    )
    assert house.run() == 0
    assert 300 < house.manifest()["peak_memory_mib"] < 600


def test_two_runs_of_a_profile_do_not_mix(house):
    house.folder.parent.mkdir()
    with run._locked(house.folder):
        assert house.run() == 2
    assert f"process {os.getpid()} is running this profile; wait for it" in house.err
    assert not house.folder.exists()


def test_a_folder_that_no_run_made_is_left_alone(house):
    house.folder.mkdir(parents=True)
    (house.folder / "thesis.txt").touch()
    for manifest in (None, "{}", "[]", "not json"):
        if manifest is not None:
            (house.folder / "manifest.json").write_text(manifest)
        assert house.run() == 2
        assert "has no manifest.json of a run and no notes.json of notebooks, so neither made it" in house.err
        assert (house.folder / "thesis.txt").exists()


def test_a_folder_that_notebooks_made_by_hand_is_begun_anew(house):
    house.alone("print('done')")
    (house.folder / "store").mkdir(parents=True)
    (house.folder / "notes.json").write_text('{"seed": 20}')
    assert house.run() == 0
    assert not (house.folder / "notes.json").exists() and house.manifest()["state"] == "complete"


def test_a_service_of_somebody_else_on_the_store_is_not_worked_beneath(complete):
    command = [sys.executable, "-c", "print(flush=True); input()", "lib.service", "--store", "runs/news/store"]
    with subprocess.Popen(command, cwd=complete.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as service:
        service.stdout.readline()
        assert complete.run() == 2
        service.communicate(b"\n")
    assert f"is in use by process {service.pid}" in complete.err


def test_what_is_wrong_is_said_before_anything_runs(house):
    assert house.run("-p", "01.rows=three") == 2
    assert "01_prepare_data.rows is 'three' (str), but the notebook declares an int" in house.err
    assert house.run("--data", str(house.root / "nowhere")) == 2
    assert f"no such folder of raw data; {house.root} has notebooks, params" in house.err
    assert not house.folder.exists()


def test_a_further_output_location_receives_notebooks_report_and_manifest(complete):
    for name in ("notebooks/01_prepare_data.ipynb", "notebooks/02_train.ipynb", "report/index.html", "manifest.json"):
        assert (complete.root / "shelf" / name).read_bytes() == (complete.folder / name).read_bytes()


def test_a_solution_that_no_notebook_would_make_is_refused_before_anything_runs():
    recipes = "03.recipes=[aws-personalized-ranking-v2, aws-popularity-count]"
    with pytest.raises(
        ValueError,
        match=r"06_deploy\.similar is 'similar-items', .* will do: none; .* add a recipe .* 03_train\.recipes",
    ):
        run.plan("quickstart", overrides=[recipes])
    assert run.plan("quickstart", overrides=[recipes.replace("]", ", aws-sims]"), "06.similar=sims"])


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (["01.seed=-1"], r"01_prepare_data\.seed is -1; expected 0 to 4294967295"),
        (["01.simulation={reader: 9}"], r"simulation has 'reader'; expected readers, articles, interactions, days"),
        (["05.temporal_share=1.0"], r"05_evaluate\.temporal_share is 1\.0; expected more than 0, less than 1"),
        (["05.temporal_recipes=[aws-item-affinity]"], r"temporal_recipes has 'aws-item-affinity', which is no recipe"),
        (["05.baseline=similar-items"], r"05_evaluate\.baseline is .* will do: tuned, user-personalization-v2, "),
        (["06.ranking=similar-items"], r"06_deploy\.ranking is .* will do: personalized-ranking-v2; name one"),
        (["07.explorer=popularity-count"], r"07_query\.explorer is .* will do: tuned, user-personalization-v2, "),
        (["07.weights=[]"], r"07_query\.weights is \[\]; expected a last one above 0 and up to 0\.5"),
        (["07.weights=['0']"], r"07_query\.weights is \['0'\]; expected a last one above 0"),
        (["07.other_weights=['2']"], r"07_query\.other_weights has '2'; expected numbers from 0 to 1"),
    ],
)
def test_a_value_that_a_later_notebook_cannot_use_is_refused_before_anything_runs(assignments, said):
    with pytest.raises(ValueError, match=said):
        run.plan("quickstart", overrides=assignments)


def test_weights_are_free_where_nobody_visits():
    assert run.plan("movielens-small", overrides=["07.weights=[]", "07.explorer=popularity-count"])


def test_an_output_location_that_cannot_be_written_is_noticed_before_a_notebook_runs(house):
    (house.root / "shelf").touch()
    assert house.run("--output", str(house.root / "shelf")) == 1
    assert "shelf: could not write manifest.json: " in house.err
    assert "cell" not in house.out


def test_refreshed_notebooks_hold_their_outputs_but_no_timings(house):
    house.train("1 + 1")
    path = house.root / "notebooks" / "02_train.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].metadata["tags"] = ["timings"]
    nbformat.write(notebook, path)
    assert house.run("--refresh") == 0
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3]
    assert [len(cell.outputs) for cell in code] == [0, 1, 0]
