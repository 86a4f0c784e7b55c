"""Small models that lose channels while they train, and how they are trained."""

import keras
import numpy as np
from keras import layers

import resrep_keras
from resrep_keras import ResRep
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers, zoo


def data(size=8, channels=3, number=96):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(number, size, size, channels)).astype("float32")
    return x, generator.integers(0, 3, number)


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(name="chain", optimizer=None, metrics=(), **settings):
    keras.utils.set_random_seed(0)
    settings = {"target_reduction": 0.4, "slim_every": 1, **settings}
    model = resrep_keras.wrap(zoo.build(name), ResRep(**settings))
    optimizer = keras.optimizers.SGD(0.03, momentum=0.9) if optimizer is None else optimizer
    model.compile(optimizer, crossentropy(), metrics=list(metrics))
    return model


def train(model, epochs, **kwargs):
    x, y = data()
    return model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, **kwargs)


def with_dead_channels(model, seed=0):
    """Kill random channels; returns the `ChannelState` and the dead channels."""
    channel_state = ChannelState(model)
    kept = helpers.random_keep(channel_state.graph, channel_state.groups, seed)
    helpers.kill(model, kept, channel_state)
    if channel_state.baseline is None:
        channel_state.baseline = model.method.baseline(model, channel_state)
    dead = channel_state.dead(0)
    assert dead.any()
    return channel_state, dead


def steps(model, number, seed):
    generator = np.random.default_rng(seed)
    for _ in range(number):
        x = generator.normal(size=(16, *model.input_shape[1:])).astype("float32")
        model.train_on_batch(x, generator.integers(0, 3, 16))


def two_convolutions():
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, use_bias=False, name="first")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(3, 3, name="second")(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
