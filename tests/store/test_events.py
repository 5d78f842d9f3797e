"""Live events and records: what is kept, what counts, and whose it is."""

import pytest

from lib.data.schema import Field, Schema
from lib.store import events
from lib.store.database import Store
from lib.store.events import LiveEvent

CLICKS, OTHER, ITEMS = "arn:interactions", "arn:other", "arn:items"
SCHEMA = Schema(
    name="Interactions",
    fields=(
        Field(name="USER_ID", type="string"),
        Field(name="ITEM_ID", type="string"),
        Field(name="TIMESTAMP", type="long"),
        Field(name="EVENT_VALUE", type="float", nullable=True),
    ),
)


@pytest.fixture
def store(place):
    store = Store.open(*place)
    yield store
    store.close()


def click(item, at, *, user=None, session="s", event_id=None, event_type="click", **columns):
    return LiveEvent(
        session_id=session,
        user_id=user,
        event_type=event_type,
        sent_at=at,
        item_id=item,
        event_id=event_id,
        row={"ITEM_ID": item, "TIMESTAMP": at, **columns},
    )


def append(store, *sent, arn=CLICKS):
    with store.transaction() as tx:
        events.append(tx, arn, sent, received_at=1000)


def items_of(store, user, limit=events.NEWEST, arn=CLICKS):
    with store.read() as tx:
        return [event.item_id for event in events.newest(tx, arn, user, limit)]


def training_rows(store, **options):
    with store.read() as tx:
        table = events.interactions(tx, CLICKS, SCHEMA, **options)
    return list(zip(table["USER_ID"], table["ITEM_ID"], table["TIMESTAMP"]))


def test_the_newest_events_of_a_user_come_oldest_first(store):
    append(store, *(click(f"i{n}", n, user="u") for n in range(5)))
    append(store, click("x", 9, user="v", session="t"))
    assert items_of(store, "u") == ["i0", "i1", "i2", "i3", "i4"]
    assert items_of(store, "u", limit=2) == ["i3", "i4"]
    assert items_of(store, "nobody") == []


def test_the_newest_events_of_each_type_come_however_many_there_are_of_others(store):
    append(store, click("bought", 1, user="u", event_type="purchase"), click("again", 2, user="u", event_id="e"))
    append(store, *(click(f"i{n}", n, user="u", event_id="e") for n in range(5)))
    append(store, *(click(f"i{n}", n, user="u") for n in range(5)))
    append(store, *(click(f"s{n}", n, session="u", event_type="view") for n in range(5)))
    assert items_of(store, "u", limit=2) == ["bought", "i3", "i4", "s3", "s4"]


def test_a_session_answers_for_itself_before_login_and_its_user_has_it_after(store):
    append(store, click("a", 1))
    assert items_of(store, "s") == ["a"]
    assert items_of(store, "u") == []
    append(store, click("b", 2, user="u"), click("c", 3))
    assert items_of(store, "u") == ["a", "b", "c"]
    assert items_of(store, "s") == ["a", "c"]


def test_a_session_belongs_to_the_first_user_it_meets(store):
    append(store, click("a", 1), click("b", 2, user="u"), click("c", 3, user="v"), click("d", 4))
    assert items_of(store, "u") == ["a", "b", "d"]
    assert items_of(store, "v") == ["c"]


def test_a_users_events_answer_for_no_other_user_whose_id_is_their_sessions(store):
    append(store, click("a", 1, user="alice", session="7"), click("b", 2, user="7"))
    assert items_of(store, "7") == ["b"]
    append(store, click("c", 3, session="7"))
    assert items_of(store, "7") == ["b", "c"] and items_of(store, "alice") == ["a", "c"]


def test_training_leaves_out_sessions_that_never_met_a_user(store):
    append(store, click("a", 1), click("b", 2, session="t"), click("c", 3, user="u", session="t"))
    assert training_rows(store) == [("u", "b", 2), ("u", "c", 3)]
    assert training_rows(store, anonymous=True) == [("s", "a", 1), ("u", "b", 2), ("u", "c", 3)]


def test_an_event_id_counts_once_also_within_one_call(store):
    append(store, click("a", 1, user="u", event_id="e"), click("b", 2, user="u", event_id="e"))
    append(store, click("c", 3, user="u", event_id="e"), click("d", 4, user="u"))
    assert training_rows(store) == [("u", "a", 1), ("u", "d", 4)]
    assert items_of(store, "u") == ["a", "d"]


def test_the_same_event_id_in_another_dataset_is_another_event(store):
    append(store, click("a", 1, user="u", event_id="e"))
    append(store, click("b", 1, user="u", event_id="e"), arn=OTHER)
    assert items_of(store, "u", arn=OTHER) == ["b"]


def test_events_that_are_equal_in_everything_train_once(store):
    append(store, click("a", 1, user="u", EVENT_VALUE=2.0), click("a", 1, user="u", EVENT_VALUE=2.0))
    append(store, click("a", 1, user="u", EVENT_VALUE=3.0))
    assert len(training_rows(store)) == 2


