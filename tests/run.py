"""Runs the test files named as arguments: the main of every py_test in BUILD."""

import sys

import pytest

sys.exit(pytest.main(sys.argv[1:]))
