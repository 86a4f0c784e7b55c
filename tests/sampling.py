"""Parameters of which some are in every run, and the others in slow ones."""

import itertools

import pytest


def sample(values, every=2, first=0):
    """The values; but for each `every`-th, from the one at `first` on, they are `slow`."""
    return [
        value if number % every == first else pytest.param(value, marks=pytest.mark.slow)
        for number, value in enumerate(values)
    ]


def sample_pairs(rows, columns, every=1):
    """All pairs of two lists; those on a diagonal, or each `every`-th there, are in every run."""
    across = max(len(rows), len(columns))
    diagonal = {(n % len(rows), n % len(columns)) for n in range(0, across, every)}
    places = itertools.product(range(len(rows)), range(len(columns)))
    return [
        pytest.param(rows[a], columns[b], marks=() if (a, b) in diagonal else pytest.mark.slow)
        for a, b in places
    ]
