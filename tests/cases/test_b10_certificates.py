"""Certificates compare what tells something: logits, and numbers; data decide."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras as rk
from resrep_keras.graph.trace import recording_of
from resrep_keras.methods.certificate import TOLERANCE, certify
from resrep_keras.methods.channels import finalize as finalizing
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.surgery.narrow import narrow
from tests.helpers import kill, random_keep, scramble

LOUD = 1e4  # logits so large that a softmax of them is one-hot


def dense_head(activation):
    return lambda x: layers.Dense(3, activation=activation, name="head")(x)


HEADS = {
    "softmax setting": dense_head("softmax"),
    "sigmoid setting": dense_head("sigmoid"),
    "a function of one's own": dense_head(lambda x: ops.sigmoid(x)),
    "Softmax": lambda x: layers.Softmax()(layers.Dense(3, name="head")(x)),
    "Activation": lambda x: layers.Activation("sigmoid")(layers.Dense(3, name="head")(x)),
    "ops.softmax": lambda x: ops.softmax(layers.Dense(3, name="head")(x)),
    "argmax of softmax": lambda x: ops.argmax(
        ops.softmax(layers.Dense(3, name="head")(x)), axis=-1
    ),
    "softmax of a sum": lambda x: layers.Softmax()(
        layers.Add(name="sum")([layers.Dense(3, name="head")(x), layers.Dense(3)(x)])
    ),
    "nested": lambda x: keras.Sequential(
        [keras.Input((8,)), layers.Dense(3, name="head"), layers.Softmax()], name="top"
    )(x),
}


def build(head, factor=1.0):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = layers.Dense(8, activation="relu", name="hidden")
    model = keras.Model(inputs, head(hidden(inputs)))
    layer = next(c.operation for c in recording_of(model).calls if c.name == "head")
    layer.kernel.assign(layer.kernel * LOUD * factor)
    return model


@pytest.mark.parametrize("name", HEADS)
def test_a_saturated_head_hides_nothing(name):
    first, second = build(HEADS[name]), build(HEADS[name], 1.5)
    x = np.random.default_rng(0).normal(size=(2, 4))
    outputs = [ops.convert_to_numpy(m(x)) for m in (first, second)]
    np.testing.assert_allclose(*outputs, atol=1e-6)  # the outputs say that they are equal
    found = certify(recording_of(first), recording_of(second), (1, 1), x)
    assert found.max_relative > 0.3 and found.data_max_relative > 0.3
    same = certify(recording_of(first), recording_of(build(HEADS[name])), (1, 1), x)
    assert same.max_relative == same.data_max_relative == 0


def test_a_head_at_each_time():
    def model(factor):
        keras.utils.set_random_seed(0)
        head = layers.TimeDistributed(layers.Dense(3, activation="softmax"), name="times")
        made = keras.Sequential([keras.Input((5, 4)), layers.Dense(8, name="hidden"), head])
        head.layer.kernel.assign(head.layer.kernel * LOUD * factor)
        return recording_of(made)

    assert certify(model(1.0), model(1.5), (1, 1)).max_relative > 0.3
    assert certify(model(1.0), model(1.0), (1, 1)).max_relative == 0


def masked(dense, seed=0):
    wrapped = rk.wrap(dense, rk.ResRep(0.01))
    scramble(wrapped, seed)
    state = ChannelState(wrapped)
    kill(wrapped, random_keep(state.graph, state.groups, seed), state)
    wrapped.method = None
    return wrapped


def test_finalize_tells_what_a_saturated_head_hides(monkeypatch):
    wrapped = masked(build(HEADS["softmax setting"]))
    fold = finalizing.fold

    def broken(*args, **kwargs):
        slim = fold(*args, **kwargs)
        slim.get_layer("head").kernel.assign(slim.get_layer("head").kernel * 1.2)
        return slim

    monkeypatch.setattr(finalizing, "fold", broken)
    with pytest.raises(ValueError, match=r"differ by 0\.2"):
        rk.finalize(wrapped, strict=True)


# --- what is not a number -------------------------------------------------------------------------


def logarithm(width=1):
    """Only inputs that are positive have an answer; the first `width` of 6 are asked."""
    inputs = keras.Input((6,))
    x = layers.Concatenate()([ops.log(inputs[:, :width]), inputs[:, width:]])
    hidden = layers.Dense(8, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(hidden))


def test_not_a_number_in_both_is_no_difference():
    """Two random rows: the first entry of one is negative, of the other positive."""
    wrapped = masked(logarithm())
    slim = rk.finalize(wrapped, strict=True)
    assert slim.certificate.max_relative < TOLERANCE


def test_nothing_but_not_a_number_asks_for_data():
    wrapped = masked(logarithm(6))
    with pytest.raises(ValueError, match=r"not comparable on random inputs.*Give data"):
        rk.finalize(wrapped, strict=True)
    data = np.random.default_rng(0).uniform(0.5, 2.0, (4, 6)).astype("float32")
    slim = rk.finalize(wrapped, strict=True, data=data)
    assert np.isnan(slim.certificate.max_relative)
    assert slim.certificate.data_max_relative < TOLERANCE
    with pytest.raises(ValueError, match="not comparable on the data given"):
        rk.finalize(wrapped, strict=True, data=-data)


def test_a_number_in_one_of_two_is_a_difference():
    first, second = logarithm(), logarithm()
    second.set_weights(first.get_weights())
    second.get_layer("head").bias.assign([np.nan, 0.0])
    x = np.ones((2, 6), "float32")
    found = certify(recording_of(first), recording_of(second), (1, 1), x)
    assert found.data_max_relative == np.inf


def test_data_decide(monkeypatch):
    """A slim model that is right on data, and wrong elsewhere."""
    wrapped = masked(build(dense_head(None)))
    fold = finalizing.fold

    def broken(*args, **kwargs):
        slim = fold(*args, **kwargs)
        kernel = ops.convert_to_numpy(slim.get_layer("hidden").kernel).copy()
        kernel[0] *= 2.0
        slim.get_layer("hidden").kernel.assign(kernel)
        return slim

    monkeypatch.setattr(finalizing, "fold", broken)
    data = np.random.default_rng(0).normal(size=(4, 4)).astype("float32")
    with pytest.raises(ValueError, match="on the data given"):
        rk.finalize(wrapped, strict=True, data=data)
    data[:, 0] = 0.0
    slim = rk.finalize(wrapped, strict=True, data=data)
    assert slim.certificate.max_relative > TOLERANCE > slim.certificate.data_max_relative


# --- models that are pruned at once ---------------------------------------------------------------


def images(*made):
    x = inputs = keras.Input((8, 8, 3))
    for layer in made:
        x = layer(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="head")(x))


def conv(filters=8, **given):
    return layers.Conv2D(filters, 3, **{"activation": "relu", **given})


class Scaled(layers.Dense):
    """A layer of one's own whose rule is wrong: it loses a factor."""


