"""Names of inputs and outputs: those of the model, whatever its structure."""

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.tflite.signature import signature_of


def two():
    return keras.Input((2,), name="left"), keras.Input((3,), name="right")


def test_names_of_one_input_and_output():
    model = keras.Sequential([keras.Input((2,), name="in"), layers.Dense(1, name="out")])
    signature = signature_of(model)
    assert (signature.inputs, signature.outputs) == (("in",), ("out",))
    assert signature.by_name(5) == {"in": 5}


def test_names_of_lists_in_their_order():
    left, right = two()
    both = layers.Concatenate()([left, right])
    outputs = [layers.Dense(1, name=name)(both) for name in ("z", "a")]
    signature = signature_of(keras.Model([right, left], outputs))
    assert (signature.inputs, signature.outputs) == (("right", "left"), ("z", "a"))
    assert signature.by_name([1, 2]) == {"right": 1, "left": 2}


def test_keys_of_dicts_come_first():
    left, right = two()
    both = layers.Concatenate()([left, right])
    outputs = {"price": layers.Dense(1)(both), "deep": {"age": layers.Dense(2)(both)}}
    signature = signature_of(keras.Model({"left": left, "right": right}, outputs))
    assert signature.by_name({"right": 1, "left": 2}) == {"left": 2, "right": 1}
    by_structure = [path for path, _ in keras.tree.flatten_with_path(outputs)]
    assert signature.outputs == tuple("_".join(path) for path in by_structure)


def test_equal_names_get_a_number():
    left, _ = two()
    layer = layers.Dense(2, name="shared")
    first = layer(left)
    assert signature_of(
        keras.Model(left, [first, layer(first), layers.ReLU(name="shared_1")(first)])
    ).outputs == ("shared", "shared_1", "shared_1_1")


def test_characters_that_tensorflow_does_not_take():
    inputs = keras.Input((2,), name="Größe in m")
    model = keras.Model(inputs, layers.ReLU(name="_y")(inputs))
    signature = signature_of(model)
    assert signature.inputs == ("Gr__e_in_m",) and signature.outputs == ("x_y",)


def test_a_subclassed_model_by_the_keys_that_it_is_called_with():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, inputs):
            return {"y": self.dense(inputs["x"])}

    model = Own()
    model({"x": np.ones((1, 2), "float32")})
    signature = signature_of(model)
    assert (signature.inputs, signature.outputs) == (("x",), ("y",))


def test_another_structure_is_refused():
    left, right = two()
    model = keras.Model([left, right], layers.Concatenate()([left, right]))
    with pytest.raises(ValueError, match="zip"):
        signature_of(model).by_name([1])
