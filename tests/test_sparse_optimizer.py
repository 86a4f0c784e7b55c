"""Sparse training: exact counts, and whole steps against a NumPy reference."""

import fractions
import json
import math

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras import sparsity
from resrep_keras.optimizers import masks as rules
from resrep_keras.optimizers.sparse import SparseOptimizer
from resrep_keras.optimizers.transfer import read_slots
from tests.conditions.test_optimizers import gradients_like
from tests.test_penalty import train_step

RATE, MOMENTUM = 0.05, 0.9
tensorflow_only = pytest.mark.tensorflow_only


def net(**kwargs):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((11,))
    x = layers.Dense(16, activation="relu", name="first", **kwargs)(inputs)
    x = layers.Dense(9, activation="relu", name="second", **kwargs)(x)
    return keras.Model(inputs, layers.Dense(4, name="last", **kwargs)(x))


COMPILED = {}


def apply(optimizer, gradients, variables):
    """One update on any backend, compiled once for each optimizer where it has no eager form."""
    if keras.backend.backend() != "jax":
        optimizer.apply(gradients, variables)
        return
    import jax

    if id(optimizer) not in COMPILED:  # what is compiled keeps its optimizer, and so its id
        COMPILED[id(optimizer)] = jax.jit(optimizer.stateless_apply)
    states = [variable.value for variable in optimizer.variables]
    values = [variable.value for variable in variables]
    values, states = COMPILED[id(optimizer)](states, gradients, values)
    for variable, value in [*zip(variables, values), *zip(optimizer.variables, states)]:
        variable.assign(value)


SHAPES = {"first/kernel": (11, 16), "second/kernel": (16, 9), "last/kernel": (9, 4)}
TOTAL = 11 * 16 + 16 * 9 + 9 * 4
KINDS = {
    "granet": {},
    "sparse to sparse": {"initial_sparsity": 0.5},
    "by layer": {"initial_sparsity": 0.3, "scope": "layer"},
    "by layer, uniform": {"scope": "layer", "distribution": "uniform"},
    "gmp": {"regrow_rate": 0},
    "late": {"begin": 0.25, "end": 1.0, "interval": 5},
    "rigl": {"initial_sparsity": 0.9},
    "set": {"initial_sparsity": 0.9, "growth": "random", "seed": 5},
    "static": {"initial_sparsity": 0.9, "regrow_rate": 0, "distribution": "uniform"},
    "one shot": {"initial_sparsity": 0.9, "regrow_rate": 0, "distribution": "magnitude"},
}


def make(kind=None, inner=None, steps=40, **settings):
    model = net()
    inner = keras.optimizers.SGD(RATE, momentum=MOMENTUM, nesterov=True) if inner is None else inner
    settings = {"interval": 4, **KINDS.get(kind, {}), **settings}
    optimizer = SparseOptimizer(inner, **settings)
    optimizer.build(model.trainable_variables)
    optimizer.plan.assign([0, steps])
    return model, optimizer


# --- how much of each layer ---------------------------------------------------------------------------


def test_erk_of_the_usual_net_by_hand():
    """At 2 % no layer is dense, so epsilon is the number of kept weights by the sum of all sizes."""
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


def test_sparsity_at_begins_and_ends_where_it_should():
    assert sparsity.sparsity_at(0, 5, 0.5, 0.95) == 0.5
    assert sparsity.sparsity_at(5, 5, 0.5, 0.95) == 0.95
    np.testing.assert_allclose(sparsity.sparsity_at(1, 2, 0.0, 0.8), 0.8 - 0.8 / 8)
    for k in range(8):
        asked = 1000 * (1 - sparsity.sparsity_at(k, 7, 0.5, 0.95))
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


# --- one choice -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True], ids=["by bits", "by sorting"])
@pytest.mark.parametrize("number", [0, 1, 3, 4, 7, 8])
def test_keep_largest_breaks_ties_by_position(number, old, monkeypatch):
    if old:
        monkeypatch.delattr(ops, "view")
    scores = np.array([2, 1, 2, 5, 1, 2, 0, 2, -1, -1], "float32")
    order = np.argsort(-scores, kind="stable")
    expected = np.zeros(10, bool)
    expected[order[:number]] = True
    mask = rules.keep_largest(ops.convert_to_tensor(scores), number)
    np.testing.assert_array_equal(ops.convert_to_numpy(mask), expected)


@pytest.mark.parametrize("scale", [1e-38, 1e-6, 1.0, 1e30])
def test_keep_largest_of_many(scale):
    scores = scale * np.abs(np.random.default_rng(0).normal(size=5000)).astype("float32")
    scores[::7] = scores[0]
    for number in (1, 600, 4999):
        mask = ops.convert_to_numpy(rules.keep_largest(ops.convert_to_tensor(scores), number))
        order = np.argsort(-scores, kind="stable")
        np.testing.assert_array_equal(np.flatnonzero(mask), np.sort(order[:number]))


