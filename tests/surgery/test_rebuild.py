"""Copies of models: with layers changed, left out, or followed by others."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.record import record
from resrep_keras.surgery.rebuild import copy_operation, rebuild
from tests import helpers, zoo


@pytest.fixture
def model():
    inputs = keras.Input((2,))
    x = layers.Dense(2, use_bias=False, name="first")(inputs)
    x = layers.Rescaling(10.0, name="ten")(x)
    model = keras.Model(inputs, layers.Rescaling(0.5, name="half")(x), name="net")
    model.get_layer("first").set_weights([np.eye(2)])
    return model


def out(model):
    return ops.convert_to_numpy(model(np.array([[1.0, 2.0]]))).tolist()[0]


@pytest.mark.parametrize("name", ["residual", "nested", "shared_layer", "time_distributed"])
def test_a_copy_computes_the_same_and_shares_no_variable(name):
    model = zoo.build(name)
    copy = rebuild(record(model))
    assert helpers.difference(model, copy) <= 1e-6
    assert not {id(v) for v in model.variables} & {id(v) for v in copy.variables}
    assert copy.name == model.name


def test_a_layer_is_left_out(model):
    assert out(model) == [5.0, 10.0]
    assert out(rebuild(record(model), drop={"ten"})) == [0.5, 1.0]


def test_a_layer_stands_behind_another(model):
    copy = rebuild(record(model), behind={"ten": layers.Rescaling(1.0, offset=2.0, name="two")})
    assert out(copy) == [(10 + 2) / 2, (20 + 2) / 2]
    assert [layer.name for layer in copy.layers][1:] == ["first", "ten", "two", "half"]


def test_a_layer_stands_before_another(model):
    copy = rebuild(record(model), before={"ten": layers.Rescaling(1.0, offset=2.0, name="two")})
    assert out(copy) == [(1 + 2) * 10 / 2, (2 + 2) * 10 / 2]


def test_settings_and_weights_change(model):
    change = {"first": lambda: ({"units": 1}, [np.array([[3.0], [4.0]])])}
    recording = record(model)
    assert out(rebuild(recording, change)) == [(3 + 2 * 4) * 5]
    assert out(model) == [5.0, 10.0]  # left as it is


def test_another_layer_is_copied_in_its_place(model):
    source = {"ten": layers.Rescaling(4.0, name="other")}
    copy = rebuild(record(model), source=source)
    assert out(copy) == [2.0, 4.0] and copy.get_layer("ten").scale == 4.0


def test_another_layer_is_put_around(model):
    def hold(layer):
        return layers.TimeDistributed(layer, name="around")

    inputs = keras.Input((3, 2))
    dense = keras.Model(inputs, layers.Dense(2, name="dense")(inputs))
    copy = rebuild(record(dense), around={"dense": hold})
    assert copy.layers[-1].name == "around"
    assert helpers.difference(dense, copy) <= 1e-6


def test_what_cannot_be_made_from_its_configuration():
    class Lost(layers.Layer):
        def __init__(self, number):
            super().__init__(name="lost")
            self.scale = self.add_weight(shape=(number,))

        def get_config(self):
            return {"name": self.name}

    with pytest.raises(ValueError, match=r"'lost' of type Lost cannot be copied.*get_config\(\)"):
        copy_operation(Lost(2), {})


def test_what_has_no_weights_is_shared_instead():
    class Fixed(layers.Layer):
        def __init__(self, number):
            super().__init__()
            self.number = number

        def get_config(self):
            return {}

    layer = Fixed(2)
    assert copy_operation(layer, {}) is layer
