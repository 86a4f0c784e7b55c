"""Layers of several inputs: sums and the like, products, channels in a row."""

import numpy as np
from keras import layers

from resrep_keras.graph.blocks import is_sum
from resrep_keras.graph.flow import flow, register_all
from resrep_keras.graph.labels import State


@register_all(flow, layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum)
def _merge_flow(layer, call):
    return call.merge(call.inputs)


@is_sum.register(layers.Add)
def adds_up(operation):
    return True


@flow.register
def _multiply_flow(layer: layers.Multiply, call):
    return call.multiply(call.inputs)


@flow.register
def _concatenate_flow(layer: layers.Concatenate, call):
    return call.concatenate(call.inputs, layer.axis % len(call.output_shape))


# --- products that are summed over an axis -------------------------------------------------------


@flow.register
def _dot_flow(layer: layers.Dot, call):
    first, second = call.inputs
    if layer.normalize:  # which one zero factor does not do for
        first, second = map(call.require, (first, second))
    pair = np.broadcast_to(layer.axes, 2)
    one, two = (axis % len(f.shape) for axis, f in zip(pair, call.inputs))
    left = ["a", *"bcdefg"[: len(first.shape) - 1]]
    right = ["a", *"hijklm"[: len(second.shape) - 1]]
    left[one] = right[two] = "z"
    made = [x for x in left if x != "z"] + [x for x in right[1:] if x != "z"]
    if len(made) == 1:  # Keras leaves an axis of 1
        contract(call, first, second, (left, right), made)
        return call.neutral(call.output_shape)
    return contract(call, first, second, (left, right), made)


def contract(call, first, second, terms, made):
    """A product that is summed over shared axes, written as an einsum over two flows.

    A channel that is summed over, or that both flows share, vanishes where one factor is zero.
    """
    flows = {}
    for flow_in, letters, others in ((first, *terms), (second, terms[1], terms[0])):
        if len(set(letters)) < len(letters) or len(letters) != len(flow_in.shape):
            return call.pin_all("a product over an axis with itself")
        # Heads go whole: an axis that both have, and the product, too.
        heads = [axis for axis, x in enumerate(letters) if x in others and x in made]
        flow_in = call.settle(call.settle(flow_in, *heads))
        for axis, letter in enumerate(letters):
            flows.setdefault(letter, []).append((flow_in, axis))
    for letter, places in flows.items():
        if not any(flow_in.labels.shape[axis] > 1 for flow_in, axis in places):
            continue
        # Of channels that lie along another axis, one pinned label is left for all entries.
        vectors = [call.vector(flow_in, axis).expanded([axis]) for flow_in, axis in places]
        if len(places) == 2:
            _factors(call, *vectors, summed=letter not in made)
        elif letter not in made:
            call.gather(vectors[0])
    wide = [
        (letter, *place)
        for letter in made
        for place in flows[letter]
        if place[0].labels.shape[place[1]] > 1
    ]
    if len({letter for letter, *_ in wide}) > 1:
        return call.pin_all("a product with channels along several axes")
    if not wide:
        return call.neutral(call.output_shape)
    letter, flow_in, axis = wide[0]
    vector = call.vector(flow_in, axis)
    shape = [1] * len(made)
    shape[made.index(letter)] = -1
    zero = np.min([f.expanded([a]).state.ravel() for _, f, a in wide], axis=0) == State.ZERO
    state = np.where(zero, State.ZERO, State.VARYING).astype(np.int8)
    return vector.replace(
        labels=vector.labels.reshape(shape), state=state.reshape(shape), shape=call.output_shape
    )


def _factors(call, first, second, summed):
    """Channels of two factors become equal; where one is zero, nothing is asked of the other."""
    stream, other = (first, second) if not first.state.any() else (second, first)
    zero = not stream.state.any()
    if zero:
        call.follow(stream, other)
    call.couple(first.labels.ravel(), second.labels.ravel())
    if summed and not zero:
        call.require(first)
