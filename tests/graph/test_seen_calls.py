"""Calls of a graph, and what two lists of them differ in."""

import keras
import numpy as np
from keras import layers, ops

from resrep_keras.graph.seen_calls import calls_seen, differing_calls, made_with

dense, dropout = layers.Dense(4, name="dense"), layers.Dropout(0.5, name="dropout")


def seen(*steps, **flags):
    x = inputs = keras.Input((3,))
    x = dense(x)
    for step in steps:
        x = step(x)
    return calls_seen(keras.Model(inputs, x))


def test_equal_calls_have_equal_keys():
    first, second = (seen(lambda x: ops.multiply(x, np.arange(4.0))) for _ in range(2))
    assert [call.key for call in first] == [call.key for call in second]
    other = seen(lambda x: ops.multiply(x, np.arange(4.0) + 1))
    assert [a.key == b.key for a, b in zip(first, other)] == [True, False]


def test_what_an_operation_was_made_with_is_among_its_constants():
    first, second = (seen(lambda x, n=n: ops.expand_dims(x, n)) for n in (1, 2))
    assert first[-1].key != second[-1].key


def test_the_flag_is_told_apart_from_constants():
    calls = seen(lambda x: dropout(x, training=True))
    assert [call.training for call in calls] == [None, True]
    assert [call.may_matter_in_training_only for call in calls] == [False, True]
    assert calls[-1].key == seen(lambda x: dropout(x, training=False))[-1].key


def test_what_only_one_list_has():
    both = [ops.relu, lambda x: dropout(x, training=True)]
    missing, more = differing_calls(seen(ops.relu), seen(*both))
    assert not missing and [call.operation for call in more] == [dropout]
    missing, more = differing_calls(seen(*both), seen(*reversed(both)))
    assert len(missing) == len(more) == 3  # the order is another one
    assert differing_calls(seen(ops.relu), seen(ops.relu)) == ([], [])
    assert len(differing_calls(seen(ops.relu), seen(ops.relu, ops.relu))[1]) == 3


def test_what_an_operation_was_made_with():
    class Scale(keras.Operation):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

    factor = ops.convert_to_tensor(2)
    assert made_with(Scale(factor))["factor"] is factor
    inputs = keras.Input((4,))
    softmax = keras.Model(inputs, ops.softmax(inputs, axis=1)).operations[-1]
    assert made_with(softmax) == {"axis": 1}
