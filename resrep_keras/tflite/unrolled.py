"""unrolled(model): recurrent layers without loops, which TensorFlow's calibration cannot read."""

import keras

from resrep_keras.graph.recording import symbolic_tensors
from resrep_keras.graph.trace import recording_of
from resrep_keras.keras_adapter import is_layer
from resrep_keras.surgery.rebuild import rebuild

MOST_STEPS = 128  # of time: each is a copy of the layer's operations


def unrolled(model):
    """A copy of a model that computes the same, in which recurrent layers are written out.

    Those stay loops whose number of time steps is not known, or above `MOST_STEPS`. A model without
    any is returned as it is.
    """
    recording = recording_of(model, whole=True)
    changes = {}
    for recorded in recording.all_calls():
        if is_layer(recorded.operation) and _steps(recorded) <= MOST_STEPS:
            found = _changes(recorded.operation)
            if found:
                changes[recorded.name] = lambda found=found: (found, None)
    return rebuild(recording, changes) if changes else model


def _steps(recorded):
    """How many time steps the first input of a call has."""
    shape = next((tensor.shape for tensor in symbolic_tensors(recorded.args, {})), ())
    known = len(shape) > 2 and shape[1] is not None and recorded.inner is None
    return shape[1] if known else float("inf")


def _changes(layer):
    config = layer.get_config()
    changed = _unrolled(config)
    if changed != config and isinstance(layer, keras.layers.Bidirectional):
        return {"unroll": True}  # which its copy hands on to both directions
    return {name: value for name, value in changed.items() if value != config[name]}


def _unrolled(config):
    """A configuration in which each `unroll`, at any depth, is `True`."""
    if isinstance(config, dict):
        return {key: key == "unroll" or _unrolled(value) for key, value in config.items()}
    return config
