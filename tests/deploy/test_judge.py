"""The quality of a file: what `evaluate` tells of a model, told of outputs."""

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.deploy.judge import check_judge, judged
from resrep_keras.deploy.reading import outputs_of

generator = np.random.default_rng(0)
x = generator.normal(size=(40, 4)).astype("float32")
kind = generator.integers(0, 3, 40)
price = generator.normal(size=(40, 1)).astype("float32")
weight = np.linspace(0, 1, 40)


def two_heads(as_dict=False):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    heads = {
        "price": layers.Dense(1, name="price")(inputs),
        "kind": layers.Dense(3, activation="softmax", name="kind")(inputs),
    }
    model = keras.Model(inputs, heads if as_dict else list(heads.values()))
    model.compile(
        loss={"kind": "sparse_categorical_crossentropy", "price": "mse"},
        metrics={"kind": ["accuracy"], "price": ["mae"]},
    )
    return model


def near(expected):
    return pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("as_dict", [False, True])
def test_a_file_that_answers_as_the_model_is_told_what_evaluate_tells(as_dict):
    model = two_heads(as_dict)
    data = (x, {"price": price, "kind": kind})
    told = judged(model, lambda inputs: outputs_of(model, inputs), data)
    expected = model.evaluate(*data, verbose=0, return_dict=True)
    assert {name: value for name, (value, _) in told.items()} == near(expected)
    assert {name: value for name, (_, value) in told.items()} == near(expected)


def test_another_answer_is_judged_by_itself():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.compile(loss="mse", weighted_metrics=["mae"])
    told = judged(model, lambda inputs: [np.zeros((len(inputs), 1))], (x, price, weight))
    assert told["mae"][1] == near((np.abs(price[:, 0]) * weight).sum() / weight.sum())
    expected = model.evaluate(x, price, sample_weight=weight, verbose=0, return_dict=True)
    assert told["loss"][0] == near(expected["loss"]) != told["loss"][1]


def test_a_loss_is_without_regularizers():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(1, kernel_regularizer=keras.regularizers.L2(10.0))]
    )
    model.compile(loss="mse")
    error = keras.ops.convert_to_numpy(model(x)) - price
    told = judged(model, lambda inputs: outputs_of(model, inputs), (x, price))
    assert told["loss"] == (near((error**2).mean()), near((error**2).mean()))


@pytest.mark.tensorflow_only
def test_of_a_data_set():
    import tensorflow as tf

    model = two_heads()
    model.compile(loss=["mse", "sparse_categorical_crossentropy"], metrics=["mae", "accuracy"])
    data = tf.data.Dataset.from_tensor_slices((x, (price, kind))).batch(8)
    told = judged(model, lambda inputs: outputs_of(model, inputs), data)
    expected = model.evaluate(data, verbose=0, return_dict=True)
    for name in ("loss", "kind_accuracy", "price_mae"):
        assert told[name] == (near(expected[name]), near(expected[name]))


def test_what_cannot_be_judged_is_refused_in_words():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)], name="plain")
    with pytest.raises(ValueError, match="Expected model 'plain' to be compiled"):
        check_judge(model, (x, price))
    model.compile(loss="mse")
    check_judge(model, (x, price))
    with pytest.raises(TypeError, match="Expected test_data that can be read twice"):
        check_judge(model, iter([(x, price)]))
    with pytest.raises(ValueError, match=r"Expected test_data to be arrays of the shapes"):
        check_judge(model, (x[:, :2], price))
