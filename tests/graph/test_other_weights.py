"""Layers whose class does not tell which weights they compute with."""

import keras
import pytest
from keras import layers

from resrep_keras.graph.other_weights import other_weights
from resrep_keras.graph.pins import PinKind


def built(layer, *shape):
    layer.build(shape)
    return layer


def test_plain_layers_and_operations():
    assert other_weights(built(layers.Dense(4), None, 3)) is None
    assert other_weights(layers.ReLU()) is None
    assert other_weights(keras.ops.add) is None


def test_lora():
    layer = built(layers.Conv2D(4, 3), None, 8, 8, 3)
    layer.enable_lora(2)
    assert other_weights(layer) == ("a layer with LoRA weights beside its kernel", PinKind.LORA)


@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_quantised_also_inside(mode):
    inside = built(layers.Dense(4), None, 3)
    outside = layers.TimeDistributed(inside)
    assert other_weights(outside) is None
    inside.quantize(mode)
    assert other_weights(outside) == (f"a layer quantised to {mode}", PinKind.QUANTISED)
