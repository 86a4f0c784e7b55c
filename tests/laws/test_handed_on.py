"""What is known of a model is handed on: it is recorded once, and traced once."""

import collections

import pytest

import resrep_keras
from resrep_keras.graph import record, trace
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers, zoo
from tests.sampling import sample_pairs

TARGETS = [0.3, {"macs": 0.3, "params": 0.2}]
NAMES = ["chain", "residual", "mobilenet_block", "recurrent", "nested", "subclassed"]
PAIRS = sample_pairs(NAMES, TARGETS)


@pytest.fixture(name="counted")
def counted_calls(monkeypatch):
    """How often each model is recorded, and each recording traced."""
    counts, held = collections.Counter(), []

    def count(module, name):
        original = getattr(module, name)

        def counting(first, *args, **kwargs):
            held.append(first)  # an id is not given anew
            counts[name, id(first)] += 1
            return original(first, *args, **kwargs)

        monkeypatch.setattr(module, name, counting)

    count(record, "record")
    count(trace, "trace_recording")
    return counts


@pytest.mark.parametrize(("name", "target"), PAIRS, ids=str)
def test_wrap_reads_each_model_once(counted, name, target):
    resrep_keras.wrap(zoo.build(name), resrep_keras.ResRep(target))
    _check(counted, models=2 if target == TARGETS[0] else 3)


@pytest.mark.parametrize(("name", "target"), PAIRS, ids=str)
def test_finalize_reads_each_model_once(counted, name, target):
    wrapped = resrep_keras.wrap(zoo.build(name), resrep_keras.ResRep(target))
    channel_state = ChannelState(wrapped)
    kept = wrapped.method.choose(channel_state, channel_state.norms())
    helpers.kill(wrapped, kept, channel_state)
    counted.clear()
    resrep_keras.finalize(wrapped, strict=True)
    # The wrapped and the slim model, and the folded one that tells further costs.
    _check(counted, models=2 if target == TARGETS[0] else 3)


@pytest.mark.parametrize(("name", "target"), PAIRS, ids=str)
def test_prune_reads_each_model_once(counted, name, target):
    resrep_keras.MagnitudePruning(target).prune(zoo.build(name))
    # The dense and the slim model, which the certificate compares.
    _check(counted, models=2 if target == TARGETS[0] else 3)


def _check(counted, models):
    assert set(counted.values()) == {1}
    assert sum(name == "record" for name, _ in counted) == models
