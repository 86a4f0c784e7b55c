"""Models as flatbuffers: what comes out of them is what comes out of the model."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.tflite.convert import check_backend, to_tflite, to_tflite_quickly
from resrep_keras.tflite.run import TFLiteRunner
from resrep_keras.tflite.signature import signature_of
from tests import zoo

tensorflow_only = pytest.mark.tensorflow_only


def run(model, arrays, **settings):
    """The outputs of a model's flatbuffer, flat, in the order of the model."""
    signature = signature_of(model)
    runner = TFLiteRunner(to_tflite(model, **settings))
    runner.set_inputs(dict(zip(signature.inputs, arrays)))
    runner.invoke()
    outputs = runner.outputs()
    return [outputs[name] for name in signature.outputs]


@tensorflow_only
def test_a_dense_layer_by_hand():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    model.layers[0].set_weights([np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 20.0])])
    (out,) = run(model, [[[1.0, 1.0]]])
    np.testing.assert_allclose(out, [[1 + 3 + 10, 2 + 4 + 20]])


@tensorflow_only
@pytest.mark.parametrize("name", ["residual", "multi_input_output"])
def test_all_inputs_and_outputs_come_in_the_order_of_the_model(name):
    model = zoo.build(name)
    generator = np.random.default_rng(0)
    shapes = [x.shape[1:] for x in keras.tree.flatten(model.input)]
    arrays = [generator.normal(size=(1, *shape)).astype("float32") for shape in shapes]
    expected = model(keras.tree.pack_sequence_as(model.input, arrays))
    found = run(model, arrays)
    expected = [ops.convert_to_numpy(x) for x in keras.tree.flatten(expected)]
    assert [x.shape for x in found] == [x.shape for x in expected]
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@tensorflow_only
def test_the_batch_size_is_fixed():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
    (out,) = run(model, [np.ones((4, 2))], batch_size=4)
    assert out.shape == (4, 3)


@tensorflow_only
def test_a_sparse_file_holds_less_and_says_the_same():
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64, use_bias=False)])
    kernel = np.zeros((64, 64))
    kernel[:, :4] = np.random.default_rng(0).normal(size=(64, 4))
    model.layers[0].set_weights([kernel])
    plain, sparse = to_tflite(model), to_tflite(model, sparse=True)
    assert len(sparse) < len(plain) / 2
    x = [np.random.default_rng(1).normal(size=(1, 64)).astype("float32")]
    np.testing.assert_allclose(
        run(model, x, sparse=True)[0], run(model, x)[0], rtol=1e-5, atol=1e-6
    )


@tensorflow_only
def test_a_quick_conversion_holds_the_same_weights():
    inputs = keras.Input(batch_shape=(1, 4, 4, 3))
    model = keras.Model([inputs], layers.Conv2D(2, 3)(inputs))
    quick, whole = to_tflite_quickly(model), to_tflite(model)
    kernel = ops.convert_to_numpy(model.layers[-1].kernel)
    values = np.moveaxis(kernel, -1, 0).astype("float32").tobytes()  # TFLite's order
    assert values in quick and values in whole


@tensorflow_only
def test_what_the_converter_cannot_do_is_told_in_its_words():
    inputs = keras.Input((1,), dtype="int64")
    model = keras.Model(inputs, layers.IntegerLookup(vocabulary=[7, 8])(inputs), name="looking")
    text = "cannot make a TFLite file of model 'looking'. Export it as .keras.*LookupTable"
    with pytest.raises(ValueError, match=f"(?s){text}"):
        to_tflite(model)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"Expected model to be a built keras\.Model; got 3"):
        to_tflite(3)


def test_other_backends_are_refused_with_the_way_round(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    text = (
        "TFLite needs the TensorFlow backend; this process runs on torch.*Save the model as .keras"
    )
    with pytest.raises(ValueError, match=text):
        check_backend()
