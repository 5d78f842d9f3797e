"""Machines that share nothing but a database and a bucket are one service."""

import json
import shutil
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from botocore.exceptions import EndpointConnectionError

from lib import jobs
from lib.resources import dataset_import_jobs, solution_versions
from lib.store import bucket as buckets
from lib.store import jobs as rows
from lib.store.bucket import Bucket
from lib.store.database import Store
from lib.store.files import Files
from tests import object_storage
from tests.resources.workflow import Personalize, interactions

PLACE = "s3://store/of/news"
ROLE = "arn:aws:iam::123456789012:role/r"


@pytest.fixture(scope="module")
def server():
    with object_storage.serving() as url:
        yield url


@pytest.fixture
def s3(server, monkeypatch):
    """A client of an S3 with one empty bucket."""
    client = object_storage.configured(server, monkeypatch)
    client.create_bucket(Bucket="store")
    yield client
    object_storage.empty(server)


@pytest.fixture
def database(postgresql):
    yield postgresql.shared
    postgresql.empty()


@pytest.fixture
def machine(database, s3, tmp_path):
    """Opens the service on one more machine."""
    opened = []

    def open_another() -> Personalize:
        folder = tmp_path / f"machine-{len(opened)}"
        folder.mkdir()
        opened.append(Personalize.open(folder, (database, PLACE, folder / "cache")))
        opened[-1].clock.wait(60 * len(opened))
        return opened[-1]

    yield open_another
    for one in opened:
        one.account.store.close()


@pytest.fixture
def files(s3, tmp_path):
    """The same files on two machines."""
    return [Files(tmp_path / name, Bucket.open(PLACE)) for name in ("here", "there")]


def keys(s3) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket="store").get("Contents", ())]


@contextmanager
def asking():
    """Collects what S3 is asked during the block."""
    found, events = [], buckets.connect().meta.events

    def listen(request, **_):
        found.append(request.url)

    events.register("before-send.s3", listen, unique_id="asking")
    yield found
    events.unregister("before-send.s3", unique_id="asking")


def test_what_one_machine_made_another_one_serves_and_exports(machine):
    first = machine()
    solution, version = first.trained()
    shutil.rmtree(first.account.store.files.root)
    second = machine()
    campaign = second.create_campaign(name="c", solution_version_arn=version)["campaignArn"]
    second.clock.wait()
    assert len(second.get_recommendations(campaign_arn=campaign, user_id="u1")["itemList"]) == 25
    dataset = second.list_datasets()["datasets"][0].dataset_arn
    second.create_dataset_export_job(
        job_name="out",
        dataset_arn=dataset,
        role_arn=ROLE,
        job_output={"s3DataDestination": {"path": "s3://data/exports"}},
        ingestion_mode="ALL",
    )
    second.work()
    exported = pd.read_csv(second.data / "exports" / "out" / "part-00000.csv")
    pd.testing.assert_frame_equal(exported, interactions())
    assert first.status(second.version(solution)) == "ACTIVE"


def test_a_loaded_campaign_answers_without_the_bucket(machine):
    one = machine()
    _, version = one.trained()
    campaign = one.create_campaign(name="c", solution_version_arn=version)["campaignArn"]
    one.clock.wait()
    with asking() as loading:
        one.get_recommendations(campaign_arn=campaign, user_id="u1")
    one.create_dataset_group(name="other")  # the store has changed
    with asking() as answering:
        one.get_recommendations(campaign_arn=campaign, user_id="u2")
    assert loading != [] and answering == []


def test_what_is_deleted_is_gone_from_the_bucket_and_from_all_machines(machine, s3):
    one, other = machine(), machine()
    solution, version = one.trained()
    assert any("solution-versions" in key for key in keys(s3))
    other.delete_solution(solution_arn=solution)
    assert not any("solution-versions" in key for key in keys(s3))
    assert not solution_versions.version_folder(one.account, version).exists()


def test_the_sweep_of_an_import_reaches_what_another_machine_left(machine, s3):
    one, other = machine(), machine()
    dataset = one.dataset(one.group())
    for number, importer in enumerate((one, other, one)):
        assert importer.load(dataset, interactions(1000 + number), f"job{number}").status == "ACTIVE"
    names = [f"datasets/news/INTERACTIONS/job{number}" for number in (1, 2)]
    assert one.account.store.files.names("datasets/news/INTERACTIONS") == names
    assert {key.removeprefix("of/news/content/").rpartition("/")[0] for key in keys(s3) if "/content/" in key} == {
        *names
    }


