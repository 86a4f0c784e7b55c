"""Recurrent layers: units that feed back, in one direction or both."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.flow import rule_of
from resrep_keras.layers.gated import Gated
from resrep_keras.rules.recurrent import Cell, cell_of
from resrep_keras.surgery.channel_weights import producing_weights
from resrep_keras.surgery.narrow import narrow
from resrep_keras.surgery.rebuild import copy_operation
from tests import zoo
from tests.rules.calls import SEQUENCE, Answer, mask, part


def built(layer, shape=(2, 5, 3)):
    layer(np.zeros(shape, "float32"))
    generator = np.random.default_rng(0)
    layer.set_weights([generator.normal(0, 0.5, w.shape) for w in layer.weights])
    return layer


def sequence(seed=0):
    return np.random.default_rng(seed).normal(size=(2, 5, 3)).astype("float32")


@pytest.mark.parametrize(
    ("layer", "cell"),
    [
        (layers.LSTM(7), Cell("units", 7, 2, 4)),
        (layers.GRU(7), Cell("units", 7, 2, 3, bias_shape=(2,))),
        (layers.GRU(7, reset_after=False), Cell("units", 7, 2, 3)),
        (layers.SimpleRNN(7), Cell("units", 7, 0, 1)),
        (layers.ConvLSTM1D(7, 3, padding="same"), Cell("filters", 7, 2, 4, taps=3, padded=True)),
        (
            layers.ConvLSTM2D(7, (2, 3), data_format="channels_first"),
            Cell("filters", 7, 2, 4, taps=6, behind=2),
        ),
    ],
)
def test_what_is_known_of_each_kind(layer, cell):
    assert cell_of(layer) == cell


def test_only_recurrent_layers_have_a_cell():
    with pytest.raises(TypeError, match="Expected a recurrent layer of Keras; got a Dense"):
        cell_of(layers.Dense(2))


@pytest.mark.parametrize(
    ("data_format", "shape"),
    [("channels_last", (5, 4, 4, 2)), ("channels_first", (5, 2, 4, 4))],
)
def test_macs_of_a_convolving_layer(data_format, shape):
    """A 3x3 state map: the input at 5 steps, and the state, each with a 2x2 kernel."""
    inputs = keras.Input(shape)
    outputs = layers.ConvLSTM2D(7, 2, data_format=data_format)(inputs)
    macs = resrep_keras.count_macs(keras.Model(inputs, outputs))
    assert macs == 5 * 9 * 4 * 4 * 7 * (2 + 7)


def test_an_lstm_gate_scales_the_candidate_columns():
    """Keras orders an LSTM's columns input, forget, candidate, output: with 2 units, 4 and 5."""
    layer = built(layers.LSTM(2))
    gated = Gated(layer, {"units": 2})
    gated.gates["units"].kernel.assign([3.0, 0.5])
    factor = np.array([1, 1, 1, 1, 3.0, 0.5, 1, 1])
    expected = built(layers.LSTM(2))
    expected.set_weights([ops.convert_to_numpy(w) * factor for w in layer.weights])
    np.testing.assert_allclose(
        ops.convert_to_numpy(gated(sequence())), ops.convert_to_numpy(expected(sequence())), 1e-5
    )


def test_both_directions_give_up_the_same_unit():
    graph = resrep_keras.trace(zoo.build("bidirectional"))
    call = next(call for call in graph.calls if call.name == "bidirectional")
    labels = graph.channel_of[call.outputs[0].labels.ravel()]
    assert labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_a_stateful_layer_keeps_its_units():
    x = keras.Input(batch_shape=(2, 5, 3))
    y = layers.LSTM(4, stateful=True)(layers.Dense(6)(x))
    graph = resrep_keras.trace(keras.Model(x, layers.Dense(2)(y)))
    assert [group.size for group in graph.groups if group.prunable] == [6]
    assert "stateful" in str(graph.groups[1].reason)


def test_an_activation_that_is_not_zero_at_zero_keeps_units():
    assert Answer(layers.LSTM(4, activation="sigmoid"), SEQUENCE).pins("not zero at zero")


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_columns_of_each_gate_and_rows_of_the_recurrent_kernel_go(kind):
    layer = built(kind(2))
    keep = part(mask(1, 0, 1), mask(0, 1), inside={"units": mask(0, 1)})
    config, (kernel, recurrent, bias) = rule_of(narrow, layer)(layer, keep)
    old = [ops.convert_to_numpy(weight) for weight in layer.weights]
    np.testing.assert_array_equal(kernel, old[0][[0, 2]][:, 1::2])
    np.testing.assert_array_equal(recurrent, old[1][[1]][:, 1::2])
    np.testing.assert_array_equal(bias, old[2][..., 1::2])
    assert config == {"units": 1, "use_bias": True}


@pytest.mark.parametrize(("reset_after", "rows"), [(True, (2, 6)), (False, (6,))])
def test_a_bias_that_was_not_there_takes_up_constants(reset_after, rows):
    layer = built(layers.GRU(2, use_bias=False, reset_after=reset_after))
    constants = np.array([0.0, 2.0, 0.0])
    keep = part(mask(1, 0, 1), mask(1, 1), constants=constants, inside={"units": mask(1, 1)})
    config, (_, _, bias) = rule_of(narrow, layer)(layer, keep)
    assert config["use_bias"] and bias.shape == rows
    added = 2 * ops.convert_to_numpy(layer.weights[0])[1]
    np.testing.assert_allclose(bias[0] if reset_after else bias, added, rtol=1e-6)


def test_a_unit_is_made_by_all_its_gates():
    layer = built(layers.LSTM(2))
    weights = rule_of(producing_weights, layer)(layer)
    assert weights.shape == (4 * (3 + 2), 2)
    both = built(layers.Bidirectional(layers.LSTM(2)))
    assert rule_of(producing_weights, both)(both).shape == (2 * 4 * (3 + 2), 2)


def test_a_copy_changes_both_directions():
    layer = layers.Bidirectional(layers.LSTM(4), merge_mode="sum")
    copy = copy_operation(layer, {"units": 2, "name": "other"})
    assert (copy.name, copy.merge_mode) == ("other", "sum")
    assert copy.forward_layer.units == copy.backward_layer.units == 2


def test_masking_compares_all_channels():
    assert Answer(layers.Masking(1.0), SEQUENCE).pins("a Masking")
    assert Answer(layers.Masking(), SEQUENCE).ids() == [0, 1, 2]
