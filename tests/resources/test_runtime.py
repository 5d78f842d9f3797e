"""What a deployed campaign answers, and what it refuses: imports, training, deployment and requests in one process."""

import json
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from lib.recipes import RECIPES
from lib.recipes.popularity import Popularity
from lib.resources import runtime
from lib.resources.errors import InvalidInputException, ResourceNotFoundException, ThrottlingException
from lib.resources.solution_versions import version_folder
from lib.store import consumption, recommendations
from tests.resources.workflow import ITEMS as ITEMS_AVRO
from tests.resources.workflow import interactions

GENRES = ["Jazz", "Jazz|Folk", "Pop"]
ITEMS = pd.DataFrame({"ITEM_ID": [f"i{n}" for n in range(45)], "GENRE": [GENRES[n % 3] for n in range(45)]})


@dataclass(frozen=True, slots=True)
class Recent(Popularity):
    """Popularity, and above it what the user did last, and the item before the request's one."""

    def scores(self, requests):
        scores = Popularity.scores(self, requests)
        for row, request in enumerate(requests):
            scores[row, request.history.items] += 10 * (1 + np.arange(len(request.history.items)))
            if request.item > 0:
                scores[row, request.item - 1] += 50
            if request.context.get("EVENT_TYPE") == "last":
                scores[row] *= -1
        return scores


def fit(*args, **options):
    model = RECIPES["aws-popularity-count"].fit(*args, **options)
    return Recent(model.catalogue, model.users)


def load(folder):
    model = RECIPES["aws-popularity-count"].load(folder)
    return Recent(model.catalogue, model.users)


TYPES = {
    "aws-user-personalization-v2": ("USER_PERSONALIZATION", True, True),
    "aws-personalized-ranking": ("PERSONALIZED_RANKING", True, True),
    "aws-similar-items": ("RELATED_ITEMS", False, False),
}


@pytest.fixture
def recipes(monkeypatch):
    for name, (recipe_type, scored, real_time) in TYPES.items():
        recipe = replace(
            RECIPES["aws-popularity-count"],
            name=name,
            recipe_type=recipe_type,
            scored=scored,
            real_time=real_time,
            fit=fit,
            load=load,
        )
        monkeypatch.setitem(RECIPES, name, recipe)


class Deployed:
    """A group with 45 items, a tracker, and campaigns on demand."""

    def __init__(self, personalize):
        self.personalize = personalize
        self.group = personalize.filled()
        self.items = personalize.dataset(self.group, ITEMS_AVRO)
        assert personalize.load(self.items, ITEMS, "items").status == "ACTIVE"
        self.tracking_id = personalize.create_event_tracker(name="t", dataset_group_arn=self.group)["trackingId"]
        personalize.clock.wait()

    def campaign(self, recipe, **config):
        name = recipe.removeprefix("aws-")
        arn = f"arn:aws:personalize:::recipe/{recipe}"
        version = self.personalize.version(self.personalize.solution(self.group, name=name, recipe_arn=arn))
        created = self.personalize.create_campaign(
            name=name, solution_version_arn=version, campaign_config=config or None
        )
        self.personalize.clock.wait()
        return created["campaignArn"]

    def filter(self, name, expression):
        return self.personalize.create_filter(name=name, dataset_group_arn=self.group, filter_expression=expression)[
            "filterArn"
        ]

    def recommend(self, campaign_arn, **members):
        return self.personalize.get_recommendations(campaign_arn=campaign_arn, **members)["itemList"]

    def click(self, *items, session="s", user=None, event_type="click"):
        at = self.personalize.account.now()
        self.personalize.put_events(
            tracking_id=self.tracking_id,
            session_id=session,
            user_id=user,
            event_list=[{"eventType": event_type, "itemId": item, "sentAt": at} for item in items],
        )


@pytest.fixture
def deployed(personalize, recipes):
    return Deployed(personalize)


@pytest.fixture
def personal(deployed):
    return deployed.campaign("aws-user-personalization-v2")


def ids(items):
    return [item["itemId"] for item in items]


def test_25_items_come_by_default_and_500_at_most(deployed, personal):
    assert len(deployed.recommend(personal, user_id="u1")) == 25
    assert len(deployed.recommend(personal, user_id="u1", num_results=500)) == 45
    assert deployed.recommend(personal, user_id="u1", num_results=0) == []
    with pytest.raises(InvalidInputException, match="numResults is 501"):
        deployed.recommend(personal, user_id="u1", num_results=501)


def test_with_metadata_50_items_come_at_most(deployed, personal):
    asked = {"user_id": "u1", "metadata_columns": {"ITEMS": ["GENRE"]}}
    assert len(deployed.recommend(personal, num_results=50, **asked)) == 45
    with pytest.raises(InvalidInputException, match="numResults is 51"):
        deployed.recommend(personal, num_results=51, **asked)


