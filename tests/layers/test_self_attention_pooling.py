"""SelfAttentionPooling: its numbers by hand, masks, the penalty, precision, files."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras import SelfAttentionPooling


def by_hand(layer, x, mask=None):
    """Equations 5 and 6 of Lin et al., 2017, in float64; a weight for each entry of the mask."""
    hidden, score = (np.asarray(w, np.float64) for w in layer.get_weights())
    weights = np.exp(np.tanh(x @ hidden) @ score)
    if mask is not None:
        weights = weights * mask[:, :, None]
    attention = np.swapaxes(weights / np.maximum(weights.sum(1, keepdims=True), 1e-300), 1, 2)
    return attention @ x, attention


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def attending(heads=2, **settings):
    layer = SelfAttentionPooling(6, heads, return_attention=True, **settings)
    layer.build((None, None, 4))
    layer.set_weights([drawn(*w.shape, seed=n) for n, w in enumerate(layer.weights)])
    return layer


def arrays(outputs):
    return [ops.convert_to_numpy(x) for x in outputs]


@pytest.mark.parametrize("heads", [1, 3])
def test_weighted_sums_are_those_of_the_equations(heads):
    layer, x = attending(heads), drawn(3, 5, 4)
    pooled, attention = arrays(layer(x))
    np.testing.assert_allclose(attention.sum(-1), np.ones((3, heads)), rtol=1e-6)
    for actual, expected in zip((pooled, attention), by_hand(layer, x)):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_a_mask_leaves_entries_out():
    layer, x = attending(), drawn(3, 5, 4)
    mask = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    pooled, attention = arrays(layer(x, mask=mask))
    for actual, expected in zip((pooled, attention), by_hand(layer, x, mask)):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
    assert (attention * ~mask[:, None] == 0).all()
    assert (pooled[2] == 0).all()  # nothing is there, and nothing is not a number
    other = np.where(mask[..., None], x, 1e4).astype("float32")
    np.testing.assert_array_equal(arrays(layer(other, mask=mask))[0], pooled)
    without = ops.convert_to_numpy(layer(x[1:2, [0, 2]])[0])
    np.testing.assert_allclose(without, pooled[1:2], rtol=1e-5)


def test_the_mask_of_the_inputs_is_used_and_ends_here():
    x = drawn(2, 5, 4)
    x[0, 2:] = 0
    x[1] = 0
    inputs = keras.Input((None, 4))
    layer = attending()
    pooled, attention = layer(layers.Masking()(inputs))
    after = layers.LSTM(3)(pooled)  # would want a mask of its own length
    model = keras.Model(inputs, [pooled, attention, after])
    mask = np.any(x != 0, axis=-1)
    actual = model.predict(x, verbose=0)
    for array, expected in zip(actual, by_hand(layer, x, mask)):
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-6)
    assert np.isfinite(actual[2]).all()


def test_the_order_of_entries_does_not_matter():
    layer, x = attending(), drawn(2, 5, 4)
    order = [3, 0, 4, 1, 2]
    (pooled, attention), (other, moved) = arrays(layer(x)), arrays(layer(x[:, order]))
    np.testing.assert_allclose(other, pooled, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(moved, attention[..., order], rtol=1e-4, atol=1e-6)


def penalty_by_hand(attention):
    gram = attention @ np.swapaxes(attention, 1, 2)
    return np.square(gram - np.eye(gram.shape[-1])).sum((1, 2))


@pytest.mark.parametrize("heads", [1, 2, 6])  # of 6 heads over 5 entries, two must agree
def test_the_penalty_is_the_mean_over_sequences_that_have_an_entry(heads):
    layer, x = attending(heads, penalty=0.3), drawn(3, 5, 4)
    mask = np.array([[1] * 5, [1, 1, 0, 0, 0], [0] * 5], bool)
    _, attention = arrays(layer(x, mask=mask))
    (loss,) = layer.losses
    expected = 0.3 * penalty_by_hand(attention[:2].astype(np.float64)).mean()
    np.testing.assert_allclose(float(loss), expected, rtol=1e-4)
    layer(x, mask=np.zeros((3, 5), bool))
    assert float(layer.losses[0]) == 0
    assert not attending(heads).losses


def test_the_penalty_drives_heads_apart():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 4))
    layer = SelfAttentionPooling(6, 2, return_attention=True, penalty=1.0)
    model = keras.Model(inputs, layer(inputs)[0])
    attention = keras.Model(inputs, layer.output[1])
    x = drawn(32, 5, 4)
    before = penalty_by_hand(attention.predict(x, verbose=0)).mean()
    zeros = np.zeros((32, 2, 4), "float32")
    model.compile(keras.optimizers.Adam(0.1), keras.losses.MeanSquaredError(), loss_weights=0.0)
    model.fit(x, zeros, epochs=20, batch_size=32, verbose=0)
    assert penalty_by_hand(attention.predict(x, verbose=0)).mean() < 0.5 * before


def test_gradients_are_numbers_and_reach_both_kernels_where_a_sequence_is_empty():
    inputs, present = keras.Input((5, 4)), keras.Input((5,), dtype="bool")
    layer = SelfAttentionPooling(6, 2, penalty=0.1)
    model = keras.Model([inputs, present], layer(inputs, mask=present))
    before = [w.copy() for w in model.get_weights()]
    model.compile(keras.optimizers.SGD(0.1), "mse")
    mask = np.array([[1] * 5, [0] * 5], bool)
    model.fit([drawn(2, 5, 4), mask], drawn(2, 2, 4, seed=1), verbose=0)
    for old, new in zip(before, model.get_weights()):
        assert np.isfinite(new).all() and (old != new).any()


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16", "float64"])
def test_the_softmax_is_computed_in_32_bits_at_least(dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX computes in 32 bits unless told otherwise")
    # In 16 bits, 3000 equal weights would not add up to 1.
    layer = SelfAttentionPooling(6, 2, return_attention=True, dtype=dtype)
    x = np.ones((1, 3000, 4), "float32") * drawn(4)
    mask = np.ones((1, 3000), bool)
    mask[0, 2000:] = False
    pooled, attention = layer(ops.cast(x, layer.compute_dtype), mask=mask)
    assert keras.backend.standardize_dtype(pooled.dtype) == layer.compute_dtype
    assert keras.backend.standardize_dtype(attention.dtype) == layer.compute_dtype
    tolerance = {"mixed_bfloat16": 2e-2, "float64": 1e-6}.get(dtype, 4e-3)
    expected = x[:, :1].repeat(2, 1)
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(pooled, "float32")), expected, rtol=tolerance, atol=1e-3
    )
    assert (ops.convert_to_numpy(ops.cast(attention, "float32"))[..., 2000:] == 0).all()


@pytest.mark.parametrize("return_attention", [False, True])
def test_shapes_are_known_and_lengths_may_not_be(return_attention):
    layer = SelfAttentionPooling(6, 3, return_attention)
    made = layer(keras.Input((None, 4)))
    shapes = [tuple(x.shape) for x in keras.tree.flatten(made)]
    assert shapes == [(None, 3, 4), (None, 3, None)][: 1 + return_attention]
    asked = layer.compute_output_shape((2, 5, 4))
    assert asked == (((2, 3, 4), (2, 3, 5)) if return_attention else (2, 3, 4))


def test_config_and_file(tmp_path):
    layer = SelfAttentionPooling(
        6, 3, True, 0.5, "he_normal", keras.regularizers.L2(0.1), name="pooling"
    )
    revived = SelfAttentionPooling.from_config(layer.get_config())
    assert revived.get_config() == layer.get_config()
    assert vars(revived).keys() == vars(layer).keys()
    name = keras.saving.get_registered_name(SelfAttentionPooling)
    assert name == "resrep_keras>SelfAttentionPooling"
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = drawn(2, 5, 4)
    for one, other in zip(model.predict(x, verbose=0), again.predict(x, verbose=0)):
        np.testing.assert_array_equal(one, other)
    assert len(model.losses) == len(again.losses) >= 2  # of two kernels


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ((0,), ValueError, "Expected units to be an int of 1 or more; got 0"),
        ((4, 1.5), TypeError, "Expected heads to be an int of 1 or more; got 1.5"),
        ((4, 2, "no"), TypeError, "Expected return_attention to be True or False"),
        ((4, 2, False, -1), ValueError, "Expected penalty to be a number of 0 or more; got -1"),
    ],
)
def test_bad_settings(settings, kind, text):
    with pytest.raises(kind, match=text):
        SelfAttentionPooling(*settings)


@pytest.mark.parametrize("shape", [(None, 4), (None, 2, 3, 4), (None, 5, None)])
def test_what_is_no_sequence_is_refused(shape):
    for ask in (SelfAttentionPooling(6).build, SelfAttentionPooling(6).compute_output_shape):
        with pytest.raises(ValueError, match=r"expects sequences, .*with a known number"):
            ask(shape)


def test_it_is_public():
    assert resrep_keras.SelfAttentionPooling is SelfAttentionPooling
