"""Small nets of the kinds that phones run, which these tests train for some steps."""

import keras
import numpy as np
from keras import layers

CLASSES = 4
generator = np.random.default_rng(0)
LABELS = np.arange(96) % CLASSES
CENTERS = generator.normal(0, 1, (CLASSES, 8, 8, 3))
IMAGES = (CENTERS[LABELS] + generator.normal(0, 0.7, (96, 8, 8, 3))).astype("float32")


def _conv(x, filters, kernel=3, strides=1):
    return layers.Conv2D(filters, kernel, strides, padding="same", use_bias=False)(x)


def _norm(x):
    return layers.BatchNormalization(momentum=0.7)(x)  # there are few steps


def _head(inputs, x, name):
    x = layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x, name=name)


def resnet():
    """As ResNet-20: a batch normalisation behind each convolution, sums by `+`."""
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.ReLU()(_norm(_conv(inputs, 8)))
    for filters, strides in ((8, 1), (8, 2)):
        y = layers.ReLU()(_norm(_conv(x, filters, 3, strides)))
        y = _norm(_conv(y, filters))
        short = x if strides == 1 else _norm(_conv(x, filters, 1, strides))
        x = layers.ReLU()(y + short)
    return _head(inputs, x, "resnet")


def vgg():
    """As VGG-11 after `finalize`: activations inside, no batch normalisation."""
    x = inputs = keras.Input((8, 8, 3), name="image")
    for filters in (8, 12):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Dropout(0.2)(layers.Dense(16, activation="relu")(layers.Flatten()(x)))
    return keras.Model(inputs, layers.Dense(CLASSES)(x), name="vgg")


def mobilenet_v2():
    """As MobileNetV2: an inverted residual, ReLU6."""
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.ReLU(6.0)(_norm(_conv(inputs, 8)))
    y = layers.ReLU(6.0)(_norm(_conv(x, 16, 1)))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
    y = layers.ReLU(6.0)(_norm(y))
    x = layers.Add()([x, _norm(_conv(y, 8, 1))])
    return _head(inputs, x, "mobilenet_v2")


NETS = {build.__name__: build for build in (resnet, vgg, mobilenet_v2)}


def compiled(model, rate=0.01):
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def trained(name, epochs=4):
    """A net that tells most images apart, compiled."""
    keras.utils.set_random_seed(0)
    model = compiled(NETS[name]())
    model.fit(IMAGES, LABELS, epochs=epochs, verbose=0)
    return model
