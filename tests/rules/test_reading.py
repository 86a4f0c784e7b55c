"""Channels that weights of a layer without a rule read or make, as trying shows."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.trace import trace
from resrep_keras.rules.reading import check_both, find_making, find_reading
from resrep_keras.surgery.trial import Trial, Unlike


class Product(layers.Layer):
    """A dense layer with a length for each output, and an activation."""

    def __init__(self, width, activation=None, shift=0.0, **kwargs):
        super().__init__(**kwargs)
        self.width, self.shift = width, shift
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        self.matrix = self.add_weight(shape=(self.width, input_shape[-1]), name="matrix")
        self.length = self.add_weight(shape=(self.width,), name="length")

    def call(self, x):
        squares = ops.sum(ops.square(self.matrix), -1, keepdims=True)
        directions = self.matrix / ops.sqrt(squares + 1e-6)
        y = ops.matmul(x, ops.transpose(directions)) * self.length
        return self.activation(y + self.shift)

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        own = {"width": self.width, "shift": self.shift, "activation": activation}
        return {**super().get_config(), **own}


def trial_of(layer, shape=(6,)):
    inputs = keras.Input(shape)
    return Trial(trace(keras.Model(inputs, layer(inputs))).calls[-1])


@pytest.mark.parametrize("layer", [layers.Dense(5), layers.Conv1D(5, 3, padding="same")])
def test_a_layer_of_keras_is_found_to_be_what_its_rule_says(layer):
    trial = trial_of(layer, (4, 6))
    last = len(layer.kernel.shape) - 1
    reads = find_reading(trial, 0, 2, 6)
    assert reads.weights == ((last - 1,), ()) and reads.key is None
    makes = find_making(trial)
    assert (makes.axis, makes.width, makes.weights) == (2, 5, ((last,), (0,)))
    assert makes.key == ("units" if last == 1 else "filters")
    assert makes.mixes and makes.activates and makes.taking == (True, True)
    check_both(trial, (reads,), makes)


def test_a_length_takes_up_factors_and_the_directions_do_not():
    makes = find_making(trial_of(Product(5, "relu")))
    assert makes.weights == ((0,), (0,)) and makes.taking == (False, True)
    assert not makes.mixes and makes.activates


def test_norms_over_inputs_keep_these():
    with pytest.raises(
        Unlike, match="before it gives other values, also where all others are zero"
    ):
        find_reading(trial_of(Product(5)), 0, 1, 6)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (Product(5, shift=1.0), "no factor of its outputs can be taken up by its weights"),
        (layers.LayerNormalization(), "not exactly one is the number 6 of channels"),
        (layers.LSTM(5), "behind it"),
    ],
)
def test_outputs_that_stay(layer, text):
    with pytest.raises(Unlike, match=text):
        find_making(trial_of(layer, (4, 6)))


def test_a_sum_over_channels_reads_them_without_weights():
    trial = trial_of(layers.Lambda(lambda x: ops.sum(x, -1, keepdims=True)))
    assert find_reading(trial, 0, 1, 6).weights == ()
    with pytest.raises(Unlike, match="also where all others are zero"):
        find_reading(trial_of(layers.Lambda(lambda x: ops.mean(x, -1, keepdims=True))), 0, 1, 6)


def test_weights_are_narrowed_in_and_out_and_in_both_calls_alike():
    trial = trial_of(layers.Dense(6))  # as many outputs as inputs
    reads, makes = find_reading(trial, 0, 1, 6), find_making(trial)
    assert reads.weights != makes.weights
    check_both(trial, (reads,), makes)
    again = trial_of(layers.Dense(6))
    assert find_making(again) == makes and find_reading(again, 0, 1, 6) == reads
    assert np.array_equal(makes.weights, find_making(again).weights)


def test_an_activation_that_raises_where_it_is_tried_alone_is_no_statement_about_the_layer():
    class OfPairs(Product):
        """Its activation reads two tensors."""

        def __init__(self, width, function="two", **kwargs):
            super().__init__(width, **kwargs)
            self.function = function
            self.activation = {"two": lambda a, b: a + 0 * b, "name": "linear"}[function]

        def call(self, x):
            plain, self.activation = self.activation, keras.activations.linear
            try:
                y = super().call(x)
            finally:
                self.activation = plain
            return y if self.function == "name" else plain(y, y)

        def get_config(self):
            own = {"width": self.width, "shift": self.shift, "function": self.function}
            return {**layers.Layer.get_config(self), **own}

    for function, words in (("two", "raises TypeError"), ("name", "not callable")):
        makes = find_making(trial_of(OfPairs(5, function)))
        assert not makes.activates and makes.taking == (False, True)  # a length of above zero
        with pytest.raises(Unlike, match=f"no factor .* \\(its activation, tried alone, .*{words}"):
            find_making(trial_of(OfPairs(5, function, shift=0.5)))
