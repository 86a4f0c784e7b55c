"""with_scope_names(model): what a model is to TensorFlow, which takes few names for its scopes."""

import dataclasses
import re

from resrep_keras.graph.composite import sublayers
from resrep_keras.graph.recording import free_name
from resrep_keras.graph.trace import recording_of
from resrep_keras.surgery.rebuild import rebuild

SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_./>-]*")


def with_scope_names(model):
    """A copy of a model in which all names are such as TensorFlow takes, or the model itself.

    Characters that it does not take become `_`, as in the names of a `Signature`.

    Raises:
        ValueError: A layer that is held by another one, and called by it, has such a name.
    """
    recording = recording_of(model, whole=True)
    for recorded in recording.all_calls():
        for layer in sublayers(recorded.operation):
            if not _is_scope(layer.name) and recorded.inner is None:
                raise ValueError(
                    f"TensorFlow does not take the name '{layer.name}' of a layer inside of layer "
                    f"'{recorded.name}': expected Latin letters, digits and the characters _ . - "
                    ">, the first a letter, digit or point. Rename it, or export as .keras."
                )
    names = [recording.name, *(recorded.name for recorded in recording.all_calls())]
    if all(map(_is_scope, names)):
        return model
    return rebuild(_renamed(recording, set(filter(_is_scope, names)), {}))


def scope_name(name):
    """The name with `_` for each character that TensorFlow does not take in that place."""
    name = re.sub(r"^[^A-Za-z0-9.]|[^A-Za-z0-9_.\-]", "_", name)
    return f"x{name}" if name.startswith("_") else name


def _is_scope(name):
    return SCOPE.fullmatch(name) is not None


def _renamed(recording, taken, known):
    """The recording with names that TensorFlow takes; calls of one name share the new one."""

    def new(name):
        if name not in known:
            known[name] = name if _is_scope(name) else free_name(scope_name(name), taken)
            taken.add(known[name])
        return known[name]

    calls = [
        dataclasses.replace(
            call,
            name=new(call.name),
            inner=call.inner and _renamed(call.inner, taken, known),
        )
        for call in recording.calls
    ]
    return dataclasses.replace(recording, name=scope_name(recording.name), calls=calls)
