"""Bytes of the float32 TFLite file, predicted for any keep array and never too small."""

import functools

import numpy as np
from keras import ops

from resrep_keras.costs.params import ParamCost
from resrep_keras.keras_adapter import weights_of_operation
from resrep_keras.tflite.convert import check_backend, to_tflite

# A flatbuffer aligns each array to so many bytes, so that narrowing one may save less than its own.
ALIGNMENT = 16


@functools.singledispatch
def may_be_folded(layer):
    """Whether the converter may fold a layer's weights into others: they take up nothing then."""
    return False


def measure_file(dense, folded_model, folded_graph):
    """Convert the dense and the folded model once.

    Args:
        dense: The dense model.
        folded_model: The model that `finalize` would return if no channel were dead; its weights
            are overwritten.
        folded_graph: Its `ChannelGraph`.

    Returns:
        The bytes of the dense file, and the bytes that do not shrink with the channels.
    """
    check_backend()
    # Equal arrays, such as the zeros of fresh biases, are stored once: trained ones are not equal.
    generator = np.random.default_rng(0)
    for weight in folded_model.weights:
        weight.assign(ops.cast(generator.uniform(0.1, 1.0, weight.shape), weight.dtype))
    converted = len(to_tflite(folded_model))
    margin = ALIGNMENT * len(folded_model.weights) + _shared_biases(folded_graph)
    return len(to_tflite(dense)), converted - _ShrinkingBytes(folded_graph)() + margin


class FileCost:
    """Bytes of the float32 TFLite file, at most.

    Args:
        graph: `ChannelGraph` of a model without compactors.
        fixed_bytes: What `measure_file` has found.
    """

    unit = "bytes"

    def __init__(self, graph, fixed_bytes):
        self._fixed = int(fixed_bytes)
        self._shrinking = _ShrinkingBytes(graph)

    def __call__(self, kept=None):
        return self._fixed + self._shrinking(kept)


class _ShrinkingBytes(ParamCost):
    """What surely goes with the channels; weights that may be folded count nothing."""

    def __init__(self, graph):
        super().__init__(graph, _bytes_of_a_weight)


def _bytes_of_a_weight(call):
    return 0 if may_be_folded(call.operation) else 4


def _shared_biases(graph):
    """Bytes of the zeros that convolutions without a bias share while they are equally wide."""
    without = [
        call.output_shape[-1] or 0
        for call in graph.calls
        if weights_of_operation(call.operation)
        and call.operation.get_config().get("use_bias") is False
    ]
    return 4 * sum(without)
