"""Makers of all optimizers of Keras."""

import inspect

import keras

from tests.updates import RATE

OUTSIDE = {"Optimizer", "LossScaleOptimizer"}  # the base, and what goes around


def kinds():
    """Makers of all public optimizers, found by looking, so that a new one is tested at once."""
    found = {}
    for name, kind in vars(keras.optimizers).items():
        if inspect.isclass(kind) and issubclass(kind, keras.optimizers.Optimizer):
            takes = inspect.signature(kind).parameters
            if name not in OUTSIDE and "learning_rate" in takes:
                found[name] = lambda kind=kind: kind(learning_rate=RATE)
            elif name == "MultiOptimizer":
                found[name] = multi
            else:
                assert name in OUTSIDE, f"{name} needs a maker here"
    return found


def multi(**default):
    """Two optimizers; compactors go by the rate of the default one."""
    parts = {"hidden/bias": keras.optimizers.SGD(0.7)}
    default = keras.optimizers.Adam(RATE, **default)
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(default, parts))


KINDS = kinds()
