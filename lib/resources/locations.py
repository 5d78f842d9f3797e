"""Where a request's data lies: ``s3://`` names of buckets that the operator mapped to folders, or files below those."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from lib.resources.account import Account
from lib.resources.errors import InvalidInputException

NAME_BYTES = 255  # of a file or folder


def resolve(account: Account, location: str) -> Path:
    """The path a location stands for; nothing need be there yet.

    Raises InvalidInputException for a location of another form, and for one outside the folders the operator named.
    """
    scheme, bucket, key = _split(location)
    mapped = ", ".join(f"s3://{name}" for name in account.buckets) or "(none)"
    if scheme == "s3":
        if bucket not in account.buckets:
            raise InvalidInputException(
                f"Insufficient privileges for accessing data in S3. {location}: no bucket {bucket!r} here; "
                f"buckets that stand for a folder: {mapped}."
            )
        root = Path(account.buckets[bucket])
        path = root / key
        roots = [root]
    else:
        path = Path("/", key)
        roots = [Path(root) for root in account.buckets.values()]
    if not any(path.resolve().is_relative_to(root.resolve()) for root in roots):
        raise InvalidInputException(
            f"Invalid Data location. {location} lies outside the folders that stand for buckets: {mapped}."
        )
    return path


def readable(account: Account, location: str) -> list[Path]:
    """The files a location names: itself, or, if it ends with ``/``, the files of that folder in order of their names.

    Raises InvalidInputException where there is none.
    """
    path = resolve(account, location)
    if path.is_file() and not location.endswith("/"):
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else []
    if not files:
        raise InvalidInputException(
            f"Insufficient privileges for accessing data in S3. {location}: no such file, nor a folder with files."
        )
    return files


def _split(location: str) -> tuple[str, str, str]:
    form = InvalidInputException(f"Invalid Data location. {location!r} is not of the form s3://bucket/key.")
    try:
        parts = urlsplit(location)
    except ValueError:
        raise form from None
    key = unquote(parts.path).lstrip("/") if parts.scheme == "file" else location[len("s3://") :].partition("/")[2]
    named = parts.scheme in ("s3", "file") and (parts.scheme == "s3") == bool(parts.netloc)
    steps = key.split("/")
    if not named or ".." in steps or "\0" in key or max(len(step.encode()) for step in steps) > NAME_BYTES:
        raise form
    return parts.scheme, parts.netloc, key
