"""Values while a step is traced."""

import keras
import numpy as np
from keras import ops

from resrep_keras.common.eager import eagerly


def test_values_are_there_while_a_step_is_traced():
    found = []

    def step(x):
        with eagerly():
            found.append(float(ops.convert_to_numpy(ops.sum(ops.ones((3,)) * 2.0))))
        return x

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.function(step)(tf.zeros(1))
    elif keras.backend.backend() == "jax":
        import jax

        jax.jit(step)(np.zeros(1, "float32"))
    assert set(found) <= {6.0}
    step(None)
    assert found and set(found) == {6.0}
