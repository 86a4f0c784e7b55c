"""Models are run, played and looked at, without changing them."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.record import record
from resrep_keras.surgery.forward import (
    evaluate,
    example_inputs,
    explain_difference,
    play,
    random_inputs,
    run,
)
from tests import zoo


@pytest.mark.parametrize("name", ["residual", "multi_input_output", "time_distributed"])
def test_played_call_by_call_it_is_the_model(name):
    model = zoo.build(name)
    inputs = example_inputs(model)
    found, expected = play(record(model), inputs), run(model, inputs)
    for one, other in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
        assert one.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_statistics_of_the_batch_leave_the_averages_alone():
    inputs = keras.Input((1,))
    norm = layers.BatchNormalization(epsilon=0.0)
    model = keras.Model(inputs, norm(inputs))
    x = np.array([[1.0], [3.0]], "float32")  # mean 2, deviation 1
    before = [ops.convert_to_numpy(weight).copy() for weight in norm.weights]
    np.testing.assert_allclose(
        play(record(model), x, batch_statistics=True), [[-1], [1]], rtol=1e-5
    )
    np.testing.assert_allclose(play(record(model), x), x)
    for weight, value in zip(norm.weights, before):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)


def test_calls_are_looked_at_and_values_replaced():
    inputs = keras.Input((2,))
    first, second = layers.Rescaling(2.0, name="first"), layers.Rescaling(3.0, name="second")
    recording = record(keras.Model(inputs, second(first(inputs))))
    seen = {}

    def before(step, value):
        seen[step.name] = ops.convert_to_numpy(value).tolist()

    def behind(tensor, value):
        return ops.zeros_like(value) if tensor is recording.steps[0].outputs else value + 1

    found = evaluate(recording, ops.convert_to_tensor([[1.0, 5.0]]), before, behind)
    assert seen == {"first": [[1.0, 5.0]], "second": [[0.0, 0.0]]}
    assert ops.convert_to_numpy(found).tolist() == [[1.0, 1.0]]


def test_random_inputs_have_the_structure_and_the_dtype():
    tensors = {
        "image": keras.KerasTensor((None, None, 3)),
        "tokens": keras.KerasTensor((None, 7), dtype="int32"),
    }
    found = random_inputs(tensors, batch_size=4, size=5)
    assert {name: tuple(x.shape) for name, x in found.items()} == {
        "image": (4, 5, 3),
        "tokens": (4, 7),
    }
    assert set(np.unique(ops.convert_to_numpy(found["tokens"]))) <= {0, 1}
    again = random_inputs(tensors, batch_size=4, size=5)
    np.testing.assert_array_equal(*(ops.convert_to_numpy(x["image"]) for x in (found, again)))
    (given,) = random_inputs([keras.KerasTensor((None, None, 3))], input_shape=(6, 3))
    assert tuple(given.shape) == (2, 6, 3)


def test_only_what_is_not_finite_is_explained():
    assert explain_difference(0.5) == ""
    assert "training has diverged" in explain_difference(float("nan"))
    assert "training has diverged" in explain_difference(float("inf"))
