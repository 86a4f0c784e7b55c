"""The calls in a graph that a layer's `call` has made, in a form that can be compared."""

import dataclasses
import functools

import keras
from keras import ops

from resrep_keras.graph.recording import Probe, is_symbolic, output_specs, symbolic_tensors
from resrep_keras.keras_adapter import is_array, is_layer


@dataclasses.dataclass(frozen=True)
class SeenCall:
    """What is called, on what that is no tensor of the graph, and whether in training.

    `training` is `None` where the call does not say.
    """

    operation: keras.Operation
    constants: tuple
    training: bool | None

    @property
    def key(self):
        """Equal for equal calls; an operation is made anew each time, a layer is not."""
        known = id(self.operation) if is_layer(self.operation) else type(self.operation)
        return known, tuple(map(_comparable, self.constants))

    @property
    def may_matter_in_training_only(self):
        """Whether it is a layer without weights that is told whether it trains, like a dropout."""
        plain = is_layer(self.operation) and not self.operation.weights
        return plain and self.training is not None


def _comparable(value):
    return ops.convert_to_numpy(value).tobytes() if is_array(value) else repr(value)


def calls_seen(graph):
    """A `SeenCall` for each call of a graph."""
    seen = []

    def call(operation, *args, **kwargs):
        own = () if is_layer(operation) else tuple(made_with(operation).items())
        training = kwargs.get("training")
        given = keras.tree.flatten((own, args, {**kwargs, "training": None}))
        constants = tuple(value for value in given if not is_symbolic(value))
        seen.append(SeenCall(operation, constants, training))
        return Probe(output_specs(operation, args, kwargs))(*symbolic_tensors(args, kwargs))

    keras.models.clone_model(graph, clone_function=lambda layer: layer, call_function=call)
    return seen


def played_again(graph, inputs, call):
    """The graph on other inputs, each call of it made by ``call(operation, *args, **kwargs)``."""
    copy = keras.models.clone_model(
        graph,
        input_tensors=keras.tree.pack_sequence_as(graph.input, inputs),
        clone_function=lambda operation: operation,
        call_function=call,
    )
    return keras.Model(inputs, copy.output, name=graph.name)


def differing_calls(calls, others):
    """The calls of each list that the other one lacks; empty lists where both are equal.

    Calls that both lists have stand in the same order, or all that differ in order are named, too.
    """
    keys, other_keys = [call.key for call in calls], [call.key for call in others]
    common = [key for key in keys if key in other_keys]
    if common == [key for key in other_keys if key in keys]:
        missing = [call for call in calls if call.key not in other_keys]
        return missing, [call for call in others if call.key not in keys]
    return list(calls), list(others)


def made_with(operation):
    """`{name: value}` of what a raw operation of `keras.ops` was made with, beside its name.

    Its `get_config()` raises where that is a tensor.
    """
    common = attributes_of(keras.Operation)
    return {name: value for name, value in vars(operation).items() if name not in common}


@functools.cache
def attributes_of(kind):
    """The names of the attributes that each object of a class of Keras has."""
    return frozenset(vars(kind(name="common")))
