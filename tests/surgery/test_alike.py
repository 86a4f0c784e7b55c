"""Which calls are alike, so that what trying one shows holds for the other."""

import keras
import pytest
from keras import layers

from resrep_keras.graph.trace import trace
from resrep_keras.surgery.alike import alike_key


class Scaled(layers.Layer):
    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return super().get_config()


def key_of(layer, shape=(6,)):
    inputs = keras.Input(shape)
    return alike_key(trace(keras.Model(inputs, layer(inputs))).calls[-1])


def test_names_and_values_of_weights_do_not_matter():
    assert key_of(layers.Dense(3, name="a")) == key_of(layers.Dense(3, name="b"))
    assert key_of(Scaled()) == key_of(Scaled()) is not None


@pytest.mark.parametrize(
    "other",
    [
        (layers.Dense(4), (6,)),
        (layers.Dense(3, use_bias=False), (6,)),
        (layers.Dense(3), (7,)),
        (layers.Dense(3, trainable=False), (6,)),
        (layers.Activation("relu"), (6,)),
    ],
)
def test_settings_sizes_and_flags_do(other):
    assert key_of(layers.Dense(3)) != key_of(*other)


def test_what_the_configuration_forgets_is_seen_on_the_object():
    assert key_of(Scaled(1.0)) != key_of(Scaled(2.0))


def test_functions_of_the_users_own_and_parts_are_like_no_other():
    assert key_of(layers.Lambda(lambda x: x)) is None
    assert key_of(layers.Dense(3, activation=lambda x: x)) is None
    assert key_of(layers.LSTM(3), (4, 6)) is None
    layer = Scaled()
    vars(layer)["call"] = lambda x: x
    assert key_of(layer) is None
