"""Choices of channels, and what copies that read them show of the weights."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.trace import trace
from resrep_keras.surgery.choosing import (
    as_selected,
    axes_that_shrink,
    choices,
    chosen,
    copy_for,
    key_of,
    kinds_for,
    narrowed,
    shapes_for,
    ways_to_take,
)
from resrep_keras.surgery.outputs import Scaled
from resrep_keras.surgery.trial import KINDS, Trial, Unlike


class Named(layers.Layer):
    """Knows how many channels it reads."""

    def __init__(self, dim, other=0, **kwargs):
        super().__init__(**kwargs)
        self.dim, self.other = dim, other

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(self.dim,), name="scale")

    def call(self, x):
        return x * self.scale

    def get_config(self):
        return {**super().get_config(), "dim": self.dim, "other": self.other}


def trial_of(layer, shape):
    inputs = keras.Input(shape)
    return Trial(trace(keras.Model(inputs, layer(inputs))).calls[-1])


def test_choices_are_in_order_and_of_several_sizes():
    assert [len(choice) for choice in choices(8)] == [4, 7]
    assert [len(choice) for choice in choices(2)] == [1]
    for choice in choices(9):
        assert (np.diff(choice) > 0).all() and 0 <= choice.min() and choice.max() < 9
    assert [len(kinds_for(number)) for number in (0, 1)] == [len(KINDS), 1]


def test_arrays_and_weights_are_chosen_along_their_axes():
    x, y = np.arange(12.0).reshape(3, 4), np.arange(3.0)
    first, second = chosen([ops.convert_to_tensor(x), y], {0: 1}, np.array([1, 3]))
    np.testing.assert_array_equal(first, x[:, [1, 3]])
    assert second is y
    keep = as_selected(np.array([0, 2]), 3)
    weights = narrowed([x, y, y], ((0,), (0,), ()), keep)
    np.testing.assert_array_equal(weights[0], x[[0, 2]])
    np.testing.assert_array_equal(weights[1], [0.0, 2.0])
    assert weights[2] is y
    scaled = Scaled(keep.mask, np.array([2.0, 2.0, 3.0]))
    weights = narrowed([x, y], ((0,), (0,)), scaled, (False, True))
    np.testing.assert_array_equal(weights[0], x[[0, 2]])
    np.testing.assert_array_equal(weights[1], [0.0, 2.0 * 3.0])


def test_ways_to_take_begin_with_all_that_have_channels():
    assert list(ways_to_take(((1,), (), (0,)))) == [
        (True, False, True),
        (True, False, False),
        (False, False, True),
    ]
    assert list(ways_to_take(((0,),) * 6)) == [(True,) * 6]


def test_the_axes_are_those_along_which_a_copy_is_shorter():
    trial = trial_of(layers.Dense(6), (6,))  # as many outputs as inputs
    assert shapes_for(trial, {0: 1}, 4) == [(None, 4)]
    copies, key = copy_for(trial, {0: 1}, 6, [4, 5])
    assert key is None and [copy.shapes[0] for copy in copies] == [(4, 6), (5, 6)]
    assert axes_that_shrink(trial, copies[0], 6, 4) == ((0,), ())
    made = trial.copy({"units": 4}, [(None, 6)])
    assert axes_that_shrink(trial, made, 6, 4) == ((1,), (0,))
    with pytest.raises(Unlike, match="gives a copy for 3 of 6 with weights of other shapes"):
        axes_that_shrink(trial, made, 6, 3)


def test_one_setting_is_changed_and_only_where_no_other_holds_the_number():
    trial = trial_of(Named(6), (6,))
    copies, key = copy_for(trial, {0: 1}, 6, [4])
    assert key == "dim" and copies[0].changes == {"dim": 4}
    assert key_of(Named(6), 6) == "dim"
    assert key_of(Named(6), 5) is key_of(Named(6, 6), 6) is None
    with pytest.raises(Unlike, match="before it raises"):
        copy_for(trial_of(Named(6, 6), (6,)), {0: 1}, 6, [4])


def test_a_setting_counts_where_only_with_it_weights_become_shorter():
    """Symbolic tensors do not always show that a copy does not fit."""

    class Features(layers.Layer):
        def __init__(self, in_features, out_features, **kwargs):
            super().__init__(**kwargs)
            self.sizes = in_features, out_features
            self.matrix = self.add_weight(shape=self.sizes[::-1], name="matrix")

        def call(self, x):
            return ops.matmul(x, ops.transpose(self.matrix))

        def compute_output_shape(self, input_shape):
            return (*input_shape[:-1], self.sizes[1])

        def get_config(self):
            own = dict(zip(("in_features", "out_features"), self.sizes))
            return {**super().get_config(), **own}

    copies, key = copy_for(trial_of(Features(6, 5), (6,)), {0: 1}, 6, [4])
    assert key == "in_features" and copies[0].shapes == [(5, 4)]
    assert copy_for(trial_of(Features(6, 6), (6,)), {0: 1}, 6, [4])[1] is None
