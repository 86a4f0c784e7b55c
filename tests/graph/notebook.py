"""Calls by hand, and a tracer that notes what they say."""

import keras
import numpy as np

from resrep_keras.graph.call import Call
from resrep_keras.graph.labels import Flow, Labels, State
from resrep_keras.graph.recording import RecordedCall

IMAGE = (None, 4, 4)


class Notebook:
    """Stands for the tracer: notes what a call says."""

    def __init__(self):
        self.labels = Labels()
        self.exact = True
        self.followers, self.frozen, self.shared = set(), frozenset(), False
        self.said, self.known = [], {}

    def is_shared(self, operation):
        return self.shared

    def pin(self, labels, pin):
        self.labels.pin(labels, pin)

    def pin_inexact(self, flow, pin):
        self.said.append(("inexact", pin.text))
        return flow

    def anchor(self, shape, pin):
        label = self.labels.fresh_pinned(pin)
        return Flow(np.full((1,) * len(shape), label), tuple(shape))

    def labels_of(self, name, count):
        return self.labels.fresh(count)

    def inner_labels(self, call, name, count):
        return self.labels.fresh(count)

    def inner_site(self, call, labels, name):
        self.said.append(("inner site", name, labels.tolist()))

    def stuck(self, call, labels, origins):
        self.said.append(("stuck", labels.tolist(), sorted(origins)))

    def follow(self, stream, factor):
        self.said.append(("follow", stream.ravel().tolist(), factor.ravel().tolist()))

    def stand_before_norm(self, call):
        self.said.append(("before norm",))

    def reasons(self, flow):
        pins = [self.labels.pin_of(label) for label in flow.labels.ravel()]
        return [pin and str(pin) for pin in pins]


def made(book, *channels, size=IMAGE, state=State.ZERO):
    """A flow of new channels on the last axis of images of 4 x 4; one for each number."""
    flows = []
    for number in channels:
        labels = book.labels.fresh(number).reshape(1, 1, 1, number)
        flows.append(Flow(labels, (*size, number), np.full(labels.shape, state, np.int8)))
    return flows


def asked(book, flows, output=None):
    """A call on inputs of these flows, with an output like the first."""
    tensors = [keras.KerasTensor(flow.shape) for flow in flows]
    outputs = keras.KerasTensor(output or flows[0].shape)
    operation = keras.layers.Identity()
    recorded = RecordedCall(operation, "layer", tuple(tensors), {"axis": 1}, outputs)
    call = Call(book, 7, recorded, 1)
    call.begin(flows)
    return call


def spread(book, *sizes):
    labels = book.labels.fresh(int(np.prod(sizes))).reshape(1, *sizes)
    return Flow(labels, (None, *sizes))
