"""Where the examples are, for tests that use their nets."""

import importlib
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]


def examples(name):
    """Import a module of the examples folder."""
    folder = str(ROOT / "examples")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)
