"""What a call does with symbolic tensors: a graph of its own, of which nothing can be removed.

It is read for what it multiplies, and never takes the place of the call: so it may hold constants,
what is called in inference only, and weights that no layer inside has.
"""

import contextlib
import functools

import keras
import numpy as np

from resrep_keras.graph.call import calls_of
from resrep_keras.graph.channels import ChannelGraph
from resrep_keras.graph.labels import WHOLE, Flow
from resrep_keras.graph.record import record
from resrep_keras.graph.recording import replaced, symbolic_tensors
from resrep_keras.keras_adapter import call_with_values, has_training_argument


def graph_inside(layer, args, kwargs):
    """The `ChannelGraph` of what `layer.call` does, all channels of which are `WHOLE`.

    Layers inside stay closed. No variable is changed, whatever the call assigns.

    Args:
        layer: The layer.
        args, kwargs: Arguments of the call; symbolic tensors stand for others of their shape.

    Returns:
        The graph, and `None`; or `None`, and the exception that the call raised on symbolic
        tensors.
    """
    inputs = {
        id(value): keras.Input(batch_shape=value.shape, dtype=value.dtype)
        for value in symbolic_tensors(args, kwargs)
    }
    args, kwargs = keras.tree.map_structure(functools.partial(replaced, inputs), (args, kwargs))
    if has_training_argument(layer):
        kwargs = {**kwargs, "training": False}
    try:
        with _losses_ignored(layer):
            outputs, _ = call_with_values(layer.call, (), *args, **kwargs)
        model = keras.Model(list(inputs.values()), outputs, name=layer.name)
    except Exception as error:  # code that only runs on arrays fails here in any way
        return None, error
    return whole_graph(record(model, is_known=lambda operation: True, whole=True)), None


@contextlib.contextmanager
def _losses_ignored(layer):
    """Let a call that adds a loss run on symbolic tensors, of which Keras takes none."""
    vars(layer)["add_loss"] = lambda loss: None
    try:
        yield
    finally:
        del vars(layer)["add_loss"]


class _Untraced:
    """In the place of the tracer: no rule is asked, and what is frozen does not matter."""

    frozen = frozenset()


def whole_graph(recording):
    """The `ChannelGraph` of a recording of which nothing can be removed: no rule is asked."""
    calls = calls_of(recording, _Untraced())
    for call in calls:
        inputs, outputs = (
            [Flow(np.full((1,) * len(x.shape), WHOLE), tuple(x.shape)) for x in tensors]
            for tensors in call.tensors
        )
        call.begin(inputs)
        call.outputs = tuple(outputs)
        call.detach()
    return ChannelGraph(
        calls=tuple(calls),
        groups=(),
        pins=(),
        num_channels=0,
        channel_of=np.array([WHOLE]),
        recording=recording,
    )
