"""The formats that `export` writes: how a file is written, and how it is run."""

import dataclasses
from collections.abc import Callable

import keras

from resrep_keras.common.checks import check_path
from resrep_keras.common.retracing import quiet_about_folders
from resrep_keras.deploy import exchange
from resrep_keras.surgery.forward import as_numbers
from resrep_keras.tflite.convert import by_names, check_backend, to_tflite
from resrep_keras.tflite.precision import in_float32
from resrep_keras.tflite.quantization import QUANTIZATIONS
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
        open: ``open(path, model)`` returns what runs the file of a model: `set_inputs` takes inputs
            in the structure of the model, `invoke` runs it, and `outputs` returns flat arrays.
        settings: Names of the arguments of `export` that `write` takes, too.
        may_replace: For a format of folders: says of a folder whether it holds this format.
        is_open: Whether a file takes any number of examples, whatever its settings.
        threads: On how many threads it runs; `None` for as many as Keras takes.
    """

    name: str
    suffix: str
    tolerance: float
    refused: float
    prepare: Callable
    write: Callable
    open: Callable
    settings: tuple = ()
    may_replace: Callable | None = None
    is_open: bool = True
    threads: int | None = None

    @property
    def ending(self):
        """What a path in this format looks like, in words."""
        return f"ends in {self.suffix}" if self.suffix else "has no ending"


def _as_it_is(model):
    return model


def _write_keras(model, path):
    model.save(path)


class _Caller:
    """Runs a function of inputs in the structure of the model."""

    def __init__(self, function):
        self._function, self._inputs, self._outputs = function, None, None

    def set_inputs(self, inputs):
        self._inputs = inputs

    def invoke(self):
        self._outputs = self._function(self._inputs)

    def outputs(self):
        return [as_numbers(value) for value in keras.tree.flatten(self._outputs)]


def _open_keras(path, model):
    loaded = keras.models.load_model(path)
    return _Caller(lambda inputs: loaded(inputs, training=False))


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
    exchange.check_tensorflow("A SavedModel")
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
    with quiet_about_folders():
        archive.write_out(path, verbose=False)


def _open_saved_model(path, model):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))  # its functions die with it
    return _Caller(lambda inputs: loaded.serve(inputs))


# --- TFLite ---------------------------------------------------------------------------------------


def _in_float32(model):
    check_backend()
    return with_scope_names(in_float32(model))


def _write_tflite(model, path, quantization=None, **settings):
    path.write_bytes(to_tflite(model, quantization=QUANTIZATIONS.get(quantization), **settings))


class _TFLiteFile:
    """Runs a TFLite file on inputs in the structure of its model."""

    def __init__(self, path, model):
        self._signature = signature_of(model)
        self.runner = TFLiteRunner(path.read_bytes())

    def set_inputs(self, inputs):
        self.runner.set_inputs(self._signature.by_name(inputs))

    def invoke(self):
        self.runner.invoke()

    def inner_floats(self):
        return self.runner.inner_floats()

    def outputs(self):
        outputs = self.runner.outputs()
        return [as_numbers(outputs[name]) for name in self._signature.outputs]


# By the ending of a path.
FORMATS = {
    form.suffix: form
    for form in (
        Format("Keras file", ".keras", 1e-5, 1e-4, _as_it_is, _write_keras, _open_keras),
        Format(
            "TFLite file",
            ".tflite",
            1e-5,
            1e-2,
            _in_float32,
            _write_tflite,
            _TFLiteFile,
            settings=("sparse", "quantization", "inference_type", "batch_size"),
            is_open=False,
            threads=1,
        ),
        Format(
            "ONNX file",
            ".onnx",
            1e-5,
            1e-2,
            exchange.for_onnx,
            exchange.write_onnx,
            exchange.OnnxFile,
            threads=1,
        ),
        Format(
            "OpenVINO model",
            ".openvino",
            1e-5,
            1e-2,
            exchange.for_openvino,
            exchange.write_openvino,
            exchange.OpenVINOFolder,
            may_replace=exchange.is_openvino,
            threads=1,
        ),
        Format(
            "SavedModel",
            "",
            1e-5,
            1e-2,
            _for_saved_model,
            _write_saved_model,
            _open_saved_model,
            may_replace=is_saved_model,
        ),
    )
}


def format_of(path):
    """The `Format` that the ending of a path names.

    Raises:
        ValueError: None does.
    """
    form = FORMATS.get(check_path("path", path).suffix.lower())
    if form is None:
        endings = " or ".join(suffix for suffix in FORMATS if suffix)
        raise ValueError(
            f"Expected a path that ends in {endings}, or a folder without an ending for a "
            f"SavedModel; got '{path}'."
        )
    return form
