"""Playing recordings: the same outputs, and what passes by."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.trace import recording_of
from resrep_keras.surgery.forward import (
    check_data,
    evaluate,
    example_inputs,
    explain_difference,
    fitting_inputs,
    fitting_sizes,
    play,
    random_inputs,
    run,
)
from tests import zoo


@pytest.mark.parametrize("name", ["chain", "residual", "recurrent", "time_distributed"])
def test_play_is_run_call_by_call(name):
    model = zoo.build(name)
    inputs = example_inputs(model)
    expected, actual = run(model, inputs), play(recording_of(model), inputs)
    for a, b in zip(keras.tree.flatten(expected), keras.tree.flatten(actual)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def doubling():
    inputs = keras.Input((1,))
    return keras.Model(inputs, layers.Rescaling(10.0, name="ten")(ops.add(inputs, inputs)))


def test_evaluate_shows_inputs_and_takes_other_values():
    recording, seen = recording_of(doubling()), {}
    one = np.ones((1, 1), "float32")
    outputs = evaluate(
        recording,
        one,
        before=lambda recorded, first: seen.update({recorded.name: float(np.ravel(first)[0])}),
        behind=lambda tensor, value: value + 1,
    )
    assert seen["ten"] == 1 + 1 + 1
    assert float(np.ravel(outputs)[0]) == 10 * 3 + 1


def test_a_call_that_is_replaced_is_not_made():
    outputs = evaluate(
        recording_of(doubling()),
        np.ones((1, 1), "float32"),
        instead=lambda recorded, first: [first * 7] if recorded.name != "ten" else None,
    )
    assert float(np.ravel(outputs)[0]) == 70


def test_batch_statistics_change_no_variable():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.BatchNormalization()(inputs))
    before = [ops.convert_to_numpy(w).copy() for w in model.weights]
    x = np.array([[0.0, 0.0], [2.0, 4.0]], "float32")
    np.testing.assert_allclose(play(recording_of(model), x, True), [[-1, -1], [1, 1]], atol=1e-2)
    np.testing.assert_allclose(play(recording_of(model), x), x, rtol=1e-2)
    for old, new in zip(before, model.weights):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))


def test_random_inputs_have_the_sizes_that_are_known():
    flat = keras.Input((None, 3)), keras.Input((4,), dtype="int32")
    image, numbers = random_inputs(flat, batch_size=3, size=5)
    assert image.shape == (3, 5, 3) and numbers.shape == (3, 4)
    assert set(np.unique(ops.convert_to_numpy(numbers))) <= {0, 1}
    assert random_inputs(flat[0], input_shape=(7, 3)).shape == (2, 7, 3)


def test_outputs_that_are_not_finite_are_explained():
    assert explain_difference(0.5) == ""
    assert "diverged" in explain_difference(float("nan"))


def two_inputs():
    one, other = keras.Input((3,), name="one"), keras.Input((None, 2), name="other")
    pooled = layers.GlobalAveragePooling1D()(other)
    return keras.Model({"one": one, "other": other}, layers.Concatenate()([one, pooled]))


def test_data_are_tensors_in_the_structure_of_the_inputs():
    given = {"one": np.array([[1, 2, 3]]), "other": np.ones((1, 5, 2), "float64")}
    kept = check_data(two_inputs(), given)
    assert {name: tuple(value.shape) for name, value in kept.items()} == {
        "one": (1, 3),
        "other": (1, 5, 2),
    }
    assert all(keras.backend.standardize_dtype(v.dtype) == "float32" for v in kept.values())


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (np.ones((1, 3)), ValueError, "Expected data to be arrays of the shapes .*got array"),
        ({"one": np.ones((1, 4)), "other": np.ones((1, 5, 2))}, ValueError, r"shape \(1, 4\)"),
        ({"one": np.ones(3), "other": np.ones((1, 5, 2))}, ValueError, r"shape \(3,\)"),
        ({"one": "text", "other": len}, TypeError, "Expected data to be arrays of the shapes"),
        ({"one": None, "other": np.ones((1, 5, 2))}, TypeError, "Expected data to be arrays"),
    ],
)
def test_data_that_fit_no_input(data, error, text):
    with pytest.raises(error, match=text):
        check_data(two_inputs(), data)


def test_unknown_sizes_become_those_that_leave_something():
    """Behind five halves of 64 pixels two are left, and a kernel of four does not fit."""
    x = inputs = keras.Input((None, None, 3))
    for kernel in (2, 2, 2, 2, 2, 4):
        x = layers.Conv2D(2, kernel, strides=2)(x)
    model = keras.Model(inputs, x)
    assert example_inputs(model).shape == (2, 128, 128, 3)
    recording = recording_of(model)
    assert fitting_inputs(recording).shape == (2, 128, 128, 3)
    assert fitting_inputs(recording, 1, (200, None, 3)).shape == (1, 200, 128, 3)
    assert fitting_sizes(recording, (32, 64)) == (32, 64)  # none fits: whoever runs it, sees
    known = keras.Input((3,))
    assert fitting_sizes(recording_of(keras.Model(known, layers.Dense(2)(known))), (8, 9)) == (8,)