def test_jobs_of_one_lane_take_turns_on_all_machines(machine):
    one, other = machine(), machine()
    with one.account.store.holding("training-0") as got:
        with other.account.store.holding("training-0") as too:
            assert (got, too) == (True, False)
        _, version = other.trained()
        assert other.status(version) == "CREATE PENDING"
    other.work()
    assert other.status(version) == "ACTIVE"


def test_who_waits_for_a_lock_gets_it_when_the_connection_of_its_holder_is_gone(machine, postgresql):
    one, other = machine(), machine()
    with one.account.store.holding("outbox") as got:
        postgresql.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        with other.account.store.holding("outbox", wait=True) as too:
            assert got and too
    with one.account.store.holding("outbox") as again:
        assert again


def test_a_job_that_another_machine_has_taken_over_is_ended_by_that_one_alone(machine, monkeypatch):
    one, other = machine(), machine()
    dataset = one.dataset(one.group())
    one.load(dataset, interactions(), "first")

    def run(account, arn, tell):
        publish = dataset_import_jobs.run(account, arn, tell)
        with account.store.transaction() as tx:
            [job] = rows.unfinished(tx)
            rows.change(tx, job.id, attempt=2)
        return publish

    with monkeypatch.context() as changed:
        changed.setitem(jobs.WORK, "dataset-import-job", replace(jobs.WORK["dataset-import-job"], run=run))
        changed.setattr(jobs, "ATTEMPTS", 0)
        other.create_dataset_import_job(
            job_name="more",
            dataset_arn=dataset,
            data_source=other.put(interactions(1100), "more.csv"),
            import_mode="INCREMENTAL",
        )
        assert jobs._take_one(other.account)
    [_, job] = one.list_dataset_import_jobs()["datasetImportJobs"]
    assert job.status == "CREATE IN_PROGRESS"
    assert [part.rpartition("/")[2] for part in one.list_datasets()["datasets"][0].parts] == ["first"]


@pytest.mark.parametrize("broken", ["upload", "write"])
def test_what_breaks_off_before_it_is_published_leaves_the_former_content(files, monkeypatch, broken):
    def break_off(*_):
        raise ConnectionError

    here, there = files
    for text in ("old", "new"):
        with suppress(ConnectionError), here.writing_folder("model") as folder:
            (folder / "a").write_text(text)
            (folder / "b").write_text("same")
        assert (there.path("model") / "a").read_text() == "old"
        assert (here.path("model") / "a").read_text() == "old"
        monkeypatch.setattr(Bucket, broken, break_off)


def test_a_file_and_a_folder_are_replaced_on_both_machines_and_in_the_bucket(files, s3):
    for one, text in zip(files, ("old", "new")):
        with one.writing("notes/0.json") as file:
            file.write_text(text)
        with one.writing_folder("model") as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / text).write_text(text)
        for each in files:
            assert each.path("notes/0.json").read_text() == text
            assert [file.name for file in each.path("model").rglob("*") if file.is_file()] == [text]
    assert len(keys(s3)) == 4  # two names, and the content of each


def test_what_is_here_already_is_not_brought_again(files):
    here, there = files
    with here.writing("a") as file:
        file.write_text("whole")
    there.path("a")
    for each in files:
        with asking() as found:
            each.path("a")
        assert [url.rpartition("/store/")[2] for url in found] == ["of/news/names/a"]


def test_a_folder_that_grows_goes_on_where_another_machine_left_it(files):
    here, there = files
    with here.working("study") as folder:
        folder.mkdir()
        (folder / "journal").write_text("1")
    with pytest.raises(RuntimeError), there.working("study") as folder:
        (folder / "journal").write_text("half")
        raise RuntimeError
    with there.working("study") as folder:
        (folder / "journal").write_text((folder / "journal").read_text() + "2")
    assert (here.path("study") / "journal").read_text() == "12"


def test_an_object_that_was_tampered_with_is_refused(files, s3):
    here, there = files
    with here.writing("a") as file:
        file.write_text("whole")
    [key] = [key for key in keys(s3) if "/content/" in key]
    s3.put_object(Bucket="store", Key=key, Body=b"other")
    with pytest.raises(ValueError, match=f"{key} is not what was put there"):
        there.path("a")


