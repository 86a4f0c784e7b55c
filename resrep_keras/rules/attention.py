"""Attention layers: heads, widths and hidden units have gates inside, part of the weights."""

import math

import keras
import numpy as np
from keras import layers

from resrep_keras.costs.macs import labels_along, macs, positions_of, times, whole_axis
from resrep_keras.costs.terms import Term
from resrep_keras.graph.flow import flow, register_all
from resrep_keras.graph.labels import State
from resrep_keras.layers.gated import gate_factors
from resrep_keras.layers.self_attention_pooling import SelfAttentionPooling
from resrep_keras.surgery.channel_weights import producing_variable
from resrep_keras.surgery.narrow import narrow, take, weight_values, weights_of

# --- Attention and AdditiveAttention: no projections ---------------------------------------------


@register_all(flow, layers.Attention, layers.AdditiveAttention)
def _attention_flow(layer, call):
    """Query and key are compared channel by channel; the output has the channels of the value."""
    given = call.flows_of(call.argument("inputs", 0))
    query, value, key = given if len(given) == 3 else (*given, given[1])
    last = len(query.shape) - 1
    query, key, value = (call.vector(x, len(x.shape) - 1) for x in (query, key, value))
    call.axis_in = last
    call.couple(query.labels.ravel(), key.labels.ravel())
    call.require(query)
    call.require(key)
    # Weights of a softmax sum to one, so that a constant stays one; all else varies.
    state = np.where(value.state > State.CONSTANT, State.VARYING, value.state).astype(np.int8)
    out = value.replace(shape=call.output_shape, state=state)
    scores = [call.neutral(shape) for shape in call.output_shapes[1:]]
    call.axis_out = len(call.output_shape) - 1
    return [out, *scores]


@macs.register
def _attention_macs(layer: layers.Attention, call):
    """The weighted sum of values; scores are a product with queries, or a sum without one."""
    parts = _summed_values(call)
    return parts if layer.score_mode == "dot" else parts[1:]


@macs.register
def _additive_macs(layer: layers.AdditiveAttention, call):
    """Scores are a sum over channels, each times its scale where there is one."""
    parts = _summed_values(call)
    return parts if layer.use_scale else parts[1:]


def _summed_values(call):
    """A product for each pair of positions and channel: of the scores, and of the weighted sum."""
    query, value = call.flows_of(call.argument("inputs", 0))[:2]
    rows, columns = (positions_of(x.shape, len(x.shape) - 1) for x in (query, value))
    pairs = None if None in (rows, columns) else rows * columns
    return [Term(pairs, (labels_along(x, len(x.shape) - 1),)) for x in (query, value)]


@narrow.register
def _attention_narrow(layer: layers.Attention, part):
    """Its weights, if any, are single numbers for all channels."""
    return {}, weight_values(layer)


@narrow.register
def _additive_narrow(layer: layers.AdditiveAttention, part):
    return {}, [take(weight, 0, part.keep_in[0]) for weight in weight_values(layer)]


# --- SelfAttentionPooling ------------------------------------------------------------------------


@flow.register
def _pooling_flow(layer: SelfAttentionPooling, call):
    """Each head has the channels of the sequence; hidden units stay inside."""
    for mask in call.flows_of(call.argument("mask", 1)):
        call.pin(mask, "a mask of positions")
    read = call.consume(call.input, 2)  # no bias takes up constants
    call.inner_channels("units", layer.units)
    call.axis_out = 2
    pooled = read.replace(shape=call.output_shape)
    return [pooled, *(call.neutral(shape) for shape in call.output_shapes[1:])]


@gate_factors.register
def _pooling_gates(layer: SelfAttentionPooling, gates):
    """Hidden units before their tanh, which is zero at zero."""
    return [gates["units"], None]


@narrow.register
def _pooling_narrow(layer: SelfAttentionPooling, part):
    old = weights_of(layer)
    units = part.inside.get("units", np.ones(layer.units, bool))
    hidden = take(take(old["hidden_kernel"], 0, part.keep_in[0]), 1, units)
    return {"units": int(units.sum())}, [hidden, take(old["score_kernel"], 0, units)]


