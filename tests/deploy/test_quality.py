"""Quality of two models: what `evaluate` tells, under equal conditions."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.deploy.quality import quality

x = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
y = (x[:, :1] > 0).astype("float32")


def pair(units=1, activation="sigmoid", kind=keras.Model):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="relu")(inputs)
    dense = kind(inputs, layers.Dense(units, activation=activation, name="head")(hidden))
    return dense, resrep_keras.MagnitudePruning(0.5).prune(dense)


def test_both_are_evaluated_with_what_the_dense_model_is_compiled_with():
    dense, slim = pair()
    settings = {"loss": "binary_crossentropy", "metrics": ["accuracy"], "weighted_metrics": ["mae"]}
    dense.compile("adam", **settings)
    weight = np.linspace(0, 1, 40)
    told = quality(dense, slim, (x, y, weight))
    assert not slim.compiled and len(told) == 3
    slim.compile(**settings)
    for place, model in enumerate((dense, slim)):
        expected = model.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
        assert {name: values[place] for name, values in told.items()} == pytest.approx(
            expected, rel=1e-5
        )


def test_where_the_slim_model_alone_is_compiled_it_says_what_quality_is():
    dense, slim = pair()
    slim.compile(loss="mse")
    error = ops.convert_to_numpy(slim(x)) - y
    told = quality(dense, slim, (x, y))["loss"]
    assert told[1] == pytest.approx((error**2).mean(), rel=1e-5)
    assert not dense.compiled


def test_the_models_stay_as_they_are():
    dense, slim = pair()
    dense.compile("adam", "mse", metrics=["mae"])
    dense.evaluate(x, y, verbose=0)
    before, built = dense.get_metrics_result(), dense.optimizer.built
    quality(dense, slim, (x[:5], y[:5]))
    assert dense.get_metrics_result() == before and dense.optimizer.built == built


def test_functions_and_classes_of_ones_own():
    def far(y_true, y_pred):
        return ops.mean(ops.abs(y_true - y_pred), -1)

    class Far(keras.metrics.MeanAbsoluteError):
        pass

    dense, slim = pair()
    dense.compile(loss=far, metrics=[far, Far(name="own")])
    told = quality(dense, slim, (x, y))
    assert set(told) == {"loss", "far", "own"}
    assert told["loss"] == pytest.approx(told["own"], rel=1e-5)


def test_a_metric_of_several_numbers_has_a_row_for_each():
    dense, slim = pair(units=3, activation="softmax")
    dense.compile(loss="categorical_crossentropy", metrics=[keras.metrics.F1Score(average=None)])
    told = quality(dense, slim, (x, np.eye(3, dtype="float32")[np.arange(40) % 3]))
    assert set(told) == {"loss", "f1_score[0]", "f1_score[1]", "f1_score[2]"}


class Halved(keras.Model):
    """A model whose loss is half of what Keras computes."""

    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs) / 2


class Counted(Halved):
    """One that is not made from inputs and outputs alone."""

    def __init__(self, *args, count, **kwargs):
        super().__init__(*args, **kwargs)


def test_methods_of_ones_own_are_kept():
    (dense, slim), (plain, _) = pair(kind=Halved), pair()
    for model in (dense, plain):
        model.compile(loss="mse")
    whole, half = (quality(model, slim, (x, y))["loss"] for model in (plain, dense))
    assert half == pytest.approx([value / 2 for value in whole], rel=1e-5)


def test_where_they_cannot_be_kept_both_are_to_be_compiled():
    dense, slim = pair(kind=lambda *args: Counted(*args, count=3))
    dense.compile(loss="mse")
    with pytest.raises(ValueError, match=r"is a Counted, whose own compute_loss.*Compile"):
        quality(dense, slim, (x, y))
    slim.compile(loss="mse")
    told = quality(dense, slim, (x, y))["loss"]
    assert told == pytest.approx([m.evaluate(x, y, verbose=0) for m in (dense, slim)], rel=1e-5)


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        ((x,), ValueError, r"\(x, y\) or \(x, y, sample_weight\), or a data set; got 1 values"),
        (iter([(x, y)]), TypeError, "read twice, once for each model; got list_iterator"),
        (3, TypeError, r"to be \(x, y\) or a data set; got 3 of type int"),
    ],
)
def test_data_that_cannot_do_are_refused(data, error, text):
    dense, slim = pair()
    dense.compile(loss="mse")
    with pytest.raises(error, match=text):
        quality(dense, slim, data)


def test_two_models_without_loss_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"two that are not compiled. Call dense\.compile\(loss="):
        quality(*pair(), (x, y))


@pytest.mark.tensorflow_only
def test_a_data_set_and_one_that_never_ends():
    import tensorflow as tf

    dense, slim = pair()
    dense.compile(loss="mse")
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    assert quality(dense, slim, data)["loss"] == pytest.approx(
        quality(dense, slim, (x, y))["loss"], rel=1e-5
    )
    with pytest.raises(ValueError, match=r"for ever\. Give data\.take"):
        quality(dense, slim, data.repeat())


def test_a_data_set_without_a_length_may_never_end():
    class Endless(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return x[:4], y[:4]

    dense, slim = pair()
    dense.compile(loss="mse")
    with pytest.raises(ValueError, match="repeats itself for ever"):
        quality(dense, slim, Endless())


# --- what is told of data, and what is not ------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        ((x, y[:20]), ValueError, r"with as many rows each, and at least one; got \[20, 40\] rows"),
        ((x, y, np.ones(7)), ValueError, r"got \[7, 40\] rows"),
        ((x[:0], y[:0]), ValueError, r"got \[0\] rows"),
        ((3, 4), TypeError, "got 3 of type int"),
        (("a", "b"), TypeError, "got 'a' of type str"),
        ((x, None), ValueError, "with the targets that the loss mse needs"),
        (x, ValueError, "with the targets that the loss mse needs"),
        ((x[:, :4], y), ValueError, r"test_data to be arrays of the shapes \(None, 6\).*\(1, 4\)"),
        (([x, x], y), ValueError, r"test_data to be arrays of the shapes"),
        ((np.array(["a"] * 40), y), TypeError, r"test_data to be arrays of the shapes"),
        ([1, 2, 3], TypeError, "got 1 of type int"),
    ],
)
def test_rows_that_fit_no_model_are_refused_before_anything_is_evaluated(data, error, text):
    dense, slim = pair()
    dense.compile(loss="mse")
    with pytest.raises(error, match=text):
        quality(dense, slim, data)


def test_a_data_set_is_told_by_its_first_batch():
    class Batches(keras.utils.PyDataset):
        num_batches = 2

        def __getitem__(self, index):
            return x[:, :4], y

    dense, slim = pair()
    dense.compile(loss="mse")
    with pytest.raises(ValueError, match=r"test_data to be arrays of the shapes \(None, 6\)"):
        quality(dense, slim, Batches())


class Mine(Exception):
    pass


@keras.saving.register_keras_serializable("test_quality")
class Raising(keras.metrics.Metric):
    def update_state(self, y_true, y_pred, sample_weight=None):
        raise Mine("of my own")

    def result(self):
        return 0.0


def test_what_a_metric_of_ones_own_raises_comes_as_it_is():
    dense, slim = pair()
    dense.compile(loss="mse", metrics=[Raising()])
    with pytest.raises(Mine, match="of my own"):
        quality(dense, slim, (x, y))


def test_a_dict_of_named_inputs_and_a_model_without_targets():
    inputs = {"b": keras.Input((2,), name="b"), "a": keras.Input((3,), name="a")}
    both = layers.Concatenate()([inputs["a"], inputs["b"]])
    dense = keras.Model(inputs, layers.Dense(1)(layers.Dense(8, activation="relu")(both)))
    slim = resrep_keras.MagnitudePruning(0.5).prune(dense)
    dense.compile(loss="mse")
    told = quality(dense, slim, ({"a": x[:, :3], "b": x[:, 3:5]}, y))
    assert set(told) == {"loss"}

    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(y_pred**2)

    dense, slim = pair(kind=Own)
    dense.compile()
    slim.compile(loss="mse")
    assert set(quality(dense, dense, (x, None))) == {"loss"}
