"""Files: whole or not at all, and nothing left beside them."""

import os
import pathlib
import stat
import subprocess
import sys

import pytest

from resrep_keras.common import files
from resrep_keras.common.scratch import sweep

PACKAGE = pathlib.Path(files.__file__).parents[1]


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def make_folder(text):
    def make(fresh):
        (fresh / "inside").mkdir(parents=True)
        (fresh / "inside" / text).write_text(text)

    return make


def test_a_text_is_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "page.md"
    for text in ("old", "größer\r\n"):
        files.write_text(path, text)
        assert path.read_bytes() == text.encode() and names(path.parent) == ["page.md"]


def test_while_it_is_written_the_old_file_stands(tmp_path):
    path, seen, before = tmp_path / "model", [], "old"
    path.write_text(before)

    def make(fresh):
        fresh.write_text("new")
        assert path.read_text() == before and fresh.name == "model"
        seen.extend(set(names(tmp_path)) - {"model"})

    def read(fresh):
        assert path.read_text() == before
        return fresh.read_text()

    assert files.write(path, make, read) == "new"
    assert path.read_text() == "new" and names(tmp_path) == ["model"]
    before = "new"
    files.write(path, make)
    assert len(set(seen)) == 2  # each has a name of its own


@pytest.mark.parametrize("fails", ["make", "read"])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, fails):
    path = tmp_path / "model"
    path.write_text("old")

    def make(fresh):
        fresh.write_text("half")
        assert fails == "read", "no"

    def read(fresh):
        raise AssertionError("no")

    with pytest.raises(AssertionError, match="no"):
        files.write(path, make, read)
    assert path.read_text() == "old" and names(tmp_path) == ["model"]


def test_a_text_that_reads_otherwise_is_not_kept(tmp_path, monkeypatch):
    path = tmp_path / "page.md"
    path.write_text("old")
    monkeypatch.setattr(type(path), "write_bytes", lambda self, content: self.touch())
    with pytest.raises(OSError, match=r"written for '.*page\.md' reads otherwise"):
        files.write_text(path, "new")
    assert path.read_text() == "old" and names(tmp_path) == ["page.md"]


