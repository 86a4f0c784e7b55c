"""The setting input_shape: forms, what it may say, and what it may not."""

import keras
import numpy as np
import pytest

from resrep_keras.graph.sizes import check_input_shape, sized


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, None),
        ([8, np.int64(8), 3], (8, 8, 3)),
        ((), ()),
        ((None, 3), (None, 3)),
        ([(10, 4), [7, 5]], ((10, 4), (7, 5))),
        ({"a": [10, 4], "b": None}, {"a": (10, 4), "b": None}),
    ],
)
def test_shapes_are_kept_as_tuples_of_ints(given, kept):
    found = check_input_shape(given)
    assert found == kept
    assert check_input_shape(found) == kept
    flat = [size for size in keras.tree.flatten(found) if size is not None]
    assert all(type(size) is int for size in flat)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ("224", TypeError, "input_shape to be a tuple"),
        (224, TypeError, "input_shape to be a tuple"),
        ((8, "8", 3), TypeError, "input_shape to be a tuple"),
        ((8, 0, 3), ValueError, "of 1 or more; got 0"),
        ((8, 2.5), TypeError, "an int"),
        ((8, True), TypeError, "an int"),
        ([(8, -1)], ValueError, "of 1 or more; got -1"),
        ({"a": 3}, TypeError, "got 3 of type int"),
    ],
)
def test_other_settings_are_refused_in_words(given, error, text):
    with pytest.raises(error, match=text):
        check_input_shape(given)


A, B = keras.KerasTensor((None, None, 4), name="a"), keras.KerasTensor((2, 7, None), name="b")


def sizes_of(inputs, given):
    return [tensor.shape for tensor in keras.tree.flatten(sized(inputs, given))]


@pytest.mark.parametrize("given", [(10, 4), (10, None), [(10, 4)], {"a": (10, 4)}])
@pytest.mark.parametrize("inputs", [A, [A]])
def test_one_input_takes_one_shape(inputs, given):
    assert sizes_of(inputs, given) == [(None, 10, 4)]


@pytest.mark.parametrize(
    "given", [[(10, 4), (7, 5)], ((10, 4), (None, 5)), {"b": (7, 5), "a": (10, 4)}]
)
@pytest.mark.parametrize("inputs", [[A, B], (A, B), {"a": A, "b": B}])
def test_several_inputs_take_a_shape_each(inputs, given):
    if isinstance(inputs, dict) and not isinstance(given, dict):
        with pytest.raises(ValueError, match=r"a shape for each of 2 inputs, \['a', 'b'\]"):
            sized(inputs, given)
    else:
        assert sizes_of(inputs, given) == [(None, 10, 4), (2, 7, 5)]


def test_what_is_not_named_stays_open():
    assert sizes_of([A, B], None) == [(None, None, 4), (2, 7, None)]
    assert sizes_of([A, B], [None, (7, 5)]) == [(None, None, 4), (2, 7, 5)]
    assert sizes_of({"a": A, "b": B}, {"b": (7, 5)}) == [(None, None, 4), (2, 7, 5)]
    assert sizes_of([A, {"c": [B]}], [(3, 4), {"c": [(7, 6)]}]) == [(None, 3, 4), (2, 7, 6)]


@pytest.mark.parametrize(
    ("inputs", "given", "text"),
    [
        (A, (10, 5), r"'a' has the shape \(None, 4\).*\(10, 5\) contradicts"),
        (A, (10, 4, 1), "contradicts"),
        (A, (), "a shape for each of 1 inputs"),
        ([A, B], (10, 4), "a shape for each of 2 inputs"),
        ([A, B], [(10, 4)], "a shape for each of 2 inputs"),
        ([A, B], [(10, 4), (6, 5)], r"'b' has the shape \(7, None\).*\(6, 5\) contradicts"),
        ({"a": A, "b": B}, {"c": (10, 4)}, "a shape for each of 2 inputs"),
        ([A, B], {"c": (10, 4)}, "a shape for each of 2 inputs"),
    ],
)
def test_contradictions_are_told_with_both_shapes(inputs, given, text):
    with pytest.raises(ValueError, match=text):
        sized(inputs, given)
