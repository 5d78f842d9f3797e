import json
import re

import nbformat
import pytest

from lib import report

RECORD = {"seconds": 75.2, "peak_memory_mib": 1234}


@pytest.fixture
def folder(tmp_path, write_notebook):
    for stem in ("01_prepare_data", "02_train"):
        path = write_notebook(tmp_path, stem, "seed = 20", "print(1 < 2)")
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[2].source += "\n\nGoes on in [the next](02_train.ipynb#Step-1)."
        notebook.cells[3].outputs = [nbformat.v4.new_output("stream", text="True <b>\n")]
        nbformat.write(notebook, path)
    path.rename(tmp_path / "notebooks" / "02_train.failed.ipynb")
    (tmp_path / "summary.json").write_text(
        json.dumps({"interactions": 100000, "NDCG <10>": 0.314159, "best": "SASRec"})
    )
    return tmp_path


@pytest.fixture
def page(folder):
    return report.page(
        folder,
        {
            "profile": "news",
            "description": "News & views",
            "state": "failed",
            "notebooks": {"01_prepare_data": RECORD},
            "started": "2024-05-01T10:00:00+00:00",
            **RECORD,
            "platform": "Linux",
            "python": "3.11.9",
            "packages": {"torch": "2.13.0", "six": "1"},
            "commit": None,
            "command": "python -m lib.run news",
        },
    )


def test_summary_numbers_stand_on_top_as_a_reader_writes_them(page):
    for card in ("<b>100,000</b><span>interactions", "<b>0.3142</b><span>NDCG &lt;10&gt;", "<b>SASRec</b>"):
        assert card in page[: page.index("<h2>Steps")]


def test_each_notebook_has_a_link_a_section_and_its_cost(page):
    assert '<a href="#01_prepare_data" class=""><span>01_prepare_data</span><small>1 min 15 s</small></a>' in page
    assert '<section class="notebook" id="01_prepare_data">' in page
    assert "1,234 MiB" in page


def test_a_notebook_that_failed_is_marked(page):
    assert '<a href="#02_train" class="failed"><span>02_train</span><small>failed</small></a>' in page


def test_the_page_loads_nothing_from_elsewhere(page):
    assert re.findall(r"https?://|@import|<link|src=\"(?!data:)", page) == []


def test_ids_are_unique_although_notebooks_share_those_of_cells(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert "01_prepare_data--cell-id=title" in ids
    assert len(ids) == len(set(ids))


def test_a_link_to_another_notebook_leads_to_its_section(page):
    assert '<a href="#02_train">the next</a>' in page


def test_what_notebooks_print_is_text_and_not_markup(page):
    assert "True &lt;b&gt;" in page
    assert "News &amp; views" in page


def test_only_packages_that_change_numbers_are_named(page):
    assert "<dt>Packages</dt><dd>torch 2.13.0</dd>" in page
