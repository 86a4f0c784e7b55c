"""What is inside a call: the graph of a nested model, a subclassed model or a composite layer."""

import functools

import keras

from resrep_keras.common.checks import check_instance
from resrep_keras.graph.composite import Closed, open_call
from resrep_keras.graph.inheritance import CALLED
from resrep_keras.graph.recording import (
    symbolic_tensors,
)
from resrep_keras.graph.sizes import check_input_shape, is_shape
from resrep_keras.keras_adapter import (
    Functional,
)

# --- models --------------------------------------------------------------------------------------


def is_graph(layer):
    """Whether `layer` is a Functional or Sequential model that runs its graph as Keras does.

    A class whose own `call` computes what its graph says, and more, says so by
    `call_follows_graph = True`.
    """
    for kind in (keras.Sequential, Functional):
        if isinstance(layer, kind):
            own = type(layer).__mro__[: type(layer).__mro__.index(kind)]
            own = [vars(c) for c in own if not vars(c).get("call_follows_graph")]
            return not any(name in each for each in [*own, vars(layer)] for name in CALLED)
    return False


def check_model(model, name="model"):
    """Raise unless `model` is a built Keras model; `name` is that of the argument.

    Raises:
        TypeError: Not a Keras model.
        ValueError: A model that was never built.
    """
    check_instance(name, model, keras.Model, "a built keras.Model")
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(
            f"Expected {name} to be built; Sequential model '{model.name}' has no graph yet "
            "because its input shape is unknown. Start it with keras.Input(shape) or call "
            "model.build(input_shape) first."
        )
    if not is_graph(model) and not model.built:
        raise ValueError(
            f"Expected {name} to be built; model '{model.name}' of the subclass "
            f"{type(model).__name__} has no weights yet. Call it once on a batch of data first."
        )


def inputs_of(model):
    """Symbolic inputs of a model, in the structure in which it is called."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    if is_graph(model):
        return model.input
    return _built_inputs(model, None)


def _built_inputs(model, input_shape):
    """Inputs of a subclassed model, from the shapes that it was built with."""
    known = model.get_build_config() or {}
    shapes = known.get("input_shape", known.get("shapes_dict"))
    if input_shape is not None:
        return _given_inputs(model, check_input_shape(input_shape))
    if shapes is None or ("shapes_dict" in known and len(known["shapes_dict"]) > 1):
        raise ValueError(
            f"The input shape of model '{model.name}' of the subclass {type(model).__name__} is "
            "not known, or its call() only runs on arrays. Call it once on a batch of data, with "
            "all inputs in its first argument, or give input_shape; use keras.ops in call()."
        )

    def make(shape, name=None):
        if isinstance(shape, dict):
            return {key: make(value, key) for key, value in shape.items()}
        if all(size is None or isinstance(size, int) for size in shape):
            return keras.Input(tuple(shape[1:]), dtype=model.input_dtype, name=name)
        return [make(value) for value in shape]

    return make(shapes)


def _given_inputs(model, given, name=None):
    """Inputs of a subclassed model of the shapes of an `input_shape`, in its structure."""
    if isinstance(given, dict):
        return {key: _given_inputs(model, shape, key) for key, shape in given.items()}
    if is_shape(given):
        return keras.Input(given, dtype=model.input_dtype, name=name)
    return [_given_inputs(model, shape) for shape in given]


def as_functional(model, input_shape=None):
    """A plain, uncompiled Functional model over the same layers.

    Raises:
        ValueError: A subclassed model that cannot be called on symbolic tensors.
    """
    check_model(model)
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if is_graph(model):
        return keras.Model(model.input, model.output, name=model.name)
    return _written_out(model, _built_inputs(model, input_shape))


def _written_out(model, inputs):
    """The graph that a subclassed model makes of symbolic inputs."""
    kind = type(model).__name__
    text = f"Model '{model.name}' of the subclass {kind} cannot be written out as a graph"
    try:
        graph, _ = open_call(model, (inputs,), {}, whole=True)
    except Closed as closed:
        raise ValueError(
            f"{text}: {closed}. Call layers and keras.ops on tensors in call(), or move that part "
            "into a layer of its own; what has no rule is then pinned instead."
        ) from closed
    same = keras.tree.pack_sequence_as(inputs, graph.inputs)
    return keras.Model(same, graph.output, name=model.name)


# --- what is inside a call ------------------------------------------------------------------------


def _open_graph(model, args, kwargs):
    """A nested Functional or Sequential model: its own graph.

    Returns `None` where the model would cast or reshape what it is called on.
    """
    tensors = symbolic_tensors(args, {})
    inputs = keras.tree.flatten(inputs_of(model))
    if len(tensors) != len(inputs) or symbolic_tensors((), kwargs):
        return None
    if any(_kind(tensor) != _kind(own) for tensor, own in zip(tensors, inputs)):
        return None
    return as_functional(model), tensors


def _kind(tensor):
    """What Keras changes where a model is called on something else: rank, and kind of numbers."""
    return len(tensor.shape), tensor.dtype if "float" not in tensor.dtype else "float"


@functools.singledispatch
def open_operation(operation, args, kwargs):
    """The graph inside a call: ``(Functional model, its input tensors)``, or `None`."""
    return None


@open_operation.register
def _(operation: keras.layers.Layer, args, kwargs):
    if is_graph(operation):
        return _open_graph(operation, args, kwargs)
    return open_call(operation, args, kwargs)
