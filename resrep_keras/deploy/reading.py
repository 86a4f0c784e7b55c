"""What a file answers, beside what its model answers."""

import keras
import numpy as np

from resrep_keras.deploy.samples import chunks
from resrep_keras.surgery.forward import run
from resrep_keras.surgery.heads import Difference, largest_difference

ELSEWHERE = Difference(float("inf"), float("inf"))


def answer(runner, inputs):
    """The flat outputs of a file.

    Args:
        runner: What `Format.open` has returned.
        inputs: Inputs in the structure of the model.
    """
    runner.set_inputs(inputs)
    runner.invoke()
    return runner.outputs()


def answer_all(runner, inputs, size):
    """The same for any number of examples, through a file that takes `size`; `None` for any."""
    parts = [(answer(runner, part), new) for part, new in chunks(inputs, size)]
    each = [[value[:new] for value in outputs] for outputs, new in parts]
    return [np.concatenate(values) for values in zip(*each)]


def in_batches(function, inputs, size):
    """What a function of inputs answers, in batches of `size`: a list of flat outputs."""
    return [function(part) for part, _ in chunks(inputs, size)]


def outputs_of(model, inputs):
    """The flat outputs of a model."""
    return keras.tree.flatten(run(model, inputs))


def apart(expected, found):
    """The largest `Difference` of flat outputs in batches."""
    pairs = [list(zip(one, other, strict=True)) for one, other in zip(expected, found, strict=True)]
    if any(one.shape != other.shape for batch in pairs for one, other in batch):
        return ELSEWHERE
    return largest_difference(_joined(expected), _joined(found))


def _joined(batches):
    return [np.concatenate([value.ravel() for value in values]) for values in zip(*batches)]
