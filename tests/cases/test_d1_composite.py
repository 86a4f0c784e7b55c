"""Layers made of layers, and subclassed models, open as people write them; or one reason is told.

Each pattern is explained, wrapped, trained for a step, finalized with dead channels, saved, loaded.
"""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.trace import recording_of
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers, zoo

# None of these classes is registered, nor has it a get_config(): all that is left is Keras.


class Mlp(layers.Layer):
    """Two dense layers with a batch normalisation and a dropout between them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(9, activation="relu", name="first")
        self.norm = layers.BatchNormalization(name="norm")
        self.dropout = layers.Dropout(0.4, name="dropout")
        self.second = layers.Dense(5, activation="relu", name="second")


class HandsNothingOn(Mlp):
    def call(self, x):
        return self.second(self.dropout(self.norm(self.first(x))))


class HandsADefaultOn(Mlp):
    def call(self, x, training=False):
        x = self.norm(self.first(x), training=training)
        return self.second(self.dropout(x, training=training))


class HandsOnToTheDropout(Mlp):
    def call(self, x, training=False):
        return self.second(self.dropout(self.norm(self.first(x)), training=training))


class HandsNoneOn(Mlp):
    def call(self, x, training=None):
        return self.second(self.dropout(self.norm(self.first(x)), training=training))


class TakesAndDropsIt(Mlp):
    def call(self, x, training=None):
        return self.second(self.dropout(self.norm(self.first(x))))


class DropsIfTraining(Mlp):
    def call(self, x, training=False):
        x = self.norm(self.first(x))
        if training:
            x = self.dropout(x, training=True)
        return self.second(x)


class ListsAndDicts(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stack = [layers.Dense(6 + n, activation="relu") for n in range(3)]
        self.more = {"top": (layers.Dense(5, activation="relu"), layers.Dropout(0.2))}

    def call(self, x):
        for layer in (*self.stack, *self.more["top"]):
            x = layer(x)
        return x


class MadeInBuild(layers.Layer):
    def build(self, input_shape):
        self._layers_list = [layers.Dense(6, "relu"), layers.Dense(5, "relu")]
        for layer in self._layers_list:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def call(self, x):
        for layer in self._layers_list:
            x = layer(x)
        return x


class ThreeDeep(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = {"one": Pair(), "two": Pair()}

    def call(self, x, training=None):
        return self.parts["two"](self.parts["one"](x, training=training))


class Pair(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [HandsADefaultOn(), keras.Sequential([layers.Dense(5, "relu")])]

    def call(self, x):
        return self.parts[1](self.parts[0](x))


class OwnWeights(Mlp):
    """A scale for each channel, an offset, and a table of both in a list."""

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=(9,), name="gamma", regularizer="l2")
        self.more = [self.add_weight(shape=(1, 5), name="offset", constraint="non_neg")]

    def call(self, x):
        x = self.gamma * self.norm(self.first(x))
        return self.second(self.dropout(x)) + self.more[0]


class TwoOfEach(layers.Layer):
    """Inputs and outputs in dicts, a keyword argument that is no tensor."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.left, self.right = layers.Dense(5, "relu"), layers.Dense(5, "relu")

    def call(self, inputs, scale=1.0):
        return {"l": self.left(inputs["a"]) * scale, "r": [self.right(inputs["b"])]}


def around(*parts):
    x = inputs = keras.Input((6,))
    x = layers.Dense(8, activation="relu")(x)
    for part in parts:
        x = part(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(7, activation="relu")(x)))


def shared_by_two():
    class With(layers.Layer):
        def __init__(self, part, **kwargs):
            super().__init__(**kwargs)
            self.part, self.top = part, layers.Dense(8, activation="relu")

        def call(self, x):
            return self.top(self.part(x))

    part = layers.Dense(5, activation="relu", name="shared")
    return around(With(part), With(part))


def dicts():
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    made = TwoOfEach()({"a": a, "b": b}, scale=3.0)
    return keras.Model({"a": a, "b": b}, layers.Dense(2)(layers.Add()([made["l"], *made["r"]])))


