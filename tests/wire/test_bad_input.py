"""Bad input at a site is answered with the specified error or list, and loses nothing that was answered before."""

import json
import shutil
import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pandas as pd
import pytest
from botocore.exceptions import ClientError

from tests.wire.serving import serving
from tests.wire.site import CLICKS, ITEMS, Site, clicks

NOW = datetime(2024, 1, 1, tzinfo=UTC)
SMALL = {"algorithmHyperParameters": {"hidden_dimension": "32", "bptt": "2"}}
N_ITEMS = 20
USERS = {**CLICKS, "name": "Users", "fields": [{"name": "USER_ID", "type": "string"}, {"name": "AGE", "type": "int"}]}
ACTIONS = {
    **CLICKS,
    "name": "Actions",
    "fields": [{"name": "ACTION_ID", "type": "string"}, {"name": "KIND", "type": "string", "categorical": True}],
}
TAKEN = {
    **CLICKS,
    "name": "ActionInteractions",
    "fields": [
        *({"name": name, "type": "string"} for name in ("USER_ID", "ACTION_ID", "EVENT_TYPE")),
        {"name": "TIMESTAMP", "type": "long"},
    ],
}
NUMBERS = ["007", "1e5", "nan", "NaN", "null", "inf", "-0", "0x1F", "1_000", "12345678901234567890123"]
PLANES = [
    "\u00e9",
    "e\u0301",
    "\u5546\u54c1",
    "\uffff",
    "\U0001f4f0",
    "\U0002000b",
    "\U000e0041",
    "\U0010ffff",
    "\u202ea",
]
STRANGE = [" ", "a,b", "a|b", "'; DROP TABLE live", "%00", "../../x", "$LATEST", "i" * 256]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad-input")
    data = folder / "data"
    data.mkdir()
    with serving(folder / "store", "--bucket", f"data={data}", "--quota", "campaigns_per_group=50") as service:
        found = Site(service, data)
        found.store = folder / "store"
        yield found
    assert [line for line in service.log if json.loads(line)["event"] == "failure"] == []


@pytest.fixture(scope="module")
def shop(site):
    group = site.group()
    interactions = site.dataset(group)
    assert site.load(interactions, clicks(items=N_ITEMS))["status"] == "ACTIVE"
    items = site.dataset(group, ITEMS, "Items")
    table = pd.DataFrame({"ITEM_ID": [f"i{n}" for n in range(N_ITEMS)], "GENRE": "Jazz"})
    assert site.load(items, table)["status"] == "ACTIVE"
    taken = site.dataset(group, TAKEN, "Action_Interactions")
    asked = [
        site.api.create_solution_version(
            solutionArn=site.solution(group, "aws-user-personalization", solutionConfig=SMALL)
        )
    ]
    for recipe in ("aws-sims", "aws-popularity-count", "aws-popularity-count"):
        asked.append(site.api.create_solution_version(solutionArn=site.solution(group, recipe)))
    versions = [site.active(one["solutionVersionArn"]) for one in asked]  # all before anything is put
    return SimpleNamespace(
        group=group,
        versions=versions,
        interactions=interactions,
        items=items,
        users=site.dataset(group, USERS, "Users"),
        actions=site.dataset(group, ACTIONS, "Actions"),
        tracking_id=site.api.create_event_tracker(name="t", datasetGroupArn=group)["trackingId"],
        actions_tracking_id=site.describe(taken)["dataset"]["trackingId"],
        filters={name: site.filter(group, expression) for name, expression in FILTERS.items()},
    )


FILTERS = {
    "all": 'INCLUDE ItemID WHERE Items.GENRE IN ("Jazz")',
    "none": 'INCLUDE ItemID WHERE Items.GENRE IN ("Polka")',
    "given": "INCLUDE ItemID WHERE Items.GENRE IN ($G)",
    "like this": "INCLUDE ItemID WHERE Items.GENRE IN CurrentItem.GENRE",
    "young": "EXCLUDE ItemID WHERE Items.GENRE IN ($G) IF CurrentUser.AGE < $AGE",
    "users": "INCLUDE UserID WHERE Users.AGE > 5",
}


