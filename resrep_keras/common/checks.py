"""Checks of arguments, with errors that say what was expected, what came and how to mend it.

Each check takes the name of the argument and what was given for it, and returns the value as it is
kept: NumPy numbers become Python numbers, paths become `pathlib.Path`.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import os
import pathlib
import reprlib

import keras
import numpy as np

# What an int may be at most: more fits into no variable.
LARGEST_INT = 2**63 - 1

_words = reprlib.Repr()
_words.maxstring = _words.maxother = 120
_words.maxlong = 60


def shown(value):
    """A value in an error: short, and whatever its own `repr` does."""
    return _words.repr(value)


def came(value):
    """What was given, in words: the value and its type, or that it is a class."""
    if inspect.isclass(value):
        return f"got the class {value.__name__} itself"
    return f"got {shown(value)} of type {type(value).__name__}"


def check_number(name, value, at_least=None, above=None, below=None, at_most=None, whole=False):
    """Return a finite number, or a whole one, within the bounds that are given.

    Raises:
        TypeError: Not a number.
        ValueError: Out of bounds.
    """
    bounds = [
        f"of {at_least} or more" * (at_least is not None),
        f"above {above}" * (above is not None),
        f"below {below}" * (below is not None),
        f"of at most {at_most}" * (at_most is not None),
    ]
    words = f"{'an int' if whole else 'a number'} {' and '.join(filter(None, bounds))}".strip()
    real = isinstance(value, numbers.Integral if whole else numbers.Real)
    if isinstance(value, bool) or not real:
        raise TypeError(f"Expected {name} to be {words}; {came(value)}.")
    number = value  # those of NumPy are kept as Python's own
    if type(value) not in (int, float):
        whole_or_not = int if isinstance(value, numbers.Integral) else _as_float
        number = whole_or_not(value)
    if (
        not (abs(number) <= LARGEST_INT if whole else _is_finite(number))
        or (at_least is not None and number < at_least)
        or (above is not None and number <= above)
        or (below is not None and number >= below)
        or (at_most is not None and number > at_most)
    ):
        raise ValueError(f"Expected {name} to be {words}; got {shown(value)}.")
    return number


def check_optional(name, value, check, **how):
    """Return `None`, or what a check returns, where `None` is not the default.

    Raises:
        TypeError, ValueError: What the check raises.
    """
    return None if value is None else check(name, value, **how)


def _as_float(number):
    """A number of NumPy, or a fraction, as Python's own; too large, it is infinite."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _is_finite(number):
    try:
        return math.isfinite(number)
    except OverflowError:  # an int that no float holds
        return False


def check_bool(name, value):
    """Return `True` or `False`; a text is neither, whatever it says.

    Raises:
        TypeError: Not a bool.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"Expected {name} to be True or False; {came(value)}.")
    return bool(value)


def check_choice(name, value, known):
    """Return a text that is one of those that are known.

    Raises:
        TypeError: Not a text.
        ValueError: Another one.
    """
    words = " or ".join(filter(None, [", ".join(map(repr, known[:-1])), repr(known[-1])]))
    if not isinstance(value, str):
        raise TypeError(f"Expected {name} to be {words}; {came(value)}.")
    if value not in known:
        raise ValueError(f"Expected {name} to be {words}; got {shown(value)}.")
    return value


def check_path(name, value):
    """Return a path that a file or folder can have.

    Raises:
        TypeError: Not a path.
        ValueError: A path that is empty, or that no file can have.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"Expected {name} to be a path, a str or pathlib.Path; {came(value)}.")
    text = os.fspath(value)
    if not text or isinstance(text, bytes) or "\0" in text:
        raise ValueError(f"Expected {name} to be the path of a file or folder; got {shown(text)}.")
    return pathlib.Path(text)


def check_instance(name, value, kinds, words):
    """Return a value of one of some kinds; `words` say what they are.

    Raises:
        TypeError: Of another kind, or the class where an object of it is wanted.
    """
    if inspect.isclass(value) and issubclass(value, kinds):
        raise TypeError(
            f"Expected {name} to be {words}; {came(value)}. Make one: {value.__name__}(...)."
        )
    if not isinstance(value, kinds):
        raise TypeError(f"Expected {name} to be {words}; {came(value)}.")
    return value


def check_config(kind, config):
    """Raise unless `config` is a dict of arguments of a class, as its `get_config` returns it.

    Raises:
        TypeError: Something else, or an entry that the class does not take.
    """
    check_instance("config", config, dict, "a dict as get_config() returns it")
    known = inspect.signature(kind).parameters
    for name in config:
        if name not in known:
            raise TypeError(
                f"Expected config to hold arguments of {kind.__name__} ({', '.join(known)}); got "
                f"{shown(name)}."
            )


def as_array(name, value):
    """Return a NumPy array of numbers or bools.

    Raises:
        TypeError: Something else, such as rows of different lengths.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"Expected {name} to be an array; {came(value)}.") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"Expected {name} to be an array of numbers; {came(value)}.")
    return array


def check_function(name, value, words):
    """Return a function; `words` say what it takes and returns.

    Raises:
        TypeError: It cannot be called, or is a class, a layer or a model.
    """
    if not callable(value) or inspect.isclass(value) or isinstance(value, keras.layers.Layer):
        raise TypeError(f"Expected {name} to be {words}; {came(value)}.")
    return value


def check_optimizer(name, value):
    """Return the `keras.optimizers.Optimizer` that is given itself, by name or by its config.

    Raises:
        TypeError: Something else.
        ValueError: A name or config that Keras does not know.
    """
    words = "a keras.optimizers.Optimizer such as keras.optimizers.SGD(0.01), or its name"
    check_instance(name, value, (keras.optimizers.Optimizer, str, dict), words)
    try:
        return keras.optimizers.get(value)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"Expected {name} to be {words}; got {shown(value)}.") from error


def check_activation(name, value):
    """Return the function that is given itself or by name; `None` is no activation.

    Raises:
        TypeError: Something else.
        ValueError: A name that Keras does not know.
    """
    words = "a function, or the name of an activation such as 'relu'"
    if not (value is None or isinstance(value, (str, dict, keras.layers.Layer))):
        check_function(name, value, words)
    try:
        return keras.activations.get(value)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"Expected {name} to be {words}; got {shown(value)}.") from error


# --- settings that say themselves what they may be ------------------------------------------------


def setting(default, check, /, *, kw_only=dataclasses.MISSING, **how):
    """A field of a dataclass of settings, with its check.

    `None` may be given where it is the default.

    >>> momentum: float = setting(0.9, check_number, at_least=0, below=1)

    Args:
        default: Its default.
        check: A function of the name and the value, which returns the value as it is kept.
        kw_only: Whether it is given by name only. Defaults to that of the class.
        **how: What `check` is told beside.
    """
    metadata = {"check": functools.partial(check, **how)}
    return dataclasses.field(default=default, kw_only=kw_only, metadata=metadata)


def check_settings(settings):
    """Check each field of a dataclass that was made by `setting`, there or in a base of it.

    Raises:
        TypeError, ValueError: What the check of a field raises.
    """
    values = vars(settings)
    for field in dataclasses.fields(settings):
        check = _check_of(type(settings), field.name)
        if check is not None and not (values[field.name] is None and field.default is None):
            values[field.name] = check(field.name, values[field.name])


def _check_of(kind, name):
    """The check of a field; a subclass that gives it another default keeps that of its base."""
    for base in kind.__mro__:
        field = vars(base).get("__dataclass_fields__", {}).get(name)
        if field is not None and "check" in field.metadata:
            return field.metadata["check"]
    return None