@macs.register
def _pooling_macs(layer: SelfAttentionPooling, call):
    """Hidden units of each position, scores of each head, weighted sums."""
    length, channels = call.input.shape[1], labels_along(call.input, 2)
    units = call.inside.get("units", whole_axis(layer.units))
    scores = times(length, layer.heads)
    return [Term(length, (channels, units)), Term(scores, (units,)), Term(scores, (channels,))]


@producing_variable.register
def _pooling_weights(layer: SelfAttentionPooling, inside=None):
    return layer.hidden_kernel, 1


# --- MultiHeadAttention --------------------------------------------------------------------------


@flow.register
def _multi_head_flow(layer: layers.MultiHeadAttention, call):
    if len(call.output_shapes) > 1:
        return call.pin_all("a MultiHeadAttention that returns its scores")
    _project(call)
    config = layer.get_config()
    call.inner_channels("heads", config["num_heads"])
    widths = config["key_dim"], config["value_dim"] or config["key_dim"]
    if keras.backend.backend() == "jax" and widths[0] == widths[1]:
        call.inner_channels(
            "width", widths[0]
        )  # whose attention takes one width for keys and values
    else:
        call.inner_channels("key", widths[0])
        call.inner_channels("value", widths[1])
    axis = len(call.output_shape) - 1
    made = call.produce(axis, call.output_shape[axis])
    return call.site(made, axis, shifts=config["use_bias"])


@gate_factors.register
def _multi_head_gates(layer: layers.MultiHeadAttention, gates):
    both = gates.get("width")
    match, width = gates.get("key", both), gates.get("value", both)
    return _factors(layer, gates.get("heads"), match, width)


@narrow.register
def _multi_head_narrow(layer: layers.MultiHeadAttention, part):
    heads, both = part.inside.get("heads"), part.inside.get("width")
    match, width = part.inside.get("key", both), part.inside.get("value", both)
    changes = {"output_shape": part.keep_out.width}
    if part.inside:
        changes["num_heads"], changes["key_dim"] = int(heads.sum()), int(match.sum())
        changes["value_dim"] = int(width.sum())
    return changes, _weights_left(
        layer, part, query_heads=heads, heads=heads, match=match, width=width
    )


@macs.register
def _multi_head_macs(layer: layers.MultiHeadAttention, call):
    config, inside = layer.get_config(), call.inside
    both = inside.get("width")
    heads = inside.get("heads", whole_axis(config["num_heads"]))
    keys, values = config["key_dim"], config["value_dim"] or config["key_dim"]
    match = inside.get("key", whole_axis(keys) if both is None else both)
    width = inside.get("value", whole_axis(values) if both is None else both)
    return _terms(layer, call, heads, heads, match, width)


# --- GroupQueryAttention -------------------------------------------------------------------------


@flow.register
def _grouped_query_flow(layer: layers.GroupQueryAttention, call):
    if len(call.output_shapes) > 1:
        return call.pin_all("a GroupQueryAttention that returns its scores")
    _project(call)
    config = layer.get_config()
    call.inner_channels("heads", config["num_key_value_heads"])
    call.inner_channels("width", config["head_dim"])
    axis = len(call.output_shape) - 1
    out = call.produce(axis, call.output_shape[axis])
    # Keras wants one width for all of them.
    for flow_in in call.inputs:
        if len(flow_in.shape) == len(out.shape):
            call.couple(call.vector(flow_in, axis).labels.ravel(), out.labels.ravel())
    return call.site(out, axis, shifts=config["use_bias"])


@gate_factors.register
def _grouped_query_gates(layer: layers.GroupQueryAttention, gates):
    width = gates.get("width")
    return _factors(layer, gates.get("heads"), width, width)


