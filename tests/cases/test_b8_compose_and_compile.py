"""Neither compose nor compile loses settings of the methods, or the state of a run."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras import ActivationGradientPruning, GraNet, ResRep, compose
from resrep_keras.optimizers.wrapper import find_wrapper
from tests import zoo
from tests.sampling import sample_pairs


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    "methods",
    [
        (GraNet(0.5, total_steps=1000), ActivationGradientPruning()),
        (GraNet(0.5), ActivationGradientPruning(total_steps=1000)),
        (ResRep(0.5), ActivationGradientPruning(total_steps=1000)),
        (GraNet(0.5, total_steps=1000), ActivationGradientPruning(total_steps=1000)),
    ],
    ids=["first", "second", "channels", "both"],
)
def test_the_steps_of_a_run_are_those_that_are_set(methods, order):
    method = compose(*methods[::order])
    assert method.total_steps == 1000
    assert type(method).from_config(method.get_config()).total_steps == 1000


def test_two_lengths_of_a_run_are_refused():
    with pytest.raises(ValueError, match=r"agree on total_steps; got \[1000, 900\]"):
        compose(GraNet(0.5, total_steps=1000), ActivationGradientPruning(total_steps=900))


@pytest.mark.parametrize("order", [1, -1])
def test_settings_of_the_member_that_has_them_hold(order):
    resrep = ResRep(0.5, input_shape=(8, 8, 3), exact=False, threshold=1e-3)
    method = compose(*[resrep, ActivationGradientPruning()][::order])
    assert (method.input_shape, method.exact, method.threshold) == ((8, 8, 3), False, 1e-3)
    plain = compose(GraNet(0.5), ActivationGradientPruning())
    assert (plain.input_shape, plain.exact) == (None, True)


def net():
    inputs = keras.Input((6,))
    x = layers.Dense(32, activation="relu", name="first")(inputs)
    return zoo.randomise(keras.Model(inputs, layers.Dense(3, name="top")(x)))


def fit(model, epochs, first=0):
    x = np.random.default_rng(0).normal(size=(160, 6)).astype("float32")
    y = np.zeros((160, 3), "float32")
    settings = {"batch_size": 16, "initial_epoch": first, "verbose": 0}
    return model.fit(x, y, epochs=epochs, **settings).history


class Stop(keras.callbacks.Callback):
    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch + 1 == self.epochs


def half_way():
    """A run of ten epochs that is stopped behind the eighth, and its sparsities."""
    model = resrep_keras.wrap(net(), GraNet(0.9, interval=2))
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    x = np.random.default_rng(0).normal(size=(160, 6)).astype("float32")
    y = np.zeros((160, 3), "float32")
    history = model.fit(x, y, batch_size=16, epochs=10, verbose=0, callbacks=[Stop(8)]).history
    return model, history["sparsity"]


def masks_of(model):
    """The masks that the first step of a model would start with."""
    model.optimizer.build(model.trainable_variables)
    return find_wrapper(model.optimizer).masks()


OTHERS = {
    "the same": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "another": lambda: keras.optimizers.Adam(1e-3),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-3)),
    "twice": lambda: keras.optimizers.RMSprop(1e-3),
}


@pytest.mark.tensorflow_only  # a loss scale steps within fit only
@pytest.mark.parametrize(("kind", "saved"), sample_pairs(list(OTHERS), [False, True]))
def test_a_second_compile_drops_no_mask(kind, saved, tmp_path):
    model, before = half_way()
    masks = masks_of(model)
    if saved:
        model.save(tmp_path / "half.keras")
        model = keras.models.load_model(tmp_path / "half.keras")
    for _ in range(2 if kind == "twice" else 1):
        model.compile(OTHERS[kind](), "mse")
    again = masks_of(model)
    assert set(again) == set(masks) and 0 < sum(mask.sum() for mask in masks.values()) < 144
    for path, mask in masks.items():
        np.testing.assert_array_equal(again[path], mask)
    sparsity = fit(model, epochs=10, first=8)["sparsity"]
    assert 0.5 < before[-1] <= sparsity[0] <= sparsity[1] == 1 - 29 / 288  # all of 288
    kernels = [ops.convert_to_numpy(model.get_layer(n).kernel) for n in ("first", "top")]
    assert sum((k == 0).sum() for k in kernels) >= 288 - 29


def test_a_second_compile_goes_on_with_the_plan():
    model, _ = half_way()
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    fit(model, epochs=10, first=8)
    wrapper = find_wrapper(model.optimizer)
    assert ops.convert_to_numpy(wrapper.plan).tolist() == [0, 100]
    assert int(ops.convert_to_numpy(wrapper.steps)) == 100
