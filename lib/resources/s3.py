"""Objects of S3, or of what speaks like it, through boto3 and its own settings.

``AWS_ENDPOINT_URL_S3``, ``AWS_PROFILE``, credentials and all else that boto3 reads from the environment and its files
say which S3 that is and who asks.
"""

import io
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from lib.resources.errors import InvalidInputException
from lib.store.bucket import status

BLOCK_BYTES = 8 << 20
ATTEMPTS = 3

REFUSED = "Insufficient privileges for accessing data in S3."


class Object(io.RawIOBase):
    """An object as a stream that can seek, read in blocks: what it takes in memory does not depend on its size.

    name: the last part of its key.  Reading raises InvalidInputException where that is no longer possible, or another
    object has taken its place.
    """

    def __init__(self, client: Any, bucket: str, key: str, size: int, tag: str):
        super().__init__()
        self.name, self.location, self.size = key.rpartition("/")[2], f"s3://{bucket}/{key}", size
        self._get = partial(client.get_object, Bucket=bucket, Key=key, IfMatch=tag)
        self._position = self._start = 0
        self._block = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self.size:
            return 0
        if not self._start <= self._position < self._start + len(self._block):
            self._block, self._start = memoryview(self._fetch(self._position)), self._position
        offset = self._position - self._start
        part = self._block[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _fetch(self, first: int) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        wanted = f"bytes={first}-{min(first + BLOCK_BYTES, self.size) - 1}"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._get(Range=wanted)["Body"].read()
            except ClientError as error:  # boto3 has tried again where that could help
                raise refused(self.location, error) from error
            except BotoCoreError as error:  # the connection broke while the body came, where boto3 does not try again
                if attempt == ATTEMPTS:
                    raise refused(self.location, error) from error
        raise AssertionError  # the last attempt returns or raises


def find(client: Any, bucket: str, key: str) -> Object | None:
    """The object of this very key, None where there is none.  Raises InvalidInputException."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        head = client.head_object(Bucket=bucket, Key=key)
    except (BotoCoreError, ClientError) as error:
        if status(error) == HTTPStatus.NOT_FOUND:
            return None
        raise refused(f"s3://{bucket}/{key}", error) from error
    return Object(client, bucket, key, head["ContentLength"], head["ETag"])


def below(client: Any, bucket: str, prefix: str, *, deep: bool) -> list[Object]:
    """The objects whose keys begin so, in order of their keys.  deep: also where another ``/`` follows.

    Raises InvalidInputException.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=prefix, **({} if deep else {"Delimiter": "/"})
    )
    try:
        found = [entry for page in pages for entry in page.get("Contents", ())]
    except (BotoCoreError, ClientError) as error:
        raise refused(f"s3://{bucket}/{prefix}", error) from error
    return [
        Object(client, bucket, entry["Key"], entry["Size"], entry["ETag"])
        for entry in found
        if not entry["Key"].endswith("/")  # stands for a folder
    ]


def upload(client: Any, file: Path, bucket: str, key: str, kms_key_arn: str | None = None) -> None:
    """Bring a file there, a large one in parts; it appears whole or not at all.  Raises InvalidInputException."""
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError

    extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_arn} if kms_key_arn else {}
    try:
        client.upload_file(str(file), bucket, key, ExtraArgs=extra)
    except (S3UploadFailedError, BotoCoreError, ClientError) as error:
        cause = error.__context__ if isinstance(error, S3UploadFailedError) and error.__context__ else error
        raise refused(f"s3://{bucket}/{key}", cause) from error


def refused(location: str, error: BaseException) -> InvalidInputException:
    """What S3's refusal is called here, with S3's own words."""
    told = str(error).rstrip(".")
    match status(error):
        case HTTPStatus.NOT_FOUND:
            return InvalidInputException(f"Invalid Data location. {location}: {told}.")
        case HTTPStatus.PRECONDITION_FAILED:
            return InvalidInputException(f"{location} was replaced while it was read: create the job again.")
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN | HTTPStatus.BAD_REQUEST:
            return InvalidInputException(f"{REFUSED} {location}: {told}.")
    return InvalidInputException(f"{location} cannot be reached: {told}. Try again.")
