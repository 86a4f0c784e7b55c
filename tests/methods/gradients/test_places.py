"""ActivationGradientPruning: where gradients are pruned, its settings, and what is counted."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.methods.gradients.method import ActivationGradientPruning, pruners_of
from resrep_keras.methods.gradients.places import Place, Places, Role, role
from resrep_keras.methods.gradients.pruner import GradientPruner
from resrep_keras.methods.gradients.report import backward_macs, gradient_sparsity
from tests import zoo
from tests.gradient_models import (
    branches,
    fitted,
    kinds,
    model_of,
    nested,
    normalised,
    plain,
    residual,
    shared,
    unnormalised,
)
from tests.helpers import difference

PLACES = {
    normalised: [Place("a", "output", ("a",)), Place("b", "output", ("b",))],
    unnormalised: [Place("b", "input", ("a",)), Place("c", "input", ("b",))],
    branches: [Place("b", "input", ())],
    residual: [Place("c", "input", ("a", "b"))],
    shared: [Place("a", "output", ("a",))],
    # `c` hands its gradient to the normalisation of `b`, which fills zeros in.
    nested: [Place("b", "output", ("b",)), Place("d", "input", ("c",))],
    kinds: [Place(name, "output", (name,)) for name in "abc"],
}


@pytest.mark.parametrize("build", PLACES, ids=lambda build: build.__name__)
def test_places(build):
    assert Places(model_of(build)).find() == PLACES[build]


def test_a_tensor_that_is_an_output_gets_other_gradients_too():
    inputs = keras.Input((8, 8, 2))
    x = plain(inputs, "a")
    model = keras.Model(inputs, [x, plain(x, "b")])
    assert Places(model).find() == [Place("b", "input", ())]


def test_a_layer_of_ones_own_is_registered_from_outside():
    class Own(layers.Conv2D):
        def call(self, inputs):
            return super().call(inputs)

    model = model_of(lambda x: layers.BatchNormalization()(Own(4, 3, name="own")(x)))
    assert Places(model).find() == []  # it may compute something else
    role.register(Own)(lambda layer: Role.CONVOLUTION)
    assert Places(model).find() == [Place("own", "output", ("own",))]


@pytest.mark.parametrize("build", PLACES, ids=lambda build: build.__name__)
def test_pruners_stand_there_and_the_outputs_stay(build):
    model = model_of(build)
    zoo.randomise(model)
    wrapped = resrep_keras.wrap(model, ActivationGradientPruning())
    assert len(pruners_of(wrapped)) == len(PLACES[build])
    assert difference(model, wrapped) == 0
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert slim.certificate.max_absolute == 0 and slim.certificate.macs_left == 1
    assert difference(wrapped, slim) == 0 and not pruners_of(slim)
    assert [layer.name for layer in slim.layers][1:] == [
        layer.name
        for layer in wrapped.layers
        if not isinstance(layer, (GradientPruner, layers.InputLayer))
    ]


# Without a convolution in front of a normalisation, or of an activation that is not the first.
WITHOUT_PLACES = (
    "mlp spatial grouped_constants einsum_dense recurrent encoder_decoder bidirectional embedding "
    "convolutional_lstm attention attention_pooling time_distributed operations heads_by_hand "
    "layers_without_rules layers_that_are_opened decoder_block mixed_positions"
).split()


@pytest.mark.parametrize("name", [name for name in zoo.SAMPLE if name not in WITHOUT_PLACES])
def test_models_of_the_zoo(name):
    model = zoo.build(name)
    wrapped = resrep_keras.wrap(model, ActivationGradientPruning(0.5))
    assert pruners_of(wrapped) and difference(model, wrapped) == 0
    assert difference(model, resrep_keras.finalize(wrapped, strict=True)) == 0


@pytest.mark.parametrize("name", WITHOUT_PLACES)
def test_the_rest_of_the_zoo_is_refused(name):
    with pytest.raises(ValueError, match="Nothing to prune in model"):
        resrep_keras.wrap(zoo.build(name), ActivationGradientPruning(0.5))


# --- settings and reports -----------------------------------------------------------------------


def test_rates_by_name_and_exclusion():
    wrapped = resrep_keras.wrap(
        model_of(normalised), ActivationGradientPruning({"a": 0.5, "[ab]": 0.7}, seed=10)
    )
    found = {p.name: (p.rate, p.seed) for p in pruners_of(wrapped).values()}
    assert found == {"a_gradient_pruner": (0.5, 10), "b_gradient_pruner": (0.7, 11)}
    for method in (
        ActivationGradientPruning({"a": 0.5}),
        ActivationGradientPruning({"a": 0.5, "b": 0}),
        ActivationGradientPruning(exclude=["b*"]),
        ActivationGradientPruning(exclude=excludes_b),
    ):
        assert list(resrep_keras.wrap(model_of(normalised), method).baseline.places) == ["a"]


@keras.saving.register_keras_serializable("tests")
def excludes_b(layer):
    return layer.name == "b"


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"rate": 1}, ValueError, "Expected rate to be .* below 1; got 1"),
        ({"rate": {"a": -1}}, ValueError, r"Expected rate\['a'\] to be .* got -1"),
        ({"rate": {1: 0.5}}, TypeError, "Expected rate to map names or patterns"),
        ({"rate": {}, "fifo_depth": -1}, ValueError, "Expected fifo_depth"),
        ({"threshold": 0.1}, TypeError, "Expected threshold to be 'normal' or"),
        ({"rounding": None}, TypeError, "Expected rounding to be 'stochastic' or"),
        ({"exclude": "a"}, TypeError, "Expected exclude to be a list"),
        ({"seed": 0.5}, TypeError, "Expected seed to be an int"),
    ],
)
def test_bad_settings(settings, error, text):
    with pytest.raises(error, match=text):
        ActivationGradientPruning(**settings)


@pytest.mark.parametrize(
    ("build", "settings", "text"),
    [
        (lambda x: plain(x, "a"), {}, "Nothing to prune in model .* found 1 convolutions"),
        (normalised, {"rate": 0}, "Nothing to prune in model .* rate=0"),
        (normalised, {"exclude": ["*"]}, "Nothing to prune"),
        (normalised, {"rate": {"z": 0.5}}, "entry of rate .* got 'z'"),
        (normalised, {"exclude": ["z"]}, "entry of exclude .* got 'z'"),
    ],
)
def test_models_without_a_place_are_refused(build, settings, text):
    with pytest.raises(ValueError, match=text):
        resrep_keras.wrap(model_of(build), ActivationGradientPruning(**settings))


def test_a_wrapped_model_is_refused():
    wrapped = resrep_keras.wrap(model_of(normalised), ActivationGradientPruning())
    with pytest.raises(ValueError, match="is wrapped already"):
        resrep_keras.wrap(wrapped, ActivationGradientPruning())


def test_counted_multiply_adds():
    """8x8 positions, 3x3 kernels, 2 -> 4 -> 6 channels; `a` needs no gradient of its input."""
    a, b = 64 * 9 * 2 * 4, 64 * 9 * 4 * 6
    wrapped = resrep_keras.wrap(model_of(normalised), ActivationGradientPruning())
    assert backward_macs(wrapped, {}) == (a + 2 * b, a + 2 * b)
    assert backward_macs(wrapped, {"a": 0.5, "b": 0.75}) == (a + 2 * b, a // 2 + b // 2)
    wrapped.get_layer("a").trainable = False  # the normalisation behind it is trained still
    assert backward_macs(wrapped, {"b": 0.75}) == (2 * b, b // 2)
    # Pruned at the input of `b`, it is `a` that gets cheaper.
    wrapped = resrep_keras.wrap(model_of(unnormalised), ActivationGradientPruning())
    dense = backward_macs(wrapped, {})[0]
    assert backward_macs(wrapped, {"b": 0.5}) == (dense, dense - a // 2)


@pytest.mark.tensorflow_only
def test_measured_zeros_are_counted():
    wrapped, history = fitted(ActivationGradientPruning())
    zeros = gradient_sparsity(wrapped)
    assert list(zeros) == ["a", "b"] and all(0.4 < value < 1 for value in zeros.values())
    assert history["gradient_zeros"][-1] == pytest.approx(np.mean(list(zeros.values())))
    assert backward_macs(wrapped) == backward_macs(wrapped, zeros)


def test_reports_say_what_they_need():
    with pytest.raises(ValueError, match="has no gradients that are pruned"):
        gradient_sparsity(model_of(normalised))
    wrapped = resrep_keras.wrap(model_of(normalised), ActivationGradientPruning())
    assert gradient_sparsity(wrapped) == {}
    with pytest.raises(ValueError, match="has measured no pruned gradient"):
        backward_macs(wrapped)
    with pytest.raises(ValueError, match=r"\(a, b\); got 'dense'"):
        backward_macs(wrapped, {"dense": 0.5})