def test_a_folder_takes_the_place_of_an_empty_one_or_of_its_kind(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    for text in ("old", "new"):
        files.write(path, make_folder(text), folder=True, may_replace=lambda folder: True)
        assert names(path / "inside") == [text] and names(tmp_path) == ["model"]
    with pytest.raises(ValueError, match=r"new or empty folder.*'.*model' holds other files"):
        files.write(path, make_folder("newer"), folder=True, may_replace=lambda folder: False)
    with pytest.raises(ValueError, match="holds other files"):
        files.write(path, make_folder("newer"), folder=True)
    assert names(path / "inside") == ["new"]


def test_files_and_folders_do_not_replace_each_other(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"Expected the path of a file; '.*' is a folder"):
        files.write_text(tmp_path / "folder", "new")
    with pytest.raises(ValueError, match=r"Expected the path of a folder; '.*' is a file"):
        files.write(tmp_path / "file", make_folder("new"), folder=True, may_replace=lambda f: True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is neither file nor folder"):
        files.write_text(tmp_path / "pipe", "new")
    assert names(tmp_path) == ["file", "folder", "pipe"]
    assert (tmp_path / "file").read_text() == "mine"


def test_what_came_while_it_was_written_stays(tmp_path):
    path = tmp_path / "model"

    def make(fresh):
        make_folder("new")(fresh)
        (path / "mine").mkdir(parents=True)

    with pytest.raises(ValueError, match="holds other files"):
        files.write(path, make, folder=True)
    assert names(path) == ["mine"] and names(tmp_path) == ["model"]


def test_where_a_folder_cannot_be_replaced_the_old_one_comes_back(tmp_path, monkeypatch):
    path, replace = tmp_path / "model", os.replace
    make_folder("old")(path)

    def fail(source, target):
        if target == path and source.parent.name == "new":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        files.write(path, make_folder("new"), folder=True, may_replace=lambda folder: True)
    assert names(tmp_path) == ["model"] and names(path / "inside") == ["old"]


def test_symbolic_links_are_followed_and_stay(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    files.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_rights_are_those_that_open_gives(tmp_path, umask):
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "ours", "text")
        with open(tmp_path / "plain", "w") as file:
            file.write("text")
        files.write(tmp_path / "folder", make_folder("text"), folder=True)
        (tmp_path / "plain folder").mkdir()
        rights = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names(tmp_path)}
        assert rights["ours"] == rights["plain"] and rights["folder"] == rights["plain folder"]
        (tmp_path / "ours").chmod(0o640)
        files.write_text(tmp_path / "ours", "more")
        assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == 0o640
    finally:
        os.umask(before)


def test_a_folder_is_removed_whole(tmp_path, monkeypatch):
    folder = tmp_path / "epoch-3"
    folder.mkdir()
    (folder / "weights").write_text("")
    monkeypatch.setattr("shutil.rmtree", lambda *args, **kwargs: None)  # killed before
    files.remove(folder, "backup")
    assert "epoch-3" not in names(tmp_path)


def test_a_folder_that_takes_no_files_is_told_at_once(tmp_path):
    files.check_writable(tmp_path / "new")
    assert names(tmp_path) == ["new"] and not names(tmp_path / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"nothing can be written in '.*file/inside'"):
        files.check_writable(tmp_path / "file" / "inside")


ALONE = """
import sys, types

package = sys.modules["resrep_keras"] = types.ModuleType("resrep_keras")  # without Keras
package.__path__ = [sys.argv[1]]
"""

KILLED = """
import os, pathlib, signal
from resrep_keras.common import files

path, calls, moment = pathlib.Path(sys.argv[2]), [0], int(sys.argv[3])

def dying(function):
    def call(*args, **kwargs):
        calls[0] += 1
        if calls[0] == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call

for name in ("replace", "fsync", "mkdir", "unlink", "rmdir", "open"):
    setattr(os, name, dying(getattr(os, name)))

def make(fresh):
    fresh.mkdir()
    (fresh / "new").write_text("new")

files.write(path, make, folder=True, may_replace=lambda folder: True)
"""


def test_a_kill_at_any_moment_loses_nothing(tmp_path):
    """At each call that changes the disk a process is killed that replaces a folder."""
    outcomes, moment = set(), 0
    while True:
        moment += 1
        path = tmp_path / str(moment) / "model"
        path.mkdir(parents=True)
        (path / "old").write_text("old")
        command = [sys.executable, "-c", ALONE + KILLED, PACKAGE, path, str(moment)]
        code = subprocess.run(command).returncode
        if code == 0:
            break
        assert code == -9
        sweep(path.parent, "model")
        assert names(path.parent) == ["model"] and names(path) in (["old"], ["new"])
        outcomes.add(*names(path))
    assert outcomes == {"old", "new"} and moment > 10 and names(path) == ["new"]


def test_a_figure_is_seen_whole_or_not_at_all(tmp_path):
    from matplotlib.figure import Figure

    path, figure = tmp_path / "figure.png", Figure()
    figure.subplots().plot([1, 2])
    files.write_figure(path, figure)
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG")

    class Broken(Figure):
        def savefig(self, place, **kwargs):
            pathlib.Path(place).write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_figure(path, Broken())
    assert path.read_bytes() == before and names(tmp_path) == ["figure.png"]


def test_examples_and_benchmarks_write_through_this_file():
    root, bare = PACKAGE.parent, (".savefig(", "json.dump(", ").write_text(")
    sources = [*(root / "examples").glob("*.py"), *(root / "benchmarks").glob("*.py")]
    found = [
        (path.name, line.strip())
        for path in sources
        for line in path.read_text(encoding="utf-8").splitlines()
        if any(call in line for call in bare) and "lambda fresh" not in line
    ]
    assert len(sources) > 10 and not found
