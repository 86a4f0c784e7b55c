"""What objects of Keras 3 are configured with, as tf_keras takes it."""

import inspect

import keras
import numpy as np

from resrep_keras.surgery.rebuild import taken_by
from resrep_keras.tfmot.activations import name_in_keras_2, name_of
from resrep_keras.tfmot.counterparts import NotTaken
from resrep_keras.tfmot.packages import keras_2

# Of how it is computed or begun, not of what: weights are copied.
LEFT_OUT = set("name dtype use_cudnn flash_attention query_shape key_shape value_shape".split())
FUNCTIONS = ("activation", "recurrent_activation")
FOLDERS = "regularizers constraints optimizers optimizers.schedules losses metrics".split()
IN_KWARGS = {"zero_output_for_mask"}  # what constructors take and do not name
OFF = (None, False)
ALWAYS = set("self name reduction dtype fn kwargs".split())  # of the constructors of losses
PLAIN = (str, int, float, type(None), np.ndarray)


def settings_of(layer, kind, changes=()):
    """Arguments for the constructor of a class of layers of tf_keras.

    Args:
        layer: A layer of Keras 3.
        kind: The class.
        changes: ``{entry of the configuration: value}`` that stands in its place.

    Raises:
        NotTaken: A setting that the class does not have, or an object of the user's own.
    """
    config = {**layer.get_config(), **dict(changes)}
    functions = {name: _function(config.pop(name)) for name in FUNCTIONS if name in config}
    settings = {**_arguments(config, kind), **functions}
    if layer.dtype_policy.name != "float32":
        settings["dtype"] = layer.dtype_policy.name
    return settings


def _arguments(config, kind):
    taken, arguments = taken_by(kind), {}
    for key, value in config.items():
        if key in LEFT_OUT or key.endswith("_initializer"):
            continue
        if key in taken or (key in IN_KWARGS and value):
            arguments[key] = in_keras_2(value)
        elif value not in OFF and (key, value) != ("data_format", "channels_last"):
            raise NotTaken(f"{key}={value!r}, a setting that tf_keras does not know")
    return arguments


def _function(activation):
    name = name_of(keras.activations.get(activation))
    same = name_in_keras_2(name)
    if same is None:
        raise NotTaken(f"activation '{name}' inside of it, which tf_keras does not know")
    return same


def in_keras_2(value):
    """A setting, with objects of tf_keras in the place of those of Keras, serialised or not.

    Raises:
        NotTaken: An object that tf_keras does not have.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(map(in_keras_2, value))
    if isinstance(value, dict) and "class_name" not in value:
        return {key: in_keras_2(each) for key, each in value.items()}
    if isinstance(value, PLAIN) or inspect.isroutine(value):
        return value
    held = value if isinstance(value, dict) else keras.saving.serialize_keras_object(value)
    name, folder = held["class_name"], (held.get("module") or "").removeprefix("keras.")
    own = folder not in FOLDERS or held.get("registered_name")
    kind = None if own else _found(folder, name)
    is_loss = isinstance(value, keras.losses.Loss)
    if kind is not None and not (is_loss and taken_by(type(value)) - set(held["config"]) - ALWAYS):
        named = {"name": held["config"]["name"]} if "name" in held["config"] else {}
        return kind(**named, **_arguments(held["config"], kind))
    if is_loss and value.reduction == "sum_over_batch_size":
        return value.call  # of the user's own, or one whose configuration does not tell all
    raise NotTaken(f"{name}, which tf_keras does not know")


def _found(folder, name):
    place = keras_2()
    for part in folder.split("."):
        place = getattr(place, part)
    return vars(place).get(name)
