"""What a rule relies on, read from the code of a class."""

import gc
import weakref

import keras
import pytest
from keras import layers

from resrep_keras.costs.macs import macs
from resrep_keras.graph.flow import flow, has_rule
from resrep_keras.graph.inheritance import change_of, changed_on_object
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.scored import ScoredCompactor
from resrep_keras.surgery.narrow import narrow


class Base(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.factor = 2.0

    def call(self, inputs):
        return self.hook(inputs) * self.factor

    def hook(self, inputs):
        return (lambda x: x + self.inside)(inputs)

    def get_config(self):
        return {"factor": self.unused}


def subclass(**members):
    return type("Changed", (Base,), members)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"call": lambda self, x: x}, "overrides call"),
        ({"__call__": lambda self, x: x}, "overrides __call__"),
        ({"hook": lambda self, x: x}, "overrides hook"),
        ({"factor": property(lambda self: 1.0, lambda self, value: None)}, "overrides factor"),
        ({"inside": 3.0}, "overrides inside"),  # a name in a function in a function
        ({"call": lambda self, x: x, "hook": None}, "overrides call and hook"),
        ({"build": lambda self, shape: None}, None),
        ({"get_config": lambda self: {}, "unused": 1}, None),
        ({"of_its_own": lambda self: 1, "__doc__": "Another one."}, None),
    ],
)
def test_what_call_uses_is_relied_on(members, text):
    layer = subclass(**members)()
    assert change_of(layer, Base) == text
    assert change_of(layer, type(layer)) is None


def test_what_is_set_on_the_object():
    layer = Base()
    assert change_of(layer, Base) is None and changed_on_object(layer) == []
    layer.hook = lambda inputs: inputs
    layer.note = lambda: "mine"
    assert changed_on_object(layer) == ["hook"]
    assert change_of(layer, Base) == "has hook set on the object"


def test_weights_that_the_code_of_the_base_does_not_name():
    kind = type("Weighted", (layers.Dense,), {})
    layer = kind(3)
    assert change_of(layer, layers.Dense) is None
    layer.extra = layers.Dense(2)
    assert change_of(layer, layers.Dense) == "has weights of its own in extra"
    other = kind(3)
    other.scale = other.add_weight(shape=(3,))
    assert change_of(other, layers.Dense) == "has weights of its own in scale"


def test_layers_of_keras_hold_layers_of_keras():
    layer = layers.SimpleRNN(2)
    assert change_of(layer, layers.SimpleRNN) is None
    layer.cell = type("Cell", (layers.SimpleRNNCell,), {})(2)
    assert change_of(layer, layers.SimpleRNN) == "has a Cell as cell"
    assert change_of(layers.TimeDistributed(Base()), layers.TimeDistributed) is None
    assert change_of(layers.Dense(2, activation=Base()), layers.Dense) is None


LAYERS = [
    layers.Dense(2),
    layers.Conv2D(2, 1),
    layers.DepthwiseConv2D(1),
    layers.SeparableConv1D(2, 1),
    layers.EinsumDense("ab,bc->ac", (None, 2)),
    layers.LSTM(2),
    layers.GRU(2),
    layers.ConvLSTM1D(2, 1),
    layers.Bidirectional(layers.LSTM(2)),
    layers.MultiHeadAttention(2, 2),
    layers.GroupQueryAttention(2, 2, 1),
    layers.SpectralNormalization(layers.Dense(2)),
    layers.BatchNormalization(),
    layers.Embedding(3, 2),
    layers.PReLU(),
    layers.Dense(2, activation=layers.PReLU()),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_nothing_is_changed_in_layers_of_keras(layer):
    assert change_of(layer, type(layer)) is None
    same = type("Same", (type(layer),), {})
    assert change_of(same.from_config(layer.get_config()), type(layer)) is None


@pytest.mark.parametrize("kind", [Compactor, ScoredCompactor])
def test_the_layers_of_this_library_have_rules(kind):
    layer = kind()
    layer.build((None, 4))
    for question in (flow, narrow, macs):
        assert has_rule(question, layer)


def test_no_class_lives_longer_for_having_been_looked_at():
    kind = subclass(hook=lambda self, x: x)
    change_of(kind(), Base)
    changed_on_object(kind())
    seen = weakref.ref(kind)
    del kind
    keras.utils.clear_session()
    gc.collect()
    assert seen() is None
