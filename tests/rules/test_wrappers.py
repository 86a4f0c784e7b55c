"""TimeDistributed and SpectralNormalization."""

import keras
import numpy as np
from keras import layers

from resrep_keras.graph.flow import rule_of
from resrep_keras.graph.record import inner_layer
from resrep_keras.surgery.channel_weights import producing_variable, producing_weights
from resrep_keras.surgery.narrow import narrow, weights_of
from resrep_keras.surgery.rebuild import copy_operation
from tests.rules.calls import ROW, SEQUENCE, Answer, built, mask, part


@keras.saving.register_keras_serializable("test_wrappers")
class Own(layers.TimeDistributed):
    def call(self, inputs, **kwargs):
        return super().call(inputs, **kwargs) + 1


def test_time_distributed_shows_the_layer_inside_unless_call_is_another():
    dense = layers.Dense(2)
    assert inner_layer(layers.TimeDistributed(dense)) is dense
    assert inner_layer(Own(layers.Dense(2))) is None
    assert inner_layer(dense) is None


def test_the_layer_inside_reads_and_makes_channels():
    answer = Answer(layers.TimeDistributed(layers.Dense(2)), SEQUENCE)
    assert answer.ids() == [3, 4]
    assert answer.call.outputs[0].shape == (None, 5, 2)


def test_channels_along_the_time_axis_are_pinned():
    def turned(x):
        return layers.TimeDistributed(layers.Dense(2))(layers.Permute((2, 1))(x))

    assert Answer(turned, SEQUENCE).pins("along the time axis")


def spectral():
    return built(layers.SpectralNormalization(layers.Dense(4)), 3)


def test_a_spectral_normalisation_answers_as_the_layer_inside():
    assert Answer(layers.SpectralNormalization(layers.Dense(2)), ROW).ids() == [3, 4]
    layer = spectral()
    assert rule_of(producing_variable, layer)(layer) == (layer.layer.kernel, 1)
    assert rule_of(producing_weights, layer)(layer).shape == (3, 4)


def test_the_singular_vector_has_an_entry_for_each_output():
    layer = spectral()
    keep = mask(1, 0, 0, 1)
    config, weights = rule_of(narrow, layer)(layer, part(mask(1, 1, 1), keep))
    assert config == {"units": 2, "use_bias": True}
    by_name = dict(zip([w.path.split("/")[-1] for w in layer.weights], weights))
    np.testing.assert_array_equal(by_name["vector_u"], weights_of(layer)["vector_u"][:, keep])
    np.testing.assert_array_equal(by_name["kernel"], weights_of(layer)["kernel"][:, keep])


def test_a_copy_changes_the_layer_inside():
    layer = spectral()
    copy = copy_operation(layer, {"units": 2, "name": "other"})
    assert (copy.name, copy.layer.units, copy.power_iterations) == ("other", 2, 1)
    assert copy.layer is not layer.layer and layer.layer.units == 4