def test_an_event_without_an_item_is_kept_and_does_not_train(store):
    append(store, LiveEvent(session_id="s", user_id="u", event_type="login", sent_at=5))
    assert training_rows(store) == []
    assert items_of(store, "u") == [None]


def test_rows_have_the_schemas_columns_and_types(store):
    append(store, click("a", 2, user="u"), click("b", 1, user="u", EVENT_VALUE=1))
    with store.read() as tx:
        table = events.interactions(tx, CLICKS, SCHEMA)
    assert list(table.columns) == list(SCHEMA.columns)
    assert table["TIMESTAMP"].tolist() == [1, 2] and table["TIMESTAMP"].dtype == "int64"
    assert table["EVENT_VALUE"].dtype == "float64" and table["EVENT_VALUE"].isna().tolist() == [False, True]


def test_a_put_record_replaces_the_older_one_whole(store):
    with store.transaction() as tx:
        events.put(tx, ITEMS, {"a": {"GENRE": "Jazz", "PRICE": 1}, "b": {"GENRE": "Folk"}}, received_at=0)
        rows, last = events.records(tx, ITEMS)
        assert rows == {"a": {"GENRE": "Jazz", "PRICE": 1}, "b": {"GENRE": "Folk"}}
        events.put(tx, ITEMS, {"a": {"GENRE": "Pop"}}, received_at=1)
        assert events.records(tx, ITEMS)[0] == {"b": {"GENRE": "Folk"}, "a": {"GENRE": "Pop"}}
        assert events.records(tx, ITEMS, after=last)[0] == {"a": {"GENRE": "Pop"}}


def test_the_state_moves_with_every_put_and_knows_the_newest_event(store):
    append(store, click("a", 7, user="u"))
    append(store, click("b", 3, user="u"))
    with store.transaction() as tx:
        events.put(tx, ITEMS, {"a": {}}, received_at=0)
        state = events.state(tx, [CLICKS, ITEMS, OTHER])
    assert state == {CLICKS: events.Live(2, 7), ITEMS: events.Live(1, None)}


def steps(store, search):
    """Instructions of SQLite that a search takes."""
    counted = []
    with store.read() as tx:
        database = tx.connection.driver_connection
        database.set_progress_handler(lambda: counted.append(1), 1)
        search(tx)
        database.set_progress_handler(None, 1)
    return len(counted)


def test_what_came_since_is_read_without_looking_at_what_was_there(tmp_path):
    store = Store.open(tmp_path)

    def search(tx):
        """Hear of the last event, and find it by its id."""
        last = events.last_event(tx, CLICKS)
        heard, _ = events.after(tx, CLICKS, last - 1)
        arrived = events.arrived(tx, CLICKS, last - 1, 1e12, 10)
        assert ([one.item_id for one in heard], [one.sequence for one in arrived]) == (["last"], [last])
        assert events.last_arrival(tx, CLICKS) == (last, 1000)

    append(store, *(click(f"i{n}", n) for n in range(10)), click("last", 10, event_id="e"))
    few = steps(store, search)
    append(store, *(click(f"i{n}", n, event_id=f"e{n}") for n in range(2000)), click("last", 10))
    assert steps(store, search) <= few
    store.close()


def test_the_newest_events_are_read_without_looking_at_older_ones(tmp_path):
    def search(tx):
        for owner in ("u", "s"):
            assert [one.item_id for one in events.newest(tx, CLICKS, owner, 2)] == ["bought", "i8", "i9"]

    taken = []
    for times in (1, 200):
        store = Store.open(tmp_path / str(times))
        for who in ({"user": "u", "session": "t"}, {"session": "s"}):
            clicks = [click(f"i{n}", n, **who) for n in range(10)]
            append(store, click("bought", 0, event_type="buy", **who), *clicks * times)
        taken.append(steps(store, search))
        store.close()
    assert taken[0] == taken[1]


def test_an_event_from_the_future_counts_as_of_its_arrival(store):
    append(store, click("a", 5000, user="u"))
    with store.read() as tx:
        assert events.state(tx, [CLICKS]) == {CLICKS: events.Live(1, 1000)}
        assert [event.sent_at for event in events.newest(tx, CLICKS, "u")] == [1000]
        assert [event.at for event in events.after(tx, CLICKS, 0)[0]] == [1000]
        assert [event.sent_at for event in events.arrived(tx, CLICKS, 0, 2000, 10)] == [1000]
    assert training_rows(store) == [("u", "a", 1000)]
    assert training_rows(store, as_sent=True) == [("u", "a", 5000)]


def test_nothing_is_left_of_a_forgotten_dataset(store):
    append(store, click("a", 1, user="u"))
    append(store, click("b", 1, user="u"), arn=OTHER)
    with store.transaction() as tx:
        events.forget(tx, CLICKS)
        assert events.state(tx, [CLICKS, OTHER]) == {OTHER: events.Live(1, 1)}
    append(store, click("c", 2))
    assert items_of(store, "u") == [] and items_of(store, "s") == ["c"]
    assert items_of(store, "u", arn=OTHER) == ["b"]


def test_answered_events_are_there_for_another_process(store, place):
    append(store, click("a", 1, user="u"))
    other = Store.open(*place)
    assert items_of(other, "u") == ["a"]
    other.close()
