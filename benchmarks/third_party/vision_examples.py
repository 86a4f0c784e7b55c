"""Models as the code examples of keras.io describe them: pictures. Small, and written anew."""

import keras
from keras import layers, ops
from third_party.example_layers import (
    ChannelAttention,
    ClassToken,
    ExternalAttention,
    Involution,
    PatchEncoder,
    Patches,
    ReflectionPadding,
    SequencePooling,
)


def convnet():
    """Simple MNIST convnet."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def cats_and_dogs():
    """Image classification from scratch: a small Xception with residuals of the stage before."""
    inputs = keras.Input((64, 64, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(16, 3, strides=2, padding="same")(x)
    x = before = layers.Activation("relu")(layers.BatchNormalization()(x))
    for width in (32, 48):
        for _ in range(2):
            x = layers.Activation("relu")(x)
            x = layers.SeparableConv2D(width, 3, padding="same")(x)
            x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        x = before = x + layers.Conv2D(width, 1, strides=2, padding="same")(before)
    x = layers.SeparableConv2D(64, 3, padding="same")(x)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Dropout(0.25)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(1)(x))


def vision_transformer():
    """Image classification with a vision transformer."""
    inputs = keras.Input((32, 32, 3))
    x = PatchEncoder(16, 32)(Patches(8)(inputs))
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([layers.MultiHeadAttention(4, 8, dropout=0.1)(y, y), x])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        for width in (64, 32):
            y = layers.Dropout(0.1)(layers.Dense(width, activation=keras.activations.gelu)(y))
        x = layers.Add()([y, x])
    x = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(x))
    for width in (64, 32):
        x = layers.Dropout(0.5)(layers.Dense(width, activation=keras.activations.gelu)(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def compact_convolutional_transformer():
    """Compact convolutional transformers: convolutions as tokens, pooled by attention."""
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for width in (16, 32):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, activation="relu")(x)
        x = layers.MaxPooling2D(3, 2, "same")(x)
    x = layers.Reshape((64, 32))(x)
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        x = layers.Add()([layers.MultiHeadAttention(2, 16)(y, y), x])
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        for width in (48, 32):
            y = layers.Dropout(0.1)(layers.Dense(width, activation=ops.gelu)(y))
        x = layers.Add()([y, x])
    x = SequencePooling()(layers.LayerNormalization(epsilon=1e-5)(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def conv_mixer():
    """Image classification with ConvMixer."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(32, 2, strides=2)(layers.Rescaling(1 / 255)(inputs))
    x = layers.BatchNormalization()(layers.Activation("gelu")(x))
    for _ in range(2):
        y = layers.DepthwiseConv2D(5, padding="same")(x)
        y = layers.BatchNormalization()(layers.Activation("gelu")(y))
        x = layers.Conv2D(32, 1)(layers.Add()([y, x]))
        x = layers.BatchNormalization()(layers.Activation("gelu")(x))
    x = layers.GlobalAvgPool2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


class MLPMixerLayer(layers.Layer):
    def __init__(self, patches, width, hidden, **settings):
        super().__init__(**settings)
        self.patches, self.width, self.hidden = patches, width, hidden
        self.tokens = keras.Sequential(
            [layers.Dense(patches, activation="gelu"), layers.Dense(patches), layers.Dropout(0.1)]
        )
        self.channels = keras.Sequential(
            [layers.Dense(hidden, activation="gelu"), layers.Dense(width), layers.Dropout(0.1)]
        )
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def build(self, input_shape):
        batch, patches, width = input_shape
        self.tokens.build((batch, width, patches))
        self.channels.build(input_shape)
        self.normalize.build(input_shape)
        super().build(input_shape)

    def call(self, inputs):
        x = ops.transpose(self.normalize(inputs), (0, 2, 1))
        x = ops.transpose(self.tokens(x), (0, 2, 1)) + inputs
        return x + self.channels(self.normalize(x))

    def get_config(self):
        sizes = {"patches": self.patches, "width": self.width, "hidden": self.hidden}
        return {**super().get_config(), **sizes}


