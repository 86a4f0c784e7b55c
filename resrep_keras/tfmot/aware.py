"""quantize_aware(model): a copy in tf_keras that trains as if it computed in int8."""

import contextlib
import warnings
from unittest import mock

import keras

from resrep_keras.deploy.samples import AT_ONCE, chunks, first
from resrep_keras.surgery.forward import as_numbers, example_inputs
from resrep_keras.surgery.heads import largest_difference
from resrep_keras.tfmot.compiled import compile_as
from resrep_keras.tfmot.convert import to_tf_keras
from resrep_keras.tfmot.packages import keras_2, model_optimization, tensorflow_of_keras_2
from resrep_keras.tfmot.scheme import ACTIVATIONS, activation_of, is_of, scheme

ROUNDING = 1e-4  # in float32, of a share of the largest output
CALIBRATED = 500  # examples; more tell nothing new of ranges
FUSED = ("Conv2D", "DepthwiseConv2D", "Dense")  # which a batch normalisation behind is folded into
TAKEN_APART = ("SeparableConv2D",)  # into two layers that are quantized


def quantize_aware(model, calibration_data=None, *, leave_out=(), input_shape=None):
    """Make a copy of a slim model for quantisation-aware training (QAT).

    The copy is a model of tf_keras in which tensorflow-model-optimization rounds weights and
    activations to what int8 can hold, in training as in inference, so that training goes on with
    the weights that lose least. Train it for some epochs at a tenth of the last learning rate or
    less, then write it with `resrep_keras.tfmot.export`. It is worth it where
    `resrep_keras.export(quantization="int8")`, which needs no training, loses too much.

    Layers that tfmot cannot quantize stay in float32; a warning names them.

    Args:
        model: A built Keras model without compactors, on the TensorFlow backend.
        calibration_data: Some hundred inputs, as for `resrep_keras.export`, which the ranges of
            activations begin with. Defaults to `None`: they begin at -6 to 6, as tfmot does, and
            take a thousand steps to be found.
        leave_out: Names of layers to keep in float32.
        input_shape: See `to_tf_keras`.

    Returns:
        A `tf_keras.Model`, compiled as `model` is where tf_keras has the same optimizer, loss and
        metrics; where it has not, or `model` is not compiled, it is not compiled.

    Raises:
        ImportError: tf_keras or tensorflow-model-optimization is not installed.
        TypeError: Not a Keras model.
        ValueError: See `to_tf_keras`. Or `leave_out` names a layer that is not there, or no layer
            is left that can be quantized.

    Example:

    >>> aware = resrep_keras.tfmot.quantize_aware(slim, x_train[:200])
    >>> aware.fit(x_train, y_train, epochs=3)
    >>> resrep_keras.tfmot.export(aware, "slim.tflite", slim, test_data=(x_test, y_test))
    """
    tfmot = model_optimization()
    copy = to_tf_keras(model, input_shape)
    _check_names(copy, leave_out)
    _check_einsum(copy)
    left = [layer.name for layer in copy.layers if not _is_quantized(copy, layer, leave_out)]
    quantized = tfmot.quantization.keras

    def annotated(layer):
        return layer if layer.name in left else quantized.quantize_annotate_layer(layer)

    inputs = {layer.name for layer in copy.layers if is_of(layer, "InputLayer")}
    if len(left) == len(copy.layers):
        raise ValueError(
            f"Model '{model.name}' has no layer that tensorflow-model-optimization quantizes, but "
            "for those that are to be left out."
        )
    with tensorflow_of_keras_2(), quantized.quantize_scope():
        aware = quantized.quantize_apply(
            keras_2().models.clone_model(copy, clone_function=annotated), scheme()
        )
    if set(left) - inputs:
        warnings.warn(
            f"These layers of model '{model.name}' stay in float32, since tensorflow-model-"
            f"optimization does not quantize them: {', '.join(sorted(set(left) - inputs))}.",
            stacklevel=2,
        )
    _check_unrounded(copy, aware, example_inputs(model, input_shape=input_shape))
    if calibration_data is not None:
        _calibrate(aware, first(model, calibration_data, CALIBRATED, "calibration_data"))
    compile_as(model, aware)
    return aware


