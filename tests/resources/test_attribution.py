"""What recommendations brought about is counted by window and source, from events and imports."""

import pandas as pd
import pytest
from sqlalchemy import text

from lib.resources import attribution
from lib.resources.errors import InvalidInputException
from tests.resources.workflow import INTERACTIONS, interactions

ROLE = "arn:aws:iam::123456789012:role/r"
FIELDS = [
    {"name": "VALUE", "type": ["null", "float"]},
    {"name": "EVENT_ATTRIBUTION_SOURCE", "type": ["null", "string"]},
]
BUYS = {**INTERACTIONS, "fields": [*INTERACTIONS["fields"], *FIELDS]}
ITEMS = {
    "type": "record",
    "name": "Items",
    "namespace": "com.amazonaws.personalize.schema",
    "fields": [{"name": "ITEM_ID", "type": "string"}, {"name": "PRICE", "type": ["null", "float"]}],
    "version": "1.0",
}
WATCHES = {"eventType": "watch", "metricName": "countWatches", "expression": "SAMPLECOUNT()"}
REVENUE = {"eventType": "Buy", "metricName": "revenue", "expression": "SUM(Items.PRICE)"}
PAID = {"eventType": "buy", "metricName": "paid", "expression": "SUM(Interactions.VALUE)"}


def table(*rows):
    columns = ["EVENT_TYPE", "TIMESTAMP", "SOURCE", "VALUE", "Items.PRICE"]
    return pd.DataFrame(rows, columns=columns)


def test_values_are_added_up_by_window_and_source():
    found = attribution.count(
        table(
            ("Watch", 1000, "a", 1.0, 5.0),
            ("WATCH", 1899, "a", 1.0, 5.0),
            ("watch", 1900, "b", None, None),
            ("buy", 1000, "b", 2.5, None),
            ("buy", 1001, "b", None, 7.0),
            ("buy", 999, "b", 4.0, 3.0),
        ),
        [WATCHES, REVENUE, PAID],
        since=1000,
    )
    assert found.to_csv(index=False).splitlines() == [
        "METRIC_NAME,EVENT_TYPE,VALUE,MATH_FUNCTION,EVENT_ATTRIBUTION_SOURCE,TIMESTAMP",
        "REVENUE,BUY,3.0,sum,b,100",
        "PAID,BUY,4.0,sum,b,100",
        "COUNTWATCHES,WATCH,2.0,samplecount,a,1000",
        "REVENUE,BUY,7.0,sum,b,1000",
        "PAID,BUY,2.5,sum,b,1000",
        "COUNTWATCHES,WATCH,1.0,samplecount,b,1900",
    ]


class Shop:
    """A group with a tracker, items and an attribution."""

    def __init__(self, personalize, metrics, schema=BUYS):
        self.personalize = personalize
        self.group = personalize.group()
        self.interactions = personalize.dataset(self.group, schema)
        self.items = personalize.dataset(self.group, ITEMS)
        first = pd.DataFrame({"ITEM_ID": ["i1"], "PRICE": [10.0]})
        assert personalize.load(self.items, first, "items").status == "ACTIVE"
        self.tracking_id = personalize.create_event_tracker(name="t", dataset_group_arn=self.group)["trackingId"]
        personalize.clock.wait()
        self.buy("i1")
        personalize.clock.wait()
        self.arn = personalize.create_metric_attribution(
            name="m",
            dataset_group_arn=self.group,
            metrics=metrics,
            metrics_output_config={"roleArn": ROLE, "s3DataDestination": {"path": "s3://data/counts/"}},
        )["metricAttributionArn"]
        personalize.work()

    def buy(self, item, event_type="buy", **members):
        at = self.personalize.account.now()
        event = {"eventType": event_type, "itemId": item, "sentAt": at, **members}
        self.personalize.put_events(tracking_id=self.tracking_id, session_id="s", user_id="u", event_list=[event])

    def wait(self, minutes=15):
        self.personalize.clock.wait(60 * minutes)
        attribution.collect_due(self.personalize.account)

    def files(self):
        return sorted((self.personalize.data / "counts").glob("*"))

    def rows(self):
        found = [pd.read_csv(file) for file in self.files()]
        whole = pd.concat(found) if found else pd.DataFrame(columns=attribution.COLUMNS)
        return [(row.METRIC_NAME, row.VALUE, row.EVENT_ATTRIBUTION_SOURCE) for row in whole.itertuples()]


def test_an_event_counts_after_the_attribution_and_once_its_item_is_known(personalize):
    shop = Shop(personalize, [REVENUE])
    shop.buy("i1")
    shop.buy("i2")
    personalize.clock.wait()
    item = {"itemId": "i2", "properties": '{"price": 4}'}
    personalize.put_items(dataset_arn=shop.items, items=[item])
    shop.buy("i2", eventId="once")
    shop.buy("i2", eventId="once")
    shop.wait()
    assert shop.rows() == [("REVENUE", 14.0, attribution.UNNAMED)]
    (file,) = shop.files()
    assert file.name.startswith("AggregatedAttributionMetrics - PutEvents - ") and file.suffix == ".csv"


