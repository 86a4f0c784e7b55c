"""What a masked model computes is what compactors with zero columns make of it."""

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras.graph.trace import trace
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.surgery.forward import example_inputs, play
from resrep_keras.surgery.masked import Masked
from tests import zoo
from tests.helpers import kill, outputs_of, random_keep
from tests.sampling import sample

NAMES = (
    "chain residual squeeze_excite hard_sigmoid_gate shared_layer convolutions grouped_constants "
    "recurrent bidirectional attention time_distributed nested operations"
)


@pytest.mark.parametrize("name", sample(NAMES.split(), every=3))
def test_channels_are_zero_where_compactors_would_stand(name):
    dense = zoo.build(name)
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.01, coupled=True))
    state = ChannelState(wrapped)
    kept = random_keep(state.graph, state.groups, 0)
    kill(wrapped, kept, state)
    graph = trace(dense)
    own = graph.keep_array(state.graph.keep_by_producer(kept))
    masked = play(graph.recording, example_inputs(dense), around=Masked(graph, own))
    for a, b in zip(keras.tree.flatten(masked), outputs_of(wrapped), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * max(1e-12, np.abs(b).max()))
