"""Decoder blocks as people write them open for sequences of any length: every width and head goes.

Causal masks, rotations by position and biases of relative positions are made of `ops.shape(x)`,
heads by an `EinsumDense`, keys and values are fewer than queries, and a part may return `None`
beside its tensors.
"""

import keras
import numpy as np
from keras import layers, ops

import resrep_keras
from resrep_keras.costs.macs import MacCost
from resrep_keras.graph.trace import recording_of, trace_recording
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers

HEADS, GROUPS, WIDTH, HIDDEN, MLP = 4, 2, 2, 6, 8


def causal_mask(x):
    batch, length = ops.shape(x)[0], ops.shape(x)[1]
    row = ops.expand_dims(ops.arange(length, dtype="float32"), 1)
    mask = ops.expand_dims(row >= ops.arange(length, dtype="float32"), 0)
    return ops.broadcast_to(mask, (batch, length, length))


def rotated(x):
    """Positions turn the halves of each head, as in RoPE (Su et al., 2021)."""
    shape = ops.shape(x)
    angle = ops.arange(shape[1], dtype="float32")[:, None] / ops.arange(1.0, shape[3] + 1)
    angle = ops.reshape(angle, (1, shape[1], 1, shape[3]))
    first, second = ops.split(x, 2, axis=-1)
    turned = ops.reshape(ops.stack((-second, first), axis=-2), shape)
    return x * ops.cos(angle) + turned * ops.sin(angle)


class Attention(layers.Layer):
    """Attention with fewer keys than queries; says that it has no cache."""

    def build(self, shape):
        def heads(number, name):
            return layers.EinsumDense(
                "bqm,muh->bquh", (None, number, WIDTH), bias_axes="uh", name=name
            )

        self.query, self.key, self.value = (
            heads(n, name) for n, name in ((HEADS, "q"), (GROUPS, "k"), (GROUPS, "v"))
        )
        self.join = layers.EinsumDense("bquh,uhm->bqm", (None, shape[-1]), bias_axes="m")
        self.offsets = self.add_weight(shape=(4, HEADS), initializer="uniform", name="offsets")
        for part in (self.query, self.key, self.value):
            part.build(shape)
        self.join.build((None, None, HEADS, WIDTH))
        self.softmax = layers.Softmax()

    def call(self, x, seen=None):
        query, key = rotated(self.query(x)), rotated(self.key(x))
        key, value = (ops.repeat(y, HEADS // GROUPS, axis=2) for y in (key, self.value(x)))
        scores = ops.einsum("bqnd,bknd->bnqk", query, key) + self.of_distances(ops.shape(x)[1])
        scores = self.softmax(scores, seen[:, None, :, :])
        return self.join(ops.einsum("bnqk,bknd->bqnd", scores, value)), None

    def of_distances(self, length):
        far = ops.arange(length)[:, None] - ops.arange(length)[None, :]
        return ops.transpose(ops.take(self.offsets, ops.clip(far, 0, 3), axis=0), (2, 0, 1))[None]


class Block(layers.Layer):
    """A decoder block with a gated hidden width, as Llama has them (Touvron et al., 2023)."""

    def build(self, shape):
        self.first, self.second = layers.LayerNormalization(), layers.LayerNormalization()
        self.attention = Attention(name="attention")
        self.up, self.gate = layers.Dense(MLP, name="up"), layers.Dense(MLP, "silu", name="gate")
        self.down, self.dropout = layers.Dense(shape[-1], name="down"), layers.Dropout(0.1)
        for part in (self.first, self.second, self.attention, self.up, self.gate):
            part.build(shape)
        self.down.build((*shape[:-1], MLP))

    def call(self, x, padding=None, training=None):
        mask = causal_mask(x)
        if padding is not None:
            mask = ops.minimum(ops.cast(padding[:, None, :], "int32"), ops.cast(mask, "int32"))
        made, _ = self.attention(self.first(x), seen=mask)
        x = x + self.dropout(made, training=training)
        y = self.second(x)
        return x + self.down(self.up(y) * self.gate(y))


def decoder():
    keras.utils.set_random_seed(0)
    ids = keras.Input((None,), dtype="int32", name="ids")
    mask = keras.Input((None,), dtype="int32", name="padding")
    x = layers.Embedding(9, HIDDEN)(ids)
    model = keras.Model([ids, mask], layers.Dense(3)(Block(name="block")(x, padding=mask)))
    randomise(model)
    return model


def randomise(model):
    """Biases and tables that are not zero."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) < 3:
            weight.assign(ops.convert_to_numpy(weight) + generator.normal(0, 0.2, weight.shape))


def test_a_slim_decoder_computes_the_same_at_any_length():
    """Every width and head may go; heads go with all queries that read them."""
    dense, shape = decoder(), {"ids": (5,), "padding": (5,)}
    graph = resrep_keras.trace(dense)
    assert not [call.name for call in graph.calls if call.closed]
    found = {p.layer: len(g.channels) for g in graph.groups if g.prunable for p in g.producers}
    assert found == {"up": MLP, "gate": MLP, "block_offsets": GROUPS} | dict.fromkeys("qkv", GROUPS)
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(1e-6, input_shape=shape))
    helpers.scramble(wrapped)
    state = ChannelState(wrapped)
    kept = helpers.random_keep(state.graph, state.groups, 0)
    helpers.kill(wrapped, kept, state)
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert slim.certificate.max_relative <= 1e-4
    cost = MacCost(trace_recording(recording_of(wrapped, shape)), compactors=False)
    assert cost(kept) == resrep_keras.count_macs(slim, shape) < slim.certificate.macs_dense
    generator = np.random.default_rng(0)
    for length in (2, 4, 33):
        inputs = [generator.integers(0, 9, (2, length)), np.ones((2, length), "int32")]
        inputs[1][0, length // 2 + 1 :] = 0
        np.testing.assert_allclose(slim(inputs), wrapped(inputs), rtol=1e-4, atol=1e-5)
