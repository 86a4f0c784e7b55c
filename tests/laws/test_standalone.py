"""Law 9: the slim model loads in a process that cannot import resrep_keras."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import resrep_keras
from tests import helpers, zoo
from tests.paths import LOAD_WITHOUT_PACKAGE

pytestmark = pytest.mark.tensorflow_only

# Models that hold a class of someone's in the dense form already, whose code they need: why.
OWN_CODE = {
    "unknown_layer": "a layer of one's own",
    "layers_without_rules": "three more",
    "decoder_block": "its last layer reads the table of an embedding",
    "applications_layers": "the applications define them",
    "attention_pooling": "users put SelfAttentionPooling into the dense model themselves",
}


def test_slim_models_load_without_the_package(tmp_path):
    names = [name for name in zoo.ZOO if name not in OWN_CODE]
    for name in names:
        wrapped = resrep_keras.wrap(
            zoo.build(name), resrep_keras.MagnitudePruning(0.05, coupled=True)
        )
        wrapped.method.update(*_pruning(wrapped))
        slim = resrep_keras.finalize(wrapped, strict=True)
        slim.save(tmp_path / f"{name}.keras")
        inputs = helpers.example_inputs(slim)
        np.savez(tmp_path / f"{name}_in.npz", *[np.asarray(x) for x in keras.tree.flatten(inputs)])
        np.savez(tmp_path / f"{name}_expected.npz", *helpers.outputs_of(slim))
    command = [sys.executable, "-c", LOAD_WITHOUT_PACKAGE, str(tmp_path), *names]
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
