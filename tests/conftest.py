from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from hypothesis import settings

from tests.postgresql import Server, serving

settings.register_profile("workbook", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("workbook")


@pytest.fixture(scope="session")
def write_notebook() -> Callable[..., Path]:
    """Write a notebook of a title, a parameters cell and further code cells into ``<root>/notebooks``."""

    def write(root: Path, stem: str, parameters: str, *code: str) -> Path:
        cells = [
            nbformat.v4.new_markdown_cell(f"# {stem}", id="title"),
            nbformat.v4.new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]}),
        ]
        for place, source in enumerate(code):
            cells.append(nbformat.v4.new_markdown_cell(f"## Step {place + 1}", id=f"prose-{place}"))
            cells.append(nbformat.v4.new_code_cell(source, id=f"code-{place}"))
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        path = root / "notebooks" / f"{stem}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, path)
        return path

    return write


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server, started by the first test that asks for one."""
    with serving() as server:
        yield server


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def place(request, tmp_path) -> Iterator[tuple[str | Path, ...]]:
    """Where a store can be made, as ``Store.open`` takes it: the test runs once on either database."""
    if request.param == "SQLite":
        yield (tmp_path / "store",)
    else:
        server = request.getfixturevalue("postgresql")
        yield server.shared, tmp_path / "files"
        server.empty()
