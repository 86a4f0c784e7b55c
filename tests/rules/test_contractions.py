"""Products that are summed over axes, with arrays: labels, settings with fewer channels, MACs."""

import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.costs.macs import MacCost
from tests.rules.calls import ROW, SEQUENCE, Answer, changes, mask

TABLE = np.arange(6, dtype="float32").reshape(3, 2)


@pytest.mark.parametrize(
    "function, name",
    [
        (lambda x: ops.matmul(x, TABLE), "x2"),
        (lambda x: ops.dot(x, TABLE), "x2"),
        (lambda x: ops.tensordot(x, TABLE, 1), "x2"),
    ],
)
def test_an_array_is_narrowed_along_the_axis_that_is_summed_over(function, name):
    answer = Answer(function, SEQUENCE)
    given = changes(answer, keep_in=mask(1, 0, 1))
    np.testing.assert_array_equal(given[name], TABLE[[0, 2]])
    assert MacCost(answer.graph).by_layer()[answer.call.name] == 5 * 3 * 2


def test_operands_of_an_einsum_stand_in_their_places():
    answer = Answer(lambda x: ops.einsum("cd,btc->btd", TABLE, x), SEQUENCE)
    first, second = changes(answer, keep_in=mask(0, 1, 1))["operands"]
    np.testing.assert_array_equal(first, TABLE[1:])
    assert second is answer.call.args[1]


def test_a_factor_of_each_channel_lets_them_pass():
    answer = Answer(lambda x: ops.einsum("...c,c->...c", x, TABLE[:, 0]), SEQUENCE)
    assert answer.ids() == [0, 1, 2] and answer.states == {"ZERO"}
    _, factor = changes(answer, keep_in=mask(1, 1, 0))["operands"]
    assert factor.tolist() == [0.0, 2.0]


def test_what_an_array_makes_carries_no_channels():
    answer = Answer(lambda x: ops.matmul(x, TABLE), ROW)
    assert answer.call.outputs[0].labels.size == 1


def test_a_number_lets_channels_pass():
    assert Answer(lambda x: ops.dot(x, 2.0), ROW).ids() == [0, 1, 2]


def test_the_weights_of_a_layer_are_no_array():
    table = layers.Embedding(4, 3)
    table.build()
    answer = Answer(lambda x: ops.einsum("btc,vc->btv", x, table.embeddings), SEQUENCE)
    assert answer.pins("Einsum with the weights of a layer")
