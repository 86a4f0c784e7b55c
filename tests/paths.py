"""Where examples and benchmarks are, for tests that use their nets."""

import importlib
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]


def examples(name):
    """Import a module of the examples folder."""
    return _imported("examples", name)


def distributed(name):
    """Import a module of the folder of distributed examples."""
    return _imported("examples/distributed", name)


def benchmarks(name):
    """Import a module of the benchmarks folder."""
    return _imported("benchmarks", name)


def _imported(folder, name):
    folder = str(ROOT / folder)
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)


# Loads models in a process that cannot import the library, and writes their outputs.
LOAD_WITHOUT_PACKAGE = """
import sys
sys.modules["resrep_keras"] = None
import keras, numpy as np
for name in sys.argv[2:]:
    model = keras.models.load_model(f"{sys.argv[1]}/{name}.keras")
    inputs = dict(np.load(f"{sys.argv[1]}/{name}_in.npz"))
    inputs = [inputs[key] for key in sorted(inputs)]
    inputs = keras.tree.pack_sequence_as(model.input, inputs)
    outputs = keras.tree.flatten(model(inputs, training=False))
    np.savez(f"{sys.argv[1]}/{name}_out.npz", *[np.asarray(o) for o in outputs])
"""
