"""What is not finite is named, and only that."""

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.methods.divergence import check_finite, diverged, not_finite


def variable(value, name, **kwargs):
    return keras.Variable(np.array(value), name=name, **kwargs)


def test_what_is_not_finite_is_found():
    nan, inf = variable([1.0, np.nan], "nan"), variable([np.inf, 0.0], "inf")
    whole, number = variable([1, 2], "whole", dtype="int32"), variable([1.0], "number")
    assert not_finite([nan, inf, whole, number]) == ["nan", "inf"]
    assert not_finite([], [nan, inf, whole, number]) == ["nan"]  # a mask may hold infinities


def test_the_text_names_the_first_variables_and_the_step():
    assert diverged(["a"], 7).startswith("The training has diverged at step 7: 'a' hold NaN")
    assert diverged(list("abcd")).startswith("The training has diverged: 'a', 'b', 'c', ... hold")


def test_a_model_that_has_diverged_raises():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, name="top")])
    check_finite(model, 3)
    model.get_layer("top").kernel.assign(np.full((2, 2), np.inf))
    with pytest.raises(ValueError, match=r"at step 3: '.*top/kernel' hold NaN or infinite"):
        check_finite(model, 3)
