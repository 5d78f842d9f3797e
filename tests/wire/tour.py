"""A way through the whole API that uses every member it has, on small data and on a clock that is moved by hand."""

import json
from dataclasses import replace

import pandas as pd

from lib.recipes import RECIPES
from lib.resources import OPERATIONS
from lib.service import client
from tests import small_recipe
from tests.resources import test_recommenders as shopping
from tests.resources.workflow import Personalize
from tests.wire.members import Recording

ACCOUNT = "arn:aws:personalize:us-east-1:123456789012:"
RECIPE = "arn:aws:personalize:::recipe/"
ROLE, KEY = "arn:aws:iam::123456789012:role/r", "arn:aws:kms:us-east-1:123456789012:key/k"
TAGS = [{"tagKey": "team", "tagValue": "news"}]
OUTPUT = {"s3DataDestination": {"path": "s3://data/out/", "kmsKeyArn": KEY}}
USERS, ITEMS = 30, 60

# One quick recipe under the names whose recipes differ in what they may be configured with.
STAND_INS = {
    "aws-user-personalization": {"explores": True},
    "aws-user-personalization-v2": {"explores": True},
    "aws-personalized-ranking": {"recipe_type": "PERSONALIZED_RANKING"},
    "aws-similar-items": {"recipe_type": "RELATED_ITEMS"},
}
STRIDE = {"name": "stride", "minValue": 1, "maxValue": 3}
RATE = {"name": "rate", "minValue": 0.25, "maxValue": 0.5}
MASK = {"name": "mask", "values": ["true", "false"]}
HPO = {
    "hpoObjective": {"type": "max", "metricName": "precision_at_25", "metricRegex": ".*"},
    "hpoResourceConfig": {"maxNumberOfTrainingJobs": "2", "maxParallelTrainingJobs": "1"},
    "algorithmHyperParameterRanges": {
        "integerHyperParameterRanges": [STRIDE],
        "continuousHyperParameterRanges": [RATE],
        "categoricalHyperParameterRanges": [MASK],
    },
}
EVENTS = {"eventParametersList": [{"eventType": "click", "eventValueThreshold": 0.5, "weight": 1.0}]}
COUNT = {"eventType": "click", "metricName": "clicks", "expression": "SAMPLECOUNT()"}


def avro(name, *columns):
    """A schema; a column is its name, and its type and attributes where it is no required string."""
    fields = [{"name": column, "type": "string"} if isinstance(column, str) else column for column in columns]
    return {"type": "record", "name": name, "namespace": "n", "fields": fields, "version": "1.0"}


def optional(name, kind="string", **attributes):
    return {"name": name, "type": ["null", kind], **attributes}


TIMESTAMP = {"name": "TIMESTAMP", "type": "long"}
SCHEMAS = (
    avro(
        "Interactions",
        *("USER_ID", "ITEM_ID", TIMESTAMP, "EVENT_TYPE", optional("EVENT_VALUE", "float"), optional("DEVICE")),
        *(optional("IMPRESSION"), optional("RECOMMENDATION_ID"), optional("EVENT_ATTRIBUTION_SOURCE")),
    ),
    avro(
        "Items",
        "ITEM_ID",
        {"name": "PRICE", "type": "float"},
        optional("GENRE", categorical=True),
        optional("NAME", itemName=True),
        optional("ABOUT", textual=True),
    ),
    avro("Users", "USER_ID", optional("AGE", "int")),
    avro("Actions", "ACTION_ID", optional("VALUE", "long")),
    avro("Action_Interactions", "USER_ID", "ACTION_ID", "EVENT_TYPE", TIMESTAMP),
)


def no_model(*_, **__):
    """A training that fails."""
    raise ValueError("nothing can be learnt from this")


