"""Constraints hold on new weights, or are dropped and named."""

import keras
import numpy as np
from keras import layers

from resrep_keras.graph.record import record
from resrep_keras.surgery.constraints import dropped_constraints, without_broken


def dense(value, **given):
    layer = layers.Dense(2, use_bias=False, **given)
    layer.build((None, 2))
    layer.kernel.assign(value)
    return layer


def test_what_holds_is_kept():
    layer = dense([[1.0, 2.0], [3.0, 4.0]], kernel_constraint="non_neg")
    kept = {"units": 1}
    assert without_broken(layer, kept, [np.array([[1.0], [3.0]])], folded=True) == kept
    lost = without_broken(layer, kept, [np.array([[1.0], [-3.0]])], folded=True)
    assert lost == {"units": 1, "kernel_constraint": None}


def test_a_selection_keeps_what_was_never_met():
    layer = dense([[1.0, -2.0], [3.0, 4.0]], kernel_constraint="non_neg")
    assert without_broken(layer, {}, [np.array([[-2.0], [4.0]])]) == {}
    assert without_broken(layer, {}, [np.array([[-2.0], [4.0]])], True) == {
        "kernel_constraint": None
    }


def test_norms_are_of_what_is_left():
    layer = dense([[0.6, 0.0], [0.8, 1.0]], kernel_constraint=keras.constraints.UnitNorm(axis=0))
    assert without_broken(layer, {}, [np.array([[0.6], [0.8]])]) == {}
    assert without_broken(layer, {}, [np.array([[0.6, 0.0]])]) == {"kernel_constraint": None}
    layer = dense([[0.6, 0.0], [0.8, 1.0]], kernel_constraint=keras.constraints.MaxNorm(1.0, 0))
    assert without_broken(layer, {}, [np.array([[0.6, 0.0]])]) == {}


def test_what_is_lost_is_named():
    def model(constraint):
        layer = layers.LSTM(2, recurrent_constraint=constraint, name="lstm")
        return record(keras.Sequential([keras.Input((3, 2)), layer]))

    assert dropped_constraints(model("non_neg"), model(None)) == (("lstm", "recurrent_constraint"),)
    assert dropped_constraints(model("non_neg"), model("non_neg")) == ()
