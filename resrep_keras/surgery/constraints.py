"""Constraints of weights that are changed from outside: kept where they hold, else dropped.

An optimizer applies a constraint behind each step, also one that changes nothing. A kernel with a
compactor folded into it is none that a constraint was meant for, and would be changed by it.
"""

import numpy as np
from keras import layers, ops

from resrep_keras.graph.composite import sublayers
from resrep_keras.keras_adapter import is_layer, weights_of_operation

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
    names = {
        name
        for name, value in _settings(layer, "_constraint")
        if any(_same(value, each) for each in broken)
    }
    known = names & _configured(layer).get_config().keys() if names else ()
    return {**config, **dict.fromkeys(known)}


def _configured(layer):
    """The layer whose settings change where those of a layer around it do."""
    if isinstance(layer, layers.Bidirectional):  # both directions are changed alike
        return layer.forward_layer
    return layer.layer if isinstance(layer, layers.SpectralNormalization) else layer


def _settings(layer, ending):
    """Pairs `(name, value)` of those settings of a layer, and of what it holds, that are set."""
    for part in (layer, *sublayers(layer)):
        for name, value in vars(part).items():
            if name.endswith(ending) and value is not None:
                yield name.lstrip("_"), value


def hand_on_what_was_set(layer, pairs):
    """Give variables with new values what was set on the old ones and is no setting of the layer.

    A constraint goes where the new value meets it, or the old one did not.

    Args:
        layer: The layer before.
        pairs: Pairs of its variables and those of its copy.
    """
    constraints, regularizers = (
        [value for _, value in _settings(layer, ending)]
        for ending in ("_constraint", "_regularizer")
    )
    for before, after in pairs:
        if _set_by_hand(before.regularizer, regularizers):
            after.regularizer = before.regularizer
        if _set_by_hand(before.constraint, constraints) and (
            _holds(before, after) or not _holds(before, before)
        ):
            after.constraint = before.constraint


def _set_by_hand(value, settings):
    return value is not None and not any(_same(setting, value) for setting in settings)


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
    left = {found for recorded in after.all_calls() for found in _constrained(recorded)}
    had = dict.fromkeys(
        found for recorded in before.all_calls() for found in _constrained(recorded)
    )
    return tuple(found for found in had if found not in left)


def _constrained(recorded):
    layer = recorded.operation
    if not is_layer(layer) or recorded.inner is not None:  # the calls inside tell of theirs
        return
    settings = list(_settings(layer, "_constraint"))
    for name, _ in settings:
        yield recorded.name, name
    for variable in layer.weights:
        if _set_by_hand(variable.constraint, [value for _, value in settings]):
            yield recorded.name, f"constraint of {variable.name}"


def is_constrained(operation):
    """Whether a constraint acts on any variable that a layer trains."""
    return any(variable.constraint is not None for variable in weights_of_operation(operation))


def told_of_dropped(dropped):
    """What is said, in words, of the constraints that a model has lost; `None` where of none."""
    if not dropped:
        return None
    names = ", ".join(f"{setting} of layer '{layer}'" for layer, setting in dropped)
    return (
        f"The slim model is without constraints that the dense one has: {names}. Their weights "
        "do not meet them any more, because compactors are folded into them or inputs are gone, so "
        "that the first step of further training would change the outputs. Set such constraints "
        "anew if the slim model is trained on."
    )
