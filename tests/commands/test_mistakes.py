"""Errors of what was given are words, those of the library none."""

import pytest

from resrep_keras.commands.mistakes import words_of


@pytest.mark.parametrize("kind", [ValueError, TypeError, FileNotFoundError, ModuleNotFoundError])
def test_what_will_not_do_is_told(kind):
    assert words_of(kind("said")) == "said"


@pytest.mark.parametrize("kind", [AssertionError, AttributeError, KeyError, RuntimeError])
def test_other_errors_are_not(kind):
    assert words_of(kind("said")) is None


@pytest.mark.tensorflow_only
def test_of_a_message_of_tensorflow_the_cause_is_told():
    import tensorflow as tf

    message = (
        "Graph execution error:\n\nDetected at node loss defined at (most recent call last):\n"
        '  File "train.py", line 3, in <module>\nLabel 9 is out of range.\n\t [[{{node loss}}]]'
    )
    told = words_of(tf.errors.InvalidArgumentError(None, None, message))
    assert told.endswith(": Label 9 is out of range.") and "train.py" not in told
    assert words_of(tf.errors.OpError(None, None, "", 3)).endswith("an operation has failed")
