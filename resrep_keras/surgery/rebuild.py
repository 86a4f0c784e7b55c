"""Rebuild a model with some of its layers changed, left out or followed by others."""

import keras

from resrep_keras.graph.walk import symbolic_tensors, walk


def rebuild(model, change=None, behind=None, drop=()):
    """Copy a model with all its weights, so that the copy shares no variable with it.

    Args:
        model: Functional or Sequential model.
        change: ``{name: (config changes, weights or None)}``; `None` keeps the weights.
        behind: ``{name: layer}``; the layer is called on the output of each call of `name`.
        drop: Names of operations that hand their input through.

    Returns:
        An uncompiled Functional model with the names of the original.
    """
    change, behind, drop = change or {}, behind or {}, frozenset(drop)
    copies = {}
    weights = []

    def call(operation, *args, **kwargs):
        name = operation.name
        if name in drop:
            outputs = symbolic_tensors(args, kwargs)[0]
        else:
            changes, new_weights = change.get(name, ({}, None))
            if id(operation) not in copies:
                copies[id(operation)] = copy_operation(operation, changes)
                weights.append((operation, copies[id(operation)], new_weights))
            outputs = copies[id(operation)](*args, **kwargs)
        return behind[name](outputs) if name in behind else outputs

    rebuilt = walk(model, call)
    for original, copy, new_weights in weights:
        _set_weights(original, copy, new_weights)
    return rebuilt


def copy_operation(operation, changes=None):
    """A fresh layer or operation of the same configuration, some entries changed.

    What has no weights and cannot be made from its configuration, such as a Lambda layer, is shared
    with the original: it holds nothing that training could change.

    Raises:
        ValueError: A layer with weights cannot be made from its configuration.
    """
    if isinstance(operation, keras.Model):
        return keras.models.clone_model(operation)
    try:
        return type(operation).from_config({**operation.get_config(), **(changes or {})})
    except (NotImplementedError, TypeError, ValueError) as error:
        if not changes and not getattr(operation, "weights", ()):
            return operation
        raise ValueError(
            f"Layer '{operation.name}' of type {type(operation).__name__} cannot be copied from its "
            "configuration. Give it a get_config() that holds every constructor argument, and a "
            f"constructor that passes **kwargs on to keras.layers.Layer. The error was: {error}"
        ) from error


def _set_weights(original, copy, new_weights):
    if not isinstance(copy, keras.layers.Layer):
        return
    if new_weights is not None:
        copy.set_weights(new_weights)
    elif original.weights:
        copy.set_weights([keras.ops.convert_to_numpy(w) for w in original.weights])
