"""Which variables are trunk, and which belong to a head."""

import keras
import pytest
from keras import layers

import resrep_keras
from resrep_keras import FineTuning
from resrep_keras.methods.consolidation.places import places_of
from tests.methods.consolidation import nets


def test_what_one_output_reads_alone_is_its_head():
    places = places_of(nets.dense_model(3))
    assert places.trunk == ("first/kernel", "first/bias", "second/kernel", "second/bias")
    assert places.tasks == {
        f"head_{task}/{kind}": [task] for task in range(3) for kind in ("kernel", "bias")
    }


def test_what_some_outputs_read_is_trunk_for_those():
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="all")(inputs)
    y = layers.Dense(3, name="two", use_bias=False)(x)
    heads = [layers.Dense(2, name=f"head_{n}", use_bias=False)(t) for n, t in enumerate((x, y, y))]
    places = places_of(keras.Model(inputs, heads))
    assert places.trunk == ("all/kernel", "all/bias", "two/kernel")
    assert places.tasks["two/kernel"] == [1, 2]


def test_a_head_of_several_layers_and_a_shared_one():
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="trunk")(inputs)
    shared = layers.Dense(2, name="shared")
    deep = layers.Dense(2, name="out")(layers.Dense(3, name="deep")(x))
    places = places_of(keras.Model(inputs, [deep, shared(x), shared(layers.ReLU()(x))]))
    assert set(places.tasks) == {
        "deep/kernel",
        "deep/bias",
        "out/kernel",
        "out/bias",
        "shared/kernel",
        "shared/bias",
    }
    assert "shared/kernel" in places.trunk and places.tasks["shared/kernel"] == [1, 2]


def test_with_one_output_all_is_trunk_but_the_heads():
    assert len(places_of(nets.one_head()).trunk) == 4
    for heads in (["head"], ("h*",)):
        assert places_of(nets.one_head(), heads).trunk == ("first/kernel", "first/bias")


def test_heads_inside_of_nested_models_are_found_by_the_name_of_these():
    inner_input = keras.Input((8,))
    inner = keras.Model(inner_input, layers.Dense(3, name="last")(inner_input), name="classifier")
    inputs = keras.Input((5,))
    dense = keras.Model(inputs, inner(layers.Dense(8, name="first")(inputs)))
    model = nets.wrapped(FineTuning(heads=["classifier"]), dense)
    model.optimizer.build(model.trainable_variables)
    assert {each.variable.path for each in model.optimizer.held} == {"first/kernel", "first/bias"}


def test_what_cannot_be_is_told():
    with pytest.raises(ValueError, match=r"heads to be the name.*got 'nope'"):
        resrep_keras.wrap(nets.one_head(), FineTuning(heads=["nope"]))
    with pytest.raises(ValueError, match=r"heads=None for model .* with 3 outputs"):
        resrep_keras.wrap(nets.dense_model(), FineTuning(heads=["head_0"]))
    with pytest.raises(ValueError, match=r"Nothing to consolidate .* nothing beside .* is trained"):
        resrep_keras.wrap(nets.one_head(), FineTuning(heads=["*"]))
    inputs = keras.Input((4,))
    apart = keras.Model(inputs, [layers.Dense(2)(inputs), layers.Dense(2)(inputs)])
    with pytest.raises(
        ValueError, match=r"none of its trainable variables is read by two of its 2"
    ):
        resrep_keras.wrap(apart, FineTuning())
    frozen = nets.dense_model()
    frozen.trainable = False
    with pytest.raises(ValueError, match=r"Nothing to consolidate"):
        resrep_keras.wrap(frozen, FineTuning())
