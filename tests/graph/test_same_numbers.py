"""A layer and a graph are compared on random arrays, in inference and in training."""

import re

import keras
import pytest
from keras import layers, ops

from resrep_keras.graph.same_numbers import difference


class Noisy(layers.Layer):
    """A dropout, a batch normalisation, and what a subclass adds."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dropout = layers.Dropout(0.5, seed=0)
        self.norm = layers.BatchNormalization(name="norm")

    def call(self, x, training=None):
        return self.norm(self.dropout(x), training=training)


class OtherInTraining(Noisy):
    def call(self, x, training=None):
        x = super().call(x, training)
        return 2 * x if training else x


class OtherStatistics(Noisy):
    def call(self, x, training=None):
        y = super().call(x, training)
        if training:
            self.norm.moving_mean.assign(self.norm.moving_mean + 1)
        return y


class AddsALoss(Noisy):
    def call(self, x, training=None):
        self.add_loss(ops.sum(x))
        return super().call(x, training)


class TakesManyPositions(Noisy):
    def call(self, x, training=None):
        if x.shape[1] < 100:
            raise ValueError(f"{x.shape[1]} positions are too few")
        return super().call(x, training)


def compared(kind, shape=(5, 4), **kwargs):
    layer, inputs = kind(), keras.Input(shape)
    layer.norm.build((None, *shape))
    graph = keras.Model([inputs], layer.norm(layer.dropout(inputs)))
    before = [ops.convert_to_numpy(variable).tolist() for variable in layer.variables]
    found = difference(layer, (inputs,), kwargs, graph, [inputs], layer.variables)
    assert [ops.convert_to_numpy(v).tolist() for v in layer.variables] == before
    return found


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Noisy, None),
        (OtherInTraining, "its outputs are others than those .* that it calls in training"),
        (OtherStatistics, "it gives '.*moving_mean' another value than the layers .* in training"),
        (AddsALoss, r"its call\(\) adds a loss"),
    ],
)
def test_the_difference_in_words(kind, words):
    found = compared(kind)
    assert found is None if words is None else re.match(words, found)


def test_the_flag_of_a_call_holds_where_nobody_around_it_says_more():
    assert compared(OtherInTraining, training=True) is not None
    assert compared(Noisy, training=False) is None


def test_unknown_sizes_are_tried_until_one_is_taken():
    assert compared(TakesManyPositions, (None, 4)) is None
    with pytest.raises(ValueError, match="5 positions are too few"):
        compared(TakesManyPositions)
