"""Keras models as TFLite flatbuffers."""

import tempfile
import warnings

import keras

from resrep_keras.common.retracing import quiet_about_folders
from resrep_keras.graph.sizes import sized
from resrep_keras.graph.unroll import check_model
from resrep_keras.keras_adapter import call_with_values
from resrep_keras.tflite.precision import in_float32
from resrep_keras.tflite.quantization import check_loops
from resrep_keras.tflite.scopes import with_scope_names
from resrep_keras.tflite.signature import signature_of
from resrep_keras.tflite.unrolled import unrolled

FLOAT = "float32"


def to_tflite(
    model,
    batch_size=1,
    sparse=False,
    input_shape=None,
    quantization=None,
    rows=None,
    inference_type=None,
):
    """Convert a model to a TFLite flatbuffer, as bytes.

    Its signature has the names of the model's inputs and outputs. Layers of other floats, such as
    those of a mixed policy, are converted in float32.

    Args:
        model: Functional or Sequential model on the TensorFlow backend.
        batch_size: Fixed batch size of the converted model; `None` leaves it open, which keeps
            some kernels from being used. Defaults to `1`.
        sparse: Whether to store kernels that are mostly zero as their other entries and where these
            are. Defaults to `False`.
        input_shape: Sizes that the model leaves open, see `resrep_keras.graph.sizes`. Defaults to
            `None`, by which they stay open.
        quantization: A `Quantization`. Defaults to `None`: all numbers stay float32.
        rows: Returns an iterable of batches to calibrate it with, ``{name: array}``.
        inference_type: Type of inputs and outputs in the place of floats. Defaults to `None`, by
            which floats stay.

    Raises:
        ValueError: The backend is not TensorFlow, or the converter cannot.
    """
    check_model(model)
    check_backend()
    import tensorflow as tf

    model = in_float32(model)
    if quantization is not None and quantization.is_calibrated:
        model = unrolled(model)
    model = with_scope_names(model)
    function = by_names(model, batch_size, input_shape, FLOAT)
    if quantization is not None:
        check_loops(model, function, quantization)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", function)
    with tempfile.TemporaryDirectory() as folder:
        with quiet_about_folders():
            archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY] * sparse
        if quantization is not None:
            quantization.tell(converter, rows, inference_type)
        try:
            with warnings.catch_warnings():  # calibrating, it announces its move to LiteRT
                warnings.simplefilter("ignore", UserWarning)
                return converter.convert()
        except Exception as error:  # whatever the converter raises is told as its own words
            how = "" if quantization is None else f" with quantization='{quantization.name}'"
            other = "" if quantization is None else ", with another quantization or none"
            raise ValueError(
                f"TensorFlow's converter cannot make a TFLite file of model '{model.name}'{how}. "
                f"Export it as .keras or as a SavedModel{other}. The converter says: {error}"
            ) from error


def by_names(model, batch_size=None, input_shape=None, floats=None):
    """A model in inference as a TensorFlow function that goes by the names of its `Signature`.

    Args:
        model: The model.
        batch_size: That of its inputs; `None` leaves it open.
        input_shape: Sizes that the model leaves open, see `resrep_keras.graph.sizes`.
        floats: The type of inputs that are floats, which the function casts to what the model
            takes. Defaults to that.

    Returns:
        A `tf.function` of flat inputs that returns ``{name: output}``.
    """
    import tensorflow as tf

    signature = signature_of(model)
    tensors = keras.tree.flatten(sized(signature.tensors, input_shape))

    def serve(*flat):
        flat = [
            keras.ops.cast(value, x.dtype) if floats else value for value, x in zip(flat, tensors)
        ]
        outputs = model(keras.tree.pack_sequence_as(signature.tensors, flat), training=False)
        return dict(zip(signature.outputs, keras.tree.flatten(outputs), strict=True))

    def spec(tensor, name):
        dtype = floats if floats and "float" in tensor.dtype else tensor.dtype
        return tf.TensorSpec((tensor.shape[0] or batch_size, *tensor.shape[1:]), dtype, name=name)

    return tf.function(
        serve, input_signature=[spec(x, name) for x, name in zip(tensors, signature.inputs)]
    )


def check_backend():
    """Raise where models cannot be converted to TFLite, nor timed there.

    Raises:
        ValueError: The backend is not TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"TFLite needs the TensorFlow backend; this process runs on {keras.backend.backend()}. "
            "Save the model as .keras and convert it in a process with KERAS_BACKEND=tensorflow. "
            "Targets of file_bytes and latency, and channel_multiple='auto', need it, too."
        )


def to_tflite_quickly(model):
    """The same for a small model with fixed sizes, without the names that a signature gives."""
    import tensorflow as tf

    signature = [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs]
    constants = [(v, tf.constant(keras.ops.convert_to_numpy(v))) for v in model.variables]

    @tf.function(input_signature=signature)
    def function(*flat):
        outputs, _ = call_with_values(model, constants, list(flat))
        return outputs

    concrete = function.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert()
