"""The formats that `export` writes: how a file is written, and how it is run."""

import dataclasses
from collections.abc import Callable

import keras

from resrep_keras.surgery.forward import as_numbers, run
from resrep_keras.tflite.convert import by_names, check_backend, to_tflite
from resrep_keras.tflite.precision import in_float32
from resrep_keras.tflite.run import TFLiteRunner
from resrep_keras.tflite.scopes import with_scope_names
from resrep_keras.tflite.signature import signature_of


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of files.

    Args:
        name: Its name, for texts.
        suffix: The ending of its paths, in small letters; empty for a folder.
        tolerance: Up to which share of the largest output a file of a float32 model may differ from
            the model by rounding alone, on a CPU.
        refused: The share from which on a file is not kept. A deep model, or a GPU that shortens
            its factors, rounds more than `tolerance`; what is wrong differs by much more.
        prepare: Maps a model to the one that is written, and that the file is compared with.
        write: Writes a model, ``write(model, path, **settings)``.
        run: Runs the file of a model, ``run(path, model, inputs)``; returns flat outputs.
        settings: Names of the arguments of `export` that `write` takes, too.
        may_replace: For a format of folders: says of a folder whether it holds this format.
    """

    name: str
    suffix: str
    tolerance: float
    refused: float
    prepare: Callable
    write: Callable
    run: Callable
    settings: tuple = ()
    may_replace: Callable | None = None

    @property
    def ending(self):
        """What a path in this format looks like, in words."""
        return f"ends in {self.suffix}" if self.suffix else "has no ending"


def _as_it_is(model):
    return model


def _write_keras(model, path):
    model.save(path)


def _run_keras(path, model, inputs):
    return keras.tree.flatten(run(keras.models.load_model(path), inputs))


# --- SavedModel -----------------------------------------------------------------------------------

FILES = {"saved_model.pb", "fingerprint.pb", "keras_metadata.pb"}
FOLDERS = {"variables", "assets", "assets.extra"}


def is_saved_model(folder):
    """Whether a folder is a SavedModel, and holds nothing else."""
    entries = {entry.name: entry for entry in folder.iterdir()}
    files = {name for name, entry in entries.items() if not entry.is_dir()}
    variables = folder.glob("variables/*")
    return (
        "saved_model.pb" in files
        and files <= FILES
        and entries.keys() - files <= FOLDERS
        and all(entry.name.startswith("variables.") for entry in variables)
    )


def _for_saved_model(model):
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"A SavedModel needs the TensorFlow backend; this process runs on "
            f"{keras.backend.backend()}. Save the model as .keras and export it in a process with "
            "KERAS_BACKEND=tensorflow."
        )
    return with_scope_names(model)


def _write_saved_model(model, path):
    """Two ways to call it: `serve` as the model is called, and the default one by names."""
    import tensorflow as tf

    signature = signature_of(model)

    def spec(tensor, name):
        if tensor.sparse:
            return tf.SparseTensorSpec(tensor.shape, tensor.dtype)
        return tf.TensorSpec(tensor.shape, tensor.dtype, name=name)

    flat = keras.tree.flatten(signature.tensors)
    specs = [spec(tensor, name) for tensor, name in zip(flat, signature.inputs)]
    structure = keras.tree.pack_sequence_as(signature.tensors, specs)

    def serve(inputs):
        return model(inputs, training=False)

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", tf.function(serve, input_signature=[structure]))
    if not any(tensor.sparse for tensor in flat):  # a signature takes dense tensors only
        archive.add_endpoint("serving_default", by_names(model))
    archive.write_out(path, verbose=False)


def _run_saved_model(path, model, inputs):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))  # its functions die with it
    return [as_numbers(value) for value in keras.tree.flatten(loaded.serve(inputs))]


# --- TFLite ---------------------------------------------------------------------------------------


def _in_float32(model):
    check_backend()
    return with_scope_names(in_float32(model))


def _write_tflite(model, path, sparse=False):
    path.write_bytes(to_tflite(model, sparse=sparse))


def _run_tflite(path, model, inputs):
    signature = signature_of(model)
    runner = TFLiteRunner(path.read_bytes())
    runner.set_inputs(signature.by_name(inputs))
    runner.invoke()
    outputs = runner.outputs()
    return [as_numbers(outputs[name]) for name in signature.outputs]


# By the ending of a path.
FORMATS = {
    form.suffix: form
    for form in (
        Format("Keras file", ".keras", 1e-5, 1e-4, _as_it_is, _write_keras, _run_keras),
        Format(
            "TFLite file",
            ".tflite",
            1e-5,
            1e-2,
            _in_float32,
            _write_tflite,
            _run_tflite,
            settings=("sparse",),
        ),
        Format(
            "SavedModel",
            "",
            1e-5,
            1e-2,
            _for_saved_model,
            _write_saved_model,
            _run_saved_model,
            may_replace=is_saved_model,
        ),
    )
}
