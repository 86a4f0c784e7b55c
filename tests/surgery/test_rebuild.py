"""Copies of a model: equal weights, shared by none, with layers changed, added or left out."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.trace import recording_of
from resrep_keras.surgery.rebuild import copy_operation, rebuild


def net():
    x = inputs = keras.Input((3,), name="in")
    x = layers.Dense(3, name="first", activation="relu")(x)
    return keras.Model(inputs, layers.Dense(2, name="last")(x), name="net")


def test_a_copy_has_the_weights_and_shares_none():
    model = net()
    copy = rebuild(recording_of(model))
    assert copy.name == "net" and [x.name for x in copy.layers] == ["in", "first", "last"]
    for ours, theirs in zip(copy.weights, model.weights):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))
        assert ours is not theirs


def test_a_recording_serves_several_copies():
    recording = recording_of(net())
    first, second = rebuild(recording), rebuild(recording)
    assert first.weights[0] is not second.weights[0]


def test_layers_are_changed_left_out_followed_and_preceded():
    weights = [np.ones((3, 3)), np.zeros(3)]
    copy = rebuild(
        recording_of(net()),
        change={"first": lambda: ({"activation": "tanh"}, weights)},
        behind={"first": layers.ReLU(name="behind")},
        before={"last": layers.Rescaling(2.0, name="before")},
    )
    names = [layer.name for layer in copy.layers]
    assert names == ["in", "first", "behind", "before", "last"]
    assert copy.get_layer("first").activation is keras.activations.tanh
    np.testing.assert_array_equal(ops.convert_to_numpy(copy.get_layer("first").kernel), 1)
    short = rebuild(recording_of(net()), drop={"first"})
    assert [layer.name for layer in short.layers] == ["in", "last"]


class TellsMore(keras.layers.Dense):
    """Its configuration tells what it has worked out, too, which no constructor takes."""

    def get_config(self):
        return {**super().get_config(), "bits": 32 * self.units}


def test_a_configuration_may_tell_more_than_the_constructors_take():
    layer = TellsMore(4, activation="relu", name="more")
    copy = copy_operation(layer, {"units": 3})
    assert (copy.units, copy.name, copy.activation) == (3, "more", keras.activations.relu)
    with pytest.raises(ValueError, match="cannot be copied"):
        copy_operation(layer, {"units": "many"})


class Plain(layers.Layer):
    """As examples write layers: nothing is handed on to the constructor of all layers."""

    def __init__(self, units=4):
        super().__init__()
        self.weight = self.add_weight(shape=(units,))

    def call(self, x):
        return x * self.weight


class Unnamed(layers.Layer):
    """Keras makes its configuration, in which there is no name."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.weight = self.add_weight(shape=(units,))

    def call(self, x):
        return x * self.weight


@pytest.mark.parametrize("kind", [Plain, Unnamed])
def test_a_layer_whose_constructor_or_configuration_knows_no_name_keeps_it(kind):
    inputs = keras.Input((3,))
    layer = kind(3)
    model = keras.Model(inputs, layers.Dense(2)(layer(inputs)))
    copy = rebuild(recording_of(model), checked=True)
    assert [x.name for x in copy.layers] == [x.name for x in model.layers]
    assert type(copy.layers[1]) is kind and copy.layers[1] is not layer
    x = np.ones((2, 3), "float32")
    np.testing.assert_allclose(copy(x), model(x))


def test_a_layer_that_cannot_be_copied_is_named():
    class Odd(layers.Layer):
        def __init__(self, needed, **kwargs):
            super().__init__(**kwargs)
            self.weight = self.add_weight(shape=(1,))

    with pytest.raises(ValueError, match=r"'odd' of type Odd cannot be copied.*get_config"):
        copy_operation(Odd(object(), name="odd"), {})


class AsksForNumbers(layers.Layer):
    """Its call runs on arrays alone, and its configuration lacks an argument."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(units)

    def build(self, input_shape):
        self.inner.build(input_shape)

    def call(self, x):
        return self.inner(x) + float(ops.convert_to_numpy(x).mean())

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.inner.units)

    def get_config(self):
        config = super().get_config()
        config.pop("units", None)
        return config


def test_a_layer_that_cannot_be_copied_is_told_why_it_would_have_to_be():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2)(AsksForNumbers(4, name="numbers")(inputs)))
    words = r"'numbers' of type AsksForNumbers is copied whole.*because its call\(\) raises "
    with pytest.raises(ValueError, match=words + ".*on symbolic tensors.*Give it a get_config"):
        rebuild(recording_of(model))


def test_an_error_of_ones_own_is_no_matter_of_the_configuration():
    class Picky(layers.Layer):
        def __init__(self, allowed=True, **kwargs):
            super().__init__(**kwargs)
            if not allowed:
                raise ValueError("the weather is bad")
            self.weight = self.add_weight(shape=(1,))

        def get_config(self):
            return {**super().get_config(), "allowed": False}

    with pytest.raises(ValueError, match="the weather is bad") as caught:
        copy_operation(Picky(name="picky"), {})
    assert "get_config" not in str(caught.value)


class Noisy(layers.Layer):
    """Forgets its argument, and shows it in training only."""

    def __init__(self, rate=0.5, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate

    def call(self, x):
        return x * 1.0

    def get_config(self):
        return {"name": self.name}


def test_settings_that_a_copy_has_otherwise_are_refused_before_training():
    def noisy(rate):
        inputs = keras.Input((6,))
        return keras.Model(inputs, Noisy(rate, name="noisy")(inputs))

    rebuild(recording_of(noisy(0.5)), checked=True)
    rebuild(recording_of(noisy(0.1)))
    with pytest.raises(ValueError, match=r"'noisy' of type Noisy has rate=0.1, and its copy"):
        rebuild(recording_of(noisy(0.1)), checked=True)
