"""An input keeps its flags, its dtype and its names, those that Keras gave by itself included."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.trace import recording_of
from resrep_keras.keras_adapter import input_name, is_optional

# Layers that stay closed have costs that nobody knows, of which `wrap` tells.
pytestmark = pytest.mark.filterwarnings("ignore:The MACs of these layers are not known")


@keras.saving.register_keras_serializable("test_a7")
class AddIfThere(layers.Layer):
    def call(self, x, y=None):
        return x if y is None else ops.add(x, y)

    def compute_output_shape(self, x_shape, y_shape=None):
        return x_shape


def top(x):
    return layers.Dense(3)(layers.Dense(16, activation="relu")(x))


def with_optional_input():
    inputs, other = keras.Input((6,)), keras.Input((6,), optional=True, name="other")
    x = AddIfThere()(layers.Dense(6)(inputs), other)
    return keras.Model([inputs, other], top(x))


def with_sparse_input():
    inputs, whole = keras.Input((5,), sparse=True), keras.Input((2,), dtype="int32")
    x = layers.Concatenate()(
        [layers.Dense(8)(inputs), layers.Flatten()(layers.Embedding(4, 3)(whole))]
    )
    return keras.Model([inputs, whole], top(x))


def with_ragged_input():
    inputs = keras.Input((None,), ragged=True, dtype="int32")
    return keras.Model(inputs, top(layers.GlobalAveragePooling1D()(layers.Embedding(9, 4)(inputs))))


RAGGED = pytest.param(with_ragged_input, marks=pytest.mark.tensorflow_only)
MAKERS = [with_optional_input, with_sparse_input, RAGGED]


def what_is_told(model):
    tensors = keras.tree.flatten(model.inputs)
    return [
        (t.name, input_name(t), t.shape, t.dtype, t.sparse, t.ragged, is_optional(t))
        for t in tensors
    ]


@pytest.mark.parametrize("make", MAKERS)
def test_flags_and_names_stay(make, tmp_path):
    dense = make()
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.3))
    slim = resrep_keras.MagnitudePruning(0.3).prune(dense)
    told = what_is_told(dense)
    assert any(told[-1][-3:]) or told[0][4]  # one flag at least
    assert what_is_told(wrapped) == told and what_is_told(slim) == told
    recording = recording_of(dense)
    assert [input_name(t) for t in keras.tree.flatten(recording.inputs)] == [row[1] for row in told]
    slim.save(tmp_path / "slim.keras")
    wrapped.save(tmp_path / "wrapped.keras")
    dense.save(tmp_path / "dense.keras")
    # Keras calls the tensor of a loaded input as its layer; 3.12 saves no `optional`.
    loaded = {
        name: what_is_told(keras.models.load_model(tmp_path / f"{name}.keras"))
        for name in ("dense", "slim", "wrapped")
    }
    assert loaded["slim"] == loaded["wrapped"] == loaded["dense"]
    assert [row[1:6] for row in loaded["slim"]] == [row[1:6] for row in told]
    with pytest.warns(UserWarning, match="The target is not met"):  # and no error
        resrep_keras.finalize(wrapped)


def test_an_optional_input_may_be_none_in_all_models():
    dense = with_optional_input()
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.3))
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    for other in (None, 2 * x):
        expected, actual = dense([x, other]), wrapped([x, other])
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(dense([x, None]) - dense([x, x])).max() > 1e-3
    wrapped.compile("sgd", "mse")
    assert np.isfinite(wrapped.evaluate([x, x], np.zeros((4, 3)), verbose=0))


class Gate(layers.Layer):
    """A layer made of layers that does something else where its second input is missing."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.main, self.side = layers.Dense(6), layers.Dense(6)

    def call(self, x, y=None):
        x = self.main(x)
        return x if y is None else ops.add(x, self.side(y))

    def build(self, x_shape, y_shape=None):
        self.main.build(x_shape)
        self.side.build(x_shape)
        self.built = True

    def compute_output_shape(self, x_shape, y_shape=None):
        return x_shape


def test_a_layer_that_reads_an_optional_input_stays_closed():
    inputs, other = keras.Input((6,)), keras.Input((6,), optional=True)
    dense = keras.Model([inputs, other], top(Gate(name="gate")(inputs, other)))
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.3))
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    for value in (None, x):
        np.testing.assert_allclose(wrapped([x, value]), dense([x, value]), rtol=1e-5, atol=1e-6)
    assert recording_of(dense).calls[0].name == "gate"


def test_a_nested_model_that_takes_numbers_of_another_kind_stays_closed():
    inner = keras.Sequential([keras.Input((4,)), layers.Rescaling(0.5), layers.Dense(8)], name="in")
    inputs = keras.Input((4,), dtype="int32")
    dense = keras.Model(inputs, top(inner(inputs)))
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.3))
    x = np.arange(8, dtype="int32").reshape(2, 4)
    np.testing.assert_allclose(wrapped(x), dense(x), rtol=1e-5, atol=1e-6)
