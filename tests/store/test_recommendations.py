"""The lists behind recommendation ids."""

import pytest

from lib.store import events, recommendations
from lib.store.database import Store
from lib.store.events import LiveEvent
from lib.store.recommendations import Recommendation
from lib.store.tables import INSERTED_AT_ONCE


@pytest.fixture
def store(tmp_path):
    store = Store.open(tmp_path / "store")
    yield store
    store.close()


def listed(number, user="u", campaign="arn:campaign", items=("a", "b"), propensities=(0.5, 1.0)):
    return Recommendation(
        recommendation_id=f"RID-{number}",
        resource_arn=campaign,
        user_id=user,
        at=float(number),
        item_ids=list(items),
        propensities=None if propensities is None else list(propensities),
    )


def append(store, *given):
    with store.transaction() as tx:
        recommendations.append(tx, given)


def of_campaign(store, campaign="arn:campaign"):
    with store.read() as tx:
        return list(recommendations.of_resource(tx, campaign))


def test_a_list_is_found_by_its_id_as_it_was_given(store):
    append(store, listed(1), listed(2, propensities=None), listed(3, propensities=(None, 0.25)))
    with store.read() as tx:
        found = recommendations.of_ids(tx, ["RID-2", "RID-3", "RID-9"])
    assert found == {"RID-2": listed(2, propensities=None), "RID-3": listed(3, propensities=(None, 0.25))}


def test_lists_of_a_campaign_come_oldest_first(store):
    append(store, listed(1), listed(2, campaign="arn:other"), listed(3))
    assert of_campaign(store) == [listed(1), listed(3)]


@pytest.mark.parametrize("more", [-1, 0, 1, INSERTED_AT_ONCE + 3])
def test_however_many_are_given_at_once_all_are_kept_in_their_order(store, more):
    given = [
        listed(number, propensities=None if number % 3 else (0.5, 1.0)) for number in range(INSERTED_AT_ONCE + more)
    ]
    append(store, *given)
    assert of_campaign(store) == given


def test_the_oldest_go_when_there_are_too_many(store, monkeypatch):
    monkeypatch.setattr(recommendations, "KEPT", 10)
    monkeypatch.setattr(recommendations, "SPARE", 5)
    for number in range(40):
        append(store, listed(number))
    assert 10 <= len(of_campaign(store)) <= 16 and of_campaign(store)[-1] == listed(39)


def test_nothing_of_a_forgotten_user_is_left_in_these_campaigns(store):
    append(store, listed(1, "ann"), listed(2, "ben"), listed(3, "ann", "arn:other"))
    with store.transaction() as tx:
        recommendations.forget_users(tx, ["arn:campaign"], ["ann"])
    assert of_campaign(store) == [listed(2, "ben")] and len(of_campaign(store, "arn:other")) == 1


def event(item, *, impression=None, recommendation_id=None, event_id=None):
    return LiveEvent(
        session_id="s",
        user_id="u",
        event_type="click",
        sent_at=5.0,
        item_id=item,
        impression=impression,
        recommendation_id=recommendation_id,
        event_id=event_id,
    )


def test_events_tell_of_the_list_they_answered_an_explicit_one_first(store):
    append(store, listed(1))
    with store.transaction() as tx:
        events.append(tx, "arn:clicks", [event("x"), event("a", recommendation_id="RID-1", event_id="e")], 9)
        events.append(tx, "arn:clicks", [event("b", recommendation_id="RID-1", event_id="e")], 9)
        both = event("b", impression=["b", "c"], recommendation_id="RID-1")
        events.append(tx, "arn:clicks", [both, event("c", recommendation_id="RID-lost")], 9)
    with store.read() as tx:
        found, last = events.after(tx, "arn:clicks", 0)
        assert [(one.item_id, list(one.shown)) for one in found] == [
            ("x", []),
            ("a", ["a", "b"]),
            ("b", ["b", "c"]),
            ("c", []),
        ]
        assert events.after(tx, "arn:clicks", last) == ([], last)
        assert events.last_event(tx, "arn:clicks") == last
