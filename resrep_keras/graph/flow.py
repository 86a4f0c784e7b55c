"""How channels pass through a layer: one small rule per kind of layer, labels in -> labels out.

`flow` is an open function in the manner of `functools.singledispatch`. A rule for a layer of one's
own is registered from outside:

    @flow.register(MyPointwiseLayer)
    def _(layer, call):
        return call.input.replace(shape=call.output_shape)

A rule receives the layer and a `Call` (see `resrep_keras.graph.call`) and returns one `Flow` for
each output. A layer without a rule is tried on arrays (`resrep_keras.rules.tried`); where that does
not show how channels pass, it pins its inputs and outputs. The rules for Keras's own layers
are in `resrep_keras.rules`, one family a file; here is what they share.
"""

import functools
import inspect

import keras

from resrep_keras.graph.inheritance import change_of
from resrep_keras.graph.labels import State
from resrep_keras.graph.pins import PinKind
from resrep_keras.graph.probe import in_words, try_function
from resrep_keras.keras_adapter import (
    activation_setting,
    activity_setting,
    data_format,
    weights_of_operation,
)


@functools.singledispatch
def flow(layer, call):
    """Return the `Flow` of each output of one call of `layer`."""
    return pin_without_rule(layer, call)


def pin_without_rule(layer, call, tried="", kind=PinKind.NO_RULE):
    """Keep what a layer without a rule reads and makes; see `without_rule`."""
    return call.pin_all(*without_rule(layer, call, tried, kind))


def without_rule(layer, call, tried="", kind=PinKind.NO_RULE):
    """Why channels of a layer without a rule are kept: text, kind and remedy of a `Pin`.

    Args:
        layer: The layer.
        call: The `Call`.
        tried: What trying it has shown, in words that go on from "and".
        kind: The `PinKind`.
    """
    name = type(layer).__name__
    base, change = _changed(layer)
    why = "" if base is None else f" (it {change}, on which the rule of {base.__name__} relies)"
    if call.closed is not None:
        why = f" ({call.closed})"
    text = (
        f"{name} has no rule for how channels pass through it{why}{tried and f', and {tried}'}; "
        f"register one with resrep_keras.graph.flow.flow.register({name})"
    )
    return text, kind, _remedy(layer, base)


def _remedy(layer, base):
    """What a user can do about a layer without a rule that trying has not made prunable."""
    name = type(layer).__name__
    remedy = (
        f"Register what {name} does with channels: resrep_keras.graph.flow.flow.register({name}). "
        f"Where it has weights, also resrep_keras.surgery.narrow.narrow.register({name}) and "
        f"resrep_keras.costs.macs.macs.register({name})."
    )
    if base is None:
        return remedy
    return (
        f"Put what is changed into a layer of its own behind a plain {base.__name__}. Or, "
        f"where channels pass through a subclass of it as through any {base.__name__}, "
        f"r{remedy[1:]}"
    )


def _changed(layer):
    """The class whose rule a layer does not inherit, and why; `(None, None)` without one."""
    base = _base_of(flow, layer)
    change = None if base is None else change_of(layer, base)
    return (None, None) if change is None else (base, change)


def rule_of(question, layer):
    """The rule of an open `question` for `layer`.

    A subclass inherits the rule of its base only where it computes the same thing; see
    `resrep_keras.graph.inheritance`.
    """
    base = _base_of(question, layer)
    inherited = base is not None and change_of(layer, base) is None
    return question.registry[base if inherited else object]


def _base_of(question, layer):
    """The class whose rule is that of `layer`, if nothing is changed; `None` without one."""
    found = (base for base in type(layer).__mro__ if base in question.registry)
    base = next(found, object)
    return None if base is object else base


def flows_behind(call):
    """The answer of `flow` to a call: a `Flow`, or one for each output."""
    operation = call.operation
    if not rule_of(takes_several_axes, operation)(operation):
        call.inputs = tuple(map(call.plain, call.inputs))
    return rule_of(flow, operation)(operation, call)


def has_rule(question, layer):
    """Whether an open `question` has an answer of its own for `layer`."""
    return rule_of(question, layer) is not question.registry[object]


def calls_as_known(layer):
    """Whether the `call` of a layer is that of a class whose rule is known, whatever it uses.

    Such a layer is one call, and nobody looks what is inside.
    """
    base = _base_of(flow, layer)
    if base is None:
        return False
    between = type(layer).__mro__[: type(layer).__mro__.index(base)]
    return not any("call" in vars(other) for other in between)


def register_all(question, *kinds):
    """Register one rule of an open `question` for several kinds of layer."""

    def decorate(rule):
        for kind in kinds:
            question.register(kind)(rule)
        return rule

    return decorate


def changes_settings(rule):
    """A rule for what gets other settings with fewer channels: without any, it keeps them all.

    Nor does it take a tensor of none: `-1` in a shape would be of any size.
    """

    @functools.wraps(rule)
    def guarded(operation, call):
        if any(flow_in.wide_axes for flow_in in call.inputs) and not _has_settings(call):
            return call.pin_all("an operation that was made with tensors, whose settings are fixed")
        call.need_one(*call.inputs)
        return rule(operation, call)

    return guarded


def _has_settings(call):
    if "settings" not in call.memo:
        try:
            call.memo["settings"] = call.operation.get_config()
        except NotImplementedError:  # Keras says so of what no file could hold
            call.memo["settings"] = None
    return call.memo["settings"] is not None


# --- other questions -------------------------------------------------------------------------


@functools.singledispatch
def takes_several_axes(layer):
    """Whether a rule of `flow` takes channels along several axes at once: `Flow.across`."""
    return False


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


def channel_axis(layer, rank):
    """The channel axis of what a layer with a `data_format` reads, of that rank."""
    return 1 if data_format(layer) == "channels_first" else rank - 1


# --- functions of one tensor -----------------------------------------------------------------


def apply_function(call, flow_in, function, shape=None):
    """The flow behind an element-wise function; pins where it mixes channels."""
    axes = tuple(axis for part in flow_in.parts for axis in part.wide_axes) or (-1,)
    key = "tried", axes
    if key not in call.memo:
        try:
            call.memo[key] = try_function(function, flow_in.shape, axes)
        except Exception as error:  # a function of the user's may fail in any way
            text = f"a function that could not be tried on arrays: {in_words(error)}"
            return call.pin(flow_in, text, PinKind.UNTRIED)
    tried = call.memo[key]
    if not tried.pointwise:
        named = inspect.isroutine(function) and function.__name__ not in ("<lambda>", "function")
        name = f"{function.__name__}, " * named
        return call.pin(flow_in, f"{name}a function that mixes channels", PinKind.MIXES)
    flow_out = flow_in.replace(shape=tuple(shape or flow_in.shape))
    if tried.zeros is State.ZERO:
        return flow_out
    if tried.zeros is None:
        text = "a function that has no finite value at zero, where removed channels are"
        for part in flow_out.parts:
            zero = part.state == State.ZERO
            call.pin(part.replace(labels=part.labels[zero]), text, PinKind.NOT_FINITE)
    flow_out = call.constant(flow_out)
    return call.uneven(flow_out) if tried.zeros is State.FIXED else flow_out


def activate(call, flow_out, activation):
    """The flow behind the `activation` of a layer, which a compactor stands in front of."""
    call.activates = True
    call.activation = activation
    if activation is None or activation is keras.activations.linear:
        return flow_out
    return apply_function(call, flow_out, activation)
