"""Looking at a model shifts none of Keras's automatic names."""

import keras
from keras import layers

import resrep_keras


class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = layers.Dense(8), layers.Dense(6)

    def call(self, x):
        return self.second(keras.ops.relu(self.first(x)))


def net():
    inputs = keras.Input((5, 6))
    x = layers.TimeDistributed(layers.Dense(8, activation="relu"))(Block()(inputs))
    x = keras.ops.relu(layers.Dense(8)(x))
    inner = keras.Sequential([keras.Input((5, 8)), layers.Dense(8), layers.ReLU()])
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(8, activation="relu")(inner(x))))


def next_names():
    kinds = [layers.Dense, layers.ReLU, keras.Sequential, layers.TimeDistributed, layers.Identity]
    arguments = [(2,), (), (), (layers.ReLU(),), ()]
    made = [kind(*given) for kind, given in zip(kinds, arguments)]
    relu = keras.Model(made_input := keras.Input((2,)), keras.ops.relu(made_input))
    return [each.name for each in (*made, made_input, relu, relu.operations[-1])]


def names_after(use):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    model = net()
    use(model)
    return next_names()


def test_looking_at_a_model_shifts_no_name():
    expected = names_after(lambda model: None)
    for use in (
        resrep_keras.trace,
        resrep_keras.explain,
        resrep_keras.count_macs,
        lambda model: resrep_keras.wrap(model, resrep_keras.ResRep(0.2)),
        lambda model: resrep_keras.MagnitudePruning(0.2).prune(model),
        lambda model: resrep_keras.wrap(model, resrep_keras.GraNet(final_sparsity=0.5)),
    ):
        assert names_after(use) == expected
