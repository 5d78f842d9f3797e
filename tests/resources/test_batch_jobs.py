"""Batch inference: files in, files out, whatever lies in them and whenever the process is killed."""

import gzip
import json
from dataclasses import replace

import pandas as pd
import pytest

from lib import jobs
from lib.recipes import RECIPES
from lib.resources import batch_jobs, locations
from lib.resources.errors import InvalidInputException, LimitExceededException, ResourceInUseException
from tests.resources.workflow import interactions
from tests.small_recipe import RECIPE

ROLE = "arn:aws:iam::123456789012:role/r"


def write(personalize, name, *lines):
    path = personalize.data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return f"s3://data/{name}"


def create(personalize, version, source, name="b", **members):
    return personalize.create_batch_inference_job(
        job_name=name,
        solution_version_arn=version,
        job_input={"s3DataSource": {"path": source}},
        job_output={"s3DataDestination": {"path": "s3://data/out/"}},
        role_arn=ROLE,
        **members,
    )["batchInferenceJobArn"]


def run(personalize, *arguments, **members):
    arn = create(personalize, *arguments, **members)
    personalize.work()
    return personalize.describe_batch_inference_job(batch_inference_job_arn=arn)["batchInferenceJob"]


def answers(personalize, name):
    return [json.loads(line) for line in (personalize.data / "out" / name).read_text().splitlines()]


@pytest.fixture
def version(personalize, monkeypatch):
    """A version of a recipe that personalises."""
    monkeypatch.setitem(RECIPES, RECIPE.name, RECIPE)
    recipe = f"arn:aws:personalize:::recipe/{RECIPE.name}"
    return personalize.version(personalize.solution(personalize.filled(), recipe_arn=recipe))


def test_every_line_is_answered_as_a_campaign_answers(personalize, version):
    source = write(personalize, "users.json", {"userId": "u1"}, "no json", {"userId": "u2"})
    job = run(personalize, version, source, num_results=5)
    assert (job.status, job.failure_reason, job.batch_inference_job_mode) == ("ACTIVE", None, "BATCH_INFERENCE")
    campaign = personalize.create_campaign(name="c", solution_version_arn=version)["campaignArn"]
    personalize.clock.wait()
    lines = answers(personalize, "users.json.out")
    assert "no JSON" in lines[1]["error"]
    for line in (lines[0], lines[2]):
        user_id = line["input"]["userId"]
        one = personalize.get_recommendations(campaign_arn=campaign, user_id=user_id, num_results=5)["itemList"]
        assert line["output"]["recommendedItems"] == [item["itemId"] for item in one]
        assert line["output"]["scores"] == [item["score"] for item in one]


def test_what_users_did_meanwhile_counts(personalize, version):
    before = run(personalize, version, write(personalize, "before.json", {"userId": "u1"}))
    group = personalize.list_dataset_groups()["datasetGroups"][0].dataset_group_arn
    tracking_id = personalize.create_event_tracker(name="t", dataset_group_arn=group)["trackingId"]
    personalize.clock.wait()
    personalize.put_events(
        tracking_id=tracking_id,
        session_id="s",
        user_id="u1",
        event_list=[{"eventType": "click", "itemId": "i40", "sentAt": personalize.account.now()}],
    )
    after = run(personalize, version, write(personalize, "after.json", {"userId": "u1"}), "c")
    assert before.status == after.status == "ACTIVE"
    first, second = (answers(personalize, f"{name}.json.out")[0]["output"] for name in ("before", "after"))
    assert first["recommendedItems"] != second["recommendedItems"]


def test_filters_forget_those_of_whom_nothing_has_come_in_for_ninety_days(personalize, version):
    group = personalize.list_dataset_groups()["datasetGroups"][0].dataset_group_arn
    tracking_id = personalize.create_event_tracker(name="t", dataset_group_arn=group)["trackingId"]
    arn = personalize.create_filter(
        name="f", dataset_group_arn=group, filter_expression='EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")'
    )["filterArn"]
    personalize.clock.wait(91 * 86_400)
    event = {"eventType": "click", "itemId": "i40", "sentAt": personalize.account.now()}
    personalize.put_events(tracking_id=tracking_id, session_id="s", user_id="u1", event_list=[event])
    source = write(personalize, "users.json", {"userId": "u1"}, {"userId": "u2"})
    assert run(personalize, version, source, filter_arn=arn, num_results=500).status == "ACTIVE"
    first, second = (len(line["output"]["recommendedItems"]) for line in answers(personalize, "users.json.out"))
    assert first < second == 40


