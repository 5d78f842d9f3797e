"""Files of the store: written aside, brought to disk and renamed into place, so that a name means a whole file.

They are kept in a folder, or in a bucket of which a folder of each machine holds copies.  In a bucket a name is an
object below ``names/``, written last, that says which contents it stands for: a JSON string, the SHA-256 of a file, or
an object of these by the path in a folder.  The contents lie below ``content/<name>/``, each called by its SHA-256.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lib.store.bucket import Bucket

ASIDE = ".aside"
COPIED = ".copied"  # what the bucket said of the copies that are here
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Files:
    """Named files and folders below one folder.  A name is relative, its parts divided by ``/``.

    bucket: keeps them; the folder then holds copies, which are compared with the bucket whenever a path is asked for.
    No name that was written lies below another one.  Asking a bucket raises as ``Bucket`` does.
    """

    root: Path
    bucket: Bucket | None = None

    def path(self, name: str) -> Path:
        """Where a file or folder lies.  Raises ValueError for a name that leads out of the store."""
        place = self._place(name)
        if self.bucket is not None:
            self._bring(name, place)
        return place

    def names(self, name: str) -> list[str]:
        """What lies directly below a name, in order, but for what is being written there."""
        if self.bucket is not None:
            self._place(name)
            return [key.removeprefix("names/") for key in self.bucket.below(f"names/{name}/", deep=False)]
        folder = self._place(name)
        found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        return [f"{name}/{one}" for one in found if not one.startswith(".")]

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to write one file to; when the block ends well it is on disk under its name, else nothing changed."""
        aside = self._aside(name)
        try:
            yield aside
            _sync(aside)
            self._publish(name, aside)
        finally:
            aside.unlink(missing_ok=True)

    @contextmanager
    def writing_folder(self, name: str) -> Iterator[Path]:
        """An empty folder to fill; when the block ends well it stands whole under its name, else nothing changed."""
        aside = self._aside(name)
        aside.mkdir()
        try:
            yield aside
            _sync_all(aside)
            self._publish(name, aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @contextmanager
    def working(self, name: str) -> Iterator[Path]:
        """Where to write a folder that grows, with what there is of it; what a killed process wrote is found again.

        With a bucket it is a copy, which takes the place of what the bucket holds when the block ends well; else that
        stays as it was.
        """
        if self.bucket is None:
            place = self._place(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            yield place
            return
        before, aside = self.path(name), self._aside(name)
        try:
            if before.exists():
                shutil.copytree(before, aside)
            yield aside
            _sync_all(aside)
            self._publish(name, aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """An empty folder that is gone when the block ends; what a killed process left in it goes when it begins."""
        aside = self._aside(name)
        aside.mkdir()
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def remove(self, name: str) -> None:
        """Take a file or folder away, with all names below it, in one step; it is fine if there is none."""
        self._place(name)
        if self.bucket is not None:
            self.bucket.delete([f"names/{name}", *self.bucket.below(f"names/{name}/", deep=True)])
            self.bucket.delete(self.bucket.below(f"content/{name}/", deep=True))
        self._take_away(name)

    def _place(self, name: str) -> Path:
        if name.startswith("/") or not _stays(name):
            raise ValueError(f"{name!r} is no name of a file in the store: expected a relative path without '..'")
        path = self.root.joinpath(*name.split("/"))
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ValueError(f"{name!r} leads out of the store, to {path.resolve()}")
        return path

    def _aside(self, name: str) -> Path:
        """The place where ``name`` is prepared, emptied of what a killed process may have left there."""
        self._place(name)
        aside = self.root / ASIDE / name.replace("/", "|")
        aside.parent.mkdir(parents=True, exist_ok=True)
        _discard(aside)
        return aside

    def _publish(self, name: str, aside: Path) -> None:
        """Put what was prepared under its name: in the bucket, if there is one, and then here."""
        if self.bucket is None:
            self._put(name, aside)
            return
        files = [path for path in aside.rglob("*") if path.is_file()] if aside.is_dir() else [aside]
        digests = {file: _digest(file) for file in sorted(files)}
        before = self.bucket.below(f"content/{name}/", deep=False)
        wanted = {f"content/{name}/{digest}": file for file, digest in digests.items()}
        for key in wanted.keys() - {*before}:
            self.bucket.upload(wanted[key], key)
        inside = {file.relative_to(aside).as_posix(): digest for file, digest in digests.items()}
        told = json.dumps(inside if aside.is_dir() else digests[aside]).encode()
        self.bucket.write(f"names/{name}", told)
        with self._alone(name):
            self._put(name, aside, told)
        self.bucket.delete([key for key in before if key not in wanted])

    def _bring(self, name: str, place: Path) -> None:
        """Make the copy here what the bucket holds, if it is not."""
        copied = self.root / COPIED / name
        with self._alone(name):
            for _ in range(ATTEMPTS):
                told = self.bucket.read(f"names/{name}")
                if told is None:
                    if not copied.is_dir():  # or there are names below it
                        self._take_away(name)
                    return
                if place.exists() and copied.is_file() and copied.read_bytes() == told:
                    return
                aside = self._aside(f"{name}/brought")
                try:
                    if self._fetched(name, json.loads(told), aside):
                        _sync_all(aside)
                        self._put(name, aside, told)
                        return
                finally:
                    _discard(aside)
        raise ConnectionError(f"{name} in {self.bucket.location} was replaced whenever it was read: try again")

    def _fetched(self, name: str, told: str | dict[str, str], aside: Path) -> bool:
        """Bring contents here; False where one of them is gone, as something else was put in their place."""
        if isinstance(told, dict):
            aside.mkdir()
        for inside, digest in told.items() if isinstance(told, dict) else [("", told)]:
            if inside and not _stays(inside):
                raise ValueError(f"{self.bucket.location}/names/{name} tells of {inside!r}, which leads out of it")
            file = aside / inside if inside else aside
            file.parent.mkdir(parents=True, exist_ok=True)
            if not self.bucket.download(f"content/{name}/{digest}", file):
                return False
            if _digest(file) != digest:
                raise ValueError(
                    f"{self.bucket.location}/content/{name}/{digest} is not what was put there: bring it back from a "
                    "copy, or make what it belongs to anew"
                )
        return True

    def _put(self, name: str, aside: Path, told: bytes | None = None) -> None:
        """Rename what is on disk into place.  told: what the bucket says of it."""
        target, copied = self._place(name), self.root / COPIED / name
        if told is not None:
            _discard(copied)  # until all of it is there
        if target.exists() and (target.is_dir() or aside.is_dir()):
            self._take_away(name)
        _rename(aside, target)
        if told is not None:
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(told)

    def _take_away(self, name: str) -> None:
        path = self._place(name)
        aside = self._aside(f"{name}/removed")
        if self.bucket is not None:
            _discard(self.root / COPIED / name)
        try:
            path.rename(aside)
        except FileNotFoundError:
            return
        _sync(path.parent)
        _discard(aside)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """While the block lasts no other process of this machine puts a copy under this name."""
        path = self.root / ASIDE / ("|" + name.replace("/", "|"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside another to write one file to; when the block ends well it is on disk in its place."""
    aside = path.with_name(f".aside-{path.name}")
    try:
        yield aside
        _sync(aside)
        os.replace(aside, path)
        _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def _stays(name: str) -> bool:
    """Whether a name leads to somewhere below, and to nothing of these files' own."""
    return not any(part in ("", ".", "..", ASIDE, COPIED) for part in name.split("/"))


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _rename(aside: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(aside, target)
    for folder in (target.parent, *target.parent.parents):
        _sync(folder)
        if (folder / ASIDE).exists():  # the root: what lies above it was there before
            break


def _discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_all(path: Path) -> None:
    """Bring a file, or a folder with all that is in it, to disk."""
    for parent, folders, files in os.walk(path):
        for file in (*folders, *files):
            _sync(Path(parent, file))
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
