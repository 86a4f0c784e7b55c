"""Borders, sizes and the order of axes."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.costs.activations import runs_in_place
from resrep_keras.costs.latency_model import is_fused
from resrep_keras.graph.flow import depends_on_channels, rule_of
from resrep_keras.graph.labels import Flow
from resrep_keras.rules.shapes import reshaped, sizes_left
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


@pytest.mark.parametrize("layer", [layers.ZeroPadding1D(0), layers.ZeroPadding2D(((0, 0), (0, 0)))])
def test_a_padding_of_nothing_has_no_border(layer):
    positions = SEQUENCE if isinstance(layer, layers.ZeroPadding1D) else IMAGE
    assert Answer(layer, positions, activation="sigmoid").states == {"CONSTANT"}


def test_flatten_tiles_channels():
    assert Answer(layers.Flatten(), (2, 2)).ids() == [0, 1, 2] * 4


def test_a_reshape_follows_channels_that_stay_one_axis():
    assert Answer(layers.Reshape((16, 3)), IMAGE).ids() == [0, 1, 2]
    assert Answer(layers.Reshape((2, 1, 3)), (2,)).ids() == [0, 1, 2]
    assert depends_on_channels(layers.Reshape((3, 5)))


def test_a_reshape_spreads_channels_and_brings_them_back():
    """The longest axis counts where no layer reads one of them."""
    whole = resrep_keras.trace(spread_and_read(layers.ReLU()))
    assert whole.channel_of[whole.calls[0].outputs[0].labels].ravel().tolist() == [0, 1, 2] * 4
    first = resrep_keras.trace(spread_and_read(layers.BatchNormalization(axis=1)))
    assert first.channel_of[first.calls[0].outputs[0].labels].ravel().tolist() == [0] * 6 + [1] * 6


def spread_and_read(reader):
    inputs = keras.Input((2,))
    x = layers.Reshape((2, 2, 3))(layers.Dense(12, name="made")(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(reader(x))))


def test_a_reshape_that_mixes_channels_keeps_them():
    """Each channel lands at each place: none can go without the others."""
    inputs = keras.Input((5, 2))
    x = layers.Reshape((3, 5))(layers.Dense(3, name="made")(inputs))
    group = resrep_keras.trace(keras.Model(inputs, layers.Dense(2)(x))).group("made")
    assert group.size == 1 and not group.prunable
    assert "mixes all its channels" in str(group.pinned_by)


def test_constants_of_positions_that_become_one_channel_differ():
    inputs = keras.Input((2, 2, 2))
    x = layers.Flatten()(layers.Dense(3, activation="sigmoid")(inputs))
    x = layers.Reshape((4, 3))(layers.BatchNormalization()(x))
    graph = resrep_keras.trace(keras.Model(inputs, layers.Conv1D(2, 1)(x)))
    (group, _) = graph.groups
    norm = graph.calls[-3].name  # no bias of the convolution could hold them
    assert group.size == 3 and [site.layer for site in group.sites][1:] == [norm]


@pytest.mark.parametrize(
    ("before", "after", "labels"),
    [
        ((None, None, None, 6), (None, None, None, 2, 3), (1, 1, 1, 2, 3)),
        ((None, None, None, 6), (None, None, 6), (1, 1, 6)),
        ((None, 4, 4, 6), (None, 2, 2, 6), (1, 1, 1, 6)),
        ((None, 4, 6), (None, 24), (1, 24)),
        ((None, None, 4, 6), (None, None, 24), (1, 1, 24)),
        ((None, None, 6), (None, 24), None),
    ],
)
def test_where_channels_go(before, after, labels):
    flow_in = Flow(np.arange(6).reshape((1,) * (len(before) - 1) + (6,)), before)
    out = reshaped(flow_in, after)
    assert (None if out is None else out.labels.shape) == labels


def test_open_sizes_stay_open():
    assert sizes_left((4, -1, 6), (4, 8, 3)) == (4, -1, 3)
    layer = layers.Reshape((4, -1, 6))
    keep = part(output_shape=(None, 4, 8, 3))
    assert rule_of(narrow, layer)(layer, keep) == ({"target_shape": (4, -1, 3)}, [])


def test_a_new_shape_costs_nothing():
    for layer in (layers.Flatten(), layers.Reshape((2, 2))):
        assert runs_in_place(layer) and is_fused(layer)
    assert not is_fused(layers.Permute((2, 1)))