def mlp_mixer():
    """Image classification with modern MLP models: MLP-Mixer."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Dense(32)(Patches(8)(inputs))
    for _ in range(2):
        x = MLPMixerLayer(16, 32, 48)(x)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def external_attention():
    """Image classification with external attention transformers."""
    inputs = keras.Input((32, 32, 3))
    x = PatchEncoder(16, 32)(Patches(8)(inputs))
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        x = layers.add([ExternalAttention(32, 4, 8)(y), x])
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = layers.Dense(64, activation=keras.activations.gelu)(y)
        x = layers.add([layers.Dense(32)(layers.Dropout(0.2)(y)), x])
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


def involution():
    """Involutional neural networks."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    x = layers.ReLU()(Involution(channel=16, kernel_size=3, reduction_ratio=2)(x))
    x = layers.MaxPooling2D()(x)
    x = layers.ReLU()(Involution(channel=16, kernel_size=3, reduction_ratio=2)(x))
    x = layers.Dense(32, activation="relu")(layers.Flatten()(layers.MaxPooling2D()(x)))
    return keras.Model(inputs, layers.Dense(10)(x))


def oxford_pets():
    """Image segmentation with a U-Net-like architecture."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, strides=2, padding="same")(inputs)
    x = before = layers.Activation("relu")(layers.BatchNormalization()(x))
    for width in (24, 32):
        for _ in range(2):
            x = layers.SeparableConv2D(width, 3, padding="same")(layers.Activation("relu")(x))
            x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        shortcut = layers.Conv2D(width, 1, strides=2, padding="same")(before)
        x = before = layers.add([x, shortcut])
    for width in (32, 24, 16):
        for _ in range(2):
            x = layers.Conv2DTranspose(width, 3, padding="same")(layers.Activation("relu")(x))
            x = layers.BatchNormalization()(x)
        shortcut = layers.Conv2D(width, 1, padding="same")(layers.UpSampling2D(2)(before))
        x = before = layers.add([layers.UpSampling2D(2)(x), shortcut])
    return keras.Model(inputs, layers.Conv2D(3, 3, activation="softmax", padding="same")(x))


def deeplab():
    """Multiclass segmentation with DeepLabV3+: dilated convolutions at several rates."""

    def block(x, width, size=3, rate=1):
        x = layers.Conv2D(width, size, dilation_rate=rate, padding="same", use_bias=False)(x)
        return ops.nn.relu(layers.BatchNormalization()(x))

    inputs = keras.Input((64, 64, 3))
    low = block(layers.MaxPooling2D()(block(inputs, 16)), 24)
    x = block(layers.MaxPooling2D(4)(low), 32)
    pooled = block(layers.AveragePooling2D((8, 8))(x), 24, 1)
    pooled = layers.UpSampling2D((8, 8), interpolation="bilinear")(pooled)
    dilated = [block(x, 24, 1), *(block(x, 24, 3, rate) for rate in (2, 4, 6))]
    x = block(layers.Concatenate(axis=-1)([pooled, *dilated]), 24, 1)
    x = layers.UpSampling2D((4, 4), interpolation="bilinear")(x)
    x = layers.Concatenate(axis=-1)([x, block(low, 12, 1)])
    x = layers.UpSampling2D((2, 2), interpolation="bilinear")(block(block(x, 24), 24))
    return keras.Model(inputs, layers.Conv2D(5, 1, padding="same")(x))


def super_resolution():
    """Image super-resolution using an efficient sub-pixel CNN."""
    inputs = keras.Input((16, 16, 1))
    x = layers.Conv2D(32, 5, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(9, 3, padding="same", activation="relu")(x)
    x = ops.reshape(x, (-1, 16, 16, 3, 3, 1))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return keras.Model(inputs, ops.reshape(x, (-1, 48, 48, 1)))


def enhanced_super_resolution():
    """Enhanced deep residual networks: a residual stream, sub-pixel upsampling of 2."""
    inputs = keras.Input((16, 16, 3))
    x = start = layers.Conv2D(32, 3, padding="same")(layers.Rescaling(1 / 255)(inputs))
    for _ in range(3):
        y = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
        x = layers.Add()([x, layers.Conv2D(32, 3, padding="same")(y)])
    x = layers.Add()([layers.Conv2D(32, 3, padding="same")(x), start])
    x = layers.Conv2D(32 * 4, 3, padding="same")(x)
    x = layers.Reshape((16, 16, 2, 2, 32))(x)
    x = layers.Permute((1, 3, 2, 4, 5))(x)
    x = layers.Reshape((32, 32, 32))(x)
    x = layers.Conv2D(3, 3, padding="same")(x)
    return keras.Model(inputs, layers.Rescaling(255)(x))


def zero_dce():
    """Zero-DCE for low-light enhancement: curves that concatenations estimate."""
    inputs = keras.Input((32, 32, 3))

    def conv(x, width=16, activation="relu"):
        return layers.Conv2D(width, 3, padding="same", activation=activation)(x)

    first = conv(inputs)
    second = conv(first)
    third = conv(second)
    x = conv(conv(third))
    x = conv(layers.Concatenate(axis=-1)([third, x]))
    x = conv(layers.Concatenate(axis=-1)([second, x]))
    curves = conv(layers.Concatenate(axis=-1)([first, x]), 24, "tanh")
    y = inputs
    for r in ops.split(curves, 8, axis=-1):
        y = y + r * (ops.square(y) - y)
    return keras.Model(inputs, y)


def selective_kernels():
    """MIRNet's selective kernel fusion and dual attention, at one resolution."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    one, two = (layers.Conv2D(16, size, padding="same", activation="relu")(x) for size in (3, 5))
    pooled = layers.GlobalAveragePooling2D()(layers.Add()([one, two]))
    small = layers.Conv2D(8, 1, activation="relu")(layers.Reshape((1, 1, 16))(pooled))
    weights = [layers.Conv2D(16, 1, activation="softmax")(small) for _ in range(2)]
    x = x + layers.Add()([weights[0] * one, weights[1] * two])
    x = ChannelAttention(4)(x)
    average = ops.max(x, axis=-1, keepdims=True)
    largest = ops.mean(x, axis=-1, keepdims=True)
    spatial = layers.Concatenate(axis=-1)([average, largest])
    x = x * layers.Conv2D(1, 1, activation="sigmoid")(spatial)
    return keras.Model(inputs, layers.Conv2D(3, 3, padding="same")(x) + inputs)


