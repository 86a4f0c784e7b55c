"""Arguments are checked in words, and kept as Python has them."""

import dataclasses
import fractions
import pathlib
import re

import keras
import numpy as np
import pytest

from resrep_keras.common.checks import (
    LARGEST_INT,
    as_array,
    came,
    check_activation,
    check_bool,
    check_choice,
    check_config,
    check_function,
    check_instance,
    check_number,
    check_optimizer,
    check_optional,
    check_path,
    check_settings,
    setting,
    shown,
)


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (3, {}),
        (-0.5, {}),
        (0, {"at_least": 0}),
        (1, {"at_most": 1}),
        (0.999, {"above": 0, "below": 1}),
        (np.float32(0.5), {"above": 0}),
        (np.int64(2), {"at_least": 1, "whole": True}),
        (2**62, {"whole": True}),
        (fractions.Fraction(1, 4), {"above": 0, "below": 1}),
    ],
)
def test_numbers_within_their_bounds_pass(value, bounds):
    kept = check_number("share", value, **bounds)
    assert kept == value and type(kept) in (int, float)


@pytest.mark.parametrize(
    ("value", "bounds", "text"),
    [
        (-1, {"at_least": 0}, "Expected share to be a number of 0 or more; got -1."),
        (0, {"above": 0}, "Expected share to be a number above 0; got 0."),
        (1, {"below": 1}, "Expected share to be a number below 1; got 1."),
        (1.5, {"at_most": 1}, "Expected share to be a number of at most 1; got 1.5."),
        (2, {"above": 0, "below": 1}, "to be a number above 0 and below 1; got 2."),
        (0, {"at_least": 1, "whole": True}, "to be an int of 1 or more; got 0."),
        (float("nan"), {}, "Expected share to be a number; got nan."),
        (float("inf"), {"at_least": 0}, "got inf."),
        (float("-inf"), {"below": 1}, "got -inf."),
        (10**400, {}, "Expected share to be a number; got 1000"),
        (2**63, {"whole": True}, "Expected share to be an int; got 9223372036854775808."),
    ],
)
def test_numbers_out_of_bounds(value, bounds, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        check_number("share", value, **bounds)


@pytest.mark.parametrize(
    ("value", "whole", "text"),
    [
        ("0.5", False, "Expected share to be a number; got '0.5' of type str."),
        (None, False, "got None of type NoneType."),
        (True, False, "got True of type bool."),
        (False, True, "Expected share to be an int; got False of type bool."),
        (2.0, True, "Expected share to be an int; got 2.0 of type float."),
        ([1], False, "got [1] of type list."),
        (1 + 0j, False, "of type complex."),
    ],
)
def test_what_is_no_number(value, whole, text):
    with pytest.raises(TypeError, match=re.escape(text)):
        check_number("share", value, whole=whole)


class Broken:
    """Answers nothing that Python asks of an object."""

    def __repr__(self):
        raise RuntimeError

    __eq__ = __len__ = __iter__ = __bool__ = __fspath__ = __repr__
    __hash__ = None


def test_a_value_is_shown_shortly_whatever_it_is():
    assert shown("x" * 10_000).count("x") < 120 and "..." in shown("x" * 10_000)
    assert "Broken" in shown(Broken()) and len(shown(list(range(10**6)))) < 100
    assert came(0.5) == "got 0.5 of type float"
    assert came(keras.Model) == "got the class Model itself"


@pytest.mark.parametrize("value", [True, False, np.True_, np.bool_(False)])
def test_bools(value):
    assert check_bool("coupled", value) is bool(value)


@pytest.mark.parametrize("value", ["False", "yes", 0, 1, None, [], Broken(), np.array([True])])
def test_what_is_no_bool(value):
    with pytest.raises(TypeError, match="Expected coupled to be True or False; got"):
        check_bool("coupled", value)


def test_a_choice_is_one_of_the_known_texts():
    assert check_choice("mode", "b", ("a", "b", "c")) == "b"
    with pytest.raises(ValueError, match="Expected mode to be 'a', 'b' or 'c'; got 'd'"):
        check_choice("mode", "d", ("a", "b", "c"))
    for value in (None, 1, Broken(), np.array(["a", "b"])):
        with pytest.raises(TypeError, match="Expected mode to be 'a'; got"):
            check_choice("mode", value, ("a",))


def test_paths():
    assert check_path("path", "a/b.keras") == pathlib.Path("a/b.keras")
    assert check_path("path", pathlib.Path("a")) == pathlib.Path("a")
    for value in (None, 3, b"a", ["a"], pathlib.Path):
        with pytest.raises(TypeError, match=r"Expected path to be a path, .*; got"):
            check_path("path", value)
    for value in ("", "a\0b"):
        with pytest.raises(ValueError, match="Expected path to be the path of a file or folder"):
            check_path("path", value)


def test_an_object_is_wanted_where_its_class_comes():
    layer = keras.layers.ReLU()
    assert check_instance("layer", layer, keras.layers.Layer, "a layer") is layer
    text = "Expected layer to be a layer; got the class ReLU itself. Make one: ReLU(...)."
    with pytest.raises(TypeError, match=re.escape(text)):
        check_instance("layer", keras.layers.ReLU, keras.layers.Layer, "a layer")
    with pytest.raises(TypeError, match="Expected layer to be a layer; got the class str itself"):
        check_instance("layer", str, keras.layers.Layer, "a layer")
    with pytest.raises(TypeError, match="Expected layer to be a layer; got 1 of type int"):
        check_instance("layer", 1, keras.layers.Layer, "a layer")


def test_functions():
    assert check_function("fit", len, "a function") is len
    for value in (None, "len", int, Broken(), keras.layers.ReLU()):
        with pytest.raises(TypeError, match="Expected fit to be a function; got"):
            check_function("fit", value, "a function")


def test_optimizers():
    adam = keras.optimizers.Adam()
    assert check_optimizer("inner", adam) is adam
    assert isinstance(check_optimizer("inner", "sgd"), keras.optimizers.SGD)
    for value, kind in (("nope", ValueError), ({"a": 1}, ValueError), (None, TypeError)):
        with pytest.raises(kind, match=r"Expected inner to be a keras\.optimizers\.Optimizer"):
            check_optimizer("inner", value)


def test_activations():
    assert check_activation("activation", "relu") is keras.activations.relu
    assert check_activation("activation", None) is keras.activations.linear
    layer = keras.layers.LeakyReLU()
    assert check_activation("activation", layer) is layer
    for value, kind in (("nope", ValueError), ({"a": 1}, ValueError), (3, TypeError)):
        with pytest.raises(kind, match="Expected activation to be a function, or the name"):
            check_activation("activation", value)


def test_arrays():
    assert as_array("mask", [True, False]).dtype == bool
    for value in ("text", [[1], [1, 2]], None, {"a": 1}):
        with pytest.raises(TypeError, match="Expected mask to be an array"):
            as_array("mask", value)


def test_a_config_holds_arguments_of_its_class():
    check_config(Settings, {"share": 0.5})
    with pytest.raises(TypeError, match=r"arguments of Settings \(share, seed, plain\); got 'no'"):
        check_config(Settings, {"share": 0.5, "no": 1})
    with pytest.raises(TypeError, match="Expected config to be a dict"):
        check_config(Settings, [("share", 0.5)])


@dataclasses.dataclass
class Settings:
    share: float = setting(0.5, check_number, above=0, below=1)
    seed: int | None = setting(None, check_number, whole=True)
    plain: object = None

    def __post_init__(self):
        check_settings(self)


@dataclasses.dataclass
class Others(Settings):
    share: float = 0.3


def test_settings_say_themselves_what_they_may_be():
    kept = Settings(np.float64(0.25), np.int64(LARGEST_INT), "anything")
    assert (kept.share, kept.seed, kept.plain) == (0.25, LARGEST_INT, "anything")
    assert type(kept.share) is float and type(kept.seed) is int
    assert Settings(seed=None).seed is None
    with pytest.raises(TypeError, match=r"Expected share to be a number.*got None"):
        Settings(share=None)
    with pytest.raises(TypeError, match="Expected seed to be an int; got '1'"):
        Settings(seed="1")


def test_another_default_keeps_the_check():
    assert Others().share == 0.3
    with pytest.raises(ValueError, match="Expected share to be a number above 0 and below 1"):
        Others(2)


def test_none_may_stand_for_a_setting_that_has_another_default():
    assert check_optional("samples", None, check_number, at_least=1) is None
    assert check_optional("samples", 3, check_number, at_least=1) == 3
    with pytest.raises(ValueError, match="samples to be a number of 1 or more; got 0"):
        check_optional("samples", 0, check_number, at_least=1)
