"""in_float32(model): what a model that computes in other floats is to a format that knows one."""

import contextlib
import json
import re

import keras

from resrep_keras.graph.trace import recording_of
from resrep_keras.keras_adapter import is_layer
from resrep_keras.surgery.rebuild import rebuild

FLOATS = {"float16", "bfloat16", "float32", "float64", "mixed_float16", "mixed_bfloat16"}
POLICIES = {"DTypePolicy", "DTypePolicyMap", "FloatDTypePolicy"}


def in_float32(model):
    """A copy of a model whose layers compute, and hold their weights, in float32.

    Integers, text and inputs stay what they are. A model that is float32 already is returned as it
    is.
    """
    return _in_floats(model, "float32")


def in_float64(model):
    """What `in_float32` returns, in float64: what rounding does to a model shows beside it."""
    return _in_floats(model, "float64")


def _in_floats(model, name):
    recording = recording_of(model, whole=True)
    changes = {}
    for recorded in recording.all_calls():
        changed = _changes(recorded.operation, name)
        if changed:
            changes[recorded.name] = lambda changed=changed: (changed, None)
    if not changes:
        return model
    with _everywhere(name):
        return rebuild(recording, changes)


def _changes(operation, floats):
    """The entries of an operation's configuration that name other floats, as they have to be."""
    others = FLOATS - {floats}
    if not is_layer(operation):  # a cast, say
        return {"dtype": floats} if vars(operation).get("dtype") in others else {}
    config = operation.get_config()
    changed = {key: _translated(value, floats, key) for key, value in config.items()}
    changes = {key: value for key, value in changed.items() if value != config[key]}
    return {**changes, "dtype": floats} if changes and "dtype" in config else changes


def _translated(value, floats, name=None):
    """A part of a configuration, at any depth, with these floats where it names others."""
    if isinstance(value, dict):
        if value.get("class_name") in POLICIES:
            return floats if _names(value["config"]) & (FLOATS - {floats}) else value
        return {key: _translated(inner, floats, key) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_translated(inner, floats) for inner in value)
    return floats if name == "dtype" and value in FLOATS else value


def _names(config):
    """The names of types in the configuration of a policy, or of a map of policies."""
    return set(re.findall(r"\w+", json.dumps(config)))


@contextlib.contextmanager
def _everywhere(floats):
    """Layers that others make inside of them go by what holds for the whole process."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(floats)
    keras.config.set_dtype_policy(floats)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)
