"""What the notebooks share."""

import boto3
import numpy as np
import pandas as pd
import pytest

from lib import workbook
from lib.data.datasets import Datasets
from lib.data.schema import Field, Schema
from lib.load import Measurement
from tests import object_storage

FILTERS = {
    "not-read": 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")',
    "cheap": "INCLUDE ItemID WHERE Items.PRICE < 5",
    "asked-for": "INCLUDE ItemID WHERE Items.GENRE IN ($GENRE)",
    "like-it": "INCLUDE ItemID WHERE Items.GENRE = CurrentItem.GENRE",
    "people": 'INCLUDE UserID WHERE Users.TIER IN ("gold")',
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file among a run's data."""
    monkeypatch.setenv("WORKBOOK_RUNS", str(tmp_path))
    path = tmp_path / "news" / "data" / "export" / "items.csv"
    path.parent.mkdir(parents=True)
    path.write_text("ITEM_ID\na\n")
    return path


def test_a_file_is_brought_to_the_bucket_that_a_service_elsewhere_reads(file, monkeypatch):
    with object_storage.serving() as url:
        bucket = object_storage.configured(url, monkeypatch)
        bucket.create_bucket(Bucket="elsewhere")
        location = workbook.upload("news", file, "elsewhere", "http://127.0.0.1:8400")
        assert location == "s3://elsewhere/news/export/items.csv"
        content = bucket.get_object(Bucket="elsewhere", Key="news/export/items.csv")["Body"].read()
        assert content == file.read_bytes()


def test_the_runs_own_bucket_is_the_folder_itself(file, monkeypatch):
    monkeypatch.setattr(boto3, "client", None)
    for endpoint in ("in-process", "http://127.0.0.1:8400"):
        assert workbook.upload("news", file, workbook.BUCKET, endpoint) == "s3://workbook/export/items.csv"


def test_a_look_into_a_store_that_the_profile_does_not_name_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_RUNS", str(tmp_path))
    workbook.note("news", seed=1, endpoint="http://127.0.0.1:8400", store="", files="")
    with pytest.raises(FileNotFoundError, match=r"set 02_define_schema\.store to the store of the service there"):
        workbook.account("news")
    assert not (tmp_path / "news" / "store").exists()


def test_a_look_inside_goes_to_the_store_that_the_profile_names(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_RUNS", str(tmp_path / "runs"))
    workbook.note("elsewhere", seed=1, endpoint="http://127.0.0.1:8400", store=str(tmp_path / "store"), files="")
    assert workbook.account("elsewhere").store.location == tmp_path / "store"


def test_on_aws_arns_are_of_the_callers_account_and_region(monkeypatch):
    monkeypatch.setattr(workbook, "_owner", {"region": "nowhere", "account": "nobody"})
    with object_storage.serving() as url:
        object_storage.configured(url, monkeypatch)
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        assert workbook.client("personalize", "news", workbook.AWS).meta.region_name == "eu-west-1"
    assert workbook.arn("campaign", "c") == "arn:aws:personalize:eu-west-1:123456789012:campaign/c"


@pytest.mark.parametrize("columns", [["USER_ID"], ["USER_ID", "EVENT_TYPE"]])
def test_filters_about_interactions_are_left_out_where_these_have_no_event_type(columns, monkeypatch):
    schema = Schema(name="Interactions", fields=tuple(Field(name=name, type="string") for name in columns))
    data = Datasets(interactions=None, schemas={"INTERACTIONS": schema})
    monkeypatch.setattr(workbook, "datasets", lambda run: data)
    left_out = FILTERS.keys() - workbook.possible_filters("news", FILTERS)
    assert left_out == (set() if "EVENT_TYPE" in columns else {"not-read"})


def of_items(monkeypatch, **kinds):
    """Give any run Items with these columns, and whether each is categorical."""
    fields = [Field(name=name, type="string", categorical=categorical) for name, categorical in kinds.items()]
    schema = Schema(name="Items", fields=(Field(name="ITEM_ID", type="string"), *fields))
    monkeypatch.setattr(workbook, "datasets", lambda run: Datasets(interactions=None, schemas={"ITEMS": schema}))


def test_columns_to_show_are_those_asked_for_or_two_that_items_has(monkeypatch):
    of_items(monkeypatch, NAME=False, PRICE=False, CATEGORY=True)
    assert workbook.shown("news", ["PRICE"]) == ["PRICE"]
    assert workbook.shown("news", []) == ["NAME", "CATEGORY"]
    with pytest.raises(ValueError, match=r"07_query\.columns: Items has no column TITLE; it has NAME, PRICE, CATEGORY"):
        workbook.shown("news", ["TITLE", "CATEGORY"])
    of_items(monkeypatch, CATEGORY=True, PRICE=False)
    assert workbook.shown("news", []) == ["PRICE", "CATEGORY"]
    of_items(monkeypatch, TITLE=False, CREATION_TIMESTAMP=False)
    assert workbook.shown("news", []) == ["TITLE", "CREATION_TIMESTAMP"]


def test_items_are_of_the_kinds_that_a_column_tells_or_the_first_categorical_one(monkeypatch):
    of_items(monkeypatch, NAME=False, GENRE=True)
    table = pd.DataFrame({"NAME": ["one", "two"], "GENRE": ["x|y", None]}, index=["a", "b"])
    monkeypatch.setattr(workbook, "items", lambda run: table)
    assert workbook.item_kinds("news", "NAME").to_list() == ["one", "two"]
    assert workbook.item_kinds("news", "")["a"] == "x"
    with pytest.raises(ValueError, match=r"03_train\.item_category is 'KIND', but Items has NAME, GENRE"):
        workbook.item_kinds("news", "KIND")
    of_items(monkeypatch, NAME=False)
    assert workbook.item_kinds("news", "").nunique() == 1


def test_the_report_tells_the_load_of_users_asked_for_the_first_time():
    of_clients = {1: Measurement(np.array([4.0, 6.0]), 0.02, {}), 8: Measurement(np.array([9.0, 9.0]), 0.01, {})}
    again = {1: Measurement(np.array([0.1]), 0.001, {})}
    assert workbook.load_summary({"first time": of_clients, "again": again}) == {
        "Median latency of first requests, clients: 1": "5.0 ms",
        "First requests a second, clients: 8": "200",
    }


def test_a_user_is_asked_with_the_filters_that_there_are_and_that_need_no_more(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_RUNS", str(tmp_path))
    for filters in (FILTERS, {"mine": FILTERS["cheap"]}, {}):
        workbook.note("news", filters=filters)
        asked = [name for name in filters if name in ("not-read", "cheap", "mine")]
        assert workbook.user_filters("news") == {name: filters[name] for name in asked}


def test_the_recipe_of_the_update_may_be_among_the_recipes():
    recipes = ["aws-user-personalization", "aws-popularity-count"]
    assert workbook.trainable(recipes, "aws-user-personalization") == recipes
    assert workbook.trainable(recipes[1:], "aws-user-personalization") == recipes[::-1]


@pytest.mark.parametrize(
    ("recipe", "update_recipe", "said"),
    [
        ("aws-item-affinity", "aws-user-personalization", "chooses users and the others items"),
        ("aws-next-best-action", "aws-user-personalization", "chooses actions and the others items"),
        ("aws-popular", "aws-user-personalization", "there is no recipe 'aws-popular'"),
        ("aws-sims", "aws-popularity-count", "has no UPDATE; those that have: aws-user-personalization"),
    ],
)
def test_a_recipe_that_the_notebooks_cannot_use_is_refused_before_training(recipe, update_recipe, said):
    with pytest.raises(ValueError, match=said):
        workbook.trainable([recipe], update_recipe)
