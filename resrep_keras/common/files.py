"""Files that are never seen half-written: each is written beside its place, and then renamed."""

import contextlib
import os
import pathlib
import shutil
import tempfile

ENDING = ".unfinished-"


@contextlib.contextmanager
def scratch_folder(parent, owner=""):
    """A fresh folder that is gone at the end, also where what is done in it fails.

    Args:
        parent: The folder to make it in, which is made where it is missing.
        owner: What its name begins with, for `sweep`. The rest of it cannot be guessed.
    """
    pathlib.Path(parent).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{owner}{ENDING}", dir=parent) as folder:
        yield pathlib.Path(folder)


@contextlib.contextmanager
def written_beside(path, owner=""):
    """A place to write a file or folder at, which takes the place of `path` once it is whole.

    >>> with written_beside("models/slim.keras") as fresh:
    ...     model.save(fresh)

    Args:
        path: File or folder; what stands there stays if writing fails, and is replaced otherwise.
        owner: See `scratch_folder`.
    """
    path = pathlib.Path(path)
    with scratch_folder(path.parent, owner) as scratch:
        fresh = scratch / (path.name or "written")
        yield fresh
        put(fresh, path, owner)


def write_text(path, text):
    """Write a text, in UTF-8."""
    with written_beside(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def put(fresh, path, owner=""):
    """Put a file or folder in the place of another one, which is replaced; both on one disk."""
    _flush(fresh)
    if path.is_dir():  # a folder cannot be renamed over another one
        with scratch_folder(path.parent, owner) as scratch:
            old = scratch / "replaced"
            os.replace(path, old)
            try:
                os.replace(fresh, path)
            except OSError:
                os.replace(old, path)
                raise
    else:
        os.replace(fresh, path)
    _flush_one(path.parent)


def remove(folder, owner=""):
    """Delete a folder: it loses its name before its files, so that none is seen half-empty."""
    with scratch_folder(folder.parent, owner) as scratch:
        os.replace(folder, scratch / folder.name)


def sweep(parent, owner):
    """Delete the scratch folders of an owner that a killed process has left behind."""
    for entry in list(pathlib.Path(parent).glob("*")):
        if entry.name.startswith(f".{owner}{ENDING}"):
            shutil.rmtree(entry, ignore_errors=True)


def _flush(path):
    """See to it that a file, or a folder with its files, is on the disk, should the power fail."""
    for inner in path.rglob("*") if path.is_dir() else ():
        _flush_one(inner)
    _flush_one(path)


def _flush_one(path):
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
