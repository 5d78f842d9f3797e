from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest


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
