"""One channel stays of each tensor that a layer with weights reads, not of each producer alone."""

import time

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.costs.budget import Limit, choose_keep
from resrep_keras.costs.macs import MacCost
from resrep_keras.graph.trace import trace
from resrep_keras.methods.channels.aofp import AOFP
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers, zoo
from tests.methods.channels.searches import begun


def weak(model, channels, name="made"):
    """The model with weights of some channels of a layer a thousandth as large."""
    kernel = model.get_layer(name).kernel
    values = ops.convert_to_numpy(kernel).copy()
    values[..., channels] *= 1e-3
    kernel.assign(values)
    return model


def split(readers=(3, 3)):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 1, name="made")(inputs)
    a, b = ops.split(x, 2, -1)
    a = layers.Conv2D(4, readers[0], padding="same", name="first")(a)
    b = layers.Conv2D(4, readers[1], padding="same", name="second")(b)
    x = layers.Concatenate()([a, b])
    return zoo.randomise(
        keras.Model(inputs, layers.Dense(2, name="top")(layers.GlobalAveragePooling2D()(x)))
    )


def sliced():
    """One channel is read by a layer of its own."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 1, name="made")(inputs)
    a = layers.Conv2D(4, 1, name="first")(x[..., :1])
    b = layers.Conv2D(4, 1, name="second")(x[..., 2:5])
    x = layers.Concatenate()([a, b, layers.Conv2D(3, 1, name="third")(x)])
    return zoo.randomise(
        keras.Model(inputs, layers.Dense(2, name="top")(layers.GlobalAveragePooling2D()(x)))
    )


def normalised():
    """A batch normalisation reads the part, and a depthwise layer the other one."""
    inputs = keras.Input((6, 6, 3))
    a, b = ops.split(layers.Conv2D(8, 1, use_bias=False, name="made")(inputs), 2, -1)
    a = layers.ReLU()(layers.BatchNormalization(name="first")(a))
    b = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="second")(b)
    x = layers.Conv2D(5, 1, name="mix")(layers.Concatenate()([a, b]))
    return zoo.randomise(
        keras.Model(inputs, layers.Dense(2, name="top")(layers.GlobalAveragePooling2D()(x)))
    )


def stream():
    """Two producers of a stream that is split."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 1, name="made")(inputs)
    x = layers.Add()([x, layers.Conv2D(8, 3, padding="same", name="other")(inputs)])
    a, b = ops.split(x, 2, -1)
    a = layers.Conv2D(4, 3, padding="same", name="first")(a)
    b = layers.Conv2D(4, 3, padding="same", name="second")(b)
    x = layers.Concatenate()([a, b])
    return zoo.randomise(
        keras.Model(inputs, layers.Dense(2, name="top")(layers.GlobalAveragePooling2D()(x)))
    )


BUILDS = {"split": split, "sliced": sliced, "normalised": normalised, "stream": stream}
READ_FIRST = {"split": range(4), "sliced": [0], "normalised": range(4), "stream": range(4)}


def has_no_empty_weight(model):
    return all(min(w.shape, default=1) > 0 for w in model.weights)


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize(
    "kind", [resrep_keras.MagnitudePruning, resrep_keras.FPGM, resrep_keras.RandomPruning]
)
def test_no_reader_is_left_with_nothing(kind, name):
    model = weak(BUILDS[name](), list(READ_FIRST[name]))
    if name == "stream":
        weak(model, list(READ_FIRST[name]), "other")
    slim = kind(0.4, coupled=True).prune(model)
    assert has_no_empty_weight(slim)
    slim(np.zeros((1, 6, 6, 3), "float32"))


def test_the_best_channel_of_a_part_stays():
    model = weak(split(), [0, 1, 2, 3])
    kernel = ops.convert_to_numpy(model.get_layer("made").kernel)
    best = int(np.abs(kernel[..., :4]).sum(axis=(0, 1, 2)).argmax())
    slim = resrep_keras.MagnitudePruning({"macs": 0.4}).prune(model)
    assert slim.get_layer("first").kernel.shape[2] == 1
    np.testing.assert_allclose(
        ops.convert_to_numpy(slim.get_layer("made").kernel)[..., 0], kernel[..., best], rtol=1e-6
    )


def test_what_is_read_is_found():
    graph = trace(sliced())
    made = graph.group("made").channels
    found = {read.reader: read.channels.tolist() for read in graph.read_channels}
    assert found == {"first": made[:1].tolist(), "second": made[2:5].tolist()}
    assert trace(zoo.build("residual")).read_channels == ()


