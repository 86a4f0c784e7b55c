"""Masks that Keras attaches to what a layer is called on."""

import inspect

import keras

from resrep_keras.graph.recording import symbolic_tensors
from resrep_keras.graph.seen_calls import played_again
from resrep_keras.keras_adapter import get_keras_mask, is_layer, set_keras_mask


def attach_masks(layer, args, kwargs):
    """Attach masks among the arguments of a call to what they are of; returns whether any are.

    Keras reads a mask off the first argument, or the argument `x`, and hands it on as `mask`, or
    `x_mask`. Layers that are called inside read it there as well.
    """
    names = [*inspect.signature(layer.call).parameters][: len(args)]
    given = {**dict(zip(names, args)), **kwargs}
    first, found = next(iter(given), None), False
    for name, value in given.items():
        mask = given.get("mask") if name == first else given.get(f"{name}_mask")
        if mask is not None:
            pairs = zip(keras.tree.flatten(value), _flat(mask), strict=False)
            for tensor, of_tensor in pairs:
                if of_tensor is not None:
                    set_keras_mask(tensor, of_tensor)
                    found = True
    return found


def _flat(masks):
    """The masks of several tensors, of which some may have none."""
    if isinstance(masks, dict):
        masks = list(masks.values())
    if not isinstance(masks, (list, tuple)):
        return [masks]
    return [mask for each in masks for mask in _flat(each)]


def with_masks_said(graph, inputs):
    """A graph on inputs that masks are attached to, in which each call is told its masks.

    Else Keras would hand them on only while they are attached, which flat models do not keep.
    """

    def call(operation, *args, **kwargs):
        told = _attached(operation, args, kwargs) if is_layer(operation) else {}
        return operation(*args, **{**told, **kwargs})

    return played_again(graph, inputs, call)


def _attached(layer, args, kwargs):
    """``{argument: mask}`` of what Keras would read off what a layer is called on."""
    names = [*inspect.signature(layer.call).parameters]
    given = {**dict(zip(names, args)), **kwargs}
    tensors = {name: value for name, value in given.items() if symbolic_tensors((value,), {})}
    found = {}
    for name, value in tensors.items():
        argument = "mask" if len(tensors) == 1 else f"{name}_mask"
        if argument in names:
            found[argument] = keras.tree.map_structure(get_keras_mask, value)
    return {name: m for name, m in found.items() if symbolic_tensors((m,), {})}
