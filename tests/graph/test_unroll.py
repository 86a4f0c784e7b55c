"""Forms in which models come: subclasses of Functional, unknown sizes, dicts, compiled models."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.surgery.remove import remove_channels
from tests import helpers, zoo


@keras.saving.register_keras_serializable("test_model_forms")
class Backbone(keras.Model):
    """A Functional subclass with a configuration of its own, as in KerasHub."""

    def __init__(self, width, **kwargs):
        inputs = keras.Input((None, None, 3))
        x = zoo.conv_bn(inputs, width)
        super().__init__(inputs=inputs, outputs=zoo.conv_bn(x, 2 * width), **kwargs)
        self.width = width

    def get_config(self):
        return {"width": self.width, "name": self.name}


def classifier():
    inputs = keras.Input((8, 8, 3))
    return zoo.randomise(keras.Model(inputs, zoo.head(Backbone(4, name="backbone")(inputs))))


def pruned(model, seed=0):
    graph = resrep_keras.trace(model)
    groups = [group for group in graph.groups if group.prunable]
    keep = graph.keep_by_producer(helpers.random_keep(graph, groups, seed))
    assert keep
    return remove_channels(model, keep)


def test_a_functional_subclass_becomes_a_plain_model(tmp_path):
    slim = pruned(zoo.randomise(Backbone(6)))
    assert type(slim) is type(keras.Model(slim.inputs, slim.outputs))
    resrep_keras.export(slim, tmp_path / "slim.keras")
    loaded = keras.models.load_model(tmp_path / "slim.keras")
    assert loaded.count_params() == slim.count_params() < Backbone(6).count_params()


def test_a_functional_subclass_inside_a_model_is_written_out():
    model = classifier()
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.3))
    assert helpers.difference(model, wrapped) == 0
    assert len(helpers.compactors(wrapped)) == 2


def test_unknown_sizes_need_an_input_shape_for_costs_alone():
    model = zoo.randomise(Backbone(6))
    assert [group.size for group in resrep_keras.trace(model).groups] == [6, 12]
    with pytest.raises(ValueError, match="Give input_shape"):
        resrep_keras.wrap(model)
    method = resrep_keras.MagnitudePruning(0.3, input_shape=(12, 12, 3))
    slim = method.prune(model)
    assert slim.input_shape == (None, None, None, 3)
    cost = resrep_keras.count_macs(slim, (12, 12, 3))
    assert cost <= 0.7 * resrep_keras.count_macs(model, (12, 12, 3))


def test_an_inner_model_that_is_called_with_training_false():
    inputs = keras.Input((8, 8, 3))
    x = Backbone(4)(inputs, training=False)
    model = zoo.randomise(keras.Model(inputs, zoo.head(x)))
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.3))
    assert helpers.difference(model, wrapped) == 0


def test_a_frozen_inner_model_stays_frozen():
    inputs = keras.Input((8, 8, 3))
    backbone = Backbone(4)
    backbone.trainable = False
    model = keras.Model(inputs, zoo.head(backbone(inputs)))
    slim = pruned(zoo.randomise(model))
    assert len(slim.trainable_weights) == len(model.trainable_weights) == 2


def test_several_inputs_and_outputs_in_dicts_fit_and_finalize():
    dense = zoo.build("nested")
    dense.compile("sgd", {"same": "mse"}, metrics={"same": ["mae"]})
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.3))
    assert wrapped.compiled
    x = {name: np.random.default_rng(0).normal(size=(8, 6, 6, 2)) for name in "ab"}
    history = wrapped.fit(x, {"same": np.zeros((8, 2))}, batch_size=2, epochs=6, verbose=0)
    assert "mae" in "".join(history.history)
    slim = resrep_keras.finalize(wrapped, strict=True, data=x)
    assert slim.certificate.data_max_relative <= 1e-4
    assert set(slim(x)) == {"same"}


def test_a_subclassed_model_with_a_dict_of_inputs():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = layers.Dense(6, "relu"), layers.Dense(7, "relu")
            self.join, self.top = layers.Concatenate(), layers.Dense(2)

        def call(self, inputs):
            return {"y": self.top(self.join([self.first(inputs["a"]), self.second(inputs["b"])]))}

    model = Two()
    data = {"a": np.ones((2, 3), "float32"), "b": np.ones((2, 4), "float32")}
    model(data)
    zoo.randomise(model)
    slim = pruned(model)
    graph = resrep_keras.trace(model)
    assert [group.size for group in graph.groups if group.prunable] == [6, 7]
    assert set(slim(data)) == {"y"}


def test_layers_that_are_called_by_keyword():
    inputs = keras.Input((4, 6))
    x = layers.TimeDistributed(layers.Dense(7))(inputs=inputs)
    x = layers.BatchNormalization()(inputs=layers.Activation("relu")(x))
    model = zoo.randomise(keras.Model(inputs, layers.Dense(2)(inputs=layers.Dense(5)(x))))
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.2))
    assert helpers.difference(model, wrapped) == 0
    slim = pruned(model)
    assert resrep_keras.count_macs(slim) < resrep_keras.count_macs(model)
    assert slim.input_shape == (None, 4, 6)


def test_a_shared_model_keeps_one_set_of_weights():
    model = zoo.build("nested")
    slim = pruned(model)
    names = [layer.name for layer in slim.layers]
    assert len(names) == len(set(names))
    assert slim.count_params() < model.count_params()


def test_a_model_deeper_than_the_recursion_limit_is_wrapped():
    x = inputs = keras.Input((4,))
    for _ in range(600):
        x = layers.Dense(4)(x)
    model = keras.Model(inputs, x)
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.1, compactor="diagonal"))
    assert len(wrapped.layers) > 1000
