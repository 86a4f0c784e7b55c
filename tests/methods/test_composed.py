"""compose: methods of different kinds in one run, and one after the other."""

import keras
import numpy as np
import pytest
from keras import ops

import resrep_keras
from resrep_keras import AOFP, ActivationGradientPruning, GraNet, ResRep, compose
from resrep_keras.methods.gradients.method import pruners_of
from tests import helpers, zoo
from tests.conditions import training
from tests.sampling import sample_pairs


@pytest.mark.parametrize(
    "channels, first",
    sample_pairs([ResRep(0.4), AOFP(0.3, max_damage=10.0, interval=2)], [True, False]),
)
def test_channels_go_while_activation_gradients_are_pruned(channels, first, tmp_path):
    gradients = ActivationGradientPruning(0.9, fifo_depth=0, seed=0)
    method = compose(channels, gradients) if first else compose(gradients, channels)
    dense = zoo.build("residual")
    model = resrep_keras.wrap(dense, method)
    model.compile("adam", training.loss())
    assert pruners_of(model) and helpers.compactors(model)
    assert helpers.difference(dense, model) <= 1e-6
    history = training.fit(model, epochs=12)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.method == model.method
    for one in (model, again):
        slim = resrep_keras.finalize(one, strict=True)
        assert slim.certificate.macs_left <= 1 - channels.target_reduction
        assert not pruners_of(slim) and not helpers.compactors(slim)
        assert helpers.difference(one, slim) <= 1e-4
    assert history.history["macs_left"][-1] == slim.certificate.macs_left
    if keras.backend.backend() == "tensorflow":
        assert history.history["gradient_zeros"][-1] > 0.3


@pytest.mark.tensorflow_only
def test_single_weights_go_from_the_slim_model():
    model = resrep_keras.wrap(zoo.build("residual"), ResRep(0.4))
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), training.loss())
    training.fit(model, epochs=8)
    slim = resrep_keras.finalize(model, strict=True)
    sparse = resrep_keras.wrap(slim, GraNet(final_sparsity=0.5, interval=2))
    sparse.compile(keras.optimizers.SGD(0.01, momentum=0.9), training.loss())
    training.fit(sparse, epochs=8)
    final = resrep_keras.finalize(sparse, strict=True)
    kernels = [ops.convert_to_numpy(w) for w in sparse.weights if w.path.endswith("kernel")]
    zeros, size = sum((k == 0).sum() for k in kernels), sum(k.size for k in kernels)
    assert round(0.5 * size) <= zeros <= 0.55 * size  # what has grown again may still be zero
    assert resrep_keras.count_macs(final) <= resrep_keras.count_macs(slim)
    assert helpers.difference(sparse, final) <= 1e-4


def test_gradients_are_pruned_while_single_weights_go():
    method = compose(GraNet(final_sparsity=0.5, interval=2), ActivationGradientPruning(0.9))
    model = resrep_keras.wrap(zoo.build("residual"), method)
    model.compile("sgd", training.loss())
    history = training.fit(model, epochs=8)
    assert history.history["sparsity"][-1] == pytest.approx(0.5, abs=0.01)
    final = resrep_keras.finalize(model, strict=True)
    assert not pruners_of(final)
    assert np.isfinite(helpers.outputs_of(final)[0]).all()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_the_length_of_a_run_is_that_of_what_takes_something_away(first):
    methods = [GraNet(0.5, total_steps=1000), ActivationGradientPruning()]
    method = compose(*methods) if first else compose(*reversed(methods))
    assert method.total_steps == 1000 and method.lead == methods[0]
    model = resrep_keras.wrap(zoo.build("residual"), method)
    model.compile("sgd", training.loss())
    x, y = training.data()
    model.fit(((x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16)), shuffle=False, verbose=0)
    assert ops.convert_to_numpy(model.optimizer.plan).tolist() == [0, 1000]


def test_a_checkpoint_keeps_what_is_sparse_enough(tmp_path):
    model = resrep_keras.wrap(zoo.build("residual"), GraNet(final_sparsity=0.5, interval=2))
    model.compile("sgd", training.loss())
    best = resrep_keras.PrunedCheckpoint(tmp_path / "best.keras", monitor="loss")
    history = training.fit(model, epochs=8, callbacks=[best])
    enough = np.array(history.history["sparsity"]) >= 0.5
    assert 0 < enough.sum() < 8
    assert best.best == min(np.array(history.history["loss"])[enough])
    assert keras.models.load_model(tmp_path / "best.keras").method == model.method


@pytest.mark.parametrize(
    ("methods", "error", "text"),
    [
        ((ResRep(0.5),), ValueError, "two methods or more"),
        ((ResRep(0.5), "granet"), TypeError, "got 'granet' of type str"),
        ((ResRep(0.5), GraNet()), ValueError, "ResRep and GraNet both train the model"),
        ((ResRep(0.5), AOFP(0.5)), ValueError, "do not go together in one run"),
        (
            (ActivationGradientPruning(0.5), ActivationGradientPruning(0.9)),
            ValueError,
            "each method once",
        ),
        (
            (ResRep(0.5, slim_every=1), ActivationGradientPruning(0.9)),
            ValueError,
            "Set slim_every=None",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(methods, error, text):
    with pytest.raises(error, match=text):
        compose(*methods)