def autoencoder():
    """Convolutional autoencoder for image denoising."""
    x = inputs = keras.Input((28, 28, 1))
    for _ in range(2):
        x = layers.Conv2D(32, 3, activation="relu", padding="same")(x)
        x = layers.MaxPooling2D(2, padding="same")(x)
    for _ in range(2):
        x = layers.Conv2DTranspose(32, 3, strides=2, activation="relu", padding="same")(x)
    outputs = layers.Conv2D(1, 3, activation="sigmoid", padding="same")(x)
    return keras.Model(inputs, outputs)


def generator():
    """DCGAN: from noise to a picture."""
    return keras.Sequential(
        [
            keras.Input((32,)),
            layers.Dense(4 * 4 * 32),
            layers.Reshape((4, 4, 32)),
            layers.Conv2DTranspose(32, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2DTranspose(48, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(3, 5, padding="same", activation="sigmoid"),
        ]
    )


def discriminator():
    """DCGAN: from a picture to how real it looks."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(16, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(32, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def cycle_gan():
    """CycleGAN's generator: reflected borders, norms of each picture, residual blocks."""

    def norm():
        return layers.GroupNormalization(groups=-1)

    inputs = keras.Input((32, 32, 3))
    x = ReflectionPadding((3, 3))(inputs)
    x = layers.Activation("relu")(norm()(layers.Conv2D(16, 7, use_bias=False)(x)))
    x = layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.Activation("relu")(norm()(x))
    for _ in range(2):
        y = layers.Conv2D(32, 3, use_bias=False)(ReflectionPadding()(x))
        y = layers.Activation("relu")(norm()(y))
        y = norm()(layers.Conv2D(32, 3, use_bias=False)(ReflectionPadding()(y)))
        x = layers.add([x, y])
    x = layers.Conv2DTranspose(16, 3, strides=2, padding="same", use_bias=False)(x)
    x = ReflectionPadding((3, 3))(layers.Activation("relu")(norm()(x)))
    return keras.Model(inputs, layers.Conv2D(3, 7, activation="tanh")(x))


def ct_scans():
    """3D image classification from CT scans."""
    x = inputs = keras.Input((16, 16, 16, 1))
    for width in (16, 16, 32):
        x = layers.Conv3D(width, 3, activation="relu", padding="same")(x)
        x = layers.BatchNormalization()(layers.MaxPool3D(2)(x))
    x = layers.Dense(32, activation="relu")(layers.GlobalAveragePooling3D()(x))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.Dropout(0.3)(x)))


