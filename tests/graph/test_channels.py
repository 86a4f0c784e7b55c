"""Groups and keep masks by hand: two coupled producers, one of its own, one that is an output."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.graph.channels import ChannelGraph, ChannelGroup, Producer, Site
from resrep_keras.graph.pins import Pin
from resrep_keras.graph.trace import trace

STREAM, ALONE, OUTPUT = np.arange(3), np.array([3, 4]), np.array([5])


def group(name, channels, *layers, **settings):
    producers = tuple(Producer(layer, channels) for layer in layers)
    settings = {"pinned": np.zeros(len(channels), bool), "sites": (), **settings}
    return ChannelGroup(name, channels, producers, **settings)


@pytest.fixture
def graph():
    site = Site("stem_norm", STREAM, axis=3)
    groups = (
        group("stem", STREAM, "stem", "block", sites=(site,)),
        group("alone", ALONE, "alone", sites=(Site("alone", ALONE, 3, inside="units"),)),
        group(
            "top", OUTPUT, "top", pinned=np.ones(1, bool), reason=Pin("top", "output of the model")
        ),
    )
    # Labels 0 to 2 and 3 to 5 are coupled; label 8 was never made by a layer.
    channel_of = np.array([0, 1, 2, 0, 1, 2, 3, 4, -1, 5])
    return ChannelGraph((), groups, (), 6, channel_of)


def test_a_group_is_found_by_each_of_its_producers(graph):
    assert graph.group("stem") is graph.group("block") is graph.groups[0]
    with pytest.raises(ValueError, match=r"makes channels \(stem, alone, top\); got 'dense'"):
        graph.group("dense")


def test_coupled_and_prunable(graph):
    assert [g.coupled for g in graph.groups] == [True, False, False]
    assert [g.prunable for g in graph.groups] == [True, True, False]
    assert [g.size for g in graph.groups] == [3, 2, 1]


def test_a_follower_couples_nothing():
    makers = (Producer("stream", STREAM), Producer("scale", STREAM, follows=True))
    assert not ChannelGroup("stream", STREAM, makers, (), np.zeros(3, bool)).coupled


def test_what_pins_a_group_is_told(graph):
    assert str(graph.group("top").pinned_by) == "top: output of the model"
    single = group("one", np.array([0]), "one", sites=(Site("one", np.array([0]), 1),))
    assert str(single.pinned_by) == "one: it has a single channel"
    free = group("free", STREAM, "free")
    assert str(free.pinned_by) == "free: no compactor can stand behind it"
    assert not single.prunable and not free.prunable


def test_channels_inside_a_layer_have_a_name_of_their_own():
    assert Producer("attention", STREAM).name == "attention"
    assert Producer("attention", STREAM, inside="heads").name == "attention.heads"
    assert Site("attention", STREAM, 2, inside="heads").name == "attention.heads"


def masks(**keep):
    return {name: np.array(mask, bool) for name, mask in keep.items()}


def test_keep_masks_become_one_array(graph):
    keep = masks(stem=[1, 0, 1], block=[1, 0, 1], alone=[0, 1])
    assert graph.keep_array(keep).tolist() == [True, False, True, False, True, True]
    # A coupled layer that is not named keeps what the named one does.
    assert graph.keep_array(masks(stem=[1, 0, 1])).tolist() == [True, False, True] + [True] * 3


def test_and_back_again_without_those_that_keep_everything(graph):
    kept = np.array([True, False, True, True, True, True])
    back = graph.keep_by_producer(kept)
    assert {name: mask.tolist() for name, mask in back.items()} == {
        "stem": [True, False, True],
        "block": [True, False, True],
    }
    np.testing.assert_array_equal(graph.keep_array(back), kept)


@pytest.mark.parametrize(
    ("keep", "text"),
    [
        (masks(stem=[1, 0]), "bool array of shape (3,) as keep mask of layer 'stem'"),
        ({"stem": np.array([1.0, 0.0, 1.0])}, "got dtype float64, shape (3,)"),
        (masks(top=[0]), "'top' has pinned channels that the keep mask removes: top: output of"),
        (masks(alone=[0, 0]), "'alone' removes all 2 channels; keep at least one"),
        (masks(stem=[1, 0, 1], block=[1, 1, 0]), "'stem' disagrees with that of a layer coupled"),
        (masks(nope=[1]), "got 'nope'"),
    ],
)
def test_keep_masks_are_checked(graph, keep, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        graph.keep_array(keep)


def test_labels_that_no_layer_makes_are_kept(graph):
    kept = np.array([False, True, True, True, False, True])
    labels = np.array([[0, 3, 1], [7, 8, 9]])
    assert graph.kept_labels(labels, kept).tolist() == [[False, False, True], [False, True, True]]


def test_the_producer_before_a_site():
    x = inputs = keras.Input((4, 4, 2))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(3, 1, name="first")(x))
    x = layers.DepthwiseConv2D(1, name="depthwise")(x)
    x = layers.BatchNormalization(name="later")(x)
    graph = trace(keras.Model(inputs, layers.Conv2D(1, 3, padding="same")(x)))
    found = [graph.producer_before(graph.calls_by_name[n]) for n in ("first", "norm", "later")]
    assert found == ["first", "first", None]
