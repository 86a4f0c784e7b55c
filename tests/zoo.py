"""Small models, one for each pattern of channel flow. Add one, and every law runs over it."""

import keras
import numpy as np
from keras import layers, ops

from resrep_keras.keras_adapter import application_classes
from resrep_keras.layers.self_attention_pooling import SelfAttentionPooling
from tests.awkward_layers import Unembed

ZOO = {}


def member(build):
    ZOO[build.__name__] = build
    return build


@keras.saving.register_keras_serializable("zoo")
class Mystery(layers.Layer):
    """A layer that nobody has registered a rule for: all of its channels depend on each other."""

    def call(self, inputs):
        return inputs - ops.var(inputs, axis=-1, keepdims=True)

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


@keras.saving.register_keras_serializable("zoo")
class Squash(layers.Layer):
    """An activation of one's own."""

    def call(self, inputs):
        return inputs * ops.sigmoid(inputs)


@keras.saving.register_keras_serializable("zoo")
class Told(layers.Layer):
    """A factor for each channel; it is told how many there are."""

    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim

    def build(self, input_shape):
        self.factors = self.add_weight(shape=(self.dim,), initializer="ones", name="factors")

    def call(self, inputs):
        return inputs * self.factors

    def get_config(self):
        return {**super().get_config(), "dim": self.dim}