@pytest.mark.parametrize("inside", ["../../stolen", "/stolen", "a/../../stolen"])
def test_what_a_bucket_tells_does_not_lead_out_of_the_folder(files, s3, inside):
    s3.put_object(Bucket="store", Key="of/news/names/model", Body=json.dumps({inside: "0" * 64}).encode())
    with pytest.raises(ValueError, match="leads out of it"):
        files[0].path("model")


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", ".copied/a"])
def test_no_name_leads_out_of_the_prefix(files, name):
    for act in (files[0].path, files[0].remove, files[0].names):
        with asking() as found, pytest.raises(ValueError, match="no name of a file"):
            act(name)
        assert found == []


def test_content_that_is_gone_is_told(files, s3):
    s3.put_object(Bucket="store", Key="of/news/names/model", Body=json.dumps({"a": "0" * 64}).encode())
    with pytest.raises(ConnectionError, match="model in s3://store/of/news was replaced whenever it was read"):
        files[0].path("model")


def test_a_store_tells_other_programs_where_its_files_are(database, s3, tmp_path):
    store = Store.open(database, PLACE, tmp_path)
    assert store.options()[2:] == ["--files", PLACE, "--cache", str(tmp_path)]
    store.close()


def test_copies_lie_in_the_home_of_the_user_unless_told(database, s3, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    store = Store.open(database, PLACE)
    assert store.location.parent == tmp_path / ".cache" / "personalize"
    store.close()


def test_a_bucket_keeps_the_files_of_one_store_and_a_folder_its_copies(postgresql, s3, tmp_path):
    first, second = postgresql.database(), postgresql.database()
    Store.open(first, PLACE, tmp_path / "a").close()
    Store.open(first, PLACE, tmp_path / "b").close()
    with pytest.raises(
        ValueError, match=r"s3://store/else does not hold the files of .*: name the bucket whose store.id"
    ):
        Store.open(first, "s3://store/else", tmp_path / "a")
    with pytest.raises(ValueError, match="of/news holds the files of another store: name a new bucket"):
        Store.open(second, PLACE, tmp_path / "c")
    with pytest.raises(ValueError, match="a holds copies of another store's files: name another folder with --cache"):
        Store.open(second, "s3://store/else", tmp_path / "a")


def test_a_folder_with_something_in_it_is_not_taken_for_copies(database, s3, tmp_path):
    Store.open(tmp_path / "other").close()
    with pytest.raises(ValueError, match=r"other holds store.db: name an empty folder with --cache"):
        Store.open(database, PLACE, tmp_path / "other")


def test_copies_are_not_taken_for_the_files(database, s3, tmp_path):
    Store.open(database, PLACE, tmp_path / "copies").close()
    with pytest.raises(ValueError, match="copies does not hold the files of"):
        Store.open(database, tmp_path / "copies")


@pytest.mark.parametrize(
    ("place", "error", "told"),
    [
        ("s3://nowhere/news", FileNotFoundError, "there is no bucket 'nowhere' at http.*: make it, or name another"),
        ("s3://store/../x", ValueError, "'s3://store/../x' names no place for files"),
        ("s3://", ValueError, "names no place for files: give a folder, or s3://bucket/prefix"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_told(database, s3, tmp_path, place, error, told):
    with pytest.raises(error, match=told):
        Store.open(database, place, tmp_path)


def test_credentials_that_are_missing_are_told(database, s3, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(ValueError, match="needs credentials, and boto3 finds none: set AWS_ACCESS_KEY_ID"):
        Store.open(database, PLACE, tmp_path)


def test_an_s3_that_does_not_answer_is_told():
    class Silent:
        meta = SimpleNamespace(endpoint_url="http://127.0.0.1:1")

        def put_object(self, **_):
            raise EndpointConnectionError(endpoint_url=self.meta.endpoint_url)

    with pytest.raises(ConnectionError, match=r"s3://store/news/a cannot be reached.*AWS_ENDPOINT_URL_S3"):
        Bucket(Silent(), "store", "news/").write("a", b"")


def test_a_store_in_a_folder_keeps_its_files_there(tmp_path, database):
    with pytest.raises(ValueError, match="is a folder, where the files lie too"):
        Store.open(tmp_path, PLACE)
    with pytest.raises(ValueError, match="would hold copies of files in a bucket, but they are not in one"):
        Store.open(database, tmp_path / "files", tmp_path / "cache")
