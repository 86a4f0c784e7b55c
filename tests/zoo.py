"""Small models, one for each pattern of channel flow. Add one, and every law runs over it."""

import keras
import numpy as np
from keras import layers, ops

ZOO = {}


def member(build):
    ZOO[build.__name__] = build
    return build


@keras.saving.register_keras_serializable("zoo")
class Mystery(layers.Layer):
    """A layer that nobody has registered a rule for: it mixes channels by their position."""

    def call(self, inputs):
        return inputs + ops.flip(inputs, axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape


def conv_bn(x, filters, kernel=3, strides=1, activation="relu", **kwargs):
    x = layers.Conv2D(filters, kernel, strides=strides, padding="same", use_bias=False, **kwargs)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation(activation)(x) if activation else x


def head(x, units=3):
    return layers.Dense(units)(layers.GlobalAveragePooling2D()(x))


def image(size=8, channels=3):
    return keras.Input((size, size, channels))


@member
def chain():
    x = inputs = image()
    x = conv_bn(x, 6)
    x = layers.Conv2D(8, 3, activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(5, (1, 3), dilation_rate=2, padding="same")(x)
    x = layers.LeakyReLU()(x)
    return keras.Model(inputs, head(x))


@member
def sequential():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(2.0),
            layers.Conv2D(6, 3, strides=2, activation="relu"),
            layers.Dropout(0.3),
            layers.Conv2D(7, 2),
            layers.ELU(),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )


@member
def vgg():
    x = inputs = image()
    x = layers.MaxPooling2D()(layers.Conv2D(6, 3, padding="same", activation="relu")(x))
    x = layers.MaxPooling2D()(layers.Conv2D(8, 3, padding="same", activation="relu")(x))
    x = layers.Flatten()(x)
    x = layers.Dense(10, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Dense(9, activation="tanh")(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


@member
def mlp():
    x = inputs = keras.Input((7,))
    x = layers.Dense(12, activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Dense(6, activation="sigmoid")(x)
    return keras.Model(inputs, layers.Dense(2)(x))


@member
def residual():
    x = inputs = image()
    x = conv_bn(x, 6)
    for _ in range(2):
        y = conv_bn(x, 6)
        x = layers.ReLU()(layers.Add()([x, conv_bn(y, 6, activation=None)]))
    return keras.Model(inputs, head(x))


@member
def projection_residual():
    x = inputs = image()
    x = conv_bn(x, 4)
    y = conv_bn(x, 6, strides=2)
    y = conv_bn(y, 8, activation=None)
    x = layers.Add()([conv_bn(x, 8, 1, 2, activation=None), y])
    return keras.Model(inputs, head(layers.ReLU()(x)))


@member
def bottleneck():
    x = inputs = image()
    x = conv_bn(x, 8, 1)
    y = conv_bn(x, 4, 1)
    y = layers.ZeroPadding2D(1)(y)
    y = layers.Conv2D(4, 3)(y)
    y = layers.ReLU()(layers.BatchNormalization(scale=False)(y))
    y = conv_bn(y, 8, 1, activation=None)
    x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(inputs, head(x))


@member
def preactivation():
    """ResNetV2: batch norm and activation before the convolution turn zeros into constants."""
    x = inputs = image()
    x = layers.Conv2D(6, 3, padding="same")(x)
    for _ in range(2):
        y = layers.Activation("relu")(layers.BatchNormalization()(x))
        y = layers.Conv2D(5, 1)(y)
        y = layers.Activation("relu")(layers.BatchNormalization(center=False)(y))
        y = layers.Conv2D(6, 3, padding="same")(y)
        x = layers.Add()([x, y])
    return keras.Model(inputs, head(layers.ReLU()(layers.BatchNormalization()(x))))


@member
def constant_at_the_border():
    """A channel that is read twice, once through a batch norm by a padded convolution."""
    x = inputs = image()
    x = layers.Conv2D(6, 3, padding="same")(x)
    y = layers.Activation("relu")(layers.BatchNormalization(scale=False)(x))
    y = layers.Conv2D(5, 3, padding="same")(y)
    z = layers.Conv2D(4, 1, activation="relu")(x)
    return keras.Model(inputs, head(layers.Concatenate()([y, z])))


@member
def mobilenet_block():
    x = inputs = image()
    x = conv_bn(x, 4, activation="relu6")
    y = conv_bn(x, 12, 1, activation="relu6")
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
    y = layers.Activation("relu6")(layers.BatchNormalization()(y))
    y = conv_bn(y, 4, 1, activation=None)
    x = layers.Add()([x, y])
    x = conv_bn(x, 9, 1)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    return keras.Model(inputs, head(x))


@member
def depth_multiplier():
    x = inputs = image()
    x = conv_bn(x, 5)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = layers.Conv2D(6, 1, activation="relu")(x)
    return keras.Model(inputs, head(x))


@member
def squeeze_excite():
    x = inputs = image()
    x = conv_bn(x, 8, activation="swish")
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.Activation("swish")(layers.BatchNormalization()(x))
    s = layers.GlobalAveragePooling2D()(x)
    s = layers.Reshape((1, 1, 8))(s)
    s = layers.Conv2D(3, 1, activation="swish")(s)
    s = layers.Conv2D(8, 1, activation="sigmoid")(s)
    x = layers.Multiply()([x, s])
    x = conv_bn(x, 6, 1)
    return keras.Model(inputs, head(x))


@member
def hard_sigmoid_gate():
    """The squeeze-excite of MobileNetV3: raw operations with constants."""
    x = inputs = image()
    x = conv_bn(x, 8)
    s = layers.GlobalAveragePooling2D(keepdims=True)(x)
    s = layers.Conv2D(8, 1)(s)
    s = layers.ReLU(6.0)(s + 3.0) * (1.0 / 6.0)
    x = layers.Multiply()([x, s])
    y = x * (layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0))
    return keras.Model(inputs, head(layers.Conv2D(5, 1, activation="relu")(y)))


@member
def concatenate():
    x = inputs = image()
    x = conv_bn(x, 4)
    a = conv_bn(x, 3, 1)
    b = conv_bn(conv_bn(x, 5, 1), 6)
    c = layers.Conv2D(4, 1)(layers.AveragePooling2D(3, 1, padding="same")(x))
    x = layers.Concatenate()([a, b, c])
    x = conv_bn(x, 7)
    return keras.Model(inputs, head(x))


@member
def dense_block():
    x = inputs = image()
    x = layers.Conv2D(6, 3, padding="same", use_bias=False)(x)
    for _ in range(2):
        y = layers.Activation("relu")(layers.BatchNormalization()(x))
        y = layers.Conv2D(5, 1, use_bias=False)(y)
        y = layers.Activation("relu")(layers.BatchNormalization()(y))
        y = layers.Conv2D(4, 3, padding="same", use_bias=False)(y)
        x = layers.Concatenate()([x, y])
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return keras.Model(inputs, head(x))


@member
def multi_input_output():
    first, second = image(), keras.Input((5,))
    x = conv_bn(first, 6)
    x = layers.GlobalMaxPooling2D()(x)
    y = layers.Dense(6, activation="relu")(second)
    z = layers.Concatenate()([x, y])
    z = layers.Dense(8, activation="relu")(z)
    outputs = {"mean": layers.Dense(1, name="mean")(z), "class": layers.Dense(3, name="class")(x)}
    return keras.Model([first, second], outputs)


@member
def shared_layer():
    """A siamese stem: one convolution and batch norm, called twice."""
    a, b = image(), image()
    conv, norm = layers.Conv2D(6, 3, use_bias=False), layers.BatchNormalization()
    second = layers.Conv2D(7, 3, padding="same", activation="relu")
    x, y = (second(layers.ReLU()(norm(conv(t)))) for t in (a, b))
    x, y = layers.GlobalAveragePooling2D()(x), layers.GlobalAveragePooling2D()(y)
    return keras.Model([a, b], layers.Dense(2)(layers.Subtract()([x, y])))


@member
def unknown_layer():
    x = inputs = image()
    x = conv_bn(x, 6)
    x = Mystery()(conv_bn(x, 8))
    x = conv_bn(x, 5)
    return keras.Model(inputs, head(x))


@member
def pinned_layers():
    """Permute, a grouped convolution and a product with a one-channel map."""
    x = inputs = image(6, 4)
    x = conv_bn(x, 6)
    x = layers.Permute((2, 1, 3))(x)
    x = layers.Conv2D(6, 3, groups=2, padding="same")(x)
    x = conv_bn(x, 7)
    x = layers.Multiply()([x, layers.Conv2D(1, 1, activation="sigmoid")(x)])
    return keras.Model(inputs, head(layers.Conv2D(4, 1, activation="relu")(x)))


@member
def spatial():
    x = inputs = image(channels=1)
    x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(6, 3, padding="same")(x))
    x = layers.UpSampling2D()(x)
    x = layers.Cropping2D(2)(layers.ZeroPadding2D(1)(x))
    x = layers.PReLU()(layers.Conv2D(5, 3)(x))
    x = layers.SpatialDropout2D(0.2)(x)
    x = layers.Maximum()([x, layers.Conv2D(5, 1)(x)])
    x = layers.Average()([x, layers.Conv2D(5, 1)(x)])
    return keras.Model(inputs, head(layers.Conv2D(6, 1, activation="gelu")(x)))


def channels_first():
    """Every layer but the pooling says that channels come first."""
    first = {"data_format": "channels_first"}
    x = inputs = keras.Input((3, 8, 7))
    x = layers.Conv2D(6, 3, **first)(x)
    x = layers.ReLU()(layers.BatchNormalization(axis=1)(x))
    x = layers.DepthwiseConv2D(3, **first)(x)
    y = layers.Conv2D(1, 1, activation="relu", **first)(x)
    x = layers.Conv2D(5, 2, padding="same", activation="relu", **first)(x)
    x = layers.Concatenate(axis=1)([x, y])
    x = layers.Flatten(**first)(layers.MaxPooling2D(**first)(x))
    return keras.Model(inputs, layers.Dense(3)(x))


@member
def softplus_border():
    """An activation with f(0) != 0 before a padded convolution cannot be folded."""
    x = inputs = image()
    x = layers.Conv2D(6, 3, activation="softplus")(x)
    x = layers.Conv2D(5, 3, padding="same", activation="softplus")(x)
    x = layers.Conv2D(4, 2, activation="relu")(x)
    return keras.Model(inputs, head(x))


if keras.backend.backend() != "tensorflow":  # which convolves so on a GPU only
    member(channels_first)


def randomise(model, seed=0):
    """Random weights and batch statistics, so that nothing is zero or one by chance."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if "seed" in weight.path or weight.dtype == "bool":
            continue
        values = generator.normal(0.0, 0.4, weight.shape)
        if weight.path.endswith(("variance", "gamma")):
            values = generator.uniform(0.5, 1.5, weight.shape)
        weight.assign(values)
    return model


def build(name, seed=0):
    return randomise(ZOO[name](), seed)
