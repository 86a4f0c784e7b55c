"""What a layer holds is found by the names of its constructor's arguments, and by its layers."""

import functools

import keras
from keras import layers

from resrep_keras.surgery.held import (
    has_assets,
    has_config,
    has_state_hooks,
    held_settings,
    layer_tree,
    of_keras,
    own_variables,
)


def test_settings_are_attributes_of_a_constructors_arguments():
    class Own(layers.Dense):
        def __init__(self, factor=2, **kwargs):
            super().__init__(3, **kwargs)
            self._factor, self.count = factor, 7

    found = held_settings(Own(name="own"))
    assert found["_factor"] == 2 and found["units"] == 3
    assert "count" not in found and "build" not in found


def test_layers_and_variables_of_ones_own():
    layer = layers.Bidirectional(layers.LSTM(2), name="both")
    layer.build((None, 3, 4))
    names = [each.name for each in layer_tree(layer)]
    assert names[0] == "both" and sum("lstm_cell" in name for name in names) == 2
    assert not own_variables(layer)
    assert [v.name for v in own_variables(layer.forward_layer.cell)] == [
        "kernel",
        "recurrent_kernel",
        "bias",
    ]


def test_whose_is_it():
    assert of_keras(keras.activations.relu) and of_keras(layers.Dense) and of_keras(layers.ReLU())
    assert not any(map(of_keras, (lambda x: x, functools.partial(max, 1), held_settings)))


def test_state_that_is_saved_in_a_way_of_its_own():
    plain = [layers.Dense(2), layers.Conv1D(2, 1), layers.Embedding(2, 2), layers.LSTM(2)]
    assert not any(map(has_state_hooks, plain)) and not any(map(has_assets, plain))
    assert has_state_hooks(layers.Normalization())
    assert has_assets(layers.IntegerLookup()) if keras.backend.backend() == "tensorflow" else True
    assert has_config(layers.ReLU()) and not has_config(layers.ReLU)