@pytest.fixture(scope="module")
def personal(site, shop):
    return site.campaign(shop.versions[0])


@pytest.fixture(scope="module")
def related(site, shop):
    return site.campaign(shop.versions[1])


def put(site, shop, *events, event=None, **members):
    """Send events; those that tell of their item in their properties are about no other."""
    usual = {"eventType": "click", "sentAt": NOW}
    given = [{**usual, **({} if "properties" in one else {"itemId": "i6"}), **one} for one in events or [event or {}]]
    members = {"trackingId": shop.tracking_id, "sessionId": "s", "userId": "u1", **members}
    return site.events.put_events(eventList=given, **members)


def refusal(operation, **members):
    """The status and code that an operation refuses with."""
    with pytest.raises(ClientError) as error:
        operation(**members)
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"], error.value.response["Error"]["Code"]


INVALID = (400, "InvalidInputException")
MISSING = (404, "ResourceNotFoundException")
ELSEWHERE = "arn:aws:personalize:us-east-1:123456789012:"


def test_times_from_1970_to_the_far_future_are_kept_and_no_others(site, shop, personal):
    for second in (0, 1.5, 4e9, 10**11):
        put(site, shop, {"sentAt": second}, userId="traveller", sessionId="travel")
    for second in (-1, 253402300799):
        assert refusal(put, site=site, shop=shop, userId="traveller", event={"sentAt": second}) == INVALID
    rows = site.export(shop.interactions, "PUT").query("USER_ID == 'traveller'")
    assert sorted(map(int, rows["TIMESTAMP"])) == [0, 1, 4 * 10**9, 10**11]
    assert len(site.recommend(personal, userId="traveller")) == len(site.recommend(personal, userId="u2")) == N_ITEMS


@pytest.mark.parametrize(
    ("operation", "member", "record", "to"),
    [
        ("put_events", "eventList", {"eventType": "click", "itemId": "i1", "sentAt": NOW}, "tracking_id"),
        ("put_items", "items", {"itemId": "large"}, "items"),
        ("put_users", "users", {"userId": "large"}, "users"),
        ("put_actions", "actions", {"actionId": "large"}, "actions"),
        (
            "put_action_interactions",
            "actionInteractions",
            {"actionId": "large", "sessionId": "s", "eventType": "taken", "timestamp": NOW},
            "actions_tracking_id",
        ),
    ],
)
def test_ten_megabytes_of_properties_are_refused_and_the_next_call_is_answered(
    site, shop, operation, member, record, to
):
    arn = getattr(shop, to)
    members = {"datasetArn": arn} if arn.startswith("arn:") else {"trackingId": arn}
    members |= {"sessionId": "large"} if operation == "put_events" else {}
    send = getattr(site.events, operation)
    for length, expected in ((10_000_000, (413, "RequestEntityTooLargeException")), (40_000, INVALID)):
        properties = json.dumps({"genre": "y" * length})
        assert refusal(send, **members, **{member: [{**record, "properties": properties}]}) == expected
    right = {"genre": "Jazz", "age": 3, "kind": "app"}
    send(**members, **{member: [{**record, "properties": json.dumps(right)}]})


def test_ids_of_every_plane_and_ids_like_numbers_come_out_as_they_went_in(site, shop, personal, related):
    ids = NUMBERS + PLANES + STRANGE
    for id in ids:
        members = {"itemId": id, "eventId": id, "impression": [id], "eventType": id}
        put(site, shop, members, {"properties": json.dumps({"itemId": id})}, userId=id, sessionId=id)
        site.events.put_users(datasetArn=shop.users, users=[{"userId": id, "properties": '{"age": 3}'}])
        assert len(site.recommend(personal, userId=id, filterArn=shop.filters["all"])) == N_ITEMS
        assert len(site.recommend(related, itemId=id, userId=id)) == N_ITEMS
    rows = site.export(shop.interactions, "PUT")
    found = rows[(rows["USER_ID"] == rows["ITEM_ID"]) & (rows["EVENT_TYPE"] == rows["ITEM_ID"])]
    assert sorted(found["ITEM_ID"]) == sorted(ids)
    assert set(ids) <= set(site.export(shop.users, "ALL")["USER_ID"])


