"""What the signature of a call says of the argument `training`."""

import keras
from keras import layers, ops

from resrep_keras.common.training_flag import has_training_argument, trains_by_default


class Own(layers.Layer):
    def call(self, inputs, training=True):
        return inputs


def test_the_training_argument_is_seen_in_the_signature():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, ops.relu(inputs))
    having = layers.Dropout(0.5), layers.BatchNormalization(), Own(), model
    assert all(has_training_argument(layer) for layer in having)
    for operation in (layers.Flatten(), model.operations[-1]):
        assert not has_training_argument(operation)


def test_who_trains_where_it_is_told_nothing():
    assert trains_by_default(Own())
    assert not any(map(trains_by_default, (layers.Dropout(0.5), layers.Flatten())))
