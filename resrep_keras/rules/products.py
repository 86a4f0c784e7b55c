"""What products of tensors multiply: einsum and its like, convolutions of `keras.ops`, loops."""

import math
import string

import numpy as np
from keras import layers

from resrep_keras.costs.macs import macs, positions_of
from resrep_keras.costs.terms import Term
from resrep_keras.graph.flow import register_all
from resrep_keras.keras_adapter import operation_class

# --- sums of products over axes ------------------------------------------------------------------


def shape_of(value):
    """The shape of a tensor, an array, a list or a number."""
    plain = isinstance(value, (int, float, list, tuple))
    return np.shape(value) if plain else tuple(value.shape)


class Letters:
    """The axes of an einsum: how long each is, and whose channels lie along it.

    Args:
        call: The `Call`.
        operands: Tensors, symbolic or not.
        terms: The letters of each.
    """

    def __init__(self, call, operands, terms):
        self._sizes, self._labels, self._examples = {}, {}, set()
        self._whole = not call.batched
        # Beside a batch of any size, a tensor of a known first size is a weight.
        any_size = any(shape_of(operand)[:1] == (None,) for operand in operands)
        for operand, letters in zip(operands, terms):
            flow = next(iter(call.flows_of(operand)), None)
            for axis, (letter, size) in enumerate(zip(letters, shape_of(operand))):
                if (
                    flow is not None
                    and axis == 0
                    and call.batched
                    and (size is None or not any_size)
                ):
                    self._examples.add(letter)
                elif self._sizes.get(letter, 1) == 1:
                    self._sizes[letter] = size
                wide = [] if flow is None else [a for part in flow.parts for a in part.wide_axes]
                if axis in wide:
                    self._labels.setdefault(letter, flow.labels_along(axis))

    def term(self, letters, made):
        """The `Term` of a product over some letters; an empty list where none is summed over."""
        if set(letters) <= set(made):
            return []
        factors = [self._labels[letter] for letter in letters if letter in self._labels]
        plain = set(letters) - self._labels.keys() - self._examples
        sizes = [self._sizes[letter] for letter in sorted(plain)]
        return [Term(None if None in sizes else math.prod(sizes), tuple(factors), self._whole)]


def contraction(call, operands, terms, made):
    """What a product of two operands multiplies that is summed over axes, in einsum's letters."""
    every = "".join(dict.fromkeys([*terms[0], *terms[1]]))
    return Letters(call, operands, terms).term(every, made)


@macs.register(operation_class("einsum"))
def _einsum_macs(operation, call):
    """More than two operands are multiplied pair by pair, in the order that costs least at once."""
    text = operation.subscripts.replace(" ", "")
    operands = call.args
    if len(operands) == 1:
        return []
    if "->" not in text or "." in text:
        text = written_out(text, operands)
    before, made = text.split("->")
    terms = before.split(",")
    letters = Letters(call, operands, terms)
    if len(operands) == 2:
        return letters.term("".join(dict.fromkeys("".join(terms))), made)
    shapes = [np.broadcast_to(0.0, [size or 2 for size in shape_of(x)]) for x in operands]
    found = []
    for chosen in np.einsum_path(text, *shapes, optimize="greedy")[0][1:]:
        taken = "".join(terms[position] for position in chosen)
        terms = [term for position, term in enumerate(terms) if position not in chosen]
        kept = "".join(x for x in dict.fromkeys(taken) if x in made + "".join(terms))
        found += letters.term("".join(dict.fromkeys(taken)), kept)
        terms.append(kept)
    return found


def written_out(text, operands):
    """An einsum's text with letters for an ellipsis, and with what it makes."""
    before, arrow, made = text.partition("->")
    terms = before.split(",")
    spare = [letter for letter in string.ascii_letters if letter not in text]
    rest = [len(shape_of(x)) - len(term.replace("...", "")) for x, term in zip(operands, terms)]
    most = max([n for n, term in zip(rest, terms) if "..." in term], default=0)
    dots = "".join(spare[:most])
    terms = [term.replace("...", dots[most - n :]) for n, term in zip(rest, terms)]
    if not arrow:
        single = [x for x in sorted(set(before) - set(",.")) if before.count(x) == 1]
        made = ("..." if "..." in before else "") + "".join(single)
    return f"{','.join(terms)}->{made.replace('...', dots)}"


