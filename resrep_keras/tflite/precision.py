"""in_float32(model): what a model that computes in other floats is to a format that knows one."""

import contextlib
import json
import re

import keras

from resrep_keras.graph.trace import recording_of
from resrep_keras.keras_adapter import is_layer
from resrep_keras.surgery.rebuild import rebuild

OTHERS = {"float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16"}
POLICIES = {"DTypePolicy", "DTypePolicyMap", "FloatDTypePolicy"}


def in_float32(model):
    """A copy of a model whose layers compute, and hold their weights, in float32.

    Integers, text and inputs stay what they are. A model that is float32 already is returned as it
    is.
    """
    recording = recording_of(model, whole=True)
    changes = {}
    for recorded in recording.all_calls():
        changed = _changes(recorded.operation)
        if changed:
            changes[recorded.name] = lambda changed=changed: (changed, None)
    if not changes:
        return model
    with _float32_everywhere():
        return rebuild(recording, changes)


def _changes(operation):
    """The entries of an operation's configuration that name other floats, as they have to be."""
    if not is_layer(operation):  # a cast, say
        return {"dtype": "float32"} if vars(operation).get("dtype") in OTHERS else {}
    config = operation.get_config()
    changed = {name: _translated(value, name) for name, value in config.items()}
    changes = {name: value for name, value in changed.items() if value != config[name]}
    return {**changes, "dtype": "float32"} if changes and "dtype" in config else changes


def _translated(value, name=None):
    """A part of a configuration, at any depth, with float32 where it names other floats."""
    if isinstance(value, dict):
        if value.get("class_name") in POLICIES:
            return "float32" if _names(value["config"]) & OTHERS else value
        return {key: _translated(inner, key) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_translated(inner) for inner in value)
    return "float32" if name == "dtype" and value in OTHERS else value


def _names(config):
    """The names of types in the configuration of a policy, or of a map of policies."""
    return set(re.findall(r"\w+", json.dumps(config)))


@contextlib.contextmanager
def _float32_everywhere():
    """Layers that others make inside of them go by what holds for the whole process."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)