def _check_names(copy, leave_out):
    unknown = sorted(set(leave_out) - {layer.name for layer in copy.layers})
    if unknown:
        raise ValueError(
            f"Expected names of layers in leave_out; model '{copy.name}' has none called "
            f"{', '.join(map(repr, unknown))}."
        )


def _check_einsum(copy):
    found = [
        layer.name
        for layer in copy.layers
        if is_of(layer, "TFOpLambda") and "einsum" in layer.get_config()["function"]
    ]
    if found:
        raise ValueError(
            f"Model '{copy.name}' calls keras.ops.einsum ({', '.join(found)}), which tf_keras "
            "cannot copy. Write it as keras.layers.EinsumDense or keras.ops.matmul, or take "
            "resrep_keras.export(quantization='int8')."
        )


def _is_quantized(copy, layer, leave_out):
    """Whether tfmot quantizes a layer of a model of tf_keras."""
    if layer.name in leave_out or len(layer.inbound_nodes) > 1:
        return False
    if activation_of(layer) not in ACTIVATIONS:
        return False
    if is_of(layer, "BatchNormalization"):
        before = layer.inbound_nodes[0].inbound_layers
        return (
            is_of(before, *FUSED)
            and activation_of(before) == "linear"
            and len(before.outbound_nodes) == 1
            and before.name not in copy.output_names
            and _is_quantized(copy, before, leave_out)
        )
    return is_of(layer, *TAKEN_APART) or scheme().get_quantize_registry().supports(layer)


# --- ranges ---------------------------------------------------------------------------------------


def _calibrate(aware, inputs):
    """Let the ranges of all weights and activations begin with what examples show."""
    import tensorflow as tf

    seen = set()

    def observe(quantizer, inputs, training, weights, **_):
        """The first batch sets the range, each one that follows widens it."""
        low, high = weights["min_var"], weights["max_var"]
        smallest = tf.minimum(tf.reduce_min(inputs), 0.0)
        largest = tf.maximum(tf.reduce_max(inputs), 0.0)
        begun = id(low) in seen
        low.assign(tf.minimum(low, smallest) if begun else smallest)
        high.assign(tf.maximum(high, largest) if begun else largest)
        seen.add(id(low))
        return inputs

    last = model_optimization().quantization.keras.quantizers.LastValueQuantizer.__call__

    def of_weights(quantizer, inputs, training, weights, **how):
        return last(quantizer, inputs, True, weights, **how)

    with _quantizers(observe, of_weights):
        for batch, _ in chunks(inputs, AT_ONCE):
            aware(batch, training=False)


@contextlib.contextmanager
def _quantizers(of_activations, of_weights):
    """While it lasts, these stand for what tfmot's quantizers do with a tensor."""
    quantizers = model_optimization().quantization.keras.quantizers
    with (
        mock.patch.object(quantizers.AllValuesQuantizer, "__call__", of_activations),  # of inputs
        mock.patch.object(quantizers.MovingAverageQuantizer, "__call__", of_activations),
        mock.patch.object(quantizers.LastValueQuantizer, "__call__", of_weights),
    ):
        yield


def _check_unrounded(copy, aware, inputs):
    """Raise where a model differs by more from its copy than by what it rounds.

    Raises:
        ValueError: It does.
    """

    def nothing(quantizer, inputs, *_, **__):
        return inputs

    with _quantizers(nothing, nothing):
        found = [model(inputs, training=False) for model in (copy, aware)]
    apart = largest_difference(*([as_numbers(v) for v in keras.tree.flatten(f)] for f in found))
    if not apart.relative <= ROUNDING:
        raise ValueError(
            f"What tensorflow-model-optimization has made of model '{copy.name}' computes "
            f"something else: it differs by {apart.relative:.2g} of the largest output before "
            "anything is rounded. Name layers that it may have got wrong in leave_out."
        )
