// From a dataset group to recommendations and back to nothing, with the AWS SDK for JavaScript and nothing configured
// but the environment.  Arguments: the schema, the location of a CSV file.  Prints what the caller checks, as JSON.

import * as control from "@aws-sdk/client-personalize";
import { PersonalizeEvents, PutEventsCommand } from "@aws-sdk/client-personalize-events";
import { PersonalizeRuntime } from "@aws-sdk/client-personalize-runtime";

const [schema, dataLocation] = process.argv.slice(2);
const roleArn = "arn:aws:iam::123456789012:role/r";
const personalize = new control.Personalize();
const runtime = new PersonalizeRuntime();
const events = new PersonalizeEvents();

async function active(describe) {
  for (;;) {
    const { $metadata, ...members } = await describe();
    const [resource] = Object.values(members);
    if (resource.status === "ACTIVE") return resource;
    if (resource.status.endsWith("FAILED")) throw new Error(resource.failureReason);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const { datasetGroupArn } = await personalize.createDatasetGroup({ name: "javascript" });
const group = await active(() => personalize.describeDatasetGroup({ datasetGroupArn }));
const { schemaArn } = await personalize.createSchema({ name: "javascript", schema });
const { datasetArn } = await personalize.createDataset({
  name: "interactions",
  schemaArn,
  datasetGroupArn,
  datasetType: "Interactions",
});
await active(() => personalize.describeDataset({ datasetArn }));
const { datasetImportJobArn } = await personalize.createDatasetImportJob({
  jobName: "javascript",
  datasetArn,
  dataSource: { dataLocation },
  roleArn,
});
await active(() => personalize.describeDatasetImportJob({ datasetImportJobArn }));
const { eventTrackerArn, trackingId } = await personalize.createEventTracker({ name: "tracker", datasetGroupArn });
const { solutionArn } = await personalize.createSolution({
  name: "javascript",
  datasetGroupArn,
  recipeArn: "arn:aws:personalize:::recipe/aws-popularity-count",
});
await active(() => personalize.describeSolution({ solutionArn }));
const { solutionVersionArn } = await personalize.createSolutionVersion({ solutionArn });
await active(() => personalize.describeSolutionVersion({ solutionVersionArn }));
const { metrics } = await personalize.getSolutionMetrics({ solutionVersionArn });
const { campaignArn } = await personalize.createCampaign({ name: "javascript", solutionVersionArn });
await active(() => personalize.describeCampaign({ campaignArn }));
const { filterArn } = await personalize.createFilter({
  name: "unseen",
  datasetGroupArn,
  filterExpression: 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")',
});

const before = await runtime.getRecommendations({ campaignArn, userId: "new", filterArn });
const best = before.itemList[0].itemId;
await events.send(
  new PutEventsCommand({
    trackingId,
    sessionId: "session",
    userId: "new",
    eventList: [{ eventType: "click", itemId: best, sentAt: new Date(), properties: { colour: "red" } }],
  }),
);
const after = await runtime.getRecommendations({ campaignArn, userId: "new", filterArn });

let refusal;
try {
  await personalize.deleteSolution({ solutionArn });
} catch (error) {
  refusal = error instanceof control.ResourceInUseException ? error.name : String(error);
}

await personalize.deleteCampaign({ campaignArn });
await personalize.deleteSolution({ solutionArn });
await personalize.deleteEventTracker({ eventTrackerArn });
await personalize.deleteFilter({ filterArn });
await personalize.deleteDataset({ datasetArn });
await personalize.deleteDatasetGroup({ datasetGroupArn });
await personalize.deleteSchema({ schemaArn });

const left = [];
for (;;) {
  const { datasetGroups } = await personalize.listDatasetGroups({});
  if (datasetGroups.length === 0) break;
  await new Promise((resolve) => setTimeout(resolve, 50));
}
for await (const page of control.paginateListSchemas({ client: personalize }, {})) left.push(...page.schemas);

console.log(
  JSON.stringify({
    year: group.creationDateTime.getUTCFullYear(),
    coverage: metrics.coverage,
    recommended: before.itemList.length,
    stillThere: after.itemList.some((item) => item.itemId === best),
    refusal,
    left: left.length,
  }),
);