def test_a_folder_gives_an_output_for_each_of_its_files(personalize, version):
    for name in ("a.json", "b.json"):
        source = write(personalize, f"in/{name}", {"userId": name})
    write(personalize, "in/a.json.out", {"left": "by an earlier job"})
    assert run(personalize, version, "s3://data/in/").status == "ACTIVE"
    assert sorted(path.name for path in (personalize.data / "out").iterdir()) == ["a.json.out", "b.json.out"]
    assert answers(personalize, "b.json.out")[0]["input"] == {"userId": "b.json"}
    assert source == "s3://data/in/b.json"


def test_a_path_names_every_file_that_begins_like_it(personalize, version):
    for name in ("users.json", "users2.json", "users/x.json", "users/deep/y.json", "other.json", "users/_SUCCESS"):
        write(personalize, f"in/{name}", {"userId": name})
    assert run(personalize, version, "s3://data/in/users").status == "ACTIVE"
    written = sorted(path.name for path in (personalize.data / "out").iterdir())
    assert written == ["users.json.out", "users2.json.out", "x.json.out", "y.json.out"]
    assert answers(personalize, "y.json.out")[0]["input"] == {"userId": "users/deep/y.json"}


def test_files_of_one_name_in_several_folders_do_not_overwrite_each_others_answers(personalize, version):
    for name in ("x.json", "a/x.json", "a/b/x.json", "a/y.json"):
        write(personalize, f"in/{name}", {"userId": name})
    assert run(personalize, version, "s3://data/in/").status == "ACTIVE"
    for name, output in (("x.json", "x"), ("a/x.json", "a/x"), ("a/b/x.json", "a/b/x"), ("a/y.json", "y")):
        assert answers(personalize, f"{output}.json.out")[0]["input"] == {"userId": name}


def test_nobody_looks_beside_the_folder_that_stands_for_a_bucket(personalize, version):
    beside = personalize.data.parent / f"{personalize.data.name}-private"
    beside.mkdir()
    (beside / "users.json").write_text('{"userId": "u1"}\n')
    write(personalize, "users.json", {"userId": "u1"})
    for source in ("s3://data", f"file://{personalize.data}"):
        found = locations.beginning(personalize.account, source)
        assert {file.parent for file in found} == {personalize.data}
    with pytest.raises(InvalidInputException, match="lies outside the folders"):
        create(personalize, version, f"file://{personalize.data}-pri")


def test_a_filter_takes_values_from_each_line(personalize, version):
    group = personalize.list_dataset_groups()["datasetGroups"][0].dataset_group_arn
    expression = "EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ($E)"
    arn = personalize.create_filter(name="f", dataset_group_arn=group, filter_expression=expression)["filterArn"]
    source = write(personalize, "x", *({"userId": "u1", "filterValues": {"E": f"'{e}'"}} for e in ("click", "buy")))
    assert run(personalize, version, source, filter_arn=arn, num_results=40).status == "ACTIVE"
    new, all_items = ({*line["output"]["recommendedItems"]} for line in answers(personalize, "x.out"))
    table = interactions()
    assert all_items - new == set(table["ITEM_ID"][table["USER_ID"] == "u1"])


@pytest.mark.parametrize(("lines", "told"), [(["{", "["], "None of the 2 lines"), ([], "None of the 0 lines")])
def test_a_job_without_an_answer_fails(personalize, version, lines, told):
    job = run(personalize, version, write(personalize, "bad.json", *lines))
    assert job.status == "CREATE FAILED"
    assert job.failure_reason.startswith("Invalid S3 input path") and told in job.failure_reason
    assert len(answers(personalize, "bad.json.out")) == len(lines)


def test_a_destination_that_cannot_be_written_fails_the_job(personalize, version):
    (personalize.data / "out").write_text("a file, not a folder")
    job = run(personalize, version, write(personalize, "users.json", {"userId": "u1"}))
    assert job.status == "CREATE FAILED" and "writing to s3://data/out/" in job.failure_reason


