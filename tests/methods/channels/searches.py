"""A net of two convolutions, and searches of AOFP that have begun."""

import keras
from keras import layers

from resrep_keras.methods.channels.ablation import searches_of
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import zoo


def begun(model, method=None):
    channel_state = ChannelState(model)
    searches = searches_of(channel_state)
    for one in searches:
        one.compactor.begin(one.ids >= 0, 0)
    return channel_state, searches


def conv_chain(normalise=True):
    inputs = x = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, name="first")(x)
    x = layers.BatchNormalization(name="norm1")(x) if normalise else x
    x = layers.ReLU()(x)
    x = layers.Conv2D(5, 3, padding="same", name="second")(x)
    x = layers.BatchNormalization(name="norm2")(x) if normalise else x
    x = layers.ReLU(name="relu2")(x)
    model = keras.Model(inputs, layers.Dense(3, name="out")(layers.Flatten()(x)))
    zoo.randomise(model)
    return model
