"""The names by which a file's inputs and outputs are called: those of the model."""

import dataclasses

import keras
import numpy as np

from resrep_keras.graph.unroll import as_functional, inputs_of
from resrep_keras.keras_adapter import input_name
from resrep_keras.tflite.scopes import scope_name


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a model reads and returns.

    Args:
        tensors: Symbolic inputs in the model's structure.
        inputs, outputs: Their names, flattened as in the model.
    """

    tensors: object
    inputs: tuple
    outputs: tuple

    def by_name(self, inputs):
        """``{name: array}`` of inputs in the model's structure."""
        return dict(zip(self.inputs, keras.tree.flatten(inputs), strict=True))

    def arrays(self, inputs):
        """The same as NumPy arrays, floats as float32, which files know."""
        types = [tensor.dtype for tensor in keras.tree.flatten(self.tensors)]
        return {
            name: _array(value, dtype)
            for (name, value), dtype in zip(self.by_name(inputs).items(), types, strict=True)
        }


def _array(value, dtype):
    array = np.asarray(keras.ops.convert_to_numpy(value))
    return array if dtype == "string" else array.astype("float32" if "float" in dtype else dtype)


def signature_of(model):
    """The `Signature` of a model: keys where it takes or returns a dict, else Keras's names.

    Characters that TensorFlow does not take become `_`; where two names are equal, the second gets
    a number.
    """
    functional, tensors = as_functional(model), inputs_of(model)
    return Signature(
        tensors,
        _names(tensors, [input_name(tensor) for tensor in keras.tree.flatten(tensors)]),
        _names(functional.output, functional.output_names),
    )


def _names(structure, names):
    paths = [path for path, _ in keras.tree.flatten_with_path(structure)]
    keyed = [any(isinstance(part, str) for part in path) for path in paths]
    wanted = [
        "_".join(map(str, path)) if has_key else name
        for path, has_key, name in zip(paths, keyed, names, strict=True)
    ]
    taken = []
    for name in wanted:
        name = scope_name(name)
        free, number = name, 0
        while free in taken:
            number += 1
            free = f"{name}_{number}"
        taken.append(free)
    return tuple(taken)
