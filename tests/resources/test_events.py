"""What the Put operations keep, where it shows, and what they refuse."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from lib.resources import datasets
from lib.resources.errors import InvalidInputException, ResourceInUseException, ResourceNotFoundException
from lib.store.events import newest


def avro(name, *fields):
    return {
        "type": "record",
        "name": name,
        "namespace": "com.amazonaws.personalize.schema",
        "fields": list(fields),
        "version": "1.0",
    }


def text(name, **attributes):
    return {"name": name, "type": "string", **attributes}


def optional(name, kind="string", **attributes):
    return {"name": name, "type": ["null", kind], **attributes}


INTERACTIONS = avro(
    "Interactions",
    text("USER_ID"),
    text("ITEM_ID"),
    {"name": "TIMESTAMP", "type": "long"},
    text("EVENT_TYPE"),
    optional("EVENT_VALUE", "float"),
    optional("NUM_RATINGS", "int"),
    optional("IMPRESSION"),
    optional("RECOMMENDATION_ID"),
    optional("EVENT_ATTRIBUTION_SOURCE"),
)
ITEMS = avro("Items", text("ITEM_ID"), text("GENRE", categorical=True), optional("PRICE", "float"))
USERS = avro("Users", text("USER_ID"), optional("AGE", "int"))
ACTIONS = avro("Actions", text("ACTION_ID"), optional("VALUE", "long"), text("KIND", categorical=True))
ACTION_INTERACTIONS = avro(
    "ActionInteractions",
    text("USER_ID"),
    text("ACTION_ID"),
    text("EVENT_TYPE"),
    {"name": "TIMESTAMP", "type": "long"},
)
AT = datetime(2025, 6, 1, 12, 0, 0, 700_000, tzinfo=UTC)


class Events:
    """A group with a tracker and an interactions dataset that nothing was imported into."""

    def __init__(self, personalize):
        self.personalize = personalize
        self.group = personalize.group()
        self.interactions = personalize.dataset(self.group, INTERACTIONS)
        self.tracking_id = personalize.create_event_tracker(name="t", dataset_group_arn=self.group)["trackingId"]
        personalize.clock.wait()

    def put(self, *event_list, session_id="s", user_id="u", **members):
        event_list = [{"eventType": "click", "sentAt": AT, **event} for event in event_list]
        members = {"tracking_id": self.tracking_id, **members}
        return self.personalize.put_events(session_id=session_id, user_id=user_id, event_list=event_list, **members)

    def dataset(self, schema):
        return self.personalize.dataset(self.group, schema)

    def trained_on(self):
        return datasets.load(self.personalize.account, self.group)

    def rows(self):
        """Training's interactions as dictionaries without nulls."""
        table = self.trained_on().interactions
        return [{k: v for k, v in row.items() if not pd.isna(v)} for row in table.to_dict("records")]


@pytest.fixture
def events(personalize):
    return Events(personalize)


ROW = {"USER_ID": "u", "ITEM_ID": "a", "TIMESTAMP": int(AT.timestamp()), "EVENT_TYPE": "click"}


def test_an_event_becomes_a_training_row_of_the_schemas_types(events):
    assert events.put({"itemId": "a", "properties": '{"numRatings": "12"}'}) == {}
    assert events.rows() == [{**ROW, "NUM_RATINGS": 12}]


def test_members_reach_their_columns(events):
    events.put(
        {
            "itemId": "a",
            "eventValue": 2.5,
            "impression": ["a", "b"],
            "recommendationId": "RID-1",
            "metricAttribution": {"eventAttributionSource": "mail"},
        }
    )
    (row,) = events.rows()
    assert row == {
        **ROW,
        "EVENT_VALUE": 2.5,
        "IMPRESSION": "a|b",
        "RECOMMENDATION_ID": "RID-1",
        "EVENT_ATTRIBUTION_SOURCE": "mail",
    }


def test_item_and_value_may_stand_in_the_properties(events):
    events.put({"properties": '{"itemId": "a", "eventValue": "4"}'})
    assert events.rows() == [{**ROW, "EVENT_VALUE": 4.0}]


def test_an_item_whose_id_no_database_could_hold_is_refused(events):
    with pytest.raises(InvalidInputException, match=r"eventList\[0\]: ITEM_ID must hold no NUL character"):
        events.put({"properties": r'{"itemId": "a\u0000"}'})
    assert len(events.trained_on().interactions) == 0


@pytest.mark.parametrize(("given", "item"), [("true", "true"), ("12", "12"), ("1.5", "1.5")])
def test_an_item_that_is_no_text_is_the_same_to_filters_and_to_training(events, given, item):
    events.put({"properties": f'{{"itemId": {given}}}'})
    account, (row,) = events.personalize.account, events.rows()
    with account.store.read() as tx:
        (live,) = newest(tx, events.interactions, "u")
    assert live.item_id == row["ITEM_ID"] == item


