"""Files: whole or not at all, and nothing left beside them."""

import os

import pytest

from resrep_keras.common import files


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_text_is_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "page.md"
    for text in ("old", "größer"):
        files.write_text(path, text)
        assert path.read_text(encoding="utf-8") == text and names(path.parent) == ["page.md"]


def test_while_it_is_written_the_old_file_stands(tmp_path):
    path = tmp_path / "model"
    path.write_text("old")
    with files.written_beside(path) as fresh:
        fresh.write_text("new")
        assert path.read_text() == "old" and fresh.parent.parent == tmp_path
        (scratch,) = set(names(tmp_path)) - {"model"}
    assert path.read_text() == "new" and names(tmp_path) == ["model"]
    with files.written_beside(path) as fresh:
        fresh.write_text("newer")
        assert scratch not in names(tmp_path)  # each has a name of its own


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "model"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), files.written_beside(path) as fresh:
        fresh.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and names(tmp_path) == ["model"]


def test_a_folder_takes_the_place_of_a_folder(tmp_path):
    path = tmp_path / "model"
    for text in ("old", "new"):
        with files.written_beside(path) as fresh:
            (fresh / "inside").mkdir(parents=True)
            (fresh / "inside" / text).write_text(text)
        assert names(path / "inside") == [text] and names(tmp_path) == ["model"]


def test_where_a_folder_cannot_be_replaced_the_old_one_comes_back(tmp_path, monkeypatch):
    path, replace = tmp_path / "model", os.replace
    path.mkdir()

    def fail(source, target):
        if target == path and source.name == path.name:
            raise OSError("no")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no"), files.written_beside(path) as fresh:
        fresh.mkdir()
    assert names(tmp_path) == ["model"]


def test_a_folder_is_removed_whole(tmp_path, monkeypatch):
    folder = tmp_path / "epoch-3"
    folder.mkdir()
    (folder / "weights").write_text("")
    monkeypatch.setattr(files.shutil, "rmtree", lambda *args, **kwargs: None)  # killed before
    files.remove(folder, "backup")
    assert "epoch-3" not in names(tmp_path)


def test_what_a_killed_process_has_left_is_swept_by_its_owner(tmp_path):
    for name in (".backup.unfinished-abc", ".other.unfinished-abc", "backup"):
        (tmp_path / name).mkdir()
    files.sweep(tmp_path, "backup")
    assert names(tmp_path) == [".other.unfinished-abc", "backup"]
    files.sweep(tmp_path / "missing", "backup")
