"""A report tells quality as `evaluate` does, and measures both models under equal conditions."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras

pytestmark = pytest.mark.tensorflow_only

generator = np.random.default_rng(0)
x = generator.normal(size=(200, 6)).astype("float32")
positive = (x[:, :1] + x[:, 1:2] > 0).astype("float32")
classes = np.digitize(x[:, 0], [-0.5, 0.5])
FAST = {"repeats": 1, "leave_out": ["latency", "file_bytes", "widths"]}


def net(*heads):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = layers.Dense(16, activation="relu")(inputs)
    outputs = [head(hidden) for head in heads]
    return keras.Model(inputs, outputs[0] if len(outputs) == 1 else outputs)


def check(dense, y, data=None, slim_settings=None):
    """Each row of quality is what `evaluate` tells of the model."""
    slim = resrep_keras.MagnitudePruning(0.5).prune(dense)
    table = resrep_keras.report(dense, slim, (x, y) if data is None else data, **FAST)
    slim.compile(**slim_settings)
    for side, model in (("dense", dense), ("slim", slim)):
        told = model.evaluate(x, y, verbose=0, return_dict=True)
        rows = {name: vars(table.row(name))[side] for name in told}
        assert rows == pytest.approx(told, rel=1e-4)
    return table


def compiled(model, y, **settings):
    model.compile("adam", **settings)
    model.fit(x, y, epochs=15, verbose=0)
    return model, settings


def test_a_unit_with_a_sigmoid():
    head = layers.Dense(1, activation="sigmoid")
    dense, settings = compiled(
        net(head), positive, loss="binary_crossentropy", metrics=["accuracy"]
    )
    table = check(dense, positive, slim_settings=settings)
    predicted = dense.predict(x, verbose=0) > 0.5
    assert table.row("accuracy").dense == pytest.approx((predicted == positive).mean())
    assert table.row("accuracy").dense > 0.7 > (positive == 0).mean()


def test_a_regression_has_an_error_and_no_accuracy():
    dense, settings = compiled(net(layers.Dense(1)), x[:, :1], loss="mse", metrics=["mae"])
    table = check(dense, x[:, :1], slim_settings=settings)
    error = np.abs(dense.predict(x, verbose=0) - x[:, :1]).mean()
    assert table.row("mae").dense == pytest.approx(error, rel=1e-4)
    with pytest.raises(ValueError, match="Expected the name of a row"):
        table.row("accuracy")


@pytest.mark.parametrize("one_hot", [False, True])
def test_labels_as_numbers_and_one_hot(one_hot):
    y = np.eye(3, dtype="float32")[classes] if one_hot else classes
    loss = "categorical_crossentropy" if one_hot else "sparse_categorical_crossentropy"
    head = layers.Dense(3, activation="softmax")
    dense, settings = compiled(net(head), y, loss=loss, metrics=["accuracy"])
    table = check(dense, y, slim_settings=settings)
    right = (dense.predict(x, verbose=0).argmax(-1) == classes).mean()
    assert table.row("accuracy").dense == pytest.approx(right)


def test_several_outputs_and_weighted_metrics():
    heads = layers.Dense(1, name="price"), layers.Dense(3, activation="softmax", name="kind")
    y = {"price": x[:, :1], "kind": classes}
    dense, settings = compiled(
        net(*heads),
        [y["price"], y["kind"]],
        loss=["mse", "sparse_categorical_crossentropy"],
        metrics=[["mae"], ["accuracy"]],
    )
    table = check(dense, [y["price"], y["kind"]], slim_settings=settings)
    assert {"price_mae", "kind_accuracy", "price_loss", "kind_loss", "loss"} <= {
        row.name for row in table.rows
    }


def test_a_data_set():
    import tensorflow as tf

    dense, settings = compiled(net(layers.Dense(1)), x[:, :1], loss="mse")
    data = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(64)
    check(dense, x[:, :1], data, slim_settings=settings)


def test_bytes_of_files_are_those_of_models_without_an_optimizer():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((64,))
    wide = layers.Dense(512, activation="relu")(inputs)
    dense = keras.Model(inputs, layers.Dense(64)(wide))
    dense.compile("adam", "mse")
    dense.fit(np.ones((4, 64)), np.ones((4, 64)), verbose=0)  # the optimizer has its slots
    slim = resrep_keras.MagnitudePruning(0.5).prune(dense)
    row = resrep_keras.report(dense, slim, repeats=1, leave_out=["latency"]).row(".keras file")
    # Both hold their weights and the same small rest: 2 * 64 * 512 numbers, and half of them.
    assert row.dense - row.slim == pytest.approx(4 * 64 * 512, rel=0.05)
    assert row.dense < 1.3 * 4 * 2 * 64 * 512


def test_no_warning_of_tracing():
    heard = []

    class Listener(logging.Handler):
        def emit(self, record):
            heard.append(record.getMessage())

    listener = Listener()
    logging.getLogger("tensorflow").addHandler(listener)
    try:
        for _ in range(4):  # with batches of two sizes
            dense = net(layers.Dense(1))
            dense.compile(loss="mse")
            slim = resrep_keras.MagnitudePruning(0.5).prune(dense)
            settings = {"repeats": 1, "leave_out": ["file_bytes"]}
            resrep_keras.report(dense, slim, (x[:40], x[:40, :1]), **settings)
    finally:
        logging.getLogger("tensorflow").removeHandler(listener)
    assert not [text for text in heard if "retracing" in text]
