"""Products that are summed over axes: of tensors with each other, and with arrays."""

import numpy as np
from keras import layers

from resrep_keras.graph.flow import flow, register_all, takes_several_axes
from resrep_keras.graph.labels import State
from resrep_keras.graph.pins import PinKind
from resrep_keras.graph.recording import is_symbolic
from resrep_keras.keras_adapter import operation_classes
from resrep_keras.rules.arrays import as_array, is_variable
from resrep_keras.rules.products import (
    dot_letters,
    matmul_letters,
    tensordot_letters,
    written_out,
)
from resrep_keras.surgery.narrow import narrow, take

EINSUM, MATMUL, TENSORDOT = operation_classes("einsum", "matmul", "tensordot")
DOTS = operation_classes("dot", "inner")
OPERATIONS = (EINSUM, MATMUL, TENSORDOT, *DOTS)


@register_all(takes_several_axes, layers.Dot, *OPERATIONS)
def _contraction_crosses(operation):
    return True


# --- which axes meet -----------------------------------------------------------------------------


def _einsum_letters(call):
    """The operands of an einsum, their letters and those of what it makes."""
    text = call.operation.subscripts.replace(" ", "")
    if "->" not in text or "." in text:
        text = written_out(text, call.args)
    terms, made = text.split("->")
    return call.args, terms.split(","), made


def _letters_of(call):
    """As `_einsum_letters`, for each of the operations; `None` for products with a number."""
    known = {EINSUM: _einsum_letters, MATMUL: matmul_letters, TENSORDOT: tensordot_letters}
    return known.get(type(call.operation), dot_letters)(call)


@register_all(flow, *OPERATIONS)
def _contraction_flow(operation, call):
    letters = _letters_of(call)
    name = type(operation).__name__
    if letters is None:
        return flow.registry[object](operation, call)
    operands, terms, made = letters
    if any(map(is_variable, operands)):
        return call.pin_all(f"{name} with the weights of a layer", PinKind.READ)
    pairs = [(x, term) for x, term in zip(operands, terms) if is_symbolic(x)]
    if len(pairs) > 2 or len(call.inputs) != len(pairs):
        return call.pin_all(f"{name} of more than two different tensors")
    if len(pairs) < len(operands):
        call.inputs = tuple(map(call.plain, call.inputs))
    return contract(call, [(call.flows_of(x)[0], list(term)) for x, term in pairs], made)


@register_all(narrow, *OPERATIONS)
def _contraction_narrow(operation, part):
    """Arrays lose what the axes lose that they share with a tensor."""
    if part.call.found is not None:
        return part.call.found.narrow(operation, part)
    operands, terms, _ = _letters_of(part.call)
    arrays = {i: as_array(x) for i, x in enumerate(operands) if not is_symbolic(x)}
    for keep, flow_in, term in zip(
        part.keep_in, part.call.inputs, (t for i, t in enumerate(terms) if i not in arrays)
    ):
        for position, array in arrays.items():
            for letter in (term[axis] for axis in flow_in.wide_axes):
                if letter in terms[position]:
                    arrays[position] = take(array, list(terms[position]).index(letter), keep)
    if not arrays:
        return {}, []
    if type(operation) is EINSUM:
        return {"operands": tuple(arrays.get(i, x) for i, x in enumerate(operands))}, []
    return {f"x{position + 1}": array for position, array in arrays.items()}, []


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
    out = contract(call, [(first, left), (second, right)], made)
    return call.neutral(call.output_shape) if len(made) == 1 else out  # Keras leaves an axis of 1


# --- how channels pass ---------------------------------------------------------------------------


def contract(call, factors, made):
    """A product that is summed over shared axes, written as an einsum over flows.

    A channel that is summed over, or that both flows share, vanishes where one factor is zero.

    Args:
        call: The `Call`.
        factors: One or two pairs of a flow and its letters.
        made: The letters of what is made.
    """
    flows = {}
    for position, (flow_in, letters) in enumerate(factors):
        if len(set(letters)) < len(letters) or len(letters) != len(flow_in.shape):
            return call.pin_all("a product over an axis with itself")
        others = [x for i, (_, term) in enumerate(factors) if i != position for x in term]
        # Heads go whole: an axis that both have, and the product, too.
        heads = [axis for axis, x in enumerate(letters) if x in others and x in made]
        flow_in = call.settle(call.settle(flow_in, *heads))
        for axis, letter in enumerate(letters):
            flows.setdefault(letter, []).append((_along(call, flow_in, axis), axis))
    wide = {
        letter: [part.expanded([axis]) for part, axis in places]
        for letter, places in flows.items()
        if any(part.labels.shape[axis] > 1 for part, axis in places)
    }
    for letter, vectors in wide.items():
        if len(vectors) == 2:
            _factors(call, *vectors, summed=letter not in made)
        elif letter not in made:
            call.gather(vectors[0])
    found = []
    for letter in (letter for letter in made if letter in wide):
        states = np.min([vector.state.ravel() for vector in wide[letter]], axis=0)
        state = np.where(states == State.ZERO, State.ZERO, State.VARYING).astype(np.int8)
        own = wide[letter][0].moved(made.index(letter), call.output_shape)
        found.append(own.replace(state=state.reshape(own.state.shape)))
    return found[-1].crossed_by(found[:-1]) if found else call.neutral(call.output_shape)


def _along(call, flow_in, axis):
    """The part of a flow along an axis; one label that is kept where channels lie elsewhere."""
    own = next((part for part in flow_in.parts if axis in part.wide_axes), flow_in.parts[0])
    if own.wide_axes in ([], [axis]):
        return own
    there = own.wide_axes[0]
    text = f"it works along axis {axis} of a tensor whose channels lie along axis {there}"
    return call.neutral(own.shape, text, PinKind.AXES)


def _factors(call, first, second, summed):
    """Channels of two factors become equal; where one is zero, nothing is asked of the other."""
    stream, other = (first, second) if not first.state.any() else (second, first)
    zero = not stream.state.any()
    if zero:
        call.follow(stream, other)
    call.couple(first.labels.ravel(), second.labels.ravel())
    if summed and not zero:
        call.require(first)
