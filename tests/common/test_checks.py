"""Numbers among settings are checked in words."""

import re

import numpy as np
import pytest

from resrep_keras.common.checks import check_number


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
        (10**30, {"whole": True}),
    ],
)
def test_numbers_within_their_bounds_pass(value, bounds):
    check_number("share", value, **bounds)


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
