"""A call that is tried on arrays: as it is, and by a copy of its layer that reads fewer channels.

Nothing of the layer is altered: its variables have other values for the time of a call, and random
numbers and automatic names go on as if it had never been tried.
"""

import collections.abc
import contextlib
import dataclasses
import functools
import math
import random

import keras
import numpy as np
from keras import ops

from resrep_keras.common.training_flag import has_training_argument
from resrep_keras.graph.composite import sublayers, unlisted_variables
from resrep_keras.graph.draw import draw
from resrep_keras.graph.probe import in_words
from resrep_keras.graph.recording import replaced
from resrep_keras.graph.sizes import leaves_open
from resrep_keras.keras_adapter import (
    automatic_names_kept,
    call_with_losses,
    call_with_values,
    exchange_random_generator,
    global_random_state,
    is_layer,
    weights_of_operation,
)
from resrep_keras.surgery.layer_state import PostponedInitializers
from resrep_keras.surgery.rebuild import copy_operation, with_arguments

# What numbers are drawn as: a function that is flat somewhere, or has no value, shows it elsewhere.
KINDS = ("normal", "positive", "large")
MOST_WEIGHTS = 2**25  # of a layer that is tried: it takes memory for some more copies of them
SIZES = (16, 64, 128)  # for unknown sizes: the first that the layer takes


class Untried(Exception):
    """Trying has raised, and so shown nothing of the layer: the text says what it was."""


class Unlike(Exception):
    """Something was tried and does not hold: the text says what."""


class OtherOutputs(Unlike):
    """Outputs have not lost the channels that were chosen before the layer."""