def test_metadata_comes_under_lower_case_names(deployed, personal):
    for item in deployed.recommend(personal, user_id="u1", num_results=50, metadata_columns={"ITEMS": ["GENRE"]}):
        assert item["metadata"] == {"genre": GENRES[int(item["itemId"][1:]) % 3]}


def test_metadata_must_be_known_and_enabled(deployed, personal):
    with pytest.raises(InvalidInputException, match="ITEMS has no column 'COLOUR'; it has GENRE, ITEM_ID"):
        deployed.recommend(personal, user_id="u1", metadata_columns={"ITEMS": ["COLOUR"]})
    with pytest.raises(InvalidInputException, match="'USERS' is no dataset with metadata"):
        deployed.recommend(personal, user_id="u1", metadata_columns={"USERS": ["AGE"]})
    with pytest.raises(InvalidInputException, match="11 columns, at most 10"):
        deployed.recommend(personal, user_id="u1", metadata_columns={"ITEMS": ["GENRE"] * 11})
    similar = deployed.campaign("aws-similar-items")
    with pytest.raises(InvalidInputException, match="enableMetadataWithRecommendations"):
        deployed.recommend(similar, item_id="i1", metadata_columns={"ITEMS": ["GENRE"]})
    popular = deployed.campaign("aws-popularity-count", enableMetadataWithRecommendations=True)
    assert "metadata" in deployed.recommend(popular, metadata_columns={"ITEMS": ["genre"]})[0]


def test_scores_of_everything_sum_to_one_and_have_seven_decimals(deployed, personal):
    scores = [item["score"] for item in deployed.recommend(personal, user_id="u1", num_results=500)]
    assert sum(scores) == pytest.approx(1, abs=45e-7)
    assert scores == sorted(scores, reverse=True)
    assert all(score == round(score, 7) for score in scores)


def test_related_items_have_no_scores_and_leave_out_the_item(deployed):
    similar = deployed.campaign("aws-similar-items")
    answer = deployed.recommend(similar, item_id="i4", num_results=500)
    assert len(answer) == 44 and "i4" not in ids(answer) and answer[0] == {"itemId": "i39"}


def test_unknown_users_and_items_get_what_is_popular(deployed, personal):
    similar, popular = deployed.campaign("aws-similar-items"), deployed.campaign("aws-popularity-count")
    most_popular = ids(deployed.recommend(popular))
    assert len(most_popular) == 25
    assert ids(deployed.recommend(personal, user_id="nobody")) == most_popular
    assert ids(deployed.recommend(similar, item_id="nothing")) == most_popular


def test_a_session_sees_its_clicks_at_once_and_its_user_after_login(deployed, personal):
    cold = ids(deployed.recommend(personal, user_id="s"))
    deployed.click("i43", "i44")
    warm = ids(deployed.recommend(personal, user_id="s"))
    assert warm[:2] == ["i44", "i43"] and warm != cold
    assert ids(deployed.recommend(personal, user_id="ann")) == cold
    deployed.click("i42", user="ann")
    assert ids(deployed.recommend(personal, user_id="ann"))[:3] == ["i42", "i44", "i43"]


def test_a_users_clicks_follow_the_imported_history(deployed, personal):
    deployed.click("i44", user="u1")
    assert ids(deployed.recommend(personal, user_id="u1"))[0] == "i44"
    assert ids(deployed.recommend(personal, user_id="u2"))[0] != "i44"