@narrow.register
def _grouped_query_narrow(layer: layers.GroupQueryAttention, part):
    """Heads of keys and values go with all heads of the query that read them."""
    heads, width = part.inside.get("heads"), part.inside.get("width")
    query_heads, changes = None, {}
    if part.inside:
        query_heads = np.repeat(heads, _repeats(layer))
        changes["num_query_heads"] = int(query_heads.sum())
        changes["num_key_value_heads"] = int(heads.sum())
        changes["head_dim"] = int(width.sum())
    return changes, _weights_left(
        layer, part, query_heads=query_heads, heads=heads, match=width, width=width
    )


@macs.register
def _grouped_query_macs(layer: layers.GroupQueryAttention, call):
    config = layer.get_config()
    heads = call.inside.get("heads", whole_axis(config["num_key_value_heads"]))
    width = call.inside.get("width", whole_axis(config["head_dim"]))
    return _terms(layer, call, np.repeat(heads, _repeats(layer)), heads, width, width)


def _repeats(layer):
    """How many heads of the query read one head of keys and values."""
    config = layer.get_config()
    return config["num_query_heads"] // config["num_key_value_heads"]


# --- what layers with projections share ----------------------------------------------------------

# For each kind of inner channel, the kernel that makes it and the kernel's axis.
MAKERS = {
    None: ("attention_output/kernel", 2),
    "heads": ("value/kernel", 1),
    "value": ("value/kernel", 2),
    "width": ("value/kernel", 2),
    "key": ("query/kernel", 2),
}


@register_all(producing_variable, layers.MultiHeadAttention, layers.GroupQueryAttention)
def _projected_weights(layer, inside=None):
    name, axis = MAKERS[inside]
    return next(weight for weight in layer.weights if _name_of(weight) == name), axis


def _name_of(weight):
    """The last two parts of a weight's path: `value/kernel`."""
    return "/".join(weight.path.split("/")[-2:])


def _project(call):
    """The projections of an attention layer read query, value and key."""
    for name, position in (("query", 0), ("value", 1), ("key", 2)):
        for flow_in in call.flows_of(call.argument(name, position)):
            call.consume(flow_in, len(flow_in.shape) - 1)


def _factors(layer, heads, match, width):
    """A head or width vanishes with its values, a width of the keys with those of the query."""
    value = width if heads is None else heads[:, None] * (1.0 if width is None else width)
    factors = {"query/kernel": match, "query/bias": match}
    factors |= {"value/kernel": value, "value/bias": value}
    return [factors.get(_name_of(weight)) for weight in layer.weights]


def _weights_left(layer, part, query_heads, heads, match, width):
    """The weights of an attention layer, by masks of heads and widths; `None` = all."""
    query, value, key = (
        part.keep_of(name, position) for name, position in (("query", 0), ("value", 1), ("key", 2))
    )
    key = value if key is None else key
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
        name = _name_of(weight)
        for axis, keep in enumerate(keeps.get(name, ())):
            old = old if keep is None else take(old, axis, keep)
        old = old * rescale if name.startswith("query/") else old
        shifted = name == "attention_output/bias" and part.shift is not None
        weights.append(old + part.shift if shifted else old)
    return weights


def _terms(layer, call, query_heads, heads, match, width):
    """Projections, scores and weighted sums."""
    query, value, key = (
        call.flows_of(call.argument(name, position))
        for name, position in (("query", 0), ("value", 1), ("key", 2))
    )
    query, value = query[0], value[0]
    key = key[0] if key else value
    rows, columns = (positions_of(f.shape, len(f.shape) - 1) for f in (query, value))
    pairs = None if None in (rows, columns) else rows * columns
    read = {id(f): labels_along(f, len(f.shape) - 1) for f in (query, value, key)}
    out = labels_along(call.outputs[0], len(call.output_shape) - 1)
    terms = [
        Term(rows, (read[id(query)], query_heads, match)),
        Term(columns, (read[id(key)], heads, match)),
        Term(columns, (read[id(value)], heads, width)),
        Term(pairs, (query_heads, match)),
        Term(pairs, (query_heads, width)),
        Term(rows, (query_heads, width, out)),
    ]
    if any(_name_of(weight) == "gate/kernel" for weight in layer.weights):  # newer Keras has one
        terms.append(Term(rows, (read[id(query)], query_heads, width)))
    return terms
