"""input_shape fills in sizes that a model leaves open, and contradicts none that it has."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras


def picture_net(shape):
    inputs = keras.Input(shape)
    x = layers.Conv2D(16, 3, activation="relu")(layers.Conv2D(16, 3, activation="relu")(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


def two_sequences():
    a, b = keras.Input((None, 4), name="a"), keras.Input((None, 5), name="b")
    x = layers.Concatenate(axis=1)([layers.Dense(8)(a), layers.Dense(8)(b)])
    return keras.Model([a, b], layers.Dense(3)(layers.Dense(16, activation="relu")(x)))


def word_net():
    inputs = keras.Input((None,))
    x = layers.GlobalAveragePooling1D()(layers.Embedding(20, 8)(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(16, activation="relu")(x)))


PICTURE_MACS = 6 * 6 * 9 * 3 * 16 + 4 * 4 * 9 * 16 * 16 + 16 * 2
SEQUENCE_MACS = 10 * 4 * 8 + 7 * 5 * 8 + 17 * (8 * 16 + 16 * 3)
USES = {
    "count_macs": resrep_keras.count_macs,
    "trace": resrep_keras.trace,
    "explain": resrep_keras.explain,
    "wrap": lambda m, shape: resrep_keras.wrap(m, resrep_keras.ResRep(0.3, input_shape=shape)),
    "prune": lambda m, shape: resrep_keras.MagnitudePruning(0.3, input_shape=shape).prune(m),
    "aofp": lambda m, shape: resrep_keras.wrap(m, resrep_keras.AOFP(0.3, input_shape=shape)),
    "search": lambda m, shape: resrep_keras.search(
        m, lambda model: None, lambda model: 1.0, method=resrep_keras.ResRep(0.3, input_shape=shape)
    ),
    "report": lambda m, shape: resrep_keras.report(m, m, input_shape=shape),
    "export": lambda m, shape: resrep_keras.export(m, "nowhere.keras", input_shape=shape),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("own", [(8, 8, 3), (None, None, 3)])
def test_a_contradiction_is_told_before_anything_is_done(use, own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"the shape \(.*, 3\) .*\(8, 8, 1\) contradicts"):
        USES[use](picture_net(own), (8, 8, 1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("own", [(8, 8, 3), (None, None, 3), (8, None, 3)])
def test_sizes_that_agree_are_taken(own):
    assert resrep_keras.count_macs(picture_net(own), (8, 8, 3)) == PICTURE_MACS
    if own[0] is not None:
        assert resrep_keras.count_macs(picture_net(own), (None, 8, 3)) == PICTURE_MACS


@pytest.mark.parametrize("shapes", [[(10, 4), (7, 5)], {"a": (10, 4), "b": (7, 5)}])
def test_several_inputs_have_a_shape_each(shapes):
    assert resrep_keras.count_macs(two_sequences(), shapes) == SEQUENCE_MACS
    method = resrep_keras.ResRep(0.3, input_shape=shapes, total_steps=60)
    assert type(method).from_config(json.loads(json.dumps(method.get_config()))) == method
    wrapped = resrep_keras.wrap(two_sequences(), method)
    wrapped.compile("sgd", "mse")
    generator = np.random.default_rng(0)
    x = [generator.normal(size=(8, 10, 4)), generator.normal(size=(8, 7, 5))]
    wrapped.fit(x, np.zeros((8, 17, 3)), batch_size=2, epochs=15, verbose=0)
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert slim.input_shape == [(None, None, 4), (None, None, 5)]
    assert slim.certificate.macs_dense == SEQUENCE_MACS
    assert resrep_keras.count_macs(slim, shapes) <= 0.7 * SEQUENCE_MACS


def test_one_shape_for_two_inputs_is_refused():
    with pytest.raises(ValueError, match=r"a shape for each of 2 inputs, \['a', 'b'\]"):
        resrep_keras.count_macs(two_sequences(), (10, 4))


def test_channels_are_removed_early_where_sizes_are_open():
    shapes = [(10, 4), (7, 5)]
    method = resrep_keras.ResRep(0.3, input_shape=shapes, slim_every=1)
    wrapped = resrep_keras.wrap(two_sequences(), method)
    wrapped.compile("sgd", "mse")
    x = [np.random.default_rng(0).normal(size=(8, *shape)) for shape in shapes]
    history = wrapped.fit(x, np.zeros((8, 17, 3)), batch_size=1, epochs=20, verbose=0).history
    assert history["macs_left"][-1] <= 0.7
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert resrep_keras.count_macs(slim, shapes) <= 0.7 * SEQUENCE_MACS


def test_a_net_whose_costs_depend_on_no_open_size_needs_none():
    assert resrep_keras.count_macs(word_net()) == 8 * 16 + 16 * 2
    wrapped = resrep_keras.wrap(word_net(), resrep_keras.ResRep(0.3))
    wrapped.compile("sgd", "mse")
    wrapped.fit(np.zeros((16, 6), int), np.zeros((16, 2)), batch_size=1, epochs=10, verbose=0)
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert resrep_keras.count_macs(slim) <= 0.7 * (8 * 16 + 16 * 2)


def test_a_size_that_nobody_knows_is_told():
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, layers.Dense(2)(layers.LSTM(8)(inputs)))
    for use in (resrep_keras.count_macs, resrep_keras.wrap):
        with pytest.raises(
            ValueError, match=r"'lstm\w*' depends on its input shape .*input_shape="
        ):
            use(model)
    assert resrep_keras.count_macs(model, (5, 4)) == 5 * (4 + 8) * 4 * 8 + 8 * 2


@pytest.mark.tensorflow_only
def test_open_sizes_are_reported_at_the_size_that_is_given():
    model = two_sequences()
    rows = {row.name: row.dense for row in resrep_keras.report(model, model, repeats=1).rows}
    assert rows["MACs"] is None and rows["TFLite latency"] > 0
    told = resrep_keras.report(model, model, repeats=1, input_shape=[(10, 4), (7, 5)])
    rows = {row.name: row.dense for row in told.rows}
    assert rows["MACs"] == SEQUENCE_MACS and rows["TFLite latency"] > 0


@pytest.mark.tensorflow_only
def test_a_tflite_file_of_open_sizes_is_run_at_them(tmp_path):
    assert resrep_keras.export(two_sequences(), tmp_path / "slim.tflite") <= 1e-5
    assert (
        resrep_keras.export(two_sequences(), tmp_path / "a.tflite", input_shape=[(3, 4), (9, 5)])
        <= 1e-5
    )


def test_a_subclassed_model_may_be_given_another_size_than_it_was_built_for():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.pool = layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()

        def call(self, inputs):
            return self.pool(self.first(inputs))

    model = Net()
    model(np.zeros((1, 5, 5, 3), "float32"))
    assert resrep_keras.count_macs(model) == 3 * 3 * 9 * 3 * 4
    assert resrep_keras.count_macs(model, (8, 8, 3)) == 6 * 6 * 9 * 3 * 4


def test_a_subclassed_model_of_two_inputs_may_be_given_other_sizes():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.join = layers.Dense(4), layers.Dense(4), layers.Concatenate(axis=1)
            self.top = layers.Dense(2)

        def call(self, inputs):
            return self.top(self.join([self.a(inputs["a"]), self.b(inputs["b"])]))

    model = Net()
    model({"a": np.zeros((1, 5, 3), "float32"), "b": np.zeros((1, 6, 2), "float32")})
    shapes = {"a": (10, 3), "b": (7, 2)}
    assert resrep_keras.count_macs(model, shapes) == 10 * 3 * 4 + 7 * 2 * 4 + 17 * 4 * 2
    assert resrep_keras.count_macs(model) == 5 * 3 * 4 + 6 * 2 * 4 + 11 * 4 * 2
