"""Every call of a model, in order: the only place that reads a Keras model's graph.

`record(model)` returns a `Tape`: a flat list of the calls of layers and raw operations. Nested models
are written out in place, and so are subclassed models and layers that are made of other layers: they
are called on symbolic tensors, which shows what they call. `Tape.run` plays the calls again with
other tensors, other layers, or arrays.
"""

import contextlib
import dataclasses
import functools
import inspect
import sys

import keras
import numpy as np
from keras import ops


@contextlib.contextmanager
def deep_models(limit=20_000):
    """Let Keras, which maps a graph by recursion, take a model of thousands of layers in a row."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, limit))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class _Probe(keras.Operation):
    """A weightless stand-in for a call, so that a model is read without being called again."""

    def __init__(self, specs):
        super().__init__()
        self._specs = specs

    def call(self, *tensors):
        raise NotImplementedError("A probe only stands for shapes.")

    def compute_output_spec(self, *tensors):
        return self._specs


@dataclasses.dataclass
class Step:
    """One call on a tape.

    Args:
        operation: Layer or raw `keras.ops` operation.
        name: Its name, unique on the tape.
        args, kwargs: Arguments; symbolic tensors stand for what the tape is played with.
        outputs: Symbolic outputs in their structure.
        inner: Tape that `operation` applies to each entry of axis 1, or `None`.
        path: Names of the models and composite layers around the call.
    """

    operation: object
    name: str
    args: tuple
    kwargs: dict
    outputs: object
    inner: "Tape | None" = None
    path: tuple = ()


@dataclasses.dataclass
class Tape:
    """The calls of a model in the order of execution; `inputs` and `outputs` keep its structure."""

    name: str
    inputs: object
    outputs: object
    steps: list

    def run(self, inputs, call):
        """Play the tape: answer each step with ``call(step, *args, **kwargs)``.

        Values are let go of after their last use.
        """
        last = {}
        for position, step in enumerate(self.steps):
            for tensor in symbolic_tensors(step.args, step.kwargs):
                last[id(tensor)] = position
        for tensor in keras.tree.flatten(self.outputs):
            last[id(tensor)] = len(self.steps)
        values = {}
        for tensor, value in zip(keras.tree.flatten(self.inputs), keras.tree.flatten(inputs)):
            values[id(tensor)] = value

        look_up = functools.partial(_replaced, values)
        for position, step in enumerate(self.steps):
            args, kwargs = keras.tree.map_structure(look_up, (step.args, step.kwargs))
            answers = keras.tree.flatten(call(step, *args, **kwargs))
            for tensor, value in zip(keras.tree.flatten(step.outputs), answers):
                if id(tensor) in last:
                    values[id(tensor)] = value
            for tensor in symbolic_tensors(step.args, step.kwargs):
                if last[id(tensor)] == position:
                    values.pop(id(tensor), None)
        return keras.tree.map_structure(look_up, self.outputs)

    def all_steps(self):
        """The steps, those of inner tapes in front of the step that holds them."""
        for step in self.steps:
            if step.inner is not None:
                yield from step.inner.all_steps()
            yield step


def is_symbolic(value):
    return isinstance(value, keras.KerasTensor)


def symbolic_tensors(args, kwargs):
    """The symbolic tensors among the arguments of a call, flattened."""
    return [value for value in keras.tree.flatten((args, kwargs)) if is_symbolic(value)]


# --- models --------------------------------------------------------------------------------------

Functional = type(keras.Model(*[keras.Input((1,))] * 2))


def is_graph(layer):
    """Whether `layer` is a Functional or Sequential model that runs its graph as Keras does."""
    for kind in (keras.Sequential, Functional):
        if isinstance(layer, kind):
            return type(layer).call is kind.call
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
            f"Model '{model.name}' of the subclass {type(model).__name__} has no weights yet. Call it "
            "once on a batch of data first."
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
            f"The input shape of model '{model.name}' of the subclass {type(model).__name__} is not "
            "known, or its call() only runs on arrays. Call it once on a batch of data, with all "
            "inputs in its first argument, or give input_shape; use keras.ops in call()."
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
            f"Model '{model.name}' of the subclass {type(model).__name__} cannot be written out as a "
            "graph: its call() does something else than calling layers and keras.ops on tensors, or "
            "something else in training than in inference, or it has weights of its own. Move that "
            "part into a layer of its own; what has no rule is then pinned instead."
        )
    functional, _ = opened
    return functional


# --- what is inside a call -------------------------------------------------------------------------


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
    """A nested Functional or Sequential model: its own graph."""
    tensors = symbolic_tensors(args, {})
    inputs = inputs_of(model)
    if len(tensors) != len(keras.tree.flatten(inputs)) or symbolic_tensors((), kwargs):
        return None
    return as_functional(model), tensors


def _open_call(layer, args, kwargs):
    """A subclassed model or composite layer: the graph that its `call` makes of symbolic tensors.

    Returns `None` where that would not be the same: weights of its own, other calls in training, or
    anything that only works on arrays.
    """
    parts = sublayers(layer)
    held = {id(weight) for part in parts for weight in part.weights}
    if not parts or any(id(weight) not in held for weight in layer.weights):
        return None
    if getattr(layer, "activity_regularizer", None) is not None:
        return None
    settings = [{}]
    if "training" in inspect.signature(layer.call).parameters:
        settings += [{"training": True}, {"training": False}]
    originals = {id(value): value for value in symbolic_tensors(args, kwargs)}
    graphs = []
    for extra in settings:
        inputs = {
            key: keras.Input(batch_shape=value.shape, dtype=value.dtype, name=value.name)
            for key, value in originals.items()
        }
        own_args, own_kwargs = keras.tree.map_structure(
            functools.partial(_replaced, inputs), (args, kwargs)
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


def _replaced(values, value):
    return values[id(value)] if is_symbolic(value) else value


def _replay(graph, see):
    """Call ``see(operation, args, kwargs)`` for each call of a graph; returns the answers."""
    seen = []

    def call(operation, *args, **kwargs):
        seen.append(see(operation, args, kwargs))
        return _Probe(output_specs(operation, args, kwargs))(*symbolic_tensors(args, kwargs))

    keras.models.clone_model(graph, clone_function=lambda layer: layer, call_function=call)
    return seen


def _calls(graph):
    """What a graph calls, with which constants, in a form that can be compared."""

    def see(operation, args, kwargs):
        constants = [
            np.asarray(value).tobytes() if hasattr(value, "shape") else repr(value)
            for value in keras.tree.flatten((args, {**kwargs, "training": None}))
            if not is_symbolic(value)
        ]
        layer = isinstance(operation, keras.layers.Layer)
        what = id(operation) if layer else {**operation.get_config(), "name": None}
        return type(operation), what, constants

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
    arrays = {}
    for tensor in tensors:
        shape = [2, *(size if n is None else n for n in tensor.shape[1:])]
        draw = generator.integers(0, 2, shape) if "float" not in tensor.dtype else None
        values = generator.normal(size=shape) if draw is None else draw
        arrays[id(tensor)] = ops.convert_to_tensor(values, dtype=tensor.dtype)
    own_args, own_kwargs = keras.tree.map_structure(
        functools.partial(_replaced, arrays), (args, kwargs)
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


# --- what happens at each entry of axis 1 ------------------------------------------------------------


class Enter:
    """Stands before the calls of an inner tape: axis 1 is taken away."""


class Leave:
    """Stands behind the calls of an inner tape: axis 1 comes back."""


def around(step):
    """The steps before and behind the inner tape of `step`."""
    tensor = keras.tree.flatten(step.args)[0]
    tape = step.inner
    enter = Step(Enter(), step.name, (tensor,), {}, tape.inputs)
    return enter, Step(Leave(), step.name, (tape.outputs,), {}, step.outputs)


# --- recording -----------------------------------------------------------------------------------


def output_specs(operation, args, kwargs):
    """Shapes and dtypes of a call's outputs, without calling the layer where they are known."""
    tensors = symbolic_tensors(args, kwargs)
    try:
        known = keras.tree.flatten(operation.input)
        same = [(x.shape, x.dtype) for x in known] == [(x.shape, x.dtype) for x in tensors]
        specs = operation.output if same else operation.compute_output_spec(*args, **kwargs)
    except (AttributeError, ValueError):
        specs = operation.compute_output_spec(*args, **kwargs)
    return keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), specs)