def recurrent():
    class Reads(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.both = layers.Bidirectional(layers.LSTM(4, return_sequences=True))
            self.each = layers.TimeDistributed(layers.Dense(5, activation="relu"))
            self.last = layers.GRU(4)

        def call(self, x, training=None):
            return self.last(self.each(self.both(x, training=training)))

    inputs = keras.Input((4, 3))
    return keras.Model(inputs, layers.Dense(2)(Reads()(inputs)))


def masks():
    """One is made inside; another one is handed on, and used as an argument."""

    class Reads(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.supports_masking = True
            self.table = layers.Embedding(2, 6, mask_zero=True)
            self.state = layers.GRU(4, return_sequences=True)

        def call(self, x):
            return self.state(self.table(x))

    class Attends(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.supports_masking = True
            self.attention, self.top = layers.MultiHeadAttention(2, 3), layers.Dense(5, "relu")

        def call(self, x, mask=None):
            mask = None if mask is None else mask[:, None, :]
            return self.top(self.attention(x, x, attention_mask=mask))

    inputs = keras.Input((5,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(Attends()(Reads()(inputs)))
    return keras.Model(inputs, layers.Dense(2)(x))


class TransformerBlock(layers.Layer):
    """As in Keras's example `text_classification_with_transformer`."""

    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.ffn = keras.Sequential(
            [layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs):
        attn_output = self.att(inputs, inputs)
        attn_output = self.dropout1(attn_output)
        out1 = self.layernorm1(inputs + attn_output)
        ffn_output = self.ffn(out1)
        ffn_output = self.dropout2(ffn_output)
        return self.layernorm2(out1 + ffn_output)


class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, maxlen, vocab_size, embed_dim):
        super().__init__()
        self.token_emb = layers.Embedding(input_dim=vocab_size, output_dim=embed_dim)
        self.pos_emb = layers.Embedding(input_dim=maxlen, output_dim=embed_dim)

    def call(self, x):
        maxlen = ops.shape(x)[-1]
        positions = ops.arange(start=0, stop=maxlen, step=1)
        positions = self.pos_emb(positions)
        x = self.token_emb(x)
        return x + positions


def transformer():
    inputs = layers.Input(shape=(6,))
    x = TokenAndPositionEmbedding(6, 10, 8)(inputs)
    x = TransformerBlock(8, 2, 12)(x)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dropout(0.1)(x)
    x = layers.Dense(9, activation="relu")(x)
    x = layers.Dropout(0.1)(x)
    return keras.Model(inputs=inputs, outputs=layers.Dense(2, activation="softmax")(x))


def class_token(how):
    """In front of what a batch has, by an operation that asks how large that is."""

    class Prepends(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.project = layers.Dense(6)

        def build(self, input_shape):
            self.project.build(input_shape)
            self.token = self.add_weight(shape=(1, 1, 6), name="token")
            self.positions = self.add_weight(shape=(1, input_shape[1] + 1, 6), name="positions")

        def call(self, x):
            token = how(self.token, ops.shape(x)[0])
            return ops.concatenate([token, self.project(x)], axis=1) + self.positions

    inputs = keras.Input((3, 4))
    x = layers.Dense(7, activation="relu")(layers.Flatten()(Prepends()(inputs)))
    return keras.Model(inputs, layers.Dense(2)(x))


def subclassed():
    """The example in the docstring of `keras.Model`, with a Functional backbone before it."""

    class MyModel(keras.Model):
        def __init__(self):
            super().__init__()
            inputs = keras.Input((6,))
            x = layers.BatchNormalization()(layers.Dense(7, activation="relu")(inputs))
            self.backbone = keras.Model(inputs, layers.Dense(8, activation="relu")(x))
            self.dense1 = layers.Dense(10, activation="relu")
            self.dense2 = layers.Dense(5, activation="softmax")
            self.dropout = layers.Dropout(0.5)

        def call(self, inputs, training=False):
            x = self.dense1(self.backbone(inputs))
            x = self.dropout(x, training=training)
            return self.dense2(x)

    model = MyModel()
    model(np.zeros((1, 6), "float32"))
    return model


# Each with the channels that may go, and those of all layers.
PATTERNS = {
    **{
        kind.__name__: (lambda kind=kind: around(kind()), 8 + 9 + 5 + 7, 2)
        for kind in (
            HandsNothingOn,
            HandsADefaultOn,
            HandsOnToTheDropout,
            HandsNoneOn,
            TakesAndDropsIt,
            DropsIfTraining,
        )
    },
    "ListsAndDicts": (lambda: around(ListsAndDicts()), 8 + 6 + 7 + 8 + 5 + 7, 2),
    "MadeInBuild": (lambda: around(MadeInBuild()), 8 + 6 + 5 + 7, 2),
    "ThreeDeep": (lambda: around(ThreeDeep()), 8 + 2 * (9 + 5 + 5) + 7, 2),
    "OwnWeights": (lambda: around(OwnWeights()), 8 + 2 * 9 + 2 * 5 + 7, 2),
    "shared_by_two": (shared_by_two, 8 + 5 + 8 + 8 + 7, 2),
    "dicts": (dicts, 2 * 5, 2),
    "recurrent": (recurrent, 4 + 5 + 4, 2),
    "masks": (masks, 6 + 4 + 2 + 3 + 3 + 4 + 5, 2),
    "transformer": (transformer, 2 + 8 + 8 + 12 + 9, 2 + 4 * 8),
    "broadcast": (lambda: class_token(lambda x, n: ops.broadcast_to(x, (n, 1, 6))), 25, 2),
    "tile": (lambda: class_token(lambda x, n: ops.tile(x, (n, 1, 1))), 25, 2),
    "repeat": (lambda: class_token(lambda x, n: ops.repeat(x, n, axis=0)), 25, 2),
    "subclassed": (subclassed, 7 + 8 + 10, 5),
}


# On JAX keys and values have one width, and what is recurrent is compiled for half a minute.
TENSORFLOW_ONLY = ("recurrent", "masks", "transformer")
NAMES = [
    pytest.param(
        name,
        marks=[pytest.mark.tensorflow_only] * (name in TENSORFLOW_ONLY)
        + [pytest.mark.slow] * (number % 2),
    )
    for number, name in enumerate(PATTERNS)
]


@pytest.mark.parametrize("name", NAMES)
def test_the_pattern_is_pruned_to_the_end(name, tmp_path):
    make, free, kept = PATTERNS[name]
    dense = zoo.randomise(make())
    explanation = resrep_keras.explain(dense)
    totals = explanation.totals
    assert (totals.prunable + totals.coupled, totals.pinned) == (free, kept), str(explanation)
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.02, coupled=True))
    x = _inputs(dense)
    np.testing.assert_allclose(wrapped(x), dense(x), rtol=1e-5, atol=1e-6)
    _check_training(dense, wrapped, x)
    wrapped.save(tmp_path / "wrapped.keras")
    wrapped = keras.models.load_model(tmp_path / "wrapped.keras")
    channel_state = ChannelState(wrapped)
    kept = helpers.random_keep(channel_state.graph, channel_state.groups, seed=1)
    helpers.kill(wrapped, kept, channel_state)
    slim = resrep_keras.finalize(wrapped, strict=True, data=x)
    assert slim.certificate.max_relative <= 1e-5 and slim.certificate.data_max_relative <= 1e-5
    assert resrep_keras.count_macs(slim) < resrep_keras.count_macs(dense)
    assert all(type(layer).__module__.startswith("keras.") for layer in slim.layers)
    slim.save(tmp_path / "slim.keras")
    loaded = keras.models.load_model(tmp_path / "slim.keras")
    np.testing.assert_allclose(loaded(x), slim(x), rtol=1e-6, atol=1e-7)


def _inputs(model):
    generator = np.random.default_rng(0)
    recording = recording_of(model)
    draw = generator.normal
    if "Embedding" in {type(c.operation).__name__ for c in recording.calls}:
        draw = functools.partial(generator.integers, 0, 2)
    drawn = keras.tree.map_structure(
        lambda x: draw(size=(8, *x.shape[1:])).astype("float32"), recording.inputs
    )
    return drawn[0] if isinstance(drawn, list) else drawn


def _check_training(dense, wrapped, x):
    """With the same seeds both make the same in training, and give their variables new values."""
    models = dense, wrapped
    states = [[(v, ops.copy(v.value)) for v in model.variables] for model in models]
    outputs = [ops.convert_to_numpy(model(x, training=True)) for model in models]
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-5)
    changed = [
        sorted(
            float(ops.sum(ops.cast(v.value, "float32")))
            for v, old in state
            if (ops.convert_to_numpy(v) != ops.convert_to_numpy(old)).any()
        )
        for state in states
    ]
    np.testing.assert_allclose(*changed, rtol=1e-4)
    for state in states:
        for variable, value in state:
            variable.assign(value)


def test_own_weights_keep_what_holds_them_in_check():
    layer = OwnWeights(name="own")
    dense = around(layer)
    layer.more[0].trainable = False
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.02))
    gamma, offset = (wrapped.get_layer(f"own_{name}") for name in ("gamma", "offset"))
    assert isinstance(gamma.kernel.regularizer, keras.regularizers.L2)
    assert isinstance(offset.kernel.constraint, keras.constraints.NonNeg)
    assert gamma.kernel.trainable and not offset.kernel.trainable
    assert len(wrapped.losses) == len(dense.losses) == 1
    np.testing.assert_allclose(wrapped.losses[0], dense.losses[0], rtol=1e-6)
    assert len(dense.trainable_weights) + len(helpers.compactors(wrapped)) == len(
        wrapped.trainable_weights
    )


def test_a_frozen_batch_normalisation_may_be_told_to_be_in_inference():
    class Fixes(Mlp):
        def call(self, x, training=None):
            x = self.norm(self.first(x), training=False)
            return self.second(self.dropout(x, training=training))

    layer = Fixes(name="fixes")
    dense = around(layer)
    reasons = [str(pin) for pin in resrep_keras.trace(dense).pins]
    assert any("(it calls 'norm' with training=False in training)" in each for each in reasons)
    layer.norm.trainable = False
    assert "first" in {call.name for call in resrep_keras.trace(dense).calls}


def test_training_moves_own_weights():
    dense = around(OwnWeights(name="own"))
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.02, coupled=True))
    x = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
    kernel = wrapped.get_layer("own_gamma").kernel
    before = ops.convert_to_numpy(kernel)
    wrapped.compile("sgd", "mse")
    wrapped.fit(x, np.ones((16, 2)), batch_size=4, epochs=3, verbose=0)
    assert (ops.convert_to_numpy(kernel) != before).all()
    assert (ops.convert_to_numpy(dense.get_layer("own").gamma) == before).all()
