"""Run a model on random inputs."""

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.walk import inputs_of


def run(model, inputs):
    """Outputs in inference, in the model's structure, as float64 arrays."""
    return keras.tree.map_structure(
        lambda value: np.asarray(ops.convert_to_numpy(value), np.float64),
        model(inputs, training=False),
    )


def example_inputs(model, batch_size=2, seed=0, size=64):
    """Random inputs in the structure of `model.input`; unknown sizes become `size`."""
    generator = np.random.default_rng(seed)

    def draw(tensor):
        shape = (batch_size, *(size if n is None else n for n in tensor.shape[1:]))
        if "int" in tensor.dtype or tensor.dtype == "bool":
            return ops.convert_to_tensor(generator.integers(0, 2, shape), dtype=tensor.dtype)
        return ops.convert_to_tensor(generator.normal(size=shape), dtype=tensor.dtype)

    return keras.tree.map_structure(draw, inputs_of(model))
