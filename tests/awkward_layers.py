"""Layers of their own that the awkward models are made of: what users write."""

import keras
from keras import layers, ops

register = keras.saving.register_keras_serializable("awkward")


@register
def wave(x):
    return ops.sin(x)


@register
def small(kernel):
    return 0.1 * ops.sum(ops.square(kernel))


@register
class Remembering(layers.Layer):
    """Multiplies by a number that is set later, and saved by Keras's own hook."""

    factor = 1.0

    def call(self, inputs):
        return inputs * self.factor

    def compute_output_shape(self, input_shape):
        return input_shape

    def save_own_variables(self, store):
        store["factor"] = ops.convert_to_numpy(ops.convert_to_tensor(self.factor))

    def load_own_variables(self, store):
        self.factor = float(store["factor"][()])


@register
class Forgetful(layers.Layer):
    """Its configuration lacks what its constructor was given."""

    def __init__(self, power=2, **kwargs):
        super().__init__(**kwargs)
        self.exponent = float(power)

    def call(self, inputs):
        return inputs**self.exponent

    def get_config(self):
        return super().get_config()  # where it is written by hand, Keras adds nothing

    def compute_output_shape(self, input_shape):
        return input_shape


class Holding(layers.Layer):
    """A layer that holds another one, which its configuration tells."""

    def __init__(self, held, **kwargs):
        super().__init__(**kwargs)
        self.held = held

    def get_config(self):
        return {**super().get_config(), "held": keras.saving.serialize_keras_object(self.held)}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["held"] = keras.saving.deserialize_keras_object(config["held"])
        return cls(**config)


@register
class Tied(Holding):
    """The decoder of an autoencoder, by the kernel of its encoder."""

    def call(self, inputs):
        return ops.matmul(inputs, ops.transpose(self.held.kernel))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.held.kernel.shape[0])


@register
class Unembed(Holding):
    def call(self, inputs):
        return ops.matmul(inputs, ops.transpose(self.held.embeddings))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.held.input_dim)


def standardised(kernel):
    axes = tuple(range(len(kernel.shape) - 1))
    centred = kernel - ops.mean(kernel, axes, keepdims=True)
    return centred / (ops.std(kernel, axes, keepdims=True) + 1e-3)


@register
class StandardisedHeld(layers.Layer):
    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = layers.Conv2D(filters, 3, use_bias=False)

    def build(self, input_shape):
        self.conv.build(input_shape)

    def call(self, inputs):
        return ops.conv(inputs, standardised(self.conv.kernel), padding="valid")

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@register
class StandardisedCall(layers.Conv2D):
    def call(self, inputs):
        return ops.conv(inputs, standardised(self.kernel), padding=self.padding) + self.bias


@register
class StandardisedHook(layers.Conv2D):
    """By the hook that Keras documents."""

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, standardised(kernel))


@register
class SquaredKernel(layers.Dense):
    @property
    def kernel(self):
        return ops.square(self._kernel)


@register
class SharpAttention(layers.MultiHeadAttention):
    def _compute_attention(self, query, key, value, *args, **kwargs):
        return super()._compute_attention(3.0 * query, key, value, *args, **kwargs)


@register
class MultipliesHeldKernel(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.one, self.two = layers.Dense(units, use_bias=False), layers.Dense(units)

    def build(self, input_shape):
        self.one.build(input_shape)
        self.two.build((*input_shape[:-1], self.units))

    def call(self, inputs):
        return self.two(ops.matmul(inputs, self.one.kernel))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@register
class Noisy(layers.Layer):
    """Draws in training, by a seed generator of its own."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = layers.Conv2D(filters, 3, activation="relu")
        self.seeds = keras.random.SeedGenerator(3)

    def build(self, input_shape):
        self.conv.build(input_shape)

    def call(self, inputs, training=False):
        x = self.conv(inputs)
        if training:
            x = x + keras.random.normal(ops.shape(x), dtype=x.dtype, seed=self.seeds)
        return x

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@register
class DropBlock(layers.Layer):
    """Hands `training` on to a part of its layers only, as Keras allows."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = layers.Conv2D(filters, 3)
        self.norm = layers.BatchNormalization()
        self.drop = layers.Dropout(0.3)

    def build(self, input_shape):
        self.conv.build(input_shape)
        shape = self.conv.compute_output_shape(input_shape)
        self.norm.build(shape)
        self.drop.build(shape)

    def call(self, inputs, training=False):
        return ops.relu(self.norm(self.drop(self.conv(inputs)), training=training))

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@register
class SubclassedNet(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(8, 3, activation="relu")
        self.norm = layers.BatchNormalization()
        self.second = layers.Conv2D(6, 3, activation="relu")
        self.drop = layers.Dropout(0.3)
        self.pool = layers.GlobalAveragePooling2D()
        self.top = layers.Dense(3)

    def call(self, inputs):
        x = self.second(self.norm(self.conv(inputs)))
        return self.top(self.drop(self.pool(x)))


@register
class AddsLoss(layers.Layer):
    def call(self, inputs):
        self.add_loss(0.01 * ops.sum(ops.square(inputs)))
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape


@register
class MaybeTimes(layers.Layer):
    def call(self, inputs, mask=None):
        return inputs if mask is None else inputs * mask
