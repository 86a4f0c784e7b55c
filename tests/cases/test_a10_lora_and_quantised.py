"""Layers with LoRA weights and quantised layers keep their channels, and are copied as they are."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras

MODES = ["int8", "int4", "float8"]


def sequence():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(20, 8, name="embedding")(inputs)
    x = layers.Dense(8, activation="relu", name="dense")(x)
    x = layers.EinsumDense("abc,cd->abd", (7, 8), activation="relu", name="einsum")(x)
    x = layers.Dense(8, activation="relu", name="plain")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(2, name="last")(x))


def images():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(inputs)
    x = layers.Conv2D(8, 3, activation="relu", name="plain")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


def batch(model):
    generator = np.random.default_rng(0)
    if "int" in model.inputs[0].dtype:
        return generator.integers(0, 20, (16, 7))
    return generator.normal(size=(16, 8, 8, 3)).astype("float32")


def with_lora(name):
    model = images() if name == "conv" else sequence()
    layer, generator = model.get_layer(name), np.random.default_rng(1)
    layer.enable_lora(2)
    for variable in layer.trainable_weights:
        if "lora" in variable.name:
            variable.assign(generator.normal(size=variable.shape) * 0.3)
    return model


def quantised(mode, name="dense"):
    model = sequence()
    model.get_layer(name).quantize(mode)
    return model


def outputs(model, x):
    return ops.convert_to_numpy(model(x))


def names(model):
    return sorted("/".join(v.path.split("/")[-2:]) for v in model.trainable_variables)


def check_whole(model, name):
    """Everything runs; the layer keeps its channels, and another one loses some."""
    graph = resrep_keras.trace(model)
    for group in graph.groups:
        assert all(p.layer != name for p in group.producers if group.prunable)
    assert any(pin.layer == name and pin.remedy for pin in graph.pins)
    assert resrep_keras.count_macs(model) > 0 and resrep_keras.count_params(model) > 0
    resrep_keras.explain(model)
    x = batch(model)
    expected = outputs(model, x)
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.02))
    np.testing.assert_allclose(outputs(wrapped, x), expected, rtol=1e-4, atol=1e-5)
    compactor = wrapped.get_layer("plain_compactor")
    compactor.kernel.assign(compactor.kernel * (np.arange(8) < 4))
    wrapped.method = None
    slim = resrep_keras.finalize(wrapped, strict=True)
    np.testing.assert_allclose(outputs(slim, x), outputs(wrapped, x), rtol=1e-4, atol=1e-5)
    assert slim.get_layer("plain").kernel.shape[-1] == 4
    before, after = (
        {v.name: ops.convert_to_numpy(v) for v in each.get_layer(name).weights}
        for each in (model, slim)
    )
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(value, after[key])
    pruned = resrep_keras.MagnitudePruning(0.02).prune(model)
    assert outputs(pruned, x).shape == expected.shape
    return wrapped


@pytest.mark.parametrize("name", ["embedding", "dense", "einsum", "conv"])
def test_lora(name):
    model = with_lora(name)
    before = names(model)
    wrapped = check_whole(model, name)
    assert [n for n in names(wrapped) if "_compactor/" not in n] == before


def test_lora_after_training():
    model = with_lora("dense")
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.1))
    wrapped.compile(keras.optimizers.SGD(1e-2), "mse")
    x = batch(model)
    wrapped.fit(x, np.ones((16, 2)), batch_size=4, epochs=30, verbose=0)
    slim = resrep_keras.finalize(wrapped, strict=True)
    np.testing.assert_allclose(outputs(slim, x), outputs(wrapped, x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_a_quantised_layer(mode):
    check_whole(quantised(mode), "dense")


@pytest.mark.parametrize("mode", MODES)
def test_a_model_that_is_quantised_as_a_whole_is_refused_with_the_remedy(mode):
    model = sequence()
    for name in ("dense", "einsum", "plain", "last", "embedding"):
        if (name, mode) != ("embedding", "float8"):  # which Keras has for no embedding
            model.get_layer(name).quantize(mode)
    resrep_keras.explain(model)
    for run in (
        lambda: resrep_keras.wrap(model),
        lambda: resrep_keras.MagnitudePruning(0.2).prune(model),
    ):
        with pytest.raises(ValueError, match=rf"quantised to {mode}.*quantise the slim one"):
            run()
