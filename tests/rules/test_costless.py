"""The lists of what multiplies nothing."""

import collections

import keras
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.costs.macs import macs, multiplies_nothing
from resrep_keras.rules import costless

PRODUCTS = (
    *(layers.Conv1D, layers.Conv2DTranspose, layers.DepthwiseConv2D, layers.SeparableConv2D),
    *(layers.Dense, layers.EinsumDense, layers.Dot, layers.Attention, layers.MultiHeadAttention),
    *(layers.LSTM, layers.RNN, layers.Bidirectional, layers.SpectralNormalization),
)


def test_what_multiplies_is_on_no_list():
    for kind in PRODUCTS:
        assert macs.dispatch(kind) is not multiplies_nothing
    names = {kind.__name__ for kind in costless.OPERATIONS}
    assert not names & {"Matmul", "Einsum", "Conv", "Dot", "FFT", "Solve", "WhileLoop", "Scan"}


def test_each_operation_is_listed_once():
    names = f"{costless.ENTRY_BY_ENTRY} {costless.OVER_AXES} {costless.PLACES}".split()
    assert [name for name, number in collections.Counter(names).items() if number > 1] == []


@pytest.mark.parametrize("name", "relu leaky_relu elu gelu softmax sigmoid silu tanh".split())
def test_activations_in_a_call_of_ones_own_take_none(name):
    """Some are operations of their own there."""
    inputs = keras.Input((4, 6))
    own = layers.Lambda(getattr(keras.activations, name))
    assert resrep_keras.count_macs(keras.Model(inputs, own(inputs))) == 0


def test_a_net_of_them_takes_none():
    x = inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Rescaling(2.0)(x))
    x = layers.MaxPooling2D()(layers.ZeroPadding2D(1)(x))
    x = ops.tanh(ops.mean(x, axis=(1, 2), keepdims=True)) * x + ops.cumsum(x, axis=1)
    x = ops.layer_normalization(ops.concatenate([x, ops.flip(x, axis=1)], axis=-1))
    assert resrep_keras.count_macs(keras.Model(inputs, layers.Flatten()(x))) == 0
