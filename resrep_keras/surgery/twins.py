"""What several layers of a model share is shared by their copies, too."""

import contextlib

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.sharing import sharing
from resrep_keras.keras_adapter import (
    is_layer,
    is_variable,
    shared_copies,
    weights_of_operation,
)
from resrep_keras.surgery.held import layer_tree


class Twins:
    """The copies of the layers of a recording that have variables in common.

    Args:
        recording: The `Recording` of the model that is copied.
    """

    def __init__(self, recording):
        calls = [recorded for recorded in recording.all_calls() if recorded.inner is None]
        self._names = sharing(calls)
        self._held = {id(v) for recorded in calls for v in weights_of_operation(recorded.operation)}
        self._by_layer, self._by_variable = {}, {}

    def copy_of(self, operation):
        """The copy that a layer has by being part of another one; `None` without."""
        return self._by_layer.get(id(operation))

    def scope(self, operation):
        """While it lasts, the configuration of an operation has copies for the layers in it."""
        if id(operation) not in self._names:
            return contextlib.nullcontext()
        return shared_copies(self._by_layer)

    def note(self, operation, copy):
        """Note the built copy of a layer, and check that it shares what the layer shares.

        Raises:
            ValueError: It has variables of its own instead.
        """
        name = self._names.get(id(operation))
        if name is None or not is_layer(operation):
            return
        pairs = list(zip(operation.weights, copy.weights, strict=True))
        for before, after in pairs:
            if self._by_variable.setdefault(id(before), after) is not after or after is before:
                raise ValueError(
                    f"Layer '{operation.name}' of type {type(operation).__name__} shares weights "
                    f"with '{name}', and its copy does not. Let its get_config() hold the layer "
                    "that it reads as keras.saving.serialize_keras_object(layer), and its "
                    "from_config() make it of that by keras.saving.deserialize_keras_object."
                )
        for before, after in zip(layer_tree(operation), layer_tree(copy)):
            self._by_layer.setdefault(id(before), after)

    def arguments(self, recorded, args, kwargs):
        """Arguments of a call in which the variables of the model are those of the copy.

        Raises:
            ValueError: A layer whose variable is read is called only later.
        """
        if not any(map(is_variable, keras.tree.flatten((args, kwargs)))):
            return args, kwargs

        def twin(value):
            if not is_variable(value):
                return value
            if id(value) in self._by_variable:
                return self._by_variable[id(value)]
            if id(value) in self._held:
                raise ValueError(
                    f"'{recorded.name}' reads the variable '{value.path}' of a layer that is "
                    "called behind it. Call the layer first, or read the variable in a layer of "
                    "your own."
                )
            # Of no layer, so that no optimizer is told of it.
            return ops.convert_to_tensor(np.array(ops.convert_to_numpy(value)))

        return keras.tree.map_structure(twin, (args, kwargs))
