"""Who may call: AWS's Signature Version 4, recomputed by botocore's own signer.

A request is let in if a known key signed its method, path, headers and body within fifteen minutes of now.
"""

import configparser
import hmac
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lib.resources.errors import ApiError

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "personalize"  # the signing name of all three services
WINDOW = timedelta(minutes=15)
TIME_FORMAT = "%Y%m%dT%H%M%SZ"

_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} +"
    r"Credential=(?P<key>[^/,\s]+)/(?P<date>\d{8})/(?P<region>[^/,\s]+)/(?P<service>[^/,\s]+)/aws4_request"
    r",\s*SignedHeaders=(?P<names>[^,\s]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


class MissingAuthenticationTokenException(ApiError):
    """The request is not signed."""


class IncompleteSignatureException(ApiError):
    """The signature's header cannot be read, or leaves out what has to be signed."""


class UnrecognizedClientException(ApiError):
    """Nobody has that access key or session token."""


class InvalidSignatureException(ApiError):
    """The key's owner did not sign this request, or not now."""


@dataclass(frozen=True, slots=True)
class Key:
    """What goes with an access key id.  Never shown."""

    secret: str
    token: str | None = None

    def __repr__(self) -> str:
        return "Key(...)"


def verify(
    keys: Mapping[str, Key],
    region: str,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
) -> str:
    """The access key id that signed the request.

    target: path and query as sent.  headers: names in lower case.  Raises the errors above, as AWS does.
    """
    authorization = headers.get("authorization")
    if authorization is None:
        raise MissingAuthenticationTokenException("Request is missing Authentication Token")
    found = _AUTHORIZATION.fullmatch(authorization)
    if found is None:
        raise IncompleteSignatureException(
            f"Authorization header requires '{ALGORITHM} Credential=KEY/DATE/REGION/SERVICE/aws4_request, "
            "SignedHeaders=..., Signature=...'"
        )
    names = found["names"].split(";")
    _check_names(names, headers)
    timestamp = headers.get("x-amz-date", "")
    _check_time(timestamp, found["date"], now)
    if (found["region"], found["service"]) != (region, SERVICE):
        raise InvalidSignatureException(
            f"Credential should be scoped to {region}/{SERVICE}, not {found['region']}/{found['service']}"
        )
    key = keys.get(found["key"])
    if key is None or not _equal(key.token or "", headers.get("x-amz-security-token", "")):
        raise UnrecognizedClientException("The security token included in the request is invalid.")
    payload = sha256(body).hexdigest()
    if not _equal(headers.get("x-amz-content-sha256", payload), payload):
        raise InvalidSignatureException("The header x-amz-content-sha256 is not the SHA-256 of the body")
    url = "http://localhost/" + target.lstrip("/")  # of which the path and query are signed; the host is a header
    request = AWSRequest(method, url, {name: headers[name] for name in names}, body)
    request.context["timestamp"] = timestamp
    signer = _Signer(Credentials(found["key"], key.secret), SERVICE, region)
    signed = signer.string_to_sign(request, signer.canonical_request(request))
    if not _equal(signer.signature(signed, request), found["signature"]):
        raise InvalidSignatureException(
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method."
        )
    return found["key"]


class _Signer(SigV4Auth):
    """Signs the headers that the caller signed, where botocore would choose for itself."""

    def headers_to_sign(self, request: AWSRequest) -> HTTPMessage:
        signed = HTTPMessage()
        for name, value in request.headers.items():
            signed[name] = value
        return signed


def _equal(ours: str, theirs: str) -> bool:
    """In a time that does not tell how much of it is equal."""
    return hmac.compare_digest(ours.encode(), theirs.encode())


def _check_names(names: Iterable[str], headers: Mapping[str, str]) -> None:
    """The host and all of AWS's own headers must be signed; what is signed must be there."""
    names = set(names)
    unsigned = {name for name in headers if name == "host" or name.startswith("x-amz-")} - names
    missing = ({"host", "x-amz-date"} | names) - headers.keys()
    if unsigned or missing:
        told = [f"'{name}' must be a 'SignedHeader' in the AWS Authorization." for name in sorted(unsigned)]
        told += [f"'{name}' is to be signed but not in the request." for name in sorted(missing)]
        raise IncompleteSignatureException(" ".join(told))


def _check_time(timestamp: str, date: str, now: datetime) -> None:
    try:
        signed = datetime.strptime(timestamp, TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise IncompleteSignatureException(f"X-Amz-Date is {timestamp!r}; write it as 20260131T235959Z") from None
    if not timestamp.startswith(date):
        raise InvalidSignatureException(f"Date in Credential scope, {date}, is not that of X-Amz-Date, {timestamp}")
    if signed < now - WINDOW:
        raise InvalidSignatureException(
            f"Signature expired: {timestamp} is now earlier than {now - WINDOW:{TIME_FORMAT}} "
            f"({now:{TIME_FORMAT}} - 15 min.)"
        )
    if signed > now + WINDOW:
        raise InvalidSignatureException(
            f"Signature not yet current: {timestamp} is still later than {now + WINDOW:{TIME_FORMAT}} "
            f"({now:{TIME_FORMAT}} + 15 min.)"
        )


def read_keys(file: Path) -> dict[str, Key]:
    """Access key id -> key, from a file in the form of ``~/.aws/credentials`` or of JSON.

    JSON: an object, or a list of objects, with AccessKeyId, SecretAccessKey and, if any, SessionToken, as AWS's tools
    print them.  Raises ValueError without showing what the file holds, and OSError.
    """
    text = file.read_text(encoding="utf-8")
    try:
        keys = {key_id: Key(secret, token) for key_id, secret, token in _entries(text)}
    except (KeyError, TypeError, AttributeError, ValueError, configparser.Error) as error:
        raise ValueError(
            f"{file}: {type(error).__name__}; write sections with aws_access_key_id and aws_secret_access_key, "
            "or JSON objects with AccessKeyId and SecretAccessKey"
        ) from None
    return _some(keys, str(file))


def environment_keys(environment: Mapping[str, str]) -> dict[str, Key]:
    """The key of PERSONALIZE_ACCESS_KEY_ID, PERSONALIZE_SECRET_ACCESS_KEY and PERSONALIZE_SESSION_TOKEN, or none.

    AWS_ACCESS_KEY_ID and its like are not read: they say who this process is to others, not who may call it.
    """
    key_id, secret = (environment.get(f"PERSONALIZE_{name}") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
    if not key_id and not secret:
        return {}
    if not key_id or not secret:
        raise ValueError(
            "PERSONALIZE_ACCESS_KEY_ID and PERSONALIZE_SECRET_ACCESS_KEY go together; one of them is empty"
        )
    return {key_id: Key(secret, environment.get("PERSONALIZE_SESSION_TOKEN") or None)}


def _entries(text: str) -> Iterator[tuple[str, str, str | None]]:
    try:
        found: Any = json.loads(text)
    except json.JSONDecodeError:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(text)
        for entry in (parser[name] for name in parser.sections()):
            yield entry["aws_access_key_id"], entry["aws_secret_access_key"], entry.get("aws_session_token")
    else:
        for entry in found if isinstance(found, list) else [found]:
            yield entry["AccessKeyId"], entry["SecretAccessKey"], entry.get("SessionToken")


def _some(keys: dict[str, Key], place: str) -> dict[str, Key]:
    if not keys or not all(isinstance(key_id, str) and key_id and key.secret for key_id, key in keys.items()):
        raise ValueError(f"{place} holds no access key, or an empty one")
    return keys
