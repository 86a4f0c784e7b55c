"""The sparse optimizer around any other one, in any way to run it, and its settings."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from resrep_keras.methods.sparse.optimizer import SparseOptimizer
from resrep_keras.optimizers.transfer import read_slots
from tests.sampling import sample, sample_pairs
from tests.sparse_models import SHAPES, TOTAL, apply, make, net
from tests.updates import gradients_like

tensorflow_only = pytest.mark.tensorflow_only

INNER = {
    "adam": (lambda **k: keras.optimizers.Adam(0.01, **k), 2),
    "amsgrad": (lambda **k: keras.optimizers.Adam(0.01, amsgrad=True, **k), 3),
    "adamw": (lambda **k: keras.optimizers.AdamW(0.01, weight_decay=0.1, **k), 2),
    "nesterov": (lambda **k: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True, **k), 1),
    "rmsprop": (lambda **k: keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True, **k), 3),
    "sgd": (lambda **k: keras.optimizers.SGD(0.01, **k), 0),
    "adafactor": (lambda **k: keras.optimizers.Adafactor(0.01, **k), None),
}


def check_zeros(model, optimizer):
    slots = read_slots(optimizer, model.trainable_variables)
    for variable in model.trainable_variables:
        mask = optimizer.masks().get(variable.path)
        if mask is None:
            continue
        held = [s for s in slots.get(id(variable), ()) if "accumulator" not in s.path]
        for values in (variable, *held):
            np.testing.assert_array_equal(ops.convert_to_numpy(values)[~mask], 0)


@pytest.mark.parametrize("kind", sample(INNER))
def test_slots_of_every_optimizer_are_zero_where_weights_are(kind):
    inner, expected = INNER[kind]
    model, optimizer = make(inner=inner(), interval=3)
    slots = read_slots(optimizer, model.trainable_variables)
    if expected is not None:
        kernels = [v for v in model.trainable_variables if v.path in SHAPES]
        assert [len(slots[id(kernel)]) for kernel in kernels] == 3 * [expected]
    for now in range(30):
        apply(optimizer, gradients_like(model.trainable_variables, now), model.trainable_variables)
        check_zeros(model, optimizer)
    assert sum(mask.sum() for mask in optimizer.masks().values()) == round(TOTAL * 0.1)


@pytest.mark.parametrize("kind", sample(["adam", "nesterov"]))
def test_accumulated_gradients_make_the_masks_of_one_big_batch(kind):
    inner, _ = INNER[kind]
    many, accumulating = make(inner=inner(gradient_accumulation_steps=4), interval=8, steps=80)
    one, plain = make(inner=inner(), interval=2, steps=20)
    updates = 0
    for update in range(20):
        parts = [gradients_like(many.trainable_variables, 4 * update + i) for i in range(4)]
        for position, gradients in enumerate(parts):
            before = accumulating.masks()
            apply(accumulating, gradients, many.trainable_variables)
            changed = any((before[p] != m).any() for p, m in accumulating.masks().items())
            assert not changed or position == 3
            updates += changed
            check_zeros(many, accumulating)
        mean = [sum(column) / 4 for column in zip(*parts)]
        apply(plain, mean, one.trainable_variables)
        for path, mask in plain.masks().items():
            # Step 8 k of 80 and step 2 k of 20 are the same share of the run: so is the rate.
            np.testing.assert_array_equal(accumulating.masks()[path], mask)
    assert updates > 5


def test_a_loss_scale_outside_leaves_out_steps_but_no_mask_update():
    model, optimizer = make(interval=4, steps=24)
    outer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)
    outer.build(model.trainable_variables)
    for now in range(24):
        gradients = [8.0 * g for g in gradients_like(model.trainable_variables, now)]
        if now == 9:
            gradients[0] = gradients[0] * np.inf
            outer_before = [ops.convert_to_numpy(v) for v in optimizer.variables]
            apply(outer, gradients, model.trainable_variables)
            for before, variable in zip(outer_before, optimizer.variables):
                np.testing.assert_array_equal(before, ops.convert_to_numpy(variable))
            optimizer.steps.assign_add(3)  # what the callback does at the end of an epoch
            continue
        apply(outer, gradients, model.trainable_variables)
        check_zeros(model, optimizer)
    assert sum(mask.sum() for mask in optimizer.masks().values()) == round(TOTAL * 0.1)


def test_a_late_update_is_made_once():
    model, optimizer = make("gmp", interval=5, steps=20)
    for now in range(3):
        apply(optimizer, gradients_like(model.trainable_variables, now), model.trainable_variables)
    optimizer.steps.assign(6)  # the update of step 5 was jumped over
    apply(optimizer, gradients_like(model.trainable_variables, 7), model.trainable_variables)
    kept = {path: mask.copy() for path, mask in optimizer.masks().items()}
    assert sum(mask.sum() for mask in kept.values()) == 36 + (TOTAL - 36) // 8
    assert int(optimizer.updated) == 7
    apply(optimizer, gradients_like(model.trainable_variables, 8), model.trainable_variables)
    for path, mask in optimizer.masks().items():
        np.testing.assert_array_equal(mask, kept[path])


@pytest.mark.parametrize("length, end", sample_pairs([1, 2, 3, 7, 50], [0.01, 0.5, 1.0]))
def test_any_run_ends_at_the_target(length, end):
    model, optimizer = make(interval=None, end=end, begin=0.0 if end < 0.5 else 0.3, steps=length)
    for now in range(length):
        apply(optimizer, gradients_like(model.trainable_variables, now), model.trainable_variables)
    assert sum(mask.sum() for mask in optimizer.masks().values()) == round(TOTAL * 0.1)


def test_a_second_run_releases_nothing():
    model, optimizer = make(interval=2, steps=10)
    for now in range(30):
        if now == 10:
            optimizer.plan.assign([10, 30])
        apply(optimizer, gradients_like(model.trainable_variables, now), model.trainable_variables)
        if now >= 9:
            assert sum(mask.sum() for mask in optimizer.masks().values()) == round(TOTAL * 0.1)


def test_without_a_plan_nothing_changes():
    model, optimizer = make(steps=0)
    for now in range(9):
        apply(optimizer, gradients_like(model.trainable_variables, now), model.trainable_variables)
    assert all(mask.all() for mask in optimizer.masks().values())


# --- ways to run ----------------------------------------------------------------------------------


def fitted(epochs=5, **compile_settings):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 11)).astype("float32")
    y = generator.integers(0, 4, 64)
    model, optimizer = make("sparse to sparse", interval=3, steps=20)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **compile_settings)
    model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return model


@tensorflow_only
@pytest.mark.parametrize(
    "settings",
    [{"jit_compile": True}, {"jit_compile": True, "steps_per_execution": 3}, {"run_eagerly": True}],
    ids=["compiled", "several steps at once", "eager"],
)
def test_masks_are_the_same_however_steps_run(settings):
    first, second = fitted(jit_compile=False), fitted(**settings)
    for path, mask in first.optimizer.masks().items():
        np.testing.assert_array_equal(mask, second.optimizer.masks()[path])
    for ours, theirs in zip(first.get_weights(), second.get_weights()):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert sum(mask.sum() for mask in first.optimizer.masks().values()) == round(TOTAL * 0.1)


@pytest.mark.parametrize("stop", sample([1, 2, 4], first=1))
def test_save_load_and_go_on_equals_no_interruption(stop, tmp_path):
    whole, part = fitted(epochs=5), fitted(epochs=stop)
    part.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 11)).astype("float32")
    y = generator.integers(0, 4, 64)
    loaded.fit(x, y, batch_size=16, initial_epoch=stop, epochs=5, shuffle=False, verbose=0)
    for path, mask in whole.optimizer.masks().items():
        np.testing.assert_array_equal(mask, loaded.optimizer.masks()[path])
    for ours, theirs in zip(whole.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


# --- settings -------------------------------------------------------------------------------------


def test_config_round_trip():
    optimizer = SparseOptimizer(
        keras.optimizers.Adam(1e-3),
        initial_sparsity=0.1,
        final_sparsity=0.8,
        exclude=("last",),
        seed=4,
    )
    config = json.loads(json.dumps(optimizer.get_config()))
    revived = SparseOptimizer.from_config(config)
    assert revived.get_config() == optimizer.get_config()
    assert revived.own_config()["exclude"] == ["last"] and revived.own_config()["seed"] == 4


@pytest.mark.parametrize("pattern", ["last", "last/kernel", "la*"])
def test_what_is_excluded_stays_dense(pattern):
    model, optimizer = make(exclude=(pattern,), interval=2, steps=10)
    for now in range(10):
        apply(optimizer, gradients_like(model.trainable_variables, now), model.trainable_variables)
    assert set(optimizer.masks()) == {"first/kernel", "second/kernel"}
    assert (ops.convert_to_numpy(model.get_layer("last").kernel) != 0).all()


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"final_sparsity": 1.0}, ValueError, "final_sparsity to be a number .* below 1; got 1.0"),
        (
            {"initial_sparsity": 0.8, "final_sparsity": 0.5},
            ValueError,
            "final_sparsity to be a number of 0.8 or more and below 1; got 0.5",
        ),
        ({"begin": 0.6}, ValueError, "end to be a number above 0.6 and of at most 1; got 0.5"),
        ({"end": 1.5}, ValueError, "end to be a number above 0 and of at most 1; got 1.5"),
        (
            {"regrow_end": 1.5},
            ValueError,
            "regrow_end to be a number of 0 .* of at most 1; got 1.5",
        ),
        (
            {"regrow_end": -0.5},
            ValueError,
            "regrow_end to be a number of 0 or more and of at most 1; got -0.5",
        ),
        ({"momentum": 0.5}, TypeError, "momentum"),
        ({"interval": 0}, ValueError, "interval to be an int of 1 or more; got 0"),
        ({"interval": 2.5}, TypeError, "interval to be an int"),
        ({"regrow_rate": 1.0}, ValueError, "regrow_rate to be a number .* below 1"),
        (
            {"growth": "momentum"},
            ValueError,
            "growth to be 'gradient' or 'random'; got 'momentum'",
        ),
        ({"distribution": "er"}, ValueError, "to be 'erk', 'uniform' or 'magnitude'; got 'er'"),
        ({"scope": "all"}, ValueError, "scope to be 'global' or 'layer'; got 'all'"),
        ({"exclude": "last"}, TypeError, "exclude to be a list of layer names.*got 'last'"),
        ({"seed": -1}, ValueError, "seed to be an int of 0 or more"),
    ],
)
def test_bad_settings(settings, error, text):
    with pytest.raises(error, match=text):
        SparseOptimizer("sgd", **settings)


@pytest.mark.parametrize(
    ("exclude", "text"),
    [
        (("nothing",), r"fit a layer or the path of a kernel \(first/kernel.*got 'nothing'"),
        (("*",), r"whose path ends in 'kernel'; exclude=\('\*',\) leaves none of first/kernel"),
    ],
)
def test_bad_patterns(exclude, text):
    with pytest.raises(ValueError, match=text):
        SparseOptimizer("sgd", exclude=exclude).build(net().trainable_variables)
