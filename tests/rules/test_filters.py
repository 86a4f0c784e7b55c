"""Convolutions with arrays for kernels: labels, kernels with fewer channels, MACs."""

import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.costs.macs import MacCost
from tests.rules.calls import IMAGE, Answer, changes, mask

FILTERS = np.arange(2 * 2 * 3 * 2, dtype="float32").reshape(2, 2, 3, 2)


def test_a_filter_of_each_channel_makes_several_of_one():
    answer = Answer(lambda x: ops.depthwise_conv(x, FILTERS), IMAGE)
    assert answer.ids() == [0, 0, 1, 1, 2, 2]
    kernel = changes(answer, keep_in=mask(1, 0, 1))["kernel"]
    np.testing.assert_array_equal(kernel, FILTERS[:, :, [0, 2]])
    assert MacCost(answer.graph).by_layer()[answer.call.name] == 3 * 3 * 2 * 2 * 3 * 2


@pytest.mark.parametrize("padding, state", [("valid", "CONSTANT"), ("same", "FIXED")])
def test_constants_differ_at_a_padded_border(padding, state):
    function = lambda x: ops.depthwise_conv(x, FILTERS, padding=padding)  # noqa: E731
    assert Answer(function, IMAGE, activation="sigmoid").states == {state}


def test_an_array_reads_zeros_and_makes_no_channels():
    answer = Answer(lambda x: ops.conv(x, FILTERS), IMAGE)
    assert answer.call.outputs[0].labels.size == 1
    kernel = changes(answer, keep_in=mask(0, 1, 1))["kernel"]
    np.testing.assert_array_equal(kernel, FILTERS[:, :, 1:])
    assert MacCost(answer.graph).by_layer()[answer.call.name] == 3 * 3 * 2 * 2 * 3 * 2
    assert Answer(lambda x: ops.conv(x, FILTERS), IMAGE, activation="sigmoid").pins("no bias")


def test_kernels_that_are_tensors_are_tried():
    made = layers.Dense(2 * 2 * 3)

    def function(x):
        kernel = ops.reshape(ops.mean(made(ops.mean(x, (1, 2))), 0), (2, 2, 3, 1))
        return ops.depthwise_conv(x, kernel)

    assert Answer(function, IMAGE).graph.groups[0].reason is not None
