"""Layers of the models in `vision_examples.py` and `other_examples.py`, as users write them."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("third_party")
class Patches(layers.Layer):
    """Square patches of a picture, each as one row."""

    def __init__(self, patch_size, **settings):
        super().__init__(**settings)
        self.patch_size = patch_size

    def call(self, images):
        _, height, width, channels = images.shape
        rows, columns = height // self.patch_size, width // self.patch_size
        patches = ops.image.extract_patches(images, size=self.patch_size)
        return ops.reshape(patches, (-1, rows * columns, self.patch_size**2 * channels))

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size}


@keras.saving.register_keras_serializable("third_party")
class PatchEncoder(layers.Layer):
    """A projection of each patch, and what is learned of its position."""

    def __init__(self, num_patches, width, **settings):
        super().__init__(**settings)
        self.num_patches, self.width = num_patches, width
        self.projection = layers.Dense(width)
        self.position_embedding = layers.Embedding(num_patches, width)

    def build(self, input_shape):
        self.projection.build(input_shape)
        self.position_embedding.build((1, self.num_patches))
        super().build(input_shape)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(0, self.num_patches, step=1), axis=0)
        return self.projection(patch) + self.position_embedding(positions)

    def get_config(self):
        return {**super().get_config(), "num_patches": self.num_patches, "width": self.width}


@keras.saving.register_keras_serializable("third_party")
class SequencePooling(layers.Layer):
    """The mean of a sequence, weighted by one dense unit."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.attention = layers.Dense(1)

    def build(self, input_shape):
        self.attention.build(input_shape)
        super().build(input_shape)

    def call(self, x):
        weights = ops.transpose(ops.softmax(self.attention(x), axis=1), (0, 2, 1))
        return ops.squeeze(ops.matmul(weights, x), axis=-2)


@keras.saving.register_keras_serializable("third_party")
class ClassToken(layers.Layer):
    """A learned row in front of the others."""

    def build(self, input_shape):
        self.token = self.add_weight(shape=(1, 1, input_shape[-1]), name="token")
        super().build(input_shape)

    def call(self, x):
        token = ops.tile(self.token, (ops.shape(x)[0], 1, 1))
        return ops.concatenate([token, x], axis=1)


