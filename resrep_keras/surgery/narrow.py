"""The layer with fewer channels: one rule per layer that holds channels in weights or settings.

`narrow` is an open function. A rule reads a `Part` and returns the changed entries of the layer's
configuration and its new weights. It selects with `take`, which accepts a keep mask or a matrix:
the same rule that removes channels also folds a compactor into the layer.
"""

import dataclasses
import functools

import numpy as np
from keras import ops

from resrep_keras.graph.flow import has_rule, rule_of
from resrep_keras.graph.recording import free_name, symbolic_tensors
from resrep_keras.keras_adapter import operation_class
from resrep_keras.surgery.outputs import Selected

ADD, MULTIPLY = operation_class("add"), operation_class("multiply")


@dataclasses.dataclass(frozen=True)
class Part:
    """What is left of a layer.

    Args:
        keep_in: For each input, a bool array along the channel axis.
        keep_out: What becomes of the output channels: `Selected`, `Scaled` or `Mixed`. It has a
            `mask` and a `width`.
        constants: Values `(channels,)` that the removed channels of the first input hold, or
            `None` where they hold zero. Where they are summed up: their sum.
        shift: Added to the new output channels. Defaults to 0.
        inside: ``{name: bool (channels,)}``, what is kept of channels that the layer holds inside.
        output_shape: Shape of the first output with fewer channels.
        beside: ``{axis: size}`` of the first output, where channels pass along other axes.
        widths: Number of channels that each output keeps.
        call: The `Call` of the layer, with its arguments and dense shapes.
    """

    keep_in: tuple
    keep_out: Selected
    constants: np.ndarray | None = None
    shift: np.ndarray | None = None
    inside: dict = dataclasses.field(default_factory=dict)
    output_shape: tuple = ()
    beside: dict = dataclasses.field(default_factory=dict)
    widths: tuple = ()
    call: object = None

    def keep_of(self, argument, position):
        """The entry of `keep_in` of an argument of the call; `None` where it is not given."""
        tensors = symbolic_tensors(self.call.argument(argument, position), {})
        return self.keep_in[self.call.input_ids.index(id(tensors[0]))] if tensors else None


@functools.singledispatch
def narrow(layer, part):
    """Return ``(config changes, weights)`` of `layer` with the channels of `part`."""
    if part is not None and part.call.found is not None:
        return part.call.found.narrow(layer, part)
    raise ValueError(
        f"{type(layer).__name__} '{layer.name}' has no rule for fewer channels. Register one with "
        f"resrep_keras.surgery.narrow.narrow.register({type(layer).__name__})."
    )


@dataclasses.dataclass(frozen=True)
class Correction:
    """What is done to outputs where channels are gone.

    Args:
        factor: They are multiplied by it, as those of a mean. Defaults to 1.
        shift: An array that is added then; `None` for none.
    """

    factor: float = 1.0
    shift: np.ndarray | None = None


@functools.singledispatch
def correction(operation, part):
    """Return the `Correction` of outputs where channels are gone, as of a mean over channels."""
    return Correction()


def corrections(recording, parts, change):
    """``{name: function}`` behind what `parts_of` leaves of a recorded model: it corrects.

    The last step has the name of the operation, by which an output is known; so the operation gets
    another one.

    Args:
        recording: The `Recording`.
        parts: ``{name: Part}``.
        change: ``{name: function}`` as of `rebuild`, to which new names are added.
    """
    taken, found = recording.names(), {}
    for name, part in parts.items():
        own = rule_of(correction, part.call.operation)(part.call.operation, part)
        steps = []
        if own.factor != 1:
            steps.append((MULTIPLY, "share", own.factor))
        if own.shift is not None:
            steps.append((ADD, "rest", own.shift.astype(part.call.tensors[1][0].dtype)))
        if steps:
            names = [free_name(f"{name}_{word}", taken) for _, word, _ in steps]
            taken.update(names)
            change[name] = functools.partial(_renamed, change.get(name), names[0])
            made = zip(steps, [*names[1:], name])
            found[name] = functools.partial(
                _in_turn, [functools.partial(kind(name=new), x) for (kind, _, x), new in made]
            )
    return found


def _renamed(change, name):
    config, weights = ({}, None) if change is None else change()
    return {**config, "name": name}, weights


def _in_turn(steps, value):
    for step in steps:
        value = step(value)
    return value


def can_narrow(call):
    """Whether it is known what the layer of a call is with fewer channels: by a rule, or tried."""
    return call.found is not None or has_rule(narrow, call.operation)


def take(array, axis, keep):
    """What is left of weights along one axis: entries are selected, scaled too, or mixed.

    Args:
        array: The weights.
        axis: Their channel axis.
        keep: A bool mask `(channels,)`, or the `keep_out` of a `Part`.
    """
    keep = Selected(keep) if isinstance(keep, np.ndarray) else keep
    return keep.take(array, axis)


def weight_values(layer):
    """The weights of a layer in their order, float64."""
    return [np.asarray(ops.convert_to_numpy(weight), np.float64) for weight in layer.weights]


def weights_of(layer):
    """The weights of a layer by the last part of their paths, float64."""
    return {
        weight.path.split("/")[-1]: np.asarray(ops.convert_to_numpy(weight), np.float64)
        for weight in layer.weights
    }


def with_bias(part, kernel, bias, in_axis, out_axis):
    """Narrowed kernel and bias; `None` for a bias that is zero and was not there.

    Args:
        part: What is left of the layer.
        kernel: The kernel; axes before its last two are positions.
        bias: The bias, or `None`.
        in_axis, out_axis: Axes of the kernel's input and output channels.
    """
    added = bias is not None or part.shift is not None or part.constants is not None
    bias = np.zeros(kernel.shape[out_axis]) if bias is None else bias
    if part.constants is not None:
        gone = np.where(part.keep_in[0], 0.0, part.constants)
        spatial = kernel.sum(axis=tuple(range(kernel.ndim - 2)))
        bias = bias + gone @ spatial
    bias = take(bias, 0, part.keep_out)
    bias = bias if part.shift is None else bias + part.shift
    kernel = take(take(kernel, in_axis, part.keep_in[0]), out_axis, part.keep_out)
    return kernel, bias if added else None


def batch_norm_weights(layer):
    """Scale, offset, mean and variance in float64; 1 and 0 where the layer has none."""
    old = weights_of(layer)
    mean, variance = old["moving_mean"], old["moving_variance"]
    return (
        old.get("gamma", np.ones_like(mean)),
        old.get("beta", np.zeros_like(mean)),
        mean,
        variance,
    )