def test_a_text_that_is_no_id_may_hold_anything(events):
    events.dataset(ITEMS)
    arn = events.personalize.list_datasets(dataset_group_arn=events.group)["datasets"][1].dataset_arn
    events.personalize.put_items(dataset_arn=arn, items=[{"itemId": "a", "properties": r'{"genre": "\u0000"}'}])
    assert events.trained_on().items["GENRE"].tolist() == ["\0"]


def test_a_member_wins_over_the_same_property(events):
    events.put({"itemId": "a", "eventValue": 1.0, "properties": '{"itemId": "b", "eventValue": 9}'})
    assert events.rows() == [{**ROW, "EVENT_VALUE": 1.0}]


def test_property_names_may_be_the_schemas_own_and_unknown_ones_are_dropped(events):
    events.put({"itemId": "a", "properties": '{"NUM_RATINGS": 3, "colour": "red"}'})
    assert events.rows() == [{**ROW, "NUM_RATINGS": 3}]


def test_ids_of_every_plane_and_ids_like_numbers_stay_what_they_are(events):
    events.put({"itemId": "007"}, {"itemId": "\U0001f600é"}, {"itemId": "1e5"}, user_id="\U00020000")
    assert [(row["USER_ID"], row["ITEM_ID"]) for row in events.rows()] == [
        ("\U00020000", "007"),
        ("\U00020000", "\U0001f600é"),
        ("\U00020000", "1e5"),
    ]


def test_one_event_id_trains_once(events):
    events.put({"itemId": "a", "eventId": "e"})
    events.put({"itemId": "b", "eventId": "e"}, {"itemId": "c", "eventId": "f"})
    assert [row["ITEM_ID"] for row in events.rows()] == ["a", "c"]


def test_a_sessions_events_train_once_it_has_met_its_user(events):
    events.put({"itemId": "a"}, user_id=None)
    assert events.rows() == []
    events.put({"itemId": "b", "sentAt": AT + timedelta(seconds=5)}, user_id="u")
    assert [(row["USER_ID"], row["ITEM_ID"]) for row in events.rows()] == [("u", "a"), ("u", "b")]


def test_an_event_without_an_item_is_accepted_and_trains_nothing(events):
    events.put({"eventType": "login"})
    assert events.rows() == []


REFUSED = [
    ({"itemId": "a", "properties": "[1]"}, "Error parsing properties json"),
    ({"itemId": "a", "properties": '"{}"'}, "Error parsing properties json"),
    ({"itemId": "a", "properties": "{"}, "Error parsing properties json"),
    ({"itemId": "a", "properties": '{"Timestamp": 1}'}, "may not hold 'Timestamp'"),
    ({"itemId": "a", "properties": '{"user_id": "x"}'}, "may not hold 'user_id'"),
    ({"itemId": "a", "properties": '{"numRatings": "many"}'}, r'eventList\[0\]: NUM_RATINGS is "many", expected int'),
    ({"itemId": "a", "sentAt": AT.replace(year=9000)}, "divide by 1000"),
    ({"itemId": "a", "sentAt": datetime(1969, 1, 1, tzinfo=UTC)}, "seconds since 1970"),
    ({"itemId": "a", "impression": ["i" * 256] * 25 + ["j" * 256] * 20}, "bytes large"),
]


@pytest.mark.parametrize(("event", "message"), REFUSED)
def test_an_event_that_cannot_be_kept_is_refused_and_nothing_of_its_call_is_kept(events, event, message):
    with pytest.raises(InvalidInputException, match=message):
        events.put(event, {"itemId": "b"})
    assert events.rows() == []


def test_an_unknown_tracking_id_is_invalid_input(events):
    with pytest.raises(InvalidInputException, match="No event tracker has the trackingId nope"):
        events.put({"itemId": "a"}, tracking_id="nope")


def test_a_tracker_without_an_interactions_dataset_takes_no_events(personalize):
    group = personalize.group()
    tracking_id = personalize.create_event_tracker(name="t", dataset_group_arn=group)["trackingId"]
    with pytest.raises(InvalidInputException, match="has no INTERACTIONS dataset"):
        personalize.put_events(
            tracking_id=tracking_id, session_id="s", event_list=[{"eventType": "click", "sentAt": AT, "itemId": "a"}]
        )


def test_a_put_item_replaces_the_older_one_whole(events):
    items = events.dataset(ITEMS)
    events.personalize.put_items(
        dataset_arn=items,
        items=[
            {"itemId": "a", "properties": '{"genre": "Jazz|Pop", "price": "2"}'},
            {"itemId": "b", "properties": '{"GENRE": "Folk"}'},
        ],
    )
    events.personalize.put_items(dataset_arn=items, items=[{"itemId": "a", "properties": '{"genre": "Pop"}'}])
    table = events.trained_on().items
    assert table["ITEM_ID"].tolist() == ["a", "b"] and table["GENRE"].tolist() == ["Pop", "Folk"]
    assert table["PRICE"].isna().all()


