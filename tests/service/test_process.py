"""The service as a process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from lib.service.__main__ import main
from lib.store.database import Store
from tests.service.doors import remote

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def process(tmp_path):
    """A running service: the process, its URL and the lines of its log so far."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "lib.service", "--port", "0", "--store", str(tmp_path / "store")]
    command += ["--ready-file", str(tmp_path / "url")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        first = json.loads(running.stdout.readline())
        try:
            yield running, first
        finally:
            running.kill()


def test_a_service_tells_where_it_listens_answers_and_ends_when_it_is_told(process, tmp_path):
    running, first = process
    assert first["event"] == "listening" and "no credentials" in first["access"]
    assert (tmp_path / "url").read_text() == first["url"]
    with urlopen(first["url"] + "/health") as answer:
        assert json.load(answer) == {"status": "ok"}
    personalize = remote("personalize", first["url"])
    arn = personalize.create_dataset_group(name="news")["datasetGroupArn"]
    assert arn == "arn:aws:personalize:us-east-1:123456789012:dataset-group/news"
    with urlopen(first["url"] + "/metrics") as answer:
        assert b'personalize_jobs{state="PENDING"} 0.0' in answer.read()
    running.send_signal(signal.SIGTERM)
    told = time.monotonic()
    lines = [json.loads(line) for line in running.stdout]
    assert running.wait(10) == 0
    assert time.monotonic() - told < 5
    assert [(line["operation"], line["status"]) for line in lines] == [("CreateDatasetGroup", 200)]


def refusal(capsys, *arguments):
    """The one line that a service which cannot start leaves."""
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    return ended.value.code if isinstance(ended.value.code, str) else capsys.readouterr().err.splitlines()[-1]


def test_a_port_in_use_is_told_with_what_to_do(capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refusal(capsys, "--port", port, "--store", tmp_path / "store")
    assert told == (
        f"lib.service: port {port} of 127.0.0.1 is in use: end what listens there, or choose another with --port"
    )
    assert not (tmp_path / "store").exists()


def test_other_machines_are_served_with_credentials_only(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("PERSONALIZE_ACCESS_KEY_ID", raising=False)
    told = refusal(capsys, "--host", "0.0.0.0", "--store", tmp_path)
    assert "0.0.0.0 can be reached from other machines" in told and "--credentials FILE" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--port", "80000"], "'80000' is no port"),
        (["--account", "12"], "'12' is no account"),
        (["--bucket", "news"], "'news' names no folder"),
        (["--bucket", "news=/nowhere"], "'news=/nowhere' names no folder"),
        (["--quota", "dataset_group=9"], "'dataset_group' is no quota; the quotas are schemas, dataset_groups"),
        (["--quota", "dataset_groups"], "write NAME=NUMBER"),
        (["--quota", "dataset_groups=nan"], "a quota is 0 or more, or inf"),
        (["--ready-file", "/nowhere/url"], "No such file or directory"),
        (["--host", "nobody.invalid"], "host 'nobody.invalid' is unknown"),
        (["--credentials", "/nowhere"], "No such file or directory: '/nowhere'"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(capsys, tmp_path, arguments, told):
    assert told in refusal(capsys, "--port", 0, "--store", tmp_path, *arguments)


def test_a_store_that_is_a_file_is_refused(capsys, tmp_path):
    (tmp_path / "store").write_text("")
    assert "is a file; a store is a folder" in refusal(capsys, "--port", 0, "--store", tmp_path / "store")


def test_a_folder_of_something_else_is_refused_and_a_store_in_it_is_named(capsys, tmp_path):
    (tmp_path / "run" / "store").mkdir(parents=True)
    (tmp_path / "run" / "notes.json").write_text("{}")
    told = refusal(capsys, "--port", 0, "--store", tmp_path / "run")
    assert "run is no store: it holds notes.json, store; name a store, or a folder that is empty" in told
    Store.open(tmp_path / "run" / "store").close()
    told = refusal(capsys, "--port", 0, "--store", tmp_path / "run")
    assert told.endswith(f"did you mean {tmp_path / 'run' / 'store'}?")


def test_a_store_that_cannot_be_made_is_told_with_what_to_do(capsys):
    told = refusal(capsys, "--port", 0, "--store", "/proc/nobody/store")
    assert told.endswith("No such file or directory: name a folder that you may write to")


@pytest.mark.parametrize("place", ["store", "store/store.db", "store/files"])
def test_a_store_that_may_not_be_written_is_refused(tmp_path, place):
    Store.open(tmp_path / "store").close()
    (tmp_path / "store" / "files").mkdir()
    (tmp_path / place).chmod(0o500)
    # root may write whatever the file says, unless it gives that up
    command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    command += [sys.executable, "-m", "lib.service", "--port", "0", "--store", str(tmp_path / "store")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    (tmp_path / place).chmod(0o700)
    assert ended.stderr == (
        f"lib.service: {tmp_path / place} cannot be written: give this user the right to, or name another folder\n"
    )
    assert (ended.returncode, ended.stdout) == (1, "")


def test_a_store_in_a_database_needs_a_folder_for_its_files(capsys):
    told = refusal(capsys, "--port", 0, "--store", "postgresql://me:secret@host/news")
    assert told.endswith(
        "postgresql://me@host/news is a database: name the folder or bucket for its files too (--files)"
    )


def test_a_database_that_does_not_answer_is_told_in_one_line(capsys, tmp_path):
    told = refusal(capsys, "--port", 0, "--store", f"postgresql://me@/news?host={tmp_path}", "--files", tmp_path)
    assert "cannot be opened: connection is bad" in told
