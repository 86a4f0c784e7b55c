"""How far two models are apart, at their outputs and in front of their heads.

A saturated softmax is one-hot whatever comes into it: what stands in front of it tells more.
"""

import contextlib
import dataclasses

import keras
import numpy as np

from resrep_keras.graph.recording import symbolic_tensors
from resrep_keras.keras_adapter import activation_setting, weights_of_operation
from resrep_keras.surgery.forward import as_numbers, play


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far values are apart.

    Args:
        absolute: The largest difference. What is a number in one of the two only is infinitely far;
            not-a-number in the same place of both is no difference.
        relative: The same as a share of the largest value of the tensor that it is found in.
    """

    absolute: float
    relative: float


# Nothing could be compared: no value is a number, in either of the two.
UNKNOWN = Difference(float("nan"), float("nan"))


def difference(expected, found):
    """The `Difference` of two arrays; `UNKNOWN` where they hold no number."""
    if expected.shape != found.shape:
        return Difference(float("inf"), float("inf"))
    nothing = np.isnan(expected) & np.isnan(found)
    if nothing.size and nothing.all():
        return UNKNOWN
    with np.errstate(invalid="ignore"):
        apart = np.where(nothing | (expected == found), 0.0, np.abs(expected - found))
    apart = float(np.where(np.isnan(apart), np.inf, apart).max(initial=0.0))
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    return Difference(apart, apart / max(float(largest), 1e-12))


def largest_difference(expected, found):
    """The largest `Difference` of several outputs; `UNKNOWN` where one holds no number in both."""
    each = [difference(one, other) for one, other in zip(expected, found, strict=True)]
    if any(one is UNKNOWN for one in each):
        return UNKNOWN
    return Difference(max(one.absolute for one in each), max(one.relative for one in each))


def differences(before, after, inputs, around=None):
    """The largest `Difference` of two models at their outputs and in front of their heads.

    Args:
        before, after: Their `Recording`s.
        inputs: Inputs of both.
        around: What stands for the calls of the first one, see `play`.

    Returns:
        A `Difference`; `UNKNOWN` where an output holds no number in either of the two.
    """
    first, second = Heads(before, around), Heads(after)
    outputs = [keras.tree.flatten(play(h.recording, inputs, around=h)) for h in (first, second)]
    found = [largest_difference(*outputs)]
    if found[0] is UNKNOWN:
        return UNKNOWN
    for key in first.values.keys() & second.values.keys():
        a, b = first.values[key], second.values[key]
        if a.shape == b.shape:  # else channels have gone that are summed up behind
            found.append(difference(a, b))
    found = [each for each in found if each is not UNKNOWN]
    return Difference(max(f.absolute for f in found), max(f.relative for f in found))


class Heads:
    """Notes what the last layers of a model make, while it is played.

    These are the layers with weights, or of several inputs, that are last on the way to an output,
    without their `activation`, and all that comes behind them.

    Args:
        recording: The `Recording` of the model.
        around: What stands for its calls, see `play`.

    Attributes:
        values: ``{(name of a call, output, whether without activation): array}``
    """

    def __init__(self, recording, around=None):
        self.recording, self.values = recording, {}
        self._around, self._names = around, _last_calls(recording)

    def __call__(self, recorded, run, *args, **kwargs):
        def make():
            if self._around is None:
                return run(recorded, *args, **kwargs)
            return self._around(recorded, run, *args, **kwargs)

        outputs = make()
        if recorded.name in self._names:
            self._note(recorded.name, outputs, False)
            with without_activation(recorded.operation) as activation:
                plain = None if activation is None else make()
            if plain is not None and _is_last(activation, plain, outputs):
                self._note(recorded.name, plain, True)
        return outputs

    def _note(self, name, outputs, plain):
        for position, value in enumerate(keras.tree.flatten(outputs)):
            self.values[name, position, plain] = as_numbers(value)


def _last_calls(recording):
    makers = {id(t): call for call in recording.calls for t in keras.tree.flatten(call.outputs)}
    names, todo = set(), [makers.get(id(t)) for t in keras.tree.flatten(recording.outputs)]
    while todo:
        call = todo.pop()
        if call is None or call.name in names:
            continue
        names.add(call.name)
        tensors = symbolic_tensors(call.args, call.kwargs)
        if len(tensors) == 1 and not weights_of_operation(call.operation):
            todo.append(makers.get(id(tensors[0])))
    return names


def _is_last(activation, plain, outputs):
    """Whether a layer does nothing behind its activation."""
    plain, outputs = keras.tree.flatten(plain), keras.tree.flatten(outputs)
    if len(plain) != 1 or len(outputs) != 1:
        return False
    expected, found = as_numbers(outputs[0]), as_numbers(activation(plain[0]))
    return expected.shape == found.shape and np.allclose(
        expected, found, rtol=1e-2, atol=1e-4, equal_nan=True
    )


@contextlib.contextmanager
def without_activation(operation):
    """Let a layer, or the one that it wraps, apply no activation; gives the function, or `None`."""
    holder = operation
    while isinstance(holder, keras.layers.Wrapper):
        holder = holder.layer
    activation = activation_setting(holder)
    settable = "activation" in vars(holder)  # that of a recurrent layer is its cell's
    if not settable or activation in (None, keras.activations.linear):
        yield None
        return
    holder.activation = keras.activations.linear
    try:
        yield activation
    finally:
        holder.activation = activation
