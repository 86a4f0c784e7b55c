"""What a call does with symbolic tensors: a graph of its own, of which nothing can be removed.

It is read for what it multiplies, and never takes the place of the call: so it may hold constants,
what is called in inference only, and weights that no layer inside has.
"""

import contextlib
import functools

import keras
import numpy as np

from resrep_keras.common.training_flag import has_training_argument
from resrep_keras.graph.call import calls_of
from resrep_keras.graph.channels import ChannelGraph
from resrep_keras.graph.composite import sublayers
from resrep_keras.graph.labels import WHOLE, Flow
from resrep_keras.graph.record import record
from resrep_keras.graph.recording import (
    Probe,
    is_symbolic,
    replaced,
    specs_seen,
    symbolic_tensors,
    with_sizes,
)
from resrep_keras.keras_adapter import call_with_values


def graph_inside(layer, args, kwargs, batch_size=None, batched=True):
    """The `ChannelGraph` of what `layer.call` does, all channels of which are `WHOLE`.

    Layers inside stay closed. No variable is changed, whatever the call assigns.

    Args:
        layer: The layer.
        args, kwargs: Arguments of the call; symbolic tensors stand for others of their shape.
        batch_size: What the call is told where the batch has no size: some calls repeat a token for
            each example. Defaults to `None`.
        batched: Whether the first axis is that of the examples; else each tensor is a part of one
            example. Defaults to `True`.

    Returns:
        The graph, and `None`; or `None`, and the exception that the call raised on symbolic
        tensors.
    """
    if has_training_argument(layer):
        kwargs = {**kwargs, "training": False}
    inputs = {
        id(value): keras.Input(batch_shape=_with_batch(value, batch_size), dtype=value.dtype)
        for value in symbolic_tensors(args, kwargs)
    }
    args, kwargs = keras.tree.map_structure(functools.partial(replaced, inputs), (args, kwargs))
    try:
        with _losses_ignored(layer), _sizes_seen(layer), _variables_give_way():
            outputs, _ = call_with_values(layer.call, (), *args, **kwargs)
        outputs = keras.tree.map_structure(functools.partial(_as_symbolic, inputs), outputs)
        model = keras.Model(list(inputs.values()), outputs, name=layer.name)
    except Exception as error:  # code that only runs on arrays fails here in any way
        return None, error
    recording = record(model, is_known=lambda operation: True, whole=True)
    return whole_graph(recording, batched), None


def _with_batch(tensor, batch_size):
    """The shape of a tensor, a batch of unknown size replaced by this one."""
    first = tensor.shape[:1]
    return (batch_size, *tensor.shape[1:]) if first == (None,) else tensor.shape


@contextlib.contextmanager
def _losses_ignored(layer):
    """Let a call that adds a loss run on symbolic tensors, of which Keras takes none."""
    vars(layer)["add_loss"] = lambda loss: None
    try:
        yield
    finally:
        del vars(layer)["add_loss"]


@contextlib.contextmanager
def _sizes_seen(layer):
    """Let layers inside whose own words on shapes fail, or lose sizes, go by what they compute."""
    inner = sublayers(layer)
    for each in inner:
        vars(each)["compute_output_spec"] = functools.partial(_output_spec, each)
    try:
        yield
    finally:
        for each in inner:
            del vars(each)["compute_output_spec"]


ARITHMETIC = "add sub mul truediv floordiv mod pow matmul lt le gt ge".split()


@contextlib.contextmanager
def _variables_give_way():
    """Let `variable * tensor` be what `tensor * variable` is, where the tensor is symbolic.

    Python asks the variable first, whose arithmetic is that of arrays.
    """
    names = [f"__{name}__" for name in ARITHMETIC]
    before = {name: vars(keras.Variable).get(name) for name in names}
    for name in names:
        setattr(keras.Variable, name, _giving_way(getattr(keras.Variable, name)))
    try:
        yield
    finally:
        for name, function in before.items():
            if function is None:
                delattr(keras.Variable, name)
            else:
                setattr(keras.Variable, name, function)


def _giving_way(function):
    @functools.wraps(function)
    def operate(variable, other):
        return NotImplemented if is_symbolic(other) else function(variable, other)

    return operate


def _output_spec(layer, *args, **kwargs):
    try:
        specs = type(layer).compute_output_spec(layer, *args, **kwargs)
    except Exception:  # of a signature that is not that of its call, say
        specs = specs_seen(layer, args, kwargs)
        if specs is None:
            raise
        return specs
    return with_sizes(layer, args, kwargs, specs)


def _as_symbolic(inputs, value):
    """An output; one that depends on the shapes of inputs alone is made of them without a cost."""
    if is_symbolic(value):
        return value
    dtype = keras.backend.standardize_dtype(value.dtype)
    return Probe(keras.KerasTensor(value.shape, dtype=dtype))(*inputs.values())


class _Untraced:
    """In the place of the tracer: no rule is asked, and what is frozen does not matter."""

    frozen: frozenset = frozenset()

    def __init__(self):
        self.known = {}


def whole_graph(recording, batched=True):
    """The `ChannelGraph` of a recording of which nothing can be removed: no rule is asked."""
    calls = calls_of(recording, _Untraced())
    for call in calls:
        inputs, outputs = (
            [Flow(np.full((1,) * len(x.shape), WHOLE), tuple(x.shape)) for x in tensors]
            for tensors in call.tensors
        )
        call.begin(inputs)
        call.batched = batched
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
