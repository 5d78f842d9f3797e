"""Model files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lib.data.datasets import Catalogue
from lib.recipes import files

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = Catalogue(np.array(["a", "b"]), np.array(["click"]))


@pytest.mark.parametrize(
    "dtype", [bool, *(f"{kind}{size}" for kind in "ui" for size in (1, 2, 4, 8)), "f2", "f4", "f8"]
)
def test_arrays_are_read_as_they_were_written(tmp_path, dtype):
    given = {
        "odd": np.arange(3).astype(dtype),
        "matrix": np.arange(6).reshape(2, 3).astype(dtype),
        "none": np.zeros((0, 4), dtype),
        "weights": np.ones(2, np.float64),
    }
    files.write(tmp_path, CATALOGUE, {"k": 1}, given)
    numbers, settings, found = files.read(tmp_path)
    assert (numbers.item_ids.tolist(), settings) == (["a", "b"], {"k": 1})
    library = load_file(tmp_path / "model.safetensors")
    assert found.keys() == library.keys() == given.keys()
    for name, array in given.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], library[name])
        assert found[name].flags.aligned


def test_whoever_writes_to_an_array_changes_neither_the_file_nor_what_others_read(tmp_path):
    files.write(tmp_path, CATALOGUE, {}, {"weights": np.ones(5)})
    before = (tmp_path / "model.safetensors").read_bytes()
    first, second = files.read(tmp_path)[2]["weights"], files.read(tmp_path)[2]["weights"]
    first += 1
    assert second.tolist() == [1] * 5 and (tmp_path / "model.safetensors").read_bytes() == before


def test_a_file_that_was_cut_short_is_refused(tmp_path):
    files.write(tmp_path, CATALOGUE, {}, {"weights": np.ones(500)})
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError):
        files.read(tmp_path)


def test_a_model_that_is_replaced_or_removed_stays_readable_to_whoever_has_it(tmp_path):
    files.write(tmp_path, CATALOGUE, {}, {"weights": np.arange(100_000.0)})
    weights = files.read(tmp_path)[2]["weights"]
    files.write(tmp_path, CATALOGUE, {}, {"weights": np.zeros(100_000)})
    (tmp_path / "model.safetensors").unlink()
    assert weights[-1] == 99_999


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="/proc/self/smaps_rollup not found")
def test_an_array_that_was_read_through_is_no_memory_of_the_process_itself(tmp_path):
    files.write(tmp_path, CATALOGUE, {}, {"weights": np.ones(8_000_000, np.float32)})
    program = """
import re, sys
from pathlib import Path
from lib.recipes import files

def own():
    told = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"Private_Dirty: +(\\d+)", told)) * 1024

before = own()
weights = files.read(Path(sys.argv[1]))[2]["weights"]
assert weights.sum() == 8_000_000
print(own() - before)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 8_000_000  # of 32,000,000
