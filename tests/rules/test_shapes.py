"""Borders, sizes and the order of axes."""

import pytest
from keras import layers

from resrep_keras.costs.activations import runs_in_place
from resrep_keras.costs.latency_model import is_fused
from resrep_keras.graph.flow import depends_on_channels, rule_of
from resrep_keras.rules.shapes import sizes_left
from resrep_keras.surgery.narrow import narrow
from tests.rules.calls import IMAGE, ROW, SEQUENCE, Answer, part


@pytest.mark.parametrize(
    ("layer", "positions"),
    [
        (layers.Cropping1D(1), SEQUENCE),
        (layers.Cropping2D(1), IMAGE),
        (layers.UpSampling1D(2), SEQUENCE),
        (layers.UpSampling2D(2), IMAGE),
        (layers.ZeroPadding1D(1), SEQUENCE),
        (layers.ZeroPadding2D(1), IMAGE),
        (layers.RepeatVector(4), ROW),
        (layers.Permute((2, 1, 3)), IMAGE),
    ],
)
def test_each_channel_stays_by_itself(layer, positions):
    answer = Answer(layer, *[positions])
    assert answer.ids() == [0, 1, 2] and answer.states == {"ZERO"}


@pytest.mark.parametrize("layer", [layers.ZeroPadding1D(1), layers.ZeroPadding2D(1)])
def test_constants_end_at_a_padded_border(layer):
    positions = SEQUENCE if isinstance(layer, layers.ZeroPadding1D) else IMAGE
    assert Answer(layer, positions, activation="sigmoid").states == {"FIXED"}


def test_flatten_tiles_channels():
    assert Answer(layers.Flatten(), (2, 2)).ids() == [0, 1, 2] * 4


def test_a_reshape_follows_channels_that_stay_one_axis():
    assert Answer(layers.Reshape((16, 3)), IMAGE).ids() == [0, 1, 2]
    assert Answer(layers.Reshape((2, 1, 3)), (2,)).ids() == [0, 1, 2]
    assert Answer(layers.Reshape((3, 5)), SEQUENCE).pins("spreads channels")
    assert depends_on_channels(layers.Reshape((3, 5)))


def test_open_sizes_stay_open():
    assert sizes_left((4, -1, 6), (4, 8, 3)) == (4, -1, 3)
    layer = layers.Reshape((4, -1, 6))
    keep = part(output_shape=(None, 4, 8, 3))
    assert rule_of(narrow, layer)(layer, keep) == ({"target_shape": (4, -1, 3)}, [])


def test_a_new_shape_costs_nothing():
    for layer in (layers.Flatten(), layers.Reshape((2, 2))):
        assert runs_in_place(layer) and is_fused(layer)
    assert not is_fused(layers.Permute((2, 1)))
