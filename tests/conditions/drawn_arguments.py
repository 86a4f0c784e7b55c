"""What is given to public callables by mistake, and what their arguments may be."""

import dataclasses
import fractions
import itertools
import numbers
import pathlib
from collections.abc import Callable

import keras
import numpy as np

import resrep_keras as rk


class Broken:
    """An object that answers nothing that Python asks it."""

    def __repr__(self):
        raise RuntimeError("asked")

    __eq__ = __len__ = __iter__ = __bool__ = __float__ = __index__ = __getitem__ = __repr__
    __hash__ = object.__hash__


class Endless:
    """An object with no end of entries, and equal to everything."""

    def __iter__(self):
        return itertools.count()

    def __len__(self):
        return 3

    def __eq__(self, other):
        return True

    __hash__ = None


class Unbuilt(keras.Model):
    """A model that was never called."""

    def call(self, inputs):
        return inputs


def _same(value):
    return lambda: value


NUMBERS = [-1, 0, 1, 2, 7, 64, 10**9, 10**400, -0.5, 0.0, 1e-12, 0.3, 0.5, 0.97, 1.0, 1.5, 1e300]
NUMBERS += [float("nan"), float("inf"), -float("inf"), 1j, fractions.Fraction(1, 3)]
NUMBERS += [np.float32(0.25), np.float64("nan"), np.int64(3), np.uint8(1), np.bool_(True)]
TEXTS = ["", "auto", "conv2d", "*", "nope", "False", "True", "sgd", "macs", "0.5", "\0", b"x"]
ARRAYS = [np.array(0.5), np.zeros((2, 3)), np.array([]), np.array([True, False]), np.array(["a"])]
CONTAINERS = [(), ("*",), {"*": 2}, {"dense*": 0.5}, {"nope": 1}, {3: 4}, {"macs": 0.5}]
CONTAINERS += [{"params": 0}, {"flops": 0.5}, {"macs": "half"}, {"params": 1e12}, {1, 2}, range(5)]
OTHERS = [None, True, False, object, len, keras.Model, keras.layers.Dense, rk.ResRep, rk.GraNet]
OTHERS += [type, NotImplemented, Ellipsis, pathlib.Path, lambda x: x, lambda: 1 / 0]
# Made anew for each call, since a call may change them.
MADE = [list, dict, set, Broken, Endless, object, lambda: [1], lambda: ["conv2d"], lambda: [[]]]
MADE += [lambda: [None], lambda: iter("abc"), lambda: itertools.repeat("a"), lambda: {"a": [1]}]
MADE += [lambda: keras.Sequential([keras.layers.Dense(2)]), lambda: keras.layers.Dense(2)]
MADE += [lambda: keras.optimizers.SGD(), lambda: keras.Input((3,)), lambda: Unbuilt()]
MADE += [lambda: rk.ResRep(0.3), lambda: rk.GraNet(0.5), lambda: keras.callbacks.Callback()]
ODD = [*map(_same, [*NUMBERS, *TEXTS, *ARRAYS, *CONTAINERS, *OTHERS]), *MADE]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What an argument may be.

    Args:
        good: Functions that make values which are always right.
        allows: Whether a value may be accepted.
        odd: Functions that make more values to try.
        required: Whether it must be given.
        called: Whether it is a function of the user's, whose own errors go through.
    """

    good: tuple
    allows: Callable
    odd: tuple = ()
    required: bool = False
    called: bool = False


def required(kind):
    return dataclasses.replace(kind, required=True)


def or_none(kind):
    return dataclasses.replace(kind, allows=lambda value: value is None or kind.allows(value))


def is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def number(*good, low=None, high=None, open_low=False, open_high=False, whole=False):
    """A finite number between two others."""

    def allows(value):
        if not is_number(value) or (whole and not isinstance(value, numbers.Integral)):
            return False
        if not abs(value) < float("inf"):  # NaN, too
            return False
        above = low is None or (value > low if open_low else value >= low)
        return above and (high is None or (value < high if open_high else value <= high))

    return Kind(tuple(map(_same, good)), allows)


def share(*good):
    return number(*good, low=0, high=1, open_low=True, open_high=True)


def per_layer(kind):
    """One value, or one for each pattern of layer names."""

    def allows(value):
        if isinstance(value, dict):
            return all(isinstance(k, str) and kind.allows(v) for k, v in value.items())
        return kind.allows(value)

    return dataclasses.replace(kind, allows=allows)


def one_of(*texts):
    return Kind(tuple(map(_same, texts)), lambda value: isinstance(value, str) and value in texts)


def instance(kinds, *good):
    """An object of some class, made by functions."""
    return Kind(good, lambda value: isinstance(value, kinds))


BOOL = Kind(
    (_same(True), _same(False)),
    lambda value: isinstance(value, (bool, np.bool_)),
    (_same("yes"), _same(0), _same("false")),
)
FUNCTION = Kind(
    (lambda: lambda model: 0.5,),
    lambda value: callable(value) and not isinstance(value, (type, keras.layers.Layer)),
)
PATH = Kind(
    (_same("model.keras"),),
    lambda value: isinstance(value, (str, pathlib.Path)) and str(value) not in ("", "\0"),
)


def is_shape(value):
    """A shape, or a list or dict of shapes."""
    if isinstance(value, dict):
        return all(is_shape(entry) for entry in value.values())
    if isinstance(value, (str, bytes, set)) or not hasattr(value, "__iter__"):
        return value is None
    if not isinstance(value, (list, tuple, range, np.ndarray)):
        return False
    return all(
        entry is None
        or (isinstance(entry, numbers.Integral) and entry is not True and entry >= 1)
        or is_shape(entry)
        for entry in value
    )


SHAPE = Kind((_same(None),), is_shape)


def keep_what_was_given(given, kept):
    """Whether what is kept says the same as what was given."""
    if given is None:
        return True  # stands for a default
    if callable(given):
        return True  # saved by its name
    return _plain(given) == _plain(kept)


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, fractions.Fraction):
        return float(value)
    if hasattr(value, "get_config"):
        return _plain(keras.saving.serialize_keras_object(value))
    return str(value) if isinstance(value, pathlib.Path) else value