def captcha():
    """OCR model for reading captchas: convolutions, then recurrent layers over columns."""
    inputs = keras.Input((48, 16, 1))
    x = layers.Conv2D(16, 3, activation="relu", padding="same")(inputs)
    x = layers.MaxPooling2D((2, 2))(x)
    x = layers.Conv2D(24, 3, activation="relu", padding="same")(x)
    x = layers.Reshape((12, 4 * 24))(layers.MaxPooling2D((2, 2))(x))
    x = layers.Dropout(0.2)(layers.Dense(32, activation="relu")(x))
    for units in (16, 12):
        x = layers.Bidirectional(layers.LSTM(units, return_sequences=True, dropout=0.25))(x)
    return keras.Model(inputs, layers.Dense(20, activation="softmax")(x))


def mobile_vit():
    """MobileViT: a block that unfolds patches, attends, and folds them back."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="swish")(inputs)
    y = layers.Conv2D(32, 1, use_bias=False)(x)
    y = ops.nn.swish(layers.BatchNormalization()(y))
    y = layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False)(y)
    y = ops.nn.swish(layers.BatchNormalization()(y))
    x = layers.BatchNormalization()(layers.Conv2D(24, 1, use_bias=False)(y))
    local = layers.Conv2D(24, 3, padding="same", activation="swish")(x)
    y = layers.Conv2D(24, 1, activation="swish")(local)
    y = layers.Reshape((4, 16, 24))(y)
    for _ in range(2):
        z = layers.LayerNormalization(epsilon=1e-6)(y)
        y = layers.Add()([layers.MultiHeadAttention(2, 12)(z, z), y])
        z = layers.LayerNormalization(epsilon=1e-6)(y)
        for width in (48, 24):
            z = layers.Dense(width, activation="swish")(z)
        y = layers.Add()([z, y])
    y = layers.Conv2D(24, 1, activation="swish")(layers.Reshape((8, 8, 24))(y))
    x = layers.Conv2D(32, 3, padding="same", activation="swish")(layers.Concatenate()([x, y]))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(layers.GlobalAvgPool2D()(x)))


def class_attention():
    """Class attention as in CaiT: a token that reads the others."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Reshape((16, 32))(layers.Conv2D(32, 8, strides=8)(inputs))
    x = ClassToken()(x)
    y = layers.LayerNormalization()(x)
    token = x[:, :1] + layers.MultiHeadAttention(4, 8)(y[:, :1], y)
    y = layers.Dense(64, activation="gelu")(layers.LayerNormalization()(token))
    token = token + layers.Dense(32)(y)
    return keras.Model(inputs, layers.Dense(10)(token[:, 0]))


BUILDERS = {
    build.__name__.replace("_", " "): build
    for build in (
        *(convnet, cats_and_dogs, vision_transformer, compact_convolutional_transformer),
        *(conv_mixer, mlp_mixer, external_attention, involution, oxford_pets, deeplab),
        *(super_resolution, enhanced_super_resolution, zero_dce, selective_kernels, autoencoder),
        *(generator, discriminator, cycle_gan, ct_scans, captcha, mobile_vit, class_attention),
    )
}
