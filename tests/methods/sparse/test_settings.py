"""The settings of sparse training."""

import pytest

from resrep_keras.methods.sparse.settings import SparseSettings


def test_exclude_becomes_a_tuple():
    assert SparseSettings(exclude=["head", "*/bias"]).exclude == ("head", "*/bias")


@pytest.mark.parametrize(
    "settings",
    [
        {"initial_sparsity": 0.5, "final_sparsity": 0.5},  # masks that only move
        {"begin": 0.0, "end": 1.0},
        {"regrow_rate": 0.0, "regrow_end": 0.0},
        {"interval": None},
    ],
)
def test_bounds_that_are_allowed(settings):
    SparseSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"final_sparsity": 1.0}, ValueError, "final_sparsity to be a number of 0 or more and"),
        (
            {"initial_sparsity": 0.6, "final_sparsity": 0.5},
            ValueError,
            "final_sparsity to be a number of 0.6 or more and below 1; got 0.5",
        ),
        ({"begin": 0.5, "end": 0.5}, ValueError, "end to be a number above 0.5 and of at most 1"),
        ({"end": 1.1}, ValueError, "got 1.1"),
        ({"interval": 0}, ValueError, "interval to be an int of 1 or more; got 0"),
        ({"seed": 0.5}, TypeError, "seed to be an int of 0 or more; got 0.5 of type float"),
        ({"regrow_rate": 1}, ValueError, "regrow_rate to be a number of 0 or more and below 1"),
        ({"growth": "most"}, ValueError, "growth to be 'gradient' or 'random'; got 'most'"),
        ({"scope": "all"}, ValueError, "scope to be 'global' or 'layer'; got 'all'"),
        ({"distribution": "even"}, ValueError, "distribution to be 'erk', .*; got 'even'"),
        ({"exclude": "head"}, TypeError, "exclude to be a list of layer names.*; got 'head'"),
        ({"exclude": [3]}, TypeError, "entries of exclude to be.*got 3"),
    ],
)
def test_bad_settings(settings, error, text):
    with pytest.raises(error, match=text):
        SparseSettings(**settings)
