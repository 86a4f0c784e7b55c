"""Statistics of batch normalisations, taken again: those of the examples, and where not."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.trace import recording_of, trace
from resrep_keras.surgery import examples as module
from resrep_keras.surgery.examples import Examples
from resrep_keras.surgery.remove import remove
from resrep_keras.surgery.statistics import hand_on_statistics, retake_statistics

X = np.random.default_rng(0).normal(2.0, 3.0, (40, 5, 5, 4)).astype("float32")


def net():
    inputs = keras.Input((5, 5, 4))
    x = layers.BatchNormalization(name="first")(inputs)
    x = layers.ReLU()(layers.Conv2D(3, 3, name="conv")(x))
    return keras.Model(inputs, layers.BatchNormalization(name="second")(x))


@pytest.mark.parametrize("number", (8, 128))
def test_they_are_those_of_all_examples(number, monkeypatch):
    monkeypatch.setattr(module, "MOST", number)
    model = net()
    names = retake_statistics(recording_of(model), Examples(model, X))
    assert names == ("first", "second")
    first = model.get_layer("first")
    np.testing.assert_allclose(first.moving_mean, X.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(first.moving_variance, X.var((0, 1, 2)), rtol=1e-4)


def test_those_behind_see_what_the_first_ones_have_normalised():
    model = net()
    retake_statistics(recording_of(model), Examples(model, X))
    seen = ops.convert_to_numpy(keras.Model(model.input, model.get_layer("second").input)(X))
    second = model.get_layer("second")
    np.testing.assert_allclose(second.moving_mean, seen.mean((0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(second.moving_variance, seen.var((0, 1, 2)), rtol=1e-3)


def test_nothing_else_changes_and_what_is_frozen_or_spared_stays():
    model = net()
    model.get_layer("first").trainable = False
    before = model.get_weights()
    assert retake_statistics(recording_of(model), Examples(model, X), ("second",)) == ()
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    trained = [ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    assert retake_statistics(recording_of(model), Examples(model, X)) == ("second",)
    for old, new in zip(trained, model.trainable_variables):
        np.testing.assert_array_equal(old, new)
    assert not all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))


def test_channels_may_be_along_another_axis():
    inputs = keras.Input((4, 6))
    model = keras.Model(inputs, layers.BatchNormalization(axis=1, name="norm")(inputs))
    x = np.random.default_rng(1).normal(1.0, 2.0, (20, 4, 6)).astype("float32")
    retake_statistics(recording_of(model), Examples(model, x))
    np.testing.assert_allclose(model.get_layer("norm").moving_mean, x.mean((0, 2)), rtol=1e-4)


def test_a_narrow_model_gets_what_is_left_of_them():
    inputs = keras.Input((5, 5, 4))
    x = layers.Conv2D(6, 3, name="made")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    graph = trace(model)
    mask = np.array([True, False, True, True, False, True])
    kept = graph.keep_array({"made": mask})
    slim = remove(graph, kept)
    names = retake_statistics(graph.recording, Examples(model, X))
    hand_on_statistics(graph, kept, graph.recording, recording_of(slim), names)
    old, new = model.get_layer("norm"), slim.get_layer("norm")
    for before, after in (
        (old.moving_mean, new.moving_mean),
        (old.moving_variance, new.moving_variance),
    ):
        np.testing.assert_array_equal(ops.convert_to_numpy(before)[mask], after)
    seen = ops.convert_to_numpy(model.get_layer("made")(X))
    np.testing.assert_allclose(new.moving_mean, seen.mean((0, 1, 2))[mask], rtol=1e-3, atol=1e-4)
