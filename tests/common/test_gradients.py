"""Gradients outside of `fit`, by hand."""

import keras
import numpy as np
import pytest
from keras import ops

from resrep_keras.common.gradients import gradients_of


def variable(*values):
    return keras.Variable(np.array(values, "float32"))


def test_gradients_are_those_of_the_values_of_now():
    a, b, unread, other = variable(1, 2), variable(3), variable(7), variable(5)

    def function(x, y):
        return ops.sum(x * a * a) * b[0] * other[0] + ops.sum(y["z"])

    compute = gradients_of(function, [a, b, unread], [other])
    for factor in (1, 2):
        other.assign([5 * factor])
        found = compute(np.array([1.0, 10.0], "float32"), {"z": np.ones(2, "float32")})
        # 2 x a b other; (1 * 1 + 10 * 4) other; nothing
        expected = [[2 * 15 * factor, 40 * 15 * factor], [41 * 5 * factor], [0]]
        for gradient, value in zip(found, expected, strict=True):
            np.testing.assert_allclose(gradient, value)


def test_the_gradient_of_an_embedding_is_an_array():
    embedding = keras.layers.Embedding(4, 2)
    embedding.build()
    compute = gradients_of(lambda x: ops.sum(embedding(x)), embedding.trainable_variables)
    (gradient,) = compute(np.array([1, 1, 3]))
    np.testing.assert_array_equal(gradient, [[0, 0], [2, 2], [0, 0], [1, 1]])


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match=r"Expected TensorFlow or JAX.*got torch"):
        gradients_of(lambda: 0.0, [])
