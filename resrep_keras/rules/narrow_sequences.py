"""Recurrent and attention layers with fewer channels."""

import math

import numpy as np
from keras import layers

from resrep_keras.graph.flow import register_all, rule_of
from resrep_keras.layers.gated import candidate_of, part_of
from resrep_keras.rules.sequences import CONV_RECURRENT, RECURRENT
from resrep_keras.surgery.narrow import narrow, take, weight_values


def _recurrent_weights(layer, values, part, keep):
    """Kernel, recurrent kernel and bias of one direction."""
    _, number = candidate_of(layer)
    columns = np.tile(keep, number)
    kernel, recurrent, *bias = values
    if part.constants is not None:
        gone = np.where(part.keep_in[0], 0.0, part.constants)
        added = gone @ kernel.sum(axis=tuple(range(kernel.ndim - 2)))
        bias = bias or [np.zeros(_bias_shape(layer, len(added)))]
        row = bias[0][0] if bias[0].ndim == 2 else bias[0]
        row += added
    kernel = take(take(kernel, -2, part.keep_in[0]), -1, columns)
    recurrent = take(take(recurrent, -2, keep), -1, columns)
    return [kernel, recurrent, *(take(b, -1, columns) for b in bias)]


def _bias_shape(layer, width):
    return (2, width) if getattr(layer, "reset_after", False) else (width,)


def _width_name(layer):
    return "filters" if isinstance(layer, CONV_RECURRENT) else "units"


def _in_order(layer, weights):
    """New weights in the places of a layer's kernels and biases; other weights stay."""
    weights = iter(weights)
    return [
        next(weights) if weight.path.endswith(("kernel", "bias")) else value
        for weight, value in zip(layer.weights, weight_values(layer))
    ] + list(weights)


@register_all(narrow, *RECURRENT, *CONV_RECURRENT)
def _recurrent(layer, part):
    keep = part.inside["units"]
    values = [
        value
        for weight, value in zip(layer.weights, weight_values(layer))
        if weight.path.endswith(("kernel", "bias"))
    ]
    new = _recurrent_weights(layer, values, part, keep)
    return {_width_name(layer): int(keep.sum()), "use_bias": len(new) > 2}, _in_order(layer, new)


@narrow.register
def _bidirectional(layer: layers.Bidirectional, part):
    parts = [
        rule_of(narrow, direction)(direction, part)
        for direction in (layer.forward_layer, layer.backward_layer)
    ]
    return parts[0][0], [*parts[0][1], *parts[1][1]]


def _attention_weights(layer, keeps):
    """Take from each weight what `keeps` says of its axes: ``{weight: one mask for each axis}``."""
    new = []
    for weight, value in zip(layer.weights, weight_values(layer)):
        for axis, keep in enumerate(keeps.get(part_of(weight), ())):
            if keep is not None:
                value = take(value, axis, keep)
        new.append(value)
    return new


def _scale_queries(layer, weights, factor):
    """Keras divides scores by the square root of the width, which is another one now."""
    return [
        value * factor if part_of(weight).startswith("query/") else value
        for weight, value in zip(layer.weights, weights)
    ]


def _projections(layer, part, changes, **axes):
    """The weights of an attention layer; `axes` are masks of heads and widths, `None` = all."""
    query, value, key = (
        part.keep_of(name, position) for name, position in (("query", 0), ("value", 1), ("key", 2))
    )
    key = value if key is None else key
    query_heads, heads = axes["query_heads"], axes["heads"]
    match, width = axes["match"], axes["width"]
    keeps = {
        "query/kernel": (query, query_heads, match),
        "query/bias": (query_heads, match),
        "key/kernel": (key, heads, match),
        "key/bias": (heads, match),
        "value/kernel": (value, heads, width),
        "value/bias": (heads, width),
        "gate/kernel": (query, query_heads, width),
        "gate/bias": (query_heads, width),
        "attention_output/kernel": (query_heads, width, part.keep_out),
        "attention_output/bias": (part.keep_out,),
    }
    # Keras divides scores by the square root of the width, which is another one now.
    rescale = 1.0 if match is None else math.sqrt(match.mean())
    weights = []
    for weight, old in zip(layer.weights, weight_values(layer)):
        name = part_of(weight)
        for axis, keep in enumerate(keeps.get(name, ())):
            old = old if keep is None else take(old, axis, keep)
        old = old * rescale if name.startswith("query/") else old
        shifted = name == "attention_output/bias" and part.shift is not None
        weights.append(old + part.shift if shifted else old)
    return changes, weights


@narrow.register
def _multi_head(layer: layers.MultiHeadAttention, part):
    heads, both = part.inside.get("heads"), part.inside.get("width")
    match, width = part.inside.get("key", both), part.inside.get("value", both)
    changes = {"output_shape": part.keep_out.shape[-1]}
    if part.keep_out.dtype == bool:
        changes["output_shape"] = int(part.keep_out.sum())
    if part.inside:
        changes["num_heads"], changes["key_dim"] = int(heads.sum()), int(match.sum())
        changes["value_dim"] = int(width.sum())
    return _projections(
        layer, part, changes, query_heads=heads, heads=heads, match=match, width=width
    )


@narrow.register
def _grouped_query(layer: layers.GroupQueryAttention, part):
    """Heads of keys and values go with all heads of the query that read them."""
    heads, width = part.inside.get("heads"), part.inside.get("width")
    config = layer.get_config()
    repeats = config["num_query_heads"] // config["num_key_value_heads"]
    query_heads = None if heads is None else np.repeat(heads, repeats)
    changes = {}
    if part.inside:
        changes["num_query_heads"] = int(query_heads.sum())
        changes["num_key_value_heads"] = int(heads.sum())
        changes["head_dim"] = int(width.sum())
    return _projections(
        layer, part, changes, query_heads=query_heads, heads=heads, match=width, width=width
    )


@narrow.register
def _additive_attention(layer: layers.AdditiveAttention, part):
    return {}, [take(weight, 0, part.keep_in[0]) for weight in weight_values(layer)]
