"""From a dataset group to actions for a user, on a clock that the test moves."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from lib.resources.errors import InvalidInputException

DAY = 86_400
NEWEST = 1_700_000_000
RECIPE = "arn:aws:personalize:::recipe/aws-next-best-action"
ACTIONS = ["app", "card", "club", "late", "once"]


def avro(name, *fields):
    return {"type": "record", "name": name, "namespace": "n", "version": "1.0", "fields": list(fields)}


def text(name, **attributes):
    return {"name": name, "type": "string", **attributes}


def optional(name):
    return {"name": name, "type": ["null", "long"]}


SCHEMAS = {
    "Users": avro("Users", text("USER_ID"), text("TIER", categorical=True)),
    "Actions": avro(
        "Actions",
        text("ACTION_ID"),
        text("KIND", categorical=True),
        *(optional(name) for name in ("VALUE", "ACTION_EXPIRATION_TIMESTAMP", "REPEAT_FREQUENCY")),
    ),
    "Action_Interactions": avro(
        "ActionInteractions",
        *(text(name) for name in ("USER_ID", "ACTION_ID", "EVENT_TYPE")),
        {"name": "TIMESTAMP", "type": "long"},
    ),
}


def met(rows=1500, users=50):
    """Whoever is of gold takes the card, the others the app; nobody cares much for the rest."""
    rng = np.random.default_rng(5)
    user, action = rng.integers(users, size=rows), rng.integers(3, size=rows)
    liked = np.where(user % 2 == 0, action == 1, action == 0)
    return pd.DataFrame(
        {
            "USER_ID": [f"u{n}" for n in user],
            "ACTION_ID": [ACTIONS[n] for n in action],
            "EVENT_TYPE": np.where(rng.random(rows) < np.where(liked, 0.8, 0.15), "Taken", "Not Taken"),
            "TIMESTAMP": NEWEST - rng.integers(40 * DAY, size=rows),
        }
    )


class Offers:
    """A campaign of actions, and what may be done with it."""

    def __init__(self, personalize, action_interactions):
        self.personalize = personalize
        group = personalize.filled()
        self.group = group
        self.datasets = {name: personalize.dataset(group, schema, name) for name, schema in self._schemas()}
        users = pd.DataFrame({"USER_ID": [f"u{n}" for n in range(50)], "TIER": ["gold", "tin"] * 25})
        now = int(personalize.clock.time.timestamp())
        actions = pd.DataFrame(
            {
                "ACTION_ID": ACTIONS,
                "KIND": ["web", "bank", "shop", "web", "bank"],
                "VALUE": [1, 2, 3, 9, 1],
                "ACTION_EXPIRATION_TIMESTAMP": [None, None, None, now + 3600, None],
                "REPEAT_FREQUENCY": [None, None, None, None, 30],
            }
        )
        assert personalize.load(self.datasets["Users"], users, "users").status == "ACTIVE"
        assert personalize.load(self.datasets["Actions"], actions, "actions").status == "ACTIVE"
        if action_interactions is not None:
            dataset = self.datasets["Action_Interactions"]
            assert personalize.load(dataset, action_interactions, "met").status == "ACTIVE"
        self.solution = personalize.solution(group, "offers", RECIPE)
        self.version = personalize.version(self.solution)
        self.campaign = personalize.create_campaign(name="offers", solution_version_arn=self.version)["campaignArn"]
        personalize.clock.wait()

    def _schemas(self):
        return [(name, {**schema, "name": schema["name"]}) for name, schema in SCHEMAS.items()]

    def ask(self, user, **members):
        return self.personalize.get_action_recommendations(campaign_arn=self.campaign, user_id=user, **members)[
            "actionList"
        ]

    def ids(self, user, **members):
        return [action["actionId"] for action in self.ask(user, **members)]

    def tell(self, user, action, event_type, ago=timedelta()):
        described = self.personalize.describe_dataset(dataset_arn=self.datasets["Action_Interactions"])["dataset"]
        event = {"actionId": action, "userId": user, "sessionId": "s", "eventType": event_type}
        self.personalize.put_action_interactions(
            tracking_id=described.tracking_id,
            action_interactions=[{**event, "timestamp": self.personalize.clock.time - ago}],
        )

    def filter(self, expression):
        arn = self.personalize.create_filter(
            name=f"f{abs(hash(expression))}", dataset_group_arn=self.group, filter_expression=expression
        )["filterArn"]
        self.personalize.clock.wait()
        return arn


@pytest.fixture
def offers(personalize):
    return Offers(personalize, met())


def test_actions_are_ordered_by_the_chance_that_they_are_taken_and_new_ones_score_nothing(offers):
    gold, tin = offers.ask("u0"), offers.ask("u1")
    assert gold[0]["actionId"] == "card" and tin[0]["actionId"] == "app"
    assert gold[0]["score"] > 0.5
    assert [action["score"] for action in gold] == sorted((action["score"] for action in gold), reverse=True)
    assert {action["actionId"]: action["score"] for action in gold if action["score"] == 0} == {"late": 0, "once": 0}
    assert offers.ids("u0")[3:] == ["late", "once"]  # the worthier first
    assert len(offers.ask("u0", num_results=2)) == 2


def test_a_few_places_are_drawn_from_actions_that_have_no_chances_yet(offers):
    answers = [offers.ids(f"u{n}", num_results=2) for n in range(50)]
    exploring = [ids for ids in answers if {"late", "once"} & set(ids)]
    assert 1 <= len(exploring) <= 20
    assert answers == [offers.ids(f"u{n}", num_results=2) for n in range(50)]


def test_metrics_tell_how_well_actions_are_foreseen(offers):
    metrics = offers.personalize.get_solution_metrics(solution_version_arn=offers.version)["metrics"]
    assert sorted(metrics) == sorted(
        [
            *(f"normalized_discounted_cumulative_gain_at_{k}" for k in (5, 10, 25)),
            *("coverage", "precision", "recall", "area_under_the_curve"),
        ]
    )
    assert metrics["coverage"] == 1.0
    assert metrics["area_under_the_curve"] > 0.6


def test_a_clock_that_runs_ahead_does_not_end_what_training_learns(personalize):
    now = int(personalize.clock.time.timestamp())
    offers = Offers(personalize, met().eval(f"TIMESTAMP = TIMESTAMP + {now - NEWEST}"))
    offers.tell("u0", "card", "Taken", ago=timedelta(days=-75 * 365))
    version = offers.personalize.version(offers.solution)
    metrics = offers.personalize.get_solution_metrics(solution_version_arn=version)["metrics"]
    assert metrics["area_under_the_curve"] > 0.5  # which is a guess


def test_what_a_user_does_about_an_action_changes_the_next_answer(offers):
    before = {action["actionId"]: action["score"] for action in offers.ask("u0")}
    for _ in range(6):
        offers.tell("u0", "card", "Not Taken")
        offers.personalize.clock.wait(3600)
    after = {action["actionId"]: action["score"] for action in offers.ask("u0")}
    assert after["card"] != before["card"]


def test_an_action_waits_for_as_long_as_its_repeat_frequency_says(offers):
    assert "once" in offers.ids("u0")
    offers.tell("u0", "once", "VIEWED", ago=timedelta(days=29))
    assert "once" not in offers.ids("u0")
    assert "once" in offers.ids("u1")
    offers.personalize.clock.wait(2 * DAY)
    assert "once" in offers.ids("u0")


def test_an_expired_action_is_left_out(offers):
    assert "late" in offers.ids("u0")
    offers.personalize.clock.wait(3600)
    assert "late" not in offers.ids("u0")


def test_a_put_action_is_recommended_at_once_and_a_changed_one_as_it_is_now(offers):
    put = [{"actionId": "new", "properties": '{"kind": "bank", "value": 10}'}]
    offers.personalize.put_actions(dataset_arn=offers.datasets["Actions"], actions=put)
    assert {"actionId": "new", "score": 0.0} in offers.ask("u0", num_results=10)
    assert offers.ids("u0", num_results=10)[3] == "new"  # the worthiest of those that have no chances yet
    now = int(offers.personalize.clock.time.timestamp())
    put = [{"actionId": "card", "properties": f'{{"kind": "bank", "actionExpirationTimestamp": {now - 1}}}'}]
    offers.personalize.put_actions(dataset_arn=offers.datasets["Actions"], actions=put)
    assert "card" not in offers.ids("u0", num_results=10)


def test_filters_choose_among_actions(offers):
    bank = offers.filter("INCLUDE ActionID WHERE Actions.KIND IN ($KIND)")
    assert offers.ids("u0", filter_arn=bank, filter_values={"KIND": '"bank"'}) == ["card", "once"]
    gold = offers.filter('EXCLUDE ActionID WHERE Actions.VALUE > 2 IF CurrentUser.TIER = "gold"')
    assert "club" not in offers.ids("u0", filter_arn=gold) and "club" in offers.ids("u1", filter_arn=gold)
    for spelled in ("TAKEN", "taken"):
        untaken = offers.filter(f'EXCLUDE ActionID WHERE Action_Interactions.EVENT_TYPE IN ("{spelled}")')
        assert "card" not in offers.ids("u0", filter_arn=untaken)
    anything = offers.filter('INCLUDE ActionID WHERE Action_Interactions.EVENT_TYPE IN ("NOT_TAKEN")')
    assert offers.ids("nobody", filter_arn=anything) == []
    offers.tell("nobody", "once", "Not Taken", ago=timedelta(days=31))
    assert offers.ids("nobody", filter_arn=anything) == ["once"]


def test_filters_forget_what_a_user_did_about_actions_after_ninety_days(offers):
    untaken = offers.filter('EXCLUDE ActionID WHERE Action_Interactions.EVENT_TYPE IN ("TAKEN")')
    assert "card" not in offers.ids("u0", filter_arn=untaken)
    offers.personalize.clock.wait(91 * DAY)
    assert "card" in offers.ids("u0", filter_arn=untaken)
    offers.tell("u0", "app", "Viewed")
    assert "card" not in offers.ids("u0", filter_arn=untaken)


def test_a_filter_of_items_and_too_many_actions_are_refused(offers):
    items = offers.filter('EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("click")')
    with pytest.raises(InvalidInputException, match="recommends actions"):
        offers.ask("u0", filter_arn=items)
    with pytest.raises(InvalidInputException, match="at most 100"):
        offers.ask("u0", num_results=101)
    with pytest.raises(InvalidInputException, match="both needed"):
        offers.ask("")
    with pytest.raises(InvalidInputException, match="call GetActionRecommendations"):
        offers.personalize.get_recommendations(campaign_arn=offers.campaign, user_id="u0")


def test_without_action_interactions_actions_come_by_their_worth_and_score_nothing(personalize):
    offers = Offers(personalize, None)
    assert offers.ask("u0") == [{"actionId": id, "score": 0.0} for id in ("late", "club", "card", "app", "once")]
    offers.tell("u0", "once", "TAKEN")
    assert "once" not in offers.ids("u0")
    assert personalize.get_solution_metrics(solution_version_arn=offers.version)["metrics"] == {}


def test_a_group_without_actions_is_told_what_is_missing(personalize):
    version = personalize.version(personalize.solution(personalize.filled(), "offers", RECIPE))
    found = personalize.describe_solution_version(solution_version_arn=version)["solutionVersion"]
    assert found.status == "CREATE FAILED"
    assert "create an Actions dataset" in found.failure_reason


def test_a_deleted_campaign_answers_no_more_and_all_can_be_deleted(offers):
    personalize = offers.personalize
    assert offers.ids("u0")
    personalize.delete_campaign(campaign_arn=offers.campaign)
    with pytest.raises(InvalidInputException, match="does not exist"):
        offers.ask("u0")
    personalize.delete_solution(solution_arn=offers.solution)
    personalize.clock.wait()
    for dataset in offers.datasets.values():
        personalize.delete_dataset(dataset_arn=dataset)
