"""The state of an optimizer, for a model with fewer channels."""

import types

import keras
import numpy as np
import pytest
from keras import ops

from resrep_keras.layers.compactor import Compactor
from resrep_keras.optimizers.penalty import PenaltyOptimizer
from resrep_keras.optimizers.transfer import (
    by_path,
    copy_decay_exclusions,
    copy_rest,
    read_slots,
    single_optimizers,
    successor,
    unpruned,
)


def variables(size=3):
    return [keras.Variable(np.ones((size, 2)), name="kernel"), keras.Variable(np.ones(2), name="b")]


def stepped(optimizer, held):
    optimizer.build(held)
    optimizer.apply([ops.ones(v.shape) for v in held], held)
    return optimizer


@pytest.mark.parametrize(
    ("optimizer", "number"),
    [
        (keras.optimizers.SGD(0.1), 0),
        (keras.optimizers.SGD(0.1, momentum=0.9), 1),
        (keras.optimizers.Adam(), 2),
        pytest.param(
            keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
            2,
            marks=pytest.mark.tensorflow_only,  # others step within fit only
        ),
    ],
)
def test_slots_of_each_variable(optimizer, number):
    held = variables()
    slots = read_slots(stepped(optimizer, held), held)
    for variable in held:
        found = slots[id(variable)]
        assert [tuple(slot.shape) for slot in found] == [tuple(variable.shape)] * number


def test_factors_are_no_slots():
    held = [keras.Variable(np.ones((200, 150)), name="kernel")]
    (found,) = read_slots(stepped(keras.optimizers.Adafactor(), held), held).values()
    assert all(tuple(slot.shape) == (200, 150) for slot in found)


def test_the_slots_of_compactors_come_from_their_own_optimizer():
    compactor = Compactor()
    compactor.build((None, 2))
    held = [compactor.kernel, *variables()]
    slots = read_slots(stepped(PenaltyOptimizer("adam"), held), held)
    # Of a compactor velocity, shrink, effect and updates seen; of the others those of Adam.
    assert [len(slots[id(v)]) for v in held] == [4, 2, 2]


def test_a_successor_has_the_settings_and_the_rest():
    old_variables, new_variables = variables(3), variables(2)
    old = stepped(keras.optimizers.Adam(0.25), old_variables)
    old.apply([ops.ones(v.shape) for v in old_variables], old_variables)
    new = successor(old, new_variables)
    assert float(new.learning_rate) == 0.25 and int(new.iterations) == 0
    slots = {**read_slots(old, old_variables), **read_slots(new, new_variables)}
    copy_rest(old, new, {id(slot) for found in slots.values() for slot in found})
    assert int(new.iterations) == 2
    for found in read_slots(new, new_variables).values():
        assert all(not ops.convert_to_numpy(slot).any() for slot in found)  # left to the caller


def test_variables_of_two_models_are_paired_by_path():
    old, new = variables(3), variables(2)[::-1]
    assert by_path(old, new) == [(old[0], new[1]), (old[1], new[0])]
    assert by_path(old, new[:1]) == [(old[1], new[0])]


def test_the_single_optimizers_inside_of_wrappers():
    inner = keras.optimizers.Adam()
    assert single_optimizers(inner) == [inner]
    assert single_optimizers(keras.optimizers.LossScaleOptimizer(inner)) == [inner]


def test_what_is_excluded_from_weight_decay_is_copied():
    here, there = keras.Variable(1.0, name="a"), keras.Variable(1.0, name="a")
    old, new = (keras.optimizers.AdamW(0.1, weight_decay=0.5) for _ in range(2))
    old.exclude_from_weight_decay(var_list=[here])
    copy_decay_exclusions(old, new, [(here, there)])
    new.build([there])
    new.apply([ops.zeros(())], [there])
    assert float(there) == 1.0


def test_pairs_go_by_the_end_of_a_path_where_it_is_alone():
    def named(*paths):
        return [types.SimpleNamespace(path=path) for path in paths]

    old = named("a/kernel", "inner/b/kernel", "x/c/kernel", "y/c/kernel", "d/kernel")
    new = named("a/kernel", "b/kernel", "c/kernel", "e/kernel")
    pairs = [(here.path, there.path) for here, there in by_path(old, new)]
    assert pairs == [("a/kernel", "a/kernel"), ("inner/b/kernel", "b/kernel")]


def test_what_is_around_an_optimizer_is_left_out():
    assert unpruned(None) is None
    inner = keras.optimizers.Adam(0.1, beta_1=0.7)
    inner.learning_rate = 0.25
    scaled = keras.optimizers.LossScaleOptimizer(PenaltyOptimizer(inner), initial_scale=8.0)
    fresh = unpruned(scaled)
    assert type(fresh) is keras.optimizers.LossScaleOptimizer and fresh.initial_scale == 8
    assert fresh.inner_optimizer is not inner
    assert fresh.inner_optimizer.get_config() == inner.get_config()
    assert unpruned(PenaltyOptimizer(inner)).get_config() == inner.get_config()
