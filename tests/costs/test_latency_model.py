"""The latency model: tables by hand, a fit that is checked, and widths that are never slower."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras import ResRep
from resrep_keras.costs.latency_model import LatencyCost, LatencyTable, measure_latency
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.surgery.remove import remove_channels
from resrep_keras.tflite.convert import to_tflite
from resrep_keras.tflite.run import seconds_alone
from tests import helpers, zoo

STEPS = LatencyTable("conv", (8, 16, 24, 32), (1.0, 1.0, 2.0, 1.5), (4, 8), (0.6, 1.0))


@pytest.mark.parametrize(
    ("outputs", "inputs", "seconds"),
    [
        (32, None, 1.5),
        (8, None, 1.0),
        (5, None, 1.0),  # narrower than what was timed: as the narrowest
        (20, None, 2.0),  # the next timed width is a step
        (28, None, 2.0),  # 32 is fast, 24 is not: what lies between counts as the slower
        (32, 6, 1.5 * 0.8),
        (32, 2, 1.5 * 0.4),  # a straight line goes on below what was timed
    ],
)
def test_a_table_by_hand(outputs, inputs, seconds):
    assert STEPS(outputs, inputs) == pytest.approx(seconds)


def test_efficient_widths_are_those_that_no_wider_one_beats():
    assert STEPS.efficient() == (16, 32)
    falling = LatencyTable("conv", (8, 16, 24), (1.0, 2.0, 3.0))
    assert falling.efficient() == (8, 16, 24)


def facts_of(graph, seconds):
    """Facts as `measure_latency` finds them, with made-up seconds for each width."""
    tables = []
    for call in graph.calls:
        if isinstance(call.operation, layers.Conv2D):
            widths = tuple(range(1, call.operation.filters + 1))
            times = tuple(seconds(width) for width in widths)
            tables.append({"name": call.name, "outputs": widths, "seconds": times})
    return {"scale": 1.0, "rest": 0.0, "tables": tables}


def with_latency(method, seconds, name="chain"):
    """A channel_state whose latency is made up."""
    channel_state = ChannelState(resrep_keras.wrap(zoo.build(name), ResRep(0.01)))
    facts = facts_of(channel_state.folded.graph, seconds)
    baseline = channel_state.baseline
    dense = {**baseline.dense, "latency": LatencyCost(channel_state.folded.graph, facts)()}
    channel_state.baseline = dataclasses.replace(baseline, dense=dense, facts={"latency": facts})
    return channel_state


@pytest.mark.parametrize("seed", range(4))
def test_automatic_widths_are_never_slower(seed):
    """Kernels of four channels at a time; an odd number is slower than the next even one."""
    method = ResRep(0.4, channel_multiple="auto")
    channel_state = with_latency(method, lambda n: -(-n // 4) + 0.5 * (n % 2))
    scores = np.random.default_rng(seed).uniform(size=channel_state.graph.num_channels)
    latency = channel_state.predicted("latency")
    rounded = method.choose(channel_state, scores)
    plain = ResRep(0.4).choose(channel_state, scores)
    assert latency(rounded) <= latency(plain)
    assert channel_state.predicted("macs")(rounded) <= 0.6 * channel_state.baseline.dense["macs"]


def test_automatic_widths_give_way_where_they_do_not_gain():
    method = ResRep(0.4, channel_multiple="auto")
    channel_state = with_latency(method, lambda n: 1.0)  # no width is faster than the dense one
    scores = np.arange(channel_state.graph.num_channels, dtype=float)
    plain = ResRep(0.4).choose(channel_state, scores)
    np.testing.assert_array_equal(method.choose(channel_state, scores), plain)


def test_a_target_of_latency_is_met_in_the_model():
    method = ResRep({"latency": 0.3})
    channel_state = with_latency(method, lambda n: n + 1.0)
    kept = method.choose(channel_state, np.ones(channel_state.graph.num_channels))
    latency = channel_state.predicted("latency")
    assert latency(kept) <= 0.7 * latency()
    assert latency(kept) > 0.5 * latency()


@pytest.mark.tensorflow_only
def test_a_measured_model_predicts_a_slim_one():
    """A net whose layers can be timed on a busy machine; the bound is loose there."""
    x = inputs = keras.Input((32, 32, 16))
    for filters in (64, 64, 64):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    graph = resrep_keras.trace(model)
    facts = measure_latency(graph, threads=1)
    cost = LatencyCost(graph, facts)
    assert cost() == pytest.approx(seconds_alone(to_tflite(model)), rel=0.5)
    kept = helpers.random_keep(graph, [g for g in graph.groups if g.prunable], seed=1, share=0.5)
    slim = remove_channels(model, graph.keep_by_producer(kept))
    assert cost(kept) == pytest.approx(seconds_alone(to_tflite(slim)), rel=0.5)
    assert cost(kept) < cost()


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow can")
@pytest.mark.parametrize("quantity", ["latency", "file_bytes"])
def test_other_backends_refuse_in_words(quantity):
    with pytest.raises(ValueError, match="TFLite needs the TensorFlow backend"):
        resrep_keras.wrap(zoo.build("chain"), ResRep({quantity: 0.3}))
