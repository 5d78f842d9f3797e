"""A bucket of S3, or of what speaks like it, that keeps the files of a store: whole objects by name.

boto3's own settings say which S3 that is and who asks: ``AWS_ENDPOINT_URL_S3``, ``AWS_PROFILE``, credentials.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
SCHEME = "s3://"
CONNECT_SECONDS = 5  # somebody waits for the answer
AT_ONCE = 1000  # keys that S3 deletes with one request


def connect() -> Any | None:
    """A boto3 client of S3, None where boto3 finds no credentials."""
    import boto3  # a job on files of this machine does without

    session = boto3.Session()
    return _client(session.get_credentials().access_key) if session.get_credentials() else None


@cache
def _client(access_key: str) -> Any:
    """Made once, for it takes a quarter of a second; but again once there are other credentials."""
    import boto3
    from botocore.config import Config

    return boto3.Session().client("s3", config=Config(connect_timeout=CONNECT_SECONDS))


def status(error: BaseException) -> int | None:
    """The HTTP status of S3's answer that made boto3 raise, None where there was no answer."""
    answer = getattr(error, "response", None) or {}
    return answer.get("ResponseMetadata", {}).get("HTTPStatusCode")


@dataclass(frozen=True, slots=True)
class Bucket:
    """The objects of a bucket whose keys begin with ``prefix``, which is empty or ends with ``/``.

    All methods raise FileNotFoundError where there is no such bucket, PermissionError where S3 forbids it, and
    ConnectionError where it does not answer.
    """

    client: Any
    name: str
    prefix: str

    @classmethod
    def open(cls, location: str) -> Self:
        """What ``s3://bucket/prefix`` names.  Raises ValueError for another form, and where credentials are missing."""
        name, _, prefix = location.removeprefix(SCHEME).partition("/")
        steps = [step for step in prefix.strip("/").split("/") if prefix.strip("/")]
        if not location.startswith(SCHEME) or not NAME.fullmatch(name) or {"", ".", ".."} & {*steps}:
            raise ValueError(f"{location!r} names no place for files: give a folder, or s3://bucket/prefix")
        client = connect()
        if client is None:
            raise ValueError(
                f"{location} needs credentials, and boto3 finds none: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "or AWS_PROFILE"
            )
        return cls(client, name, "".join(f"{step}/" for step in steps))

    @property
    def location(self) -> str:
        """As ``open`` takes it."""
        return f"{SCHEME}{self.name}/{self.prefix}".rstrip("/")

    def read(self, key: str) -> bytes | None:
        """A small object, None where there is none."""
        with self._asking(key):
            try:
                return self.client.get_object(Bucket=self.name, Key=self.prefix + key)["Body"].read()
            except self.client.exceptions.NoSuchKey:
                return None

    def write(self, key: str, content: bytes) -> None:
        """Put a small object in place of what is there."""
        with self._asking(key):
            self.client.put_object(Bucket=self.name, Key=self.prefix + key, Body=content)

    def upload(self, file: Path, key: str) -> None:
        """Put a file there, a large one in parts; it appears whole or not at all."""
        with self._asking(key):
            self.client.upload_file(str(file), self.name, self.prefix + key)

    def download(self, key: str, file: Path) -> bool:
        """Bring an object here; False where there is none."""
        with self._asking(key):
            try:
                self.client.download_file(self.name, self.prefix + key, str(file))
            except self.client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
                    raise
                return False
        return True

    def below(self, key: str, *, deep: bool) -> list[str]:
        """The keys that begin so, in order; not deep: as far as the next ``/``, what goes on behind it once."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=self.prefix + key, **({} if deep else {"Delimiter": "/"})
        )
        found = []
        with self._asking(key):
            for page in pages:
                found += [entry["Key"] for entry in page.get("Contents", ())]
                found += [entry["Prefix"].rstrip("/") for entry in page.get("CommonPrefixes", ())]
        return sorted(key.removeprefix(self.prefix) for key in found)

    def delete(self, keys: Sequence[str]) -> None:
        """Take objects away; it is fine if there are none."""
        for first in range(0, len(keys), AT_ONCE):
            objects = [{"Key": self.prefix + key} for key in keys[first : first + AT_ONCE]]
            with self._asking(keys[first]):
                answer = self.client.delete_objects(Bucket=self.name, Delete={"Objects": objects, "Quiet": True})
            for error in answer.get("Errors", ())[:1]:
                raise PermissionError(
                    f"{SCHEME}{self.name}/{error['Key']} cannot be deleted: {error.get('Message')}: allow the "
                    "credentials s3:DeleteObject there"
                )

    @contextmanager
    def _asking(self, key: str) -> Iterator[None]:
        """Says what S3's refusal means, and what would do."""
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (S3UploadFailedError, BotoCoreError, ClientError) as error:
            cause = error.__context__ if isinstance(error, S3UploadFailedError) and error.__context__ else error
            place, told = f"{SCHEME}{self.name}/{self.prefix}{key}", str(cause).rstrip(".")
            at = self.client.meta.endpoint_url
            match status(cause):
                case HTTPStatus.NOT_FOUND:
                    raise FileNotFoundError(
                        f"{place}: {told}: there is no bucket {self.name!r} at {at}: make it, or name another"
                    ) from error
                case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN | HTTPStatus.BAD_REQUEST:
                    raise PermissionError(
                        f"{place}: {told}: let these credentials list, read, write and delete there, or use others"
                    ) from error
            raise ConnectionError(
                f"{place} cannot be reached: {told}: see that {at} answers (AWS_ENDPOINT_URL_S3), and try again"
            ) from error
