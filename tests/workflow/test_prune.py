"""prune: at once, with data and without; what is certified, repaired and refused."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras as rk
from tests import helpers

GENERATOR = np.random.default_rng(0)
MEANS = GENERATOR.normal(size=(3, 8, 8, 2)).astype("float32")


def examples(number, seed=0):
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 3, number)
    return MEANS[y] + 0.5 * generator.normal(size=(number, 8, 8, 2)).astype("float32"), y


X, Y = examples(128)


def net():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(16, 3, use_bias=False, name="first")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(12, 3, activation="relu", name="second")(x)
    x = layers.Dense(3, name="out")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x, name="net")
    norm = model.get_layer("norm")
    seen = keras.ops.convert_to_numpy(model.get_layer("first")(X))
    norm.moving_mean.assign(seen.mean((0, 1, 2)))
    norm.moving_variance.assign(seen.var((0, 1, 2)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model


def error(model, slim, number=200):
    x, _ = examples(number, seed=1)  # none of those that it was repaired on
    before, after = (keras.ops.convert_to_numpy(each(x)) for each in (model, slim))
    return float(np.square(before - after).mean())


METHODS = {
    "magnitude": lambda: rk.MagnitudePruning(0.4),
    "fpgm": lambda: rk.FPGM(0.4),
    "random": lambda: rk.RandomPruning(0.4),
    "taylor": lambda: rk.TaylorPruning(0.4),
}


@pytest.mark.parametrize("name", METHODS)
def test_data_make_up_for_most_of_what_the_removal_does(name):
    model, method = net(), METHODS[name]()
    removed = rk.prune(model, method, data=X, repair=False, strict=True)
    repaired = rk.prune(model, method, data=X, strict=True)
    assert rk.count_macs(removed) == rk.count_macs(repaired) <= 0.6 * rk.count_macs(model)
    assert removed.certificate.repaired == ()
    assert repaired.certificate.repaired == ("norm", "second", "out")
    assert repaired.certificate.data_max_relative == removed.certificate.data_max_relative < 1e-4
    assert error(model, repaired) < 0.5 * error(model, removed)


def test_rankings_stay_what_the_name_of_a_method_says():
    model = net()
    for name in ("magnitude", "fpgm", "random"):
        plain, given = (rk.prune(model, METHODS[name](), data=data) for data in (None, (X, Y)))
        norms = [
            keras.ops.convert_to_numpy(slim.get_layer("first").kernel) for slim in (plain, given)
        ]
        np.testing.assert_array_equal(*norms)  # nothing in front of it is gone


def test_defaults_and_labels():
    model = net()
    for data in (None, X, (X, Y)):
        slim = rk.prune(model, data=data, strict=True)
        assert rk.count_macs(slim) <= 0.5 * rk.count_macs(model)
        assert bool(slim.certificate.repaired) == (data is not None)


def test_the_model_itself_is_left_as_it_is_and_its_inputs_may_be_several():
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((6,), name="a"), keras.Input((6,), name="b")]
    x = layers.Concatenate()([layers.Dense(8, "relu")(each) for each in inputs])
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(8, "relu")(x)))
    model.compile(loss="mse")
    before = model.get_weights()
    a, b = GENERATOR.normal(size=(2, 40, 6)).astype("float32")
    data = (a, b), np.ones((40, 2))
    assert rk.prune(model, rk.TaylorPruning(0.3), data=data, strict=True).certificate.repaired
    assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights()))


def batches():
    return ((X[begin : begin + 32], Y[begin : begin + 32]) for begin in range(0, 128, 32))


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return X[32 * index : 32 * index + 32], Y[32 * index : 32 * index + 32]


@pytest.mark.parametrize("data", [batches, Batches])
def test_a_data_set_prunes_as_its_arrays(data):
    model = net()
    slim, expected = (rk.prune(model, TAYLOR, data=each) for each in (data(), (X, Y)))
    for one, other in zip(slim.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert slim.certificate == expected.certificate


def test_a_data_set_finalizes_as_its_arrays():
    model = rk.wrap(net(), rk.MagnitudePruning(0.4))
    model.fit(X, Y, verbose=0)
    certificates = [rk.finalize(model, data=data).certificate for data in (batches(), (X, Y), X)]
    assert certificates[0].data_max_relative is not None
    assert certificates[0] == certificates[1] == certificates[2]


def uncompiled():
    model = net()
    return keras.Model(model.input, model.output, name="net")


NAN = np.where(np.arange(128) == 3, np.nan, 0.0)[:, None, None, None]
TAYLOR = rk.TaylorPruning(0.4)
BAD = [
    (net, TAYLOR, (X[:8], Y[:8]), ValueError, "16 examples or more"),
    (net, None, (X + NAN, Y), ValueError, "inputs in data to be finite"),
    (net, None, (X, Y[:5]), ValueError, "labels in data to be of 128 examples"),
    (net, None, X[..., :1], ValueError, "Expected data to be arrays of the shapes"),
    (net, None, "cats", TypeError, "Expected data to be arrays or a data set"),
    (uncompiled, TAYLOR, (X, Y), ValueError, "'net' to be compiled with a loss"),
    (net, TAYLOR, None, ValueError, r"prune\(model, data=\(x, y\)\)"),
    (net, rk.ResRep(), X, TypeError, "a method that chooses channels at one moment.*got.*ResRep"),
    (lambda: "net", None, X, TypeError, "Expected model to be a built keras.Model"),
]


@pytest.mark.parametrize(("make", "method", "data", "kind", "text"), BAD, ids=range(len(BAD)))
def test_what_cannot_be_is_refused_in_words(make, method, data, kind, text):
    with pytest.raises(kind, match=text):
        rk.prune(make(), method, data=data)


def test_settings_are_checked():
    for name in ("strict", "repair"):
        with pytest.raises(TypeError, match=f"Expected {name} to be True or False"):
            rk.prune(net(), data=X, **{name: 1})


def test_finalize_with_data_repairs_what_was_not_yet_zero():
    model = rk.wrap(net(), rk.ResRep(0.3))
    layer = helpers.compactors(model)[0]
    layer.keep_mask.assign(np.arange(16) >= 8)
    words = "8 masked channels.*largest norm 1\\) and were kept"
    with pytest.warns(UserWarning, match="target is not met"), pytest.warns(match=words):
        whole = rk.finalize(model, data=X[:4])
    assert whole.get_layer("first").filters == 16
    words = "8 masked channels.*removed all the same; what reads them was fitted anew"
    with pytest.warns(UserWarning, match=words):
        slim = rk.finalize(model, data=(X, Y))
    assert slim.get_layer("first").filters == 8
    assert slim.certificate.repaired == ("second", "out")
    assert slim.certificate.max_relative < 1e-4  # of the removal alone
    layer.kernel.assign(layer.kernel * keras.ops.convert_to_numpy(layer.keep_mask))
    zero = rk.finalize(model, data=X)
    assert zero.certificate.repaired == ()
    assert error(whole, slim) < 0.5 * error(whole, zero)


# --- models of other kinds ------------------------------------------------------------------------


def in_half():
    policy = keras.DTypePolicy("mixed_float16")
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(8, 3, activation="relu", dtype=policy)(inputs)
    x = layers.Conv2D(6, 3, activation="relu", dtype=policy, name="read")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x))), X, "read"


def of_open_sizes():
    inputs = {"a": keras.Input((None, 4), name="a"), "b": keras.Input((6,), name="b")}
    x = layers.Conv1D(8, 3, padding="causal", activation="relu")(inputs["a"])
    x = layers.Conv1D(6, 3, strides=2, activation="relu", name="read")(x)
    x = layers.Concatenate()([layers.GlobalMaxPooling1D()(x), inputs["b"]])
    model = keras.Model(inputs, {"p": layers.Dense(1)(x), "q": layers.Dense(3)(x)})
    sizes = {"a": (20, 9, 4), "b": (20, 6)}
    return model, {k: GENERATOR.normal(size=v).astype("float32") for k, v in sizes.items()}, "read"


def of_tokens_and_nested():
    inner = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dropout(0.5)], name="in")
    inputs = keras.Input((9,), dtype="int32")
    x = inner(layers.Embedding(30, 6, name="table")(inputs))
    x = layers.Dense(6, activation="tanh", name="read")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))
    return model, GENERATOR.integers(0, 30, (20, 9)), "read"


@pytest.mark.parametrize("make", (in_half, of_open_sizes, of_tokens_and_nested))
def test_models_of_other_kinds_are_repaired(make):
    model, data, reader = make()
    shape = {"a": (9, 4), "b": (6,)} if make is of_open_sizes else None
    slim = rk.prune(model, rk.MagnitudePruning(0.3, input_shape=shape), data=data, strict=True)
    assert reader in slim.certificate.repaired
