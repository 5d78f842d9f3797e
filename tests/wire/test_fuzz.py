"""Whatever comes in through the port is answered, at once and by the rules, and nothing fails inside."""

import http.client
import json
import socket
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from lib.service import model
from tests.filters import test_expression as expressions
from tests.wire.members import models
from tests.wire.serving import serving
from tests.wire.shapes import JSON, Requests
from tests.wire.site import CLICKS, ITEMS, RECIPE, ROLE, Site, clicks

EXAMPLES = 1200  # of each test
SECONDS = 20  # for one answer
ACCOUNT = "arn:aws:personalize:us-east-1:123456789012:"
NAMES = [f"n{number}" for number in range(3)]
KINDS = (
    *("dataset-group", "schema", "campaign", "filter", "solution", "recommender", "metric-attribution"),
    *("dataset-import-job", "dataset-export-job", "batch-inference-job", "batch-segment-job", "data-deletion-job"),
)
ALWAYS = {*model.COMMON_ERRORS, "InvalidInputException"}  # the last one for what breaks a shape
bounded = settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck), print_blob=False)


class Target:
    """A service with one of everything, and a connection to it that is used again and again."""

    def __init__(self, service, data):
        self.service, self.site = service, Site(service, data)
        self.address = urlsplit(service.url).netloc
        self.connection = http.client.HTTPConnection(self.address, timeout=SECONDS)
        self.requests = Requests(self._furnish())

    def _furnish(self):
        """Make resources; what members may be called with to reach them."""
        site = self.site
        group = site.group()
        interactions = site.dataset(group)
        assert site.load(interactions, clicks())["status"] == "ACTIVE"
        items = site.dataset(group, ITEMS, "Items")
        tracking_id = site.api.create_event_tracker(name="t", datasetGroupArn=group)["trackingId"]
        solution = site.solution(group)
        version = site.version(solution)["solutionVersionArn"]
        campaign = site.campaign(version)
        genre = site.filter(group, "INCLUDE ItemID WHERE Items.GENRE IN ($G)")
        made = {arn.split(":")[5].split("/")[0]: arn for arn in (group, solution, campaign, genre)}
        known = {
            f"{_member(kind)}Arn": [*(ACCOUNT + f"{kind}/{name}" for name in NAMES), *filter(None, [made.get(kind)])]
            for kind in KINDS
        }
        # what has been made here is for asking about: deleting goes by the names that are drawn
        self.kept = [*made.values(), interactions, items, version]
        return {
            **known,
            "Arn": [ACCOUNT + f"{kind}/{NAMES[0]}" for kind in KINDS],
            "datasetArn": [interactions, items, ACCOUNT + "dataset/n0/ITEMS"],
            "solutionVersionArn": [version, f"{solution}/$LATEST", solution],
            "resourceArn": self.kept,
            "recipeArn": [RECIPE + "aws-popularity-count", RECIPE + "aws-user-personalization"],
            "Name": NAMES,
            "AvroSchema": [json.dumps(CLICKS), json.dumps(ITEMS), "{}", '{"type": "record"}'],
            "DatasetType": ["Interactions", "Items", "Users", "Actions"],
            "FilterExpression": expressions.VALID + list(expressions.INVALID),
            "RoleArn": [ROLE],
            "S3Location": [
                *("s3://data/table-1.csv", "s3://data/", "s3://data/none", "s3://data/\0", "s3://../x", "s3://"),
                *("s3://data/" + "\u00fc" * 200, "s3://data/a/" * 20),
            ],
            "trackingId": [tracking_id],
            "TrackingId": [tracking_id],
            "properties": ["{}", '{"genre": "Jazz"}', '{"GENRE": null, "x": [1]}', "[1]", '{"a":' * 90],
            "metricName": ["clicks"],
            "expression": ["SAMPLECOUNT()", "SUM(Items.GENRE)"],
            "itemId": ["i1"],
            "userId": ["u1"],
            "metadataColumns": [{"ITEMS": ["GENRE"]}, {}],
            "filterValues": [{"G": '"Jazz"'}],
            "key": ["G", "ITEMS", "INTERACTIONS", "explorationWeight", "bptt"],
            "value": ['"Jazz"', "0.5", "nan", "1e999"],
        }

    def post(self, path, headers, body):
        """Send a request, on a new connection if the last one was closed; status, headers and body of the answer."""
        for attempt in (1, 2):
            try:
                self.connection.request("POST", path, body, headers)
                answer = self.connection.getresponse()
                return answer.status, answer.headers, answer.read()
            except (http.client.RemoteDisconnected, ConnectionError):
                self.connection.close()
                if attempt == 2:
                    raise
        raise AssertionError("not reached")

    def call(self, service, name, members):
        """Call an operation; None or the code of its error.  Fails where the answer breaks a rule of the protocol."""
        operation = model.operations()[service, name]
        path = next((path for path, one in model.paths().items() if one is operation), "/")
        headers = {} if operation.is_rest else {"X-Amz-Target": f"AmazonPersonalize.{name}"}
        status, told, body = self.post(path, headers, json.dumps(members).encode())
        assert status < 500, (name, members, body)
        assert told["x-amzn-requestid"]
        if status == 200:
            assert (json.loads(body) if body else {}) is not None
            return None
        error = json.loads(body)
        code = told["x-amzn-errortype"] if operation.is_rest else error["__type"]
        assert error["message"] and "Traceback" not in error["message"]
        assert code in declared(service, name) | ALWAYS, (name, members, error)
        assert status == model.status(service, code)
        return code

    def check(self):
        """The service lives on, and its log tells of no failure."""
        assert self.service.process.poll() is None
        assert self.post("/", {"X-Amz-Target": "AmazonPersonalize.ListSchemas"}, b"{}")[0] == 200
        lists = [
            name for name in dir(self.site.api) if name.startswith("list_") and name.endswith(("jobs", "versions"))
        ]
        for name in lists:
            (found,) = (value for value in getattr(self.site.api, name)().values() if isinstance(value, list))
            assert [job for job in found if "Internal error" in job.get("failureReason", "")] == []
        lines = [json.loads(line) for line in self.service.log]  # a traceback would be no JSON
        assert [line for line in lines if line["event"] == "failure" or "traceback" in line] == []


