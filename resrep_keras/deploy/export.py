"""export(model, path): write a model, read it back, compare."""

import pathlib

import keras
import numpy as np

from resrep_keras.common.files import written_beside
from resrep_keras.graph.trace import read
from resrep_keras.graph.unroll import check_model
from resrep_keras.surgery.forward import example_inputs, run
from resrep_keras.surgery.insert import compactors_by_site
from resrep_keras.tflite.convert import to_tflite
from resrep_keras.tflite.run import TFLiteRunner


def export(model, path, sparse=False):
    """Write a slim model, reload it and compare both on random inputs.

    The ending of the path names the format: `.keras`, `.tflite` (float32, batch size 1), or a
    folder for a SavedModel. The file is written beside its place and then renamed.

    Args:
        model: Functional or Sequential model without compactors.
        path: File or folder to write; what stands there is replaced.
        sparse: Whether a `.tflite` file stores kernels that are mostly zero without their zeros,
            for models that `GraNet` has made sparse. It is smaller on disk; few kernels run
            faster, see `docs/sparsity.md`. Defaults to `False`.

    Returns:
        The largest difference of any output value between the model and the file, as a share of the
        largest output value.

    Raises:
        TypeError: Not a Keras model.
        ValueError: The model is not finalized, the ending is unknown or not `.tflite` where
            `sparse` is set, or the backend cannot do it.
    """
    check_model(model)
    if compactors_by_site(read(model)):
        raise ValueError(
            f"Model '{model.name}' has compactors. Export the slim model that "
            "resrep_keras.finalize(model) returns."
        )
    path = pathlib.Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(
            f"Expected a path that ends in .keras or .tflite, or a folder without an ending for a "
            f"SavedModel; got '{path}'."
        )
    if sparse and suffix != ".tflite":
        raise ValueError(f"Expected a path that ends in .tflite with sparse=True; got '{path}'.")
    write, run_file = FORMATS[suffix]
    settings = {"sparse": True} if sparse else {}
    with written_beside(path) as fresh:
        write(model, fresh, **settings)
    inputs = example_inputs(model, batch_size=1)
    expected, actual = keras.tree.flatten(run(model, inputs)), run_file(path, inputs)
    return max(
        float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12)) for a, b in zip(expected, actual)
    )


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


FORMATS = {
    ".keras": (_write_keras, _run_keras),
    "": (_write_saved_model, _run_saved_model),
    ".tflite": (_write_tflite, _run_tflite),
}