@keras.saving.register_keras_serializable("zoo")
class Linear(layers.Layer):
    """A dense layer of one's own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.matrix = self.add_weight(shape=(input_shape[-1], self.units), name="matrix")
        self.offset = self.add_weight(shape=(self.units,), initializer="zeros", name="offset")

    def call(self, inputs):
        return ops.matmul(inputs, self.matrix) + self.offset

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@member
def layers_without_rules():
    x = inputs = keras.Input((7,))
    x = Told(6)(Squash()(layers.Dense(6)(x)))
    x = layers.ReLU()(layers.BatchNormalization()(Linear(5)(x)))
    return keras.Model(inputs, layers.Dense(3)(x))


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


@member
def convolutions():
    """Separable, transposed, grouped, depthwise-by-groups and spectrally normalised ones."""
    x = inputs = image(6)
    x = layers.SeparableConv2D(6, 3, padding="same", depth_multiplier=2, activation="relu")(x)
    x = layers.SeparableConv2D(6, 1, use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(8, 3, groups=2)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(5, 2, use_bias=False)(layers.BatchNormalization()(x))
    x = layers.Conv2D(5, 3, padding="same", groups=5, activation="relu")(x)
    x = layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.SpectralNormalization(layers.Conv2D(7, 3, activation="relu", use_bias=False))(x)
    x = layers.Conv2DTranspose(4, 2, use_bias=False)(x)
    return keras.Model(inputs, head(layers.ReLU()(layers.BatchNormalization()(x))))


@member
def grouped_constants():
    """What a batch norm leaves of removed channels becomes the bias of a grouped convolution."""
    x = inputs = image(6)
    x = layers.Conv2D(8, 3, activation="relu")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(6, 2, groups=2, use_bias=False, activation="softplus")(x)
    x = layers.SeparableConv2D(4, 2, activation="relu")(x)
    return keras.Model(inputs, head(x))


@member
def one_dimension():
    x = inputs = keras.Input((12, 4))
    x = layers.Conv1D(6, 3, padding="same", activation="relu")(x)
    x = layers.DepthwiseConv1D(3, padding="same", depth_multiplier=2)(x)
    x = layers.SeparableConv1D(5, 3, activation="relu")(layers.ZeroPadding1D(1)(x))
    x = layers.UpSampling1D()(layers.Cropping1D(1)(layers.MaxPooling1D()(x)))
    x = layers.Conv1DTranspose(6, 3, strides=2)(x)
    x = layers.GlobalAveragePooling1D()(layers.BatchNormalization()(x))
    x = layers.RepeatVector(3)(layers.Dense(7, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(2)(x))


@member
def three_dimensions():
    x = inputs = keras.Input((4, 5, 4, 2))
    x = layers.Conv3D(5, 2, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.MaxPooling3D(2, padding="same")(layers.ZeroPadding3D(1)(x))
    x = layers.Conv3DTranspose(4, 2, strides=2, activation="relu")(x)
    x = layers.Conv3D(6, 2, activation="relu")(layers.UpSampling3D()(layers.Cropping3D(1)(x)))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling3D()(x)))


@member
def normalisations():
    """Group norms lose whole groups, RMS and unit norms any channel, layer norms none."""
    x = inputs = image(6)
    x = layers.Conv2D(8, 3, padding="same")(x)
    x = layers.ReLU()(layers.GroupNormalization(4)(x))
    x = layers.Conv2D(6, 3, padding="same")(x)
    x = layers.GroupNormalization(-1, scale=False)(x)
    x = layers.Conv2D(7, 1, activation="relu")(x)
    x = layers.RMSNormalization()(x)
    x = layers.Conv2D(6, 3, activation="relu")(x)
    x = layers.UnitNormalization()(x)
    y = layers.LayerNormalization()(layers.Conv2D(5, 1)(x))
    y = layers.Dense(9, activation="gelu")(y)
    x = layers.Add()([layers.Dense(5)(y), layers.Conv2D(5, 1)(x)])
    x = layers.Normalization(mean=[0.1] * 5, variance=[2.0] * 5)(layers.Dense(5)(x))
    return keras.Model(inputs, head(layers.Rescaling([1.0, 2.0, 0.5, 3.0, 1.0], offset=0.1)(x)))


@member
def einsum_dense():
    x = inputs = keras.Input((5, 4, 6))
    x = layers.EinsumDense("abcd,de->abce", (5, 4, 7), bias_axes="e", activation="relu")(x)
    x = layers.EinsumDense("abcd,cde->abce", (5, 4, 5), bias_axes="e")(x)
    x = layers.BatchNormalization()(x)
    x = layers.EinsumDense("abcd,de->abec", (5, 6, 4), activation="relu")(x)
    x = layers.Flatten()(layers.Permute((1, 3, 2))(x))
    x = layers.EinsumDense("...x,xy->...y", 8)(x)
    return keras.Model(inputs, layers.Dense(2)(x))


@member
def recurrent():
    x = inputs = keras.Input((6, 5))
    x = layers.Dense(7, activation="relu")(x)
    x = layers.LSTM(6, return_sequences=True)(layers.BatchNormalization()(x))
    x = layers.Dropout(0.1)(x)
    x, state = layers.GRU(5, return_sequences=True, return_state=True)(x)
    x = layers.SimpleRNN(6, use_bias=False)(layers.BatchNormalization()(x))
    x = layers.Concatenate()([x, state])
    return keras.Model(inputs, layers.Dense(2)(x))


@member
def encoder_decoder():
    """The states of one recurrent layer begin another."""
    first, second = keras.Input((5, 4)), keras.Input((3, 4))
    _, hidden, cell = layers.LSTM(6, return_state=True)(first)
    x = layers.LSTM(6, return_sequences=True)(second, initial_state=[hidden, cell])
    x = layers.Dense(20, activation="relu")(x)
    return keras.Model([first, second], layers.Dense(3)(x))


@member
def bidirectional():
    x = inputs = keras.Input((6, 5))
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    x = layers.Bidirectional(layers.GRU(5, return_sequences=True), merge_mode="sum")(x)
    x = layers.Bidirectional(layers.SimpleRNN(4, return_sequences=True), merge_mode="mul")(x)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode="ave")(x)
    x, y = layers.Bidirectional(layers.LSTM(3), merge_mode=None)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Concatenate()([x, y])))


@member
def embedding():
    x = inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(9, 6, mask_zero=True)(x)
    x = layers.LSTM(5, return_sequences=True)(x)
    x = layers.Bidirectional(layers.LSTM(4))(x)
    y = layers.BatchNormalization()(layers.Embedding(9, 7)(inputs))
    y = layers.Masking()(layers.Conv1D(4, 3, activation="relu")(y))
    y = layers.SimpleRNN(3)(y)
    return keras.Model(inputs, layers.Dense(2)(layers.Concatenate()([x, y])))


@member
def convolutional_lstm():
    x = inputs = keras.Input((3, 6, 6, 2))
    x = layers.ConvLSTM2D(5, 3, padding="same", return_sequences=True)(x)
    x = layers.TimeDistributed(layers.Conv2D(4, 3, activation="relu"))(x)
    x = layers.ConvLSTM2D(4, 2)(x)
    y = layers.ConvLSTM1D(3, 2)(layers.Reshape((3, 12, 6))(inputs))
    x = layers.Concatenate()([head(x), layers.GlobalAveragePooling1D()(y)])
    return keras.Model(inputs, layers.Dense(2)(x))


# Attention on JAX takes one width for keys and values.
VALUE_WIDTH = 3 if keras.backend.backend() == "jax" else 5


@member
def attention():
    x = inputs = keras.Input((5, 6))
    x = layers.Dense(8, activation="relu")(x)
    x = layers.Add()([x, layers.MultiHeadAttention(4, 3, value_dim=VALUE_WIDTH)(x, x)])
    x = layers.GroupQueryAttention(4, 6, 2)(x, layers.Dense(8)(x))
    x = layers.RMSNormalization()(x)
    y = layers.MultiHeadAttention(2, 4, output_shape=6, use_bias=False)(
        x, x, key=layers.Dense(5)(x)
    )
    y = layers.BatchNormalization()(y)
    q, k, v = (layers.Dense(n, use_bias=False)(y) for n in (6, 6, 7))
    y = layers.Attention()([q, v, k])
    z = layers.AdditiveAttention()([layers.Dense(7)(x), y])
    z = layers.Dense(6, activation="relu")(z)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(z)))


@member
def attention_pooling():
    """Weighted sums of a sequence in several heads, behind both directions of an LSTM, masked."""
    x = inputs = keras.Input((6, 5))
    x = layers.Dense(7, use_bias=False)(layers.Masking()(inputs))
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    y = SelfAttentionPooling(6, heads=2, penalty=0.1)(x)
    z = layers.Dense(8, activation="sigmoid")(inputs)
    z, scores = SelfAttentionPooling(5, heads=3, return_attention=True)(z)
    y = layers.Dense(9, activation="relu")(layers.Flatten()(y))
    z = layers.Dense(6, activation="relu")(layers.Flatten()(z))
    return keras.Model(inputs, [layers.Dense(2)(layers.Concatenate()([y, z])), scores])


def small_cnn(filters=6):
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(filters, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(5, 2, activation="relu"),
            layers.GlobalAveragePooling2D(),
        ]
    )


@member
def time_distributed():
    """A CNN for each picture, both directions of an LSTM, and attention over time."""
    x = inputs = keras.Input((4, 6, 6, 2))
    x = layers.TimeDistributed(small_cnn())(x)
    x = layers.TimeDistributed(layers.Dense(7, activation="relu"))(x)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    x = layers.Concatenate()([x, layers.Attention()([x, x])])
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


@member
def nested():
    """Models in models, one of them called twice, with the same layer names inside."""
    a, b = (keras.Input((6, 6, 2), name=name) for name in "ab")
    tower = small_cnn()
    inner = keras.Input((6, 6, 2))
    deep = layers.Conv2D(3, 1, activation="relu", name="conv")(inner)
    inner_model = keras.Model(inner, layers.Conv2D(2, 1, name="out")(deep), name="inner")
    y = keras.Input((6, 6, 2))
    z = layers.Conv2D(4, 1, activation="relu", name="conv")(inner_model(y))
    outer = keras.Model(y, layers.Conv2D(2, 1, name="out")(z), name="outer")
    x = layers.Subtract()([tower(outer(a)), tower(b)])
    return keras.Model({"a": a, "b": b}, {"same": layers.Dense(2, name="same")(x)})


@keras.saving.register_keras_serializable("zoo")
class Block(layers.Layer):
    """A layer that is made of layers: Keras sees one node."""

    def __init__(self, filters, strides=1, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.strides = filters, strides
        self.convs = [
            layers.Conv2D(
                filters, 3, strides=strides, padding="same", use_bias=False, name="first"
            ),
            layers.Conv2D(filters, 3, padding="same", use_bias=False, name="second"),
        ]
        self.norms = {"a": layers.BatchNormalization(), "b": layers.BatchNormalization()}
        self.project = layers.Conv2D(filters, 1, strides=strides)
        self.drop = layers.Dropout(0.1)

    def call(self, inputs, training=None):
        x = ops.relu(self.norms["a"](self.convs[0](inputs), training=training))
        x = self.norms["b"](self.convs[1](self.drop(x, training=training)))
        return ops.relu(x + self.project(inputs))


@keras.saving.register_keras_serializable("zoo")
class SubclassedResNet(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stem = layers.Conv2D(4, 3, padding="same", activation="relu")
        self.blocks = [Block(5, name="one"), Block(6, strides=2, name="two")]
        self.pool = layers.GlobalAveragePooling2D()
        self.top = layers.Dense(3)

    def call(self, inputs):
        x = self.stem(inputs)
        for block in self.blocks:
            x = block(x)
        return self.top(self.pool(x))


@member
def subclassed():
    model = SubclassedResNet()
    model(np.zeros((1, 8, 8, 3), "float32"))
    return model


@keras.saving.register_keras_serializable("zoo")
class Tokens(layers.Layer):
    """A class token, positions by an embedding of numbers, a Transformer block: own weights."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.positions = layers.Embedding(17, width, name="positions")
        self.attention = layers.MultiHeadAttention(2, 4, name="attention")
        self.widths = keras.Sequential([layers.Dense(7, "gelu"), layers.Dense(width)], name="mlp")
        self.norm = layers.LayerNormalization()
        self.dropout = layers.Dropout(0.1)

    def build(self, input_shape):
        width = input_shape[-1]
        self.token = self.add_weight(shape=(1, 1, width), name="token")
        self.scales = [self.add_weight(shape=(width,), name="gamma", regularizer="l2")]
        self.positions.build(())
        self.attention.build((None, 17, width), (None, 17, width))
        self.widths.build((None, 17, width))
        self.norm.build((None, 17, width))

    def call(self, inputs, training=False):
        batch = ops.shape(inputs)[0]
        x = ops.reshape(inputs, (batch, -1, inputs.shape[-1]))
        x = ops.concatenate([ops.broadcast_to(self.token, (batch, 1, x.shape[-1])), x], axis=1)
        x = x + self.positions(ops.expand_dims(ops.arange(17), 0))
        x = x + self.attention(x, x)
        x = x + self.scales[0] * self.dropout(self.widths(self.norm(x)), training=training)
        return x[:, 0]


