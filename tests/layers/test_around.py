"""Whether an optimizer prunes, however it is wrapped, and who is told where it does not."""

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras.layers.around import prunes


def test_an_optimizer_prunes_where_a_wrapper_is_in_it():
    adam = keras.optimizers.Adam()
    wrapper = resrep_keras.PenaltyOptimizer(keras.optimizers.Adam())
    assert prunes(wrapper) and prunes(keras.optimizers.LossScaleOptimizer(wrapper))
    assert not prunes(adam) and not prunes(keras.optimizers.LossScaleOptimizer(adam))
    assert not prunes(None)


@pytest.mark.parametrize("trainable", [True, False])
def test_compactors_put_in_by_hand_tell_where_they_train(trainable, recwarn):
    compactor = resrep_keras.Compactor(trainable=trainable, name="mine")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), compactor], name="net")
    x = np.zeros((2, 3))
    compactor(x, training=True)
    model(x, training=True)
    model.compile(resrep_keras.PenaltyOptimizer("sgd"), "mse")
    model.train_on_batch(x, x)
    assert not [each for each in recwarn if "inside of" in str(each.message)]
    model.compile("sgd", "mse")
    if trainable and keras.backend.backend() != "jax":  # where the model that trains is not known
        with pytest.warns(UserWarning, match="Compactor 'mine' is trained inside of model 'net'"):
            model.train_on_batch(x, x)
    else:
        model.train_on_batch(x, x)
