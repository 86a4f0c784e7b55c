"""Constraints of weights that are changed from outside: kept where they hold, else dropped.

An optimizer applies a constraint behind each step, also one that changes nothing. A kernel with a
compactor folded into it is none that a constraint was meant for, and would be changed by it.
"""

import numpy as np
from keras import layers, ops

from resrep_keras.graph.composite import sublayers
from resrep_keras.keras_adapter import weights_of_operation
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.gated import Gated

ROUNDING = 1e-5


def without_broken(layer, config, weights, folded=False):
    """Changed settings of a layer, without the constraints that its new weights break.

    Args:
        layer: The layer before.
        config: Its changed settings.
        weights: Its new weights.
        folded: Whether something was folded into them. What was only selected loses no constraint
            that the layer itself has not met so far.
    """
    own = weights_of_operation(layer)  # none in a raw operation
    constrained = [variable for variable in own if variable.constraint is not None]
    if not constrained:
        return config
    aligned = len(weights) == len(own)
    new = {id(variable): value for variable, value in zip(own, weights) if aligned}
    broken = [
        variable.constraint
        for variable in constrained
        if not _holds(variable, new.get(id(variable)))
        and (folded or _holds(variable, ops.convert_to_numpy(variable)))
    ]
    inner = layer.layer if isinstance(layer, layers.SpectralNormalization) else layer
    names = {
        name.lstrip("_")
        for part in (inner, *sublayers(inner))
        for name, value in vars(part).items()
        if name.endswith("_constraint") and any(_same(value, each) for each in broken)
    }
    known = names & inner.get_config().keys() if names else ()
    return {**config, **dict.fromkeys(known)}


def _same(setting, constraint):
    """Whether a constraint is that of a setting: a copied variable has the original's object."""
    return setting is constraint or (
        type(setting) is type(constraint) and setting.get_config() == constraint.get_config()
    )


def _holds(variable, value):
    """Whether a constraint would leave a value as it is."""
    if value is None:
        return False
    value = ops.convert_to_numpy(value).astype("float32")
    after = ops.convert_to_numpy(variable.constraint(ops.convert_to_tensor(value)))
    return bool(np.abs(after - value).max() <= ROUNDING * max(np.abs(value).max(), 1e-12))


def dropped_constraints(before, after):
    """Pairs `(layer name, setting)` of the constraints that a model has lost.

    Args:
        before, after: Its `Recording`s.
    """
    left = {found for recorded in after.all_calls() for found in _settings(recorded)}
    had = dict.fromkeys(found for recorded in before.all_calls() for found in _settings(recorded))
    return tuple(found for found in had if found not in left)


def _settings(recorded):
    operation = recorded.operation
    if isinstance(operation, Compactor) or not isinstance(operation, layers.Layer):
        return
    layer = (
        operation.layer
        if isinstance(operation, (Gated, layers.SpectralNormalization))
        else operation
    )
    for part in (layer, *sublayers(layer)):
        for name, value in vars(part).items():
            if name.endswith("_constraint") and value is not None:
                yield recorded.name, name.lstrip("_")