@pytest.mark.parametrize(("text", "code"), [("a\0b", "InvalidInputException"), ("\ud800", "SerializationException")])
def test_what_no_database_could_hold_is_refused_everywhere(site, shop, personal, text, code):
    expected = (400, code)
    for event in ({"itemId": text}, {"eventType": text}, {"eventId": text}, {"impression": [text]}):
        assert refusal(put, site=site, shop=shop, event=event) == expected
    assert refusal(put, site=site, shop=shop, event={"properties": json.dumps({"itemId": text})}) == INVALID
    assert refusal(put, site=site, shop=shop, userId=text) == refusal(put, site=site, shop=shop, sessionId=text)
    user = {"userId": text, "properties": '{"age": 3}'}
    assert refusal(site.events.put_users, datasetArn=shop.users, users=[user]) == expected
    recommend = site.runtime.get_recommendations
    given = {"filterArn": shop.filters["given"], "filterValues": {"G": text}}
    for members in ({"userId": text}, {"userId": "u1", "context": {"DEVICE": text}}, {"userId": "u1", **given}):
        assert refusal(recommend, campaignArn=personal, **members) == expected
    made = {"name": "broken", "datasetGroupArn": shop.group, "filterExpression": FILTERS["all"] + text}
    assert refusal(site.api.create_filter, **made) == expected


def test_events_to_a_tracker_or_dataset_that_is_another_by_now_go_there_or_are_refused(site):
    group = site.group()
    dataset = site.dataset(group)
    tracker = site.api.create_event_tracker(name="t", datasetGroupArn=group)
    here = SimpleNamespace(tracking_id=tracker["trackingId"])
    put(site, here, {"eventId": "kept"})
    site.active(tracker["eventTrackerArn"])
    site.api.delete_event_tracker(eventTrackerArn=tracker["eventTrackerArn"])
    assert refusal(put, site=site, shop=here) == INVALID
    assert len(site.export(dataset, "PUT")) == 1
    again = SimpleNamespace(tracking_id=site.api.create_event_tracker(name="u", datasetGroupArn=group)["trackingId"])
    put(site, again, {"eventId": "kept"}, {"itemId": "other"})
    assert sorted(site.export(dataset, "PUT")["ITEM_ID"]) == ["i6", "other"]


def test_500_of_20_items_are_20(site, shop, personal, related):
    assert len(site.recommend(personal, userId="u1", numResults=500)) == N_ITEMS
    assert len(site.recommend(related, itemId="i1", numResults=500)) == N_ITEMS - 1
    assert site.recommend(personal, userId="u1", numResults=0) == []


def test_a_filter_that_leaves_nothing_answers_an_empty_list(site, shop, personal, related):
    for campaign, asked in ((personal, {"userId": "u1"}), (related, {"itemId": "i1"})):
        answer = site.runtime.get_recommendations(campaignArn=campaign, filterArn=shop.filters["none"], **asked)
        assert answer["itemList"] == [] and answer["recommendationId"].startswith("RID-")
    assert site.recommend(related, itemId="unknown", filterArn=shop.filters["like this"]) == []


def test_more_is_promoted_than_there_is(site, shop, personal):
    for chosen, percent, promoted in (("all", 100, N_ITEMS), ("all", 1, 5), ("none", 100, 0)):
        promotion = {"name": "p", "percentPromotedItems": percent, "filterArn": shop.filters[chosen]}
        answer = site.recommend(personal, userId="u1", numResults=500, promotions=[promotion])
        assert len({item["itemId"] for item in answer}) == len(answer) == N_ITEMS
        assert sum("promotionName" in item for item in answer) == promoted


