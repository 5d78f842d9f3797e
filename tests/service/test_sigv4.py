"""Signatures: whom the service lets in."""

from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.exceptions import ClientError

from lib.service import http, sigv4
from lib.service.dispatch import Dispatcher
from tests.service.doors import CAMPAIGN, OPERATIONS, REGION, listening, remote

KEYS = {"AKIDREADER": sigv4.Key("reader's secret"), "AKIDSESSION": sigv4.Key("session's secret", "a token")}
READER = ("AKIDREADER", "reader's secret", None)
SESSION = ("AKIDSESSION", "session's secret", "a token")


@pytest.fixture(scope="module")
def guarded():
    """A service that lets in those who sign with one of the keys."""
    authorise = http.signed_by(KEYS, REGION, lambda: datetime.now(UTC))
    with listening(http.Application(Dispatcher({}, OPERATIONS), authorise=authorise, log=[].append)) as url:
        yield url


@pytest.mark.parametrize("key", [READER, SESSION])
def test_boto3s_own_signature_is_accepted_by_all_three_services(guarded, key):
    event = {"eventType": "click", "sentAt": 0}
    assert remote("personalize", guarded, key).list_schemas()["schemas"] == []
    assert remote("personalize-runtime", guarded, key).get_recommendations(campaignArn=CAMPAIGN)["itemList"]
    remote("personalize-events", guarded, key).put_events(trackingId="t", sessionId="s", eventList=[event])


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "MissingAuthenticationTokenException"),
        (("AKIDREADER", "another secret", None), "InvalidSignatureException"),
        (("AKIDNOBODY", "reader's secret", None), "UnrecognizedClientException"),
        (("AKIDREADER", "reader's secret", "a token"), "UnrecognizedClientException"),
        (("AKIDSESSION", "session's secret", None), "UnrecognizedClientException"),
        (("AKIDSESSION", "session's secret", "another token"), "UnrecognizedClientException"),
    ],
)
def test_others_are_refused_as_aws_does(guarded, key, code):
    for service, call, keywords, status in (
        ("personalize", "list_schemas", {}, 400),
        ("personalize-runtime", "get_recommendations", {"campaignArn": CAMPAIGN}, 403),
    ):
        with pytest.raises(ClientError) as refused:
            getattr(remote(service, guarded, key), call)(**keywords)
        assert refused.value.response["Error"]["Code"] == code
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        assert "secret" not in str(refused.value).replace("Secret Access Key", "")


def test_another_region_is_refused(guarded):
    client = boto3.Session(region_name="eu-west-1").client(
        "personalize", endpoint_url=guarded, aws_access_key_id=READER[0], aws_secret_access_key=READER[1]
    )
    with pytest.raises(ClientError, match="scoped to us-east-1/personalize, not eu-west-1/personalize"):
        client.list_schemas()


# --- one request, signed once, and what may be changed about it ------------------------------------------------------


@pytest.fixture
def signed():
    """The arguments of ``verify`` for a request as boto3 signs and sends it now."""
    sent = {}
    client = remote("personalize", "http://service.example:8400", READER)

    def keep(request, **_):
        sent.update(request.headers.items(), body=request.body)
        raise InterruptedError

    client.meta.events.register("before-send", keep)
    with pytest.raises(InterruptedError):
        client.list_schemas(maxResults=3)
    body = sent.pop("body")
    headers = {name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in sent.items()}
    headers["host"] = "service.example:8400"
    return {
        "keys": KEYS,
        "region": REGION,
        "method": "POST",
        "target": "/",
        "headers": headers,
        "body": body,
        "now": datetime.strptime(headers["x-amz-date"], sigv4.TIME_FORMAT).replace(tzinfo=UTC),
    }


def test_a_signed_request_tells_its_key(signed):
    assert sigv4.verify(**signed) == "AKIDREADER"


@pytest.mark.parametrize(
    ("what", "to"),
    [("method", "GET"), ("target", "/events"), ("target", "/?a=b"), ("target", "//["), ("body", b'{"maxResults": 4}')],
)
def test_nothing_that_was_signed_may_change(signed, what, to):
    with pytest.raises(sigv4.InvalidSignatureException, match="does not match"):
        sigv4.verify(**{**signed, what: to})


