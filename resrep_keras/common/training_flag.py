"""The argument `training` of calls."""

import functools
import inspect


@functools.cache
def _arguments_of(function):
    return inspect.signature(function).parameters


def has_training_argument(operation):
    """Whether `call` of a layer, model or raw operation takes the argument `training`."""
    return "training" in _arguments_of(type(operation).call)


def trains_by_default(layer):
    """Whether `call` of a layer is in training where it is told nothing."""
    return has_training_argument(layer) and _arguments_of(type(layer).call)["training"].default
