"""Pooling keeps channels apart; over a whole image, borders no longer matter."""

import pytest
from keras import layers

from resrep_keras.rules.pooling import ADAPTIVE
from tests.rules.calls import IMAGE, SEQUENCE, Answer


@pytest.mark.parametrize(
    ("layer", "positions"),
    [
        (layers.MaxPooling1D(), SEQUENCE),
        (layers.AveragePooling1D(2), SEQUENCE),
        (layers.MaxPooling2D(), IMAGE),
        (layers.AveragePooling2D(2), IMAGE),
        (layers.MaxPooling3D(), (2, 2, 2)),
        (layers.GlobalMaxPooling1D(), SEQUENCE),
        (layers.GlobalAveragePooling2D(), IMAGE),
        (layers.GlobalAveragePooling2D(keepdims=True), IMAGE),
        *[(kind(1), IMAGE) for kind in ADAPTIVE if kind.__name__.endswith("2D")],
    ],
)
def test_each_channel_stays_by_itself(layer, positions):
    answer = Answer(layer, positions)
    assert answer.ids() == [0, 1, 2] and answer.states == {"ZERO"}


def test_over_a_whole_image_uneven_values_are_one_constant():
    def pooled(x):
        return layers.GlobalAveragePooling2D()(layers.ZeroPadding2D(1)(x))

    assert Answer(pooled, IMAGE, activation="sigmoid").states == {"CONSTANT"}


def test_channels_first_is_read_from_the_layer():
    """The channels lie along the last axis, which this layer takes for a width."""
    answer = Answer(layers.MaxPooling2D(data_format="channels_first"), IMAGE)
    assert answer.pins("along axis 1 of a tensor whose channels lie along axis 3")
