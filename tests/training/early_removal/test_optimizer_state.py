"""The state of an optimizer goes along with the channels that stay."""

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras import ResRep
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.optimizers.wrapper import find_wrapper
from resrep_keras.training.early_removal.removal import remove_early
from tests import helpers
from tests.training.early_removal.models import (
    compiled,
    crossentropy,
    steps,
    train,
    two_convolutions,
)

SELECTED = {  # axes of the four channels of the first convolution
    "first/kernel": (3,),
    "norm/gamma": (0,),
    "norm/beta": (0,),
    "second/kernel": (2,),
    "second/bias": (),
    "first_compactor/kernel": (2, 3),
    "norm_compactor/kernel": (2, 3),
}


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        (lambda: keras.optimizers.SGD(0.01, momentum=0.9), ["momentum"]),
        (lambda: keras.optimizers.Adam(0.01), ["momentum", "velocity"]),
    ],
    ids=["sgd", "adam"],
)
def test_optimizer_slots_are_the_selected_ones(optimizer, slots):
    model = resrep_keras.wrap(two_convolutions(), ResRep(0.2, compactor="full", slim_every=1))
    model.compile(optimizer(), crossentropy())
    steps(model, 4, seed=1)
    model.optimizer.learning_rate = 0.0123  # as a callback does
    kept = np.array([True, False, True, True])
    channel_state = ChannelState(model)
    (layer,) = helpers.compactors(model)
    layer.keep_mask.assign(kept)
    layer.kernel.assign(layer.kernel * kept.astype("float32"))
    old = {v.path: np.array(v) for v in model.optimizer.variables}
    compactor = {w.path: [np.array(s) for s in _slots(model, w)] for w in [layer.kernel]}

    assert remove_early(model, channel_state, channel_state.dead(0), last=False)[1]

    new = {v.path: np.array(v) for v in model.optimizer.variables}
    assert old.keys() == new.keys()
    for path, axes in SELECTED.items():
        for slot in slots:
            names = [n for n in old if n.endswith(f"/{path.replace('/', '_')}_{slot}")]
            for name in names:
                expected = old[name]
                for axis in axes:
                    expected = np.compress(kept, expected, axis)
                np.testing.assert_array_equal(new[name], expected, err_msg=name)
                assert np.abs(expected).max() > 0
            assert names or "compactor" in path
    (layer,) = helpers.compactors(model)
    ((velocity, *watched),) = compactor.values()
    new_velocity, *new_watched = _slots(model, layer.kernel)
    np.testing.assert_array_equal(np.array(new_velocity), velocity[:, :, kept][:, :, :, kept])
    for before, after in zip(watched, new_watched):
        np.testing.assert_array_equal(np.array(after), before[kept])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.0123)
    assert int(model.optimizer.iterations) == int(model.optimizer.steps) == 4


def _slots(model, kernel):
    return find_wrapper(model.optimizer).compactor_optimizer.slots(kernel)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.LossScaleOptimizer(keras.optimizers.RMSprop(1e-3, centered=True)),
        *(
            pytest.param(optimizer, marks=pytest.mark.slow)
            for optimizer in (
                keras.optimizers.AdamW(1e-3, weight_decay=0.01),
                keras.optimizers.Adafactor(1e-3),
                keras.optimizers.Lion(1e-4, gradient_accumulation_steps=2),
                keras.optimizers.Nadam(keras.optimizers.schedules.CosineDecay(1e-3, 60)),
            )
        ),
    ],
    ids=lambda optimizer: optimizer.name,
)
def test_any_optimizer_goes_on(optimizer):
    model = compiled("chain", type(optimizer).from_config(optimizer.get_config()))
    history = train(model, 10)
    assert not helpers.compactors(model) and model.baseline.removal.channels > 0
    assert np.isfinite(history.history["loss"]).all()
    assert int(find_wrapper(model.optimizer).steps) == 60
    resrep_keras.finalize(model, strict=True)
