"""What trace finds in the zoo: groups, sites, gates and reasons."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from tests import zoo


def status(name):
    graph = resrep_keras.trace(zoo.build(name))
    return graph, {group.name: group for group in graph.groups}


def sizes(graph, **what):
    return [g.size for g in graph.groups if all(getattr(g, k) == v for k, v in what.items())]


def test_all_but_the_output_is_prunable_in_a_chain():
    graph, _ = status("chain")
    assert sizes(graph, prunable=True) == [6, 8, 5]
    assert sizes(graph, prunable=False) == [3]
    assert "output of the model" in str(graph.groups[-1].reason)


def test_flatten_keeps_channels_apart():
    graph, _ = status("vgg")
    assert sizes(graph, prunable=True) == [6, 8, 10, 9]


def test_a_residual_stream_is_one_coupled_group():
    graph, _ = status("residual")
    coupled = [g for g in graph.groups if g.coupled]
    assert [(g.size, len(g.producers)) for g in coupled] == [(6, 3)]
    assert sizes(graph, prunable=True, coupled=False) == [6, 6]


def test_projection_and_block_are_coupled():
    graph, _ = status("projection_residual")
    assert sizes(graph, coupled=True) == [8]
    assert sizes(graph, prunable=True, coupled=False) == [4, 6]


def test_compactor_stands_behind_the_batch_norm_that_alone_reads_the_layer():
    model = zoo.build("bottleneck")
    graph = resrep_keras.trace(model)
    by_name = {layer.name: layer for layer in model.layers}
    for group in graph.groups:
        for site in group.sites if group.prunable else ():
            assert isinstance(by_name[site.layer], layers.BatchNormalization)


def test_constants_that_fold_need_no_gate():
    graph, _ = status("mobilenet_block")
    assert sizes(graph, prunable=True, coupled=False) == [12, 9]
    assert not [s for g in graph.groups for s in g.sites if s.diagonal]


def test_a_constant_before_a_padded_convolution_gets_a_gate():
    graph, _ = status("constant_at_the_border")
    gates = {site.layer for group in graph.groups for site in group.sites if site.diagonal}
    assert len(gates) == 1
    assert sizes(graph, prunable=True, coupled=False) == [6, 5, 4]


def test_squeeze_excite_follows_its_stream_behind_a_gate():
    graph, _ = status("squeeze_excite")
    stream = graph.groups[0]
    assert not stream.coupled and stream.prunable
    assert [p.follows for p in stream.producers] == [False, True]
    assert [s.diagonal for s in stream.sites] == [False, True]


def test_concatenation_does_not_couple_its_branches():
    graph, _ = status("concatenate")
    assert sorted(sizes(graph, prunable=True, coupled=False)) == [3, 4, 4, 5, 6, 7]


def test_dense_block_channels_are_read_by_many_and_still_free():
    graph, _ = status("dense_block")
    assert sorted(sizes(graph, prunable=True, coupled=False)) == [4, 4, 5, 5, 6]


def test_a_shared_layer_makes_one_decision():
    graph, _ = status("shared_layer")
    assert sorted(sizes(graph, prunable=True)) == [6, 7]


def test_an_unknown_layer_pins_its_neighbours_and_nothing_else():
    graph, _ = status("unknown_layer")
    pinned = [g for g in graph.groups if not g.prunable]
    assert sorted(g.size for g in pinned) == [3, 8]
    assert any("Mystery has no rule" in str(g.reason) for g in pinned)
    assert sorted(sizes(graph, prunable=True)) == [5, 6]
    assert any("flow.register(Mystery)" in pin.text for pin in graph.pins)


def test_an_activation_that_is_not_zero_at_zero_pins_before_a_padded_convolution():
    graph, _ = status("softplus_border")
    assert sizes(graph, prunable=False)[0] == 6
    assert "no bias can hold" in str(graph.groups[0].reason)
    assert sizes(graph, prunable=True) == [5, 4]


def test_a_subclass_that_overrides_call_is_unknown():
    class Mirrored(layers.Conv2D):
        def call(self, inputs):
            return super().call(inputs[..., ::-1])

    class Renamed(layers.Conv2D):
        pass

    x = inputs = keras.Input((6, 6, 2))
    x = Renamed(4, 3)(x)
    x = Mirrored(5, 3)(x)
    graph = resrep_keras.trace(keras.Model(inputs, layers.Conv2D(2, 1)(x)))
    assert [g.size for g in graph.groups] == [4, 5, 2]  # what it makes goes, though
    assert [g.prunable for g in graph.groups] == [False, True, False]
    assert "Mirrored has no rule" in str(graph.groups[0].reason)


def test_a_custom_activation_is_probed():
    def swap(x):
        return keras.ops.flip(x, axis=-1)

    def squash(x):
        return x / (1 + keras.ops.abs(x))

    for function, prunable in ((swap, False), (squash, True), ("softmax", False)):
        x = inputs = keras.Input((6, 6, 2))
        x = layers.Conv2D(4, 3, activation=function)(x)
        graph = resrep_keras.trace(keras.Model(inputs, layers.Conv2D(2, 1)(x)))
        assert graph.groups[0].prunable is prunable


def test_a_rule_registered_from_outside_frees_a_layer():
    from resrep_keras.graph.flow import flow

    class Share(layers.Layer):
        def call(self, inputs):
            return inputs - ops.var(inputs, axis=-1, keepdims=True)

    def model():
        x = inputs = keras.Input((6, 6, 2))
        x = Share()(layers.Conv2D(4, 3)(x))
        return keras.Model(inputs, layers.Conv2D(2, 1)(x))

    assert not resrep_keras.trace(model()).groups[0].prunable

    @flow.register(Share)
    def _(layer, call):
        return call.input.replace(shape=call.output_shape)

    assert resrep_keras.trace(model()).groups[0].prunable


def test_concatenation_along_an_unknown_axis_couples_channels():
    a, b = keras.Input((None, 4, 3)), keras.Input((None, 4, 3))
    x = layers.Concatenate(axis=1)([layers.Conv2D(5, 1)(a), layers.Conv2D(5, 1)(b)])
    graph = resrep_keras.trace(keras.Model([a, b], layers.Conv2D(2, 1)(x)))
    assert graph.groups[0].prunable and graph.groups[0].size == 5
    assert len(graph.groups[0].producers) == 2


def test_trace_leaves_the_model_alone():
    model = zoo.build("residual")
    before = model.get_config()
    outputs = [layer.output for layer in model.layers]
    resrep_keras.trace(model)
    assert model.get_config() == before
    assert all(a is b for a, b in zip(outputs, [layer.output for layer in model.layers]))


def test_keep_masks_are_checked():
    graph = resrep_keras.trace(zoo.build("residual"))
    inner = next(g for g in graph.groups if g.prunable and not g.coupled)
    stream = next(g for g in graph.groups if g.coupled)
    some = np.array([True] * 5 + [False])
    cases = [
        ({"nothing": some}, "that of a layer that makes channels"),
        ({inner.name: some[:4]}, r"bool array of shape \(6,\)"),
        ({inner.name: some.astype(float)}, "got dtype float64"),
        ({inner.name: np.zeros(6, bool)}, "removes all 6 channels"),
        ({graph.groups[-1].name: np.array([True, True, False])}, "has pinned channels"),
        (
            {stream.producers[0].name: some, stream.producers[1].name: some[::-1]},
            "disagrees with that of a layer coupled to it",
        ),
    ]
    for keep, text in cases:
        with pytest.raises(ValueError, match=text):
            graph.keep_array(keep)


def test_channels_first_is_read_from_the_layer():
    inputs = keras.Input((3, 8, 8))
    x = layers.Conv2D(6, 3, data_format="channels_first", activation="relu")(inputs)
    x = layers.DepthwiseConv2D(3, data_format="channels_first")(x)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.Conv2D(4, 3, data_format="channels_first")(x)
    x = layers.Flatten(data_format="channels_first")(x)
    graph = resrep_keras.trace(keras.Model(inputs, layers.Dense(2)(x)))
    assert [g.size for g in graph.groups if g.prunable] == [6, 4]


def test_one_gate_serves_all_that_read_behind_it():
    """Two padded convolutions behind one batch norm ask for the same gate in one pass."""
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same")(x)
    y = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    heads = [layers.Conv2D(4, 3, padding="same")(y) for _ in range(3)]
    z = layers.Concatenate()([*heads, layers.Conv2D(4, 1)(x)])
    graph = resrep_keras.trace(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(z))))
    assert graph.groups[0].prunable
    assert [(site.layer, site.diagonal) for site in graph.groups[0].sites][1:] == [("norm", True)]


def test_layers_of_one_name_in_two_models_are_told_apart():
    graph = resrep_keras.trace(zoo.build("nested"))
    names = {producer.name for group in graph.groups for producer in group.producers}
    assert {"conv", "out", "outer_conv", "outer_out"} <= names