def test_each_question_that_cannot_be_answered_is_refused_as_specified(site, shop, personal, related):
    user, ask = {"campaignArn": personal, "userId": "u1"}, site.runtime.get_recommendations
    filters = shop.filters
    for members, expected in (
        ({"campaignArn": personal}, INVALID),
        ({"campaignArn": related}, INVALID),
        ({"userId": "u1"}, INVALID),
        ({**user, "recommenderArn": ELSEWHERE + "recommender/r"}, INVALID),
        ({"campaignArn": ELSEWHERE + "campaign/none", "userId": "u1"}, INVALID),
        ({"recommenderArn": ELSEWHERE + "recommender/none", "userId": "u1"}, INVALID),
        ({**user, "numResults": 501}, INVALID),
        ({**user, "filterArn": ELSEWHERE + "filter/none"}, MISSING),
        ({**user, "filterArn": filters["given"]}, INVALID),
        ({**user, "filterArn": filters["given"], "filterValues": {"G": '"Jazz'}}, INVALID),
        ({**user, "filterArn": filters["given"], "filterValues": {"G": '"Jazz"', "H": "1"}}, INVALID),
        ({**user, "filterArn": filters["young"], "filterValues": {"G": '"Jazz"', "AGE": "old"}}, INVALID),
        ({**user, "filterArn": filters["like this"]}, INVALID),
        ({**user, "filterArn": filters["users"]}, INVALID),
        ({**user, "filterValues": {"G": '"Jazz"'}}, INVALID),
        ({**user, "metadataColumns": {"ITEMS": ["GENRE"]}}, INVALID),
        ({**user, "promotions": [{"name": "p", "percentPromotedItems": 5, "filterArn": filters["given"]}]}, INVALID),
    ):
        assert refusal(ask, **members) == expected, members
    ranked = {"campaignArn": personal, "userId": "u1", "inputList": ["i1"]}
    assert refusal(site.runtime.get_personalized_ranking, **ranked) == INVALID
    assert refusal(site.runtime.get_action_recommendations, campaignArn=personal, userId="u1") == INVALID


def test_a_filter_of_another_group_is_refused(site, shop, personal):
    group = site.group()
    site.dataset(group)
    foreign = site.filter(group, 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("x")')
    asked = {"campaignArn": personal, "userId": "u1", "filterArn": foreign}
    assert refusal(site.runtime.get_recommendations, **asked) == INVALID


def test_a_campaign_lives_on_its_loaded_model_and_says_what_is_missing_where_it_has_none(site, shop):
    version = shop.versions[2]
    loaded, other = site.campaign(version), site.campaign(version)
    before = site.recommend(loaded)
    folder = site.store / "files" / "solution-versions" / "/".join(version.split("/")[-2:]) / "model"
    aside = folder.rename(folder.with_name("aside"))
    assert site.recommend(loaded) == before
    ask = site.runtime.get_recommendations
    assert refusal(ask, campaignArn=other) == MISSING
    for name in sorted(file.name for file in aside.iterdir()):
        shutil.copytree(aside, folder)
        (folder / name).write_bytes((folder / name).read_bytes()[:40])
        with pytest.raises(ClientError, match=f"The model of {version} cannot be read") as error:
            ask(campaignArn=other)
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
        shutil.rmtree(folder)
    aside.rename(folder)
    assert site.recommend(other) == before


def test_whoever_asks_while_campaign_and_version_are_deleted_gets_lists_and_then_the_error_of_no_campaign(site, shop):
    version = shop.versions[3]
    campaign = site.campaign(version)
    told, asked, go_on = [], threading.Event(), threading.Event()

    def ask():
        while not go_on.is_set() or len(told) < 20:
            try:
                told.append(len(site.recommend(campaign)))
            except ClientError as error:
                told.append(error.response["Error"]["Code"])
            asked.set()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    asked.wait()
    site.api.delete_campaign(campaignArn=campaign)
    site.api.delete_solution(solutionArn=version.rpartition("/")[0])
    go_on.set()
    for thread in threads:
        thread.join()
    assert set(told) <= {N_ITEMS, "InvalidInputException"} and told[0] == N_ITEMS
    assert refusal(site.runtime.get_recommendations, campaignArn=campaign) == INVALID
