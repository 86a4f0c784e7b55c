"""How a TFLite file holds its numbers: the quantizations that `export` knows."""

import dataclasses
import itertools

import keras

from resrep_keras.common.checks import check_choice
from resrep_keras.graph.unroll import inputs_of
from resrep_keras.keras_adapter import input_name

LOOPS = {"While", "StatelessWhile"}


@dataclasses.dataclass(frozen=True)
class Quantization:
    """One of them.

    Args:
        name: Its name.
        words: What it does, in words.
        weights: The type that TensorFlow keeps weights in, where it is told.
        operations: The name of the set of TFLite's operations that compute so; `None` for all.
        inference_types: Types that inputs and outputs may have instead of float32.
        sparse: Whether kernels may be stored without their zeros beside.
    """

    name: str
    words: str
    weights: str | None = None
    operations: str | None = None
    inference_types: tuple = ()
    sparse: bool = False

    @property
    def is_calibrated(self):
        """Whether ranges of activations are read off examples."""
        return self.operations is not None

    def tell(self, converter, rows=None, inference_type=None):
        """Tell TensorFlow's converter.

        Args:
            converter: A `tf.lite.TFLiteConverter`.
            rows: Returns an iterable of single examples, ``{name: array}``.
            inference_type: That of inputs and outputs; then nothing may stay a float.
        """
        import tensorflow as tf

        converter.optimizations = [*converter.optimizations, tf.lite.Optimize.DEFAULT]
        if self.weights is not None:
            converter.target_spec.supported_types = [tf.dtypes.as_dtype(self.weights)]
        if self.is_calibrated:
            converter.representative_dataset = rows
            floats = [] if inference_type else [tf.lite.OpsSet.TFLITE_BUILTINS]
            converter.target_spec.supported_ops = [tf.lite.OpsSet[self.operations], *floats]
        if inference_type is not None:
            converter.inference_input_type = tf.dtypes.as_dtype(inference_type)
            converter.inference_output_type = tf.dtypes.as_dtype(inference_type)


# By their names.
QUANTIZATIONS = {
    each.name: each
    for each in (
        Quantization("float16", "weights in float16", weights="float16", sparse=True),
        Quantization("dynamic", "weights in int8, activations quantized at each call"),
        Quantization(
            "int8",
            "weights and activations in int8",
            operations="TFLITE_BUILTINS_INT8",
            inference_types=("int8", "uint8"),
            sparse=True,
        ),
        Quantization(
            "int16x8",
            "weights in int8, activations in int16",
            operations="EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8",
            inference_types=("int16",),
        ),
    )
}


def check_quantization(model, name, calibration_data=None, inference_type=None, sparse=False):
    """Return the `Quantization` of a name; `None` for none.

    Args:
        model: The model that is to be converted.
        name, calibration_data, inference_type, sparse: See `resrep_keras.export`.

    Raises:
        TypeError, ValueError: What cannot be, before anything is converted.
    """
    found = None
    if name is not None:
        found = QUANTIZATIONS[check_choice("quantization", name, list(QUANTIZATIONS))]
    if inference_type is not None:
        of = [q.name for q in QUANTIZATIONS.values() if q.inference_types]
        if found is None or not found.inference_types:
            raise ValueError(
                f"Expected quantization={' or '.join(map(repr, of))} with inference_type="
                f"{inference_type!r}; got quantization={name!r}, whose inputs and outputs are "
                "floats."
            )
        check_choice("inference_type", inference_type, list(found.inference_types))
    if found is None:
        return None
    if sparse and not found.sparse:
        able = [q.name for q in QUANTIZATIONS.values() if q.sparse]
        raise ValueError(
            f"Expected sparse=True with quantization={' or '.join(map(repr, able))}, or without "
            f"one; got quantization={name!r}, of which TensorFlow makes no sparse kernels."
        )
    if found.is_calibrated:
        _check_calibration(model, found, calibration_data)
    return found


def _check_calibration(model, quantization, calibration_data):
    texts = [
        input_name(tensor)
        for tensor in keras.tree.flatten(inputs_of(model))
        if tensor.dtype == "string"
    ]
    if texts:
        raise ValueError(
            f"Expected inputs of numbers with quantization='{quantization.name}', for which ranges "
            f"are read off examples; input '{texts[0]}' of model '{model.name}' takes text. Use "
            "quantization='float16' or 'dynamic', or split the layers that read text off the model."
        )
    if calibration_data is None:
        raise ValueError(
            f"Expected calibration_data with quantization='{quantization.name}': some hundred "
            "examples of what the model will read, from which the ranges of its activations are "
            "taken, such as calibration_data=x_train[:200]."
        )


def check_loops(model, function, quantization):
    """Raise where TensorFlow's calibration would end the process: it cannot play loops.

    Args:
        model: The model.
        function: It as a `tf.function` with a signature.
        quantization: The `Quantization`.

    Raises:
        ValueError: The model has a loop.
    """
    if not quantization.is_calibrated:
        return
    graph = function.get_concrete_function().graph.as_graph_def()
    inner = itertools.chain.from_iterable(f.node_def for f in graph.library.function)
    if LOOPS & {node.op for node in itertools.chain(graph.node, inner)}:
        raise ValueError(
            f"Model '{model.name}' has a loop, as recurrent layers have: TensorFlow cannot read "
            f"the ranges in it that quantization='{quantization.name}' needs. Use 'float16' or "
            "'dynamic', or a known number of time steps, with which recurrent layers are "
            "written out: 128 at most, or make them with unroll=True."
        )
