"""export(aware, path, model): what quantisation-aware training has made, as a TFLite file."""

import dataclasses
import functools
import tempfile
import warnings

import keras

from resrep_keras.common.checks import (
    check_bool,
    check_choice,
    check_instance,
    check_number,
    check_optional,
    check_path,
)
from resrep_keras.deploy.formats import FORMATS
from resrep_keras.deploy.judge import check_judge
from resrep_keras.deploy.writing import Writing
from resrep_keras.graph.unroll import check_model
from resrep_keras.surgery.forward import as_numbers
from resrep_keras.tflite.convert import to_tflite
from resrep_keras.tflite.quantization import QUANTIZATIONS
from resrep_keras.tflite.signature import signature_of
from resrep_keras.tfmot.packages import keras_2
from resrep_keras.tfmot.scheme import is_of

INT8 = QUANTIZATIONS["int8"]


def export(
    aware,
    path,
    model,
    *,
    data=None,
    test_data=None,
    inference_type=None,
    batch_size=1,
    latency=False,
    input_shape=None,
):
    """Write a model after quantisation-aware training as a TFLite file of int8.

    The ranges of weights and activations are those that training has found; no calibration is
    needed. The file is written beside its place, run there, compared with `aware` and only then
    renamed.

    Args:
        aware: What `quantize_aware` has returned, trained.
        path: The file, which ends in `.tflite`.
        model: The model that `aware` was made of: inputs and outputs are called as there, and its
            loss and metrics judge the file.
        data, test_data, inference_type, batch_size, latency, input_shape: See
            `resrep_keras.export`.

    Returns:
        An `Exported`: `print` it. What it says of the model is said of `aware`.

    Raises:
        ImportError: tf_keras is not installed.
        TypeError: Not a model of tf_keras, or an argument of another kind.
        ValueError: `aware` is not quantized, or its inputs or outputs are not those of `model`. Or
            see `resrep_keras.export`.
    """
    check_model(model)
    check_instance("aware", aware, keras_2().Model, "a model that quantize_aware has returned")
    form = FORMATS[".tflite"]
    path = check_path("path", path)
    if path.suffix.lower() != form.suffix:
        raise ValueError(f"Expected a path that ends in .tflite; got '{path}'.")
    latency = check_bool("latency", latency)
    batch_size = check_optional("batch_size", batch_size, check_number, at_least=1, whole=True)
    check_optional("inference_type", inference_type, check_choice, known=INT8.inference_types)
    _check_pair(aware, model)
    if test_data is not None:
        check_judge(model, test_data)
    form = dataclasses.replace(
        form, prepare=lambda each: each, write=functools.partial(_write, aware)
    )
    settings = {"quantization": INT8.name, "batch_size": batch_size}
    settings |= {"inference_type": inference_type} if inference_type else {}
    given = {"data": data, "test_data": test_data}
    return _Trained(aware, model, form, path, settings, given, input_shape)(latency=latency)


def _check_pair(aware, model):
    if not any(is_of(layer, "QuantizeWrapperV2") for layer in aware.layers):
        raise ValueError(
            f"Expected a model that quantize_aware has returned; got '{aware.name}', in which no "
            "layer is quantized. Bring its weights back by from_tf_keras(model, aware), and export "
            "what that returns by resrep_keras.export."
        )
    for what, own, other in (
        ("inputs", model.inputs, aware.inputs),
        ("outputs", model.outputs, aware.outputs),
    ):
        shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (own, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"Expected the model that '{aware.name}' was made of; the {what} of "
                f"'{model.name}' are of the shapes {shapes[0]}, those of '{aware.name}' "
                f"{shapes[1]}."
            )


class _Trained(Writing):
    """A file of a model of tf_keras, which goes by the names of the model that it was made of."""

    def __init__(self, aware, *args):
        self._aware = aware
        super().__init__(*args)

    def _rows(self):
        """Ranges are known."""
        return None

    def _own(self, model):
        def answer(inputs):
            outputs = self._aware(inputs, training=False)
            return [as_numbers(value) for value in keras.tree.flatten(outputs)]

        return answer


def _write(aware, model, path, quantization=None, rows=None, inference_type=None, batch_size=1):
    """Write `aware`; without a quantization the model that it was made of, which is as large."""
    if quantization is None:
        path.write_bytes(to_tflite(model, batch_size))
        return
    import tensorflow as tf

    function = _by_names(aware, signature_of(model), batch_size)
    module = tf.Module()
    module.variables_held = aware.variables
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        tf.saved_model.save(module, folder, signatures=function)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if inference_type is not None:
            converter.inference_input_type = tf.dtypes.as_dtype(inference_type)
            converter.inference_output_type = tf.dtypes.as_dtype(inference_type)
        path.write_bytes(converter.convert())


def _by_names(aware, signature, batch_size):
    """A model of tf_keras in inference as a TensorFlow function that goes by a `Signature`."""
    import tensorflow as tf

    def serve(*flat):
        outputs = aware(keras.tree.pack_sequence_as(signature.tensors, flat), training=False)
        return dict(zip(signature.outputs, keras.tree.flatten(outputs), strict=True))

    specs = [
        tf.TensorSpec((tensor.shape[0] or batch_size, *tensor.shape[1:]), tensor.dtype, name=name)
        for tensor, name in zip(keras.tree.flatten(signature.tensors), signature.inputs)
    ]
    return tf.function(serve, input_signature=specs)
