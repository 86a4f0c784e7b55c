"""Scratch folders: gone at the end; what a killed process left is cleared by its owner alone."""

import subprocess
import sys

import pytest

from resrep_keras.common import scratch
from resrep_keras.common.scratch import LOCK, REPLACED, scratch_folder, sweep

HOLDS = """
import runpy, sys

with runpy.run_path(sys.argv[1])["scratch_folder"](sys.argv[2], "model"):
    print("made", flush=True)
    input()
"""


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def leave(folder, moved=None):
    """What a killed process leaves."""
    (folder / REPLACED).mkdir(parents=True)
    (folder / LOCK).touch()
    if moved is not None:
        (folder / REPLACED / moved).write_text("old")


def test_it_is_gone_at_the_end(tmp_path):
    with pytest.raises(ZeroDivisionError), scratch_folder(tmp_path / "new", "model") as fresh:
        assert fresh.parent == tmp_path / "new" and fresh.name.startswith(".model.unfinished-")
        (fresh / "half").write_text("half")
        raise ZeroDivisionError
    assert not names(tmp_path / "new")


def test_what_a_killed_process_has_left_is_swept_by_its_owner(tmp_path):
    for name in (".backup.unfinished-abc", ".other.unfinished-abc"):
        leave(tmp_path / name)
    (tmp_path / "backup").mkdir()
    (tmp_path / ".backup.unfinished-empty").mkdir()
    (tmp_path / ".backup.unfinished-file").touch()
    (tmp_path / ".backup.unfinished-mine").mkdir()
    (tmp_path / ".backup.unfinished-mine" / "notes").touch()
    (tmp_path / ".backup.unfinished-link").symlink_to(tmp_path / ".other.unfinished-abc")
    sweep(tmp_path, "backup")
    assert names(tmp_path) == [
        ".backup.unfinished-file",
        ".backup.unfinished-link",
        ".backup.unfinished-mine",
        ".other.unfinished-abc",
        "backup",
    ]
    sweep(tmp_path / "missing", "backup")


def test_what_was_moved_away_comes_back_where_its_place_is_empty(tmp_path):
    leave(tmp_path / ".model.unfinished-a", "model")
    leave(tmp_path / ".model.unfinished-b", "other")
    (tmp_path / "other").write_text("new")
    sweep(tmp_path, "model")
    assert names(tmp_path) == ["model", "other"]
    assert (tmp_path / "model").read_text() == "old" and (tmp_path / "other").read_text() == "new"


def test_a_process_that_lives_keeps_its_folder(tmp_path):
    command = [sys.executable, "-c", HOLDS, scratch.__file__, tmp_path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with scratch_folder(tmp_path, "model"), subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == b"made\n"
        sweep(tmp_path, "model")
        assert len(names(tmp_path)) == 2
        process.kill()
        process.wait()
        sweep(tmp_path, "model")
        assert len(names(tmp_path)) == 1


def test_long_names_fit(tmp_path):
    with scratch_folder(tmp_path, "ö" * 120) as fresh:
        assert fresh.is_dir()
