"""Models and layers whose `call` is no graph."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from tests import helpers, zoo

pytestmark = pytest.mark.tensorflow_only


class Mine(keras.Model):
    """Whatever `act` makes of the outputs of a dense layer."""

    def __init__(self, act):
        super().__init__(name="mine")
        self.dense = keras.layers.Dense(4)
        self.top = keras.layers.Dense(2)
        self.act = act

    def call(self, inputs, training=None):
        hidden = self.dense(inputs)
        if isinstance(self.act, layers.Dropout):  # Monte Carlo dropout
            return self.top(self.act(hidden, training=True))
        return self.top(self.act(hidden, training))


def test_an_unbuilt_subclassed_model_is_refused_in_words():
    with pytest.raises(ValueError, match=r"'mine' .* has no weights yet\. Call it once on a batch"):
        resrep_keras.wrap(Mine(lambda x, training: x))


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda x, training: x * 2 if training else x, "another one in training than in"),
        (lambda x, training: x * (2.0 if training else 1.0), "is another one .*: see multiply"),
        (lambda x, training: x * float(keras.ops.sum(x)), "only runs on arrays"),
        (layers.Dropout(0.5), "it calls '.*' with training=True in inference"),
    ],
    ids=["other calls in training", "other constants in training", "values", "always in training"],
)
def test_a_subclassed_model_that_is_no_graph_is_refused_in_words(act, text):
    model = Mine(act)
    model(np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match=f"'mine' .* {text}"):
        resrep_keras.wrap(model)


def test_a_loss_that_call_adds_keeps_a_layer_closed():
    @keras.saving.register_keras_serializable("test_workflow")
    class Sparse(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(6)

        def call(self, inputs):
            outputs = self.dense(inputs)
            self.add_loss(keras.ops.mean(keras.ops.abs(outputs)))
            return outputs

    x = inputs = keras.Input((5,))
    x = Sparse()(keras.layers.Dense(8, activation="relu")(x))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dense(7)(x)))
    graph = resrep_keras.trace(model)
    assert [group.size for group in graph.groups if group.prunable] == [7]
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.1))
    wrapped(np.ones((2, 5), "float32"))
    assert len(wrapped.losses) == 1


def test_a_composite_layer_that_is_no_graph_is_tried_not_refused():
    @keras.saving.register_keras_serializable("test_workflow")
    class Odd(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(6)

        def call(self, inputs, training=None):
            return self.dense(inputs) * (2.0 if training else 1.0)

    x = inputs = keras.Input((5,))
    x = keras.layers.Dense(8, activation="relu")(x)
    x = Odd(name="odd")(keras.layers.Dense(7, activation="relu")(x))
    model = zoo.randomise(keras.Model(inputs, keras.layers.Dense(2)(x)))
    graph = resrep_keras.trace(model)
    # What it reads may go where it is zero, as a copy of it shows.
    assert [group.size for group in graph.groups if group.prunable] == [8, 7]
    assert "its call() is another one in training" in graph.calls_by_name["odd"].closed
    slim = resrep_keras.MagnitudePruning(0.4).prune(model)
    assert slim.get_layer("odd").dense.kernel.shape[0] < 7
    assert slim.certificate.max_relative <= 1e-5
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.1))
    assert helpers.difference(model, wrapped) <= 1e-6
