"""What a method remembers is part of the model's file: one that is loaded and compiled goes on."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.optimizers.wrapper import find_wrapper
from tests.sampling import sample_pairs

METHODS = {
    "resrep": lambda: resrep_keras.ResRep(0.4, total_steps=32),
    "granet": lambda: resrep_keras.GraNet(0.5, interval=2, total_steps=32),
}
GENERATOR = np.random.default_rng(0)
X, Y = GENERATOR.normal(size=(64, 6)).astype("float32"), np.arange(64) % 3


def trained(method, epochs=4):
    inputs = keras.Input((6,))
    x = layers.Dense(12, activation="relu")(inputs)
    x = layers.Dense(12, activation="relu")(x)
    return fit(compiled(resrep_keras.wrap(keras.Model(inputs, layers.Dense(3)(x)), method)), epochs)


def compiled(model):
    model.compile(
        keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model


def fit(model, epochs=1):
    model.fit(X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return model


def remembered(model):
    return {v.path: ops.convert_to_numpy(v) for v in find_wrapper(model.optimizer).kept()}


def masks(model):
    return [
        int(ops.sum(x.keep_mask)) for x in model.layers if isinstance(x, resrep_keras.Compactor)
    ]


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name, compile_it", sample_pairs([*METHODS], [True, False]))
def test_a_loaded_model_goes_on(tmp_path, name, compile_it):
    model = trained(METHODS[name]())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=compile_it)
    if not compile_it:
        loaded.save(tmp_path / "again.keras")  # not lost by a second file, either
        loaded = compiled(keras.models.load_model(tmp_path / "again.keras", compile=False))
        compiled(model)  # as it is known not to begin anew
    for each in (model, loaded):
        fit(each)
    assert_equal(remembered(loaded), remembered(model))
    assert int(find_wrapper(loaded.optimizer).steps) == 5 * 4
    assert masks(loaded) == masks(model)


@pytest.mark.parametrize("name", METHODS)
def test_weights_alone_hold_it_too(tmp_path, name):
    model = trained(METHODS[name]())
    model.save_weights(tmp_path / "model.weights.h5")
    other = trained(METHODS[name](), 1)
    other.load_weights(tmp_path / "model.weights.h5")
    assert_equal(
        dict(enumerate(remembered(other).values())), dict(enumerate(remembered(model).values()))
    )


def test_the_older_format_says_that_a_run_begins_anew(tmp_path):
    model = trained(METHODS["resrep"](), 1)
    with pytest.warns(UserWarning, match=r"older format.*begins a new run. Save it as .keras"):
        model.save(tmp_path / "model.h5")
    wrapped = resrep_keras.wrap(keras.models.clone_model(zoo_model()), METHODS["resrep"]())
    wrapped.save(tmp_path / "untrained.h5")  # there is nothing to be lost


def zoo_model():
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(8, activation="relu")(inputs)))