@member
def composite():
    x = inputs = image()
    x = conv_bn(x, 6, strides=2)
    return keras.Model(inputs, layers.Dense(3)(Tokens(6)(x)))


@keras.saving.register_keras_serializable("zoo")
class Branches(layers.Layer):
    """Branches that become one convolution after training (Ding et al., RepVGG, 2021)."""

    def __init__(self, filters, kernels, **kwargs):
        super().__init__(**kwargs)
        self.convs = [
            layers.Conv2D(filters, kernel, padding="same", use_bias=False) for kernel in kernels
        ]
        self.norms = [layers.BatchNormalization() for _ in kernels]
        self.identity = layers.BatchNormalization()

    def call(self, inputs):
        x = self.identity(inputs)
        for conv, norm in zip(self.convs, self.norms):
            x = x + norm(conv(inputs))
        return ops.relu(x)


@member
def branches():
    x = inputs = image()
    x = conv_bn(x, 5)
    for kernels in ((3, 1), (3, 3, 1)):
        x = Branches(5, kernels)(x)
    for kernel in (3, 1):  # the same as plain code
        y = conv_bn(x, 5, kernel, activation=None)
        x = layers.ReLU()(layers.Add()([y, layers.BatchNormalization()(x)]))
    return keras.Model(inputs, head(x))