def test_a_window_is_counted_once_when_it_is_over(personalize):
    shop = Shop(personalize, [WATCHES])
    shop.buy("i1", "Watch")
    shop.wait(14)
    assert shop.files() == []
    shop.wait(1)
    shop.wait(0)
    assert shop.rows() == [("COUNTWATCHES", 1.0, attribution.UNNAMED)]
    shop.buy("i1", "WATCH")
    shop.wait(15)
    assert [row[1] for row in shop.rows()] == [1.0, 1.0]
    first, second = (pd.read_csv(file)["TIMESTAMP"].item() for file in shop.files())
    assert second - first == attribution.WINDOW


def test_an_event_from_the_future_counts_in_the_window_it_arrived_in(personalize):
    shop = Shop(personalize, [WATCHES])
    shop.buy("i1", "watch", sentAt=personalize.clock.time.replace(year=2100))
    shop.wait()
    assert pd.read_csv(shop.files()[0])["TIMESTAMP"].item() <= personalize.clock.time.timestamp()


def test_the_named_source_wins_over_the_recommendation(personalize):
    shop = Shop(personalize, [PAID])
    arn = "arn:aws:personalize:us-east-1:123456789012:campaign/c"
    assert personalize.load(shop.interactions, paying(1000), "bulk").status == "ACTIVE"
    version = personalize.version(personalize.solution(shop.group))
    assert personalize.create_campaign(name="c", solution_version_arn=version)["campaignArn"] == arn
    personalize.clock.wait()
    told = personalize.get_recommendations(campaign_arn=arn, user_id="u")["recommendationId"]
    for value, members in (
        (1, {"recommendationId": told}),
        (2, {"recommendationId": told, "metricAttribution": {"eventAttributionSource": "mail"}}),
        (4, {"recommendationId": "RID-unknown"}),
    ):
        shop.buy("i1", properties=f'{{"value": {value}}}', **members)
    shop.wait()
    assert shop.rows() == [("PAID", 4.0, attribution.UNNAMED), ("PAID", 1.0, arn), ("PAID", 2.0, "mail")]


def paying(rows, **members):
    found = interactions(rows, event_type="buy").assign(VALUE=1.0, EVENT_ATTRIBUTION_SOURCE="letter")
    return found.assign(**members)


def import_(shop, rows, job, **members):
    shop.personalize.create_dataset_import_job(
        job_name=job,
        dataset_arn=shop.interactions,
        data_source=shop.personalize.put(rows, f"{job}.csv"),
        **members,
    )
    shop.personalize.work()
    attribution.collect_due(shop.personalize.account)


def test_an_import_is_counted_where_it_asks_for_it(personalize):
    shop = Shop(personalize, [PAID, REVENUE])
    import_(shop, paying(1000), "silent")
    assert shop.files() == []
    import_(shop, paying(1000, ITEM_ID="i1"), "told", publish_attribution_metrics_to_s3=True)
    values = pd.read_csv(shop.files()[0]).groupby("METRIC_NAME")["VALUE"].sum()
    assert values.to_dict() == {"PAID": 1000.0, "REVENUE": 10_000.0}
    assert " - FULL - " in shop.files()[0].name
    assert {row[2] for row in shop.rows()} == {"letter"}


def test_the_recent_rows_of_an_incremental_import_stay_in_the_store(personalize):
    shop = Shop(personalize, [PAID])
    import_(shop, paying(1000), "first")
    recent = int(personalize.account.now().timestamp()) - 60 * 1000
    rows = pd.concat([paying(1000, USER_ID="old"), paying(1000, TIMESTAMP=recent + 60 * pd.RangeIndex(1000))])
    import_(shop, rows, "more", import_mode="INCREMENTAL")
    assert shop.files() == []
    (kept,) = personalize.account.store.files.path("metric-attributions/m").iterdir()  # and nothing set aside
    assert " - INCREMENTAL - " in kept.name and pd.read_csv(kept)["VALUE"].sum() == 1000


def test_changed_metrics_count_what_arrives_from_then_on(personalize):
    shop = Shop(personalize, [WATCHES])
    shop.buy("i1", "watch")
    shop.buy("i1")
    personalize.clock.wait()
    personalize.update_metric_attribution(
        metric_attribution_arn=shop.arn, add_metrics=[REVENUE], remove_metrics=["countWatches"]
    )
    shop.buy("i1", "watch")
    shop.buy("i1")
    shop.wait()
    assert shop.rows() == [("COUNTWATCHES", 1.0, attribution.UNNAMED), ("REVENUE", 10.0, attribution.UNNAMED)]
    page = personalize.list_metric_attribution_metrics(metric_attribution_arn=shop.arn)
    assert [metric["metricName"] for metric in page["metrics"]] == ["revenue"]


def test_a_deleted_attribution_has_counted_what_arrived(personalize):
    shop = Shop(personalize, [WATCHES])
    shop.buy("i1", "watch")
    personalize.clock.wait()
    personalize.delete_metric_attribution(metric_attribution_arn=shop.arn)
    assert shop.rows() == [("COUNTWATCHES", 1.0, attribution.UNNAMED)]