def test_growth_never_takes_what_is_active_though_all_gradients_are_zero():
    mask = np.array([1, 0, 1, 0, 1, 0, 0, 1], bool)
    sizes = np.array([4, 0, 3, 0, 2, 0, 0, 1], "float32")
    new = rules.regenerate(
        *map(ops.convert_to_tensor, (mask, sizes, np.zeros(8, "float32"))), rate=0.5
    )
    # The two smallest are dropped; of equal gradients, those in front grow.
    np.testing.assert_array_equal(ops.convert_to_numpy(new), [1, 1, 1, 1, 0, 0, 0, 0])


def test_random_scores_are_spread_evenly_and_differ_by_step_and_seed():
    def draw(step, seed):
        return ops.convert_to_numpy(rules.random_scores(20_000, step, seed))

    first = draw(7, 0)
    parts = np.histogram(first, 10, (0, 2**24))[0]
    assert abs(parts - 2000).max() < 5 * np.sqrt(2000)
    assert len(set(first)) > 19_900  # of 2 ** 24 numbers, 12 pairs are equal by chance
    for other in (draw(8, 0), draw(7, 1)):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.03


# --- whole steps ----------------------------------------------------------------------------------------


class Reference:
    """SGD with Nesterov momentum, and the two stages of a mask update, in NumPy."""

    def __init__(self, kernels, masks, initial, final, settings, steps):
        self.w = {k: v.copy() for k, v in kernels.items()}
        self.v = {k: np.zeros_like(v) for k, v in kernels.items()}
        self.m = {k: v.copy() for k, v in masks.items()}
        self.initial, self.final, self.settings, self.steps = initial, final, settings, steps

    def step(self, gradients, now):
        for k, g in gradients.items():
            self.v[k] = np.float32(MOMENTUM) * self.v[k] - np.float32(RATE) * g
            self.w[k] = self.w[k] + np.float32(MOMENTUM) * self.v[k] - np.float32(RATE) * g
        self.clear()
        begin = round(self.settings.get("begin", 0.0) * self.steps)
        end = round(self.settings.get("end", 0.5) * self.steps)
        interval = self.settings.get("interval", 4)
        k, late = divmod(now - begin, interval)
        if late == 0 and k >= 1:
            self.prune(k, (end - begin) // interval)
            if self.settings.get("regrow_rate", 0.5):
                self.regenerate(gradients, now)
            self.clear()

    def clear(self):
        for k, mask in self.m.items():
            self.w[k][~mask] = 0
            self.v[k][~mask] = 0

    def prune(self, k, n):
        if self.initial == self.final:
            return
        share = fractions.Fraction(max(0, n - k), n) ** 3
        names = [list(self.m)] if len(self.initial) == 1 else [[name] for name in self.m]
        for part, first, last in zip(names, self.initial, self.final):
            goal = last + math.floor((first - last) * share + fractions.Fraction(1, 2))
            sizes = np.concatenate([np.abs(self.w[name]).ravel() for name in part])
            active = np.concatenate([self.m[name].ravel() for name in part])
            order = np.argsort(-np.where(active, sizes, -1), kind="stable")
            kept = np.zeros(len(order), bool)
            kept[order[: min(goal, active.sum())]] = True
            for name in part:
                size = self.m[name].size
                self.m[name], kept = kept[:size].reshape(self.m[name].shape), kept[size:]

    def regenerate(self, gradients, now):
        rate = 0.005 + (0.5 - 0.005) / 2 * (1 + math.cos(math.pi * now / self.steps))
        for layer, (name, mask) in enumerate(self.m.items()):
            flat = mask.ravel().copy()
            q = math.ceil(rate * flat.sum())
            sizes = np.abs(self.w[name]).ravel()
            flat[np.argsort(np.where(flat, sizes, np.inf), kind="stable")[:q]] = False
            score = np.abs(gradients[name]).ravel()
            if self.settings.get("growth") == "random":
                seed = self.settings["seed"] + 7919 * layer
                score = ops.convert_to_numpy(rules.random_scores(flat.size, now - 1, seed))
            order = np.argsort(-np.where(flat, -1, score), kind="stable")
            flat[order[:q]] = True
            assert flat.sum() == mask.sum()
            self.m[name] = flat.reshape(mask.shape)


def kernels_of(model):
    return {v.path: ops.convert_to_numpy(v).copy() for v in model.weights if v.path in SHAPES}


@pytest.mark.parametrize("kind", KINDS)
def test_whole_steps_equal_the_reference(kind):
    """Masks bit for bit, weights and momentum up to rounding; all counts as planned."""
    model, optimizer = make(kind)
    shapes, settings = list(SHAPES.values()), KINDS[kind]
    both = [
        rules.numbers_at(
            shapes, s, settings.get("distribution", "erk"), settings.get("scope", "global")
        )
        for s in (settings.get("initial_sparsity", 0.0), 0.9)
    ]
    reference = Reference(kernels_of(model), optimizer.masks(), *both, settings, steps=40)
    slots = read_slots(optimizer, model.trainable_variables)
    changes, before = 0, optimizer.masks()
    for now in range(1, 41):
        gradients = gradients_like(model.trainable_variables, now)
        apply(optimizer, gradients, model.trainable_variables)
        named = {
            v.path: ops.convert_to_numpy(g) for v, g in zip(model.trainable_variables, gradients)
        }
        reference.step({path: named[path] for path in SHAPES}, now)
        masks = optimizer.masks()
        changes += any((masks[path] != before[path]).any() for path in SHAPES)
        before = masks
        for variable in model.trainable_variables:
            if variable.path not in SHAPES:
                continue
            mask = masks[variable.path]
            np.testing.assert_array_equal(mask, reference.m[variable.path], err_msg=f"step {now}")
            (momentum,) = slots[id(variable)]
            for ours, theirs in ((variable, reference.w), (momentum, reference.v)):
                ours = ops.convert_to_numpy(ours)
                np.testing.assert_array_equal(ours[~mask], 0)
                np.testing.assert_allclose(ours, theirs[variable.path], rtol=1e-4, atol=1e-5)
    assert sum(int(mask.sum()) for mask in masks.values()) == round(TOTAL * (1 - 0.9))
    assert changes >= (
        0 if settings.get("regrow_rate") == 0 and "initial_sparsity" in settings else 5
    )


@pytest.mark.parametrize("kind", ["rigl", "set", "static"])
def test_fixed_sparsity_never_changes_in_any_layer(kind):
    model, optimizer = make(kind)
    start = {path: mask.sum() for path, mask in optimizer.masks().items()}
    assert sum(start.values()) == round(TOTAL * 0.1)
    for now in range(20):
        apply(optimizer, gradients_like(model.trainable_variables, now), model.trainable_variables)
        assert {path: mask.sum() for path, mask in optimizer.masks().items()} == start


def test_what_grows_has_the_largest_gradients_of_the_batch():
    """The gradient of sum((x W - t)^2) / 2 is recomputed by hand."""
    inputs = keras.Input((12,))
    model = keras.Model(inputs, layers.Dense(10, use_bias=False, name="only")(inputs))
    optimizer = SparseOptimizer(keras.optimizers.SGD(0.01), 0.7, 0.7, interval=1, regrow_rate=0.4)
    optimizer.build(model.trainable_variables)
    optimizer.plan.assign([0, 10])
    optimizer.apply_masks()
    generator = np.random.default_rng(0)
    x = generator.normal(size=(6, 12)).astype("float32")
    target = generator.normal(size=(6, 10)).astype("float32")
    for now in range(1, 6):
        kernel = kernel_of(model)
        gradient = x.T @ (x @ kernel - target)
        old = optimizer.masks()["only/kernel"]
        train_step(model, optimizer, x, target)
        new = optimizer.masks()["only/kernel"]
        stepped = np.where(old, np.abs(kernel - 0.01 * gradient), np.inf)
        q = math.ceil(float(sparsity.regrow_rate_at(now, 10, 0.4)) * old.sum())
        stay = old.copy()
        stay.ravel()[np.argsort(stepped, axis=None, kind="stable")[:q]] = False
        score = np.where(stay, -np.inf, np.abs(gradient))
        grown = np.zeros_like(old)
        grown.ravel()[np.argsort(-score, axis=None, kind="stable")[:q]] = True
        np.testing.assert_array_equal(new & ~stay, grown)
        np.testing.assert_array_equal(kernel_of(model)[new & ~old], 0)  # new weights begin at 0
        assert (new & ~old).any()


def kernel_of(model):
    return ops.convert_to_numpy(model.weights[0]).copy()


# --- any inner optimizer ---------------------------------------------------------------------------------

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


@pytest.mark.parametrize("kind", INNER)
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


@pytest.mark.parametrize("kind", ["adam", "nesterov"])
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


@pytest.mark.parametrize("length", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("end", [0.01, 0.5, 1.0])
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


# --- ways to run ------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("stop", [1, 2, 4])
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


# --- settings ---------------------------------------------------------------------------------------------


def test_config_round_trip():
    optimizer = SparseOptimizer(keras.optimizers.Adam(1e-3), 0.1, 0.8, exclude=("last",), seed=4)
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


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"final_sparsity": 1.0}, ValueError, "final_sparsity to be a number .* below 1; got 1.0"),
        (
            {"initial_sparsity": 0.8, "final_sparsity": 0.5},
            ValueError,
            "final_sparsity to be a number of 0.8 or more and below 1; got 0.5",
        ),
        ({"begin": 0.6}, ValueError, "end to be a number above 0.6; got 0.5"),
        ({"end": 1.5}, ValueError, "share of the run, at most 1; got 1.5"),
        ({"interval": 0}, ValueError, "interval to be an int of 1 or more; got 0"),
        ({"interval": 2.5}, TypeError, "interval to be an int"),
        ({"regrow_rate": 1.0}, ValueError, "regrow_rate to be a number .* below 1"),
        (
            {"growth": "momentum"},
            ValueError,
            "growth to be one of gradient, random; got 'momentum'",
        ),
        ({"distribution": "er"}, ValueError, "one of erk, uniform, magnitude; got 'er'"),
        ({"scope": "all"}, ValueError, "scope to be one of global, layer; got 'all'"),
        ({"exclude": "last"}, TypeError, "exclude to be a list of layers.*got 'last'"),
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