@member
def moves():
    """Channels go into space and back, meet arrays, and are summed over."""
    x = inputs = keras.Input((5,))
    x = layers.Reshape((4, 4, 6))(layers.Dense(96, activation="relu")(x))
    x = conv_bn(x * np.linspace(0.5, 1.5, 6, dtype="float32"), 8)
    both = [ops.mean(x, -1, keepdims=True), ops.max(x, -1, keepdims=True)]
    gate = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(ops.concatenate(both, -1))
    x = layers.Permute((1, 2, 4, 3))(layers.Reshape((4, 4, 2, 4))(x * gate))
    x = conv_bn(layers.Reshape((4, 4, 8))(x), 12)
    x = layers.Permute((1, 3, 2, 4, 5))(layers.Reshape((4, 4, 2, 2, 3))(x))
    x = layers.Reshape((8, 8, 3))(x)
    y = ops.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (1, 1)))
    x = ops.roll(layers.Conv2D(5, 3, 2, padding="same")(x), 2, -1) + y
    return keras.Model(inputs, head(layers.Conv2D(4, 3, padding="same", activation="relu")(x)))


@keras.saving.register_keras_serializable("zoo")
class PixelShuffle(layers.Layer):
    def call(self, x):
        height, width, channels = x.shape[1:]
        x = ops.reshape(x, (-1, height, width, 2, 2, channels // 4))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, 2 * height, 2 * width, channels // 4))


@keras.saving.register_keras_serializable("zoo")
class FeedForward(layers.Layer):
    def build(self, input_shape):
        self.up = self.add_weight(shape=(input_shape[-1], 7), name="up")
        self.offset = self.add_weight(shape=(7,), initializer="zeros", name="bias")
        self.down = self.add_weight(shape=(7, input_shape[-1]), name="down")

    def call(self, x):
        return ops.matmul(ops.relu(ops.matmul(x, self.up) + self.offset), self.down)


@member
def layers_that_are_opened():
    """Layers that hold no others, and that trying does not make clear; tokens and channels."""
    inputs = keras.Input((4, 4, 3))
    x = PixelShuffle()(layers.Conv2D(16, 2, padding="same", activation="relu")(inputs))
    x = layers.Reshape((64, 4))(layers.Conv2D(4, 1)(x))
    tokens = layers.Dense(5, activation="relu")(layers.Permute((2, 1))(x))
    x = layers.Add()([x, layers.Permute((2, 1))(layers.Dense(64)(tokens))])
    x = layers.GlobalAveragePooling1D()(FeedForward()(layers.LayerNormalization()(x)))
    return keras.Model(inputs, layers.Dense(3)(x))


@member
def heads_by_hand():
    """Rotated queries and keys; a head of keys and values is read by two of queries."""
    inputs = keras.Input((5, 6))
    angles = np.outer(np.arange(5), [1.0, 0.5, 0.25] * 2)[:, None].astype("float32")

    def rotated(x):
        a, b = ops.split(x, 2, -1)
        return x * np.cos(angles) + ops.concatenate([-b, a], -1) * np.sin(angles)

    q, k, v = (layers.Reshape((5, n, 6))(layers.Dense(n * 6)(inputs)) for n in (4, 2, 2))
    q, k = rotated(q), rotated(k)
    k, v = (ops.repeat(x, 2, 2) for x in (k, v))
    scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k) * 0.4)
    x = layers.Reshape((5, 24))(ops.einsum("bhqk,bkhd->bqhd", scores, v))
    a, b = ops.split(layers.Dense(14)(x), 2, -1)
    x = x[..., :7] + ops.silu(a) * b
    x = x * ops.rsqrt(ops.mean(ops.square(x), -1, keepdims=True) + 1e-3)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


