"""Callbacks come alone, in lists, and in a CallbackList, which stays the same object."""

import keras

from resrep_keras.training.given_callbacks import callbacks_of, with_callbacks


def test_callbacks_come_in_any_form():
    one, two = keras.callbacks.Callback(), keras.callbacks.Callback()
    assert callbacks_of(None) == []
    assert callbacks_of(one) == [one]
    assert callbacks_of((one, [two])) == [one, two]
    known = keras.callbacks.CallbackList([one, two])
    assert callbacks_of(known) == [one, two]


def test_callbacks_that_join_a_list_are_told_of_the_model():
    one, two = keras.callbacks.Callback(), keras.callbacks.Callback()
    assert with_callbacks([one], [two, one]) == [two, one]
    model = keras.Sequential([keras.Input((2,))])
    known = keras.callbacks.CallbackList([one], model=model, epochs=3)
    assert with_callbacks(known, [two, one]) is known
    assert known.callbacks == [two, one]
    assert two.model is model and two.params == {"epochs": 3}
