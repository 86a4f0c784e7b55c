"""Compactors made diagonal: what the layers before them take up."""

import keras
import numpy as np
from keras import ops

import resrep_keras
from resrep_keras import ResRep
from resrep_keras.training.early_removal.removal import remove_early
from tests import helpers
from tests.training.early_removal.models import (
    crossentropy,
    data,
    two_convolutions,
    with_dead_channels,
)


def test_the_new_batch_statistics_are_those_of_the_mixed_channels():
    """From a batch of data, the variance is known up to that of the running average."""
    model = resrep_keras.wrap(two_convolutions(), ResRep(0.2, compactor="full", slim_every=1))
    model.compile("sgd", crossentropy())
    model.optimizer.build(model.trainable_variables)
    x = data(6, 2, 64)[0] @ np.array([[1, 0.9], [0.9, 1]], "float32")  # correlated channels
    norm = model.get_layer("norm")
    norm.momentum = 0.0
    model(x, training=True)  # so that the statistics are those of this batch
    helpers.scramble(model)
    channel_state, dead = with_dead_channels(model)
    assert remove_early(model, channel_state, dead, False, ops.convert_to_tensor(x))[1]
    mixed = keras.Model(model.input, model.get_layer("first").output)(x)
    values = ops.convert_to_numpy(mixed).reshape(-1, mixed.shape[-1])
    norm = model.get_layer("norm")
    np.testing.assert_allclose(np.array(norm.moving_variance), values.var(axis=0), rtol=1e-3)
    np.testing.assert_allclose(np.array(norm.moving_mean), values.mean(axis=0), atol=1e-3)
