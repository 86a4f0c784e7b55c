"""A layer without a rule that trying has not made clear is opened, where that frees channels.

It holds no other layers, or it would be open already. Its `call` is run on symbolic tensors, and
what that calls stands in its place: operations, for which there are rules, and its own weights.
"""

import functools
import math

import keras

from resrep_keras.graph.composite import Closed, open_call
from resrep_keras.graph.flow import calls_as_known, flow, has_rule
from resrep_keras.graph.open_sizes import WINDOWS, OpenSizes
from resrep_keras.graph.own_weights import OwnWeights
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