@member
def decoder_block():
    """Positions turn queries and keys, of which there are fewer; gated widths; tied embedding."""
    ids = keras.Input((5,), dtype="int32")
    table = layers.Embedding(9, 6)
    x = table(ids)
    angle = np.arange(5, dtype="float32")[:, None, None] * np.array([1.0, 0.3], "float32")
    y = layers.RMSNormalization(epsilon=1e-3)(x)
    q, k, v = (layers.Reshape((5, n, 4))(layers.Dense(n * 4)(y)) for n in (4, 2, 2))
    q, k = (
        ops.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle)], -1)
        for a, b in (ops.split(z, 2, -1) for z in (q, k))
    )
    k, v = (ops.repeat(z, 2, 2) for z in (k, v))
    scores = ops.einsum("bqhd,bkhd->bhqk", q, k) * 0.5
    scores = ops.where(np.tril(np.ones((5, 5), bool)), scores, -1e9)
    y = ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores), v)
    x = x + layers.Dense(6)(layers.Reshape((5, 16))(y))
    y = layers.RMSNormalization(epsilon=1e-3)(x)
    x = x + layers.Dense(6)(layers.Dense(7, "silu")(y) * layers.Dense(7)(y))
    x = layers.RMSNormalization(epsilon=1e-3)(x)
    return keras.Model(ids, [Unembed(table)(x), layers.Dense(2)(x)])


