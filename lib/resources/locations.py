"""Where a request's data lies: in S3, in folders that stand for a bucket because the operator said so, and below those
as ``file://`` too.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from lib.resources import records, s3
from lib.resources.account import Account
from lib.resources.errors import InvalidInputException
from lib.store.bucket import NAME as BUCKET
from lib.store.files import replacing

GZIP = b"\x1f\x8b"

File = Path | s3.Object
"""Something to read: both have a ``name``, without the folders."""

NAME_BYTES = 255  # of a file or folder


@dataclass(frozen=True, slots=True)
class _InS3:
    """A place in S3."""

    client: Any
    bucket: str
    key: str


def check(account: Account, location: str) -> None:
    """Raise InvalidInputException for a location of no known form, or one that nobody here may use."""
    _resolve(account, location)


def readable(account: Account, location: str, *, deep: bool = False, suffix: str = "") -> list[File]:
    """The files a location names: itself, or those of a folder in order of their names.

    Of a folder, names that begin with ``.`` or ``_`` are left out, as are those that do not end in ``suffix``; deep:
    with the folders in it.  Raises InvalidInputException where there is none.
    """
    place = _resolve(account, location)
    found = _in_s3(place, deep=deep) if isinstance(place, _InS3) else _in_folder(place, location, deep=deep)
    if isinstance(found, list):
        found = [file for file in found if file.name[0] not in "._" and file.name.endswith(suffix)]
        if not found:
            raise InvalidInputException(
                f"{s3.REFUSED} {location}: no such file, nor a folder with files{suffix and ' ending in '}{suffix}."
            )
        return found
    return [found]


def beginning(account: Account, location: str) -> list[File]:
    """The files whose addresses begin like a location, in folders or not, in order of their addresses.

    ``s3://bucket/in/users`` names ``in/users.json``, ``in/users2.json`` and ``in/users/x.json``.  Names that begin with
    ``.`` or ``_`` are left out.  Raises InvalidInputException where there is none.
    """
    place = _resolve(account, location)
    if isinstance(place, _InS3):
        found: list[File] = list(s3.below(place.client, place.bucket, place.key, deep=True))
    else:
        found = _beginning_in_folder(account, place, location)
    found = [file for file in found if file.name[0] not in "._"]
    if not found:
        raise InvalidInputException(f"{s3.REFUSED} {location}: no file's name begins like this.")
    return found


def address(file: File) -> str:
    """Where a file lies, its folders divided by ``/``."""
    return file.as_posix() if isinstance(file, Path) else file.location


def size(file: File) -> int:
    """Bytes, as it is stored."""
    return file.stat().st_size if isinstance(file, Path) else file.size


@contextmanager
def reading(file: File) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked where they are packed by gzip.

    Raises InvalidInputException where what is read in the block is not whole.
    """
    raw = file.open("rb") if isinstance(file, Path) else file
    try:
        raw.seek(0)
        packed = raw.read(len(GZIP)) == GZIP
        raw.seek(0)
        yield gzip.GzipFile(fileobj=raw) if packed else raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidInputException(f"{file.name} is damaged: {error}.") from error
    finally:
        if raw is not file:
            raw.close()


@contextmanager
def writing(account: Account, folder: str, name: str, kms_key_arn: str | None = None) -> Iterator[Path]:
    """A path to write one file to; when the block ends well it lies whole under a name below a location.

    name: may have parts, divided by ``/``.  kms_key_arn: what S3 encrypts it with.
    Raises InvalidInputException where that cannot be.
    """
    place = _below(_resolve(account, folder), name)
    if isinstance(place, _InS3):
        # one upload of a name at a time: only jobs write, and no two about the same output
        with account.store.files.scratch(f"upload-{records.digest(place.bucket, place.key)[:32]}") as scratch:
            path = scratch / name.rpartition("/")[2]
            yield path
            s3.upload(place.client, path, place.bucket, place.key, kms_key_arn)
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as aside:
            yield aside
    except OSError as error:
        raise InvalidInputException(f"Insufficient privileges for writing to {folder}: {error}.") from error