@keras.saving.register_keras_serializable("third_party")
class ExternalAttention(layers.Layer):
    """Attention on a memory that dense layers hold."""

    def __init__(self, width, heads, memory, **settings):
        super().__init__(**settings)
        self.width, self.heads, self.memory = width, heads, memory
        self.query = layers.Dense(width)
        self.keys = layers.Dense(memory)
        self.values = layers.Dense(width // heads)
        self.projection = layers.Dense(width)

    def build(self, input_shape):
        batch, rows, _ = input_shape
        self.query.build(input_shape)
        self.keys.build((batch, self.heads, rows, self.width // self.heads))
        self.values.build((batch, self.heads, rows, self.memory))
        self.projection.build((batch, rows, self.width))
        super().build(input_shape)

    def call(self, x):
        rows = x.shape[1]
        y = ops.reshape(self.query(x), (-1, rows, self.heads, self.width // self.heads))
        y = self.keys(ops.transpose(y, (0, 2, 1, 3)))
        y = ops.softmax(y, axis=2)
        y = y / (1e-9 + ops.sum(y, axis=-1, keepdims=True))
        y = ops.transpose(self.values(y), (0, 2, 1, 3))
        return self.projection(ops.reshape(y, (-1, rows, self.width)))

    def get_config(self):
        sizes = {"width": self.width, "heads": self.heads, "memory": self.memory}
        return {**super().get_config(), **sizes}


@keras.saving.register_keras_serializable("third_party")
class Involution(layers.Layer):
    """Kernels that each place makes of itself, shared by all channels."""

    def __init__(self, channel, kernel_size, reduction_ratio, **settings):
        super().__init__(**settings)
        self.channel, self.kernel_size = channel, kernel_size
        self.reduction_ratio = reduction_ratio
        self.kernels = keras.Sequential(
            [
                layers.Conv2D(channel // reduction_ratio, 1),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Conv2D(kernel_size**2, 1),
            ]
        )

    def build(self, input_shape):
        self.kernels.build(input_shape)
        super().build(input_shape)

    def call(self, x):
        _, height, width, channels = x.shape
        size = self.kernel_size**2
        kernels = ops.reshape(self.kernels(x), (-1, height, width, size, 1))
        patches = ops.image.extract_patches(x, size=self.kernel_size, strides=1, padding="same")
        patches = ops.reshape(patches, (-1, height, width, size, channels))
        return ops.sum(kernels * patches, axis=3)

    def get_config(self):
        names = ("channel", "kernel_size", "reduction_ratio")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("third_party")
class ChannelAttention(layers.Layer):
    """Squeeze and excitation, as a layer."""

    def __init__(self, ratio, **settings):
        super().__init__(**settings)
        self.ratio = ratio

    def build(self, input_shape):
        width = input_shape[-1]
        self.pool = layers.GlobalAveragePooling2D(keepdims=True)
        self.squeeze = layers.Conv2D(width // self.ratio, 1, activation="relu")
        self.excite = layers.Conv2D(width, 1, activation="sigmoid")
        self.squeeze.build((None, 1, 1, width))
        self.excite.build((None, 1, 1, width // self.ratio))
        super().build(input_shape)

    def call(self, x):
        return x * self.excite(self.squeeze(self.pool(x)))

    def get_config(self):
        return {**super().get_config(), "ratio": self.ratio}


@keras.saving.register_keras_serializable("third_party")
class ReflectionPadding(layers.Layer):
    """Borders that mirror the picture."""

    def __init__(self, padding=(1, 1), **settings):
        super().__init__(**settings)
        self.padding = tuple(padding)

    def call(self, x):
        rows, columns = self.padding
        return ops.pad(x, [(0, 0), (rows, rows), (columns, columns), (0, 0)], mode="reflect")

    def get_config(self):
        return {**super().get_config(), "padding": self.padding}


@keras.saving.register_keras_serializable("third_party")
class TokenAndPositionEmbedding(layers.Layer):
    """The sum of what is learned of each word and of its position."""

    def __init__(self, length, vocabulary, width, **settings):
        super().__init__(**settings)
        self.length, self.vocabulary, self.width = length, vocabulary, width
        self.tokens = layers.Embedding(vocabulary, width)
        self.positions = layers.Embedding(length, width)

    def build(self, input_shape):
        self.tokens.build(input_shape)
        self.positions.build((self.length,))
        super().build(input_shape)

    def call(self, x):
        return self.tokens(x) + self.positions(ops.arange(0, self.length, 1))

    def get_config(self):
        sizes = {"length": self.length, "vocabulary": self.vocabulary, "width": self.width}
        return {**super().get_config(), **sizes}


@keras.saving.register_keras_serializable("third_party")
class TransformerBlock(layers.Layer):
    """Attention and two dense layers, each with dropout, a residual and a norm behind it."""

    def __init__(self, width, heads, hidden, rate=0.1, **settings):
        super().__init__(**settings)
        self.width, self.heads, self.hidden, self.rate = width, heads, hidden, rate
        self.attention = layers.MultiHeadAttention(heads, width)
        self.mlp = keras.Sequential([layers.Dense(hidden, activation="relu"), layers.Dense(width)])
        self.norms = [layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]
        self.dropouts = [layers.Dropout(rate) for _ in range(2)]

    def build(self, input_shape):
        self.attention.build(input_shape, input_shape)
        for layer in (self.mlp, *self.norms):
            layer.build(input_shape)
        super().build(input_shape)

    def call(self, inputs):
        x = self.norms[0](inputs + self.dropouts[0](self.attention(inputs, inputs)))
        return self.norms[1](x + self.dropouts[1](self.mlp(x)))

    def get_config(self):
        names = ("width", "heads", "hidden", "rate")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("third_party")
class Sampling(layers.Layer):
    """A draw from the normal distribution of a mean and a logarithm of the variance."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, inputs):
        mean, log_variance = inputs
        noise = keras.random.normal(ops.shape(mean), seed=self.seeds)
        return mean + ops.exp(0.5 * log_variance) * noise


@keras.saving.register_keras_serializable("third_party")
class GatedResidualNetwork(layers.Layer):
    """Dense layers, a gated linear unit, a residual and a norm."""

    def __init__(self, units, rate, **settings):
        super().__init__(**settings)
        self.units, self.rate = units, rate
        self.elu = layers.Dense(units, activation="elu")
        self.linear = layers.Dense(units)
        self.dropout = layers.Dropout(rate)
        self.value, self.gate = layers.Dense(units), layers.Dense(units, activation="sigmoid")
        self.norm = layers.LayerNormalization()
        self.project = None

    def build(self, input_shape):
        hidden = (*input_shape[:-1], self.units)
        if input_shape[-1] != self.units:
            self.project = layers.Dense(self.units)
            self.project.build(input_shape)
        self.elu.build(input_shape)
        for layer in (self.linear, self.value, self.gate, self.norm):
            layer.build(hidden)
        super().build(input_shape)

    def call(self, inputs):
        x = self.dropout(self.linear(self.elu(inputs)))
        if self.project is not None:
            inputs = self.project(inputs)
        return self.norm(inputs + self.value(x) * self.gate(x))

    def get_config(self):
        return {**super().get_config(), "units": self.units, "rate": self.rate}


@keras.saving.register_keras_serializable("third_party")
class MILAttention(layers.Layer):
    """A weight for each instance of a bag, from weights of its own and a softmax over instances."""

    def __init__(self, width, **settings):
        super().__init__(**settings)
        self.width = width

    def build(self, input_shape):
        inputs = input_shape[-1]
        self.v = self.add_weight(shape=(inputs, self.width), name="v")
        self.u = self.add_weight(shape=(inputs, self.width), name="u")
        self.w = self.add_weight(shape=(self.width, 1), name="w")
        super().build(input_shape)

    def call(self, x):
        gated = ops.tanh(ops.matmul(x, self.v)) * ops.sigmoid(ops.matmul(x, self.u))
        weights = ops.softmax(ops.matmul(gated, self.w), axis=1)
        return ops.sum(weights * x, axis=1)

    def get_config(self):
        return {**super().get_config(), "width": self.width}
