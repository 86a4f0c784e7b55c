"""Totals of an explanation: counts, and how far costs can fall."""

import keras
import pytest
from keras import layers

import resrep_keras
from resrep_keras.explanation.explain import explain
from tests import zoo
from tests.explanation.models import model_of


def test_reachable_macs_and_floor_by_hand():
    model = model_of(
        layers.Conv2D(3, 1),
        zoo.Mystery(),
        layers.Conv2D(5, 3, activation="relu"),
        layers.Conv2D(4, 1, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2),
    )
    totals = explain(model).totals
    pinned = 4 * 4 * 2 * 3  # positions, inputs, outputs: neither inputs nor outputs may go
    reachable = 2 * 2 * 9 * 3 * 5 + 2 * 2 * 5 * 4 + 4 * 2
    assert totals.macs == pinned + reachable == 724
    assert totals.macs_reachable == pytest.approx(reachable / 724)
    left = pinned + 2 * 2 * 9 * 3 * 1 + 2 * 2 * 1 * 1 + 1 * 2
    assert totals.floor_macs == {"coupled=False": left, "coupled=True": left}
    share = (724 - left) / 724  # 0.70994...
    assert totals.largest_target_reduction["coupled=True"] == 0.7099 < share


def test_coupled_channels_lower_the_floor():
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="relu")(inputs)
    y = layers.Dense(8)(layers.Dense(6, activation="relu")(x))
    model = keras.Model(inputs, layers.Dense(2)(layers.Add()([x, y])))
    totals = explain(model).totals
    assert totals.macs == 4 * 8 + 8 * 6 + 6 * 8 + 8 * 2
    assert totals.floor_macs["coupled=False"] == 4 * 8 + 8 * 1 + 1 * 8 + 8 * 2
    assert totals.floor_macs["coupled=True"] == 4 * 1 + 1 * 1 + 1 * 1 + 1 * 2
    assert totals.macs_reachable == 1


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("name", ["chain", "residual", "unknown_layer", "squeeze_excite"])
def test_methods_take_the_largest_target_and_no_more(name, coupled):
    model = zoo.ZOO[name]()
    largest = explain(model).totals.largest_target_reduction[f"coupled={coupled}"]
    resrep_keras.wrap(model, resrep_keras.MagnitudePruning(largest, coupled=coupled))
    with pytest.raises(ValueError, match=f"largest target_reduction is {largest}"):
        resrep_keras.wrap(model, resrep_keras.MagnitudePruning(largest + 0.0001, coupled=coupled))


def test_unknown_sizes_leave_costs_open_until_they_are_given():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, zoo.head(zoo.conv_bn(inputs, 4)))
    explanation = explain(model)
    totals = explanation.totals
    assert totals.macs is totals.macs_reachable is totals.floor_macs is None
    assert totals.largest_target_reduction is None
    assert totals.prunable == 4
    assert "input_shape is needed" in str(explanation)
    known = explain(model, input_shape=(8, 8, 3)).totals
    assert known.macs == 8 * 8 * 9 * 3 * 4 + 4 * 3
    assert known.macs_unknown is None


def test_where_nothing_may_go_the_largest_target_is_zero():
    explanation = explain(model_of(layers.Dense(3), shape=(4,)))
    assert explanation.totals.largest_target_reduction["coupled=True"] == 0
    assert "0 (nothing may go) with coupled=True" in str(explanation)
    empty = explain(model_of(layers.ReLU(), shape=(4,)))
    assert empty.totals.channels == 0 and empty.rows == ()
    assert "no layer that makes channels" in str(empty)
    inputs = keras.Input((4,))
    assert "output" in explain(keras.Model(inputs, inputs)).to_svg()


def test_resnet50_keeps_only_its_classes():
    explanation = explain(keras.applications.ResNet50(weights=None))
    totals = explanation.totals
    # (blocks, inner width): two inner convolutions a block, one at its end, one projection a stage.
    stages = [(3, 64), (4, 128), (6, 256), (3, 512)]
    inner = 64 + sum(2 * blocks * width for blocks, width in stages)
    stream = sum((blocks + 1) * 4 * width for blocks, width in stages)
    assert (totals.prunable, totals.coupled) == (inner, stream)
    assert inner + stream == 26_560
    assert totals.pinned == 1000 and totals.channels == 27_560
    assert totals.macs == 3_857_973_248
    assert totals.macs_reachable == 1
    lines = str(explanation).split("\n\n")[0].splitlines()
    assert len(lines) == 1 + totals.layers == 1 + 54
