"""What a copy takes over of a layer beside its configuration."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.surgery.layer_state import (
    PostponedInitializers,
    copy_adapted_state,
    copy_state,
    lost_initializers,
)


def built(layer, width=3):
    layer.build((None, width))
    return layer


def test_weights_flags_and_what_hangs_on_variables():
    first, second = built(layers.Dense(2)), built(layers.Dense(2))
    first.bias.trainable = False
    first.kernel.constraint = keras.constraints.NonNeg()
    copy_state(first, second)
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, (first.kernel, second.kernel)))
    assert [v.trainable for v in second.weights] == [True, False]
    assert second.kernel.constraint is first.kernel.constraint


def test_new_weights_stand_for_the_old_ones_in_hooks_too():
    first, second = built(layers.Normalization(), 3), built(layers.Normalization(), 2)
    copy_state(first, second, [np.array([1.0, 2.0]), np.array([4.0, 9.0]), np.array(5)])
    x = np.array([[3.0, 8.0]], "float32")
    np.testing.assert_allclose(ops.convert_to_numpy(second(x)), [[1.0, 2.0]], rtol=1e-6)


def test_a_bias_that_was_not_there_leaves_the_flags_of_the_kernel():
    first, second = built(layers.Dense(2, use_bias=False)), built(layers.Dense(2))
    first.kernel.trainable = False
    copy_state(first, second, [np.ones((3, 2)), np.ones(2)])
    assert [(v.name, v.trainable) for v in second.weights] == [("kernel", False), ("bias", True)]


def test_other_weights_than_those_of_the_original_are_told():
    with pytest.raises(ValueError, match=r"'odd' of type Dense has 2 weights.*copy.* has 1"):
        copy_state(built(layers.Dense(2, name="odd")), built(layers.Dense(2, use_bias=False)))


def test_adapted_state_is_no_weight():
    first, second = built(layers.Dense(2)), built(layers.Dense(2))
    before = ops.convert_to_numpy(second.kernel)
    copy_adapted_state(first, second)
    np.testing.assert_array_equal(ops.convert_to_numpy(second.kernel), before)
    adapted, fresh = built(layers.Normalization()), built(layers.Normalization())
    adapted.adapt(np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]], "float32"))
    copy_adapted_state(adapted, fresh)
    np.testing.assert_allclose(ops.convert_to_numpy(fresh.mean).ravel(), [2.0, 3.0, 4.0])


def test_initializers_wait_and_come_back():
    matrix = np.arange(6.0).reshape(3, 2)
    layer = layers.Dense(
        1, kernel_initializer=keras.initializers.Constant(matrix), bias_initializer="ones"
    )
    initializers = PostponedInitializers(layer)
    layer.build((None, 3))  # a kernel of another shape than the matrix
    initializers.put_back()
    assert isinstance(layer.kernel_initializer, keras.initializers.Zeros)
    assert isinstance(layer.bias_initializer, keras.initializers.Ones)
    dense = layers.Dense(
        2, kernel_initializer=keras.initializers.Constant(matrix), bias_initializer="ones"
    )
    assert lost_initializers(dense, layer) == ("kernel",)
    layer = layers.Dense(2, kernel_initializer=keras.initializers.Constant(matrix))
    initializers = PostponedInitializers(layer)
    layer.build((None, 3))
    initializers.put_back()
    assert layer.kernel_initializer.value is not None


def test_the_state_of_a_stateful_layer_goes_on():
    first, second = (layers.LSTM(2, stateful=True) for _ in range(2))
    x = np.ones((1, 3, 4), "float32")
    first(x), second(x)
    copy_state(first, second)
    np.testing.assert_array_equal(*(ops.convert_to_numpy(layer(x)) for layer in (first, second)))
