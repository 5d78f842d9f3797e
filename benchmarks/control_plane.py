"""How many control-plane operations a second the service performs: prints ratios to two peers of the same run.

The bare endpoint is the same server stack with nothing behind it: what is missing to its rate is the price of checks,
of the store and of bringing each created resource to disk.  moto is the emulator that teams use today; of Personalize
it has schemas alone, in memory, and it closes each connection, so beside it one client asks once a connection.
``python benchmarks/control_plane.py [--requests 2000]``
"""

import argparse
import json
import tempfile
import threading
import time
from urllib.request import Request, urlopen

import serving

ALONE = 200  # requests of one client
HEADERS = {
    "Content-Type": "application/x-amz-json-1.1",
    "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-east-1/personalize/aws4_request, "
    "SignedHeaders=host, Signature=0",  # tells moto which service is meant
}
ARN = "arn:aws:personalize:us-east-1:123456789012:"
SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "Interactions",
        "namespace": "com.amazonaws.personalize.schema",
        "fields": [
            {"name": "USER_ID", "type": "string"},
            {"name": "ITEM_ID", "type": "string"},
            {"name": "TIMESTAMP", "type": "long"},
        ],
        "version": "1.0",
    }
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--moto", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.moto:
        moto()
        return
    schemas = [{"name": f"schema-{n}", "schema": SCHEMA} for n in range(options.requests)]
    described = [{"schemaArn": f"{ARN}schema/{schema['name']}"} for schema in schemas]
    groups = [{"name": f"group-{n}"} for n in range(options.requests)]
    asked = {
        "CreateSchema": schemas,
        "DescribeSchema": described,
        "ListSchemas": [{"maxResults": 100}],
        "CreateDatasetGroup": groups,
        "DescribeDatasetGroup": [{"datasetGroupArn": f"{ARN}dataset-group/{group['name']}"} for group in groups],
        "ListDatasetGroups": [{"maxResults": 100}],
    }
    with tempfile.TemporaryDirectory() as store:
        lifted = [word for quota in ("schemas", "dataset_groups") for word in ("--quota", f"{quota}=inf")]
        with serving.process("-m", "lib.service", "--workers", "1", "--port", "0", "--store", store, *lifted) as server:
            own = {name: measured(server, name, bodies, options.requests) for name, bodies in asked.items()}
    names = [name for name in asked if name.endswith(("Schema", "Schemas"))]
    alone = {}
    with tempfile.TemporaryDirectory() as store:
        ours, theirs = ("-m", "lib.service", "--workers", "1", "--port", "0", "--store", store), (__file__, "--moto")
        for command in (ours, theirs):
            with serving.process(*command) as server:
                alone[command] = {name: one_by_one(server.url, name, asked[name][:ALONE]) for name in names}
    with serving.process(serving.__file__, "--bare") as server:
        bare = {name: measured(server, name, bodies, options.requests) for name, bodies in asked.items()}
    print(f"{'':22}{'a second':>10}{'of bare':>10}{'of moto':>10}   p50, p99 in ms, errors")
    for name, found in own.items():
        to_moto = f"{alone[ours][name] / alone[theirs][name]:9.1f}x" if name in names else f"{'':>10}"
        p50, p99 = found.seen.percentile(50), found.seen.percentile(99)
        errors = sum(found.seen.errors.values())
        print(
            f"{name:22}{found.rate:10.0f}{found.rate / bare[name].rate:10.2f}{to_moto}   {p50:.1f}, {p99:.1f}, {errors}"
        )


def measured(server: serving.Server, operation: str, bodies: list[dict], requests: int) -> serving.Found:
    """The rate of one operation, each of its bodies asked once or, where they are fewer, in turn."""
    headers = [*HEADERS.items(), ("X-Amz-Target", f"AmazonPersonalize.{operation}")]
    return server.measure("/", [json.dumps(body).encode() for body in bodies], requests, headers=headers)


def one_by_one(url: str, operation: str, bodies: list[dict]) -> float:
    """Requests a second of one client that opens a connection for each."""
    headers = {**HEADERS, "X-Amz-Target": f"AmazonPersonalize.{operation}"}
    begin = time.perf_counter()
    for body in bodies * (ALONE // len(bodies)):
        with urlopen(Request(url, json.dumps(body).encode(), headers)) as answer:
            answer.read()
    return ALONE / (time.perf_counter() - begin)


def moto() -> None:
    """moto's server, quiet, until it is killed."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
