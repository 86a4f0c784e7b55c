"""Calls on random arrays, which leave the layer and all random numbers as they were."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.trace import trace
from resrep_keras.surgery import trial
from resrep_keras.surgery.trial import KINDS, Trial, Unlike, Untried, alike, tried_quietly


def trial_of(layer, shape=(6,)):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    return Trial(trace(model).calls[-1])


def test_each_kind_is_drawn_and_computed_with_other_weights():
    layer = layers.Dense(3)
    tried = trial_of(layer)
    kernel = ops.convert_to_numpy(layer.kernel)
    assert len(tried.inputs) == len(tried.weights) == len(tried.outputs) == len(KINDS)
    for (x,), (matrix, bias), (y,) in zip(tried.inputs, tried.weights, tried.outputs):
        np.testing.assert_allclose(y, ops.convert_to_numpy(x) @ matrix + bias, rtol=1e-4, atol=1e-5)
    positive = KINDS.index("positive")
    assert (ops.convert_to_numpy(tried.inputs[positive][0]) >= 0.5).all()
    assert (tried.weights[positive][0] > 0).all()
    np.testing.assert_array_equal(layer.kernel, kernel)


def test_random_numbers_start_anew_with_each_call_and_each_copy():
    tried = trial_of(layers.Dropout(0.5))
    arrays = tried.inputs[0]
    first, again = (tried.run(arrays, [], training=True)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first == 0).any() and (tried.run(arrays, [])[0] != 0).all()
    assert (first != tried.run(arrays, [], training=True, seed=1)[0]).any()
    copy = tried.copy({}, [(None, 6)])
    np.testing.assert_array_equal(first, tried.run(arrays, [], copy, training=True)[0])


def test_a_copy_has_the_weights_of_its_inputs():
    tried = trial_of(layers.Dense(3))
    assert tried.copy({"units": 2}, [(None, 4)]).shapes == [(4, 2), (2,)]
    assert tried.copy({"units": 2}, [(None, 4)]) is tried.copy({"units": 2}, [(None, 4)])
    with pytest.raises(Unlike, match="raises ValueError"):
        tried.copy({"units": -1}, [(None, 4)])


def test_what_raises_or_gives_no_number_has_shown_nothing():
    class Raises(layers.Layer):
        def call(self, x):
            if not isinstance(x, keras.KerasTensor):
                raise LookupError("only shapes")
            return x

        def compute_output_shape(self, input_shape):
            return input_shape

    with pytest.raises(Untried, match="LookupError: only shapes"):
        trial_of(Raises())
    with pytest.raises(Untried, match="no finite number"):
        trial_of(layers.Lambda(lambda x: x * np.nan))


def test_unknown_sizes_are_the_first_that_the_layer_takes():
    tried = trial_of(layers.Conv2D(2, 20), (None, None, 3))
    assert tried.inputs[0][0].shape[1:] == (64, 64, 3)  # 16 is too small for the kernel


def test_alike_is_equal_but_for_rounding():
    x = np.array([1.0, 100.0], "float32")
    assert alike(x, x + 1e-3) and not alike(x, x + 1.0) and not alike(x, x[:1])
    assert alike(x.astype("float16"), (x + 0.5).astype("float16"))
    nan = np.full(2, np.nan, "float32")
    assert alike(nan, nan) is None and alike(nan, x) is False and alike(x, nan) is False
    assert alike(np.array([1, 2]), np.array([1, 2])) is True


def test_automatic_names_and_drawn_numbers_are_kept():
    keras.utils.set_random_seed(0)
    expected = float(keras.random.uniform(())), np.random.normal()
    keras.utils.set_random_seed(0)
    names = [layers.Dense(1).name]
    keras.utils.set_random_seed(0)
    with tried_quietly():
        layers.Dense(1)
        keras.random.uniform(())
        np.random.normal()
    assert (float(keras.random.uniform(())), np.random.normal()) == expected
    names.append(layers.Dense(1).name)
    first = int(names[0].rpartition("_")[2] or 0) if "_" in names[0] else 0
    assert names[1] == f"dense_{first + 1}"


def test_a_layer_of_very_many_weights_is_not_tried(monkeypatch):
    monkeypatch.setattr(trial, "MOST_WEIGHTS", 20)
    with pytest.raises(Untried, match="it has 21 weights, and is tried with at most 20"):
        trial_of(layers.Dense(3))
    assert trial_of(layers.Dense(2)).outputs