def clicks(rows=1200):
    """Everybody steps from item to item."""
    return pd.DataFrame(
        {
            "USER_ID": [f"u{n % USERS}" for n in range(rows)],
            "ITEM_ID": [f"i{(n // USERS + n * n) % ITEMS}" for n in range(rows)],
            "TIMESTAMP": 1_700_000_000 + 60 * pd.RangeIndex(rows),
            "EVENT_TYPE": "click",
            "EVENT_VALUE": 1.0,
            **dict.fromkeys(("DEVICE", "IMPRESSION", "RECOMMENDATION_ID", "EVENT_ATTRIBUTION_SOURCE")),
        }
    )


class Tour:
    """Three boto3 clients inside the process, on an account whose jobs wait until they are asked to be done."""

    def __init__(self, folder, monkeypatch):
        self.monkeypatch = monkeypatch
        for name, attributes in STAND_INS.items():
            self.stand_in(name, **{"recipe_type": "USER_PERSONALIZATION", **attributes})
        self.workflow = Personalize.open(folder, dataset_groups=9, campaigns_per_group=9)
        self.recording = Recording(self.workflow.account, OPERATIONS)
        self.api, self.runtime, self.events = (
            client.connect(service, self.recording, "us-east-1")
            for service in ("personalize", "personalize-runtime", "personalize-events")
        )

    def stand_in(self, name, **attributes):
        self.monkeypatch.setitem(RECIPES, name, replace(small_recipe.RECIPE, name=name, **attributes))

    def go(self):
        """Everything, in the order in which it can be done."""
        self.group()
        self.datasets()
        self.catalogue()
        self.solutions()
        self.campaigns()
        self.puts()
        self.requests()
        self.jobs()
        self.attribution()
        self.recommender()
        self.failures()
        self.lists()
        self.deletions()

    def work(self):
        self.workflow.work()

    def put(self, table, name):
        return self.workflow.put(table, name)["dataLocation"]

    # --- data ---------------------------------------------------------------------------------------------------------

    def group(self):
        self.news = self.api.create_dataset_group(name="news", roleArn=ROLE, kmsKeyArn=KEY, tags=TAGS)[
            "datasetGroupArn"
        ]
        self.shop = self.api.create_dataset_group(name="shop", domain="ECOMMERCE")["datasetGroupArn"]
        self.work()
        for arn in (self.news, self.shop):
            self.api.describe_dataset_group(datasetGroupArn=arn)
        self.api.tag_resource(resourceArn=self.news, tags=[*TAGS, {"tagKey": "stage", "tagValue": "test"}])
        self.api.list_tags_for_resource(resourceArn=self.news)
        self.api.untag_resource(resourceArn=self.news, tagKeys=["stage"])

    def datasets(self):
        self.dataset = {}
        for schema in SCHEMAS:
            kind = schema["name"]
            arn = self.api.create_schema(name=kind, schema=json.dumps(schema))["schemaArn"]
            self.api.describe_schema(schemaArn=arn)
            self.dataset[kind] = self.api.create_dataset(
                name=kind, schemaArn=arn, datasetGroupArn=self.news, datasetType=kind, tags=TAGS
            )["datasetArn"]
        self.work()
        for dataset in self.dataset.values():
            self.api.describe_dataset(datasetArn=dataset)
        self.import_job("first", "Interactions", clicks(), importMode="FULL", publishAttributionMetricsToS3=False)
        ids = [f"i{n}" for n in range(ITEMS)]
        items = pd.DataFrame({"ITEM_ID": ids, "PRICE": 1.5, "GENRE": "Jazz", "NAME": ids, "ABOUT": "a text"})
        self.import_job("items", "Items", items)
        wider = json.loads(json.dumps(SCHEMAS[2]))
        wider["fields"].append(optional("CITY"))
        arn = self.api.create_schema(name="wider", schema=json.dumps(wider))["schemaArn"]
        self.api.update_dataset(datasetArn=self.dataset["Users"], schemaArn=arn)
        self.work()
        for dataset in self.dataset.values():
            found = self.api.describe_dataset(datasetArn=dataset)["dataset"]
            self.tracking_of_actions = found.get("trackingId")
        for schema in (shopping.INTERACTIONS, shopping.SHOP_ITEMS):
            kind = schema["name"]
            arn = self.api.create_schema(name=f"shop-{kind}", schema=json.dumps(schema), domain="ECOMMERCE")[
                "schemaArn"
            ]
            self.api.describe_schema(schemaArn=arn)
            self.dataset[f"shop-{kind}"] = self.api.create_dataset(
                name=kind, schemaArn=arn, datasetGroupArn=self.shop, datasetType=kind
            )["datasetArn"]
        self.api.create_event_tracker(name="s", datasetGroupArn=self.shop)
        self.tracker = self.api.create_event_tracker(name="t", datasetGroupArn=self.news, tags=TAGS)
        self.work()
        self.import_job("viewed", "shop-Interactions", shopping.clicks(purchases=10))
        self.import_job("goods", "shop-Items", pd.DataFrame({"ITEM_ID": ["i1"], "PRICE": 1.0, "CATEGORY_L1": "a"}))
        self.api.describe_event_tracker(eventTrackerArn=self.tracker["eventTrackerArn"])

    def import_job(self, name, kind, table, **members):
        arn = self.api.create_dataset_import_job(
            jobName=name,
            datasetArn=self.dataset[kind],
            dataSource={"dataLocation": self.put(table, f"{name}.csv")},
            roleArn=ROLE,
            tags=TAGS,
            **members,
        )["datasetImportJobArn"]
        self.work()
        self.api.describe_dataset_import_job(datasetImportJobArn=arn)

    # --- models -------------------------------------------------------------------------------------------------------

    def catalogue(self):
        recipe = self.api.describe_recipe(recipeArn=RECIPE + "aws-user-personalization")["recipe"]
        self.api.describe_algorithm(algorithmArn=recipe["algorithmArn"])
        self.api.describe_feature_transformation(featureTransformationArn=recipe["featureTransformationArn"])
        page = self.api.list_recipes(maxResults=1, recipeProvider="SERVICE")
        self.api.list_recipes(nextToken=page["nextToken"])
        self.api.list_recipes(domain="ECOMMERCE")

    def solution(self, name, recipe=None, **members):
        if recipe:
            members["recipeArn"] = RECIPE + recipe
        arn = self.api.create_solution(name=name, datasetGroupArn=self.news, **members)["solutionArn"]
        self.work()
        self.api.describe_solution(solutionArn=arn)
        return arn

    def version(self, solution, **members):
        arn = self.api.create_solution_version(solutionArn=solution, **members)["solutionVersionArn"]
        self.work()
        self.api.describe_solution_version(solutionVersionArn=arn)
        return arn

    def solutions(self):
        config = {"eventValueThreshold": "0.5", "autoTrainingConfig": {"schedulingExpression": "rate(7 days)"}}
        parameters = {"algorithmHyperParameters": {"width": "4"}, "featureTransformationParameters": {}}
        objective = {"itemAttribute": "PRICE", "objectiveSensitivity": "OFF"}
        self.tuned = self.solution(
            "tuned",
            "aws-user-personalization",
            performHPO=True,
            performAutoTraining=False,
            eventType="click",
            solutionConfig={**config, **parameters, "hpoConfig": HPO, "optimizationObjective": objective},
            tags=TAGS,
        )
        self.up = self.version(self.tuned, name="first", trainingMode="FULL", tags=TAGS)
        self.api.get_solution_metrics(solutionVersionArn=self.up)
        self.version(self.tuned, trainingMode="UPDATE")
        automl = {"metricName": "precision_at_25", "recipeList": [RECIPE + "aws-user-personalization"]}
        chosen = self.solution(
            "chosen", performAutoML=True, performAutoTraining=False, solutionConfig={"autoMLConfig": automl}
        )
        self.version(chosen)
        self.api.describe_solution(solutionArn=chosen)
        weighed = self.solution(
            "weighed",
            "aws-user-personalization-v2",
            performAutoTraining=False,
            solutionConfig={
                "eventsConfig": EVENTS,
                "trainingDataConfig": {"includedDatasetColumns": {"ITEMS": ["PRICE", "GENRE"]}},
            },
        )
        self.second = self.version(weighed)
        self.api.update_solution(
            solutionArn=weighed,
            performAutoTraining=True,
            solutionUpdateConfig={
                "autoTrainingConfig": {"schedulingExpression": "rate(1 day)"},
                "eventsConfig": EVENTS,
            },
        )
        self.work()
        self.api.describe_solution(solutionArn=weighed)
        self.similar = self.solution("similar", "aws-similar-items", performAutoTraining=False)
        self.similar_version = self.version(self.similar)
        semantic = self.solution(
            "semantic",
            "aws-semantic-similarity",
            performAutoTraining=False,
            performIncrementalUpdate=True,
            solutionConfig={"trainingDataConfig": {"excludedDatasetColumns": {"ITEMS": ["GENRE"]}}},
        )
        self.semantic_version = self.version(semantic)
        self.api.update_solution(solutionArn=semantic, performIncrementalUpdate=False)
        self.work()
        self.api.describe_solution(solutionArn=semantic)
        self.affinity = self.version(self.solution("affinity", "aws-item-affinity", performAutoTraining=False))
        stopped = self.api.create_solution_version(solutionArn=self.similar)["solutionVersionArn"]
        self.api.stop_solution_version_creation(solutionVersionArn=stopped)

    # --- answers ------------------------------------------------------------------------------------------------------

    def campaign(self, name, version, config):
        arn = self.api.create_campaign(
            name=name, solutionVersionArn=version, minProvisionedTPS=2, campaignConfig=config, tags=TAGS
        )["campaignArn"]
        self.work()
        self.api.describe_campaign(campaignArn=arn)
        return arn

    def campaigns(self):
        config = {
            "itemExplorationConfig": {"explorationWeight": "0.3", "explorationItemAgeCutOff": "30"},
            "enableMetadataWithRecommendations": True,
            "syncWithLatestSolutionVersion": True,
        }
        self.personal = self.campaign("personal", f"{self.tuned}/$LATEST", config)
        self.api.update_campaign(
            campaignArn=self.personal,
            solutionVersionArn=f"{self.tuned}/$LATEST",
            minProvisionedTPS=3,
            campaignConfig=config,
        )
        self.work()
        self.api.describe_campaign(campaignArn=self.personal)
        influence = {"rankingInfluence": {"POPULARITY": 0.5}}
        near = self.campaign("near", self.semantic_version, influence)
        self.api.update_campaign(campaignArn=near, campaignConfig={"rankingInfluence": {"FRESHNESS": 0.25}})
        self.work()
        self.api.describe_campaign(campaignArn=near)
        ranked = self.version(self.solution("ranked", "aws-personalized-ranking", performAutoTraining=False))
        self.ranking = self.campaign("ranking", ranked, {"enableMetadataWithRecommendations": True})

    def filter(self, name, expression):
        arn = self.api.create_filter(name=name, datasetGroupArn=self.news, filterExpression=expression, tags=TAGS)
        self.api.describe_filter(filterArn=arn["filterArn"])
        return arn["filterArn"]

    def puts(self):
        now = self.workflow.clock.time
        self.events.put_events(
            trackingId=self.tracker["trackingId"],
            userId="u1",
            sessionId="s",
            eventList=[
                {
                    "eventId": "e",
                    "eventType": "click",
                    "eventValue": 1.0,
                    "itemId": "i1",
                    "properties": '{"device": "phone"}',
                    "sentAt": now,
                    "recommendationId": "RID-1",
                    "impression": ["i1", "i2"],
                    "metricAttribution": {"eventAttributionSource": "mail"},
                }
            ],
        )
        self.events.put_items(
            datasetArn=self.dataset["Items"], items=[{"itemId": "i1", "properties": '{"price": 2, "genre": "Folk"}'}]
        )
        self.events.put_users(
            datasetArn=self.dataset["Users"], users=[{"userId": "u1", "properties": '{"city": "Oslo"}'}]
        )
        self.events.put_actions(
            datasetArn=self.dataset["Actions"], actions=[{"actionId": "a1", "properties": '{"value": 2}'}]
        )
        self.events.put_action_interactions(
            trackingId=self.tracking_of_actions,
            actionInteractions=[
                {
                    "actionId": "a1",
                    "userId": "u1",
                    "sessionId": "s",
                    "timestamp": now,
                    "eventType": "Taken",
                    "eventId": "e",
                    "recommendationId": "RID-1",
                    "impression": ["a1"],
                    "properties": "{}",
                }
            ],
        )

    def requests(self):
        self.folk = self.filter("folk", "INCLUDE ItemID WHERE Items.GENRE IN ($GENRE)")
        genre = {"filterArn": self.folk, "filterValues": {"GENRE": '"Folk","Jazz"'}}
        columns = {"ITEMS": ["GENRE", "PRICE"]}
        asked = {"userId": "u1", "context": {"DEVICE": "phone"}, "metadataColumns": columns, **genre}
        promotion = {"name": "folk", "percentPromotedItems": 50, **genre}
        self.runtime.get_recommendations(campaignArn=self.personal, numResults=5, promotions=[promotion], **asked)
        second = self.campaign("second", self.second, {})
        self.runtime.get_recommendations(campaignArn=second, userId="u1", promotions=[promotion])
        similar = self.campaign("similar", self.similar_version, {})
        self.runtime.get_recommendations(campaignArn=similar, itemId="i2")
        self.runtime.get_personalized_ranking(campaignArn=self.ranking, inputList=["i1", "i2"], **asked)
        actions = self.campaign(
            "actions", self.version(self.solution("acting", "aws-next-best-action", performAutoTraining=False)), {}
        )
        self.runtime.get_action_recommendations(
            campaignArn=actions,
            userId="u1",
            numResults=3,
            filterArn=self.filter("worthwhile", "INCLUDE ActionID WHERE Actions.VALUE > $LEAST"),
            filterValues={"LEAST": "1"},
        )

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def jobs(self):
        arn = self.api.create_dataset_export_job(
            jobName="export",
            datasetArn=self.dataset["Items"],
            ingestionMode="ALL",
            roleArn=ROLE,
            jobOutput=OUTPUT,
            tags=TAGS,
        )["datasetExportJobArn"]
        users = {"dataLocation": self.put(pd.DataFrame({"USER_ID": ["u29"]}), "users.csv")}
        deletion = self.api.create_data_deletion_job(
            jobName="deletion", datasetGroupArn=self.news, dataSource=users, roleArn=ROLE, tags=TAGS
        )["dataDeletionJobArn"]
        self.workflow.data.joinpath("in.json").write_text('{"itemId": "i1"}\n')
        source = {"s3DataSource": {"path": "s3://data/in.json", "kmsKeyArn": KEY}}
        self.workflow.data.joinpath("users.json").write_text('{"userId": "u1"}\n')  # no segment is asked for by a user
        of_users = {"s3DataSource": {"path": "s3://data/users.json"}}
        asked = {"jobInput": source, "jobOutput": OUTPUT, "roleArn": ROLE, "tags": TAGS, "numResults": 5}
        themes = self.api.create_batch_inference_job(
            jobName="themes",
            solutionVersionArn=self.similar_version,
            batchInferenceJobMode="THEME_GENERATION",
            themeGenerationConfig={"fieldsForThemeGeneration": {"itemName": "NAME"}},
            **asked,
        )
        exploration = {"explorationWeight": "0.5", "explorationItemAgeCutOff": "30"}
        inference = self.api.create_batch_inference_job(
            jobName="inference",
            solutionVersionArn=self.up,
            filterArn=self.filter("batch", 'INCLUDE ItemID WHERE Items.GENRE IN ("Jazz")'),
            batchInferenceJobConfig={"itemExplorationConfig": exploration},
            **asked,
        )
        near = self.api.create_batch_inference_job(
            jobName="near",
            solutionVersionArn=self.semantic_version,
            batchInferenceJobConfig={"rankingInfluence": {"POPULARITY": 0.5}},
            **asked,
        )
        young = self.filter("young", "INCLUDE UserID WHERE Users.AGE < 30")
        segments = [
            self.api.create_batch_segment_job(
                jobName=name, solutionVersionArn=self.affinity, filterArn=young, **{**asked, "jobInput": place}
            )["batchSegmentJobArn"]
            for name, place in (("segment", source), ("another", of_users))
        ]
        self.work()
        self.api.describe_dataset_export_job(datasetExportJobArn=arn)
        self.api.describe_data_deletion_job(dataDeletionJobArn=deletion)
        for job in (themes, inference, near):
            self.api.describe_batch_inference_job(batchInferenceJobArn=job["batchInferenceJobArn"])
        for arn in segments:
            self.api.describe_batch_segment_job(batchSegmentJobArn=arn)

    def attribution(self):
        output = {**OUTPUT, "roleArn": ROLE}
        self.attributed, _ = (
            self.api.create_metric_attribution(
                name=group.rpartition("/")[2], datasetGroupArn=group, metrics=[COUNT], metricsOutputConfig=output
            )["metricAttributionArn"]
            for group in (self.news, self.shop)
        )
        self.work()
        self.api.update_metric_attribution(
            metricAttributionArn=self.attributed,
            addMetrics=[{**COUNT, "metricName": "more"}, {**COUNT, "metricName": "most"}],
            removeMetrics=["clicks"],
            metricsOutputConfig=output,
        )
        self.work()
        self.api.describe_metric_attribution(metricAttributionArn=self.attributed)
        page = self.api.list_metric_attribution_metrics(metricAttributionArn=self.attributed, maxResults=1)
        self.api.list_metric_attribution_metrics(metricAttributionArn=self.attributed, nextToken=page["nextToken"])

    def recommender(self):
        config = {
            "itemExplorationConfig": {"explorationWeight": "0.3", "explorationItemAgeCutOff": "30"},
            "minRecommendationRequestsPerSecond": 2,
            "enableMetadataWithRecommendations": True,
        }
        names = ("excludedDatasetColumns", "includedDatasetColumns")
        columns = [{"trainingDataConfig": {name: {"ITEMS": ["PRICE"]}}} for name in names]
        made = [
            self.api.create_recommender(
                name=name,
                datasetGroupArn=self.shop,
                recipeArn=shopping.FOR_YOU,
                recommenderConfig={**config, **chosen},
                tags=TAGS,
            )["recommenderArn"]
            for name, chosen in zip(names, columns)
        ]
        unsold = self.api.create_recommender(name="unsold", datasetGroupArn=self.shop, recipeArn=shopping.PURCHASES)[
            "recommenderArn"
        ]
        self.work()
        for arn in (*made, unsold):
            self.api.describe_recommender(recommenderArn=arn)
        for arn, chosen in zip(made, reversed(columns)):
            self.api.update_recommender(recommenderArn=arn, recommenderConfig={**config, **chosen})
        self.work()
        for arn in made:
            self.api.describe_recommender(recommenderArn=arn)
        first = {"recommenderArn": made[0]}
        self.runtime.get_recommendations(userId="u1", **first)
        self.api.stop_recommender(**first)
        self.work()
        self.api.start_recommender(**first)
        self.work()
        self.stand_in("aws-user-personalization-v2", recipe_type="USER_PERSONALIZATION", fit=no_model)
        self.api.update_recommender(**first, recommenderConfig={**config, **columns[0]})
        self.work()
        self.api.describe_recommender(**first)

    def failures(self):
        """Jobs that cannot end well, for the members that say why."""
        self.import_job("short", "Interactions", clicks(rows=10))
        out = self.workflow.data / "file"
        out.write_text("in the way")
        export = self.api.create_dataset_export_job(
            jobName="nowhere",
            datasetArn=self.dataset["Items"],
            roleArn=ROLE,
            jobOutput={"s3DataDestination": {"path": "s3://data/file"}},
        )["datasetExportJobArn"]
        wrong = {"dataLocation": self.put(pd.DataFrame({"NAME": ["u29"]}), "wrong.csv")}
        deletion = self.api.create_data_deletion_job(
            jobName="wrong", datasetGroupArn=self.news, dataSource=wrong, roleArn=ROLE
        )["dataDeletionJobArn"]
        solution = self.solution("nobody", "aws-user-personalization", eventType="purchase")
        self.version(solution)
        self.api.describe_solution(solutionArn=solution)
        self.api.describe_dataset_export_job(datasetExportJobArn=export)
        self.api.describe_data_deletion_job(dataDeletionJobArn=deletion)

    # --- lists, and the end -------------------------------------------------------------------------------------------

    def lists(self):
        parents = {
            "list_batch_inference_jobs": {"solutionVersionArn": self.up},
            "list_batch_segment_jobs": {"solutionVersionArn": self.affinity},
            "list_campaigns": {"solutionArn": self.tuned},
            "list_data_deletion_jobs": {"datasetGroupArn": self.news},
            "list_dataset_export_jobs": {"datasetArn": self.dataset["Items"]},
            "list_dataset_groups": {},
            "list_dataset_import_jobs": {"datasetArn": self.dataset["Interactions"]},
            "list_datasets": {"datasetGroupArn": self.news},
            "list_event_trackers": {"datasetGroupArn": self.news},
            "list_filters": {"datasetGroupArn": self.news},
            "list_metric_attributions": {"datasetGroupArn": self.news},
            "list_recommenders": {"datasetGroupArn": self.shop},
            "list_schemas": {},
            "list_solution_versions": {"solutionArn": self.tuned},
            "list_solutions": {"datasetGroupArn": self.news},
        }
        for name, parent in parents.items():
            operation = getattr(self.api, name)
            operation(**parent)
            page = operation(maxResults=1)
            while "nextToken" in page:
                page = operation(maxResults=1, nextToken=page["nextToken"])

    def deletions(self):
        for campaign in self.api.list_campaigns()["campaigns"]:
            self.api.delete_campaign(campaignArn=campaign["campaignArn"])
        for recommender in self.api.list_recommenders()["recommenders"]:
            self.api.delete_recommender(recommenderArn=recommender["recommenderArn"])
        for solution in self.api.list_solutions()["solutions"]:
            self.api.delete_solution(solutionArn=solution["solutionArn"])
        for tracker in self.api.list_event_trackers()["eventTrackers"]:
            self.api.delete_event_tracker(eventTrackerArn=tracker["eventTrackerArn"])
        for attribution in self.api.list_metric_attributions()["metricAttributions"]:
            self.api.delete_metric_attribution(metricAttributionArn=attribution["metricAttributionArn"])
        for found in self.api.list_filters()["Filters"]:
            self.api.delete_filter(filterArn=found["filterArn"])
        for dataset in self.api.list_datasets()["datasets"]:
            self.api.delete_dataset(datasetArn=dataset["datasetArn"])
        for group in (self.news, self.shop):
            self.api.delete_dataset_group(datasetGroupArn=group)
        self.workflow.clock.wait()
        for schema in self.api.list_schemas()["schemas"]:
            self.api.delete_schema(schemaArn=schema["schemaArn"])