def test_sources_beyond_the_quota_lose_their_names(tmp_path):
    from tests.resources.workflow import Personalize

    personalize = Personalize.open(tmp_path, attribution_sources=1)
    shop = Shop(personalize, [WATCHES])
    for source in ("mail", "web", "mail"):
        shop.buy("i1", "watch", metricAttribution={"eventAttributionSource": source})
    shop.wait()
    shop.buy("i1", "watch", metricAttribution={"eventAttributionSource": "app"})
    shop.wait()
    assert shop.rows() == [
        ("COUNTWATCHES", 1.0, attribution.UNNAMED),
        ("COUNTWATCHES", 2.0, "mail"),
        ("COUNTWATCHES", 1.0, attribution.UNNAMED),
    ]


def test_the_same_events_are_not_counted_by_two_processes(personalize, monkeypatch):
    shop = Shop(personalize, [WATCHES])
    shop.buy("i1", "watch")
    personalize.clock.wait(900)
    count = attribution.count

    def both(*arguments, **members):
        monkeypatch.setattr(attribution, "count", count)
        attribution.collect_due(personalize.account)
        return count(*arguments, **members)

    monkeypatch.setattr(attribution, "count", both)
    attribution.collect_due(personalize.account)
    assert shop.rows() == [("COUNTWATCHES", 1.0, attribution.UNNAMED)]


class Outage(Exception):
    """The process ends here."""


@pytest.mark.parametrize("dies", ["before the transaction ends", "before the upload", "after the upload"])
def test_what_a_killed_process_had_counted_is_delivered_once(personalize, monkeypatch, dies):
    shop = Shop(personalize, [WATCHES])
    shop.buy("i1", "watch")

    def die(*arguments, **members):
        raise Outage

    bring = attribution._bring

    def bring_and_die(*arguments):
        bring(*arguments)
        raise Outage

    with monkeypatch.context() as patched:
        if dies == "before the transaction ends":
            patched.setattr(attribution.records, "save", die)
        else:
            patched.setattr(attribution, "_bring", die if dies == "before the upload" else bring_and_die)
        with pytest.raises(Outage):
            shop.wait()
    shop.buy("i1", "watch")
    shop.wait()
    assert sum(row[1] for row in shop.rows()) == 2
    kept = sorted(personalize.account.store.files.path("metric-attributions/m").iterdir())
    assert [path.name for path in kept] == [path.name for path in shop.files()]


def test_a_destination_that_is_away_for_a_while_gets_every_count_once(personalize, monkeypatch):
    shop = Shop(personalize, [WATCHES])
    for _ in range(2):
        shop.buy("i1", "watch")
        with monkeypatch.context() as patched:
            patched.setattr(attribution.locations, "writing", unreachable)
            with pytest.raises(ExceptionGroup, match="could not be written"):
                shop.wait()
    assert shop.files() == []
    shop.wait(0)
    assert [row[1] for row in shop.rows()] == [1.0, 1.0]


def test_an_attribution_whose_destination_is_gone_can_be_deleted_and_the_store_keeps_its_counts(
    personalize, monkeypatch
):
    shop = Shop(personalize, [WATCHES])
    shop.buy("i1", "watch")
    personalize.clock.wait()
    monkeypatch.setattr(attribution.locations, "writing", unreachable)
    personalize.delete_metric_attribution(metric_attribution_arn=shop.arn)
    kept = personalize.account.store.files.path("metric-attributions/m").glob("Aggregated*.csv")
    assert [pd.read_csv(file)["VALUE"].item() for file in kept] == [1.0]


def unreachable(*arguments):
    raise InvalidInputException("s3://data cannot be reached")


def test_nothing_is_written_to_the_destination_within_a_transaction(personalize, monkeypatch):
    shop = Shop(personalize, [WATCHES])
    shop.buy("i1", "watch")
    writing = attribution.locations.writing

    def beside(*arguments):
        with personalize.account.store.transaction() as tx:  # would wait for ever within another one
            tx.execute(text("SELECT 1"))
        return writing(*arguments)

    monkeypatch.setattr(attribution.locations, "writing", beside)
    shop.wait()
    assert shop.rows() == [("COUNTWATCHES", 1.0, attribution.UNNAMED)]


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ([WATCHES, WATCHES], "unique"),
        ([{**WATCHES, "expression": "MAX(Items.PRICE)"}], "expected SAMPLECOUNT"),
        ([{**WATCHES, "expression": "SUM(Items.ITEM_ID)"}], "no numeric column ITEM_ID"),
    ],
)
def test_metrics_that_cannot_be_counted_are_refused(personalize, metrics, told):
    group = personalize.group()
    personalize.dataset(group)
    personalize.dataset(group, ITEMS)
    with pytest.raises(InvalidInputException, match=told):
        personalize.create_metric_attribution(
            name="m", dataset_group_arn=group, metrics=metrics, metrics_output_config={"roleArn": ROLE}
        )
