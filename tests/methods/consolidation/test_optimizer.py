"""The optimizer of consolidation: each update by hand, around any other one."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from resrep_keras import FineTuning, SynapticIntelligence
from resrep_keras.methods.consolidation.optimizer import ConsolidationOptimizer
from tests import updates
from tests.methods.consolidation import nets
from tests.optimizer_kinds import KINDS

RATE, STRENGTH = 0.1, 0.25
TRUNK = ("first/kernel", "first/bias", "second/kernel", "second/bias")


def array(value):
    return np.array(ops.convert_to_numpy(value), np.float64)


def make(inner, task=0, **settings):
    """An optimizer in the middle of a sequence, with random importance and references."""
    model = nets.dense_model()
    tasks = {
        v.path: [int(v.path[5])] for v in model.trainable_variables if v.path.startswith("head")
    }
    settings = {"strength": STRENGTH, "trunk": TRUNK, "tasks": tasks, "num_tasks": 3, **settings}
    optimizer = ConsolidationOptimizer(inner, **settings)
    variables = model.trainable_variables
    optimizer.build(variables)
    generator = np.random.default_rng(0)
    zeros = [np.zeros(each.variable.shape) for each in optimizer.held]
    for _ in range(task):
        optimizer.end_task(zeros)
    for each in optimizer.held:
        each.importance.assign(generator.uniform(size=each.importance.shape))
        each.reference.assign(generator.normal(size=each.reference.shape))
    return optimizer, variables


def pulled(optimizer, variables, gradients):
    """What the gradients of objective and penalty are, by hand."""
    held = {each.variable.path: each for each in optimizer.held}
    found = [array(gradient) for gradient in gradients]
    for gradient, variable in zip(found, variables):
        each = held.get(variable.path)
        if each is not None:
            away = array(variable) - array(each.reference)
            gradient += 2 * STRENGTH * array(each.importance) * away
    return found


@pytest.mark.parametrize("kind", updates.SCALES)
def test_an_update_is_that_of_objective_and_penalty(kind):
    make_inner, steps = updates.SCALES[kind]
    inner = make_inner(RATE)
    outer = inner if isinstance(inner, keras.optimizers.LossScaleOptimizer) else None
    optimizer, variables = make(inner if outer is None else inner.inner_optimizer)
    if outer is not None:
        outer.inner_optimizer = optimizer
        outer.build(variables)
    scale = float(ops.convert_to_numpy((outer or optimizer).scale_loss(1.0)))
    before = [array(v) for v in variables]
    drawn = [updates.gradients_like(variables, seed) for seed in range(steps)]
    mean = [np.mean([array(g) for g in each], 0) for each in zip(*drawn)]
    expected = pulled(optimizer, variables, mean)
    for gradients in drawn:
        updates.apply(outer or optimizer, [g * scale for g in gradients], variables)
    for variable, start, gradient in zip(variables, before, expected):
        theirs = variable.path.startswith(("head_1", "head_2"))
        moved = 0 * gradient if theirs else -RATE * gradient
        np.testing.assert_allclose(array(variable) - start, moved, atol=2e-6)


def test_a_clipped_norm_is_that_of_both_together():
    optimizer, variables = make(keras.optimizers.SGD(1.0, global_clipnorm=0.5))
    gradients = updates.gradients_like(variables, 0)
    expected = pulled(optimizer, variables, gradients)[:6]  # the trunk, and the head of task 0
    norm = np.sqrt(sum(np.square(g).sum() for g in expected))
    before = [array(v) for v in variables]
    updates.apply(optimizer, gradients, variables)
    for variable, start, gradient in zip(variables, before, expected):
        np.testing.assert_allclose(start - array(variable), 0.5 * gradient / norm, atol=1e-6)


def test_an_optimizer_of_several_is_refused_in_words():
    with pytest.raises(ValueError, match=r"Expected one optimizer .* got a MultiOptimizer"):
        make(KINDS["MultiOptimizer"]())
    optimizer, variables = make(KINDS["MultiOptimizer"](), tasks={})
    before = array(variables[0])
    updates.apply(optimizer, updates.gradients_like(variables, 0), variables)
    assert (array(variables[0]) != before).any()


@pytest.mark.parametrize("kind", [*sorted(KINDS.keys() - {"MultiOptimizer"}), "adamw that decays"])
def test_heads_of_other_tasks_are_left_as_they_are(kind):
    makers = {**KINDS, "adamw that decays": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.5)}
    optimizer, variables = make(makers[kind](), task=1)
    before = [array(v) for v in variables]
    for seed in range(3):
        updates.apply(optimizer, updates.gradients_like(variables, seed), variables, compiled=True)
    for variable, start in zip(variables, before):
        other = variable.path.startswith(("head_0", "head_2"))
        assert (array(variable) == start).all() == other, variable.path


def test_a_masked_weight_stays_zero_with_what_the_optimizer_holds_for_it():
    inner = keras.optimizers.AdamW(0.1, weight_decay=0.1)
    optimizer, variables = make(inner, prunes=True)
    updates.apply(optimizer, updates.gradients_like(variables, 5), variables, compiled=True)
    generator = np.random.default_rng(1)
    masks = [generator.uniform(size=each.variable.shape) < 0.5 for each in optimizer.held]
    optimizer.set_masks(masks)
    for seed in range(3):
        updates.apply(optimizer, updates.gradients_like(variables, seed), variables, compiled=True)
        for each, mask in zip(optimizer.held, masks):
            assert len(each.slots) == 2
            for variable in (each.variable, *each.slots):
                assert (array(variable)[~mask] == 0).all() and (array(variable)[mask] != 0).all()
    optimizer.end_task([np.zeros(mask.shape) for mask in masks])
    updates.apply(optimizer, updates.gradients_like(variables, 9), variables)  # anew: task 1
    for each, mask in zip(optimizer.held, masks):
        assert (array(each.variable) != 0).all()
        np.testing.assert_array_equal(array(each.needed), mask)


@pytest.mark.parametrize("kind", updates.SCALES)
def test_a_path_integral_is_the_sum_of_gradient_times_change(kind):
    make_inner, steps = updates.SCALES[kind]
    inner = make_inner(RATE)
    outer = inner if isinstance(inner, keras.optimizers.LossScaleOptimizer) else None
    optimizer, variables = make(inner if outer is None else inner.inner_optimizer, integrates=True)
    if outer is not None:
        outer.inner_optimizer = optimizer
        outer.build(variables)
    scale = float(ops.convert_to_numpy((outer or optimizer).scale_loss(1.0)))
    sums = [np.zeros(each.variable.shape) for each in optimizer.held]
    for update in range(2):
        drawn = [updates.gradients_like(variables, 10 * update + seed) for seed in range(steps)]
        before = [array(each.variable) for each in optimizer.held]
        for gradients in drawn:
            updates.apply(outer or optimizer, [g * scale for g in gradients], variables)
        for total, start, each, *found in zip(sums, before, optimizer.held, *drawn):
            mean = np.mean([array(g) for g in found], 0)  # of the objective alone
            total -= mean * (array(each.variable) - start)
    for each, total in zip(optimizer.held, sums):
        found = array(optimizer.integral.integral(each.variable))
        np.testing.assert_allclose(found, total, atol=1e-5)
        assert np.abs(total).max() > 0.1


def test_importance_adds_up_or_is_the_largest():
    for accumulate, expected in (("sum", 3.0), ("max", 2.0)):
        optimizer, _ = make(keras.optimizers.SGD(RATE))
        for each in optimizer.held:
            each.importance.assign(0 * each.importance.value)
        for value in (2.0, 1.0):
            found = [np.full(each.variable.shape, value) for each in optimizer.held]
            optimizer.end_task(found, accumulate)
        assert optimizer.largest_importance() == expected
        for each in optimizer.held:
            np.testing.assert_array_equal(array(each.importance), expected)
            np.testing.assert_array_equal(array(each.reference), array(each.variable))


def test_its_configuration_is_json():
    optimizer, variables = make(keras.optimizers.Adam(0.3), integrates=True, prunes=True)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(optimizer)))
    revived = keras.saving.deserialize_keras_object(config)
    assert revived.get_config() == optimizer.get_config()
    revived.build(variables)
    assert revived.num_tasks == 3 and len(revived.held) == 4
    assert len(revived.variables) == len(optimizer.variables)


def test_without_strength_the_gradient_is_untouched():
    model = nets.wrapped(FineTuning())
    gradient = ops.convert_to_tensor(np.ones((5, 12), "float32"))
    model.optimizer.build(model.trainable_variables)
    assert model.optimizer._pulled(gradient, model.trainable_variables[0]) is gradient


def test_the_change_over_a_task_is_counted_from_its_first_step():
    model = nets.wrapped(SynapticIntelligence())
    model.optimizer.build(model.trainable_variables)
    model.set_weights([weight + 1 for weight in model.get_weights()])  # after it was built
    start = nets.weights_of(model)
    nets.fit(model, epochs=1)
    for each in model.optimizer.held:
        np.testing.assert_array_equal(array(each.reference), start[each.variable.path])
