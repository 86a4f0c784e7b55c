"""ANPyC: which weights it frees, and what becomes of them."""

import keras
import numpy as np
import pytest
from keras import ops

from resrep_keras import ANPyC, end_task
from resrep_keras.methods.consolidation.data import TaskData
from resrep_keras.methods.consolidation.pruning import first_mask, later_mask
from tests.methods.consolidation import nets


def array(value):
    return np.array(ops.convert_to_numpy(value))


def trunk(model):
    return {each.variable.path: array(each.variable) for each in model.optimizer.held}


def scores(model, task):
    data = TaskData(model, *nets.data(task))
    return [array(s) for s in model.method.measure(model, model.optimizer, data)]


def test_only_what_is_free_becomes_zero_and_all_else_is_bit_identical():
    """One stage without training anew: 10 percent in each task."""
    model = nets.wrapped(ANPyC(0.01, initial_percent=10, retrain_epochs=0))
    nets.fit(model)
    before, measured = trunk(model), scores(model, 0)
    end_task(model, *nets.data())
    masks = [first_mask(found, 10) for found in measured]
    for (path, after), mask in zip(trunk(model).items(), masks):
        np.testing.assert_array_equal(after, np.where(mask, before[path], 0), err_msg=path)
    for each, mask in zip(model.optimizer.held, masks):
        np.testing.assert_array_equal(array(each.needed), mask)
        assert array(each.mask).all()
        assert not array(each.importance)[~mask].any()
    assert sum((~mask).sum() for mask in masks) >= 0.1 * sum(mask.size for mask in masks)

    nets.fit(model, 1)
    before, measured = trunk(model), scores(model, 1)
    assert any(before[p][~m].any() for p, m in zip(before, masks))  # they are trained again
    end_task(model, *nets.data(1))
    for (path, after), mask, found in zip(trunk(model).items(), masks, measured):
        kept = later_mask(found, mask, 10)
        assert kept[mask].all() and not kept.all()
        np.testing.assert_array_equal(after, np.where(kept, before[path], 0), err_msg=path)


class Watch(keras.callbacks.Callback):
    """Notes the zeros of the trunk, and the steps, behind each epoch."""

    def __init__(self):
        super().__init__()
        self.zeros, self.steps = [], []

    def on_epoch_end(self, epoch, logs=None):
        optimizer = self.model.optimizer
        for each in optimizer.held:
            assert not array(each.variable)[~array(each.mask)].any()
        self.zeros.append(sum((array(each.variable) == 0).sum() for each in optimizer.held))
        self.steps.append(int(array(optimizer.iterations)))


def test_each_stage_frees_more_and_trains_on_with_the_rate_where_it_is():
    model = nets.wrapped(ANPyC(0.01, initial_percent=30, retrain_epochs=2))
    nets.fit(model)  # 2 epochs of 4 steps
    watch = Watch()
    x, y = nets.data()
    end_task(model, x, y, batch_size=16, callbacks=[watch])
    assert watch.steps == [12, 16, 20, 24, 28, 32]  # 3 stages of 2 epochs of 4 steps
    assert watch.zeros[0] == watch.zeros[1] < watch.zeros[2] <= watch.zeros[4]
    size = sum(value.size for value in trunk(model).values())
    assert watch.zeros[4] >= 0.3 * size
    free = [~array(each.needed) for each in model.optimizer.held]
    assert sum(mask.sum() for mask in free) == watch.zeros[-1]
    nets.fit(model, 1)
    assert any(value[mask].any() for value, mask in zip(trunk(model).values(), free))


@pytest.mark.parametrize("last", ["output", "told"])
def test_the_last_task_frees_nothing_and_needs_no_labels(last):
    dense = nets.dense_model(2) if last == "output" else nets.one_head()
    model = nets.wrapped(ANPyC(0.01, initial_percent=10, retrain_epochs=0), dense)
    for task in range(2):
        nets.fit(model, task)
        before = trunk(model)
        x, y = nets.data(task)
        if task == 0:
            end_task(model, x, y)
        else:
            end_task(model, x, **({"last": True} if last == "told" else {}))
        same = all((before[path] == value).all() for path, value in trunk(model).items())
        assert same == (task == 1)


def test_what_the_task_does_not_read_is_left_to_those_that_do():
    inputs = keras.Input((5,))
    x = keras.layers.Dense(6, name="all")(inputs)
    y = keras.layers.Dense(6, name="two")(x)
    heads = [keras.layers.Dense(3)(tensor) for tensor in (x, y, y)]
    model = nets.wrapped(
        ANPyC(0.01, initial_percent=10, retrain_epochs=0), keras.Model(inputs, heads)
    )
    nets.fit(model)
    before = trunk(model)
    end_task(model, *nets.data())
    after = trunk(model)
    np.testing.assert_array_equal(after["two/kernel"], before["two/kernel"])
    assert (after["all/kernel"] == 0).any() and after["two/kernel"].all()


def test_without_percent_nothing_is_freed():
    model = nets.wrapped(ANPyC(0.01, initial_percent=None))
    nets.fit(model)
    before = trunk(model)
    end_task(model, nets.data()[0])
    assert all((before[path] == value).all() for path, value in trunk(model).items())
    assert all(each.mask is None for each in model.optimizer.held)
