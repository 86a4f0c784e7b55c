"""Compactors and gated layers, as the rules see them."""

import numpy as np
from keras import layers

from resrep_keras.graph.flow import rule_of
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.gated import Gated
from resrep_keras.surgery.channel_weights import producing_weights
from resrep_keras.surgery.narrow import narrow
from tests.rules.calls import ROW, Answer, mask, part


def test_a_removed_channel_is_zero_behind_its_compactor():
    answer = Answer(Compactor(), ROW, activation="sigmoid")
    assert answer.ids() == [0, 1, 2] and answer.states == {"ZERO"}
    assert Answer(Compactor(activation="sigmoid"), ROW).states == {"CONSTANT"}


def test_rows_and_columns_of_a_matrix_go():
    layer = Compactor()
    layer.build((None, 3))
    kernel = np.arange(9.0).reshape(3, 3)
    layer.kernel.assign(np.reshape(kernel, layer.kernel.shape))
    config, (left, keep_mask) = rule_of(narrow, layer)(layer, part(None, mask(1, 0, 1)))
    assert config == {}
    np.testing.assert_array_equal(left.reshape(2, 2), kernel[[0, 2]][:, [0, 2]])
    assert keep_mask.dtype == bool and keep_mask.all()


def gated():
    layer = layers.LSTM(2)
    layer(np.zeros((1, 5, 3), "float32"))
    return Gated(layer, {"units": 2})


def test_a_gated_layer_is_narrowed_with_its_gates():
    layer = gated()
    layer.gates["units"].kernel.assign([3.0, 4.0])
    keep = part(mask(1, 1, 1), mask(0, 1), inside={"units": mask(0, 1)})
    config, weights = rule_of(narrow, layer)(layer, keep)
    assert config["gates"] == {"units": 1}
    assert config["layer"].units == 1
    assert [np.ravel(weight).tolist() for weight in weights[-2:]] == [[4.0], [True]]


def test_a_gated_layer_has_the_weights_of_the_one_inside():
    layer = gated()
    inside = rule_of(producing_weights, layer.layer)(layer.layer)
    np.testing.assert_array_equal(rule_of(producing_weights, layer)(layer), inside)