@member
def mixed_positions():
    """Token mixing, a gate, attention without a softmax; filters and factors that are arrays."""
    x = inputs = image(4)
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    blur = np.full((2, 2, 6, 1), 0.25, keras.config.floatx())
    x = layers.Reshape((16, 5))(layers.Dense(5)(ops.depthwise_conv(x, blur, padding="same")))
    y = layers.Permute((2, 1))(layers.BatchNormalization()(x))
    y = layers.Dense(16)(layers.Dense(4, activation="gelu")(y))
    x = layers.BatchNormalization()(layers.Add()([x, layers.Permute((2, 1))(y)]))
    u, v = ops.split(layers.Dense(8, activation="gelu")(x), 2, -1)
    x = u * layers.EinsumDense("btc,ts->bsc", (16, 4), bias_axes="s")(v)
    q, k, v = (layers.Dense(n)(x) for n in (5, 5, 6))
    x = ops.einsum("bnc,bcd->bnd", q, ops.einsum("bnc,bnd->bcd", ops.relu(k), v))
    x = ops.matmul(x, np.linspace(-1.0, 1.0, 24, dtype="float32").reshape(6, 4))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


@member
def operations():
    """Raw operations that slice, split, stack, transpose, reshape, pad and multiply."""
    x = inputs = image(6)
    x = layers.Conv2D(8, 3, padding="same")(x)
    x = layers.Dropout(0.1, noise_shape=(None, 1, 1, 8))(x)
    x = ops.concatenate(ops.split(x, 2, axis=1), axis=1)
    a, b = ops.split(ops.relu(x), 2, axis=-1)
    x = ops.concatenate([a * ops.sigmoid(b), x[..., 2:7]], axis=-1)
    x = ops.pad(x, ((0, 0), (1, 0), (0, 1), (0, 0)))
    x = layers.Conv2D(6, 3, activation="relu")(x)
    y = ops.transpose(layers.Conv2D(6, 1)(x), (0, 3, 1, 2))
    y = ops.moveaxis(y, 1, 3)
    x = ops.stack([x, y], axis=1)
    x = ops.mean(x, axis=1)
    x = ops.reshape(x, (-1, 25, 6))
    q, k = layers.Dense(5, use_bias=False)(x), layers.Dense(5, use_bias=False)(x)
    scores = ops.softmax(ops.matmul(q, ops.swapaxes(k, 1, 2)) / 2.0, axis=-1)
    x = ops.matmul(scores, layers.Dense(7, use_bias=False)(x))
    x = ops.einsum("abc,ac->abc", x, layers.Dense(7)(ops.mean(x, axis=1)))
    x = ops.squeeze(ops.expand_dims(ops.max(x, axis=1), 1), 1)
    p, q = layers.Dense(6, use_bias=False)(x), layers.Dense(6, use_bias=False)(x)
    return keras.Model(inputs, [layers.Dense(3)(x), layers.Dot(1, normalize=True)([p, q])])


