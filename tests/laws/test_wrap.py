"""Law 1: wrap changes no output and no group, shares no variable, and leaves the dense model."""

import numpy as np
import pytest

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers, zoo
from tests.methods.table import each_compactor_and_member

# Some members of the zoo have channels that no weights read.
pytestmark = pytest.mark.filterwarnings("ignore:AOFP keeps all channels")


@each_compactor_and_member
def test_wrap_changes_no_output(row, name):
    model = zoo.build(name)
    before = [np.array(w) for w in model.get_weights()]
    wrapped = resrep_keras.wrap(model, row.make())
    assert helpers.compactors(wrapped)
    assert helpers.difference(model, wrapped) <= 1e-6
    assert not {id(w) for w in model.weights} & {id(w) for w in wrapped.weights}
    dense = _by_producers(wrapped.method.groups(resrep_keras.trace(model)))
    assert _by_producers(ChannelState(wrapped).groups) == dense
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def _by_producers(groups):
    return {frozenset(p.name for p in group.producers): group.size for group in groups}


def test_identity_compactors_are_bitwise_exact():
    model = zoo.build("chain")
    assert helpers.difference(model, resrep_keras.wrap(model)) == 0
