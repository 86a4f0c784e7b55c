"""What is left of a layer, by hand."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.graph.flow import rule_of
from resrep_keras.surgery.narrow import (
    Part,
    batch_norm_weights,
    narrow,
    take,
    weight_values,
    weights_of,
    with_bias,
)
from resrep_keras.surgery.outputs import Mixed, Selected


def mask(*kept):
    return np.array(kept, bool)


ALL = Selected(mask(1, 1))


def test_take_accepts_a_mask_or_what_becomes_of_the_outputs():
    array = np.array([[1, 2, 3], [4, 5, 6]])
    assert take(array, 1, mask(1, 0, 1)).tolist() == [[1, 3], [4, 6]]
    assert take(array, 0, Selected(mask(0, 1))).tolist() == [[4, 5, 6]]


KERNEL = np.array([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])  # one position, 3 inputs, 2 outputs


def test_kernel_and_bias_lose_channels():
    part = Part((mask(1, 0, 1),), Selected(mask(0, 1)))
    kernel, bias = with_bias(part, KERNEL, np.array([7.0, 8.0]), 1, 2)
    assert (kernel.tolist(), bias.tolist()) == ([[[2.0], [6.0]]], [8.0])


def test_a_bias_that_was_not_there_stays_away():
    part = Part((mask(1, 0, 1),), ALL)
    assert with_bias(part, KERNEL, None, 1, 2)[1] is None


def test_constants_of_removed_inputs_go_into_the_bias():
    # Removed input 1 holds 10: its weights are 3 and 4. What is kept adds nothing.
    part = Part((mask(1, 0, 1),), ALL, constants=np.array([99.0, 10.0, 99.0]))
    assert with_bias(part, KERNEL, np.array([7.0, 8.0]), 1, 2)[1].tolist() == [37.0, 48.0]
    assert with_bias(part, KERNEL, None, 1, 2)[1].tolist() == [30.0, 40.0]
    positions = np.concatenate([KERNEL, KERNEL])  # each position reads the constant
    assert with_bias(part, positions, None, 1, 2)[1].tolist() == [60.0, 80.0]


def test_a_bias_is_mixed_as_the_kernel_is_and_then_shifted():
    outputs = Mixed(mask(1, 1), np.array([[0.0, 1.0], [2.0, 0.0]]))  # 2 * second, first
    part = Part((mask(1, 1, 1),), outputs, shift=np.array([0.5, 0.25]))
    kernel, bias = with_bias(part, KERNEL, np.array([7.0, 8.0]), 1, 2)
    assert kernel.tolist() == [[[4.0, 1.0], [8.0, 3.0], [12.0, 5.0]]]
    assert bias.tolist() == [16.5, 7.25]


def test_a_dense_layer_by_its_rule():
    layer = layers.Dense(2)
    layer.build((None, 3))
    layer.set_weights([KERNEL[0], np.array([7.0, 8.0])])
    config, (kernel, bias) = rule_of(narrow, layer)(
        layer, Part((mask(0, 1, 1),), Selected(mask(1, 0)))
    )
    assert config["units"] == 1
    assert (kernel.tolist(), bias.tolist()) == ([[3.0], [5.0]], [7.0])


def test_weights_come_in_float64_in_order_and_by_name():
    layer = layers.BatchNormalization(center=False)
    layer.build((None, 2))
    layer.moving_variance.assign([4.0, 9.0])
    assert [value.dtype for value in weight_values(layer)] == [np.float64] * 3
    assert list(weights_of(layer)) == ["gamma", "moving_mean", "moving_variance"]
    scale, offset, mean, variance = (value.tolist() for value in batch_norm_weights(layer))
    assert (scale, offset, mean, variance) == ([1, 1], [0, 0], [0, 0], [4, 9])


def test_the_entry_of_an_argument():
    tensors = [keras.KerasTensor((None, 2)), keras.KerasTensor((None, 3))]

    class Call:
        input_ids = tuple(map(id, tensors))

        def argument(self, name, position):
            given = {"query": tensors[0], "value": tensors[1]}
            return given.get(name)

    part = Part((mask(1, 0), mask(1, 1, 0)), ALL, call=Call())
    assert part.keep_of("value", 1).tolist() == [True, True, False]
    assert part.keep_of("key", 2) is None


def test_a_layer_without_a_rule_is_named():
    class Unknown(layers.Layer):
        pass

    text = (
        "Unknown 'mine' has no rule for fewer channels. Register one with "
        "resrep_keras.surgery.narrow.narrow.register(Unknown)."
    )
    with pytest.raises(ValueError, match=re.escape(text)):
        narrow(Unknown(name="mine"), None)