@member
def applications_layers():
    """The layers that two applications define for themselves."""
    convnext, inception = keras.applications.ConvNeXtTiny, keras.applications.InceptionResNetV2
    scale, depth = application_classes(convnext, "LayerScale", "StochasticDepth")
    (custom,) = application_classes(inception, "CustomScaleLayer")
    layer_scale, stochastic_depth, custom_scale = scale(0.5, 6), depth(0.1), custom(0.3)
    x = inputs = image(6)
    x = layers.Conv2D(6, 3, padding="same")(x)
    y = layers.Conv2D(6, 3, padding="same", groups=6)(x)
    y = layers.Conv2D(12, 1, activation="gelu")(layers.BatchNormalization()(y))
    y = layer_scale(layers.Conv2D(6, 1)(y))
    x = x + stochastic_depth(y)
    y = layers.Conv2D(6, 1)(layers.Conv2D(4, 1, activation="relu")(x))
    return keras.Model(inputs, head(custom_scale([x, y])))


def channels_first():
    """Every layer but the pooling says that channels come first.

    No picture is as wide as a layer has channels: Keras 3.15 on TensorFlow would then add the bias
    along the width.
    """
    first = {"data_format": "channels_first"}
    x = inputs = keras.Input((3, 8, 14))
    x = layers.Conv2D(6, 3, **first)(x)
    x = layers.ReLU()(layers.BatchNormalization(axis=1)(x))
    x = layers.DepthwiseConv2D(3, **first)(x)
    y = layers.Conv2D(1, 1, activation="relu", **first)(x)
    x = layers.Conv2D(5, 2, padding="same", activation="relu", **first)(x)
    x = layers.SeparableConv2D(6, 2, **first)(x)
    x = layers.Conv2DTranspose(4, 2, activation="relu", **first)(x)
    x = layers.Concatenate(axis=1)([x, layers.ZeroPadding2D(0, **first)(y)])
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


def _convolves_channels_first():
    """Not every build of TensorFlow does on a CPU."""
    try:
        layers.Conv2D(1, 1, data_format="channels_first")(np.zeros((1, 1, 2, 2), "float32"))
    except Exception:  # of the backend's own kind
        return False
    return True


if _convolves_channels_first():
    member(channels_first)


# Laws that hold for a layer as soon as two others do run over all members on one backend, and over
# these on the others, where each new shape is compiled anew.
# One of each kind of flow; other backends than TensorFlow compile each shape of each model, so that
# every run has each second one there.
KINDS = (
    "residual constant_at_the_border squeeze_excite concatenate shared_layer convolutions "
    "recurrent attention time_distributed subclassed operations moves layers_without_rules"
).split()
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
SAMPLE = list(ZOO) if ON_TENSORFLOW else KINDS
IN_EVERY_RUN = KINDS if ON_TENSORFLOW else KINDS[::2]


def randomise(model, seed=0):
    """Random weights and batch statistics, so that nothing is zero or one by chance."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if "seed" in weight.path or weight.dtype == "bool":
            continue
        if weight.path.split("/")[-1] in ("mean", "variance", "count"):  # of an adapted layer
            continue
        values = generator.normal(0.0, 0.4, weight.shape)
        if weight.path.endswith(("variance", "gamma")):
            values = generator.uniform(0.5, 1.5, weight.shape)
        weight.assign(values)
    return model


def build(name, seed=0):
    return randomise(ZOO[name](), seed)
