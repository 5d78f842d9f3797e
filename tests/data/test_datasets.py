import json

import numpy as np
import pandas as pd
import pytest

from lib.data import datasets
from lib.data.datasets import Datasets
from lib.data.schema import Field, Schema, parse


def events(*rows):
    return pd.DataFrame(rows, columns=["USER_ID", "ITEM_ID", "TIMESTAMP", "EVENT_TYPE", "EVENT_VALUE"])


SHOP = events(
    ("a", "i", 1, "View", None),
    ("a", "j", 2, "view", 5.0),
    ("b", "i", 3, "Purchase", 20.0),
    ("b", "j", 4, None, 50.0),
)


def test_without_a_choice_all_interactions_are_trained_on():
    pd.testing.assert_frame_equal(datasets.select_events(SHOP), SHOP)


def test_one_event_type_is_chosen_in_any_case():
    assert datasets.select_events(SHOP, "VIEW")["TIMESTAMP"].tolist() == [1, 2]


def test_a_threshold_needs_a_value_that_reaches_it():
    assert datasets.select_events(SHOP, event_value_threshold="20")["TIMESTAMP"].tolist() == [3, 4]
    assert datasets.select_events(SHOP, "view", 5)["TIMESTAMP"].tolist() == [2]


def test_events_config_chooses_and_weighs():
    config = {
        "eventParametersList": [
            {"eventType": "view", "weight": 0.2, "eventValueThreshold": 1.0},
            {"eventType": "PURCHASE", "weight": 0.4},
        ]
    }
    chosen = datasets.select_events(SHOP, events_config=config)
    assert chosen["TIMESTAMP"].tolist() == [2, 3]
    assert chosen[datasets.WEIGHT].tolist() == [0.5, 1.0]


def test_only_the_ratio_of_weights_counts():
    def weights(view, purchase):
        listed = [{"eventType": "View", "weight": view}, {"eventType": "Purchase", "weight": purchase}]
        return datasets.select_events(SHOP, events_config={"eventParametersList": listed})[datasets.WEIGHT].tolist()

    assert weights(0.1, 0.3) == pytest.approx([1 / 3, 1 / 3, 1])
    assert weights(0.2, 0.6) == pytest.approx([1 / 3, 1 / 3, 1])
    assert weights(0, 0.3) == [1]
    with pytest.raises(ValueError, match="eventsConfig leaves no interaction"):
        weights(0, 0)


def test_event_weights_and_an_own_column_of_that_name_go_their_own_ways():
    fields = [{"name": datasets.WEIGHT, "type": "float"}]
    with pytest.raises(ValueError, match="names are letters, digits and underscores"):
        parse(json.dumps({"type": "record", "name": "Interactions", "version": "1.0", "fields": fields}))
    listed = [{"eventType": "View", "weight": 0.1}, {"eventType": "Purchase", "weight": 0.2}]
    chosen = datasets.select_events(SHOP.assign(WEIGHT="heavy"), events_config={"eventParametersList": listed})
    assert chosen["WEIGHT"].tolist() == ["heavy"] * 3
    left = datasets.exclude_columns(
        Datasets(interactions=chosen), {"excludedDatasetColumns": {"INTERACTIONS": ["WEIGHT"]}}
    )
    assert "WEIGHT" not in left.interactions
    assert left.interactions[datasets.WEIGHT].tolist() == [0.5, 0.5, 1.0]


def test_a_choice_needs_its_column():
    bare = SHOP[["USER_ID", "ITEM_ID", "TIMESTAMP"]]
    with pytest.raises(ValueError, match="Event type view is asked for, but Interactions have no column EVENT_TYPE"):
        datasets.select_events(bare, "view")
    with pytest.raises(ValueError, match=r"Event values from 3 on are asked for, but .* no column EVENT_VALUE"):
        datasets.select_events(bare, event_value_threshold=3)
    with pytest.raises(ValueError, match="Give either eventsConfig, or eventType"):
        datasets.select_events(SHOP, "view", events_config={"eventParametersList": []})


def history(n_users, each, ones=0):
    users = [f"u{n}" for n in range(n_users) for _ in range(each)] + [f"x{n}" for n in range(ones)]
    return pd.DataFrame({"USER_ID": users, "ITEM_ID": "i", "TIMESTAMP": range(len(users))})


