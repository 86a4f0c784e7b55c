"""A layer without a rule that trying has not made clear is opened, where that frees channels.

It holds no other layers, or it would be open already. Its `call` is run on symbolic tensors, and
what that calls stands in its place: operations, for which there are rules, and its own weights.
"""

import dataclasses
import functools
import math

import keras

from resrep_keras.graph.composite import Closed, open_call
from resrep_keras.graph.flow import calls_as_known, flow, has_rule
from resrep_keras.graph.open_sizes import WINDOWS, OpenSizes
from resrep_keras.graph.own_weights import OwnWeights
from resrep_keras.graph.pins import PinKind
from resrep_keras.graph.record import with_opened
from resrep_keras.graph.recording import replaced, symbolic_tensors
from resrep_keras.graph.sizes import leaves_open
from resrep_keras.graph.unroll import inputs_of, is_graph
from resrep_keras.keras_adapter import automatic_names_kept, is_layer, variables_asked


def may_be_opened(model, input_shape):
    """Whether the calls of a model are the same whatever an `input_shape` says."""
    if is_graph(model):
        return not leaves_open(keras.tree.flatten(inputs_of(model)))
    return input_shape is None


def num_free(graph):
    """How many channels of a `ChannelGraph` may go."""
    return sum(int((~group.pinned).sum()) for group in graph.groups if group.prunable)


def with_nearer_reasons(graph, others, inexact):
    """A `ChannelGraph` with what other graphs of the model tell of channels without a rule.

    Where a layer is left closed because opening it frees nothing, what keeps its channels all the
    same is seen inside of it, or behind.

    Args:
        graph: The `ChannelGraph`.
        others: Those of the same model with more layers open, in their order.
        inexact: A function of a recording that makes the graph in which all may go that would only
            change outputs: what stays there stays for another reason.
    """
    unclear = {channel for group in graph.groups for channel in _without_rule(group)}
    if not unclear:
        return graph
    told = {}
    for other in (other for other in reversed(others) if other is not graph):
        for key, pin in _pins_of_producers(other).items():
            if _is_nearer(pin, graph):
                told.setdefault(key, _seen_from_outside(pin, graph, other))
    own = {key for key, channel in _channels_of_producers(graph) if channel in unclear}
    if any(told[key].kind is PinKind.INEXACT for key in own & told.keys()):
        other = inexact(others[-1].recording)
        for key, pin in _pins_of_producers(other).items():
            if pin is not None and key in told and told[key].kind is PinKind.INEXACT:
                told.pop(key)
                if _is_nearer(pin, graph):
                    told[key] = _seen_from_outside(pin, graph, other)
    of_channel = {
        channel: told[key]
        for key, channel in _channels_of_producers(graph)
        if channel in unclear and key in told
    }
    if not of_channel:
        return graph
    groups = tuple(_told(group, of_channel) for group in graph.groups)
    return dataclasses.replace(graph, groups=groups)


def _is_nearer(pin, graph):
    """Whether a pin tells more than that a layer has no rule.

    What a removed channel leaves in front of another layer comes of that one.
    """
    if pin is None or pin.kind is PinKind.NO_RULE:
        return False
    return pin.kind is not PinKind.NO_BIAS or pin.layer not in graph.calls_by_name


def _seen_from_outside(pin, graph, opened):
    """A pin of a call inside of a layer that is closed here: it is that of the layer."""
    if pin.layer in graph.calls_by_name or pin.layer not in opened.calls_by_name:
        return pin
    around = [name for name in opened.calls_by_name[pin.layer].path if name in graph.calls_by_name]
    if not around:
        return pin
    return dataclasses.replace(pin, layer=around[-1], text=f"its {pin.layer}: {pin.text}")


def _without_rule(group):
    pairs = zip(group.channels.tolist(), group.reasons)
    return [c for c, pin in pairs if pin is not None and pin.kind is PinKind.NO_RULE]


def _channels_of_producers(graph):
    """Pairs of ``(layer, what is inside, position)`` and a channel id."""
    for group in graph.groups:
        for producer in group.producers:
            for position, channel in enumerate(producer.channels.tolist()):
                yield (producer.layer, producer.inside, position), channel


def _pins_of_producers(graph):
    pins = {}
    for group in graph.groups:
        pins.update(zip(group.channels.tolist(), group.reasons))
    return {key: pins[channel] for key, channel in _channels_of_producers(graph)}


def _told(group, of_channel):
    """A group with the pins that are known of its channels."""
    pairs = zip(group.channels.tolist(), group.reasons)
    reasons = tuple(of_channel.get(channel, pin) for channel, pin in pairs)
    reason = group.reason and reasons[0]
    return dataclasses.replace(group, reason=reason, reasons=reasons)


def without_unclear(graph):
    """The recording of a `ChannelGraph` in which unclear layers are open; `None` without any."""
    calls = {call.name: call for call in graph.calls if call.name not in graph.frozen}
    unclear = {name for name, call in calls.items() if is_layer(call.operation) and _hides(call)}

    def graph_of(recorded):
        return _inside(recorded) if recorded.name in unclear and recorded.inner is None else None

    if not unclear or leaves_open(keras.tree.flatten(graph.recording.inputs)):
        return None
    with automatic_names_kept():
        found = with_opened(graph.recording, calls_as_known, graph_of)
    return None if found is graph.recording else found


def _hides(call):
    """Whether a layer was tried and keeps channels, or may make some between two matrices."""
    if call.closed is not None or has_rule(flow, call.operation):
        return False
    matrices = [w for w in call.operation.weights if max(w.shape, default=1) < math.prod(w.shape)]
    return call.is_unclear or len(matrices) > 1


def _inside(recorded):
    """The graph inside a call and its input tensors, or `None`."""
    layer, args, kwargs = recorded.operation, recorded.args, recorded.kwargs
    try:
        found = open_call(layer, args, kwargs, alone=True)
        return None if _reads_others(layer, args, kwargs) else found
    except Closed:
        return None


def _reads_others(layer, args, kwargs):
    """Whether a call takes numbers from variables that are not its own, as a function may.

    They would be constants in its graph, and stand still in training.
    """
    tensors = symbolic_tensors(args, kwargs)
    sizes = OpenSizes({}, (), WINDOWS)  # it may ask how large the batch is
    inputs = sizes.inputs(tensors)
    fresh = dict(zip(map(id, tensors), inputs))
    look_up = functools.partial(replaced, fresh)
    args, kwargs = keras.tree.map_structure(look_up, (args, kwargs))
    with OwnWeights(layer, []).as_tensors(inputs), sizes.making(inputs, tensors):
        asked = variables_asked(layer.call, *args, **kwargs)
    return not asked <= set(map(id, layer.variables))
