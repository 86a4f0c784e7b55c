"""Everything that is written: made beside its place, read back, and only then put there."""

import os
import pathlib
import shutil

from resrep_keras.common.scratch import REPLACED, scratch_folder, sweep


def write(path, make, read=None, folder=False, may_replace=None, owner=None):
    """Write a file or folder that is never seen half-written, nor lost.

    It is made in a scratch folder beside its place, under a name that cannot be guessed, read back
    there, and moved to its place in one step. Until then what stood there stays; a process that is
    killed at any moment leaves the old one, the new one, or both: the next `write` to that path
    puts the old one back where the place is empty, and clears the rest.

    >>> write("models/slim.keras", model.save, read=keras.models.load_model)

    Args:
        path: Where to write; symbolic links are followed, as `open` does.
        make: Writes it, ``make(fresh path)``; the path has the name of `path`.
        read: Reads it back, ``read(fresh path)``; where it raises, the old one stays. Defaults to
            no reading.
        folder: Whether `make` writes a folder.
        may_replace: Says of a folder that is not empty whether it may be replaced. Defaults to
            none.
        owner: See `sweep`. Defaults to the name of `path`.

    Returns:
        What `read` returns.

    Raises:
        ValueError: Something else stands there: see `check_place`.
    """
    place = pathlib.Path(os.path.realpath(path))
    owner = place.name if owner is None else owner
    sweep(place.parent, owner)
    check_place(path, folder, may_replace)
    with scratch_folder(place.parent, owner) as scratch:
        fresh = new_in(scratch) / (pathlib.Path(path).name or place.name)
        make(fresh)
        answer = None if read is None else read(fresh)
        put(fresh, path, may_replace, owner)
    return answer


def write_text(path, text):
    """Write a text, in UTF-8."""

    def read(fresh):
        if fresh.read_bytes() != text.encode("utf-8"):
            raise OSError(f"What was written for '{path}' reads otherwise; is the disk full?")

    write(path, lambda fresh: fresh.write_bytes(text.encode("utf-8")), read)


def write_figure(path, figure):
    """Write a figure of matplotlib as the ending of the path says."""
    write(path, lambda fresh: figure.savefig(fresh, dpi=120))


def check_place(path, folder=False, may_replace=None):
    """Raise where a file or folder must not be written, because of what stands there.

    A file only takes the place of a file, a folder that of an empty one, or of one that
    `may_replace` knows.

    Args:
        path, folder, may_replace: See `write`.

    Raises:
        ValueError: Says what stands there.
        PermissionError: A file that is read-only.
    """
    place = pathlib.Path(os.path.realpath(path))
    if place.is_dir():
        if not folder:
            raise ValueError(
                f"Expected the path of a file; '{path}' is a folder, which is left as it is. "
                "Choose another path, or remove the folder."
            )
        if any(place.iterdir()) and not (may_replace is not None and may_replace(place)):
            raise ValueError(
                f"Expected the path of a new or empty folder, or of one that was written in this "
                f"format; '{path}' holds other files, which are left as they are. Choose another "
                "path, or empty the folder."
            )
    elif os.path.lexists(place):
        if folder or not place.is_file():
            kind = "a file" if place.is_file() else "neither file nor folder"
            raise ValueError(
                f"Expected the path of a {'folder' if folder else 'file'}; '{path}' is {kind}, "
                "which is left as it is. Choose another path."
            )
        if not os.access(place, os.W_OK):
            raise PermissionError(f"'{path}' is read-only. Choose another path.")


def check_writable(folder):
    """Raise where nothing can be written in a folder, which is made where it is missing.

    Raises:
        ValueError: Says why.
    """
    try:
        with scratch_folder(folder, "probe"):
            pass
    except OSError as error:
        raise ValueError(
            f"Expected a folder to write in; nothing can be written in '{folder}': {error}. Choose "
            "another path."
        ) from error


def new_in(scratch):
    """The part of a scratch folder in which files are made."""
    new = scratch / "new"
    new.mkdir()
    return new


def put(fresh, path, may_replace=None, owner=None):
    """Put a file or folder, made on the same disk, in its place; see `write` and `check_place`."""
    place = pathlib.Path(os.path.realpath(path))
    check_place(path, fresh.is_dir(), may_replace)
    _flush(fresh)
    if place.is_dir():  # a folder cannot be renamed over another one
        with scratch_folder(place.parent, place.name if owner is None else owner) as scratch:
            old = scratch / REPLACED / place.name
            old.parent.mkdir()
            os.replace(place, old)  # it comes back if what follows fails
            os.replace(fresh, place)
    else:
        if place.exists():  # rights stay, as where `open` writes over a file
            shutil.copymode(place, fresh)
        os.replace(fresh, place)
    _flush_one(place.parent)


def remove(folder, owner=""):
    """Delete a folder: it loses its name before its files, so that none is seen half-empty."""
    with scratch_folder(folder.parent, owner) as scratch:
        os.replace(folder, scratch / folder.name)


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