def matmul_letters(call):
    """The operands of a matmul, their letters and those of what it makes.

    Axes before the last two are broadcast against each other.
    """
    first, second = call.argument("x1", 0), call.argument("x2", 1)
    one, two = len(shape_of(first)), len(shape_of(second))
    batch = string.ascii_lowercase[: max(one, two, 2) - 2]
    left = batch[len(batch) - max(0, one - 2) :] + ("XY" if one > 1 else "Y")
    right = batch[len(batch) - max(0, two - 2) :] + ("YZ" if two > 1 else "Y")
    made = batch + "X" * (one > 1) + "Z" * (two > 1)
    return (first, second), (left, right), made


@macs.register(operation_class("matmul"))
def _matmul_macs(operation, call):
    return contraction(call, *matmul_letters(call))


def _summed_over(operands, pairs):
    """Two operands that share some axes, over which their products are summed."""
    first, second = operands
    left = list(string.ascii_lowercase[: len(shape_of(first))])
    right = list(string.ascii_uppercase[: len(shape_of(second))])
    for one, two in pairs:
        right[two] = left[one]
    summed = {left[one] for one, _ in pairs}
    return operands, (left, right), [x for x in (*left, *right) if x not in summed]


def tensordot_letters(call):
    """As `matmul_letters`."""
    operands = call.argument("x1", 0), call.argument("x2", 1)
    axes, rank = call.operation.axes, len(shape_of(operands[0]))
    if np.ndim(axes) == 0:
        axes = list(range(rank - axes, rank)), list(range(axes))
    return _summed_over(operands, list(zip(*map(np.ravel, axes))))


@macs.register(operation_class("tensordot"))
def _tensordot_macs(operation, call):
    return contraction(call, *tensordot_letters(call))


def dot_letters(call):
    """As `matmul_letters`; `None` where one of the operands is a number."""
    operands = call.argument("x1", 0), call.argument("x2", 1)
    ranks = [len(shape_of(x)) for x in operands]
    if 0 in ranks:
        return None
    before_last = isinstance(call.operation, operation_class("dot")) and ranks[1] > 1
    return _summed_over(operands, [(ranks[0] - 1, ranks[1] - (2 if before_last else 1))])


@register_all(macs, operation_class("dot"), operation_class("inner"))
def _dot_macs(operation, call):
    letters = dot_letters(call)
    return [] if letters is None else contraction(call, *letters)


@macs.register(operation_class("vdot"))
def _vdot_macs(operation, call):
    return Term(positions_of(call.input.shape), ())


@macs.register
def _dot_layer_macs(layer: layers.Dot, call):
    """Of each example by itself."""
    first, second = call.tensors[0]
    pair = np.broadcast_to(layer.axes, 2)
    left = ["a", *string.ascii_lowercase[1 : len(first.shape)]]
    right = ["a", *string.ascii_uppercase[1 : len(second.shape)]]
    one, two = (int(axis) % len(x.shape) for axis, x in zip(pair, (first, second)))
    right[two] = left[one]
    return contraction(call, (first, second), (left, right), {*left, *right} - {left[one]})


@macs.register(operation_class("dot_product_attention"))
def _dot_product_attention_macs(operation, call):
    """Scores and weighted sums, of all pairs of positions in each head; a mask spares none."""
    query, key, value = (call.argument(n, i) for i, n in enumerate(("query", "key", "value")))
    rows, columns = query.shape[1], key.shape[1]
    widths = query.shape[3], value.shape[3]
    if None in (rows, columns, *widths):
        return Term(None, ())
    return Term(query.shape[2] * rows * columns * sum(widths), ())
