"""Bytes of the float32 TFLite file are never more than predicted."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras import ResRep
from resrep_keras.costs.file_size import ALIGNMENT, FileCost, measure_file
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.tflite.convert import to_tflite
from tests import helpers, zoo
from tests.sampling import sample_pairs

pytestmark = pytest.mark.tensorflow_only


@pytest.mark.parametrize(
    ("name", "seed"), sample_pairs(["residual", "vgg", "mobilenet_block", "concatenate"], [0, 1])
)
def test_a_file_is_never_larger_than_predicted(name, seed):
    model, channel_state, kept = helpers.masked(name, seed)
    channel_state.baseline = ResRep(target_reduction={"file_bytes": 0.1}).baseline(
        zoo.build(name), channel_state
    )
    slim = resrep_keras.finalize(model)
    predicted = channel_state.predicted("file_bytes")(kept)
    actual = len(to_tflite(slim))
    assert actual <= predicted <= 1.1 * actual + 1500


def test_bytes_of_the_file_are_never_exceeded():
    """From wrap to the converted file, with a share and with a number of bytes."""
    dense = zoo.build("vgg")
    whole = len(to_tflite(dense))
    for settings in (
        {"target_reduction": {"file_bytes": 0.15}},
        {"at_most": {"file_bytes": 7_000}},
    ):
        model = resrep_keras.wrap(dense, ResRep(**{"target_reduction": None, **settings}))
        channel_state = ChannelState(model)
        scores = np.random.default_rng(1).uniform(size=channel_state.graph.num_channels)
        helpers.kill(model, model.method.choose(channel_state, scores), channel_state)
        slim = resrep_keras.finalize(model, strict=True)
        most = settings.get("at_most", {"file_bytes": 0.85 * whole})["file_bytes"]
        assert len(to_tflite(slim)) <= most
        (name, value, at_most), *_ = slim.certificate.limits
        assert (name, value) == ("file_bytes", len(to_tflite(slim))) and at_most <= most


def test_four_bytes_go_with_each_weight_and_the_rest_stays():
    x = inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(6, 3, name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)  # may be folded: its bytes go with nobody
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="top")(x))
    graph = resrep_keras.trace(model)
    cost = FileCost(graph, fixed_bytes=1000)
    assert cost() == 1000 + 4 * ((9 * 3 * 6 + 6) + (6 * 2 + 2))
    kept = graph.keep_array({"conv": np.arange(6) < 4})
    assert cost() - cost(kept) == 4 * 2 * (9 * 3 + 1 + 2)


def test_the_folded_model_is_measured_with_a_margin_for_each_array():
    dense = zoo.build("chain")
    graph = resrep_keras.trace(dense)
    size, fixed = measure_file(dense, dense, graph)
    assert size == len(to_tflite(dense))
    arrays = len(dense.weights)
    assert size <= FileCost(graph, fixed)() <= size + arrays * (ALIGNMENT + 64)
