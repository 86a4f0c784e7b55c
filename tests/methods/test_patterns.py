"""Settings by name, pattern or function."""

import re

import pytest
from keras import layers

from resrep_keras.methods.patterns import (
    ask_exclude,
    check_exclude,
    check_patterns,
    check_per_layer,
    for_layer,
    is_named,
    matches,
)


@pytest.mark.parametrize(
    ("layer", "pattern", "answer"),
    [
        ("conv", "conv", True),
        ("conv_1", "conv", False),
        ("conv_1", "conv*", True),
        ("block1_conv", "block[12]_*", True),
        ("Conv", "conv", False),
        ("odd[name]", "odd[name]", True),  # a name goes before the pattern that it spells
    ],
)
def test_names_and_patterns(layer, pattern, answer):
    assert matches(layer, pattern) == answer


def test_an_exact_name_goes_first_then_the_first_pattern():
    setting = {"conv*": 1, "*": 2, "conv_9": 3}
    found = [for_layer(setting, name, 0) for name in ("conv_1", "dense", "conv_9")]
    assert found == [1, 2, 3]
    assert for_layer({"conv*": 1}, "dense", 0) == 0
    assert for_layer(7, "dense", 0) == 7


def test_each_value_of_a_setting_is_checked():
    def half(name, value):
        assert name.startswith("min_channels")
        return value / 2

    assert check_per_layer("min_channels", {"a": 1, "b": 2}, half) == {"a": 0.5, "b": 1.0}
    assert check_per_layer("min_channels", 3, half) == 1.5
    text = "Expected min_channels to map names or patterns of layers to values; got 3 of type int"
    with pytest.raises(TypeError, match=re.escape(text)):
        check_per_layer("min_channels", {3: 1}, half)


def test_a_pattern_that_fits_no_layer_is_named():
    check_patterns("exclude", ["a*", "b"], {"a1": (), "b": ()})
    with pytest.raises(ValueError, match=r"entry of exclude .*\(a1, b\); got 'c\*'"):
        check_patterns("exclude", ["a*", "c*"], {"a1": (), "b": ()})


def test_what_stands_around_a_layer_comes_after_the_layer_itself():
    setting = {"outer": 1, "inner": 2, "conv*": 3}
    assert for_layer(setting, "conv", 0, ("outer", "inner")) == 3
    assert for_layer(setting, "dense", 0, ("outer", "inner")) == 2
    assert for_layer(setting, "dense", 0, ("outer",)) == 1
    assert is_named("dense", ["out*"], ("outer",)) and not is_named("dense", ["out*"])
    check_patterns("exclude", ["outer"], {"dense": ("outer",)})
    with pytest.raises(ValueError, match=r"stand in \(outer\); got 'other'"):
        check_patterns("exclude", ["other"], {"dense": ("outer",)})


def test_exclude_is_a_tuple_or_a_function_with_a_name():
    def keeps(layer):
        return True

    assert check_exclude("exclude", ["b", "a"]) == ("b", "a")
    assert check_exclude("exclude", {"b", "a"}) == ("a", "b")
    assert check_exclude("exclude", keeps) is keeps and check_exclude("exclude", len) is len


@pytest.mark.parametrize(
    ("exclude", "text"),
    [
        ("conv", "a list of layer names.*got 'conv' of type str"),
        ({"conv": True}, "a list of layer names.*of type dict"),
        (lambda layer: True, "a function with a name.*got <function <lambda>.* of type function"),
        (layers.Dense, "a function with a name.*got the class Dense itself"),
        (3, "names or patterns, or a function that takes a layer; got 3 of type int"),
        ([3], "entries of exclude.*got 3 of type int"),
    ],
)
def test_another_exclude_is_refused(exclude, text):
    with pytest.raises(TypeError, match=text):
        check_exclude("exclude", exclude)


def test_a_function_that_fails_is_told_with_its_layer():
    layer = layers.Dense(2, name="top")
    assert ask_exclude(lambda layer: "yes", layer) is True
    with pytest.raises(TypeError, match=r"'top' of type Dense it raised AttributeError: .*filters"):
        ask_exclude(lambda layer: layer.filters, layer)
