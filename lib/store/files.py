"""Files of the store: written aside, brought to disk and renamed into place, so that a name means a whole file."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ASIDE = ".aside"


@dataclass(frozen=True, slots=True)
class Files:
    """Named files and folders below one folder.  A name is relative, its parts divided by ``/``."""

    root: Path

    def path(self, name: str) -> Path:
        """Where a file or folder lies.  Raises ValueError for a name that leads out of the store."""
        parts = name.split("/")
        if not name or name.startswith("/") or any(part in ("", ".", "..", ASIDE) for part in parts):
            raise ValueError(f"{name!r} is no name of a file in the store: expected a relative path without '..'")
        path = self.root.joinpath(*parts)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ValueError(f"{name!r} leads out of the store, to {path.resolve()}")
        return path

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to write one file to; when the block ends well it is on disk under its name, else nothing changed."""
        aside = self._aside(name)
        try:
            yield aside
            _sync(aside)
            _publish(aside, self.path(name))
        finally:
            aside.unlink(missing_ok=True)

    @contextmanager
    def writing_folder(self, name: str) -> Iterator[Path]:
        """An empty folder to fill; when the block ends well it stands whole under its name, else nothing changed."""
        aside = self._aside(name)
        aside.mkdir()
        try:
            yield aside
            for parent, folders, files in os.walk(aside):
                for file in (*folders, *files, "."):
                    _sync(Path(parent, file))
            target = self.path(name)
            if target.exists():
                self.remove(name)
            _publish(aside, target)
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
        """Take a file or folder away in one step; it is fine if there is none."""
        path = self.path(name)
        aside = self._aside(f"{name}/removed")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return
        _sync(path.parent)
        _discard(aside)

    def _aside(self, name: str) -> Path:
        """The place where ``name`` is prepared, emptied of what a killed process may have left there."""
        self.path(name)
        aside = self.root / ASIDE / name.replace("/", "|")
        aside.parent.mkdir(parents=True, exist_ok=True)
        _discard(aside)
        return aside


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


def _publish(aside: Path, target: Path) -> None:
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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
