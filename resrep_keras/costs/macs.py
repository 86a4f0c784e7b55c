"""Multiply-accumulates (MACs) of a model: one fused multiply-add is one MAC.

Counted are the products of convolutions, dense, recurrent and attention layers. Normalisation,
activations, pooling and biases count nothing, as in the published figures of the field. `macs` is an
open function; a rule answers with `Term`s, so that the cost is known for any number of channels.
"""

import functools
import math

import numpy as np
from keras import layers

from resrep_keras.costs.terms import Term, TermSum
from resrep_keras.graph.flow import channel_axis, register_all, rule_of
from resrep_keras.graph.trace import trace
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.gated import Gated, candidate_of
from resrep_keras.rules.sequences import CONV_RECURRENT, RECURRENT
from resrep_keras.rules.weights import EinsumAxes, is_depthwise


@functools.singledispatch
def macs(layer, call):
    """Return the `Term`s of one call of `layer`: one, a list, or `None` without weights."""
    return None


def _positions(shape, *without):
    """Number of positions of a tensor of this shape, some axes left out."""
    sizes = [size for axis, size in enumerate(shape) if axis and axis not in without]
    return None if None in sizes else math.prod(sizes)


def _vector(flow, axis):
    return flow.expanded([axis]).labels.ravel()


def _times(number, *others):
    return None if number is None else number * math.prod(others)


