"""Layers that differ in their number of channels alone are tried in full once."""

import keras
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.rules import passing
from tests import helpers, zoo


@keras.saving.register_keras_serializable("relatives")
class Swish(layers.Layer):
    def call(self, x):
        return x * ops.sigmoid(x)


@keras.saving.register_keras_serializable("relatives")
class Scale(layers.Layer):
    def build(self, input_shape):
        self.factors = self.add_weight(shape=input_shape[-1:], initializer="ones", name="factors")

    def call(self, x):
        return x * self.factors


class MixesWhereEven(layers.Layer):
    """Channels are apart where their number is odd, and where it is below five."""

    def call(self, x):
        apart = x.shape[-1] % 2 or x.shape[-1] < 5
        return x if apart else x + ops.flip(x, -1)


class MoreThan(layers.Layer):
    """Its configuration has a number that may be that of the channels by chance."""

    def __init__(self, threshold=6, **kwargs):
        super().__init__(**kwargs)
        self.threshold = threshold

    def call(self, x):
        return ops.where(x > self.threshold, x, 0.5 * x)

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold}


def network(*kinds, widths=(5, 6, 7, 9)):
    x = inputs = keras.Input((4, 4, 3))
    for width in widths:
        x = layers.Conv2D(width, 1)(x)
        for kind in kinds:
            x = kind()(x)
    return keras.Model(inputs, zoo.head(x))


@pytest.fixture
def searches(monkeypatch):
    """The widths that are tried in full."""
    found, original = [], passing.Search.found

    def noted(self, *args, **kwargs):
        found.append((type(self.trial.operation), self.width))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(passing.Search, "found", noted)
    return found


def test_one_of_each_kind_is_tried_in_full_and_all_are_removed_exactly(searches):
    wrapped = resrep_keras.wrap(
        zoo.randomise(network(Swish, Scale)), resrep_keras.ResRep(0.01, coupled=True)
    )
    assert searches == [(Swish, 5), (Scale, 5)]
    state = ChannelState(wrapped)
    assert [int((~group.pinned).sum()) for group in state.graph.groups] == [5, 6, 7, 9, 0]
    helpers.check_random_removal(wrapped, state)


def test_how_many_positions_there_are_makes_no_other_kind(searches):
    x = inputs = keras.Input((9, 9, 3))
    for width, strides in ((4, 1), (6, 2), (8, 2)):  # of 9, 5 and 3 positions
        x = Scale()(Swish()(layers.Conv2D(width, 1, strides=strides)(x)))
    model = zoo.randomise(keras.Model(inputs, zoo.head(x)))
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.01, coupled=True))
    assert searches == [(Swish, 4), (Scale, 4)]
    helpers.check_random_removal(wrapped, ChannelState(wrapped))


class MixesWhereLarge(layers.Layer):
    """Channels are apart where there are few positions."""

    def call(self, x):
        return x if x.shape[1] < 5 else x + ops.flip(x, -1)


def test_what_holds_at_few_positions_is_looked_at_at_more(searches):
    inputs = keras.Input((3, 3, 3))
    x = layers.UpSampling2D(3)(MixesWhereLarge()(layers.Conv2D(5, 1)(inputs)))
    x = MixesWhereLarge()(layers.Conv2D(7, 1)(x))
    graph = resrep_keras.trace(keras.Model(inputs, zoo.head(x)))
    assert searches[0] == (MixesWhereLarge, 5) and (MixesWhereLarge, 7) in searches
    assert [len(group.channels) for group in graph.groups] == [5, 4, 3]


def test_what_holds_at_one_width_is_looked_at_at_each(searches):
    """Opened, it shows that what is flipped goes in pairs."""
    graph = resrep_keras.trace(network(MixesWhereEven))
    assert (MixesWhereEven, 6) in searches and (MixesWhereEven, 7) not in searches
    assert [len(group.channels) for group in graph.groups] == [5, 3, 7, 9, 3]


def test_a_setting_that_equals_the_number_of_channels_is_not_taken_for_it(searches):
    graph = resrep_keras.trace(network(MoreThan))
    assert [int((~group.pinned).sum()) for group in graph.groups] == [5, 6, 7, 9, 0]
    assert [width for _, width in searches] == [5, 6]
