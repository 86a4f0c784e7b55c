"""What a layer made of layers uses directly, as tensors of the graph of its `call`.

Each weight that it has made itself is held by an `EinsumDense`, which multiplies a one with it: so
all that becomes of the graph is plain Keras, and the rules for channels that an `EinsumDense` makes
are those of the weight. The one is made of an input, since a graph knows no layer that reads
nothing.
"""

import contextlib
import functools
import string

import keras
from keras import ops

from resrep_keras.common.training_flag import has_training_argument
from resrep_keras.graph.recording import free_name, is_symbolic, symbolic_tensors
from resrep_keras.graph.seen_calls import attributes_of
from resrep_keras.keras_adapter import is_array, is_variable


def hold(variable, policy, name):
    """An `EinsumDense` whose kernel is this variable; it reads a one of shape `(1,)`."""
    kernel = string.ascii_lowercase[1 : 1 + len(variable.shape)]
    holder = keras.layers.EinsumDense(
        f"a,{kernel}->a{kernel}",
        output_shape=tuple(variable.shape),
        kernel_regularizer=variable.regularizer,
        kernel_constraint=variable.constraint,
        kernel_initializer="ones",  # Keras forgets that of a variable; ones close nothing
        name=name,
        dtype=policy,
        trainable=variable.trainable,
    )
    build_with(holder, [variable], (1,))
    return holder


def build_with(layer, variables, input_shape):
    """Build a layer whose weights, in their order, are these variables."""
    left = iter(variables)
    vars(layer)["add_weight"] = lambda *args, **kwargs: next(left)
    layer.build(input_shape)
    del vars(layer)["add_weight"]


def is_holder(operation):
    """Whether an operation is a layer that `hold` has made, or a copy of one."""
    return isinstance(operation, keras.layers.EinsumDense) and makes_all(operation.equation)


def makes_all(equation):
    """Whether the kernel of an equation has no letter of what it is multiplied with."""
    read, kernel = equation.replace(" ", "").split("->")[0].split(",")
    return not set(read) & set(kernel)


class OwnWeights:
    """Stands for what a layer uses otherwise than by calling a part on what it reads.

    Weights that it has made itself become symbolic tensors, and parts that it calls on arrays, such
    as the embedding of positions, are called on symbolic tensors that hold these.

    Parts that return more than tensors, which no call in a graph can, are run in place.

    Args:
        layer: A layer that holds others.
        inner: Those.
        in_place: Those of them that are run in place.
    """

    def __init__(self, layer, inner, in_place=()):
        self._layer, self._in_place = layer, in_place
        self._on_arrays = []
        inside = {id(x) for each in inner if each not in in_place for x in each.weights}
        own = [variable for variable in layer.weights if id(variable) not in inside]
        self._holders, taken = {}, set()
        for variable in own:
            if len(variable.shape) and "float" in variable.dtype:
                name = free_name(f"{layer.name}_{variable.name}", taken)
                taken.add(name)
                self._holders[id(variable)] = hold(variable, layer.dtype_policy, name)
        self._rest = [variable for variable in own if id(variable) not in self._holders]

    def without_holder(self):
        """Why no layer of Keras can hold some weight, in words; `None` where all are held."""
        for variable in self._rest:
            what = f"of dtype {variable.dtype}" if len(variable.shape) else "a single number"
            return (
                f"its weight '{variable.path}' is {what}, which no layer of Keras holds; give it "
                "the shape (1,) and a float dtype, or let a layer of its own have it"
            )
        return None

    def on_arrays(self, parts):
        """From now on, let these parts be called on symbolic tensors only."""
        self._on_arrays = parts

    @contextlib.contextmanager
    def as_tensors(self, inputs, training=False):
        """While it lasts, attributes of the layer are stand-ins, made of symbolic `inputs`."""
        stand_ins = self._stand_ins(inputs, training)
        owners = (self._layer, *self._in_place) if stand_ins else ()
        common, before = attributes_of(keras.layers.Layer), []
        for owner in owners:
            own = {name: x for name, x in vars(owner).items() if name not in common}
            before.append((vars(owner), own))
            vars(owner).update({name: _replaced(value, stand_ins) for name, value in own.items()})
        try:
            yield
        finally:
            for attributes, own in before:
                attributes.update(own)

    def _stand_ins(self, inputs, training):
        """``{id of a weight or part: what stands for it}``."""
        if not self._holders and not self._on_arrays and not self._in_place:
            return {}
        like = like_numbers(inputs)
        found = {id(part): _OnTensors(part, like) for part in self._on_arrays}
        found |= {id(part): _InPlace(part, training) for part in self._in_place}
        if self._holders:
            one = _one(like, self._layer.compute_dtype)
            found |= {key: ops.squeeze(holder(one), 0) for key, holder in self._holders.items()}
        return found


class _OnTensors:
    """A layer that is called on symbolic tensors, also where it is given arrays only."""

    def __init__(self, layer, like):
        self._layer, self._like = layer, like

    def __call__(self, *args, **kwargs):
        if not symbolic_tensors(args, kwargs):
            tensor = functools.partial(as_tensor, self._like)
            args, kwargs = keras.tree.map_structure(tensor, (args, kwargs))
        return self._layer(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self._layer, name)


class _InPlace:
    """A layer whose `call` is run as if it were part of that of the layer that holds it."""

    def __init__(self, layer, training):
        self._layer, self._training = layer, training

    def __call__(self, *args, **kwargs):
        if has_training_argument(self._layer) and kwargs.get("training") is None:
            kwargs["training"] = self._training
        return self._layer.call(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self._layer, name)


def like_numbers(inputs):
    """The first symbolic input that is multiplied like a number."""
    return next(x for x in inputs if x.dtype not in ("string", "bool"))


def as_tensor(like, value):
    """An array as a symbolic tensor, made of another one; all else as it is."""
    if is_symbolic(value) or not is_array(value) or is_variable(value):
        return value
    dtype = keras.backend.standardize_dtype(value.dtype)
    return ops.multiply(_one(like, dtype), ops.convert_to_numpy(value))


def _one(like, dtype):
    """A one of shape `(1,)`, made of a symbolic tensor."""
    rank = len(like.shape)
    ones = ops.ones_like(like, dtype=dtype)
    return ops.reshape(ops.slice(ones, (0,) * rank, (1,) * rank), (1,))


def _replaced(value, stand_ins):
    """A value in which stand-ins are, at any depth of lists and dicts."""
    if isinstance(value, dict):
        changed = {key: _replaced(item, stand_ins) for key, item in value.items()}
        return changed if any(changed[key] is not value[key] for key in value) else value
    if isinstance(value, (list, tuple)):
        changed = [_replaced(item, stand_ins) for item in value]
        return changed if any(a is not b for a, b in zip(changed, value)) else value
    return stand_ins.get(id(value), value)