@narrow.register
def _scaled_narrow(layer: Scaled, part):
    config, weights = narrow.registry[layers.Dense](layer, part)
    return config, [weights[0] * 1.5, *weights[1:]]


PRUNED = {
    "plain": lambda: images(conv(), conv()),
    "normalised": lambda: images(
        conv(activation=None), layers.BatchNormalization(), layers.ReLU(), conv(padding="same")
    ),
    "sigmoid": lambda: images(conv(activation="sigmoid"), conv()),
    "spectral": lambda: images(layers.SpectralNormalization(conv()), conv()),
    "depthwise": lambda: images(conv(), layers.DepthwiseConv2D(3, activation="relu"), conv()),
}


@pytest.mark.parametrize("name", PRUNED)
@pytest.mark.parametrize("method", [rk.MagnitudePruning, rk.FPGM, rk.RandomPruning])
def test_prune_certifies(name, method):
    dense = PRUNED[name]()
    slim = method(0.3).prune(dense, strict=True)
    assert slim.certificate.max_relative < 1e-4
    assert slim.certificate.macs_dense == rk.count_macs(dense)
    assert slim.certificate.macs_slim == rk.count_macs(slim) <= 0.7 * rk.count_macs(dense)
    assert slim.certificate.data_max_relative is None


def test_prune_certifies_what_has_gates():
    inputs = keras.Input((5, 6))
    x = layers.LSTM(8, return_sequences=True)(inputs)
    x = layers.TimeDistributed(layers.Dense(8, activation="sigmoid"))(x)
    x = layers.MultiHeadAttention(4, 4)(x, x)
    dense = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))
    slim = rk.MagnitudePruning(0.3).prune(dense, strict=True)
    assert slim.certificate.max_relative < 1e-4


def test_prune_tells_of_a_rule_that_is_wrong():
    inputs = keras.Input((6,))
    x = Scaled(8, activation="relu", name="scaled")(inputs)
    dense = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    with pytest.raises(ValueError, match="Slim and masked model differ"):
        rk.MagnitudePruning(0.3).prune(dense, strict=True)
    with pytest.warns(UserWarning, match="Slim and masked model differ"):
        slim = rk.MagnitudePruning(0.3).prune(dense)
    assert slim.certificate.max_relative > 0.1
    data = np.zeros((2, 6), "float32")
    slim = rk.MagnitudePruning(0.3).prune(dense, strict=True, data=data, repair=False)
    assert slim.certificate.data_max_relative < 1e-4


def test_prune_lists_what_is_inexact():
    inputs = keras.Input((6,))
    x = layers.LayerNormalization()(layers.Dense(8, name="hidden")(inputs))
    dense = keras.Model(inputs, layers.Dense(3)(layers.Dense(8, activation="relu")(x)))
    slim = rk.RandomPruning(0.4, exact=False).prune(dense, strict=True)
    assert [name for name, _ in slim.certificate.inexact] == ["hidden"]


def test_prune_leaves_the_model_as_it_is():
    dense = PRUNED["sigmoid"]()
    settings = [layer.get_config() for layer in dense.layers]
    weights = dense.get_weights()
    rk.MagnitudePruning(0.3).prune(dense)
    assert [layer.get_config() for layer in dense.layers] == settings
    assert all(np.array_equal(a, b) for a, b in zip(weights, dense.get_weights()))
