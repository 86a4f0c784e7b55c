"""Small models whose gradients are pruned, and their training."""

import keras
import numpy as np
from keras import layers

import resrep_keras


def block(x, name, filters=4, kernel=3, **settings):
    """Convolution, batch normalisation, ReLU."""
    x = layers.Conv2D(filters, kernel, padding="same", use_bias=False, name=name, **settings)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def plain(x, name, filters=4, kernel=3, **settings):
    """Convolution with its activation inside."""
    settings = {"padding": "same", "activation": "relu", **settings}
    return layers.Conv2D(filters, kernel, name=name, **settings)(x)


def model_of(build, head=True):
    inputs = keras.Input((8, 8, 2))
    x = build(inputs)
    if head:
        x = layers.Dense(3, name="dense")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x)


def normalised(inputs):
    return block(block(inputs, "a"), "b", 6)


def unnormalised(inputs):
    x = plain(inputs, "a")
    x = layers.MaxPooling2D()(x)
    x = layers.ReLU()(layers.Conv2D(5, 3, name="b")(x))
    return plain(x, "c", 6, 1)


def branches(inputs):
    """Two convolutions read one tensor; one of them has no activation, so that it is left alone."""
    x = plain(inputs, "a")
    return layers.Concatenate()([plain(x, "b"), layers.Conv2D(3, 1, name="c")(x)])


def residual(inputs):
    x = plain(inputs, "a")
    y = layers.Add()([x, layers.Conv2D(4, 1, name="b")(inputs)])
    return plain(y, "c")


def shared(inputs):
    convolution = layers.Conv2D(2, 3, padding="same", name="a")
    x = layers.ReLU()(layers.BatchNormalization()(convolution(inputs)))
    return layers.ReLU()(layers.BatchNormalization()(convolution(x)))


def nested(inputs):
    inner = keras.Input((8, 8, 4))
    inside = keras.Model(inner, plain(block(inner, "b"), "c"), name="inside")
    return plain(inside(plain(inputs, "a")), "d")


def kinds(inputs):
    x = layers.LayerNormalization()(layers.DepthwiseConv2D(3, name="a")(inputs))
    x = layers.BatchNormalization()(layers.Conv2DTranspose(4, 3, name="b")(x))
    x = layers.BatchNormalization()(layers.SeparableConv2D(4, 3, name="not")(x))
    x = layers.SpectralNormalization(layers.Conv2D(4, 3, name="inner"), name="c")(x)
    return layers.GroupNormalization(2)(x)


def data(size=64, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(size, 8, 8, 2)).astype("float32")
    return x, generator.integers(0, 3, size)


def make_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fitted(method, build=normalised, optimizer="sgd", epochs=2, **settings):
    keras.utils.set_random_seed(3)
    model = model_of(build)
    model.compile(optimizer, make_loss(), **settings)
    wrapped = resrep_keras.wrap(model, method)
    history = wrapped.fit(*data(), batch_size=8, epochs=epochs, verbose=0, shuffle=False)
    return wrapped, history.history
