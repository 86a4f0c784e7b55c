"""Where a compactor stands behind the batch normalisation, and where it does not."""

import keras
import pytest
from keras import layers

import resrep_keras


def sites(made, read=lambda x: x, alone=True):
    """The layers behind which compactors stand, of one layer and a normalisation that reads it."""
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="made", **made)(inputs)
    y = layers.BatchNormalization(name="norm")(read(x))
    y = y if alone else layers.Concatenate()([y, x])
    graph = resrep_keras.trace(keras.Model(inputs, layers.Dense(2)(y)))
    return [site.layer for site in graph.group("made").sites]


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        (["norm"], {"made": {}}),
        (["made"], {"made": {"activation": "relu"}}),
        (["made"], {"made": {"activity_regularizer": "l2"}}),
        (["made"], {"made": {}, "read": layers.ReLU()}),
        (["made"], {"made": {}, "alone": False}),
    ],
)
def test_what_stands_between_is_nothing(answer, given):
    assert sites(**given)[:1] == answer


def test_a_frozen_normalisation_takes_up_nothing():
    inputs = keras.Input((4,))
    norm = layers.BatchNormalization(name="norm")
    model = keras.Model(inputs, layers.Dense(2)(norm(layers.Dense(3, name="made")(inputs))))
    norm.trainable = False
    graph = resrep_keras.trace(model, spare_frozen=True)
    assert "norm" not in [site.layer for site in graph.group("made").sites]
