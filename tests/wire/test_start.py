"""How long a service takes to start."""

import os
import subprocess
import sys

import psutil

from tests.wire.serving import ROOT, serving

HEAVY = ("torch", "sklearn", "scipy.stats", "optuna", "matplotlib", "IPython")


def test_a_service_on_an_existing_store_has_cost_less_than_three_seconds_when_it_answers(tmp_path):
    with serving(tmp_path) as service:
        service.client("personalize").create_dataset_group(name="news")
    with serving(tmp_path) as service:
        assert len(service.client("personalize").list_dataset_groups()["datasetGroups"]) == 1
        first = psutil.Process(service.process.pid)
        spent = [one.cpu_times() for one in (first, *first.children())]
        assert sum(one.user + one.system for one in spent) < 3  # of their own: other tests may keep the machine busy


def test_a_service_imports_nothing_that_only_training_needs():
    program = f"import sys, lib.service.__main__; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
