"""How channels pass through a layer: one small rule per kind of layer, labels in -> labels out.

`flow` is an open function in the manner of `functools.singledispatch`. A rule for a layer of one's
own is registered from outside:

    @flow.register(MyPointwiseLayer)
    def _(layer, call):
        return call.input.replace(shape=call.output_shape)

A rule receives the layer and a `Call` (see `resrep_keras.graph.call`) and returns one `Flow` for
each output. A layer without a rule pins its inputs and outputs. The rules for Keras's own layers
are in `resrep_keras.rules`, one family a file; here is what they share.
"""

import functools

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.pins import PinKind
from resrep_keras.keras_adapter import (
    activation_setting,
    activity_setting,
    weights_of_operation,
)


@functools.singledispatch
def flow(layer, call):
    """Return the `Flow` of each output of one call of `layer`."""
    kind = type(layer).__name__
    return call.pin_all(
        f"{kind} has no rule for how channels pass through it; register one with "
        f"resrep_keras.graph.flow.flow.register({kind})",
        PinKind.NO_RULE,
        f"Register what {kind} does with channels: resrep_keras.graph.flow.flow.register({kind}). "
        f"Where it has weights, also resrep_keras.surgery.narrow.narrow.register({kind}) and "
        f"resrep_keras.costs.macs.macs.register({kind}).",
    )


def rule_of(question, layer):
    """The rule of an open `question` for `layer`.

    A subclass inherits the rule of its base only where it computes the same thing, that is where
    it does not override `call`.
    """
    for base in type(layer).__mro__:
        if base in question.registry:
            return question.registry[object if _overrides_call(type(layer), base) else base]
    return question.registry[object]


def _overrides_call(kind, base):
    between = kind.__mro__[: kind.__mro__.index(base)]
    return any("call" in vars(other) for other in between)


def has_rule(question, layer):
    """Whether an open `question` has an answer of its own for `layer`."""
    return rule_of(question, layer) is not question.registry[object]


def register_all(question, *kinds):
    """Register one rule of an open `question` for several kinds of layer."""

    def decorate(rule):
        for kind in kinds:
            question.register(kind)(rule)
        return rule

    return decorate


# --- other questions -------------------------------------------------------------------------


@functools.singledispatch
def depends_on_channels(layer):
    """Whether a layer that is called twice must see the same channels each time."""
    return bool(weights_of_operation(layer))


@functools.singledispatch
def activation_of(layer):
    """The function that a layer applies last, also where another layer wraps it; else `None`.

    A layer of one's own has it in its attribute `activation`, as those of Keras.
    """
    return activation_setting(layer)


@functools.singledispatch
def activity_regularizer_of(layer):
    """What a layer adds to the loss for its outputs, also where another layer wraps it."""
    return activity_setting(layer)


def is_linear(layer):
    """Whether a layer applies no activation last, and asks nothing of its outputs."""
    linear = activation_of(layer) in (None, keras.activations.linear)
    return linear and activity_regularizer_of(layer) is None


# --- what a function does to zeros -----------------------------------------------------------


def _probe_input(width, rank, seed):
    shape = (2,) + (1,) * (rank - 2) + (width,)
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def commutes_with_selection(function, rank=2):
    """Whether selecting channels before and after `function` gives the same."""
    for seed, width in enumerate((8, 5)):
        x = _probe_input(width, rank, seed)
        chosen = [1, 2, width - 1]
        try:
            whole = ops.convert_to_numpy(function(ops.convert_to_tensor(x)))
            part = ops.convert_to_numpy(function(ops.convert_to_tensor(x[..., chosen])))
        except Exception:  # an arbitrary user function may fail in any way: it is then unknown
            return False
        if whole.shape != x.shape or not np.allclose(whole[..., chosen], part, atol=1e-6):
            return False
    return True


def keeps_zero(function):
    """Whether ``function(0) == 0``."""
    value = ops.convert_to_numpy(function(ops.zeros((1, 1), "float32")))
    return bool((value == 0).all())


def _probe(function, rank):
    pointwise = commutes_with_selection(function, rank)
    return pointwise, pointwise and keeps_zero(function)


_probe_once = functools.cache(_probe)


def _is_of_keras(function):
    return any(function is known for known in vars(keras.activations).values())


def apply_function(call, flow_in, function, shape=None):
    """The flow behind an element-wise function; pins where it mixes channels."""
    rank = max(2, len(flow_in.shape))
    if _is_of_keras(function):
        pointwise, zero = _probe_once(function, rank)
    else:
        if "probe" not in call.memo:
            call.memo["probe"] = _probe(function, rank)
        pointwise, zero = call.memo["probe"]
    if not pointwise:
        text = "an activation that mixes channels or is unknown"
        return call.pin(flow_in, text, PinKind.MIXES)
    flow_out = flow_in.replace(shape=tuple(shape or flow_in.shape))
    return flow_out if zero else call.constant(flow_out)


def activate(call, flow_out, activation):
    """The flow behind the `activation` of a layer, which a compactor stands in front of."""
    call.activates = True
    call.activation = activation
    if activation is None or activation is keras.activations.linear:
        return flow_out
    return apply_function(call, flow_out, activation)