def test_a_thousand_interactions_of_twenty_five_returning_users_are_enough():
    datasets.check_minima(history(25, 40))
    datasets.check_minima(history(25, 2, ones=2475))


TOO_FEW = [
    (history(27, 37), None, "Dataset has fewer than 1000 interactions (found 999). Import more."),
    (
        history(27, 37),
        "View",
        "Dataset has fewer than 1000 interactions after filtering by event type: View (found 999). "
        "Import more, or train on more event types.",
    ),
    (
        history(24, 50),
        None,
        "Create failed. Dataset has fewer than 25 users with at least 2 interactions each (found 24 of 24 users). "
        "Import more interactions of the same users.",
    ),
    (
        history(25, 2, ones=2476),
        None,
        "Create failed. Fewer than 1 % of the users have at least 2 interactions each (found 25 of 2501 users). "
        "Import more interactions of the same users.",
    ),
]


@pytest.mark.parametrize("interactions, event_type, message", TOO_FEW)
def test_too_little_data_is_refused_with_the_counts(interactions, event_type, message):
    with pytest.raises(ValueError) as error:
        datasets.check_minima(interactions, event_type)
    assert str(error.value) == message


def group(**more):
    fields = {"USER_ID": "string", "ITEM_ID": "string", "TIMESTAMP": "long", "EVENT_TYPE": "string", "DEVICE": "string"}
    schemas = {"INTERACTIONS": schema("Interactions", fields)}
    interactions = SHOP.assign(DEVICE="tv").drop(columns="EVENT_VALUE")
    items = pd.DataFrame({"ITEM_ID": ["i", "j"], "PRICE": [1.0, 2.0], "GENRE": ["x", "y"]})
    schemas["ITEMS"] = schema("Items", {"ITEM_ID": "string", "PRICE": "double", "GENRE": "string"})
    return Datasets(**{"interactions": interactions, "items": items, "schemas": schemas} | more)


def schema(name, fields):
    return Schema(name=name, fields=tuple(Field(name=field, type=kind) for field, kind in fields.items()))


def test_at_most_ten_event_types_and_columns_of_context_are_allowed():
    types = [f"event{n}" for n in range(10)]
    interactions = pd.DataFrame({"USER_ID": "u", "ITEM_ID": "i", "TIMESTAMP": 1, "EVENT_TYPE": types, "DEVICE": "tv"})
    datasets.check_event_types(group(interactions=interactions[:9]))
    with pytest.raises(ValueError, match="10 event types and 1 columns of their own, together at most 10"):
        datasets.check_event_types(group(interactions=interactions))


def test_excluded_columns_leave_tables_and_schemas():
    left = datasets.exclude_columns(
        group(), {"excludedDatasetColumns": {"Items": ["PRICE"], "INTERACTIONS": ["device"]}}
    )
    assert left.items.columns.tolist() == ["ITEM_ID", "GENRE"] == list(left.schemas["ITEMS"].columns)
    assert "DEVICE" not in left.interactions and "DEVICE" not in left.schemas["INTERACTIONS"]


def test_included_columns_stay_with_the_ids_and_event_types():
    left = datasets.exclude_columns(group(), {"includedDatasetColumns": {"ITEMS": ["PRICE"], "Interactions": []}})
    assert left.items.columns.tolist() == ["ITEM_ID", "PRICE"]
    assert left.interactions.columns.tolist() == ["USER_ID", "ITEM_ID", "TIMESTAMP", "EVENT_TYPE"]


def test_nothing_is_excluded_without_a_word():
    assert datasets.exclude_columns(group(), None).items.columns.tolist() == ["ITEM_ID", "PRICE", "GENRE"]


WRONG_CONFIGS = [
    ({"excludedDatasetColumns": {"ITEMS": ["COLOUR"]}}, "ITEMS has no column COLOUR; it has ITEM_ID, PRICE, GENRE"),
    ({"excludedDatasetColumns": {"INTERACTIONS": ["EVENT_TYPE"]}}, "EVENT_TYPE of INTERACTIONS cannot be excluded"),
    ({"excludedDatasetColumns": {"USERS": ["AGE"]}}, "names USERS, but the dataset group has no such dataset"),
    ({"excludedDatasetColumns": {"ORDERS": ["AGE"]}}, "Dataset type 'ORDERS': expected one of"),
    (
        {"excludedDatasetColumns": {"ITEMS": ["PRICE"]}, "includedDatasetColumns": {"ITEMS": ["GENRE"]}},
        "Give either excludedDatasetColumns or includedDatasetColumns, not both",
    ),
]


