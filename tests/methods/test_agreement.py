"""Two models are compared on random inputs, and call by call where their outputs differ."""

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.graph.trace import recording_of
from resrep_keras.methods.agreement import agreement_of, check_copy
from resrep_keras.surgery.rebuild import rebuild


def net():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = layers.Dense(8, activation="relu", name="first")(inputs)
    return keras.Model(inputs, layers.Dense(3, name="last")(x), name="net")


def test_a_copy_passes():
    model = net()
    check_copy(model, rebuild(recording_of(model)))


@pytest.mark.parametrize("name", ["first", "last"])
def test_the_first_layer_that_differs_is_named(name):
    model = net()
    copy = rebuild(recording_of(model))
    copy.get_layer(name).bias.assign(copy.get_layer(name).bias + 1.0)
    with pytest.raises(ValueError, match=f"part first at layer '{name}' of type Dense, by "):
        check_copy(model, copy)


def test_values_that_are_no_numbers_differ():
    model = net()
    copy = rebuild(recording_of(model))
    copy.get_layer("last").bias.assign([0.0, np.nan, 0.0])
    with pytest.raises(ValueError, match=r"part first at layer 'last'.*by inf"):
        check_copy(model, copy)
    model.get_layer("last").bias.assign([0.0, np.nan, 0.0])
    check_copy(model, copy)


def test_equal_layers_in_another_order_are_told():
    model = net()
    copy = rebuild(recording_of(model))
    x = copy.get_layer("first")(copy.input)
    swapped = keras.Model(copy.input, -copy.get_layer("last")(x), name="net")
    with pytest.raises(ValueError, match="though each layer does the same as its copy"):
        check_copy(model, swapped)


def test_what_passes_is_rounding_of_the_dtype():
    model = net()
    weights = np.array(model.get_layer("last").bias)
    for factor, refused in ((1e-7, False), (1e-3, True)):
        copy = rebuild(recording_of(model))
        largest = np.abs(model.predict(np.ones((1, 6)), verbose=0)).max()
        copy.get_layer("last").bias.assign(weights + factor * largest)
        if refused:
            with pytest.raises(ValueError, match="part first at layer 'last'"):
                check_copy(model, copy)
        else:
            check_copy(model, copy)


@pytest.mark.parametrize(
    ("dtypes", "least", "most"),
    [
        (["float64", "float64"], 1e-10, 1e-10),
        (["float32", "float64"], 1e-5, 4e-3),  # a GPU rounds factors to 11 bits: 4 * 2 ** -11
        (["float32", "mixed_float16"], 5e-3, 5e-3),
        (["bfloat16", "float64"], 5e-3, 5e-3),
    ],
)
def test_the_coarsest_dtype_counts(dtypes, least, most):
    made = [layers.Dense(2, dtype=dtype) for dtype in dtypes]
    inputs = keras.Input((2,), dtype=made[0].compute_dtype)
    model = keras.Model(inputs, made[1](made[0](inputs)))
    assert least <= agreement_of(model) <= most