@pytest.mark.parametrize("name", ["host", "x-amz-target", "x-amz-date"])
def test_no_signed_header_may_change(signed, name):
    value = signed["headers"][name]
    changed = value[:-2] + ("1" if value[-2] == "0" else "0") + value[-1]
    with pytest.raises(sigv4.InvalidSignatureException):
        sigv4.verify(**{**signed, "headers": {**signed["headers"], name: changed}})


@pytest.mark.parametrize("minutes", [-15, 15])
def test_a_clock_may_be_a_quarter_of_an_hour_off(signed, minutes):
    assert sigv4.verify(**{**signed, "now": signed["now"] + timedelta(minutes=minutes)})


@pytest.mark.parametrize(("minutes", "message"), [(20, "Signature expired"), (-20, "Signature not yet current")])
def test_a_clock_may_not_be_further_off(signed, minutes, message):
    with pytest.raises(sigv4.InvalidSignatureException, match=message):
        sigv4.verify(**{**signed, "now": signed["now"] + timedelta(minutes=minutes)})


def test_a_signature_that_leaves_out_aws_headers_is_incomplete(signed):
    headers = {**signed["headers"], "x-amz-security-token": "a token"}
    with pytest.raises(sigv4.IncompleteSignatureException, match="'x-amz-security-token' must be a 'SignedHeader'"):
        sigv4.verify(**{**signed, "headers": headers})


def test_a_header_that_was_signed_must_be_there(signed):
    headers = {name: value for name, value in signed["headers"].items() if name != "x-amz-target"}
    with pytest.raises(sigv4.IncompleteSignatureException, match="'x-amz-target' is to be signed but not in"):
        sigv4.verify(**{**signed, "headers": headers})


@pytest.mark.parametrize("authorization", ["", "Bearer x", "AWS4-HMAC-SHA256 Credential=a, Signature=b", "AWS a:b"])
def test_another_kind_of_authorization_is_incomplete(signed, authorization):
    with pytest.raises(sigv4.IncompleteSignatureException, match="Authorization header requires"):
        sigv4.verify(**{**signed, "headers": {**signed["headers"], "authorization": authorization}})


def test_a_hash_of_another_body_is_refused(signed):
    names = signed["headers"]["authorization"].replace("host;", "host;x-amz-content-sha256;")
    headers = {**signed["headers"], "authorization": names, "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    with pytest.raises(sigv4.InvalidSignatureException, match="not the SHA-256 of the body"):
        sigv4.verify(**{**signed, "headers": headers})


# --- where keys come from --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "[default]\naws_access_key_id = AKID\naws_secret_access_key = s%cret\n",
        '{"AccessKeyId": "AKID", "SecretAccessKey": "s%cret"}',
        '[{"AccessKeyId": "AKID", "SecretAccessKey": "s%cret", "SessionToken": null}]',
    ],
)
def test_keys_are_read_from_the_forms_that_aws_tools_write(tmp_path, text):
    file = tmp_path / "credentials"
    file.write_text(text)
    assert sigv4.read_keys(file) == {"AKID": sigv4.Key("s%cret")}


@pytest.mark.parametrize(
    "text", ["", "secret", "[a]\naws_access_key_id = AKID\n", '{"AKID": "secret"}', "[]", "[1]", "{"]
)
def test_a_file_without_keys_is_refused_without_showing_it(tmp_path, text):
    file = tmp_path / "credentials"
    file.write_text(text)
    with pytest.raises(ValueError, match="credentials") as refused:
        sigv4.read_keys(file)
    assert "AKID" not in str(refused.value) and '"secret"' not in str(refused.value)


def test_a_key_in_the_environment_needs_both_halves():
    half = {"PERSONALIZE_ACCESS_KEY_ID": "AKID"}
    assert sigv4.environment_keys({}) == {}
    assert sigv4.environment_keys({**half, "PERSONALIZE_SECRET_ACCESS_KEY": "s"}) == {"AKID": sigv4.Key("s")}
    with pytest.raises(ValueError, match="go together"):
        sigv4.environment_keys(half)


def test_a_key_does_not_show_its_secret():
    assert "secret" not in repr(KEYS)
