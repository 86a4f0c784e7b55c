"""What lies inside of residual blocks is found in the graph, by no names."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.blocks import inside_blocks, is_sum
from resrep_keras.graph.trace import trace
from tests import zoo


def conv(name, x, filters=4, **settings):
    return layers.Conv2D(filters, 3, padding="same", name=name, **settings)(x)


def inside(model):
    found = inside_blocks(trace(model))
    return found and sorted(p.layer for group in found for p in group.producers)


def finish(inputs, x):
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


def residual(add, shortcut=True):
    """A stem, a plain layer, two blocks with two convolutions each, a layer behind."""
    inputs = keras.Input((8, 8, 3))
    x = conv("plain", conv("stem", inputs))
    for block in "ab":
        y = layers.ReLU()(conv(f"{block}1", x))
        y = conv(f"{block}3", layers.ReLU()(conv(f"{block}2", y, 5)))
        other = x if shortcut else conv(f"{block}_shortcut", x)
        x = layers.ReLU()(add(y, other))
    return finish(inputs, conv("behind", x))


ADDS = {
    "layer": lambda a, b: layers.Add()([a, b]),
    "operator": lambda a, b: a + b,
    "operation": ops.add,
}


@pytest.mark.parametrize("shortcut", [True, False], ids=["identity", "projection"])
@pytest.mark.parametrize("add", ADDS)
def test_the_stream_and_what_is_around_blocks_are_not_inside(add, shortcut):
    assert inside(residual(ADDS[add], shortcut)) == ["a1", "a2", "b1", "b2"]


def test_a_block_may_begin_at_the_input():
    inputs = keras.Input((8, 8, 3))
    x = layers.Add()([inputs, conv("second", conv("first", inputs), 3)])
    assert inside(finish(inputs, x)) == ["first"]


def test_sums_of_separate_paths_are_no_blocks():
    left, right = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    towers = [conv(f"{name}2", conv(f"{name}1", x)) for name, x in (("l", left), ("r", right))]
    assert inside(finish([left, right], layers.Add()(towers))) is None


@pytest.mark.parametrize("merge", [layers.Concatenate(), layers.Multiply(), layers.Maximum()])
def test_other_merges_end_no_block(merge):
    inputs = keras.Input((8, 8, 3))
    x = conv("stem", inputs)
    assert inside(finish(inputs, merge([x, conv("two", conv("one", x))]))) is None


def test_a_sum_with_a_constant_or_with_itself_is_no_block():
    inputs = keras.Input((8, 8, 3))
    x = conv("stem", inputs)
    assert inside(finish(inputs, conv("next", x + 1.0))) is None
    assert inside(finish(inputs, conv("next", layers.Add()([x, x])))) is None


def test_a_squeeze_excite_inside_of_a_block_goes_with_its_stream():
    inputs = keras.Input((8, 8, 3))
    x = conv("stem", inputs)
    y = layers.ReLU()(conv("wide", x, 6))
    gate = layers.Dense(2, activation="relu", name="squeeze")(layers.GlobalAveragePooling2D()(y))
    gate = layers.Dense(6, activation="sigmoid", name="excite")(gate)
    y = layers.Multiply()([y, layers.Reshape((1, 1, 6))(gate)])
    x = layers.Add()([x, conv("narrow", y)])
    assert inside(finish(inputs, x)) == ["excite", "squeeze", "wide"]


def test_subclasses_that_compute_something_else_end_no_block():
    class Mean(layers.Add):
        def call(self, inputs):
            return super().call(inputs) / len(inputs)

    assert resrep_keras.graph.flow.rule_of(is_sum, layers.Add())(None)
    assert not resrep_keras.graph.flow.rule_of(is_sum, Mean())(None)


@pytest.mark.parametrize("kind", [resrep_keras.ResRep, resrep_keras.MagnitudePruning])
def test_the_scope_of_a_method(kind):
    model = residual(ADDS["layer"])
    groups = kind(scope="blocks", coupled=True).groups(trace(model))
    assert sorted(group.name for group in groups) == ["a1", "a2", "b1", "b2"]
    # In a model without blocks there is nothing that the scope would leave out.
    chain = trace(zoo.build("chain"))
    assert len(kind(scope="blocks").groups(chain)) == len(kind().groups(chain)) > 1


def test_the_papers_scope_is_that_of_its_experiments():
    model = residual(ADDS["layer"])
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep.paper(target_reduction=0.1))
    sites = [layer.name for layer in wrapped.layers if isinstance(layer, resrep_keras.Compactor)]
    assert sorted(sites) == [f"{name}_compactor" for name in ("a1", "a2", "b1", "b2")]
    np.testing.assert_array_equal(wrapped(np.ones((1, 8, 8, 3))), model(np.ones((1, 8, 8, 3))))
