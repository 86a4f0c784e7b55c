"""ONNX and OpenVINO, through Keras's own `Model.export`: written, and run."""

import contextlib
import importlib.util
import warnings

import keras
from keras import ops

from resrep_keras.graph.unroll import as_functional
from resrep_keras.surgery.forward import as_numbers
from resrep_keras.tflite.precision import in_float32
from resrep_keras.tflite.scopes import with_scope_names
from resrep_keras.tflite.signature import signature_of

OTHERS = "Export it as .keras, .tflite or as a SavedModel."

# By the extra of this package: what a format needs.
PACKAGES = {"onnx": ("onnx", "onnxruntime", "tf2onnx"), "openvino": ("openvino",)}


def check_tensorflow(what):
    """Raise where Keras runs on another backend.

    Args:
        what: What is to be written, in words.

    Raises:
        ValueError: It does.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"{what} needs the TensorFlow backend; this process runs on "
            f"{keras.backend.backend()}. Save the model as .keras and export it in a process with "
            "KERAS_BACKEND=tensorflow."
        )


def missing(extra):
    """The packages of an extra that are not installed."""
    return [name for name in PACKAGES[extra] if importlib.util.find_spec(name) is None]


def _check_extra(extra, what):
    if missing(extra):
        raise ImportError(
            f"{what} needs {', '.join(missing(extra))}. Install with "
            f'pip install "resrep-keras[{extra}]".'
        )


def for_onnx(model):
    """A model as an ONNX file takes it."""
    check_tensorflow("An ONNX file")
    _check_extra("onnx", "An ONNX file")
    return with_scope_names(in_float32(model))


def for_openvino(model):
    """A model as OpenVINO takes it."""
    check_tensorflow("An OpenVINO model")
    _check_extra("openvino", "An OpenVINO model")
    return with_scope_names(in_float32(model))


def write_onnx(model, path):
    """Write a file with the names of the model, for any number of examples."""
    _write(model, path, "onnx", "an ONNX file")


def write_openvino(model, path):
    """Write a folder with two files, called as the folder is: `.xml` and, for weights, `.bin`."""
    path.mkdir()
    _write(model, _xml_in(path), "openvino", "an OpenVINO model")


def _write(model, path, form, what):
    named = named_model(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what they use of NumPy and TensorFlow
            named.export(str(path), format=form, verbose=False)
    except Exception as error:  # whatever a converter raises is told as its own words
        raise ValueError(
            f"Keras cannot make {what} of model '{model.name}'. {OTHERS} It says: {error}"
        ) from error


def named_model(model):
    """A model of dicts by the names of a `Signature`, which exporters keep."""
    signature = signature_of(model)
    flat = keras.tree.flatten(signature.tensors)
    fresh = [
        keras.Input(
            batch_shape=tensor.shape,
            dtype="float32" if "float" in tensor.dtype else tensor.dtype,
            name=name,
        )
        for tensor, name in zip(flat, signature.inputs)
    ]
    cast = [x if x.dtype == t.dtype else ops.cast(x, t.dtype) for x, t in zip(fresh, flat)]
    outputs = as_functional(model)(keras.tree.pack_sequence_as(signature.tensors, cast))
    inputs = dict(zip(signature.inputs, fresh))
    named = keras.Model(inputs, dict(zip(signature.outputs, keras.tree.flatten(outputs))))
    named(inputs)  # Keras exports no model that was never called
    return named


@contextlib.contextmanager
def _loading(model, what):
    """Tell in words what a runtime cannot load of what a converter has written."""
    try:
        yield
    except Exception as error:  # each runtime has classes of its own
        raise ValueError(
            f"The {what} of model '{model.name}' cannot be run: the converter has left operations "
            f"in it that the runtime does not know. {OTHERS} The runtime says: {error}"
        ) from error


class OnnxFile:
    """Runs an ONNX file on inputs in the structure of its model, on one thread."""

    def __init__(self, path, model):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        with _loading(model, "ONNX file"):
            self._session = onnxruntime.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        self._signature, self._inputs, self._outputs = signature_of(model), {}, None

    def set_inputs(self, inputs):
        self._inputs = self._signature.arrays(inputs)

    def invoke(self):
        self._outputs = self._session.run(list(self._signature.outputs), self._inputs)

    def outputs(self):
        return [as_numbers(value) for value in self._outputs]


# --- OpenVINO -------------------------------------------------------------------------------------


def is_openvino(folder):
    """Whether a folder holds a model of its own name, and nothing else: others have `.xml`, too."""
    found = {entry.name for entry in folder.iterdir()}
    model = _xml_in(folder).name
    return model in found and found <= {model, f"{folder.stem}.bin"}


def _xml_in(folder):
    return folder / f"{folder.stem}.xml"


class OpenVINOFolder:
    """Runs a model of OpenVINO on inputs in the structure of its model, on one thread."""

    def __init__(self, path, model):
        import openvino

        self._signature, self._inputs, self._outputs = signature_of(model), {}, None
        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        with _loading(model, "OpenVINO model"):
            self._compiled = openvino.Core().compile_model(str(_xml_in(path)), "CPU", settings)

    def set_inputs(self, inputs):
        self._inputs = self._signature.arrays(inputs)

    def invoke(self):
        self._outputs = self._compiled(self._inputs)

    def outputs(self):
        return [as_numbers(self._outputs[name]) for name in self._signature.outputs]
