"""Models of other floats in float32: every layer, at any depth, computes in it."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.surgery.forward import example_inputs, run
from resrep_keras.tflite.precision import in_float32, in_float64

pytestmark = pytest.mark.tensorflow_only  # as TFLite is; other backends lack some of the floats

POLICIES = ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64"]


def sequence():
    inputs = keras.Input((8, 3), dtype="float32")
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(inputs)
    x = layers.TimeDistributed(layers.Dense(4, activation="tanh"))(x)
    x = layers.SpectralNormalization(layers.Dense(4))(x)
    x = ops.cast(x, "float16") * 2.0
    return keras.Model(inputs, layers.GlobalAveragePooling1D()(x))


def image():
    inputs = keras.Input((8, 8, 3), dtype="float32")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(inputs)))
    inner = keras.Sequential([keras.Input((6, 6, 4)), layers.Conv2D(3, 1, name="inside")])
    x = layers.GlobalAveragePooling2D()(inner(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax", dtype="float32")(x))


def made(build, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        return build()
    finally:
        keras.config.set_dtype_policy(before)


def types(model):
    found = set()
    for layer in model.layers:
        found |= {layer.compute_dtype, layer.variable_dtype}
        found |= {weight.dtype for weight in layer.weights}
    return found


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("build", [sequence, image])
def test_all_is_float32_with_the_same_weights(build, policy):
    if (build, policy) == (sequence, "bfloat16"):
        pytest.skip("Keras cannot initialize recurrent kernels in it")
    model = made(build, policy)
    assert types(model) != {"float32"}
    single = in_float32(model)
    assert types(single) == {"float32"}
    reference = made(build, "float32")
    for weight, other in zip(reference.weights, model.weights, strict=True):
        weight.assign(ops.convert_to_numpy(ops.cast(other, "float32")))
    inputs = example_inputs(model)
    # The reference rounds once, where it casts to float16 itself.
    np.testing.assert_allclose(run(single, inputs), run(reference, inputs), rtol=2e-3, atol=2e-3)
    assert keras.config.dtype_policy().name == "float32"


def test_single_layers_of_a_policy_of_their_own():
    inputs = keras.Input((4,))
    x = layers.Dense(8, dtype="mixed_float16")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert types(in_float32(model)) == {"float32"}


def test_also_where_the_process_goes_by_another_policy():
    model = made(image, "mixed_float16")
    assert types(made(lambda: in_float32(model), "mixed_float16")) == {"float32"}


def test_integers_and_float32_models_stay():
    inputs = keras.Input((4,), dtype="int32")
    model = keras.Model(inputs, layers.Flatten()(layers.Embedding(5, 2)(inputs)))
    assert in_float32(model) is model
    x = ops.cast(layers.Dense(2, dtype="float16")(ops.cast(inputs, "float16")), "int32")
    assert in_float32(keras.Model(inputs, x)).outputs[0].dtype == "int32"


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float32"])
@pytest.mark.parametrize("build", [sequence, image])
def test_in_float64_every_layer_computes_in_it(build, policy):
    model = made(build, policy)
    wide = in_float64(model)
    layers_ = [each for each in wide.layers if not isinstance(each, layers.InputLayer)]
    assert {each.compute_dtype for each in layers_} == {"float64"}
    assert keras.config.floatx() == "float32"
    inputs = example_inputs(model)
    one, other = run(model, inputs), run(wide, inputs)
    np.testing.assert_allclose(one, other, rtol=0.1, atol=0.05)