def written(account: Account, folder: str, name: str) -> bool:
    """Whether ``writing`` has put something there.  Raises InvalidInputException where nobody may look."""
    place = _below(_resolve(account, folder), name)
    return s3.find(place.client, place.bucket, place.key) is not None if isinstance(place, _InS3) else place.exists()


def _below(place: Path | _InS3, name: str) -> Path | _InS3:
    if isinstance(place, Path):
        return place.joinpath(*name.split("/"))
    return replace(place, key=f"{place.key.rstrip('/')}/{name}".lstrip("/"))


def _in_folder(path: Path, location: str, *, deep: bool) -> File | list[File]:
    if path.is_file() and not location.endswith("/"):
        return path
    if not path.is_dir():
        return []
    return sorted(file for file in (path.rglob("*") if deep else path.iterdir()) if file.is_file())


def _beginning_in_folder(account: Account, path: Path, location: str) -> list[File]:
    folder, begin = path, ""
    if not location.endswith("/"):
        with suppress(InvalidInputException):  # a folder that stands for a bucket: nobody may look beside it
            folder, begin = _resolve(account, location.rpartition("/")[0] + "/"), path.name
    if not folder.is_dir():
        return []
    found = []
    for entry in folder.iterdir():
        if entry.name.startswith(begin):
            found += [file for file in ([entry] if entry.is_file() else entry.rglob("*")) if file.is_file()]
    return sorted(found, key=address)


def _in_s3(place: _InS3, *, deep: bool) -> File | list[File]:
    if place.key and not place.key.endswith("/"):
        found = s3.find(place.client, place.bucket, place.key)
        return found or list(s3.below(place.client, place.bucket, place.key + "/", deep=deep))
    return list(s3.below(place.client, place.bucket, place.key, deep=deep))


def _resolve(account: Account, location: str) -> Path | _InS3:
    """What a location stands for; nothing need be there yet.

    Raises InvalidInputException for a location of another form, and for one outside the folders the operator named.
    """
    scheme, bucket, key = _split(location)
    mapped = ", ".join(f"s3://{name}" for name in account.buckets) or "none"
    if scheme == "file":
        path, roots = Path("/", key), [Path(root) for root in account.buckets.values()]
    elif bucket in account.buckets:
        roots = [Path(account.buckets[bucket])]
        path = roots[0] / key
    elif not BUCKET.fullmatch(bucket):
        raise InvalidInputException(
            f"Invalid Data location. {location!r} is not of the form s3://bucket/key: {bucket!r} is no bucket's name."
        )
    else:
        client = account.s3()
        if client is None:
            raise InvalidInputException(
                f"{s3.REFUSED} {location}: no folder stands for bucket {bucket!r} (for these one does: {mapped}), and "
                "there are no credentials for S3."
            )
        return _InS3(client, bucket, key)
    if max(len(step.encode()) for step in key.split("/")) > NAME_BYTES:
        raise InvalidInputException(
            f"Invalid Data location. {location}: what lies in a folder has a name of {NAME_BYTES} bytes at most."
        )
    if not any(path.resolve().is_relative_to(root.resolve()) for root in roots):
        raise InvalidInputException(
            f"Invalid Data location. {location} lies outside the folders that stand for buckets: {mapped}."
        )
    return path


def _split(location: str) -> tuple[str, str, str]:
    scheme, _, rest = location.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme == "file":
        key = unquote(key)
    known = (scheme == "s3" and bucket) or (scheme == "file" and not bucket and key)
    steps = key.split("/")
    if not known or ".." in steps or "\0" in key or max(len(step.encode()) for step in steps) > NAME_BYTES:
        raise InvalidInputException(f"Invalid Data location. {location!r} is not of the form s3://bucket/key.")
    return scheme, bucket, key
