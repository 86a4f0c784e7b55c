"""The graph inside a subclassed model, or inside a layer that is made of other layers.

Its `call` is run on symbolic tensors, which shows what it calls. Where that would not be the same
as calling it, it stays closed.
"""

import dataclasses
import functools

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.draw import draw
from resrep_keras.graph.probe import in_words
from resrep_keras.graph.recording import (
    Probe,
    is_symbolic,
    output_specs,
    replaced,
    symbolic_tensors,
)
from resrep_keras.graph.sizes import leaves_open
from resrep_keras.keras_adapter import (
    call_with_values,
    global_random_state,
    has_training_argument,
    input_like,
    is_array,
    is_layer,
    is_optional,
    is_variable,
    made_with,
)


class Closed(Exception):
    """A call that cannot be opened because something raised: its text says what, and where."""


def open_call(layer, args, kwargs, may_lose_weights=False):
    """The graph that the `call` of a layer or model makes of symbolic tensors, and these.

    Returns `None` where that would not be the same: a weight that no layer of the graph would have,
    other calls in training, or anything that only works on arrays.

    Args:
        layer: The layer or model.
        args, kwargs: Arguments of its call.
        may_lose_weights: Whether weights that its `call` does not use may be left behind.

    Raises:
        Closed: The call raises on symbolic tensors, or layer or graph on random arrays.
    """
    inner = sublayers(layer)
    inside = {id(weight) for each in inner for weight in each.weights}
    if not inner or any(id(weight) not in inside for weight in layer.weights):
        return None
    originals = {id(value): value for value in symbolic_tensors(args, kwargs)}
    # What it does without an optional input, and what the regularizer adds, no graph can show.
    if layer.activity_regularizer is not None or any(map(is_optional, originals.values())):
        return None
    graph = _only_graph(layer, args, kwargs, originals, may_lose_weights)
    if graph is None:
        return None
    tensors = list(originals.values())
    return (graph, tensors) if _computes_the_same(layer, args, kwargs, graph, tensors) else None


def sublayers(layer):
    """The layers that a layer holds in its attributes, at any depth."""
    found, todo = {}, [layer]
    while todo:
        for value in vars(todo.pop()).values():
            many = isinstance(value, (dict, list, tuple))  # most values are one, and many are asked
            for item in _items(value) if many else (value,):
                if isinstance(item, keras.layers.Layer) and id(item) not in found:
                    found[id(item)] = item
                    todo.append(item)
    found.pop(id(layer), None)
    return list(found.values())


def unlisted_variables(layer):
    """Variables that Keras does not list among a layer's: the states of stateful recurrent ones."""
    listed = set(map(id, layer.variables))
    values = (value for each in (layer, *sublayers(layer)) for value in vars(each).values())
    items = (item for value in values for item in _items(value))
    return [x for x in items if isinstance(x, keras.Variable) and id(x) not in listed]


def _items(value):
    """A value, or the entries of a list, tuple or dict, at any depth."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        return [value]
    return [item for entry in value for item in _items(entry)]


# --- graphs ---------------------------------------------------------------------------------------


def _only_graph(layer, args, kwargs, originals, may_lose_weights):
    """The graph of a call, if it is the same in training and whatever the variables hold.

    A part that is held and not called gives its weights to the graph as numbers, which would stand
    still in training: these, and random numbers, are not the same when variables are changed.
    """
    variables = list(layer.variables)
    plain = [(variable, variable.value) for variable in variables]
    extra = [{"training": True}, {"training": False}] if has_training_argument(layer) else []
    graph = _graph(layer, args, kwargs, originals, plain)
    if graph is None:
        return None
    calls = _calls(graph)
    fixed = [constant for call in calls for constant in call.constants]
    called = {id(weight) for each in graph.layers for weight in each.weights}
    lost = any(id(weight) not in called for weight in layer.weights)
    if any(map(is_variable, fixed)) or (lost and not may_lose_weights) or _fixes_training(graph):
        return None
    values = plain
    if lost or any(is_array(constant) or isinstance(constant, float) for constant in fixed):
        extra, values = [*extra, {}], _changed(variables)
    for settings in extra:
        other = _graph(layer, args, {**kwargs, **settings}, originals, values)
        if other is None or _described(_calls(other)) != _described(calls):
            return None
    return graph


def _changed(variables):
    """Pairs of each variable, the state of Keras's own random generator included, and a value."""
    variables = [*variables, *global_random_state()]
    return [(v, ops.logical_not(v) if v.dtype == "bool" else v + 1) for v in variables]


