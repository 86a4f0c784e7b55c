"""Names that Keras takes and TensorFlow does not stand in the way of no file."""

import keras
import pytest
from keras import layers

import resrep_keras
from resrep_keras.surgery.forward import example_inputs, run
from resrep_keras.tflite.scopes import scope_name, with_scope_names
from resrep_keras.tflite.signature import signature_of
from tests import zoo

NAMES = ["with space", "_first", ">", "-", "ünï", "日本", "a:b", "a\\b", "a(b)", "a,b", "a'b"]


def named(layer="dense", model=None):
    inputs = keras.Input((4, 3))
    x = layers.TimeDistributed(layers.Dense(5, name=f"{layer}_inside"))(inputs)
    x = layers.Dense(3, name=layer)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Add(name=f"{layer} 2")([x, x]), name=model)


@pytest.mark.tensorflow_only
def test_a_model_of_such_names_is_exported(tmp_path):
    model = named("_first part", "a model!")
    assert resrep_keras.export(model, tmp_path / "model") < 1e-5
    assert resrep_keras.export(model, tmp_path / "model.tflite") < 1e-5


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("name", NAMES)
def test_every_name_becomes_a_scope(name):
    import tensorflow as tf

    model = with_scope_names(named(name, f"{name}!"))
    for scope in (model.name, *(layer.name for layer in model.layers)):
        with tf.Graph().as_default(), tf.name_scope(scope):
            pass


def test_the_copy_has_free_names_and_the_same_signature():
    x = inputs = keras.Input((4,))
    for name in ("a:b", "a_b", "a b"):
        x = layers.Dense(2, name=name)(x)
    model = keras.Model(inputs, x)
    copy = with_scope_names(model)
    assert [layer.name for layer in copy.layers[1:]] == ["a_b_1", "a_b", "a_b_2"]
    arrays = example_inputs(model)
    assert (run(copy, arrays) == run(model, arrays)).all()
    model = named("_last", "_model")
    assert signature_of(with_scope_names(model)).outputs == signature_of(model).outputs
    assert model.name == "_model" and with_scope_names(model).name == "x_model"


def test_names_that_are_taken_stay():
    model = zoo.build("chain")
    assert with_scope_names(model) is model
    assert scope_name("block/Conv_1.a-b") == "block_Conv_1.a-b"


def test_a_name_inside_of_a_layer_is_refused_in_words():
    class Outer(layers.Layer):
        def __init__(self):
            super().__init__(name="outer")
            self.part = layers.Dense(2, name="the part")

        def build(self, shape):
            self.scale = self.add_weight(shape=())
            self.part.build(shape)

        def call(self, x):
            return self.part(x) * self.scale

        def compute_output_shape(self, shape):
            return (*shape[:-1], 2)

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Outer()(inputs))
    with pytest.raises(ValueError, match="'the part' of a layer inside of layer 'outer'"):
        with_scope_names(model)
