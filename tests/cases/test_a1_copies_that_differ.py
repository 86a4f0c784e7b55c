"""A copy that computes something else than its model is refused by wrap, and the layer named."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras

# ResRep would put what such a layer calls in its place.
COPIES_ALL = resrep_keras.GraNet(0.5)


class Scale(layers.Layer):
    """A layer whose configuration forgets its factor."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.hidden = factor

    def get_config(self):
        return {"name": self.name}

    def call(self, x):
        return x * self.hidden


class Power(layers.Dense):
    """A dense layer whose configuration forgets an exponent."""

    def __init__(self, units, exponent=1, **kwargs):
        super().__init__(units, **kwargs)
        self.hidden = exponent

    def call(self, x):
        return super().call(x) ** self.hidden


class Noisy(layers.Layer):
    """A layer that acts in training only, and whose configuration forgets how strongly."""

    def __init__(self, rate=0.5, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate

    def get_config(self):
        return {"name": self.name}

    def call(self, x, training=False):
        return x * (1 + self.rate) if training else x


def net(*behind, shape=(6,), nested=False, head="linear", dtype=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    x = layers.Dense(8, activation="relu", name="first")(inputs)
    part = keras.Sequential(list(behind), name="part")
    if nested:
        x = part(x)
    else:
        for layer in behind:
            x = layer(x)
    x = layers.Dense(8, activation="relu", name="second")(x)
    return keras.Model(inputs, layers.Dense(3, activation=head, name="last")(x), name="net")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "layer", [lambda: Scale(3.0, name="odd"), lambda: Power(8, 2, name="odd")], ids=["own", "sub"]
)
def test_a_forgotten_argument_is_refused(layer, nested):
    with pytest.raises(ValueError, match=r"'net' does not compute.*part first at layer 'odd'"):
        resrep_keras.wrap(net(layer(), nested=nested), COPIES_ALL)


def test_where_that_frees_channels_what_a_layer_calls_takes_its_place():
    dense = net(Scale(3.0, name="odd"))
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.1))
    x = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    outputs = [ops.convert_to_numpy(model(x)) for model in (dense, wrapped)]
    np.testing.assert_allclose(*outputs, rtol=1e-6)


def test_an_argument_of_training_is_refused_too():
    with pytest.raises(ValueError, match=r"'odd' of type Noisy has rate=0.1.*rate=0.5.*get_config"):
        resrep_keras.wrap(net(Noisy(0.1, name="odd")))


def test_the_factor_that_is_the_default_passes():
    resrep_keras.wrap(net(Scale(), Noisy()))


def test_a_saturated_head_hides_nothing():
    dense = net(Scale(3.0, name="odd"), head="softmax")
    dense.get_layer("last").bias.assign([1e6, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"part first at layer 'odd'"):
        resrep_keras.wrap(dense, COPIES_ALL)


def test_a_copy_that_does_not_run_is_refused():
    class Table(layers.Layer):
        entries = None

        def compute_output_shape(self, input_shape):
            return input_shape

        def call(self, x):
            if self.entries is None:
                raise RuntimeError("no entries yet")
            return ops.multiply(x, 2.0)

    table = Table(name="table")
    table.entries = [1]
    with pytest.raises(ValueError, match=r"part first at layer 'table'.*RuntimeError:.*no entries"):
        resrep_keras.wrap(net(table), COPIES_ALL)


# --- what is no difference ------------------------------------------------------------------------


class Draw(layers.Layer):
    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how = how
        self.seed = keras.random.SeedGenerator(1)

    def get_config(self):
        return {**super().get_config(), "how": self.how}

    def compute_output_shape(self, input_shape):
        return input_shape

    def call(self, x):
        if self.how == "numpy":
            return x + ops.cast(np.random.default_rng().normal(size=x.shape), x.dtype)
        return x + keras.random.normal(x.shape, seed=self.seed if self.how == "seed" else None)


@pytest.mark.parametrize("how", ["numpy", "global", "seed"])
def test_random_layers_are_no_difference(how):
    dense = net(Draw(how, name="draw"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resrep_keras.wrap(dense, resrep_keras.GraNet(0.5))  # which counts no MACs


@pytest.mark.parametrize("how", ["numpy", "seed"])
def test_a_difference_beside_random_layers_is_found(how):
    with pytest.raises(ValueError, match=r"part first at layer 'odd'"):
        dense = net(Draw(how, name="draw"), Scale(3.0, name="odd"))
        resrep_keras.wrap(dense, resrep_keras.GraNet(0.5))


def test_nan_at_the_same_places_is_no_difference():
    inputs = keras.Input((6,))
    h = layers.Dense(8, activation="relu")(ops.log(inputs))
    dense = keras.Model(inputs, layers.Dense(2)(h))
    resrep_keras.wrap(dense)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        dense, odd = net(Scale(1.0)), net(Scale(3.0, name="odd"))
        resrep_keras.wrap(dense)
        with pytest.raises(ValueError, match=r"part first at layer 'odd'"):
            resrep_keras.wrap(odd, COPIES_ALL)
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_model_that_takes_no_random_inputs_is_told():
    class Careful(layers.Layer):
        def compute_output_shape(self, input_shape):
            return input_shape

        def call(self, x):
            raise RuntimeError("not such inputs")

    with pytest.warns(
        UserWarning, match="'net' does not run on random inputs .RuntimeError:.*not such inputs"
    ):
        resrep_keras.wrap(net(Careful()), resrep_keras.GraNet(0.5))


@pytest.mark.parametrize("vocabulary", [2, 3, 50])
def test_small_vocabularies(vocabulary):
    inputs = keras.Input((None,), dtype="int32")
    h = layers.GlobalAveragePooling1D()(layers.Embedding(vocabulary, 8)(inputs))
    h = layers.Dense(8, activation="relu")(h)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resrep_keras.wrap(keras.Model(inputs, layers.Dense(2)(h)))


def test_unknown_sizes_of_which_some_do_not_fit():
    inputs = keras.Input((None, None, 3))
    x = inputs
    for _ in range(6):  # 32 pixels are gone after five
        x = layers.Conv2D(4, 2, strides=2, activation="relu")(x)
    dense = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resrep_keras.wrap(dense, resrep_keras.GraNet(0.5))


def test_nothing_of_the_dense_model_changes():
    keras.utils.set_random_seed(0)
    inputs = keras.Input(batch_shape=(2, 5, 4))
    h = layers.LSTM(6, stateful=True, activity_regularizer="l2")(inputs)
    h = layers.BatchNormalization()(layers.Dense(8)(layers.Dropout(0.5)(h)))
    h = layers.GaussianNoise(0.1)(layers.ReLU()(h))
    dense = keras.Model(inputs, layers.Dense(2)(h))
    dense(np.ones((2, 5, 4)))
    dense.compile("sgd", "mse", metrics=["mae"])
    dense.evaluate(np.ones((2, 5, 4)), np.ones((2, 2)), verbose=0)
    dense(np.ones((2, 5, 4)))
    before = [np.array(ops.convert_to_numpy(v)) for v in dense.variables]
    resrep_keras.wrap(dense, resrep_keras.ResRep(0.01))
    for value, variable in zip(before, dense.variables, strict=True):
        np.testing.assert_array_equal(value, ops.convert_to_numpy(variable))
