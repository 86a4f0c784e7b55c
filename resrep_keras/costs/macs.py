"""Multiply-accumulates (MACs) of a model: one fused multiply-add is one MAC.

Counted are the products of weights: convolutions and dense layers. Normalisation, activations,
pooling and biases count nothing, as in the published figures of the field. `macs` is an open
function; a rule answers with a `Term`, so that the cost is known for any number of channels.
"""

import dataclasses
import functools
import math

import numpy as np
from keras import layers

from resrep_keras.graph.flow import channel_axis, rule_of
from resrep_keras.graph.trace import trace
from resrep_keras.layers.compactor import Compactor


@dataclasses.dataclass(frozen=True)
class Term:
    """``coefficient * product of channel counts``, the cost of one call.

    Args:
        coefficient: MACs for one channel of each factor; `None` where a size is unknown.
        factors: Label arrays; each contributes the number of its kept entries.
    """

    coefficient: int | None
    factors: tuple


@functools.singledispatch
def macs(layer, call):
    """Return the `Term` of one call of `layer`, or `None` where it multiplies no weights."""
    return None


def _positions(shape, *without):
    """Number of positions of a tensor of this shape, some axes left out."""
    sizes = [size for axis, size in enumerate(shape) if axis and axis not in without]
    return None if None in sizes else math.prod(sizes)


def _vector(flow, axis):
    return flow.expanded([axis]).labels.ravel()


def _times(number, *others):
    return None if number is None else number * math.prod(others)


@macs.register(layers.Conv1D)
@macs.register(layers.Conv2D)
@macs.register(layers.Conv3D)
def _conv(layer, call):
    axis = channel_axis(layer, len(call.input.shape))
    positions = _positions(call.output_shape, axis)
    outputs = _made_labels(call, axis)
    if layer.groups > 1:
        per_channel = math.prod(layer.kernel_size) * call.input.shape[axis] // layer.groups
        return Term(_times(positions, per_channel), (outputs,))
    return Term(_times(positions, *layer.kernel_size), (_vector(call.input, axis), outputs))


@macs.register
def _depthwise(layer: layers.DepthwiseConv2D, call):
    axis = channel_axis(layer, len(call.input.shape))
    positions = _positions(call.output_shape, axis)
    return Term(_times(positions, *layer.kernel_size), (_vector(call.outputs[0], axis),))


@macs.register
def _dense(layer: layers.Dense, call):
    axis = len(call.input.shape) - 1
    positions = _positions(call.output_shape, axis)
    return Term(positions, (_vector(call.input, axis), _made_labels(call, axis)))


@macs.register
def _compactor(layer: Compactor, call):
    axis = layer.axis % len(call.input.shape)
    labels = _vector(call.input, axis)
    return Term(
        _positions(call.output_shape, axis), (labels,) if layer.diagonal else (labels, labels)
    )


def _made_labels(call, axis):
    """Labels of the channels a layer makes, also where its activation has pinned the output."""
    return _vector(call.outputs[0], axis)


class MacCost:
    """Exact MACs of a graph for any keep array.

    Args:
        graph: A `ChannelGraph`.
        compactors: Whether to count compactors, which `finalize` folds away. Defaults to `True`.

    Raises:
        ValueError: The cost depends on a size that is unknown.
    """

    unit = "MACs"

    def __init__(self, graph, compactors=True):
        self.names, coefficients, factors, lengths = [], [], [], []
        for call in graph.calls:
            if isinstance(call.operation, Compactor) and not compactors:
                continue
            term = rule_of(macs, call.operation)(call.operation, call)
            if term is None:
                continue
            if term.coefficient is None:
                raise ValueError(
                    f"The cost of layer '{call.name}' depends on its output shape "
                    f"{call.output_shape}, which is not known. Give input_shape=(height, width, "
                    "channels), or build the model for a fixed input size."
                )
            self.names.append(call.name)
            coefficients.append(term.coefficient)
            factors.extend(graph.channel_of[factor] for factor in term.factors)
            lengths.append(len(term.factors))
        # One flat array of channel ids: a keep array is counted for all layers in one pass.
        self._coefficients = np.array(coefficients, np.int64)
        self._ids = np.concatenate(factors or [np.zeros(0, np.int64)])
        self._starts = np.cumsum([0, *map(len, factors)])[:-1]
        self._terms = np.cumsum([0, *lengths])[:-1]

    def _totals(self, kept):
        if not self.names:
            return np.zeros(0, np.int64)
        # Index -1, a pinned channel, reads the last entry: always kept.
        kept = np.ones(1, bool) if kept is None else np.append(kept, True)
        present = kept[self._ids] if len(kept) > 1 else np.ones(len(self._ids), bool)
        counts = np.add.reduceat(present, self._starts, dtype=np.int64)
        return self._coefficients * np.multiply.reduceat(counts, self._terms)

    def by_layer(self, kept=None):
        """``{layer name: MACs}`` for a bool array with one entry per channel id."""
        totals = dict.fromkeys(self.names, 0)
        for name, macs_of_call in zip(self.names, self._totals(kept).tolist()):
            totals[name] += macs_of_call
        return totals

    def __call__(self, kept=None):
        """Total MACs, an int."""
        return int(self._totals(kept).sum())


def count_macs(model, input_shape=None):
    """Count the multiply-accumulates of one forward pass for one example.

    Args:
        model: A built Functional or Sequential `keras.Model`.
        input_shape: Shape without the batch axis, needed where the model's own has unknown sizes.

    Returns:
        An int. "FLOPs" in the sense of twice this number are not used here.

    Example:

    >>> resrep_keras.count_macs(keras.applications.ResNet50(weights=None))
    3857973248
    """
    return MacCost(trace(model, input_shape))()
