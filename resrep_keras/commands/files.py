"""Files that are given to a command: models and arrays. Code in them is never run."""

import csv
import json
import math
import pathlib
import sys
import tempfile
import warnings
import zipfile
import zlib

import keras
import numpy as np

from resrep_keras.methods.pruning_log import log_of

# How a file of Keras 2 says that it holds code.
CODE = b'"class_name": "Lambda"'


def read_model(path, given, compiled=False):
    """A model of a file.

    Args:
        path: `.keras`, `.h5`, or a SavedModel that Keras 2 has written.
        given: The words of the command.
        compiled: Whether it is to be compiled as it was. Defaults to `False`.
    """
    path = existing(path)
    say(given, f"reading {path}")
    if path.is_dir():
        return _of_saved_model(path, compiled)
    if path.suffix not in (".keras", ".h5", ".hdf5"):
        raise ValueError(f"Expected a model of Keras, a file .keras or .h5; got '{path}'.")
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise ValueError(f"'{path}' is no whole file .keras; save the model anew.")
    try:
        return keras.saving.load_model(path, compile=compiled, safe_mode=True)
    except (KeyError, OSError) as error:  # of a file that lacks parts
        kind = type(error).__name__
        raise ValueError(f"Keras cannot read a model in '{path}': {kind}: {error}") from error


def existing(path):
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder '{path}'.")
    return path


def _of_saved_model(path, compiled):
    told = path / "keras_metadata.pb"
    if not told.exists():
        raise ValueError(
            f"'{path}' is no SavedModel that tells its layers, which only Keras 2 has written, and "
            "layers are what is pruned. Save the model where it is made as .keras: "
            "model.save('model.keras')."
        )
    if CODE in told.read_bytes():
        raise ValueError(
            f"SavedModel '{path}' has a Lambda layer: it holds code, which is not run. Replace it "
            "by a layer of keras.layers, or of your own."
        )
    try:
        import tf_keras
    except ImportError as error:
        raise ImportError(
            "SavedModels that tell their layers are those of Keras 2, which tf_keras reads: "
            'pip install "resrep-keras[tfmot]".'
        ) from error
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older format
        file = pathlib.Path(folder) / "model.h5"  # the one that both versions know
        tf_keras.models.load_model(path, compile=compiled).save(file, save_format="h5")
        return keras.saving.load_model(file, compile=compiled, safe_mode=True)


def read_data(path, model):
    """What `.npy` or `.npz` files hold for a model: inputs, or a pair of them and labels."""
    if path is None:
        return None
    arrays = _arrays_of(path)
    if isinstance(arrays, np.ndarray):
        return arrays
    names = [tensor.name for tensor in model.inputs]
    if "x" in arrays:
        x = arrays.pop("x")
    elif set(names) <= set(arrays):
        x = keras.tree.pack_sequence_as(model.input, [arrays.pop(name) for name in names])
    else:
        raise ValueError(
            f"Expected '{path}' to hold the inputs as array 'x', or as {_listed(names)}, and "
            "labels, if any, as 'y', or by the names of outputs; it holds "
            f"{_listed(arrays) or 'nothing'}."
        )
    if "y" in arrays:
        labels = arrays.pop("y")
    else:
        labels = {name: arrays.pop(name) for name in model.output_names if name in arrays}
        if len(model.output_names) == 1:
            labels = labels.get(model.output_names[0], ())
    if arrays:
        raise ValueError(
            f"Expected no more in '{path}' than inputs and labels; got {_listed(arrays)}, too."
        )
    return (x, labels) if len(labels) else x


def _arrays_of(path):
    """The array of a file `.npy`, or ``{name: array}`` of a file `.npz`."""
    try:
        with existing(path).open("rb") as file:  # which numpy does not close where it raises
            held = np.load(file, allow_pickle=False)
            if isinstance(held, np.ndarray):
                return held
            return {name: held[name] for name in held.files}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"Expected '{path}' to be a whole file of arrays, of numpy.savez or numpy.save, that "
            f"holds no Python objects, which could be code; {error}."
        ) from error


def check_picture(path):
    """Raise unless a picture can be written there; returns the path."""
    path = pathlib.Path(path)
    if path.suffix != ".svg":
        raise ValueError(f"Expected a picture to be a path that ends in .svg; got '{path}'.")
    return path


def read_history(path, given):
    """What a file tells of a run: a `PruningLog`, or ``{name: values by epoch}``."""
    if path is None:
        return None
    path = existing(path)
    if path.suffix == ".keras":
        log = log_of(read_model(path, given))
        if log is None:
            raise ValueError(f"Model '{path}' has no record of a run; no wrapped one is in it.")
        return log
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        told = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
        told.pop("epoch", None)
        if not told:
            raise ValueError(f"Expected '{path}' to have a line for each epoch; it has none.")
    else:
        told = json.loads(path.read_text(encoding="utf-8"))
    try:
        # Validation may come in some epochs only: CSVLogger writes NA then.
        return {
            name: [math.nan if value in ("NA", "") else float(value) for value in values]
            for name, values in told.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected '{path}' to hold numbers by epoch, lists of them by name; {error}."
        ) from error


def _listed(names):
    return ", ".join(map(repr, names))


def inputs_of(data):
    """The inputs of what `read_data` has found."""
    return data[0] if isinstance(data, tuple) else data


def say(given, words):
    """Tell what is being done."""
    if not given.quiet:
        print(f"... {words}", file=sys.stderr, flush=True)