@contextlib.contextmanager
def tried_quietly():
    """While calls are tried: nothing that they draw or name is noticed afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    with automatic_names_kept():
        generator = exchange_random_generator(keras.random.SeedGenerator(0))
        try:
            yield
        finally:
            exchange_random_generator(generator)
            np.random.set_state(numpy)
            random.setstate(python)


@dataclasses.dataclass
class Copy:
    """A copy of the layer of a trial, built by a call on symbolic tensors.

    Args:
        operation: The copy; the original itself where that has no weights and makes no copy.
        changes: The entries of the configuration that differ.
        specs: Its symbolic outputs.
    """

    operation: object
    changes: dict
    specs: list

    @property
    def shapes(self):
        """The shapes of its weights."""
        return [tuple(weight.shape) for weight in weights_of_operation(self.operation)]


class Trial:
    """Runs a call on random arrays.

    Args:
        call: The `Call`.
        axes: Axes that are tried at their full length, beside the last one of each input.
        at_most: The length at which others are tried. Defaults to the full length.

    Attributes:
        inputs: For each of `KINDS`, an array for each symbolic tensor.
        weights: For each of `KINDS`, an array for each weight.
        outputs: For each of `KINDS`, what the layer makes of them.
        output_shapes: The shapes that outputs have at full length.

    Raises:
        Untried: The layer raises on arrays.
    """

    def __init__(self, call, axes=(), at_most=None):
        self.operation = call.operation
        self.args, self.kwargs = call.args, call.kwargs
        self.tensors = list({id(tensor): tensor for tensor in call.tensors[0]}.values())
        self._drawn = [_shorter(tensor, {*axes}, at_most) for tensor in self.tensors]
        self._copies = {}
        count = sum(math.prod(w.shape) for w in weights_of_operation(self.operation))
        if count > MOST_WEIGHTS:
            raise Untried(f"it has {count:,} weights, and is tried with at most {MOST_WEIGHTS:,}")
        drawn = [_weight(weight) for weight in weights_of_operation(self.operation)]
        # There may be many: the same for all kinds but one, in which none is negative.
        self.weights = [[np.abs(w) for w in drawn] if k == "positive" else drawn for k in KINDS]
        sizes = SIZES if leaves_open(self.tensors) else SIZES[:1]
        for size in sizes:
            try:
                self._draw_inputs(size)
                self.output_shapes = _filled(call.output_shapes, self.outputs[0])
                return
            except Untried as error:
                untried = error
            except Exception as error:  # some tensors, such as ragged ones, may not be drawn
                untried = Untried(in_words(error))
        raise untried

    def _draw_inputs(self, size):
        self._size = size
        self.inputs = _OfEachKind(lambda number: self.redrawn(KINDS[number], number))
        self.outputs = _OfEachKind(
            lambda number: self.run(self.inputs[number], self.weights[number])
        )
        if any(y.dtype.kind not in "fViub" for y in self.outputs[0]):
            raise Untried("it gives no numbers")
        if not any(np.isfinite(y).any() for outputs in self.outputs for y in outputs):
            raise Untried("it gives no finite number, neither for normal nor positive numbers")

    def redrawn(self, kind, seed):
        """Other arrays of one of `KINDS`, one for each symbolic tensor."""
        generator = np.random.default_rng(seed)
        drawn = (draw(tensor, generator, size=self._size) for tensor in self._drawn)
        return [_as_kind(kind, array) for array in drawn]

    # Calls ----------------------------------------------------------------------------------------

    def run(self, arrays, weights, copy=None, training=False, seed=0):
        """The outputs of one call of the layer, or of a copy of it, as NumPy arrays.

        Args:
            arrays: One for each symbolic tensor.
            weights: One for each weight.
            copy: A `Copy`. Defaults to the layer itself.
            training: The argument `training`, where the layer takes it.
            seed: Of the random numbers that the layer draws.

        Raises:
            Unlike: The copy raises.
            Untried: The layer itself does.
        """
        operation = self.operation if copy is None else copy.operation
        changes = {} if copy is None else copy.changes
        given = {id(tensor): array for tensor, array in zip(self.tensors, arrays)}
        args, kwargs = self._arguments(given, changes, training)
        try:
            values = _values(operation, weights, seed)
            if is_layer(operation):
                outputs, _, losses = call_with_losses(operation, values, *args, **kwargs)
                self._check_losses(operation, losses)
            else:
                outputs, _ = call_with_values(operation, values, *args, **kwargs)
            return [np.asarray(ops.convert_to_numpy(y)) for y in keras.tree.flatten(outputs)]
        except Untried:
            raise
        except Exception as error:  # a user's own code may fail in any way
            if copy is None:
                raise Untried(in_words(error)) from error
            raise Unlike(f"before or behind it raises {in_words(error)}") from error

    def _check_losses(self, layer, losses):
        """What a call adds to the loss, beside the penalties of its settings, must not change."""
        penalised = [each for each in (layer, *sublayers(layer)) if each.activity_regularizer]
        if losses and not penalised:
            raise Untried("its call() adds a loss, which would be another one of fewer channels")

    def _arguments(self, given, changes, training):
        args, kwargs = keras.tree.map_structure(
            functools.partial(replaced, given), (self.args, self.kwargs)
        )
        if self.may_train:
            kwargs = {**kwargs, "training": training}
        return with_arguments(self, changes, args, kwargs)

    @property
    def may_train(self):
        """Whether the layer can be told that it is in training; a model tells it each time."""
        return has_training_argument(self.operation)

    def copy(self, changes, shapes):
        """A `Copy` for inputs of these shapes, made as `finalize` makes it.

        Raises:
            Unlike: It cannot be made, or does not take them.
        """
        key = repr(changes), tuple(shapes)
        if key not in self._copies:
            try:
                self._copies[key] = self._made(changes, shapes)
            except Exception as error:  # a user's own code may fail in any way
                self._copies[key] = Unlike(f"raises {in_words(error)}")
        found = self._copies[key]
        if isinstance(found, Unlike):
            raise found
        return found

    def symbolic(self, shapes):
        """Arguments of the call with symbolic tensors of other shapes."""
        fresh = {
            id(tensor): keras.KerasTensor(shape, dtype=tensor.dtype, sparse=tensor.sparse)
            for tensor, shape in zip(self.tensors, shapes)
        }
        return keras.tree.map_structure(
            functools.partial(replaced, fresh), (self.args, self.kwargs)
        )

    def _made(self, changes, shapes):
        operation = copy_operation(self.operation, changes)
        if operation is not self.operation:
            PostponedInitializers(operation)
        args, kwargs = with_arguments(self, changes, *self.symbolic(shapes))
        outputs = operation(*args, **kwargs)
        return Copy(operation, changes, keras.tree.flatten(outputs))


class _OfEachKind(collections.abc.Sequence):
    """What there is for each of `KINDS`, made where it is asked for first."""

    def __init__(self, make):
        self._make, self._made = make, {}

    def __len__(self):
        return len(KINDS)

    def __getitem__(self, number):
        if not 0 <= number < len(KINDS):
            raise IndexError(number)
        if number not in self._made:
            self._made[number] = self._make(number)
        return self._made[number]


def _shorter(tensor, axes, at_most):
    """A symbolic tensor of shorter axes."""
    if at_most is None:
        return tensor
    keep = {0, len(tensor.shape) - 1, *axes}
    shape = [n if a in keep or n is None else min(n, at_most) for a, n in enumerate(tensor.shape)]
    return keras.KerasTensor(shape, dtype=tensor.dtype, sparse=tensor.sparse)


def _filled(shapes, arrays):
    """Shapes whose unknown sizes are those of arrays."""
    return [
        tuple(n if n is not None and axis else m for axis, (n, m) in enumerate(zip(known, x.shape)))
        for known, x in zip(shapes, arrays)
    ]


def _values(operation, weights, seed):
    """Pairs of each variable and its value: random numbers start anew with each call."""
    pairs = list(zip(weights_of_operation(operation), weights))
    if not is_layer(operation):
        return pairs
    known = {id(variable) for variable, _ in pairs}
    listed = [*operation.variables, *unlisted_variables(operation)]
    others = [variable for variable in listed if id(variable) not in known]
    pairs += [(v, _seeded(v, seed)) for v in (*others, *global_random_state())]
    return [(v, ops.convert_to_tensor(value, dtype=v.dtype)) for v, value in pairs]


def _seeded(variable, seed):
    """The state of a random generator, the same in each copy; other variables as they are."""
    if "seed" in variable.path:
        return np.full(variable.shape, 7 + seed)
    return ops.convert_to_tensor(variable)


def _as_kind(kind, array):
    if "float" not in str(keras.backend.standardize_dtype(array.dtype)):
        return array
    if kind == "positive":
        return ops.abs(array) + 0.5
    return array * 8.0 if kind == "large" else array


def _weight(variable):
    """Random values, none of them near zero; those that no training moves are positive."""
    if "float" not in variable.dtype:
        return ops.convert_to_numpy(variable)
    generator = np.random.default_rng(len(variable.path))
    shape = tuple(variable.shape)
    values = generator.random(shape, np.float32) + np.float32(0.5)
    if variable.trainable:
        values *= np.where(generator.random(shape, np.float32) < 0.5, np.float32(-1), np.float32(1))
    rows = np.prod(shape[:-1]) if len(shape) > 1 else 1
    return values / np.float32(np.sqrt(max(rows, 1)))


# --- comparing -----------------------------------------------------------------------------------


def tolerance_of(array):
    """How far values of a dtype may be apart that were summed in another order."""
    return 1e-4 if array.dtype.itemsize > 2 else 2e-2


def alike(expected, found):
    """Whether two arrays are equal but for rounding; `None` where neither has a finite value."""
    if expected.shape != found.shape:
        return False
    if expected.dtype.kind not in "fV":
        return bool((expected == found).all())
    tolerance = tolerance_of(expected)
    expected, found = expected.astype("float64"), found.astype("float64")
    finite = np.isfinite(expected)
    if not finite.any():
        return None if not np.isfinite(found).any() else False
    near = {"rtol": tolerance, "atol": tolerance * np.abs(expected[finite]).max()}
    return bool(np.allclose(found, expected, equal_nan=True, **near))
