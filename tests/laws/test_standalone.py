"""Law 9: the slim model loads in a process that cannot import resrep_keras."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import resrep_keras
from tests import helpers, zoo

pytestmark = pytest.mark.tensorflow_only

SCRIPT = """
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


def test_slim_models_load_without_the_package(tmp_path):
    # Layers of one's own, and those that the applications define, need their own code to load.
    names = [name for name in zoo.ZOO if name not in ("unknown_layer", "applications_layers")]
    for name in names:
        wrapped = resrep_keras.wrap(zoo.build(name), resrep_keras.MagnitudePruning(0.05))
        wrapped.method.update(*_pruning(wrapped))
        slim = resrep_keras.finalize(wrapped, strict=True)
        resrep_keras.export(slim, tmp_path / f"{name}.keras")
        inputs = helpers.example_inputs(slim)
        np.savez(tmp_path / f"{name}_in.npz", *[np.asarray(x) for x in keras.tree.flatten(inputs)])
        np.savez(tmp_path / f"{name}_expected.npz", *helpers.outputs_of(slim))
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), *names]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""})
    for name in names:
        expected, actual = (
            dict(np.load(tmp_path / f"{name}_{which}.npz")) for which in ("expected", "out")
        )
        for key in expected:
            np.testing.assert_allclose(actual[key], expected[key], rtol=1e-5, atol=1e-5)


def _pruning(wrapped):
    from resrep_keras.methods.channels.channel_state import ChannelState

    return ChannelState(wrapped), None, None, 0
