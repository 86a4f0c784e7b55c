"""A group of many members competes fairly: norms are a mean over members, effects a sum."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.network_slimming import NetworkSlimming, scales_of
from resrep_keras.optimizers.taylor import TaylorOptimizer
from tests import zoo
from tests.methods.channels.searches import begun

WITH_STREAMS = ("residual", "projection_residual", "preactivation", "mobilenet_block", "recurrent")


def state_of(name, **settings):
    method = resrep_keras.ResRep(0.01, coupled=True, **settings)
    return ChannelState(resrep_keras.wrap(zoo.build(name), method)), method


@pytest.mark.parametrize("compactor", ["full", "diagonal"])
@pytest.mark.parametrize("name", WITH_STREAMS)
def test_all_groups_start_alike(name, compactor):
    state, _ = state_of(name, compactor=compactor)
    norms = state.norms()
    np.testing.assert_array_equal(norms[np.isfinite(norms)], 1.0)


def residual_net():
    """A stream of three producers, and two convolutions inside of blocks."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 1, name="stem")(inputs)
    for block in (1, 2):
        y = layers.Conv2D(8, 3, padding="same", activation="relu", name=f"inside{block}")(x)
        x = layers.Add()([x, layers.Conv2D(8, 3, padding="same", name=f"outside{block}")(y)])
    return zoo.randomise(keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))))


def scaled(factors):
    """The state of `residual_net`, wrapped, its columns scaled by the names of their layers."""
    method = resrep_keras.ResRep(0.3, coupled=True, score="norm", guard=0)
    model = resrep_keras.wrap(residual_net(), method)
    for name, factor in factors.items():
        compactor = model.get_layer(f"{name}_compactor")
        compactor.kernel.assign(compactor.kernel * factor)
    return ChannelState(model), method


def removed_first(factors):
    """Names of the groups that lose channels for a target of three tenths."""
    state, method = scaled(factors)
    kept = method.choose(state, method.scores(state))
    return [group.name for group in state.groups if not kept[group.channels].all()]


def test_a_stream_goes_where_it_is_worth_least():
    assert removed_first({"stem": 0.5, "outside1": 0.5, "outside2": 0.5}) == ["stem"]


def test_a_stream_stays_where_the_rest_is_worth_less():
    assert removed_first({"inside1": 0.5}) == ["inside1"]


def test_the_norm_of_a_stream_is_the_root_mean_square_of_its_members():
    state, _ = scaled({"stem": 3.0, "outside1": 4.0, "outside2": 0.0})
    stream = state.graph.group("stem").channels
    np.testing.assert_allclose(state.norms()[stream], ((3**2 + 4**2 + 0**2) / 3) ** 0.5)


def taylor_scores(model, of):
    """Scores of a wrapped model whose compactors have seen squared changes of `of(layer)`."""
    method = resrep_keras.TaylorPruning(0.01, coupled=True)
    model = resrep_keras.wrap(model, method)
    optimizer = method.optimizer(keras.optimizers.SGD(), model)
    assert isinstance(optimizer, TaylorOptimizer)
    optimizer.build(model.trainable_variables)
    state = ChannelState(model)
    for layer, _ in state.compactors:
        sums = optimizer.observer.sums(layer.kernel)
        sums.assign(np.full(sums.shape, of(layer.name)))
    return state, method.scores(state, optimizer)


def test_effects_on_the_loss_add_up_over_members():
    seen = {"stem_compactor": 1.0, "outside1_compactor": 10.0, "outside2_compactor": 100.0}
    state, scores = taylor_scores(residual_net(), lambda name: seen.get(name, 7.0))
    assert set(scores[state.graph.group("stem").channels]) == {1.0 + 10.0 + 100.0}
    assert set(scores[state.graph.group("inside1").channels]) == {7.0}


def depthwise_net():
    """Zeros of one convolution are made again behind the depthwise layer that it feeds."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(6, 1, use_bias=False, name="expand")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(name="depth_norm")(x)
    x = layers.Conv2D(4, 3, padding="same", name="project")(x)  # takes zeros only: a second site
    return zoo.randomise(keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x))))


def test_a_compactor_behind_a_depthwise_layer_is_no_member():
    """It stands behind what the convolution before it has made, and sees the same removal."""
    model = depthwise_net()
    state, scores = taylor_scores(model, lambda name: 5.0 if name.startswith("norm") else 1000.0)
    names = sorted(layer.name for layer, _ in state.compactors)
    assert names == ["depth_norm_compactor", "norm_compactor", "project_compactor"]
    assert set(scores[state.graph.group("expand").channels]) == {5.0}


def test_scales_of_a_stream_are_a_mean():
    state, _ = state_of("residual")
    method = NetworkSlimming(0.01, coupled=True)
    scores = method.scores(state)
    scales = {id(gamma): np.abs(ops.convert_to_numpy(gamma)) for gamma, _ in scales_of(state)}
    for group in state.groups:
        own = [
            scales[id(gamma)] for gamma, ids in scales_of(state) if set(ids) & set(group.channels)
        ]
        if own:
            np.testing.assert_allclose(scores[group.channels], np.mean(own, axis=0), rtol=1e-6)


def test_damages_at_several_readers_add_up():
    inputs = keras.Input((5, 5, 2))
    x = layers.Conv2D(4, 1, activation="relu", name="made")(inputs)
    readers = [layers.Conv2D(3, 1, use_bias=False, name=f"reader{n}")(x) for n in (1, 2)]
    outputs = [layers.GlobalAveragePooling2D()(y) for y in readers]
    model = zoo.randomise(keras.Model(inputs, outputs))
    # The energies at the two readers differ by far: a share of their sum would not see the second.
    model.get_layer("reader1").kernel.assign(model.get_layer("reader1").kernel * 100.0)
    wrapped = resrep_keras.wrap(model, resrep_keras.AOFP(0.1))
    _, searches = begun(wrapped)
    values = np.random.default_rng(0).normal(size=(7, 5, 5, 2)).astype("float32")
    wrapped(values, training=True)
    layer = searches[0].compactor
    drawn = ops.convert_to_numpy(layer.draws)
    read = ops.convert_to_numpy(keras.Model(inputs, model.get_layer("reader1").input)(values))
    expected = 0.0
    for name in ("reader1", "reader2"):
        kernel = ops.convert_to_numpy(model.get_layer(name).kernel)[0, 0]
        y, cut = read @ kernel, (read * (1 - drawn)) @ kernel
        expected += ((y - cut) ** 2).sum() / (y**2).sum()
    np.testing.assert_allclose(ops.convert_to_numpy(layer.damage), expected * drawn, rtol=1e-4)
