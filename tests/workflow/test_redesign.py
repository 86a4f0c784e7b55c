"""Fresh models in the widths that pruning has found."""

import keras
import pytest
from keras import layers, ops

import resrep_keras
from tests import zoo


@pytest.mark.parametrize("name", ["residual", "chain", "concatenate", "shared_layer"])
def test_a_fresh_model_has_the_widths_of_the_slim_one(name):
    dense = zoo.build(name)
    slim = resrep_keras.MagnitudePruning(0.3).prune(dense)
    fresh = resrep_keras.redesign(dense, resrep_keras.widths_of(slim))
    assert resrep_keras.widths_of(fresh) == resrep_keras.widths_of(slim)
    assert resrep_keras.count_macs(fresh) == resrep_keras.count_macs(slim)
    kinds = [{type(layer).__name__ for layer in model.layers} for model in (fresh, dense)]
    assert kinds[0] == kinds[1]  # batch normalisation is still there
    kernels = [w for w in fresh.weights if w.path.endswith("kernel")]
    held = {ops.convert_to_numpy(w).tobytes() for w in dense.weights + slim.weights}
    assert not any(ops.convert_to_numpy(kernel).tobytes() in held for kernel in kernels)


@pytest.mark.parametrize(
    ("widths", "text"),
    [
        ({"nobody": 3}, "Expected widths to name layers .*; got 'nobody'"),
        ({"first": 0}, "an int of 1 or more"),
        ({"first": 5}, "at most 4, the channels of the dense layer; got 5"),
        ({"out": 2}, "pinned"),
    ],
)
def test_widths_that_do_not_fit_are_refused(widths, text):
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, name="first")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="out")(layers.Flatten()(x)))
    with pytest.raises(ValueError, match=text):
        resrep_keras.redesign(model, widths)