def test_packed_files_are_read_and_broken_ones_told(personalize, version):
    packed = gzip.compress(b'{"userId": "u1"}\n' * 100, mtime=0)
    (personalize.data / "users.json.gz").write_bytes(packed)
    assert run(personalize, version, "s3://data/users.json.gz").status == "ACTIVE"
    assert len(answers(personalize, "users.json.gz.out")) == 100
    (personalize.data / "broken.gz").write_bytes(packed[:-10])
    job = run(personalize, version, "s3://data/broken.gz", "broken")
    assert job.status == "CREATE FAILED" and "broken.gz cannot be unpacked" in job.failure_reason
    assert not (personalize.data / "out" / "broken.gz.out").exists()


def test_files_that_were_done_before_a_kill_are_kept(personalize, version, monkeypatch):
    for name in ("a.json", "b.json"):
        write(personalize, f"in/{name}", {"userId": "u1"}, "bad")
    arn = create(personalize, version, "s3://data/in/")
    answer_file = batch_jobs.answer_file
    begun = []

    def killed(batch, source, target, tell):
        begun.append(source.name.rpartition("/")[2])  # a file's path, as open gives it
        if len(begun) == 2:
            target.write(b"half a li")
            raise jobs.Terminated
        return answer_file(batch, source, target, tell)

    monkeypatch.setattr(batch_jobs, "answer_file", killed)
    with pytest.raises(jobs.Terminated):
        personalize.work()
    assert [path.name for path in (personalize.data / "out").iterdir()] == ["a.json.out"]
    personalize.work()
    assert begun == ["a.json", "b.json", "b.json"]
    job = personalize.describe_batch_inference_job(batch_inference_job_arn=arn)["batchInferenceJob"]
    assert job.status == "ACTIVE" and len(answers(personalize, "b.json.out")) == 2
    assert not list(personalize.account.store.files.path("batch-inference-jobs").iterdir())


def test_the_same_file_is_answered_with_the_same_bytes(personalize, version):
    source = write(personalize, "users.json", *({"userId": f"u{n}"} for n in range(50)))
    outputs = []
    for name in ("first", "second"):
        assert run(personalize, version, source, name).status == "ACTIVE"
        outputs.append((personalize.data / "out" / "users.json.out").read_bytes())
    assert outputs[0] == outputs[1]


def test_lists_of_related_items_get_a_theme(personalize):
    group = personalize.filled()
    items = pd.DataFrame({"ITEM_ID": [f"i{n}" for n in range(1, 41)]})
    items["NAME"] = [f"{'piano' if n % 2 else 'drums'} number {n}" for n in range(1, 41)]
    items["TEXT"] = [f"{'quiet evening' if n % 2 else 'loud morning'} music" for n in range(1, 41)]
    fields = [{"name": name, "type": "string"} for name in ("ITEM_ID", "NAME", "TEXT")]
    fields[2]["textual"] = True
    personalize.load(personalize.dataset(group, {"type": "record", "name": "Items", "fields": fields}), items, "items")
    recipe = "arn:aws:personalize:::recipe/aws-similar-items"
    version = personalize.version(personalize.solution(group, "similar", recipe))
    themes = {"batch_inference_job_mode": "THEME_GENERATION"}
    themes["theme_generation_config"] = {"fieldsForThemeGeneration": {"itemName": "NAME"}}
    source = write(personalize, "items.json", {"itemId": "i3"}, {"itemId": "i4"})
    job = run(personalize, version, source, "themes", num_results=5, **themes)
    assert (job.status, job.failure_reason) == ("ACTIVE", None)
    for line in answers(personalize, "items.json.out"):
        output = line["output"]
        assert set(output["theme"].lower().split(", ")) <= {"piano", "drums", "quiet", "loud", "evening", "morning"}
        assert len(output["itemsThemeRelevanceScores"]) == len(output["recommendedItems"]) == 5
        assert 0 < max(output["itemsThemeRelevanceScores"]) <= 1
    many = write(personalize, "many.json", *[{"itemId": "i3"}] * 101)
    job = run(personalize, version, many, "many", **themes)
    assert job.status == "CREATE FAILED" and "with themes at most 100" in job.failure_reason
    assert not (personalize.data / "out" / "many.json.out").exists()