class _Recorder:
    """Writes the calls of a model on one list, opening what is nested."""

    def __init__(self, is_known):
        self._is_known = is_known
        self.steps = []

    def read(self, functional, tensors, path, training=None):
        """Write the calls of a graph on `tensors`; returns its outputs in their structure."""
        inputs = keras.tree.map_structure(
            lambda x, like: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=like.name),
            keras.tree.pack_sequence_as(functional.input, tensors),
            functional.input,
        )
        # The graph is cloned over placeholders; `real` has what they stand for.
        real = {id(p): t for p, t in zip(keras.tree.flatten(inputs), tensors)}

        def answer(operation, *args, **kwargs):
            stand_ins = symbolic_tensors(args, kwargs)
            args, kwargs = keras.tree.map_structure(
                functools.partial(_replaced, real), (args, kwargs)
            )
            if training is not None and "training" in _parameters(type(operation)):
                kwargs = {**kwargs, "training": training}
            outputs = self.call(operation, args, kwargs, path)
            specs = keras.tree.map_structure(
                lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), outputs
            )
            placeholders = _Probe(specs)(*stand_ins)
            for placeholder, output in zip(
                keras.tree.flatten(placeholders), keras.tree.flatten(outputs)
            ):
                real[id(placeholder)] = output
            keep.append(placeholders)
            return placeholders

        keep = []
        outputs = keras.models.clone_model(
            functional,
            input_tensors=inputs,
            clone_function=lambda operation: operation,
            call_function=answer,
        ).output
        return keras.tree.map_structure(lambda x: real[id(x)], outputs)

    def call(self, operation, args, kwargs, path):
        """Write one call, or the calls inside it; returns its outputs."""
        inner = inner_layer(operation)
        if inner is None and not self._is_known(operation):
            opened = open_operation(operation, args, kwargs)
            if opened is not None:
                functional, tensors = opened
                inside = (*path, operation.name)
                return self.read(functional, tensors, inside, kwargs.get("training"))
        specs = output_specs(operation, args, kwargs)
        outputs = keras.tree.map_structure(
            lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), specs
        )
        tape = None
        if inner is not None and len(symbolic_tensors(args, kwargs)) == 1:
            tape = self._inner_tape(inner, args[0], (*path, operation.name))
        self.steps.append(Step(operation, operation.name, args, kwargs, outputs, tape, path))
        return outputs

    def _inner_tape(self, layer, tensor, path):
        recorder = _Recorder(self._is_known)
        entry = keras.KerasTensor((tensor.shape[0], *tensor.shape[2:]), dtype=tensor.dtype)
        outputs = recorder.call(layer, (entry,), {}, path)
        return Tape(layer.name, entry, outputs, recorder.steps)