def test_a_tensor_of_two_producers_read_in_parts():
    """Half of each: one of the larger share is more than enough."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Concatenate()(
        [layers.Conv2D(4, 1, name="one")(inputs), layers.Conv2D(4, 1, name="two")(inputs)]
    )
    x = layers.Concatenate()(
        [layers.Conv2D(3, 1, name="inner")(x[..., 3:6]), layers.Conv2D(3, 1, name="whole")(x)]
    )
    model = zoo.randomise(keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x))))
    weak(weak(model, [3], "one"), [0, 1], "two")
    slim = resrep_keras.MagnitudePruning(0.5).prune(model)
    assert slim.get_layer("inner").kernel.shape[2] == 1


def test_a_minimum_is_that_of_the_layer_not_of_its_parts():
    model = weak(split(), [0, 1, 2, 3])
    slim = resrep_keras.MagnitudePruning(0.3, min_channels={"made": 5}).prune(model)
    assert slim.get_layer("made").kernel.shape[-1] >= 5
    assert slim.get_layer("first").kernel.shape[2] >= 1


def test_a_multiple_holds_in_each_part():
    model = weak(split(), [0, 1, 2, 3])
    slim = resrep_keras.MagnitudePruning(0.3, channel_multiple=2).prune(model)
    assert slim.get_layer("first").kernel.shape[2] % 2 == 0
    assert has_no_empty_weight(slim)


def test_keep_masks_that_empty_a_part_are_refused():
    graph = trace(split())
    with pytest.raises(ValueError, match="remove all 4 channels that layer 'first' reads"):
        graph.keep_array({"made": np.arange(8) >= 4})


def test_a_model_whose_columns_all_died_keeps_one_of_each_part():
    wrapped = resrep_keras.wrap(split(), resrep_keras.ResRep(0.01))
    state = ChannelState(wrapped)
    kept = np.ones(state.graph.num_channels, bool)
    kept[state.graph.group("made").channels[:4]] = False
    helpers.kill(wrapped, kept, state)
    slim = resrep_keras.finalize(wrapped)
    assert slim.get_layer("first").kernel.shape[2] == 1
    assert slim.get_layer("second").kernel.shape[2] == 4
    assert slim.certificate.max_relative < 1e-5


def test_resrep_masks_none_of_the_last():
    wrapped = resrep_keras.wrap(split(), resrep_keras.ResRep(0.4))
    state, method = ChannelState(wrapped), wrapped.method
    scores = method.scores(state)
    scores[state.graph.group("made").channels[:4]] = 1e-3
    kept = method.choose(state, scores)
    assert kept[state.graph.group("made").channels[:4]].sum() == 1


def test_aofp_moves_leave_a_channel(monkeypatch):
    wrapped = resrep_keras.wrap(split(), AOFP(None, max_damage=0.5))
    state, searches = begun(wrapped)
    search = next(s for s in searches if s.group.name == "made")
    damages = np.where(np.arange(8) < 4, 0.0, 1.0)  # the first half does no damage
    monkeypatch.setattr(type(search.compactor), "means", lambda layer: damages)
    wrapped.method._decide(state, search, [], 10)
    assert state.kept()[search.ids].tolist() == [False] * 3 + [True] * 5


def test_zero_weights_leave_a_channel():
    model = split()
    layer = model.get_layer("made")
    layer.set_weights([w * np.r_[np.zeros(4), np.ones(4)] for w in layer.get_weights()])
    slim = helpers.remove_zero_channels(model)
    assert slim.get_layer("first").kernel.shape[2] == 1
    assert helpers.difference(model, slim) < 1e-5


@pytest.mark.parametrize("width", [2, 3, 4, 7])
def test_a_redesigned_net_has_something_in_each_part(width):
    fresh = resrep_keras.redesign(split(), {"made": width})
    widths = [fresh.get_layer(name).kernel.shape[2] for name in ("first", "second")]
    assert min(widths) >= 1 and sum(widths) == width


def test_a_redesigned_net_narrower_than_its_parts_is_refused():
    with pytest.raises(ValueError, match=r"a part of the channels \(2, 3.*got 1"):
        resrep_keras.redesign(split(), {"made": 1})


def test_parts_cost_no_time():
    """30,720 channels, of which each of 30 layers is split."""
    inputs = x = keras.Input((4,))
    for _ in range(30):
        a, b = ops.split(layers.Dense(1024)(x), 2, -1)
        x = layers.Add()([layers.Dense(4)(a), layers.Dense(4)(b)])
    graph = trace(keras.Model(inputs, layers.Dense(2)(x)))
    assert len(graph.read_channels) == 60
    cost = MacCost(graph)
    scores = np.random.default_rng(0).uniform(size=graph.num_channels)
    begin = time.perf_counter()
    kept = choose_keep(graph, scores, [Limit("macs", cost, cost() // 2, cost())])
    assert time.perf_counter() - begin < 2.0
    assert cost(kept) <= cost() // 2
