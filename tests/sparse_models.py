"""A small net with a `SparseOptimizer`, and its updates on any backend."""

import keras
from keras import layers

from resrep_keras.methods.sparse.optimizer import SparseOptimizer
from tests import updates

RATE, MOMENTUM = 0.05, 0.9


def net(**kwargs):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((11,))
    x = layers.Dense(16, activation="relu", name="first", **kwargs)(inputs)
    x = layers.Dense(9, activation="relu", name="second", **kwargs)(x)
    return keras.Model(inputs, layers.Dense(4, name="last", **kwargs)(x))


def apply(optimizer, gradients, variables):
    updates.apply(optimizer, gradients, variables, compiled=True)


SHAPES = {"first/kernel": (11, 16), "second/kernel": (16, 9), "last/kernel": (9, 4)}
TOTAL = 11 * 16 + 16 * 9 + 9 * 4
KINDS = {
    "granet": {},
    "sparse to sparse": {"initial_sparsity": 0.5},
    "by layer": {"initial_sparsity": 0.3, "scope": "layer"},
    "by layer, uniform": {"scope": "layer", "distribution": "uniform"},
    "gmp": {"regrow_rate": 0},
    "late": {"begin": 0.25, "end": 1.0, "interval": 5},
    "rigl": {"initial_sparsity": 0.9},
    "set": {"initial_sparsity": 0.9, "growth": "random", "seed": 5},
    "rigl, half of the run": {"initial_sparsity": 0.9, "regrow_end": 0.5},
    "grown once": {"initial_sparsity": 0.9, "regrow_end": 0},
    "static": {"initial_sparsity": 0.9, "regrow_rate": 0, "distribution": "uniform"},
    "one shot": {"initial_sparsity": 0.9, "regrow_rate": 0, "distribution": "magnitude"},
}


def make(kind=None, inner=None, steps=40, **settings):
    model = net()
    inner = keras.optimizers.SGD(RATE, momentum=MOMENTUM, nesterov=True) if inner is None else inner
    settings = {"interval": 4, **KINDS.get(kind, {}), **settings}
    optimizer = SparseOptimizer(inner, **settings)
    optimizer.build(model.trainable_variables)
    optimizer.plan.assign([0, steps])
    return model, optimizer
