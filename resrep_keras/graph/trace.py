"""trace(model): the one pass that finds channel labels, groups, compactor sites and pins.

The calls of the model are recorded once, the rules run over them (`graph/tracer`), and what they
have found is put together (`graph/grouping`).
"""

import collections.abc
import functools

import keras

from resrep_keras.common.checks import check_bool
from resrep_keras.common.types import InputShape
from resrep_keras.graph import record as recorder
from resrep_keras.graph.channels import ChannelGraph
from resrep_keras.graph.flow import calls_as_known
from resrep_keras.graph.grouping import channel_graph
from resrep_keras.graph.labels import State
from resrep_keras.graph.opened import (
    may_be_opened,
    num_free,
    with_nearer_reasons,
    without_unclear,
)
from resrep_keras.graph.recording import Recording, resized
from resrep_keras.graph.sizes import sized
from resrep_keras.graph.tracer import Tracer
from resrep_keras.graph.unroll import check_model, is_graph
from resrep_keras.keras_adapter import is_frozen


def recording_of(
    model: keras.Model, input_shape: InputShape = None, whole: bool = False
) -> Recording:
    """The `Recording` of a model's calls, in which layers that have a rule stay closed.

    What matters in training only is left out, unless the `whole` recording is wanted. With an
    `input_shape` it has the same calls: there is one copy for all sizes.
    """
    if input_shape is None or not is_graph(model):
        return recorder.record(model, input_shape, calls_as_known, whole)
    own = recorder.record(model, None, calls_as_known, whole)
    return resized(own, sized(own.inputs, input_shape))


def trace(
    model: keras.Model,
    input_shape: InputShape = None,
    exact: bool = True,
    spare_frozen: bool = False,
) -> ChannelGraph:
    """Find out which channels of a model live and die together.

    Args:
        model: A built `keras.Model`: Functional, Sequential, nested, or a subclass whose `call` can
            be written out as a graph.
        input_shape: Shape without the batch axis, for a model with unknown sizes whose costs are
            wanted. Defaults to the model's own.
        exact: Whether to pin channels whose removal changes outputs, because something is computed
            over all channels together (layer normalisation). Defaults to `True`.
        spare_frozen: Whether layers that are frozen now (`trainable=False`) are left whole, as
            methods do; see `trace_recording`. Defaults to `False`.

    Returns:
        A `ChannelGraph`.

    Raises:
        TypeError: Not a Keras model.
        ValueError: A model without a graph (never built, or of a subclass that only runs on
            arrays).

    Example:

    >>> graph = resrep_keras.trace(keras.applications.ResNet50(weights=None))
    >>> [group.name for group in graph.groups if group.prunable][:2]
    ['conv1_conv', 'conv2_block1_1_conv']
    """
    check_model(model)
    exact = check_bool("exact", exact)
    recording = recording_of(model, input_shape)
    frozen = frozen_layers(recording) if spare_frozen else ()
    graph = trace_recording(recording, exact, frozen=frozen)
    if not may_be_opened(model, input_shape):
        return graph
    graphs = _with_layers_open(graph, exact)
    return _told(max(graphs, key=num_free), graphs)


def _with_layers_open(graph, exact):
    """A graph, and others of the same model in which more and more unclear layers are open."""
    graphs, opened = [graph], without_unclear(graph)
    while opened is not None:  # what lies behind may be unclear now
        graphs.append(trace_recording(opened, exact, frozen=graph.frozen, known=graph.known))
        opened = without_unclear(graphs[-1])
    return graphs


def _told(graph, graphs):
    known = {"frozen": graph.frozen, "known": graph.known}
    return with_nearer_reasons(
        graph, graphs, functools.partial(trace_recording, exact=False, **known)
    )


def told_at_its_sizes(graph: ChannelGraph, exact: bool = True) -> ChannelGraph:
    """The graph of a model of open sizes, with what opening its layers at given ones tells.

    There they stay closed; why channels are kept can be seen all the same.

    Args:
        graph: What `trace` answers with an `input_shape`; without one, it is returned as it is.
        exact: See `trace`.
    """
    return _told(graph, _with_layers_open(graph, exact))


def frozen_layers(recording: Recording) -> set[str]:
    """Names of the layers some of whose weights are not trained, though they could be."""
    return {r.name for r in recording.all_calls() if r.inner is None and is_frozen(r.operation)}


def trace_recording(
    recording: Recording,
    exact: bool = True,
    holds: State = State.ZERO,
    frozen: collections.abc.Iterable[str] = (),
    known: dict | None = None,
) -> ChannelGraph:
    """The `ChannelGraph` of a model that is recorded already; see `trace`.

    Args:
        recording: The `Recording`.
        exact: See `trace`.
        holds: What removed channels hold at the sites. Defaults to zero, as behind a compactor;
            `State.CONSTANT` is for channels that are constants without one.
        frozen: Names of layers that are left whole: they keep all channels that they make, take up
            no compactor and no constant. Inputs that they no longer read may go.
        known: What was found out of alike calls, as of the model that this is a copy of.
    """
    tracer = Tracer(recording, exact, holds, frozenset(frozen), known)
    tracer.run()
    return channel_graph(tracer)
