"""compile_as: the optimizer, loss and metrics that tf_keras has, too."""

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras import tfmot
from resrep_keras.tfmot.compiled import compile_as

pytestmark = pytest.mark.tensorflow_only
tf_keras = pytest.importorskip("tf_keras")


def net(**arguments):
    inputs = keras.Input((3,))
    heads = {name: layers.Dense(2, name=name)(inputs) for name in ("a", "b")}
    model = keras.Model(inputs, heads)
    model.compile(**arguments)
    return model


def copied(model):
    copy = tfmot.to_tf_keras(model)
    compile_as(model, copy)
    return copy


def test_settings_are_those_of_the_model():
    rate = keras.optimizers.schedules.CosineDecay(0.5, 10, alpha=0.1)
    model = net(
        optimizer=keras.optimizers.SGD(rate, momentum=0.7, nesterov=True, clipnorm=2.0),
        loss={"a": keras.losses.Huber(delta=0.3), "b": "mse"},
        loss_weights={"a": 0.25, "b": 2.0},
        metrics={"a": [keras.metrics.MeanAbsoluteError(name="off")]},
    )
    copy = copied(model)
    config = copy.optimizer.get_config()
    assert (config["momentum"], config["nesterov"], config["clipnorm"]) == (0.7, True, 2.0)
    planned = tf_keras.optimizers.schedules.deserialize(config["learning_rate"])
    for step in (0, 5, 20):
        assert float(planned(step)) == pytest.approx(float(rate(step)))
    x, y = np.random.default_rng(0).normal(size=(2, 16, 3))
    y = {"a": y[:, :2], "b": 2 * y[:, 1:]}
    own = model.evaluate(x, y, verbose=0, return_dict=True)
    told = copy.evaluate(x, y, verbose=0, return_dict=True)
    assert set(told) == set(own)
    assert told["a_off"] == pytest.approx(own["a_off"], rel=1e-5)
    assert told["loss"] == pytest.approx(own["loss"], rel=1e-5)


def test_both_train_alike():
    x, y = np.random.default_rng(0).normal(size=(2, 16, 3))
    y = {"a": y[:, :2], "b": y[:, 1:]}
    model = net(optimizer="adam", loss="mse")
    copy = copied(model)
    for each in (model, copy):
        each.fit(x, y, epochs=3, shuffle=False, verbose=0)
    for one, other in zip(model.get_weights(), copy.get_weights()):
        np.testing.assert_allclose(other, one, atol=1e-5)


def off_by(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)


class Off(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return off_by(y_true, y_pred)


@pytest.mark.parametrize("loss", [off_by, Off()])
def test_functions_and_losses_of_ones_own_go_on(loss):
    model = net(optimizer="sgd", loss=loss)
    x, y = np.ones((4, 3)), {"a": np.zeros((4, 2)), "b": np.ones((4, 2))}
    assert copied(model).evaluate(x, y, verbose=0)[0] == pytest.approx(
        model.evaluate(x, y, verbose=0, return_dict=True)["loss"], rel=1e-5
    )


def test_what_tf_keras_lacks_is_told():
    with pytest.warns(UserWarning, match="not compiled.*Lamb.*Call compile"):
        copy = copied(net(optimizer=keras.optimizers.Lamb(), loss="mse"))
    assert copy.optimizer is None


def test_a_model_that_is_not_compiled_gives_one_that_is_not():
    inputs = keras.Input((3,))
    assert copied(keras.Model(inputs, layers.Dense(1)(inputs))).optimizer is None
