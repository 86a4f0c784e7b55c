"""What is known to be zero or more."""

import pytest
from keras import layers, ops

from tests.rules.calls import IMAGE, Answer


def before(function, activation="relu"):
    """Whether what a function makes is known to be zero or more."""
    largest = Answer(lambda x: ops.max(function(x), -1), IMAGE, activation=activation)
    return not largest.pins("Max over channels, which zeros change")


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x,
        layers.MaxPooling2D(),
        layers.Dropout(0.5),
        lambda x: 2.0 * x + 1.0,
        lambda x: ops.sqrt(x[..., 1:]),
        lambda x: layers.Multiply()([x, ops.sigmoid(x)]),
        lambda x: ops.concatenate([x, ops.abs(ops.sin(x))], -1),
        lambda x: layers.ReLU()(ops.sin(x)),
        lambda x: layers.Activation("softplus")(ops.sin(x)),
        lambda x: ops.square(ops.sin(x)),
    ],
)
def test_zero_or_more(function):
    assert before(function)


@pytest.mark.parametrize(
    "function",
    [
        ops.sin,
        lambda x: x - 1.0,
        lambda x: -1.0 * x,
        layers.LeakyReLU(),
        layers.ReLU(negative_slope=0.1),
        layers.Activation("tanh"),
        layers.BatchNormalization(),
        lambda x: layers.Add()([x, ops.sin(x)]),
        lambda x: layers.Subtract()([x, x]),
        layers.UpSampling2D(interpolation="bicubic"),
    ],
)
def test_maybe_below_zero(function):
    assert not before(function)


def test_what_a_layer_makes_goes_by_its_activation():
    assert not before(lambda x: x, activation=None)
    assert not before(lambda x: x, activation="elu")
    assert before(lambda x: x, activation="sigmoid")


def test_it_is_not_followed_for_ever():
    def far(x):
        for _ in range(9):
            x = ops.expand_dims(x, 1)[:, 0]
        return x

    assert not before(far)
