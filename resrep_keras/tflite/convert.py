"""Keras models as TFLite flatbuffers."""

import tempfile

import keras

from resrep_keras.graph.sizes import sized
from resrep_keras.graph.unroll import check_model, inputs_of
from resrep_keras.keras_adapter import call_with_values


def to_tflite(model, batch_size=1, sparse=False, input_shape=None):
    """Convert a model to a float32 TFLite flatbuffer, as bytes.

    Args:
        model: Functional or Sequential model on the TensorFlow backend.
        batch_size: Fixed batch size of the converted model; `None` leaves it open, which keeps
            some kernels from being used. Defaults to `1`.
        sparse: Whether to store kernels that are mostly zero as their other entries and where these
            are. Defaults to `False`.
        input_shape: Sizes that the model leaves open, see `resrep_keras.graph.sizes`. Defaults to
            `None`, by which they stay open.

    Raises:
        ValueError: The backend is not TensorFlow.
    """
    check_model(model)
    check_backend()
    import tensorflow as tf

    structure = sized(inputs_of(model), input_shape)
    flat = keras.tree.flatten(structure)
    signature = [tf.TensorSpec((x.shape[0] or batch_size, *x.shape[1:]), x.dtype) for x in flat]

    def serve(*flat):
        inputs = keras.tree.pack_sequence_as(structure, list(flat))
        return keras.tree.flatten(model(inputs, training=False))

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", serve, input_signature=signature)
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY] * sparse
        return converter.convert()


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
