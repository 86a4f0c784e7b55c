"""A reason is the one that holds, and the remedy names the setting that helps."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from tests import zoo


class Closed(layers.Layer):
    """A convolution, and what a subclass does beside it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(4, 1, name="inside")

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 4)


class Raises(Closed):
    def call(self, x):
        raise LookupError("no such table")


class AddsALoss(Closed):
    def call(self, x):
        x = self.conv(x)
        if not isinstance(x, keras.KerasTensor):
            self.add_loss(ops.mean(x))
        return x


class ReadsAKernel(Closed):
    def call(self, x):
        return self.conv(x) * ops.sum(self.conv.kernel)


def after_a_convolution(*parts):
    x = inputs = zoo.image()
    for part in (layers.Conv2D(6, 3, name="conv"), *parts):
        x = part(x)
    return keras.Model(inputs, zoo.head(x))


def reason(model, name="conv"):
    row = next(row for row in resrep_keras.explain(model).rows if row.layer == name)
    return row.reason, row.remedy


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Raises, "its call() raises LookupError: no such table on symbolic tensors"),
        (AddsALoss, "its call() adds a loss"),
        (ReadsAKernel, "its call() computes with weights of a layer rather than call it"),
    ],
)
def test_a_closed_layer_names_the_one_cause(kind, words):
    layer = kind(name="closed")
    layer.conv.build((None, 6, 6, 6))
    layer.built = True
    told, remedy = reason(after_a_convolution(layer))
    assert f"({words})" in told
    assert f"register({kind.__name__})" in remedy


def test_a_subclassed_model_that_stays_closed_names_the_one_cause():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4, name="dense")
            self.dense.build((None, 3))

        def call(self, x):
            self.dense.bias.assign(ops.ones((4,)))
            return self.dense(x)

    model = Model()
    model(np.zeros((1, 3), "float32"))
    with pytest.raises(ValueError, match=r"a graph: its call\(\) assigns '.*bias'\. Call layers"):
        resrep_keras.explain(model)


def test_a_softmax_is_called_by_its_name():
    for part in (layers.Activation("softmax"), layers.Conv2D(4, 1, activation="softmax")):
        name = "conv" if isinstance(part, layers.Activation) else part.name
        told, remedy = reason(after_a_convolution(part, layers.Conv2D(3, 1)), name)
        assert told == "softmax, a function that mixes channels"
        assert "works on each entry by itself" in remedy


def test_a_constant_that_is_added_is_no_activation():
    model = after_a_convolution(lambda x: x + 2.0, layers.Conv2D(3, 1))
    assert reason(model) == (None, None)


def test_what_a_setting_keeps_is_told_apart():
    inputs = keras.Input((6,))
    x = layers.Dense(8, name="first")(inputs)
    x = layers.Add()([x, layers.Dense(8, name="second")(x)])
    stream = keras.Model(inputs, layers.Dense(2)(x))
    with pytest.raises(ValueError, match="first: its channels go with those of second only; set "):
        resrep_keras.wrap(stream, resrep_keras.ResRep(0.1))
    with pytest.raises(ValueError, match="first: excluded by the setting exclude"):
        resrep_keras.wrap(stream, resrep_keras.ResRep(0.1, exclude=["first"], coupled=True))
    x = layers.Dense(8)(layers.Dense(7, name="before")(inputs))
    x = layers.Add()([x, layers.Dense(8)(layers.Dense(9, name="inner")(x))])
    blocks = keras.Model(inputs, layers.Dense(2)(x))
    with pytest.raises(ValueError, match="before: outside of residual blocks, which scope='block"):
        resrep_keras.wrap(blocks, resrep_keras.ResRep(0.1, scope="blocks", exclude=["inner"]))


def test_a_target_that_streams_could_meet_names_the_setting():
    dense = zoo.build("residual")
    with pytest.raises(ValueError, match="With coupled=True, channels of residual streams may go"):
        resrep_keras.wrap(dense, resrep_keras.ResRep(0.9))
    resrep_keras.wrap(dense, resrep_keras.ResRep(0.9, coupled=True))
    with pytest.raises(ValueError) as caught:
        resrep_keras.wrap(dense, resrep_keras.ResRep(0.9999, coupled=True))
    assert "coupled=True" not in str(caught.value)