def _graph(layer, args, kwargs, originals, values):
    """What one call of a layer makes of inputs like `originals`, while variables have `values`.

    Returns `None` where the call assigns a variable.
    """
    inputs = {key: input_like(value) for key, value in originals.items()}
    args, kwargs = keras.tree.map_structure(functools.partial(replaced, inputs), (args, kwargs))
    try:
        outputs, changes = call_with_values(layer.call, values, *args, **kwargs)
        graph = keras.Model(list(inputs.values()), outputs, name=layer.name)
    except Exception as error:  # a user's own code may fail on symbolic tensors in any way
        raise Closed(f"its call() raises {in_words(error)} on symbolic tensors") from error
    return None if changes else graph


def _replay(graph, see):
    """Call ``see(operation, args, kwargs)`` for each call of a graph; returns the answers."""
    seen = []

    def call(operation, *args, **kwargs):
        seen.append(see(operation, args, kwargs))
        return Probe(output_specs(operation, args, kwargs))(*symbolic_tensors(args, kwargs))

    keras.models.clone_model(graph, clone_function=lambda layer: layer, call_function=call)
    return seen


@dataclasses.dataclass
class _SeenCall:
    """What is called, and on what that is no tensor of the graph."""

    operation: keras.Operation
    constants: list


def _calls(graph):
    def see(operation, args, kwargs):
        own = () if is_layer(operation) else tuple(made_with(operation).items())
        given = keras.tree.flatten((own, args, {**kwargs, "training": None}))
        return _SeenCall(operation, [value for value in given if not is_symbolic(value)])

    return _replay(graph, see)


def _described(calls):
    """Calls in a form that can be compared; an operation is made anew each time, a layer is not."""
    return [
        (
            id(call.operation) if is_layer(call.operation) else type(call.operation),
            [
                ops.convert_to_numpy(value).tobytes() if is_array(value) else repr(value)
                for value in call.constants
            ],
        )
        for call in calls
    ]


def _fixes_training(graph):
    """Whether a call is always in training or always in inference, whatever the model is in.

    A Functional model, which the graph becomes part of, would decide that for all of its layers.
    """
    return any(_replay(graph, lambda operation, args, kwargs: kwargs.get("training") is not None))


# --- numbers --------------------------------------------------------------------------------------


def _computes_the_same(layer, args, kwargs, graph, tensors):
    """Whether layer and graph agree on random arrays, in inference."""
    for size in (16, 64, 128):  # for unknown sizes: the first that the layer takes
        try:
            return _agree(layer, args, kwargs, graph, tensors, size)
        except Exception as error:  # see above
            closed = Closed(f"it raises {in_words(error)} on random arrays")
    raise closed


def _agree(layer, args, kwargs, graph, tensors, size):
    generator = np.random.default_rng(0)
    arrays = {id(tensor): draw(tensor, generator, size=size) for tensor in tensors}
    if leaves_open(tensors):  # raises where they are too small, which arrays need not
        graph.compute_output_spec([input_like(x, arrays[id(x)].shape) for x in tensors])
    own_args, own_kwargs = keras.tree.map_structure(
        functools.partial(replaced, arrays), (args, kwargs)
    )
    expected = layer(*own_args, **own_kwargs)
    actual = graph([arrays[id(tensor)] for tensor in tensors], training=False)
    if len(layer.losses) != len(graph.losses):  # its call() adds a loss
        return False
    pairs = zip(keras.tree.flatten(expected), keras.tree.flatten(actual))
    return all(
        np.allclose(ops.convert_to_numpy(a), ops.convert_to_numpy(b), rtol=1e-3, atol=1e-4)
        for a, b in pairs
    )
