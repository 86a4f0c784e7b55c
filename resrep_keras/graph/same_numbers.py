"""Whether a layer and the graph of its `call` compute the same, on random arrays."""

import functools
import warnings

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.draw import draw
from resrep_keras.graph.masks import attach_masks
from resrep_keras.graph.recording import replaced
from resrep_keras.graph.sizes import leaves_open
from resrep_keras.keras_adapter import call_with_losses, input_like

# For unknown sizes: the first that the layer takes.
SIZES = (16, 64, 128)
# Others, for a graph that is one for all sizes.
OTHERS = (5, 150)


def difference(layer, args, kwargs, graph, tensors, variables, of_length=None, more_sizes=()):
    """What a layer and its graph do differently, in words, or `None`.

    Both are called as they are in inference and in training, with the same random numbers. No
    variable is changed.

    Args:
        layer: The layer.
        args, kwargs: Arguments of its call.
        graph: The Functional model that its `call` makes of symbolic tensors.
        tensors: The symbolic tensors among the arguments, in the order of the graph's inputs.
        variables: All that a call could change.
        of_length: Makes the tensors ones of known sizes, for a graph that was made for any; these
            may be different ones. Defaults to `None`.
        more_sizes: Lengths at which both are compared, too, as far as the layer takes them.

    Raises:
        Exception: Whatever layer or graph raises on arrays of all sizes.
    """
    given = layer, args, kwargs, graph, tensors, variables
    found, raised = _of_first_size(given, SIZES, of_length)
    if raised is not None:
        raise raised
    if found is None:
        each = (_of_first_size(given, (size,), of_length)[0] for size in more_sizes)
        found = next((other for other in each if other is not None), None)
    return found


def _of_first_size(given, sizes, of_length):
    """The difference at the first size that the layer takes, and what was raised where none is."""
    for size in sizes:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # said when the model was made
                return _difference(*given, of_length, size), None
        except Exception as error:  # a user's own code may fail on arrays in any way
            raised = error
    return None, raised


def _difference(layer, args, kwargs, graph, tensors, variables, of_length, size):
    of_known = tensors if of_length is None else of_length(size)
    arrays, given = _drawn(tensors, of_known, size), list(_drawn(tensors, of_known, size).values())
    if leaves_open(tensors):  # raises where they are too small, which arrays need not
        graph.compute_output_spec([input_like(x, arrays[id(x)].shape) for x in tensors])
    own_args, own_kwargs = keras.tree.map_structure(
        functools.partial(replaced, arrays), (args, kwargs)
    )
    attach_masks(layer, own_args, own_kwargs)
    values = [(variable, variable.value) for variable in variables]
    told = kwargs.get("training")  # what a Functional model around it says goes before that
    for training in (told, told is not True):
        flag = {} if training is None else {"training": training}
        expected = call_with_losses(layer, values, *own_args, **{**own_kwargs, **flag})
        actual = call_with_losses(graph, values, given, training=bool(training))
        found = _compared(expected, actual)
        if found is not None:
            return f"{found}{' in training' * bool(training)}"
    return None


def _drawn(tensors, of_known, size):
    generator = np.random.default_rng(0)
    return {id(x): draw(known, generator, size=size) for x, known in zip(tensors, of_known)}


def _compared(expected, actual):
    (outputs, changes, losses), (other_outputs, other_changes, other_losses) = expected, actual
    if len(losses) != len(other_losses):
        return "its call() adds a loss"
    if len(keras.tree.flatten(outputs)) != len(keras.tree.flatten(other_outputs)):
        return "it returns something else than tensors"
    if not _close(outputs, other_outputs):
        return "its outputs are others than those of the layers and operations that it calls"
    new, other_new = ({id(v): value for v, value in c} for c in (changes, other_changes))
    for variable, _ in (*changes, *other_changes):
        both = [each.get(id(variable), variable.value) for each in (new, other_new)]
        if not _close(*both):
            return f"it gives '{variable.path}' another value than the layers that it calls"
    return None


def _close(first, second):
    return all(
        np.allclose(*map(ops.convert_to_numpy, pair), rtol=1e-3, atol=1e-4, equal_nan=True)
        for pair in zip(keras.tree.flatten(first), keras.tree.flatten(second))
    )