def test_jobs_that_make_no_sense_are_refused(personalize, version):
    source = write(personalize, "users.json", {"userId": "u1"})
    with pytest.raises(InvalidInputException, match="Invalid S3 input path"):
        create(personalize, version, "s3://data/none.json")
    with pytest.raises(InvalidInputException, match="numResults"):
        create(personalize, version, source, num_results=501)
    with pytest.raises(InvalidInputException, match="THEME_GENERATION"):
        create(personalize, version, source, batch_inference_job_mode="THEME_GENERATION")
    exploring = {"itemExplorationConfig": {"explorationWeight": "0.5"}}
    with pytest.raises(InvalidInputException, match="does not explore"):
        create(personalize, version, source, batch_inference_job_config=exploring)
    for number in range(5):
        create(personalize, version, source, f"b{number}")
    with pytest.raises(LimitExceededException):
        create(personalize, version, source, "b5")


def test_a_filter_of_users_is_refused(personalize, version):
    source = write(personalize, "users.json", {"userId": "u1"})
    expression = 'INCLUDE UserID WHERE Interactions.EVENT_TYPE IN ("click")'
    group = personalize.list_dataset_groups()["datasetGroups"][0].dataset_group_arn
    arn = personalize.create_filter(name="f", dataset_group_arn=group, filter_expression=expression)["filterArn"]
    with pytest.raises(InvalidInputException, match="chooses among UserID, this job needs a filter of ItemID"):
        create(personalize, version, source, filter_arn=arn)


def test_exploration_is_configured_within_its_range(personalize, version, monkeypatch):
    monkeypatch.setitem(RECIPES, RECIPE.name, replace(RECIPE, explores=True))
    source = write(personalize, "users.json", {"userId": "u1"})
    for weight, age in (("2", "30"), ("0.5", "0")):
        config = {"itemExplorationConfig": {"explorationWeight": weight, "explorationItemAgeCutOff": age}}
        with pytest.raises(InvalidInputException, match="itemExplorationConfig"):
            create(personalize, version, source, batch_inference_job_config=config)
    outputs = {}
    for name, weight in (("none", "0"), ("some", "0.8"), ("again", "0.8")):
        config = {"itemExplorationConfig": {"explorationWeight": weight, "explorationItemAgeCutOff": "10000"}}
        assert run(personalize, version, source, name, batch_inference_job_config=config).status == "ACTIVE"
        outputs[name] = (personalize.data / "out" / "users.json.out").read_bytes()
    assert outputs["none"] != outputs["some"] == outputs["again"]


def test_more_files_than_the_quota_fail_the_job(personalize, version):
    for name in ("a", "b"):
        write(personalize, f"in/{name}", {"userId": "u1"})
    arn = create(personalize, version, "s3://data/in/")
    few = replace(personalize.account, quotas={**personalize.account.quotas, "batch_files": 1})
    jobs.run_pending(few)
    job = personalize.describe_batch_inference_job(batch_inference_job_arn=arn)["batchInferenceJob"]
    assert job.status == "CREATE FAILED" and "holds 2 files, a job may have 1" in job.failure_reason


def test_a_filter_is_held_by_a_batch_job_that_has_not_ended(personalize, version):
    group = personalize.list_dataset_groups()["datasetGroups"][0].dataset_group_arn
    arn = personalize.create_filter(
        name="f", dataset_group_arn=group, filter_expression='EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")'
    )["filterArn"]
    create(personalize, version, write(personalize, "users.json", {"userId": "u1"}), filter_arn=arn)
    with pytest.raises(ResourceInUseException, match="batch-inference-job"):
        personalize.delete_filter(filter_arn=arn)
    personalize.work()
    personalize.delete_filter(filter_arn=arn)


@pytest.mark.parametrize(("seconds", "told"), [(0, "was deleted before the job began"), (10, "does not exist")])
def test_a_job_whose_version_was_deleted_says_so(personalize, version, seconds, told):
    arn = create(personalize, version, write(personalize, "users.json", {"userId": "u1"}))
    personalize.delete_solution(solution_arn=version.rpartition("/")[0])
    personalize.clock.wait(seconds)
    personalize.work()
    job = personalize.describe_batch_inference_job(batch_inference_job_arn=arn)["batchInferenceJob"]
    assert job.status == "CREATE FAILED" and version in job.failure_reason and told in job.failure_reason
