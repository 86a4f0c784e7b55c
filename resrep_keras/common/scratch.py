"""Scratch folders: where files are made before they take their place, and what a kill leaves."""

import contextlib
import os
import pathlib
import shutil
import tempfile

ENDING = ".unfinished-"
LOCK = ".lock"  # held as long as the process lives that made the folder
REPLACED = "replaced"  # what was moved away, by its name, to be put back after a kill


@contextlib.contextmanager
def scratch_folder(parent, owner=""):
    """A fresh folder that is gone at the end, also where what is done in it fails.

    Args:
        parent: The folder to make it in, which is made where it is missing.
        owner: What its name begins with, for `sweep`. The rest of it cannot be guessed.
    """
    pathlib.Path(parent).mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=_prefix(owner), dir=parent))
    try:
        with open(folder / LOCK, "wb") as lock:
            _hold(lock)
            yield folder
    finally:
        _clear(folder)


def sweep(parent, owner):
    """Clear what killed processes have left behind, under an owner's name, in a folder.

    What they had moved away comes back to its place, unless something new stands there; their
    scratch folders go. Those of processes that live, or of other users, stay.
    """
    parent = pathlib.Path(parent)
    for entry in list(parent.iterdir()) if parent.is_dir() else ():
        if entry.name.startswith(_prefix(owner)) and _is_abandoned(entry):
            _clear(entry)


def _clear(folder):
    """Delete a scratch folder; what was moved into it comes back where its place is empty."""
    for moved in (folder / REPLACED).glob("*"):
        place = folder.parent / moved.name
        if not os.path.lexists(place):
            os.replace(moved, place)
    shutil.rmtree(folder, ignore_errors=True)


def _prefix(owner):
    return f".{owner[:50]}{ENDING}"  # file systems take names of 255 bytes


def _is_abandoned(folder):
    """Whether a process of this user has made a scratch folder, and lives no more."""
    state = folder.lstat()
    own = os.name != "posix" or state.st_uid == os.geteuid()
    if not own or folder.is_symlink() or not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True  # killed before it could hold anything
    try:
        with open(folder / LOCK, "r+b") as lock:
            _hold(lock)
    except OSError:  # no scratch folder, or held
        return False
    return True


def _hold(file):
    """Lock an open file until it is closed, or the process is killed.

    Raises:
        BlockingIOError: Another process holds it, or another part of this one.
    """
    if os.name == "posix":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