@register_all(macs, layers.Conv1D, layers.Conv2D, layers.Conv3D)
def _conv(layer, call):
    axis = channel_axis(layer, len(call.input.shape))
    positions = _positions(call.output_shape, axis)
    outputs = _vector(call.outputs[0], axis)
    inputs = _vector(call.input, axis)
    if layer.groups > 1:  # the inputs of one group; groups keep equally many
        inputs = inputs[: len(inputs) // layer.groups]
    factors = (outputs,) if is_depthwise(layer, call.input.shape[axis]) else (inputs, outputs)
    return Term(_times(positions, *layer.kernel_size), factors)


@register_all(macs, layers.SeparableConv1D, layers.SeparableConv2D)
def _separable(layer, call):
    axis = channel_axis(layer, len(call.input.shape))
    positions = _positions(call.output_shape, axis)
    inputs, outputs = _vector(call.input, axis), _vector(call.outputs[0], axis)
    return [
        Term(_times(positions, layer.depth_multiplier, *layer.kernel_size), (inputs,)),
        Term(_times(positions, layer.depth_multiplier), (inputs, outputs)),
    ]


@register_all(macs, layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
def _transposed(layer, call):
    """Each input position is multiplied with the whole kernel, as if no border cut it."""
    axis = channel_axis(layer, len(call.input.shape))
    positions = _positions(call.input.shape, axis)
    factors = _vector(call.input, axis), _vector(call.outputs[0], axis)
    return Term(_times(positions, *layer.kernel_size), factors)


@register_all(macs, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def _depthwise(layer, call):
    axis = channel_axis(layer, len(call.input.shape))
    positions = _positions(call.output_shape, axis)
    return Term(_times(positions, *layer.kernel_size), (_vector(call.outputs[0], axis),))


@macs.register
def _dense(layer: layers.Dense, call):
    axis = len(call.input.shape) - 1
    positions = _positions(call.output_shape, axis)
    return Term(positions, (_vector(call.input, axis), _vector(call.outputs[0], axis)))


@macs.register
def _einsum_dense(layer: layers.EinsumDense, call):
    axes = EinsumAxes(layer)
    if not axes.simple:  # nothing is removed: inputs times what each of them is multiplied with
        reads, kernel = layer.equation.replace(" ", "").split("->")[0].split(",")
        free = [
            size
            for letter, size in zip(kernel, layer.kernel.shape)
            if letter not in reads.replace("...", "")
        ]
        return Term(_times(_positions(call.input.shape), *free), ())
    axis = len(call.input.shape) + axes.input
    out = len(call.output_shape) + axes.output
    factors = _vector(call.input, axis), _vector(call.outputs[0], out)
    # Keras leaves sizes of the output open where the user did.
    return Term(_positions(call.input.shape, axis), factors)


@macs.register
def _spectral(layer: layers.SpectralNormalization, call):
    return rule_of(macs, layer.layer)(layer.layer, call)


@macs.register
def _compactor(layer: Compactor, call):
    axis = layer.axis % len(call.input.shape)
    labels = _vector(call.input, axis)
    return Term(
        _positions(call.output_shape, axis), (labels,) if layer.diagonal else (labels, labels)
    )


# --- recurrent and attention layers ------------------------------------------------------------


def _recurrent(layer, call, units):
    _, gates = candidate_of(layer)
    if isinstance(layer, CONV_RECURRENT):
        axis = channel_axis(layer, len(call.input.shape))
        time = call.input.shape[1]
        # The state is as large as an output without time.
        shape = layer.compute_output_shape(call.input.shape)
        shape = shape[0] if isinstance(shape[0], (list, tuple)) else shape
        sizes = shape[2:] if layer.return_sequences else shape[1:]
        first = layer.data_format == "channels_first"
        positions = None if None in sizes else math.prod(sizes[1:] if first else sizes[:-1])
        taps = math.prod(layer.kernel_size)
    else:
        axis, time, positions, taps = 2, call.input.shape[1], 1, 1
    steps = None if None in (time, positions) else time * positions
    return [
        Term(_times(steps, gates, taps), (_vector(call.input, axis), units)),
        Term(_times(steps, gates, taps), (units, units)),
    ]


@register_all(macs, *RECURRENT, *CONV_RECURRENT)
def _one_direction(layer, call):
    return _recurrent(layer, call, call.inside["units"])


@macs.register
def _bidirectional(layer: layers.Bidirectional, call):
    if "units" not in call.inside:
        return None
    return 2 * _recurrent(layer.forward_layer, call, call.inside["units"])


def _attention(call, query_heads, heads, match, width, gated):
    """Projections, scores and weighted sums."""
    query, value, key = (
        call.flows_of(call.argument(name, position))
        for name, position in (("query", 0), ("value", 1), ("key", 2))
    )
    query, value = query[0], value[0]
    key = key[0] if key else value
    rows, columns = (_positions(f.shape, len(f.shape) - 1) for f in (query, value))
    pairs = None if None in (rows, columns) else rows * columns
    read = {id(f): _vector(f, len(f.shape) - 1) for f in (query, value, key)}
    out = _vector(call.outputs[0], len(call.output_shape) - 1)
    terms = [
        Term(rows, (read[id(query)], query_heads, match)),
        Term(columns, (read[id(key)], heads, match)),
        Term(columns, (read[id(value)], heads, width)),
        Term(pairs, (query_heads, match)),
        Term(pairs, (query_heads, width)),
        Term(rows, (query_heads, width, out)),
    ]
    return [*terms, Term(rows, (read[id(query)], query_heads, width))] if gated else terms


@macs.register
def _multi_head(layer: layers.MultiHeadAttention, call):
    if not call.inside:
        return None
    both = call.inside.get("width")
    match, width = call.inside.get("key", both), call.inside.get("value", both)
    heads = call.inside["heads"]
    gated = layer.get_config().get("use_gate", False)
    return _attention(call, heads, heads, match, width, gated)


@macs.register
def _grouped_query(layer: layers.GroupQueryAttention, call):
    if not call.inside:
        return None
    config = layer.get_config()
    heads, width = call.inside["heads"], call.inside["width"]
    repeats = config["num_query_heads"] // config["num_key_value_heads"]
    gated = config.get("use_gate", False)
    return _attention(call, np.repeat(heads, repeats), heads, width, width, gated)


@macs.register
def _gated(layer: Gated, call):
    return rule_of(macs, layer.layer)(layer.layer, call)


class MacCost(TermSum):
    """Exact MACs of a graph for any keep array.

    Args:
        graph: A `ChannelGraph`.
        compactors: Whether to count compactors, which `finalize` folds away. Defaults to `True`.

    Raises:
        ValueError: The cost depends on a size that is unknown.
    """

    unit = "MACs"

    def __init__(self, graph, compactors=True):
        named_terms = []
        for call in graph.calls:
            if isinstance(call.operation, Compactor) and not compactors:
                continue
            terms = rule_of(macs, call.operation)(call.operation, call)
            terms = terms if isinstance(terms, list) else [terms] * (terms is not None)
            if any(None in (term.coefficient, call.repeats) for term in terms):
                raise ValueError(
                    f"The cost of layer '{call.name}' depends on its input shape "
                    f"{call.input.shape} and output shape {call.output_shape}, which are not all "
                    "known. Give input_shape=(height, width, channels), or build the model for a "
                    "fixed input size."
                )
            named_terms += [
                (call.name, Term(term.coefficient * call.repeats, term.factors)) for term in terms
            ]
        super().__init__(graph, named_terms)


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
