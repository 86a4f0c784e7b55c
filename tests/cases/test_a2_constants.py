"""A layer that reads weights of another one stays as it is, and reads those of the copy."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.trace import recording_of
from tests import helpers
from tests.sampling import sample

register = keras.saving.register_keras_serializable("test_a2")


@register
class Tied(layers.Layer):
    """The transposed kernel of another layer."""

    def __init__(self, dense, **kwargs):
        super().__init__(**kwargs)
        self.dense = dense

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.dense.kernel))

    def get_config(self):
        dense = keras.saving.serialize_keras_object(self.dense)
        return {**super().get_config(), "dense": dense}

    @classmethod
    def from_config(cls, config):
        dense = keras.saving.deserialize_keras_object(config["dense"])
        return cls(**{**config, "dense": dense})


class TiedWithoutConfig(Tied):
    def get_config(self):
        return {**layers.Layer.get_config(self), "dense": self.dense}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@register
class StandardizedConv(layers.Layer):
    """Weight standardisation of the kernel of a convolution that it holds (Qiao et al., 2019)."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = layers.Conv2D(filters, 3, padding="same", name="inside")

    def build(self, input_shape):
        self.conv.build(input_shape)
        self.built = True

    def call(self, x):
        kernel = self.conv.kernel
        mean = ops.mean(kernel, (0, 1, 2), keepdims=True)
        kernel = (kernel - mean) / (ops.std(kernel, (0, 1, 2), keepdims=True) + 1e-5)
        return ops.conv(x, kernel, padding="same") + self.conv.bias

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@register
class Product(layers.Layer):
    """Reads the kernel of a layer that it holds, and does not call it."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units, use_bias=False, name="inside")

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.built = True

    def call(self, x):
        return ops.matmul(x, self.dense.kernel)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@register
class Noisy(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(8, name="inside")
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x):
        return self.dense(x) + 1e-3 * keras.random.normal((8,), seed=self.seed)


def tied_autoencoder(kind=Tied):
    inputs = keras.Input((6,))
    encoder = layers.Dense(16, activation="relu", name="encoder")
    x = layers.Dense(12, activation="relu", name="free")(encoder(inputs))
    return keras.Model(inputs, kind(encoder, name="tied")(layers.Dense(16, activation="relu")(x)))


def tied_embeddings():
    class Logits(Tied):
        def call(self, x):
            return ops.matmul(x, ops.transpose(self.dense.embeddings))

    inputs = keras.Input((5,), dtype="int32")
    embedding = layers.Embedding(10, 8, name="embedding")
    x = layers.Dense(16, activation="relu")(embedding(inputs))
    return keras.Model(inputs, Logits(embedding, name="logits")(layers.Dense(8)(x)))


def standardized():
    x = inputs = keras.Input((8, 8, 3))
    for filters in (6, 8):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.ReLU()(StandardizedConv(filters)(layers.Conv2D(filters, 1)(x)))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


def product():
    inputs = keras.Input((6,))
    x = Product(12)(layers.Dense(16, activation="relu")(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(16, activation="relu")(x)))


def noisy():
    inputs = keras.Input((6,))
    x = Noisy()(layers.Dense(16, activation="relu")(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(16, activation="relu")(x)))


def two_readers_of_one_layer():
    """No layer of the graph calls it by itself."""
    inputs = keras.Input((6,))
    encoder = layers.Dense(6, use_bias=False)
    encoder.build((None, 6))
    x = layers.Dense(6, activation="relu")(Tied(encoder, name="first")(inputs))
    x = layers.Dense(6)(layers.Dense(9, activation="relu")(x))
    return keras.Model(inputs, Tied(encoder, name="last")(x))


def raw_operation():
    """A variable among the arguments of an operation."""
    inputs = keras.Input((6,))
    encoder = layers.Dense(16, activation="relu", name="encoder")
    x = layers.Dense(12, activation="relu")(encoder(inputs))
    return keras.Model(inputs, ops.matmul(layers.Dense(6)(x), encoder.kernel))


MAKERS = [
    tied_autoencoder,
    tied_embeddings,
    standardized,
    product,
    noisy,
    two_readers_of_one_layer,
    raw_operation,
]


def inputs_of(model):
    generator = np.random.default_rng(0)
    shape = (64, *model.input_shape[1:])
    if "int" in model.input.dtype:
        return generator.integers(0, 10, shape)
    return generator.normal(size=shape).astype("float32")


@pytest.mark.parametrize("make", MAKERS)
def test_the_copy_trains_as_the_dense_model_does(make):
    dense = make()
    wrapped = resrep_keras.wrap(dense, resrep_keras.GraNet(final_sparsity=0.5))  # no compactors
    slim = resrep_keras.MagnitudePruning(0.05).prune(dense)
    x = inputs_of(dense)
    y = np.random.default_rng(1).normal(size=dense.compute_output_shape(x.shape))
    for copy in (wrapped, slim):
        assert len(copy.trainable_weights) == len(dense.trainable_weights)
        assert not {id(v) for v in copy.variables} & {id(v) for v in dense.variables}
    before = [ops.convert_to_numpy(weight) for weight in dense.trainable_weights]
    same = keras.Model(wrapped.input, wrapped.output)
    for model in (dense, same):
        model.compile(keras.optimizers.SGD(1e-3), "mse")
        model.fit(x, y, epochs=2, shuffle=False, verbose=0)
    after = [ops.convert_to_numpy(weight) for weight in dense.trainable_weights]
    assert all((old != new).any() for old, new in zip(before, after))
    by_path = {weight.path: weight for weight in same.weights}
    assert len(by_path) == len(dense.weights)
    for weight in dense.weights:
        twin = ops.convert_to_numpy(by_path[weight.path])
        np.testing.assert_allclose(twin, ops.convert_to_numpy(weight), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", sample([tied_autoencoder, tied_embeddings, standardized, product]))
def test_such_models_are_pruned_to_the_end(make):
    dense = make()
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.05))
    assert helpers.difference(dense, wrapped) < 1e-6
    x = inputs_of(dense)
    wrapped.compile(keras.optimizers.SGD(1e-3), "mse")
    wrapped.fit(x, np.zeros(dense(x).shape), epochs=10, verbose=0)
    slim = resrep_keras.finalize(wrapped, strict=True, data=x)
    assert resrep_keras.count_macs(slim) < resrep_keras.count_macs(dense)


def test_a_tied_decoder_follows_the_encoder():
    model = tied_autoencoder()
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.1))
    x = inputs_of(model)
    wrapped.compile(keras.optimizers.SGD(0.2), "mse")
    wrapped.fit(x, x, epochs=5, verbose=0)
    before = keras.Model(wrapped.input, wrapped.get_layer("tied").input)(x)
    kernel = wrapped.get_layer("encoder").kernel
    np.testing.assert_allclose(wrapped(x), ops.matmul(before, ops.transpose(kernel)), atol=1e-5)
    assert len(wrapped.get_layer("tied").weights) == 2


def test_the_reason_is_told():
    graph = resrep_keras.trace(tied_autoencoder())
    reasons = {group.name: str(group.reason) for group in graph.groups}
    assert "encoder: weights shared with 'tied'" in reasons["encoder"]
    assert [group.name for group in graph.groups if group.prunable] == ["free"]
    assert "meant to be tied" in str(resrep_keras.explain(tied_autoencoder()))


def test_a_copy_that_would_not_share_is_refused_in_words():
    with pytest.raises(ValueError, match=r"'tied' of type TiedWithoutConfig shares weights with"):
        resrep_keras.wrap(tied_autoencoder(TiedWithoutConfig), resrep_keras.ResRep(0.1))


# Keras itself saves an operation on a variable on TensorFlow only.
RAW = pytest.param(raw_operation, marks=pytest.mark.tensorflow_only)


@pytest.mark.parametrize("make", [tied_autoencoder, RAW])
def test_a_wrapped_model_is_saved_and_loaded(make, tmp_path):
    wrapped = resrep_keras.wrap(make(), resrep_keras.ResRep(0.05))
    wrapped.save(tmp_path / "wrapped.keras")
    loaded = keras.models.load_model(tmp_path / "wrapped.keras")
    assert helpers.difference(wrapped, loaded) < 1e-6


def test_what_only_calls_its_parts_is_still_opened():
    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first, self.second = layers.Dense(8, name="first"), layers.Dense(4, name="second")

        def call(self, x):
            return self.second(ops.relu(self.first(x))) * 0.5 + np.float32(1)

    inputs = keras.Input((6,))
    recording = recording_of(keras.Model(inputs, layers.Dense(2)(Block()(inputs))))
    assert [r.name for r in recording.calls if isinstance(r.operation, layers.Dense)][:2] == [
        "first",
        "second",
    ]
