"""Let an optimizer go on with the variables of a model that has fewer channels."""

import collections
import warnings

import keras
import numpy as np

from resrep_keras.keras_adapter import (
    decay_exclusions,
    parts_of_optimizer,
    rate_function,
    wrapped_optimizer,
)
from resrep_keras.optimizers.penalty import PenaltyOptimizer, split_compactors
from resrep_keras.optimizers.wrapper import OptimizerWrapper

# First axes of the stand-ins by which slots are recognised: longer than any state of another kind.
FIRST_SIZE = 1009


def successor(optimizer, variables, old=()):
    """A fresh optimizer of the same settings, built for `variables`.

    Args:
        optimizer: The optimizer before.
        variables: Variables of the model with fewer channels.
        old: Those before; what is excluded from weight decay stays so, by its path.
    """
    fresh = type(optimizer).from_config(optimizer.get_config())
    copy_decay_exclusions(optimizer, fresh, by_path(old, variables))
    fresh.build(list(variables))
    return fresh


def unpruned(optimizer):
    """A fresh optimizer of the settings that one has now, without what a method put around it.

    A learning rate is that of now; a schedule begins anew. What scales the loss stays outside.
    """
    if optimizer is None:
        return None
    inner = wrapped_optimizer(optimizer)
    if isinstance(optimizer, OptimizerWrapper):
        return unpruned(inner)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a lambda cannot be saved
        config = optimizer.get_config()
    rate = rate_function(optimizer)
    if rate is not None and "learning_rate" in config:
        config["learning_rate"] = rate  # which has no state, and may be of the user's own making
    if inner is not None and "inner_optimizer" in config:
        config["inner_optimizer"] = keras.saving.serialize_keras_object(unpruned(inner))
    return type(optimizer).from_config(config)


def by_path(old, new):
    """Pairs of variables of two models that have the same path, or are alone in having its end.

    What is nested in one model has the names of the models around it in its paths, which it has not
    where it was written out.
    """
    whole, only_old, only_new = {v.path: v for v in new}, _only(old), _only(new)
    pairs = []
    for variable in old:
        found = whole.get(variable.path)
        if found is None and _end(variable) in only_old:
            found = only_new.get(_end(variable))
        if found is not None:
            pairs.append((variable, found))
    return pairs


def _end(variable):
    """The names of a layer and its weight."""
    return tuple(variable.path.split("/")[-2:])


def _only(variables):
    """``{end of a path: variable}`` where no other one has that end."""
    ends = collections.Counter(map(_end, variables))
    return {_end(variable): variable for variable in variables if ends[_end(variable)] == 1}


def copy_decay_exclusions(old, new, pairs):
    """Exclude from weight decay what another optimizer excludes, which no config tells.

    Args:
        old, new: Optimizers of the same kind, the new one not built yet; either may wrap others.
        pairs: Pairs of a variable of the old one and that in its place.
    """
    for before, after in zip(single_optimizers(old), single_optimizers(new)):
        known, pattern = decay_exclusions(before, [here for here, _ in pairs])
        excluded = [there for here, there in pairs if id(here) in set(map(id, known))]
        if excluded or pattern is not None:
            names = None if pattern is None else [pattern.pattern]
            after.exclude_from_weight_decay(var_list=excluded, var_names=names)


def single_optimizers(optimizer):
    """The optimizers that do the work: inside of all wrappers, each of a `MultiOptimizer`."""
    while wrapped_optimizer(optimizer) is not None:
        optimizer = wrapped_optimizer(optimizer)
    return parts_of_optimizer(optimizer)


def read_slots(optimizer, variables):
    """What an optimizer holds for each variable.

    Args:
        optimizer: A built optimizer, also one that wraps others.
        variables: All variables that it was built for, in their order.

    Returns:
        ``{id of a variable: list of optimizer variables of the variable's shape}``. A variable
        whose state is of another shape, such as Adafactor's factors, has none.
    """
    if isinstance(optimizer, PenaltyOptimizer):
        compactors, others = split_compactors(variables)
        own = {id(v): list(optimizer.compactor_optimizer.slots(v)) for v in compactors}
        return {**own, **read_slots(optimizer.inner_optimizer, others)}
    inner = wrapped_optimizer(optimizer)
    if inner is not None:
        return read_slots(inner, variables)
    probe = type(optimizer).from_config(optimizer.get_config())
    stand_ins = [
        keras.Variable(np.zeros((FIRST_SIZE + i, *[1] * (len(v.shape) - 1))), name=v.name)
        for i, v in enumerate(variables)
    ]
    probe.build(stand_ins)
    state = optimizer.variables
    if len(probe.variables) != len(state):
        return {}
    positions = {tuple(s.shape): id(v) for s, v in zip(stand_ins, variables)}
    shapes = {id(v): tuple(v.shape) for v in variables}
    slots = {id(v): [] for v in variables}
    for likeness, variable in zip(probe.variables, state):
        owner = positions.get(tuple(likeness.shape))
        if owner is not None and tuple(variable.shape) == shapes[owner]:
            slots[owner].append(variable)
    return slots


def copy_rest(old, new, taken):
    """Copy what belongs to no variable: counters, rates, scales, and state of unchanged shapes.

    Args:
        old: The optimizer before.
        new: Its `successor`.
        taken: Ids of the variables of both that are slots.
    """
    known = {}
    for variable in old.variables:
        if id(variable) not in taken:
            known.setdefault((variable.path, tuple(variable.shape)), []).append(variable)
    for variable in new.variables:
        values = known.get((variable.path, tuple(variable.shape)))
        if id(variable) not in taken and values:
            variable.assign(values.pop(0))
