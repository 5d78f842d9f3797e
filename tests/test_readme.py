"""The recipe that the README spells out does what the README says of it."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lib import evaluation
from lib.data.datasets import histories
from lib.recipes import RECIPES
from lib.recipes.recipe import Request
from lib.training import train
from tests.resources.workflow import Personalize
from tests.small_recipe import circle, saved

README = (Path(__file__).parents[1] / "README.md").read_text()
HPO = {
    "hpoObjective": {"type": "max", "metricName": "mean_reciprocal_rank_at_25", "metricRegex": ""},
    "hpoResourceConfig": {"maxNumberOfTrainingJobs": "2", "maxParallelTrainingJobs": "1"},
    "algorithmHyperParameterRanges": {
        "integerHyperParameterRanges": [],
        "continuousHyperParameterRanges": [{"name": "half_life", "minValue": 1.0, "maxValue": 10.0}],
        "categoricalHyperParameterRanges": [],
    },
}


@pytest.fixture
def ease(monkeypatch):
    """The example's recipe, in the catalogue for as long as the test lasts."""
    (text,) = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    module = ModuleType("lib.recipes.ease")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(text, "README.md", "exec"), module.__dict__)
    monkeypatch.setitem(RECIPES, module.EASE.name, module.EASE)
    return module.EASE


def test_the_recipe_of_the_readme_learns_what_goes_together(ease, tmp_path):
    data = circle()
    measured = train(ease, data, ease.values({}), seed=1, folder=tmp_path / "ease")
    popular = train(RECIPES["aws-popularity-count"], data, {}, seed=1, folder=tmp_path / "popular")
    assert measured[evaluation.NDCG] > popular[evaluation.NDCG]
    model = ease.load(tmp_path / "ease" / "model")
    model.save(tmp_path / "again")
    assert saved(tmp_path / "again") == saved(tmp_path / "ease" / "model")
    nobody = histories(data.interactions, model.catalogue).of("nobody")
    assert np.isfinite(model.scores([Request(history=nobody, now=0)])).all()


def test_the_recipe_of_the_readme_is_tuned_deployed_and_asked(ease, tmp_path):
    personalize = Personalize.open(tmp_path)
    solution = personalize.solution(
        personalize.filled(),
        recipe_arn="arn:aws:personalize:::recipe/ease",
        perform_hpo=True,
        solution_config={"hpoConfig": HPO},
    )
    version = personalize.version(solution)
    described = personalize.describe_solution_version(solution_version_arn=version)["solutionVersion"]
    assert described.status == "ACTIVE", described.failure_reason
    assert 1 <= float(described.tuned_hpo_params["algorithmHyperParameters"]["half_life"]) <= 10
    campaign = personalize.create_campaign(name="c", solution_version_arn=version)["campaignArn"]
    personalize.work()
    answer = personalize.get_recommendations(campaign_arn=campaign, user_id="u1", num_results=5)["itemList"]
    assert len(answer) == 5 and sum(item["score"] for item in answer) <= 1
    personalize.account.store.close()
