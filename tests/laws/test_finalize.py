"""Law 3: finalize equals the masked model, and law 4: its cost is the predicted one."""

import keras
import pytest

import resrep_keras
from resrep_keras.graph.trace import recording_of
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
    assert type(slim) is type(keras.Model(slim.inputs, slim.outputs))


@pytest.mark.parametrize("name", zoo.SAMPLE)
def test_slim_keeps_the_dense_layer_names(name):
    model = zoo.build(name)
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.1))
    helpers.kill(wrapped, helpers.random_keep(*_graph_and_groups(wrapped), seed=1))
    wrapped.method = None
    slim = resrep_keras.finalize(wrapped)
    assert _names(slim) <= _names(model)
    assert resrep_keras.trace(slim).groups[-1].size == resrep_keras.trace(model).groups[-1].size


def _names(model):
    """The names of layers; raw operations may be numbered anew."""
    calls = recording_of(model).all_calls()
    return {s.name for s in calls if isinstance(s.operation, keras.layers.Layer)}


def _graph_and_groups(wrapped):
    channel_state = ChannelState(wrapped)
    return channel_state.graph, channel_state.groups


@pytest.mark.parametrize("name", zoo.SAMPLE)
def test_wrapped_groups_are_the_dense_groups(name):
    model = zoo.build(name)
    method = resrep_keras.ResRep(0.1, coupled=True)
    wrapped = resrep_keras.wrap(model, method)
    dense = _by_producers(method.groups(resrep_keras.trace(model)))
    assert _by_producers(ChannelState(wrapped).groups) == dense


def _by_producers(groups):
    return {frozenset(p.name for p in group.producers): group.size for group in groups}
