"""Convolutions: which channels go together, and what is left of their kernels."""

import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.graph.flow import rule_of
from resrep_keras.rules.convolutions import is_depthwise, pads
from resrep_keras.surgery.channel_weights import producing_weights
from resrep_keras.surgery.narrow import narrow, weights_of
from tests import zoo
from tests.rules.calls import IMAGE, Answer, built, mask, part

FIRST, LAST = mask(1, 0, 0), mask(0, 0, 1)


def narrowed(layer, *args, **kwargs):
    return rule_of(narrow, layer)(layer, part(*args, **kwargs))


def test_a_kernel_larger_than_one_reads_zeros_beyond_the_border():
    assert pads(layers.Conv2D(1, (1, 3), padding="same"))
    assert not pads(layers.Conv2D(1, 1, padding="same"))
    assert not pads(layers.Conv2D(1, 3, padding="valid"))


def test_only_one_filter_a_channel_is_depthwise():
    assert is_depthwise(layers.Conv2D(4, 3, groups=4), 4)
    assert not is_depthwise(layers.Conv2D(8, 3, groups=4), 4)
    assert not is_depthwise(layers.Conv2D(1, 3), 1)


def test_a_convolution_makes_channels_and_a_depthwise_one_repeats_them():
    assert Answer(layers.Conv2D(2, 3), IMAGE).ids() == [3, 4]
    repeated = Answer(layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False), IMAGE)
    assert repeated.ids() == [0, 0, 1, 1, 2, 2]
    assert repeated.states == {"ZERO"}
    assert Answer(layers.DepthwiseConv2D(3), IMAGE).states == {"CONSTANT"}


def test_a_border_makes_constants_uneven_and_takes_none():
    layer = layers.DepthwiseConv2D(3, padding="same", use_bias=False)
    assert Answer(layer, IMAGE, activation="sigmoid").states == {"FIXED"}
    padded = Answer(layers.Conv2D(2, 3, padding="same"), IMAGE, activation="sigmoid")
    assert padded.pins("no bias can hold")
    assert not Answer(layers.Conv2D(2, 3), IMAGE, activation="sigmoid").pins("no bias can hold")


def test_grouped_convolutions_give_up_the_same_place_in_each_group():
    graph = resrep_keras.trace(zoo.build("pinned_layers"))
    reasons = " ".join(str(g.reason or "") for g in graph.groups)
    assert "broadcast over channels" in reasons
    assert sorted(g.size for g in graph.groups if g.prunable) == [3, 3, 4, 7]
    grouped = [p.channels for g in graph.groups for p in g.producers if g.size == 3]
    assert all(list(channels[:3]) == list(channels[3:6]) for channels in grouped[:2])


def test_constants_of_removed_inputs_become_part_of_the_bias():
    layer = built(layers.Conv2D(2, 2, use_bias=False), 5, 5, 3)
    constants = np.array([1.0, 10.0, 100.0])
    config, (kernel, bias) = narrowed(layer, FIRST, mask(1, 0), constants=constants)
    old = weights_of(layer)["kernel"]
    np.testing.assert_array_equal(kernel, old[:, :, :1, :1])
    expected = 10 * old[:, :, 1, 0].sum() + 100 * old[:, :, 2, 0].sum()
    np.testing.assert_allclose(bias, [expected])
    assert config == {"filters": 1, "use_bias": True}


def test_a_grouped_convolution_keeps_its_groups():
    layer = built(layers.Conv1D(4, 1, groups=2), 5, 6)
    config, (kernel, bias) = narrowed(layer, mask(1, 0, 1, 1, 0, 1), mask(1, 0, 1, 0))
    old = weights_of(layer)
    np.testing.assert_array_equal(kernel, old["kernel"][:, [0, 2]][:, :, [0, 2]])
    np.testing.assert_array_equal(bias, old["bias"][[0, 2]])
    assert config == {"filters": 2, "use_bias": True}


def test_a_convolution_with_a_group_for_each_channel_loses_groups():
    layer = built(layers.Conv1D(3, 2, groups=3), 5, 3)
    config, (kernel, _) = narrowed(layer, LAST, LAST)
    np.testing.assert_array_equal(kernel, weights_of(layer)["kernel"][:, :, 2:])
    assert config == {"filters": 1, "use_bias": True, "groups": 1}


def test_a_separable_convolution_hands_constants_through_its_first_kernel():
    layer = built(layers.SeparableConv1D(2, 3, depth_multiplier=2, use_bias=False), 5, 3)
    constants = np.array([0.0, 2.0, 0.0])
    _, (depthwise, pointwise, bias) = narrowed(
        layer, mask(1, 0, 1), mask(1, 1), constants=constants
    )
    old = weights_of(layer)
    assert depthwise.shape == (3, 2, 2) and pointwise.shape == (1, 4, 2)
    taps = old["depthwise_kernel"][:, 1].sum(axis=0)
    np.testing.assert_allclose(bias, 2 * taps @ old["pointwise_kernel"][0, 2:4])


def test_a_transposed_kernel_has_outputs_before_inputs():
    layer = built(layers.Conv2DTranspose(2, 3), 5, 5, 3)
    _, (kernel, bias) = narrowed(layer, FIRST, mask(0, 1))
    np.testing.assert_array_equal(kernel, weights_of(layer)["kernel"][:, :, 1:, :1])
    assert bias.shape == (1,)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (layers.Conv2D(4, 3), "kernel"),
        (layers.SeparableConv2D(4, 3), "pointwise_kernel"),
        (layers.Conv2DTranspose(4, 3), "kernel"),
    ],
)
def test_each_makes_its_channels_by_one_kernel(layer, name):
    weights = rule_of(producing_weights, built(layer, 5, 5, 3))(layer)
    assert weights.shape[-1] == 4
    assert weights.size == weights_of(layer)[name].size