def test_filters_see_events_and_put_items_at_once(deployed, personal):
    unseen = deployed.filter("unseen", 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")')
    assert len(deployed.recommend(personal, user_id="new", filter_arn=unseen, num_results=500)) == 45
    deployed.click("i3", user="new")
    assert "i3" not in ids(deployed.recommend(personal, user_id="new", filter_arn=unseen, num_results=500))
    folk = deployed.filter("folk", "INCLUDE ItemID WHERE Items.GENRE IN ($GENRE)")
    asked = {"user_id": "new", "filter_arn": folk, "filter_values": {"GENRE": '"Folk"'}, "num_results": 500}
    assert len(deployed.recommend(personal, **asked)) == 15
    deployed.personalize.put_items(
        dataset_arn=deployed.items, items=[{"itemId": "i3", "properties": '{"genre": "Folk"}'}]
    )
    assert ids(deployed.recommend(personal, **asked))[0] == "i3"


SEEN = 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")'


def seen(deployed, campaign, user, filter_arn):
    """The items that the filter knows a user to have met."""
    answer = deployed.recommend(campaign, user_id=user, num_results=500, filter_arn=filter_arn)
    return set(ITEMS["ITEM_ID"]) - set(ids(answer))


def test_filters_forget_a_user_of_whom_nothing_has_come_in_for_ninety_days(deployed, personal):
    unseen, clock = deployed.filter("unseen", SEEN), deployed.personalize.clock
    known = seen(deployed, personal, "u1", unseen)
    assert known and seen(deployed, personal, "u2", unseen)
    deployed.click("i44", session="new", user="new")
    clock.wait(50 * 86_400)
    deployed.click("i43", user="u2")
    clock.wait(39 * 86_400)
    assert seen(deployed, personal, "u1", unseen) == known and seen(deployed, personal, "new", unseen) == {"i44"}
    clock.wait(2 * 86_400)
    before = ids(deployed.recommend(personal, user_id="u1"))
    assert seen(deployed, personal, "u1", unseen) == seen(deployed, personal, "new", unseen) == set()
    assert {"i43"} < seen(deployed, personal, "u2", unseen)
    deployed.click("i42", user="u1")
    assert seen(deployed, personal, "u1", unseen) == known | {"i42"}
    assert ids(deployed.recommend(personal, user_id="u1"))[1:3] == before[:2]  # the model had forgotten nothing


def test_a_purchase_is_left_out_after_any_number_of_views(deployed, personal):
    bought = deployed.filter("bought", 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("purchase")')
    deployed.click("i3", user="new", event_type="purchase")
    for _ in range(11):
        deployed.click(*["i4"] * 100, user="new", event_type="view")
    assert seen(deployed, personal, "new", bought) == {"i3"}


def test_a_later_import_keeps_those_in_mind_whom_it_holds(deployed, personal):
    unseen, personalize = deployed.filter("unseen", SEEN), deployed.personalize
    personalize.clock.wait(60 * 86_400)
    table = interactions()
    (dataset,) = (
        d for d in personalize.list_datasets(dataset_group_arn=deployed.group)["datasets"] if d.name != "items"
    )
    again = table.assign(USER_ID="u1", TIMESTAMP=table["TIMESTAMP"] + 10**6)
    assert personalize.load(dataset.dataset_arn, again, "second", "INCREMENTAL").status == "ACTIVE"
    personalize.clock.wait(40 * 86_400)
    assert seen(deployed, personal, "u1", unseen) and not seen(deployed, personal, "u2", unseen)


def test_an_include_filter_needs_its_values_and_an_exclude_filter_does_without(deployed, personal):
    include = deployed.filter("in", "INCLUDE ItemID WHERE Items.GENRE IN ($GENRE)")
    exclude = deployed.filter("out", "EXCLUDE ItemID WHERE Items.GENRE IN ($GENRE)")
    with pytest.raises(InvalidInputException, match=r"\$GENRE is missing"):
        deployed.recommend(personal, user_id="u1", filter_arn=include)
    assert deployed.recommend(personal, user_id="u1", filter_arn=exclude) == deployed.recommend(personal, user_id="u1")


def test_filters_that_do_not_fit_are_refused(deployed, personal):
    cheaper = deployed.filter("same", "INCLUDE ItemID WHERE Items.GENRE IN CurrentItem.GENRE")
    with pytest.raises(InvalidInputException, match="CurrentItem"):
        deployed.recommend(personal, user_id="u1", filter_arn=cheaper)
    with pytest.raises(ResourceNotFoundException):
        deployed.recommend(personal, user_id="u1", filter_arn=cheaper + "r")
    other = deployed.personalize.group("other")
    deployed.personalize.dataset(other)
    foreign = deployed.personalize.create_filter(
        name="foreign",
        dataset_group_arn=other,
        filter_expression='EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")',
    )["filterArn"]
    with pytest.raises(InvalidInputException, match="name a filter of that group"):
        deployed.recommend(personal, user_id="u1", filter_arn=foreign)
    with pytest.raises(InvalidInputException, match="without filterArn"):
        deployed.recommend(personal, user_id="u1", filter_values={"A": "1"})


def test_a_deleted_filter_is_no_longer_applied(deployed, personal):
    unseen = deployed.filter("unseen", 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")')
    deployed.recommend(personal, user_id="u1", filter_arn=unseen)
    deployed.personalize.delete_filter(filter_arn=unseen)
    with pytest.raises(InvalidInputException, match="DELETE PENDING"):
        deployed.recommend(personal, user_id="u1", filter_arn=unseen)


def test_a_filter_that_looks_at_a_user_needs_one(deployed):
    popular = deployed.campaign("aws-popularity-count")
    unseen = deployed.filter("unseen", 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")')
    with pytest.raises(InvalidInputException, match="userId is missing"):
        deployed.recommend(popular, filter_arn=unseen)
    assert deployed.recommend(popular, filter_arn=unseen, user_id="u1") != deployed.recommend(popular)


def test_half_of_ten_are_promoted_in_the_models_order(deployed, personal):
    jazz = deployed.filter("jazz", 'INCLUDE ItemID WHERE Items.GENRE IN ("Jazz")')
    promotion = {"name": "jazz", "percentPromotedItems": 50, "filterArn": jazz}
    asked = {"user_id": "u1", "num_results": 10}
    answer = deployed.recommend(personal, promotions=[promotion], **asked)
    promoted = [item for item in answer if "promotionName" in item]
    assert len(answer) == 10 and len(promoted) == 5
    assert all(item["promotionName"] == "jazz" and item["reason"] == ["Promoted item"] for item in promoted)
    in_order = ids(deployed.recommend(personal, user_id="u1", filter_arn=jazz, num_results=500))
    assert ids(promoted) == in_order[:5]
    others = [item["itemId"] for item in answer if "promotionName" not in item]
    everything = ids(deployed.recommend(personal, user_id="u1", num_results=500))
    assert others == [item for item in everything if item not in ids(promoted)][:5]
    assert answer == deployed.recommend(personal, promotions=[promotion], **asked)


def test_promotions_that_do_not_fit_are_refused(deployed, personal):
    jazz = deployed.filter("jazz", 'INCLUDE ItemID WHERE Items.GENRE IN ("Jazz")')
    whole = {"name": "jazz", "percentPromotedItems": 50, "filterArn": jazz}
    with pytest.raises(InvalidInputException, match=r"promotions\[0\].filterArn is missing"):
        deployed.recommend(personal, user_id="u1", promotions=[{"name": "jazz", "percentPromotedItems": 50}])
    with pytest.raises(InvalidInputException, match="2 promotions"):
        deployed.recommend(personal, user_id="u1", promotions=[whole, whole])


def test_a_ranking_holds_every_known_item_and_the_unknown_ones_last(deployed):
    ranking = deployed.campaign("aws-personalized-ranking")
    deployed.click("i44", session="x")
    answer = deployed.personalize.get_personalized_ranking(
        campaign_arn=ranking, user_id="x", input_list=["i1", "unknown", "i44", "i2"]
    )["personalizedRanking"]
    assert ids(answer)[0] == "i44" and ids(answer)[3] == "unknown" and answer[3]["score"] == 0
    assert sum(item["score"] for item in answer) == pytest.approx(1, abs=1e-6)
    with pytest.raises(InvalidInputException, match="501 items"):
        deployed.personalize.get_personalized_ranking(campaign_arn=ranking, user_id="x", input_list=["i1"] * 501)


def test_each_operation_refuses_campaigns_of_another_kind(deployed, personal):
    ranking = deployed.campaign("aws-personalized-ranking")
    with pytest.raises(InvalidInputException, match="call GetPersonalizedRanking"):
        deployed.recommend(ranking, user_id="u1")
    with pytest.raises(InvalidInputException, match="call GetRecommendations"):
        deployed.personalize.get_personalized_ranking(campaign_arn=personal, user_id="u1", input_list=["i1"])
    with pytest.raises(InvalidInputException, match="no actions: call GetRecommendations"):
        deployed.personalize.get_action_recommendations(campaign_arn=personal, user_id="u1")


def test_what_a_recipe_needs_must_be_given(deployed, personal):
    with pytest.raises(InvalidInputException, match="userId is missing"):
        deployed.recommend(personal)
    with pytest.raises(InvalidInputException, match="itemId is missing"):
        deployed.recommend(deployed.campaign("aws-similar-items"), user_id="u1")
    with pytest.raises(InvalidInputException, match="exactly one of"):
        deployed.personalize.get_recommendations(user_id="u1")
    with pytest.raises(InvalidInputException, match="exactly one of"):
        deployed.personalize.get_recommendations(user_id="u1", campaign_arn=personal, recommender_arn=personal)


def test_context_reaches_the_model_and_unknown_names_do_not_matter(deployed, personal):
    plain = ids(deployed.recommend(personal, user_id="u1", num_results=500))
    turned = ids(deployed.recommend(personal, user_id="u1", num_results=500, context={"event_type": "last"}))
    assert turned != plain and sorted(turned) == sorted(plain)
    assert ids(deployed.recommend(personal, user_id="u1", num_results=500, context={"WEATHER": "rain"})) == plain


def test_a_campaign_that_is_not_there_or_not_active_refuses(deployed, personal):
    with pytest.raises(InvalidInputException, match="does not exist or is not active yet"):
        deployed.recommend(personal + "x", user_id="u1")
    deployed.recommend(personal, user_id="u1")
    deployed.personalize.delete_campaign(campaign_arn=personal)
    with pytest.raises(InvalidInputException, match="does not exist or is not active yet"):
        deployed.recommend(personal, user_id="u1")


def test_a_campaign_moves_to_its_new_version_when_that_is_in_force(deployed, personal):
    solution = "arn:aws:personalize:us-east-1:123456789012:solution/user-personalization-v2"
    before = deployed.recommend(personal, user_id="nobody", num_results=500)
    deployed.click("fresh", "fresh", user="u1")
    version = deployed.personalize.version(solution)
    assert deployed.recommend(personal, user_id="nobody", num_results=500) == before
    deployed.personalize.update_campaign(campaign_arn=personal, solution_version_arn=version)
    assert deployed.recommend(personal, user_id="nobody", num_results=500) == before
    deployed.personalize.clock.wait()
    assert "fresh" in ids(deployed.recommend(personal, user_id="nobody", num_results=500))


def test_events_of_1970_and_of_the_next_century_count_and_leave_the_time_alone(deployed, personal):
    before = deployed.recommend(personal, user_id="u1")
    for item, moment in (("i44", datetime(1970, 1, 1, tzinfo=UTC)), ("i43", datetime(2126, 1, 1, tzinfo=UTC))):
        event = {"eventType": "click", "itemId": item, "sentAt": moment}
        deployed.personalize.put_events(
            tracking_id=deployed.tracking_id, session_id="s", user_id="traveller", event_list=[event]
        )
    assert set(ids(deployed.recommend(personal, user_id="traveller"))[:2]) == {"i43", "i44"}
    assert deployed.recommend(personal, user_id="u1") == before
    found = runtime._process(deployed.personalize.account).deployments[personal]
    assert found.now <= deployed.personalize.account.now().timestamp() + runtime.MINUTE


def test_ids_of_every_plane_and_ids_like_numbers_are_answered_as_they_are(deployed, personal):
    odd = ["00", "1e3", "NaN", "-0", "ид", "商品", "\U0001f4f0", "\U0002000b", "\U000e0041", "\U0010fffd", "a\u0301"]
    items = [{"itemId": item, "properties": json.dumps({"genre": f"genre {item}"})} for item in odd]
    for start in (0, 10):
        deployed.personalize.put_items(dataset_arn=deployed.items, items=items[start : start + 10])
    only = deployed.filter("only", "INCLUDE ItemID WHERE Items.GENRE IN ($GENRE)")
    ranking = deployed.campaign("aws-personalized-ranking")
    for item in odd:
        deployed.click(item, session=item)
        told = deployed.personalize.get_personalized_ranking(
            campaign_arn=ranking,
            user_id=item,
            input_list=[*odd, "i1"],
            filter_arn=only,
            filter_values={"GENRE": f'"genre {item}"'},
        )
        assert ids(told["personalizedRanking"]) == [item]


def test_a_filter_that_leaves_nothing_answers_an_empty_list(deployed, personal):
    nothing = deployed.filter("nothing", 'INCLUDE ItemID WHERE Items.GENRE IN ("none")')
    assert deployed.recommend(personal, user_id="u1", filter_arn=nothing, num_results=500) == []
    promotion = {"name": "p", "percentPromotedItems": 50, "filterArn": nothing}
    assert deployed.recommend(personal, user_id="u1", filter_arn=nothing, promotions=[promotion]) == []


def test_more_promotions_than_there_are_items_give_each_item_once(deployed, personal):
    everything = deployed.filter("all", 'INCLUDE ItemID WHERE Items.GENRE IN ("Jazz", "Folk", "Pop")')
    promotion = {"name": "p", "percentPromotedItems": 100, "filterArn": everything}
    found = deployed.recommend(personal, user_id="u1", num_results=500, promotions=[promotion])
    assert sorted(ids(found)) == sorted(ITEMS["ITEM_ID"])
    assert all(item["promotionName"] == "p" for item in found)


def test_a_campaign_whose_model_is_gone_says_so(deployed, personal):
    version = deployed.personalize.describe_campaign(campaign_arn=personal)["campaign"].solution_version_arn
    shutil.rmtree(version_folder(deployed.personalize.account, version) / "model")
    with pytest.raises(ResourceNotFoundException, match=f"The model of {version} is gone"):
        deployed.recommend(personal, user_id="u1")


def test_a_campaign_whose_data_is_gone_says_so(deployed, personal):
    (account, arn) = deployed.personalize.account, deployed.items
    (part,) = deployed.personalize.describe_dataset(dataset_arn=arn)["dataset"].parts
    shutil.rmtree(account.store.files.path(part))
    with pytest.raises(ResourceNotFoundException, match=f"The data of {deployed.group} cannot be read"):
        deployed.recommend(personal, user_id="u1")


def test_recommendation_ids_have_40_characters_and_never_repeat(deployed, personal):
    answers = [
        deployed.personalize.get_recommendations(campaign_arn=personal, user_id="u1")["recommendationId"]
        for _ in range(20)
    ]
    assert len(set(answers)) == 20
    assert all(len(one) == 40 and one.startswith("RID-") and one[29:34] == "-CID-" for one in answers)
    assert len({one[-6:] for one in answers}) == 1


EXPLORING = ("aws-user-personalization", "aws-user-personalization-v2")


@pytest.fixture
def exploring(deployed, recipes, monkeypatch):
    """Campaigns that explore what comes in at once; five items are put after training."""
    quotas = {**deployed.personalize.account.quotas, "hours_between_exploration_updates": 0}
    deployed.personalize.account = replace(deployed.personalize.account, quotas=quotas)
    for name in EXPLORING:
        base = RECIPES["aws-user-personalization-v2"]
        monkeypatch.setitem(RECIPES, name, replace(base, name=name, explores=True))

    def campaign(recipe=EXPLORING[0], **config):
        arn = deployed.campaign(recipe, **({"itemExplorationConfig": config} if config else {}))
        new = [{"itemId": f"new{n}", "properties": '{"genre": "Jazz"}'} for n in range(5)]
        deployed.personalize.put_items(dataset_arn=deployed.items, items=new)
        return arn

    return campaign


def lists_of(deployed, campaign):
    deployed.personalize.account.store.commits.flush()
    with deployed.personalize.account.store.read() as tx:
        return list(recommendations.of_resource(tx, campaign))


def new_share(lists):
    return np.mean([item.startswith("new") for one in lists for item in ids(one)])


def asked(deployed, campaign, times=20, **members):
    return [deployed.recommend(campaign, **{"user_id": f"u{n}", "num_results": 10, **members}) for n in range(times)]


def test_weight_0_is_the_models_order_and_1_is_all_exploration(deployed, exploring):
    campaign = exploring(explorationWeight="0.0")
    assert new_share(asked(deployed, campaign)) == 0
    model = ids(deployed.recommend(campaign, user_id="u1"))
    shares = [0.0]
    for weight in ("0.3", "1.0"):
        deployed.personalize.update_campaign(
            campaign_arn=campaign, campaign_config={"itemExplorationConfig": {"explorationWeight": weight}}
        )
        deployed.personalize.clock.wait()
        shares.append(new_share(asked(deployed, campaign)))
    assert shares[0] < shares[1] < shares[2]
    assert ids(deployed.recommend(campaign, user_id="u1")) != model
    assert "reason" not in deployed.recommend(campaign, user_id="u1")[0]


def test_v2_explores_by_itself_and_gives_the_reason(deployed, exploring):
    campaign = exploring("aws-user-personalization-v2")
    items = [item for one in asked(deployed, campaign, 40) for item in one]
    explored = [item for item in items if "reason" in item]
    assert 0 < len(explored) < len(items) / 4
    assert all(item["reason"] == ["Exploration"] for item in explored)
    assert all("reason" in item for item in items if item["itemId"].startswith("new"))


def test_how_much_v2_explores_cannot_be_set(deployed, exploring):
    campaign = exploring("aws-user-personalization-v2")
    config = {"itemExplorationConfig": {"explorationWeight": "0"}}
    with pytest.raises(InvalidInputException, match="aws-user-personalization-v2 explores by itself: leave it out"):
        deployed.personalize.update_campaign(campaign_arn=campaign, campaign_config=config)


def test_a_users_answers_differ_and_come_again_in_another_process(deployed, exploring):
    campaign = exploring(explorationWeight="0.5")
    first = [ids(deployed.recommend(campaign, user_id="u1")) for _ in range(3)]
    assert len({tuple(one) for one in first}) == 3
    runtime._PROCESSES.clear()
    deployed.recommend(campaign, user_id="u2")
    assert [ids(deployed.recommend(campaign, user_id="u1")) for _ in range(3)] == first


def test_each_worker_explores_by_chances_of_its_own(deployed, exploring):
    campaign, account = exploring(explorationWeight="0.8"), deployed.personalize.account

    def answers(worker):
        runtime._PROCESSES.clear()
        deployed.personalize.account = replace(account, worker=worker)
        return [ids(deployed.recommend(campaign, user_id="u1")) for _ in range(5)]

    first, second = answers(0), answers(1)
    assert all(one != other for one, other in zip(first, second))
    assert (answers(0), answers(1)) == (first, second)


def test_every_list_is_kept_with_its_propensities(deployed, exploring):
    campaign = exploring(explorationWeight="0.5")
    answer = deployed.personalize.get_recommendations(campaign_arn=campaign, user_id="u1", num_results=10)
    (kept,) = lists_of(deployed, campaign)
    assert kept.recommendation_id == answer["recommendationId"] and kept.user_id == "u1"
    assert kept.item_ids == ids(answer["itemList"])
    assert len(kept.propensities) == 10 and all(0 < propensity <= 1 for propensity in kept.propensities)


def test_lists_are_kept_of_campaigns_that_do_not_explore_too(deployed):
    popular = deployed.campaign("aws-popularity-count")
    deployed.recommend(popular)
    (kept,) = lists_of(deployed, popular)
    assert kept.propensities is None and kept.user_id is None and len(kept.item_ids) == 25


def test_what_was_recommended_to_deleted_users_is_forgotten(deployed):
    popular = deployed.campaign("aws-popularity-count")
    for user in ("u1", "u2"):
        deployed.recommend(popular, user_id=user)
    deployed.personalize.create_data_deletion_job(
        job_name="leave",
        dataset_group_arn=deployed.group,
        data_source=deployed.personalize.put(pd.DataFrame({"USER_ID": ["u1"]}), "leave.csv"),
        role_arn="arn:aws:iam::123456789012:role/r",
    )
    deployed.personalize.account.store.commits.flush()
    deployed.personalize.work()
    assert [kept.user_id for kept in lists_of(deployed, popular)] == ["u2"]


def react(deployed, answer, item, **members):
    deployed.personalize.put_events(
        tracking_id=deployed.tracking_id,
        session_id="reader",
        event_list=[{"eventType": "click", "itemId": item, "sentAt": deployed.personalize.account.now(), **members}],
    )


def test_a_click_that_carries_the_recommendation_id_counts_the_list_as_seen(deployed, exploring):
    campaign = exploring(explorationWeight="1.0")
    answer = deployed.personalize.get_recommendations(campaign_arn=campaign, user_id="u1", num_results=10)
    chosen = answer["itemList"][3]["itemId"]
    react(deployed, answer, chosen, recommendationId=answer["recommendationId"])
    deployed.recommend(campaign, user_id="u2")
    loaded = runtime._process(deployed.personalize.account).deployments[campaign].loaded
    shown = {item for item in loaded.items.numbers if loaded.knowledge.shown[loaded.items.row(item)]}
    shown |= {item for item in loaded.items.added if loaded.knowledge.shown[loaded.items.row(item)]}
    assert shown == set(ids(answer["itemList"]))
    assert loaded.knowledge.chosen[loaded.items.row(chosen)] == loaded.knowledge.chosen.sum() == 1


def test_what_exploration_learnt_outlives_the_process(deployed, exploring):
    campaign = exploring(explorationWeight="1.0")
    deployed.recommend(campaign, user_id="somebody")
    for n in range(40):
        shown = ["new1", "new2", f"i{n % 40}"]
        react(deployed, None, "new1", impression=shown)
    first = [one[0] for one in map(ids, asked(deployed, campaign, 40, num_results=1))]
    assert first.count("new1") > 3 * first.count("new2")
    runtime._PROCESSES.clear()
    assert [one[0] for one in map(ids, asked(deployed, campaign, 40, num_results=1))] == first


def test_answers_are_kept_for_as_long_as_the_operator_says_or_until_the_user_does_something(deployed, exploring):
    campaign = exploring(explorationWeight="0.5")
    quotas = {**deployed.personalize.account.quotas, "seconds_to_keep_answers": 60}
    deployed.personalize.account = replace(deployed.personalize.account, quotas=quotas)

    def answers(times, **members):
        asked = {"campaign_arn": campaign, "user_id": "u1", **members}
        return [deployed.personalize.get_recommendations(**asked) for _ in range(times)]

    first, again = answers(2)
    assert first["itemList"] == again["itemList"] and first["recommendationId"] != again["recommendationId"]
    assert len(lists_of(deployed, campaign)) == 2
    (shorter,) = answers(1, num_results=7)
    assert len(shorter["itemList"]) == 7
    deployed.click("i40", user="u2", session="t")
    assert answers(1)[0]["itemList"] == first["itemList"]
    deployed.click("i44", user="u1")
    moved = answers(2)
    assert moved[0]["itemList"] == moved[1]["itemList"] != first["itemList"]
    deployed.personalize.clock.wait(61)
    assert answers(1)[0]["itemList"] != moved[0]["itemList"]


@pytest.fixture
def updated(deployed, exploring):
    """A campaign all of whose places are explored, whose exploration learns every two hours."""
    quotas = {**deployed.personalize.account.quotas, "hours_between_exploration_updates": 2}
    deployed.personalize.account = replace(deployed.personalize.account, quotas=quotas)
    return exploring(explorationWeight="1.0")


def test_new_items_are_explored_after_an_update_which_makes_no_version(deployed, updated):
    def versions():
        (solution,) = deployed.personalize.list_solutions()["solutions"]
        arn = solution.solution_arn
        return deployed.personalize.list_solution_versions(solution_arn=arn)["solutionVersions"]

    before = versions()
    assert new_share(asked(deployed, updated)) == 0
    deployed.personalize.clock.wait(2 * 3600)
    assert new_share(asked(deployed, updated)) > 0
    late = [{"itemId": "newest", "properties": '{"genre": "Jazz"}'}]
    deployed.personalize.put_items(dataset_arn=deployed.items, items=late)
    assert not any("newest" in ids(one) for one in asked(deployed, updated, num_results=60))
    deployed.personalize.clock.wait(2 * 3600)
    assert all("newest" in ids(one) for one in asked(deployed, updated, num_results=60))
    assert versions() == before


def test_what_was_clicked_counts_for_exploration_after_an_update(deployed, updated):
    def learnt():
        deployed.recommend(updated, user_id="u1")
        loaded = runtime._process(deployed.personalize.account).deployments[updated].loaded
        return loaded.knowledge.shown.sum()

    react(deployed, None, "i1", impression=["i1", "i2"])
    assert learnt() == 0
    deployed.personalize.clock.wait(2 * 3600)
    assert learnt() == 2
    runtime._PROCESSES.clear()
    assert learnt() == 2


def test_a_version_that_another_has_followed_is_updated_no_more(deployed, updated):
    (solution,) = deployed.personalize.list_solutions()["solutions"]
    deployed.personalize.version(solution.solution_arn)
    deployed.personalize.clock.wait(4 * 3600)
    assert new_share(asked(deployed, updated)) == 0


def test_a_put_leaves_what_is_known_of_others(deployed, personal):
    deployed.click("i44", user="u1")
    deployed.recommend(personal, user_id="u1")
    deployed.recommend(personal, user_id="u2")
    before = runtime._process(deployed.personalize.account).deployments[personal].visitors
    deployed.click("i43", user="u2", session="t")
    deployed.recommend(personal, user_id="u2")
    after = runtime._process(deployed.personalize.account).deployments[personal].visitors
    assert after["u1"] is before["u1"] and after["u2"] is not before["u2"]


def test_a_campaign_asked_more_than_it_can_do_throttles_and_recovers(personalize, recipes):
    quotas = {**personalize.account.quotas, "transactions_per_second_per_core": 0.001}
    personalize.account = replace(personalize.account, quotas=quotas)
    deployed = Deployed(personalize)
    popular = deployed.campaign("aws-popularity-count")
    personalize.update_campaign(campaign_arn=popular, min_provisioned_tps=3)
    personalize.clock.wait()
    for _ in range(3):
        deployed.recommend(popular)
    with pytest.raises(ThrottlingException, match="more than 3 times a second"):
        deployed.recommend(popular)
    personalize.clock.wait(0.4)
    deployed.recommend(popular)
    with pytest.raises(ThrottlingException):
        deployed.recommend(popular)


def test_what_was_asked_is_counted_by_five_minutes(deployed):
    popular = deployed.campaign("aws-popularity-count")
    start = deployed.personalize.account.now().timestamp() // 300 * 300
    for _ in range(4):
        deployed.recommend(popular)
    deployed.personalize.clock.wait(300)
    deployed.recommend(popular)
    deployed.personalize.account.store.commits.flush()
    with deployed.personalize.account.store.read() as tx:
        found = consumption.windows(tx, start, start + 900)
    assert [(one.start - start, one.resource_arn, one.requests, one.provisioned_tps) for one in found] == [
        (0, popular, 4, 1),
        (300, popular, 1, 1),
    ]
    assert found[0].consumed_tps == pytest.approx(4 / 300)


def test_an_answer_is_at_hand_once_it_was_given_until_the_user_does_something(deployed, personal):
    account = deployed.personalize.account
    asked = {"campaign_arn": personal, "user_id": "u1"}
    assert not runtime.at_hand(account, asked)
    deployed.recommend(personal, user_id="u1")
    account.store.commits.flush()
    deployed.recommend(personal, user_id="u2")
    assert runtime.at_hand(account, asked)
    assert not runtime.at_hand(account, {**asked, "user_id": "u3"})
    assert not runtime.at_hand(account, {**asked, "context": {"EVENT_TYPE": "last"}})
    assert not any(runtime.at_hand(account, {**asked, name: "x"}) for name in ("campaign_arn", "user_id", "filter_arn"))
    deployed.click("i44", user="u1")
    assert not runtime.at_hand(account, asked)
    deployed.recommend(personal, user_id="u2")
    assert not runtime.at_hand(account, asked)


def test_answers_are_brought_to_hand_together_and_what_cannot_be_asked_is_left_to_the_operation(deployed, personal):
    account = deployed.personalize.account
    asked = [{"campaign_arn": personal, "user_id": user} for user in ("u1", "u2")]
    asked += [{"campaign_arn": personal, "user_id": "u1", "context": {"EVENT_TYPE": "last"}}, {"user_id": "u1"}]
    runtime.bring_to_hand(account, asked)
    assert not any(runtime.at_hand(account, one) for one in asked)  # nothing is loaded for it
    deployed.recommend(personal, user_id="u9")
    account.store.commits.flush()
    runtime.bring_to_hand(account, asked)
    assert [runtime.at_hand(account, one) for one in asked] == [True, True, True, False]
