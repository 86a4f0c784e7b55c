"""What every method is: a value, with answers that change nothing unless it gives others."""

import dataclasses
import re

import keras
import pytest

from resrep_keras.methods.callback import MethodCallback
from resrep_keras.methods.method import Method


@keras.saving.register_keras_serializable("test_method")
@dataclasses.dataclass(eq=False, repr=False)
class Own(Method):
    """A method with a target and a setting."""

    target: float = 0.5
    order: str = "L1"


@keras.saving.register_keras_serializable("test_method")
class ByHand(Method):
    """A method with a constructor of its own."""

    def __init__(self, target=0.5):
        super().__init__()
        self.target = target


def test_the_target_comes_first_and_total_steps_by_name_only():
    assert Own(0.25).target == 0.25 and Own(0.25, total_steps=7).total_steps == 7
    with pytest.raises(TypeError):
        Own(0.25, "L1", 7)


@pytest.mark.parametrize("method", [Own(0.25, "L2"), Own(total_steps=3), ByHand(0.1)])
def test_a_method_is_a_value(method):
    config = keras.saving.serialize_keras_object(method)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy == method and hash(copy) == hash(method) and copy is not method
    assert copy != type(method)(0.9)
    assert repr(copy) == repr(method)


def test_methods_of_two_kinds_differ():
    assert Own(0.5) != ByHand(0.5)


def test_a_method_is_written_with_its_settings():
    assert repr(Own(0.25)) == "Own(target=0.25, order='L1', total_steps=None)"


def test_by_itself_a_method_changes_nothing():
    method, inner = Own(), keras.optimizers.SGD()
    assert method.optimizer(inner) is inner
    assert type(method.callback()) is MethodCallback
    assert method.forward(None, None, True) is None and method.logs(None) == {}
    assert method.target_met(None) and method.end_of_run(None, None) is None
    assert (method.input_shape, method.exact, method.slim_every) == (None, True, None)
    for question in (method.insert, method.finalize):
        with pytest.raises(NotImplementedError):
            question(None)


@pytest.mark.parametrize(
    ("steps", "error", "text"),
    [(0, ValueError, "an int of 1 or more; got 0"), (1.5, TypeError, "got 1.5 of type float")],
)
def test_total_steps_are_checked(steps, error, text):
    with pytest.raises(error, match=re.escape(text)):
        Own(total_steps=steps)


def test_a_method_with_an_optimizer_of_its_own_trains():
    class Trains(Own):
        def optimizer(self, inner, model=None):
            return inner

    assert Trains().trains and not Own().trains