def test_a_put_item_survives_a_full_import(events):
    items = events.dataset(ITEMS)
    events.personalize.put_items(dataset_arn=items, items=[{"itemId": "b", "properties": '{"genre": "Put"}'}])
    table = pd.DataFrame({"ITEM_ID": ["a", "b"], "GENRE": ["Bulk", "Bulk"], "PRICE": [1.0, 2.0]})
    assert events.personalize.load(items, table, "items").status == "ACTIVE"
    assert events.trained_on().items["GENRE"].tolist() == ["Bulk", "Put"]


def test_users_are_put_likewise(events):
    users = events.dataset(USERS)
    events.personalize.put_users(
        dataset_arn=users, users=[{"userId": "u", "properties": '{"age": 30}'}, {"userId": "v"}]
    )
    table = events.trained_on().users
    assert table["USER_ID"].tolist() == ["u", "v"] and table["AGE"].tolist()[0] == 30


def test_records_that_cannot_be_kept_are_refused(events):
    items = events.dataset(ITEMS)
    with pytest.raises(InvalidInputException, match=r"items\[1\]: GENRE is missing"):
        events.personalize.put_items(
            dataset_arn=items, items=[{"itemId": "a", "properties": '{"genre": "x"}'}, {"itemId": "b"}]
        )
    with pytest.raises(InvalidInputException, match="Error parsing properties json"):
        events.personalize.put_items(dataset_arn=items, items=[{"itemId": "a", "properties": "genre"}])
    with pytest.raises(InvalidInputException, match="dataset of ITEMS, users go to USERS"):
        events.personalize.put_users(dataset_arn=items, users=[{"userId": "u"}])
    with pytest.raises(ResourceNotFoundException):
        events.personalize.put_items(dataset_arn=items + "X", items=[{"itemId": "a"}])
    assert events.trained_on().items.empty


def test_a_put_time_in_milliseconds_is_refused_as_an_imported_one_is(events):
    items = events.dataset(avro("Items", text("ITEM_ID"), optional("CREATION_TIMESTAMP", "long")))
    with pytest.raises(InvalidInputException, match=r"items\[0\]: CREATION_TIMESTAMP is 1795379455000.*divide by 1000"):
        late = '{"creationTimestamp": 1795379455000}'
        events.personalize.put_items(dataset_arn=items, items=[{"itemId": "a", "properties": late}])


def test_a_dataset_that_is_still_being_made_takes_no_items(events):
    schema = events.personalize.schema(ITEMS, "items-schema")
    arn = events.personalize.create_dataset(
        name="items", schema_arn=schema, dataset_group_arn=events.group, dataset_type="Items"
    )["datasetArn"]
    with pytest.raises(ResourceInUseException):
        events.personalize.put_items(dataset_arn=arn, items=[{"itemId": "a", "properties": '{"genre": "x"}'}])


def test_action_interactions_go_to_their_dataset_under_any_spelling_of_their_type(events):
    from lib.store import events as live

    actions = events.dataset(ACTIONS)
    events.personalize.put_actions(dataset_arn=actions, actions=[{"actionId": "a", "properties": '{"kind": "app"}'}])
    arn = events.dataset(ACTION_INTERACTIONS)
    tracking_id = events.personalize.describe_dataset(dataset_arn=arn)["dataset"].tracking_id
    spelt = ["Viewed", "TAKEN", "Not Taken", "not_taken"]
    events.personalize.put_action_interactions(
        tracking_id=tracking_id,
        action_interactions=[
            {"actionId": "a", "sessionId": "s", "userId": "u", "timestamp": AT + timedelta(seconds=n), "eventType": one}
            for n, one in enumerate(spelt)
        ],
    )
    account = events.personalize.account
    with account.store.read() as tx:
        schema = datasets.schemas(tx, account, events.group)["ACTION_INTERACTIONS"]
        table = live.interactions(tx, arn, schema)
    assert table["EVENT_TYPE"].tolist() == ["VIEWED", "TAKEN", "NOT_TAKEN", "NOT_TAKEN"]
    assert set(table["ACTION_ID"]) == {"a"}
    with pytest.raises(InvalidInputException, match="'bought', expected one of VIEWED, TAKEN, NOT_TAKEN"):
        events.personalize.put_action_interactions(
            tracking_id=tracking_id,
            action_interactions=[{"actionId": "a", "sessionId": "s", "timestamp": AT, "eventType": "bought"}],
        )
    with pytest.raises(ResourceNotFoundException, match="DescribeDataset tells it"):
        events.personalize.put_action_interactions(
            tracking_id=events.tracking_id,
            action_interactions=[{"actionId": "a", "sessionId": "s", "timestamp": AT, "eventType": "taken"}],
        )