@pytest.mark.parametrize("config, message", WRONG_CONFIGS)
def test_a_wrong_choice_of_columns_is_refused(config, message):
    with pytest.raises(ValueError) as error:
        datasets.exclude_columns(group(), config)
    assert message in str(error.value)


def test_of_items_put_and_imported_the_newest_counts():
    bulk = pd.DataFrame({"ITEM_ID": ["b", "a"], "PRICE": [1, 2]})
    puts = pd.DataFrame({"ITEM_ID": ["c", "a", "a"], "PRICE": [3, 4, 5], "COLOUR": ["red", None, "blue"]})
    together = datasets.combine(bulk, puts, "ITEM_ID")
    assert together[["ITEM_ID", "PRICE"]].to_numpy().tolist() == [["a", 5], ["b", 1], ["c", 3]]
    assert together["COLOUR"].isna().tolist() == [False, True, False]


def test_the_last_arrival_of_each_user_counts_and_everybodys_is_theirs_too():
    users = np.array(["a", "b", "c"])
    arrivals = ((None, 5.0), (np.array(["c", "a", "x"]), np.array([7.0, 3.0, 9.0])), (pd.Index(["b"]), 6.0))
    assert datasets.last_arrivals(users, arrivals).tolist() == [5.0, 6.0, 7.0]
    assert datasets.last_arrivals(users, arrivals[1:]).tolist() == [3.0, 6.0, 7.0]
    assert datasets.last_arrivals(users, ()).tolist() == [-np.inf] * 3


def test_interactions_are_ordered_by_time_and_equal_ones_kept_once():
    bulk = pd.DataFrame({"USER_ID": ["u", "v"], "ITEM_ID": ["i", "i"], "TIMESTAMP": [5, 3]})
    puts = pd.DataFrame({"USER_ID": ["u", "u"], "ITEM_ID": ["j", "i"], "TIMESTAMP": [5, 5]})
    together = datasets.combine(bulk, puts, None)
    assert together.to_numpy().tolist() == [["v", "i", 3], ["u", "i", 5], ["u", "j", 5]]
    assert together["TIMESTAMP"].dtype == "int64"


@pytest.mark.parametrize("nothing", [None, pd.DataFrame({"USER_ID": [], "ITEM_ID": [], "TIMESTAMP": []})])
def test_nothing_put_changes_nothing(nothing):
    bulk = pd.DataFrame({"USER_ID": ["u"], "ITEM_ID": ["i"], "TIMESTAMP": [5]})
    pd.testing.assert_frame_equal(datasets.combine(bulk, nothing, None), bulk)


def test_histories_are_each_users_events_in_order_of_time():
    numbers = datasets.catalogue(group())
    assert numbers.item_ids.tolist() == ["i", "j"]
    assert numbers.event_types.tolist() == ["", "purchase", "view"]
    all_of_them = datasets.histories(SHOP, numbers)
    assert all_of_them.of("a").items.tolist() == [0, 1]
    assert all_of_them.of("b").event_types.tolist() == [1, 0]
    assert len(all_of_them.of("nobody").items) == 0


def test_ids_are_numbered_in_the_order_of_their_text_whatever_they_are_kept_as():
    for column in (pd.Series(["b", "10", "b", "9"]), pd.Series(["b", 10, "b", "9"], dtype=object)):
        ids, row = datasets.numbered(column)
        assert ids.tolist() == ["10", "9", "b"]
        assert ids[row].tolist() == ["b", "10", "b", "9"]


def test_event_types_of_a_history_compare_without_regard_to_case_and_none_is_one_too():
    numbers = datasets.catalogue(Datasets(interactions=SHOP))
    assert numbers.event_types.tolist() == ["", "purchase", "view"]
    done = datasets.histories(SHOP, numbers)
    assert done.event_types.tolist() == [2, 2, 1, 0]
    assert done.items.dtype == done.event_types.dtype == "int32"
