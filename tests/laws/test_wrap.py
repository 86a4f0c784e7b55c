"""Law 1: wrap changes no output, and leaves the dense model as it is."""

import numpy as np
import pytest

import resrep_keras
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
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", zoo.SAMPLE)
def test_wrapped_shares_no_variable_with_the_dense_model(name):
    model = zoo.build(name)
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.1))
    assert not {id(w) for w in model.weights} & {id(w) for w in wrapped.weights}


def test_identity_compactors_are_bitwise_exact():
    model = zoo.build("chain")
    assert helpers.difference(model, resrep_keras.wrap(model)) == 0
