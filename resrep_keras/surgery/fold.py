"""Fold compactors into the layers before them."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from keras import ops

from resrep_keras.graph.flow import rule_of
from resrep_keras.keras_adapter import call_with_values
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.gated import Gated, gate_factors
from resrep_keras.surgery.constraints import without_broken
from resrep_keras.surgery.mixed_norms import MixedNorm, covariances, is_batch_norm
from resrep_keras.surgery.narrow import (
    batch_norm_weights,
    corrections,
    narrow,
    take,
    weight_values,
)
from resrep_keras.surgery.outputs import Mixed, Scaled, Selected
from resrep_keras.surgery.parts import part_of, parts_of
from resrep_keras.surgery.rebuild import rebuild


def kernel_of(compactor):
    """The kernel of a compactor as a float64 matrix or vector."""
    kernel = np.asarray(ops.convert_to_numpy(compactor.kernel), np.float64)
    return kernel.reshape(kernel.shape[-1:] if compactor.diagonal else kernel.shape[-2:])


def kept_columns(graph, call, kept):
    """What a keep array leaves of the compactor of a call: bool `(channels,)`."""
    axis = call.operation.axis % len(call.input.shape)
    return graph.kept_labels(call.input.labels_along(axis), kept)


@dataclasses.dataclass(frozen=True)
class _TakenUp:
    """What a layer takes up of the compactor behind it.

    Args:
        keep_out, shift: See `Part`.
        activation, activity_regularizer: What the compactor applies, and asks of its outputs; the
            layer had them before.
    """

    keep_out: Selected
    shift: np.ndarray | None
    activation: Callable
    activity_regularizer: Callable | None = None


def fold(graph, kept=None, vectors=False, keep_batch_norm=False, inputs=None):
    """Fold each compactor into the layer that makes its channels, and remove channels at once.

    With the kernel `W` and bias `b` of a convolution, the scale `s = gamma / sqrt(variance + eps)`
    of its batch normalisation and the kept columns of the compactor `Q`, in float64:

    ```
    W' = W * s @ Q        b' = ((b - mean) * s + beta) @ Q
    ```

    A diagonal `Q` behind a batch normalisation becomes part of that one's scale and offset. With
    `keep_batch_norm` any other leaves one, too, see `MixedNorm`.

    Args:
        graph: `ChannelGraph` of a model with compactors.
        kept: Bool, one for each channel id. Defaults to all.
        vectors: Whether full compactors are diagonal, too, and taken for vectors.
        keep_batch_norm: Whether batch normalisations in front of compactors stay.
        inputs: Inputs that show how channels in front of them vary together; see `MixedNorm`.

    Returns:
        A Functional model without compactors.
    """
    kept = np.ones(graph.num_channels, bool) if kept is None else kept
    norms = _mixed_norms(graph, kept, inputs) if keep_batch_norm and not vectors else {}
    taken_up, drop = _taken_up(graph, kept, vectors, norms)
    parts = parts_of(graph, kept)
    change, source = {}, {}
    for name, call in graph.calls_by_name.items():
        part = parts.get(name)
        up = taken_up.get(name)
        if up is not None:
            part = part_of(graph, call, kept) if part is None else part
            part = dataclasses.replace(part, keep_out=up.keep_out, shift=up.shift)
        rule = _narrowed
        if isinstance(call.operation, Gated):
            source[name] = call.operation.layer
            rule = _narrowed_gated
        if name in norms:
            change[name] = functools.partial(_changed_norm, call, norms[name], part)
        elif name not in drop and (part is not None or name in source):
            change[name] = functools.partial(_changed, rule, call, part, up)
    behind = corrections(graph.recording, parts, change)
    return rebuild(graph.recording, change, behind, drop, source)


def _mixed_norms(graph, kept, inputs):
    """``{name: MixedNorm}`` of the batch normalisations in front of full compactors."""
    found = {}
    for call in graph.calls:
        if isinstance(call.operation, Compactor) and not call.operation.diagonal:
            source = graph.makers[call.input_ids[0]]
            if is_batch_norm(source):
                found[source.name] = call, source.operation
    measured = covariances(graph, found.keys(), inputs)
    return {
        name: MixedNorm(
            norm, kernel_of(call.operation), kept_columns(graph, call, kept), measured.get(name)
        )
        for name, (call, norm) in found.items()
    }


def _taken_up(graph, kept, vectors, norms):
    """``{layer name: _TakenUp}``, and the names of the calls that are dropped."""
    found, drop = {}, set()
    for call in graph.calls:
        compactor = call.operation
        if not isinstance(compactor, Compactor) or call.name in drop:
            continue
        drop.add(call.name)
        mask = kept_columns(graph, call, kept)
        matrix = kernel_of(compactor)
        source = graph.makers[call.input_ids[0]]
        if matrix.ndim == 1 or vectors:
            factors = matrix if matrix.ndim == 1 else np.diag(matrix)
            found[source.name] = _TakenUp(Scaled(mask, factors), None, *_tail(compactor))
            continue
        shift = None
        if source.name in norms:
            matrix = norms[source.name].matrix
            source = graph.makers[source.input_ids[0]]
        elif is_batch_norm(source):
            scale, offset, mean, variance = batch_norm_weights(source.operation)
            scale = scale / np.sqrt(variance + source.operation.epsilon)
            shift = (offset - mean * scale) @ matrix[:, mask]
            matrix = scale[:, None] * matrix
            drop.add(source.name)
            source = graph.makers[source.input_ids[0]]
        found[source.name] = _TakenUp(Mixed(mask, matrix), shift, *_tail(compactor))
    return found, drop


def _tail(compactor):
    return compactor.activation, compactor.activity_regularizer


def _changed(rule, call, part, up):
    """Settings and weights of a layer, with what it gets back from a compactor."""
    config, weights = rule(call, part)
    if up is not None and call.activates:
        config["activation"] = up.activation
    if up is not None and up.activity_regularizer is not None:
        config["activity_regularizer"] = up.activity_regularizer
    layer = call.operation.layer if isinstance(call.operation, Gated) else call.operation
    return without_broken(layer, config, weights, folded=up is not None), weights


def _changed_norm(call, mixed, part):
    """Settings and weights of a batch normalisation that stays in front of a compactor."""
    config, weights = mixed.weights()
    if part is not None:
        weights = [take(weight, 0, part.keep_out.mask) for weight in weights]
    return without_broken(call.operation, config, weights, folded=True), weights


def _narrowed(call, part):
    return rule_of(narrow, call.operation)(call.operation, part)


def _narrowed_gated(call, part):
    """What is left of the layer inside, once its gates are multiplied into its weights."""
    layer = call.operation.layer
    gates = {
        name: ops.convert_to_tensor(kernel_of(gate), "float32")
        for name, gate in call.operation.gates.items()
    }
    factors = rule_of(gate_factors, layer)(layer, gates)
    values = [
        value if factor is None else value * np.asarray(ops.convert_to_numpy(factor), np.float64)
        for value, factor in zip(weight_values(layer), factors)
    ]
    if part is None:
        return {}, values
    pairs = list(zip(layer.weights, values))
    return call_with_values(rule_of(narrow, layer), pairs, layer, part)[0]