def declared(service, name):
    """The errors that the model lists for an operation."""
    (found,) = (one for one in models() if one.service_name == service)
    return {shape.name for shape in found.operation_model(name).error_shapes}


def _member(kind):
    first, *others = kind.split("-")
    return first + "".join(other.capitalize() for other in others)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    data = folder / "data"
    data.mkdir()
    with serving(folder / "store", "--bucket", f"data={data}") as service:
        yield Target(service, data)


def harmless(target, name, members):
    """Whether a call leaves standing what the others ask about."""
    return not name.startswith(("Delete", "Stop", "Update")) or not set(target.kept) & set(map(str, members.values()))


@pytest.mark.parametrize("kind", ["valid", "spoilt"])
def test_requests_of_the_models_shapes_are_answered_by_the_rules(target, kind):
    drawn = {key: getattr(target.requests, kind)(key[1]) for key in model.operations()}
    codes = []

    @seed(20)
    @bounded
    @given(st.sampled_from(sorted(drawn)).flatmap(lambda key: st.tuples(st.just(key), drawn[key])))
    def ask(call):
        (service, name), members = call
        if harmless(target, name, members):
            codes.append(target.call(service, name, members))

    ask()
    target.check()
    assert {None, "InvalidInputException", "ResourceNotFoundException"} <= set(codes)


def test_any_json_for_any_operation_is_answered_by_the_rules(target):
    @seed(20)
    @bounded
    @given(st.sampled_from(sorted(model.operations())), st.dictionaries(st.text(), JSON) | JSON)
    def ask(key, members):
        target.call(*key, members)

    ask()
    target.check()


LINE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=40)
REQUEST = st.tuples(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "BREW", ""]),
    st.sampled_from([*model.paths(), "/", "/health", "/metrics", "*", "//", "/%ff%00", "http://elsewhere/"]) | LINE,
    st.lists(
        st.sampled_from(
            [
                *("Host: h", "Content-Length: 2", "Content-Length: -1", "Content-Length: 99999999999999999999"),
                *("Transfer-Encoding: chunked", "Expect: 100-continue", "Upgrade: h2c", "Connection: upgrade"),
                *("X-Amz-Target: AmazonPersonalize.ListSchemas", "Content-Encoding: gzip", "Authorization: AWS4"),
            ]
        )
        | LINE,
        max_size=5,
    ),
    st.binary(max_size=200),
).map(
    lambda parts: (
        "\r\n".join([f"{parts[0]} {parts[1]} HTTP/1.1", *parts[2], "Connection: close", "", ""]).encode("latin-1")
        + parts[3]
    )
)


def test_any_bytes_are_answered_or_refused_and_the_service_lives_on(target):
    host, port = target.address.split(":")

    @seed(20)
    @bounded
    @given(REQUEST | st.binary(max_size=300))
    def send(request):
        with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            received = b""
            try:
                while more := connection.recv(65536):
                    received += more
            except ConnectionResetError:
                pass  # it had read enough
        assert not received or int(received.split(b" ", 2)[1]) < 500, request
        assert b"Traceback" not in received

    send()
    target.check()
