"""Latency of the slim model on this machine, predicted for any keep array from timed layers.

Each layer is timed alone with LiteRT at several widths. Kernels compute many channels at a time, so
that latency falls in steps, and not always: 32 channels can take less than 24. The sum over the
layers is then fitted to whole models that are timed.
"""

import dataclasses
import time

import keras
import numpy as np

from resrep_keras.costs.activations import runs_in_place
from resrep_keras.costs.latency import TFLiteRunner, convert, to_tflite
from resrep_keras.graph.flow import rule_of
from resrep_keras.graph.tape import symbolic_tensors
from resrep_keras.surgery.rebuild import copy_operation, narrowed_call
from resrep_keras.surgery.remove import change_of, channel_vectors, narrow_dead

STEP = 8  # narrow layers are timed at multiples of this width
POINTS = 8  # and wide ones at about so many widths
SECONDS = 0.02  # for which one width is timed, at least


@dataclasses.dataclass(frozen=True)
class LatencyTable:
    """Seconds of one layer by its numbers of channels.

    Args:
        name: The layer's name.
        outputs: Timed numbers of output channels, ascending; the last is the dense one.
        seconds: At each of `outputs`, with all inputs.
        inputs: Timed numbers of input channels, ascending.
        shares: At each of `inputs`, the share of the time that is left, with all outputs.
    """

    name: str
    outputs: tuple
    seconds: tuple
    inputs: tuple = ()
    shares: tuple = ()

    def __call__(self, outputs, inputs=None):
        """Between two timed widths the larger time counts: either can be a step."""
        above = min(np.searchsorted(self.outputs, outputs), len(self.outputs) - 1)
        below = above if self.outputs[above] == outputs else max(0, above - 1)
        seconds = max(self.seconds[above], self.seconds[below])
        if inputs is None or not self.inputs:
            return seconds
        return seconds * float(np.interp(inputs, self.inputs, self.shares))
