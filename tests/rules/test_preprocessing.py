"""Normalization and Rescaling in the middle of a model."""

import numpy as np
from keras import layers

from resrep_keras.costs.activations import runs_in_place
from resrep_keras.graph.flow import rule_of
from resrep_keras.surgery.narrow import narrow
from tests.rules.calls import IMAGE, ROW, Answer, mask, part


def narrowed(layer, keep):
    return rule_of(narrow, layer)(layer, part(None, keep))


def test_statistics_make_constants_along_one_axis():
    layer = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 1.0, 1.0])
    answer = Answer(layer, ROW)
    assert answer.ids() == [0, 1, 2] and answer.states == {"CONSTANT"}
    assert narrowed(layer, mask(1, 0, 1))[0] == {"mean": [1.0, 3.0], "variance": [1.0, 1.0]}


def test_statistics_along_several_axes_are_pinned():
    layer = layers.Normalization(axis=(2, 3))
    layer.adapt(np.random.default_rng(0).normal(size=(8, 4, 4, 3)))
    assert Answer(layer, IMAGE).pins("a Normalization over several axes")


def test_an_offset_makes_constants():
    assert Answer(layers.Rescaling(2.0), IMAGE).states == {"ZERO"}
    assert Answer(layers.Rescaling(2.0, offset=1.0), IMAGE).states == {"CONSTANT"}
    assert runs_in_place(layers.Rescaling(2.0))


def test_factors_for_each_channel_are_narrowed():
    layer = layers.Rescaling([1.0, 2.0, 3.0], offset=0.5)
    assert Answer(layer, IMAGE).states == {"CONSTANT"}
    assert narrowed(layer, mask(0, 1, 1)) == ({"scale": [2.0, 3.0]}, [])
