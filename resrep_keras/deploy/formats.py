"""The formats that `export` writes: how a file is written, and how it is run."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

from resrep_keras.surgery.forward import run
from resrep_keras.tflite.convert import to_tflite
from resrep_keras.tflite.run import TFLiteRunner


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of files.

    Args:
        name: Its name, for texts.
        suffix: The ending of its paths, in small letters; empty for a folder.
        tolerance: Up to which share of the largest output a file of a float32 model may differ from
            the model by rounding alone.
        write: Writes a model, ``write(model, path, **settings)``.
        run: Runs a file, ``run(path, inputs)``; returns the outputs as float64 arrays.
        settings: Names of the arguments of `export` that `write` takes, too.
    """

    name: str
    suffix: str
    tolerance: float
    write: Callable
    run: Callable
    settings: tuple = ()

    @property
    def ending(self):
        """What a path in this format looks like, in words."""
        return f"ends in {self.suffix}" if self.suffix else "has no ending"


def _write_keras(model, path):
    model.save(path)


def _run_keras(path, inputs):
    return keras.tree.flatten(run(keras.models.load_model(path), inputs))


def _write_saved_model(model, path):
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"A SavedModel needs the TensorFlow backend; this process runs on "
            f"{keras.backend.backend()}. Save the model as .keras and export it in a process with "
            "KERAS_BACKEND=tensorflow."
        )
    model.export(path, format="tf_saved_model", verbose=False)


def _run_saved_model(path, inputs):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))  # its functions die with it
    return [np.asarray(value, np.float64) for value in keras.tree.flatten(loaded.serve(inputs))]


def _write_tflite(model, path, sparse=False):
    path.write_bytes(to_tflite(model, sparse=sparse))


def _run_tflite(path, inputs):
    runner = TFLiteRunner(path.read_bytes())
    runner.set_inputs(keras.tree.flatten(inputs))
    runner.invoke()
    return [np.asarray(value, np.float64) for value in runner.outputs()]


# By the ending of a path.
FORMATS = {
    form.suffix: form
    for form in (
        Format("Keras", ".keras", 1e-5, _write_keras, _run_keras),
        Format("TFLite", ".tflite", 1e-5, _write_tflite, _run_tflite, settings=("sparse",)),
        Format("SavedModel", "", 1e-5, _write_saved_model, _run_saved_model),
    )
}