@functools.cache
def _parameters(kind):
    return frozenset(inspect.signature(kind.call).parameters)


@functools.singledispatch
def open_operation(operation, args, kwargs):
    """The graph inside a call: ``(Functional model, its input tensors)``, or `None`."""
    return None


@open_operation.register
def _(operation: keras.layers.Layer, args, kwargs):
    if is_graph(operation):
        return _open_graph(operation, args, kwargs)
    return _open_call(operation, args, kwargs)


@functools.singledispatch
def inner_layer(operation):
    """The layer that `operation` applies to each entry of axis 1, or `None`."""
    return None


@inner_layer.register
def _(operation: keras.layers.TimeDistributed):
    same = type(operation).call is keras.layers.TimeDistributed.call
    return operation.layer if same else None


@deep_models()
def record(model, input_shape=None, is_known=lambda operation: False):
    """Read a model's calls; touch no layer of a Functional or Sequential model.

    Args:
        model: A built Keras model.
        input_shape: Shape without batch that replaces unknown sizes of a single-input model.
        is_known: Tells which layers are written down as they are, whatever they hold.
    """
    functional = as_functional(model, input_shape)
    inputs = keras.tree.map_structure(
        lambda x: keras.KerasTensor(
            x.shape if input_shape is None else (x.shape[0], *input_shape),
            dtype=x.dtype,
            name=x.name,
        ),
        functional.input,
    )
    recorder = _Recorder(is_known)
    outputs = recorder.read(functional, keras.tree.flatten(inputs), ())
    tape = Tape(model.name, inputs, outputs, recorder.steps)
    _name_apart(tape)
    return tape


def _name_apart(tape):
    """Give each operation a name of its own: where two share one, that of its model goes before."""
    owners = {x.name: None for x in keras.tree.flatten(tape.inputs)}
    names = {}
    for step in tape.all_steps():
        key = id(step.operation)
        if key not in names:
            name, around = step.operation.name, list(step.path)
            while name in owners and around:
                name = f"{around.pop()}_{name}"
            count, stem = 0, name
            while name in owners:
                count += 1
                name = f"{stem}_{count}"
            owners[name], names[key] = key, name
        step.name = names[key]
