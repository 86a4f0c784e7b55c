"""One layer or operation behind channels that are free: what its rules answer."""

import keras
import numpy as np
from keras import layers

import resrep_keras
from resrep_keras.graph.flow import rule_of
from resrep_keras.graph.labels import State
from resrep_keras.surgery.narrow import Part, narrow
from resrep_keras.surgery.outputs import Selected

IMAGE, SEQUENCE, ROW = (4, 4), (5,), ()


class Answer:
    """The call of a layer behind dense layers that make `channels`.

    Args:
        operation: A layer, or a function of tensors.
        positions: The axes of its inputs between batch and channels, one tuple for each.
        channels: Channels of its inputs.
        activation: Of the dense layers; a sigmoid leaves constants behind, `None` zeros.
    """

    def __init__(self, operation, *positions, channels=3, activation=None):
        inputs = [keras.Input((*sizes, 2)) for sizes in positions]
        made = [layers.Dense(channels, activation=activation)(x) for x in inputs]
        outputs = operation(*made) if len(made) == 1 else operation(made)
        self.graph = resrep_keras.trace(keras.Model(inputs, outputs))
        self.call = self.graph.calls[-1]

    def ids(self, output=0):
        """Ids of the channels of an output: those of the first input are 0, 1, 2."""
        return self.graph.channel_of[self.call.outputs[output].labels.ravel()].tolist()

    @property
    def made(self):
        """Ids of the channels of the first dense layer."""
        return self.graph.groups[0].producers[0].channels

    @property
    def states(self):
        """What the output's channels hold once they are removed."""
        return {State(state).name for state in self.call.outputs[0].state.ravel().tolist()}

    def pins(self, text):
        """Whether anything was pinned for a reason with this text."""
        return any(text in str(pin) for pin in self.graph.pins)


def changes(answer, **more):
    """Settings of the operation of an `Answer` with the channels of a `part`."""
    operation = answer.call.operation
    return rule_of(narrow, operation)(operation, part(call=answer.call, **more))[0]


def built(layer, *shape, seed=0):
    """A layer with random weights, for inputs of a shape without batch."""
    layer.build((None, *shape))
    generator = np.random.default_rng(seed)
    layer.set_weights([generator.uniform(0.5, 1.5, w.shape) for w in layer.weights])
    return layer


def mask(*kept):
    return np.array(kept, bool)


def part(keep_in=None, keep_out=None, **more):
    """A `Part` of one input; `keep_out` is a mask, or one of `surgery.outputs`."""
    selects = isinstance(keep_out, np.ndarray)
    return Part((keep_in,), Selected(keep_out) if selects else keep_out, **more)
