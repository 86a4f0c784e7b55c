"""Whole steps of sparse training against a reference in NumPy."""

import fractions
import math

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.common.hashed import random_scores
from resrep_keras.methods.sparse import densities as sparsity
from resrep_keras.methods.sparse import masks as rules
from resrep_keras.methods.sparse.optimizer import SparseOptimizer
from resrep_keras.optimizers.transfer import read_slots
from tests.sampling import sample
from tests.sparse_models import KINDS, MOMENTUM, RATE, SHAPES, TOTAL, apply, make
from tests.updates import gradients_like, train_step


class Reference:
    """SGD with Nesterov momentum, and the two stages of a mask update, in NumPy."""

    def __init__(self, kernels, masks, initial, final, settings, steps):
        self.w = {k: v.copy() for k, v in kernels.items()}
        self.v = {k: np.zeros_like(v) for k, v in kernels.items()}
        self.m = {k: v.copy() for k, v in masks.items()}
        self.initial, self.final, self.settings, self.steps = initial, final, settings, steps
        first = settings.get("interval", 4)
        self.last_growth = max(round(settings.get("regrow_end", 1.0) * steps), first)

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
        if now > self.last_growth:
            return
        rate = 0.005 + (0.5 - 0.005) / 2 * (1 + math.cos(math.pi * now / self.steps))
        for layer, (name, mask) in enumerate(self.m.items()):
            flat = mask.ravel().copy()
            q = math.ceil(rate * flat.sum())
            sizes = np.abs(self.w[name]).ravel()
            flat[np.argsort(np.where(flat, sizes, np.inf), kind="stable")[:q]] = False
            score = np.abs(gradients[name]).ravel()
            if self.settings.get("growth") == "random":
                seed = self.settings["seed"] + 7919 * layer
                score = ops.convert_to_numpy(random_scores(flat.size, now - 1, seed))
            order = np.argsort(-np.where(flat, -1, score), kind="stable")
            flat[order[:q]] = True
            assert flat.sum() == mask.sum()
            self.m[name] = flat.reshape(mask.shape)


def kernels_of(model):
    return {v.path: ops.convert_to_numpy(v).copy() for v in model.weights if v.path in SHAPES}


@pytest.mark.parametrize("kind", sample(KINDS))
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
    fewest = 1 if settings.get("regrow_end") == 0 else 5
    assert changes >= (
        0 if settings.get("regrow_rate") == 0 and "initial_sparsity" in settings else fewest
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
    optimizer = SparseOptimizer(
        keras.optimizers.SGD(0.01),
        initial_sparsity=0.7,
        final_sparsity=0.7,
        interval=1,
        regrow_rate=0.4,
    )
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
