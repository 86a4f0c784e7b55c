"""The setting `input_shape`: the sizes of inputs that a model leaves open.

It is a shape without the batch axis, such as `(224, 224, 3)`. For a model of several inputs it is a
list or dict of shapes in the structure of the inputs, such as `[(10, 4), (7, 5)]`, or a dict by the
names of the inputs. `None` in the place of a size or a shape leaves it as the model has it.
"""

import collections.abc
import itertools
import numbers

import keras

from resrep_keras.common.checks import came, check_number
from resrep_keras.graph.recording import is_symbolic
from resrep_keras.keras_adapter import input_like, input_name

MOST_ENTRIES = 1000  # no model has so many inputs, or a tensor so many axes


def check_input_shape(given):
    """Return an `input_shape` in tuples and dicts of ints, as it is kept and saved.

    Raises:
        TypeError: Neither a shape nor a list or dict of shapes.
        ValueError: A size below 1.
    """
    if given is None or isinstance(given, dict):
        return given and {name: check_input_shape(shape) for name, shape in given.items()}
    words = (
        "Expected input_shape to be a tuple such as (224, 224, 3), or for several inputs a list or "
        f"dict of them; {came(given)}."
    )
    if isinstance(given, (str, bytes, collections.abc.Set)):
        raise TypeError(words)
    try:
        entries = tuple(itertools.islice(iter(given), MOST_ENTRIES))
    except Exception as error:  # whatever an object of the user raises
        raise TypeError(words) from error
    if len(entries) == MOST_ENTRIES:
        raise ValueError(words)
    if is_shape(entries):
        return tuple(_checked_size(size) for size in entries)
    return tuple(check_input_shape(entry) for entry in entries)


def _checked_size(size):
    if size is None:
        return None
    check_number("each size of input_shape", size, at_least=1, whole=True)
    return int(size)


def is_shape(given):
    """Whether it is one shape, and no list of shapes."""
    return isinstance(given, (list, tuple)) and all(
        size is None or isinstance(size, numbers.Number) for size in given
    )


def leaves_open(tensors):
    """Whether a size of symbolic inputs is not known, beside that of the batch."""
    return any(None in tensor.shape[1:] for tensor in keras.tree.flatten(tensors))


def sized(inputs, input_shape):
    """Fresh inputs like those of a model, the sizes that it leaves open taken from `input_shape`.

    Args:
        inputs: Symbolic inputs in the structure in which the model is called.
        input_shape: The setting, see above; `None` leaves all as it is.

    Raises:
        TypeError: Neither shapes nor a list or dict of shapes.
        ValueError: The shapes contradict those of the model, or are not as many.
    """
    given = _by_input(inputs, check_input_shape(input_shape))
    return keras.tree.map_structure(
        lambda tensor: input_like(tensor, _shape(tensor, given.get(id(tensor)))), inputs
    )


def _shape(tensor, given):
    """The shape of an input with the batch axis."""
    if given is None:
        return tensor.shape
    own = tuple(tensor.shape[1:])
    if len(own) != len(given) or any(
        None not in (here, there) and here != there for here, there in zip(own, given)
    ):
        raise ValueError(
            f"Expected input_shape to fill in unknown sizes only: input '{input_name(tensor)}' has "
            f"the shape {own} without the batch axis, which {given} contradicts. Give the known "
            "sizes as they are, or leave input_shape out."
        )
    return (tensor.shape[0], *(there if here is None else here for here, there in zip(own, given)))


def _by_input(inputs, given):
    """`{id of an input: its shape}` of those that the setting names."""
    flat = keras.tree.flatten(inputs)
    if given is None:
        return {}
    if is_shape(given) and len(flat) == 1 and (given or not flat[0].shape[1:]):
        return {id(flat[0]): given}
    names = {input_name(tensor): tensor for tensor in flat}
    if isinstance(given, dict) and not isinstance(inputs, dict) and given.keys() <= names.keys():
        return {id(names[name]): shape for name, shape in given.items()}
    structure = [inputs] if is_symbolic(inputs) else inputs
    pairs = _matched(structure, given)
    if pairs is None:
        shapes = keras.tree.map_structure(lambda tensor: tuple(tensor.shape[1:]), inputs)
        raise ValueError(
            f"Expected input_shape with a shape for each of {len(flat)} inputs, {list(names)}, as "
            f"the model takes them: {shapes} without the batch axis, unknown sizes filled in; got "
            f"{given!r}."
        )
    return {id(tensor): shape for tensor, shape in pairs}


def _matched(structure, given):
    """Pairs of inputs and shapes; `None` where one structure is not the other."""
    if given is None:
        return []
    if is_symbolic(structure):
        return [(structure, given)] if is_shape(given) else None
    if isinstance(structure, dict) and isinstance(given, dict):
        if not given.keys() <= structure.keys():
            return None
        below = [_matched(structure[key], given[key]) for key in given]
    elif isinstance(structure, (list, tuple)) and isinstance(given, (list, tuple)):
        if len(structure) != len(given):
            return None
        below = [_matched(*pair) for pair in zip(structure, given)]
    else:
        return None
    return None if None in below else [pair for found in below for pair in found]
