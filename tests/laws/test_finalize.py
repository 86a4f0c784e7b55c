"""Law 3: finalize equals the masked model, law 4: its cost is the predicted one; names stay."""

import keras
import pytest

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers, zoo
from tests.methods.table import ROWS, each_compactor_and_member

# Some members of the zoo have channels that no weights read.
pytestmark = pytest.mark.filterwarnings("ignore:AOFP keeps all channels")


@each_compactor_and_member
def test_slim_equals_masked(row, name):
    seed = ROWS.index(row)
    model = zoo.build(name, seed)
    wrapped = resrep_keras.wrap(model, row.make())
    helpers.scramble(wrapped, seed)
    channel_state = ChannelState(wrapped)
    kept = helpers.random_keep(channel_state.graph, channel_state.groups, seed)
    assert not kept.all()
    helpers.kill(wrapped, kept, channel_state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wrapped, "method", None)  # any masks, whatever the target
        slim = resrep_keras.finalize(wrapped, strict=True)

    assert helpers.difference(wrapped, slim, seed) <= 1e-4
    assert slim.certificate.max_relative <= 1e-4
    assert channel_state.cost()(kept) == resrep_keras.count_macs(slim)
    assert resrep_keras.count_params(slim) < resrep_keras.count_params(wrapped)
    assert not helpers.compactors(slim)
    assert _names(slim) <= _names(model)
    assert resrep_keras.trace(slim).groups[-1].size == resrep_keras.trace(model).groups[-1].size
    assert type(slim) is type(keras.Model(slim.inputs, slim.outputs))


def _names(model):
    """The names of layers; raw operations may be numbered anew."""
    calls = resrep_keras.trace(model).recording.all_calls()  # in which some layers are opened
    return {s.name for s in calls if isinstance(s.operation, keras.layers.Layer)}
