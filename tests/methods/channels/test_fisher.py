"""Fisher scores: how much the loss of each example changes when a channel is turned down."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.trace import trace
from resrep_keras.methods.channels import fisher as module
from resrep_keras.methods.channels.channel_state import PrunableChannels
from resrep_keras.methods.channels.fisher import check_loss, fisher_scores
from resrep_keras.surgery.examples import Examples

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(24, 6, 6, 2)).astype("float32")
Y = GENERATOR.integers(0, 3, 24)
STEP = 1e-2


def net(activation=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.DepthwiseConv2D(2, name="depthwise")(x)
    x = layers.Dense(5, activation="tanh", name="hidden")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(3, activation=activation, name="out")(x))


def scores(model, data):
    graph = trace(model)
    channels = PrunableChannels(model, graph, [g for g in graph.groups if g.prunable])
    found = fisher_scores(channels, model, Examples(model, data))
    return {p.name: found[p.channels] for g in graph.groups for p in g.producers}


def changes(model, turned, function):
    """What `function` of the model changes by, for each channel that is turned down."""
    before, old = function(), [ops.convert_to_numpy(v) for v in turned]
    found = []
    for channel in range(old[0].shape[-1]):
        for variable, values in zip(turned, old):
            less = values.copy()
            less[..., channel] *= 1 - STEP
            variable.assign(less)
        found.append((function() - before) / STEP)
    for variable, values in zip(turned, old):
        variable.assign(values)
    return np.stack(found)


def labelled(model):
    def losses():
        outputs = model(X, training=False)
        each = keras.losses.sparse_categorical_crossentropy(Y, outputs, from_logits=True)
        return ops.convert_to_numpy(each)

    return losses


@pytest.mark.parametrize("most", (128, 7))
def test_it_is_the_squared_change_of_the_loss(most, monkeypatch):
    monkeypatch.setattr(module, "MOST", most)
    model = net()
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    found = scores(model, (X, Y))
    norm = model.get_layer("norm")
    expected = np.square(changes(model, [norm.gamma, norm.beta], labelled(model))).mean(-1)
    np.testing.assert_allclose(found["conv"], expected, rtol=0.1)


def test_without_labels_it_is_that_of_the_outputs():
    """Signs are drawn, so that it comes close with many examples."""
    model = net()
    many = GENERATOR.normal(size=(2000, 6, 6, 2)).astype("float32")
    norm = model.get_layer("norm")

    def outputs():
        return ops.convert_to_numpy(model(many, training=False))

    found = scores(model, many)["conv"]
    expected = np.square(changes(model, [norm.gamma, norm.beta], outputs)).sum(-1).mean(-1)
    np.testing.assert_allclose(found, expected, rtol=0.2)


def test_of_probabilities_it_is_the_fisher_information():
    model = net("softmax")
    many = GENERATOR.normal(size=(2000, 6, 6, 2)).astype("float32")
    norm = model.get_layer("norm")

    def logs():
        return np.log(ops.convert_to_numpy(model(many, training=False)))

    change = changes(model, [norm.gamma, norm.beta], logs)
    expected = (np.exp(logs()) * np.square(change)).sum(-1).mean(-1)
    np.testing.assert_allclose(scores(model, many)["conv"], expected, rtol=0.2)


def test_coupled_channels_add_up_before_they_are_squared():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    a, b = layers.Dense(4, name="a")(inputs), layers.Dense(4, name="b")(inputs)
    model = keras.Model(inputs, layers.Dense(1, use_bias=False, name="out")(a + b))
    x = X.reshape(24, -1)[:, :6]
    read = ops.convert_to_numpy(model.get_layer("a")(x) + model.get_layer("b")(x))
    weights = ops.convert_to_numpy(model.get_layer("out").kernel)[:, 0]
    np.testing.assert_allclose(scores(model, x)["a"], np.square(read * weights).mean(0), rtol=1e-4)


def test_channels_inside_of_layers_and_at_each_entry_are_looked_at():
    inputs = keras.Input((5, 6))
    x = layers.LSTM(8, return_sequences=True, name="lstm")(inputs)
    x = layers.TimeDistributed(layers.Dense(8, name="inner"))(x)
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))
    found = scores(model, GENERATOR.normal(size=(20, 5, 6)).astype("float32"))
    assert {"lstm", "inner"} <= set(found)
    for name in ("lstm", "inner"):
        assert np.isfinite(found[name]).all()
        assert (found[name] > 0).all()


def test_batches_leave_out_less_than_one_of_a_hundred():
    recording = trace(net()).recording
    for number in (16, 100, 129, 1000, 1500, 12345):
        size = module._batch_size(recording, number)
        assert size <= 128
        assert number % size <= 0.01 * number


def test_labels_need_a_loss():
    model = net()
    examples = Examples(model, (X, Y))
    for compiled in (False, True):
        if compiled:
            model.compile("sgd")
        with pytest.raises(ValueError, match="to be compiled with a loss, which takes the labels"):
            check_loss(model, examples)
    check_loss(model, Examples(model, X))
    model.compile(loss="mse")
    check_loss(model, examples)
