"""A name in the store means a whole file, or nothing."""

import pytest

from lib.store.files import Files


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path / "files")


def test_a_file_is_there_once_its_writing_ended(files):
    with files.writing("tables/a.txt") as path:
        path.write_text("whole")
        assert not files.path("tables/a.txt").exists()
    assert files.path("tables/a.txt").read_text() == "whole"


def test_a_writing_that_raises_keeps_the_former_file(files):
    with files.writing("a.txt") as path:
        path.write_text("old")
    with pytest.raises(RuntimeError), files.writing("a.txt") as path:
        path.write_text("half")
        raise RuntimeError
    assert files.path("a.txt").read_text() == "old"


def test_a_folder_is_replaced_as_a_whole(files):
    for name in ("old", "new"):
        with files.writing_folder("model") as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / name).write_text(name)
    assert [path.name for path in files.path("model").rglob("*") if path.is_file()] == ["new"]


def test_what_a_killed_writer_left_is_not_taken_over(files):
    writer = files.writing_folder("model")
    (writer.__enter__() / "leftover").write_text("half")
    with files.writing_folder("model") as folder:
        assert list(folder.iterdir()) == []


def test_removing_twice_is_fine(files):
    with files.writing_folder("model") as folder:
        (folder / "a").write_text("")
    files.remove("model")
    files.remove("model")
    assert not files.path("model").exists()


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", ".aside/a"])
def test_a_name_that_leads_out_is_refused(files, name):
    with pytest.raises(ValueError):
        files.path(name)


def test_a_link_that_leads_out_is_refused(files, tmp_path):
    files.root.mkdir()
    (files.root / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="leads out"):
        files.path("link/x")
