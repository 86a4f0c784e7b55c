"""What is inside a call: the graph of a nested model, a subclassed model or a composite layer.

Subclassed models and layers that are made of other layers are called on symbolic tensors, which
shows what they call. Where that would not be the same as calling the layer, it stays closed.
"""

import functools

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.draw import draw
from resrep_keras.graph.recording import (
    Probe,
    is_symbolic,
    output_specs,
    replaced,
    symbolic_tensors,
)
from resrep_keras.keras_adapter import (
    Functional,
    has_training_argument,
    input_like,
    is_array,
    is_layer,
    is_optional,
    made_with,
)

# --- models --------------------------------------------------------------------------------------


def is_graph(layer):
    """Whether `layer` is a Functional or Sequential model that runs its graph as Keras does.

    A class whose own `call` computes what its graph says, and more, says so by
    `call_follows_graph = True`.
    """
    for kind in (keras.Sequential, Functional):
        if isinstance(layer, kind):
            own = (vars(c) for c in type(layer).__mro__ if "call" in vars(c))
            return next(c for c in own if not c.get("call_follows_graph"))["call"] is kind.call
    return False


def check_model(model):
    """Raise unless `model` is a built Keras model.

    Raises:
        TypeError: Not a Keras model.
        ValueError: A model that was never built.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected a keras.Model; got {model!r} of type {type(model).__name__}.")
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(
            f"Sequential model '{model.name}' has no graph yet because its input shape is unknown. "
            "Start it with keras.Input(shape) or call model.build(input_shape) first."
        )
    if not is_graph(model) and not model.built:
        raise ValueError(
            f"Model '{model.name}' of the subclass {type(model).__name__} has no weights yet. Call "
            "it once on a batch of data first."
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
        return keras.Input(tuple(input_shape), dtype=model.input_dtype)
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
    inputs = _built_inputs(model, input_shape)
    opened = _open_call(model, (inputs,), {})
    if opened is None:
        raise ValueError(
            f"Model '{model.name}' of the subclass {type(model).__name__} cannot be written out as "
            "a graph: its call() does something else than calling layers and keras.ops on tensors, "
            "or something else in training than in inference, or it has weights of its own. Move "
            "that part into a layer of its own; what has no rule is then pinned instead."
        )
    functional, _ = opened
    return functional


# --- what is inside a call ------------------------------------------------------------------------


def sublayers(layer):
    """The layers that a layer holds in its attributes, at any depth."""
    found, todo = {}, [layer]
    while todo:
        for value in vars(todo.pop()).values():
            for item in _items(value):
                if isinstance(item, keras.layers.Layer) and id(item) not in found:
                    found[id(item)] = item
                    todo.append(item)
    found.pop(id(layer), None)
    return list(found.values())


def _items(value):
    """A value, or the entries of a list, tuple or dict, at any depth."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        return [value]
    return [item for entry in value for item in _items(entry)]


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


def _open_call(layer, args, kwargs):
    """A subclassed model or composite layer: the graph that its `call` makes of symbolic tensors.

    Returns `None` where that would not be the same: weights of its own, other calls in training, or
    anything that only works on arrays.
    """
    inner = sublayers(layer)
    inside = {id(weight) for each in inner for weight in each.weights}
    if not inner or any(id(weight) not in inside for weight in layer.weights):
        return None
    if layer.activity_regularizer is not None:
        return None
    if any(map(is_optional, symbolic_tensors(args, kwargs))):  # what it does without, none can see
        return None
    settings = [{}]
    if has_training_argument(layer):
        settings += [{"training": True}, {"training": False}]
    originals = {id(value): value for value in symbolic_tensors(args, kwargs)}
    graphs = []
    for extra in settings:
        inputs = {key: input_like(value) for key, value in originals.items()}
        own_args, own_kwargs = keras.tree.map_structure(
            functools.partial(replaced, inputs), (args, kwargs)
        )
        try:
            outputs = layer.call(*own_args, **{**own_kwargs, **extra})
            graphs.append(keras.Model(list(inputs.values()), outputs, name=layer.name))
        except Exception:  # a user's own code may fail on symbolic tensors in any way
            return None
    calls = [_calls(graph) for graph in graphs]
    if any(other != calls[0] for other in calls) or _fixes_training(graphs[0]):
        return None
    graph, tensors = graphs[0], list(originals.values())
    same = _computes_the_same(layer, args, kwargs, graph, tensors)
    return (graph, tensors) if same else None


def _replay(graph, see):
    """Call ``see(operation, args, kwargs)`` for each call of a graph; returns the answers."""
    seen = []

    def call(operation, *args, **kwargs):
        seen.append(see(operation, args, kwargs))
        return Probe(output_specs(operation, args, kwargs))(*symbolic_tensors(args, kwargs))

    keras.models.clone_model(graph, clone_function=lambda layer: layer, call_function=call)
    return seen


def _calls(graph):
    """What a graph calls, with which constants, in a form that can be compared."""

    def see(operation, args, kwargs):
        own = () if is_layer(operation) else tuple(made_with(operation).items())
        constants = [
            np.asarray(value).tobytes() if is_array(value) else repr(value)
            for value in keras.tree.flatten((own, args, {**kwargs, "training": None}))
            if not is_symbolic(value)
        ]
        return type(operation), is_layer(operation) and id(operation), constants

    return _replay(graph, see)


def _fixes_training(graph):
    """Whether a call is always in training or always in inference, whatever the model is in.

    A Functional model, which the graph becomes part of, would decide that for all of its layers.
    """
    return any(_replay(graph, lambda operation, args, kwargs: kwargs.get("training") is not None))


def _computes_the_same(layer, args, kwargs, graph, tensors):
    """Whether layer and graph agree on random arrays, in inference."""
    for size in (16, 64, 128):  # for unknown sizes: the first that the layer takes
        answer = _agree(layer, args, kwargs, graph, tensors, size)
        if answer is not None:
            return answer
    return False


def _agree(layer, args, kwargs, graph, tensors, size):
    generator = np.random.default_rng(0)
    arrays = {id(tensor): draw(tensor, generator, size=size) for tensor in tensors}
    own_args, own_kwargs = keras.tree.map_structure(
        functools.partial(replaced, arrays), (args, kwargs)
    )
    try:
        expected = layer(*own_args, **own_kwargs)
        actual = graph([arrays[id(tensor)] for tensor in tensors], training=False)
    except Exception:  # see above
        return None
    if len(layer.losses) != len(graph.losses):  # its call() adds a loss
        return False
    pairs = zip(keras.tree.flatten(expected), keras.tree.flatten(actual))
    return all(
        np.allclose(ops.convert_to_numpy(a), ops.convert_to_numpy(b), rtol=1e-3, atol=1e-4)
        for a, b in pairs
    )


@functools.singledispatch
def open_operation(operation, args, kwargs):
    """The graph inside a call: ``(Functional model, its input tensors)``, or `None`."""
    return None


@open_operation.register
def _(operation: keras.layers.Layer, args, kwargs):
    if is_graph(operation):
        return _open_graph(operation, args, kwargs)
    return _open_call(operation, args, kwargs)
