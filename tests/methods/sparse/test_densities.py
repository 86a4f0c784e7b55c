"""How much of each layer is zero, and when: against formulas by hand and exact fractions."""

import fractions
import math

import keras
import numpy as np
import pytest
from keras import ops

from resrep_keras.methods.sparse import densities as sparsity
from tests.sparse_models import TOTAL, net


def test_erk_of_the_usual_net_by_hand():
    """At 2 % no layer is dense, so epsilon is the number of kept weights by the sum of sizes."""
    epsilon = 0.02 * (784 * 300 + 300 * 100 + 100 * 10) / (784 + 300 + 300 + 100 + 100 + 10)
    expected = [
        epsilon * (784 + 300) / (784 * 300),
        epsilon * (300 + 100) / (300 * 100),
        epsilon * (100 + 10) / (100 * 10),
    ]
    np.testing.assert_allclose(
        sparsity.erk([(784, 300), (300, 100), (100, 10)], 0.02),
        expected,
        atol=0.5 / 1000,  # whole numbers of weights
    )


def test_erk_makes_what_would_be_more_than_full_dense():
    """At a half the last layer would get 8.35 times its weights; the others share what is left."""
    whole = 784 * 300 + 300 * 100 + 100 * 10
    epsilon = (0.5 * whole - 100 * 10) / (784 + 300 + 300 + 100)
    first = epsilon * (784 + 300) / (784 * 300)
    # The second layer, too: 400 epsilon are more than its 30,000 weights.
    assert epsilon * (300 + 100) > 300 * 100
    first = (0.5 * whole - 100 * 10 - 300 * 100) / (784 * 300)
    densities = sparsity.erk([(784, 300), (300, 100), (100, 10)], 0.5)
    np.testing.assert_allclose(densities, [first, 1, 1], atol=1e-5)


@pytest.mark.parametrize("density", [1e-5, 1e-3, 0.02, 0.1, 0.37, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("spread", [sparsity.erk, sparsity.uniform])
def test_counts_are_whole_and_their_sum_is_exact(spread, density):
    shapes = [(3, 3, 3, 16), (3, 3, 16, 32), (1, 1, 32, 64), (64, 10), (7, 5)]
    sizes = np.array([math.prod(shape) for shape in shapes])
    densities = spread(shapes, density)
    np.testing.assert_allclose(densities * sizes, np.round(densities * sizes), atol=1e-6)
    assert round((densities * sizes).sum()) == round(density * sizes.sum())
    assert (0 <= densities).all() and (densities <= 1).all()
    if density == 1:
        np.testing.assert_array_equal(densities, 1)
    if density * sizes.sum() >= len(shapes):
        assert (densities > 0).all()


def test_kept_follows_the_cubic_exactly():
    generator = np.random.default_rng(0)
    for _ in range(2000):
        n = int(generator.integers(1, sparsity.MOST_ROUNDS))
        k = int(generator.integers(0, n + 1))
        last, first = sorted(int(x) for x in generator.integers(0, 2**30, 2))
        exact = last + fractions.Fraction((first - last) * (n - k) ** 3, n**3)
        assert sparsity.kept_at(k, n, first, last) == math.floor(exact + fractions.Fraction(1, 2))
    tensor = sparsity.kept_at(ops.convert_to_tensor(7, "int32"), 39_999, 2**30 - 1, 12_345)
    assert int(tensor) == sparsity.kept_at(7, 39_999, 2**30 - 1, 12_345)


def test_kept_is_the_share_of_zhu_and_gupta():
    """Sparsity ``final + (initial - final) * (1 - k / n)^3``: their equation 1."""
    assert [sparsity.kept_at(k, 5, 500, 50) for k in (0, 5)] == [500, 50]
    for k in range(8):
        asked = 1000 * (1 - (0.95 + (0.5 - 0.95) * (1 - k / 7) ** 3))
        assert abs(sparsity.kept_at(k, 7, 500, 50) - asked) <= 0.5 + 1e-9


def test_regrow_rate_falls_like_a_cosine():
    rates = [float(sparsity.regrow_rate_at(step, 100, 0.5)) for step in (0, 50, 100)]
    np.testing.assert_allclose(rates, [0.5, (0.5 + 0.005) / 2, 0.005], rtol=1e-5)


def test_density_of_counts_zeros():
    model = net()
    kernel = np.ones((9, 4))
    kernel[:3] = 0
    model.get_layer("last").kernel.assign(kernel)
    found = sparsity.density_of(model)
    assert found["last/kernel"] == {"zeros": 12, "size": 36, "density": 1 - 12 / 36}
    assert found["total"]["size"] == TOTAL and found["total"]["zeros"] == 12
    assert "first/bias" not in found


def test_compactors_biases_and_vectors_are_left_alone():
    compactor = keras.Variable(np.ones((4, 4)), name="kernel")
    compactor.is_compactor_kernel = True
    others = [
        keras.Variable(np.ones(4), name="kernel"),
        keras.Variable(np.ones((4, 4)), name="bias"),
    ]
    kernel = keras.Variable(np.ones((4, 4)), name="recurrent_kernel")
    (found,) = sparsity.sparse_kernels([compactor, *others, kernel])
    assert found is kernel


def test_names_around_a_layer_become_paths():
    model = net()
    paths = {"first": ("outer", "inner")}

    def by_path(*exclude):
        return sparsity.named_by_path(model.weights, exclude, paths)

    assert by_path("first", "last*") == ("first", "last*")
    assert by_path("outer", "last") == by_path("inn*", "last") == ("first/kernel", "last")
    assert by_path("outer/inner/first/kernel") == ("first/kernel",)
    assert by_path("nothing") == ("nothing",)
