"""Values that are no numbers are told wherever scores, norms or magnitudes are read."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.layers.scored import ScoredCompactor
from resrep_keras.methods.sparse.optimizer import SparseOptimizer
from tests import sparse_models, zoo
from tests.sampling import sample

METHODS = {
    "resrep": lambda: resrep_keras.ResRep(0.4),
    "aofp": lambda: resrep_keras.AOFP(0.4, interval=2),
    "magnitude": lambda: resrep_keras.MagnitudePruning(0.4, at=0.5),
    "fpgm": lambda: resrep_keras.FPGM(0.4, at=0.5),
    "taylor": lambda: resrep_keras.TaylorPruning(0.4, at=0.5),
    "slimming": lambda: resrep_keras.NetworkSlimming(0.4),
    "lasso": lambda: resrep_keras.GroupLasso(0.4),
    "random": lambda: resrep_keras.RandomPruning(0.4, at=0.5),
    "granet": lambda: resrep_keras.GraNet(0.8),
    "granet st": lambda: resrep_keras.GraNet.sparse_to_sparse(0.8),
}
DIVERGED = "The training has diverged at step "


def net(**kwargs):
    inputs = keras.Input((6,))
    x = layers.Dense(16, use_bias=False, name="first", **kwargs)(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm", **kwargs)(x))
    x = layers.Dense(12, activation="relu", name="second", **kwargs)(x)
    return zoo.randomise(keras.Model(inputs, layers.Dense(2, name="top", **kwargs)(x)))


def data(value=None, batches=12):
    x = np.random.default_rng(0).normal(size=(8 * batches, 6)).astype("float32")
    if value is not None:
        x[:] = value
    return x, np.zeros((len(x), 2), "float32")


def fit(model, x, y, epochs=5, **settings):
    return model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, shuffle=False, **settings)


@pytest.mark.parametrize("kind", sample(METHODS))
def test_data_that_is_no_number_is_told_with_the_step(kind):
    model = resrep_keras.wrap(net(), METHODS[kind]())
    model.compile(keras.optimizers.SGD(0.01), "mse")
    with pytest.raises(ValueError, match=DIVERGED + r"\d+: .* hold NaN"):
        fit(model, *data(np.nan))


@pytest.mark.filterwarnings("ignore:The target is not met", "ignore:Slim and wrapped")
@pytest.mark.parametrize("kind", ["resrep", "magnitude"])
def test_a_callback_that_ends_the_run_ends_it(kind):
    """What is in memory then is told by finalize."""
    model = resrep_keras.wrap(net(), METHODS[kind]())
    model.compile(keras.optimizers.SGD(0.01), "mse")
    fit(model, *data(np.nan), callbacks=[keras.callbacks.TerminateOnNaN()])
    with pytest.raises(ValueError, match=r"The training has diverged: .* hold NaN"):
        resrep_keras.finalize(model, strict=True)
    with pytest.warns(UserWarning, match=r"The training has diverged"):
        resrep_keras.finalize(model)


def test_gradients_of_activations_too():
    model = resrep_keras.wrap(zoo.build("residual"), resrep_keras.ActivationGradientPruning())
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.get_layer("conv2d").kernel.assign(np.full(model.get_layer("conv2d").kernel.shape, np.inf))
    with pytest.raises(ValueError, match=r"The training has diverged: .*conv2d/kernel' hold"):
        resrep_keras.finalize(model, strict=True)


@pytest.mark.filterwarnings("ignore:The target is not met", "ignore:Slim and wrapped")
def test_a_run_that_diverged_after_its_last_selection_is_told():
    model = resrep_keras.wrap(net(), resrep_keras.GraNet(0.5))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    fit(model, *data())
    model.get_layer("top").bias.assign([np.nan, 0.0])
    with pytest.warns(UserWarning, match=r"The training has diverged: 'top/bias' hold"):
        resrep_keras.finalize(model)


@pytest.mark.parametrize("kind", ["granet", "granet st"])
def test_masks_hide_no_nan(kind):
    """All-NaN gradients: what is masked is not finite either, instead of zero."""
    model = sparse_models.net()
    optimizer = SparseOptimizer("sgd", final_sparsity=0.5, initial_sparsity=0.5)
    optimizer.build(model.trainable_variables)
    optimizer.plan.assign([0, 10])
    nan = [ops.full(v.shape, float("nan")) for v in model.trainable_variables]
    sparse_models.apply(optimizer, nan, model.trainable_variables)
    for variable in model.trainable_variables:
        assert np.isnan(ops.convert_to_numpy(variable)).all()


def test_masks_still_make_zeros():
    model = sparse_models.net()
    optimizer = SparseOptimizer("sgd", final_sparsity=0.5, initial_sparsity=0.5)
    optimizer.build(model.trainable_variables)
    ones = [ops.ones(v.shape) for v in model.trainable_variables]
    sparse_models.apply(optimizer, ones, model.trainable_variables)
    for path, mask in optimizer.masks().items():
        kernel = next(v for v in model.trainable_variables if v.path == path)
        assert not ops.convert_to_numpy(kernel)[~mask].any()


def test_a_compactor_that_is_no_number_raises_at_the_selection():
    model = resrep_keras.wrap(net(), resrep_keras.ResRep(0.4))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    compactor = model.get_layer("norm_compactor")
    compactor.kernel.assign(ops.full(compactor.kernel.shape, float("nan")))
    with pytest.raises(ValueError, match=DIVERGED):
        fit(model, *data())


def test_prune_of_weights_that_are_no_numbers():
    dense = net()
    dense.get_layer("second").kernel.assign(ops.full((16, 12), float("inf")))
    with pytest.raises(ValueError, match="'second' hold NaN"):
        resrep_keras.MagnitudePruning(0.4).prune(dense)


@pytest.mark.filterwarnings("ignore:AOFP's moves")
@pytest.mark.tensorflow_only  # a loss scale of float16
@pytest.mark.parametrize("kind", ["resrep", "granet", "aofp", "taylor"])
def test_steps_that_a_loss_scale_leaves_out_are_no_divergence(kind):
    """One batch of each epoch overflows: its step is left out, and the run goes on."""
    model = resrep_keras.wrap(net(), METHODS[kind]())
    scale = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01))
    model.compile(scale, keras.losses.MeanSquaredError())
    x, y = data()
    y[8:16] = 3e38  # the loss of this batch is infinite, and so are its gradients
    history = fit(model, x, y).history
    assert not np.isfinite(history["loss"]).any()
    assert all(np.isfinite(v).all() for v in map(ops.convert_to_numpy, model.trainable_variables))
    slim = resrep_keras.finalize(model)
    assert all(np.isfinite(v).all() for v in slim.get_weights())


def test_a_damage_that_overflowed_tells_nothing():
    layer = ScoredCompactor(seed=1)
    layer.build((None, 4))
    layer.begin(np.ones(4, bool), 0)
    drawn = ops.convert_to_tensor([1.0, 0.0, 1.0, 0.0])
    for damage in (0.25, float("nan"), float("inf"), 0.75):
        layer.note(drawn, ops.convert_to_tensor(damage))
    assert layer.means().tolist() == [0.5, np.inf, 0.5, np.inf]
