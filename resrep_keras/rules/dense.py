"""Dense layers, their general form as an einsum, and embeddings."""

import dataclasses

import keras
import numpy as np
from keras import layers

from resrep_keras.costs.macs import labels_along, macs, positions_of, product_term, times
from resrep_keras.costs.terms import Term
from resrep_keras.graph.flow import (
    activate,
    apply_function,
    flow,
    register_all,
    takes_several_axes,
)
from resrep_keras.graph.labels import State
from resrep_keras.graph.own_weights import makes_all
from resrep_keras.layers.gated import gate_factors
from resrep_keras.surgery.channel_weights import producing_variable, reading_variable
from resrep_keras.surgery.linear import Entries, Linear, linear_of
from resrep_keras.surgery.narrow import narrow, take, weight_values, weights_of, with_bias

# --- Dense ---------------------------------------------------------------------------------------


@flow.register
def _dense_flow(layer: layers.Dense, call):
    axis = len(call.input.shape) - 1
    folds = State.FIXED if axis == 1 else State.CONSTANT
    beside = call.beside(call.input, axis)
    call.consume(call.input, axis, folds=folds, beside=beside)
    out = call.produce(axis, layer.units).crossed_by(call.mixed(beside, layer.use_bias))
    return activate(call, call.site(out, axis), layer.activation)


@narrow.register
def _dense_narrow(layer: layers.Dense, part):
    old = weights_of(layer)
    kernel, bias = with_bias(part, old["kernel"], old.get("bias"), 0, 1)
    config = {"units": kernel.shape[-1], "use_bias": bias is not None}
    return config, [kernel] if bias is None else [kernel, bias]


@macs.register
def _dense_macs(layer: layers.Dense, call):
    axis = len(call.input.shape) - 1
    factors = labels_along(call.input, axis), labels_along(call.outputs[0], axis)
    return product_term(call.output_shape, axis, factors, call.outputs[0])


@register_all(takes_several_axes, layers.Dense, layers.EinsumDense)
def _dense_crosses(layer):
    return True


@linear_of.register
def _dense_linear(layer: layers.Dense):
    return Linear(layer.kernel, layer.bias, Entries())


# --- EinsumDense ---------------------------------------------------------------------------------


def _own_weights(layer):
    """Kernel and bias of an `EinsumDense`, whatever their names: they may be another layer's."""
    return dict(zip(("kernel", "bias"), weight_values(layer)))


class EinsumAxes:
    """Where an `EinsumDense` reads and makes channels.

    Attributes:
        input, output, kernel_in, kernel_out: Axes, counted from the end; `None` where the equation
            reads or makes channels along several axes.
        per_position: Whether the kernel differs between positions.
        whole_kernel: Whether each number that is read is multiplied with the whole kernel.
    """

    def __init__(self, layer):
        terms, made = layer.equation.replace(" ", "").replace("...", "").split("->")
        read, kernel = terms.split(",")
        contracted = [letter for letter in kernel if letter in read and letter not in made]
        produced = [letter for letter in kernel if letter in made and letter not in read]
        self.letters = read, kernel, made
        self.simple = len(contracted) == len(produced) == 1 and layer.bias_axes in (
            None,
            *produced,
        )
        self.per_position = len(kernel) > 2
        # Each number that is read is multiplied with the whole kernel, whose last axis is channels.
        self.whole_kernel = makes_all(layer.equation) and layer.bias_axes is None
        if self.simple:
            self.letter = produced[0]
            self.input = read.index(contracted[0]) - len(read)
            self.output = made.index(produced[0]) - len(made)
            self.kernel_in = kernel.index(contracted[0]) - len(kernel)
            self.kernel_out = kernel.index(produced[0]) - len(kernel)
            # Letters before an ellipsis would be counted from the wrong end.
            self.simple = self.output == -1 or "..." not in layer.equation
        self.passes = "..." not in layer.equation
        self.several = None
        if not self.simple and not self.whole_kernel and contracted and produced:
            self.several = SeveralAxes(layer, (read, kernel, made), contracted, produced)

    def passing(self, parts, shape):
        """The flows of what is made whose channels pass, for those of what is read.

        Where the kernel differs along one of their axes, none do. See `Call.beside`.
        """
        read, kernel, made = self.letters
        letters = [read[part.channel_axis] for part in parts] if self.passes else []
        if any(letter in kernel or letter not in made for letter in letters):
            return []
        return [part.moved(made.index(x), shape) for part, x in zip(parts, letters)]


class SeveralAxes:
    """Where an `EinsumDense` reads or makes channels along several axes, such as heads and widths.

    Attributes:
        reads: ``{axis of the input: axis of the kernel}``, of those that may be read.
        output, kernel_out: Axes of what is made, and of the kernel that makes it: of several, the
            first that is longer than one.
        one: Whether channels are made along this axis alone.
        known: Whether the bias, if any, lies along it.
        letter: Its letter.
    """

    def __init__(self, layer, terms, contracted, produced):
        read, kernel, made = terms
        sizes = dict(zip(kernel, layer.kernel.shape)) if layer.built else {}
        order = sorted(produced, key=lambda x: (sizes.get(x) == 1, made.index(x)))
        self.letter, self.one = order[0], len(produced) == 1
        self.reads = {read.index(x) - len(read): kernel.index(x) - len(kernel) for x in contracted}
        self.output = made.index(self.letter) - len(made)
        self.kernel_out = kernel.index(self.letter) - len(kernel)
        of_bias = layer.bias_axes or self.letter
        of_examples = read[:1] == made[:1] and read[0] not in kernel
        self.known = of_examples and "..." not in layer.equation and self.letter in of_bias
        self.known = self.known and (not self.one or of_bias == self.letter)

    def along(self, array, axis):
        """A vector along one axis of an array, counted from the end."""
        return array[(..., *[None] * (-1 - axis))]


@flow.register
def _einsum_flow(layer: layers.EinsumDense, call):
    axes = EinsumAxes(layer)
    read = len(call.input.shape) + axes.input if axes.simple else None
    parts = call.beside(call.input, read) if axes.simple else ()
    beside = axes.passing(parts, call.output_shape)
    if not beside:
        call.inputs = (call.plain(call.input),)
    if axes.whole_kernel and call.input.labels.size == 1:
        axis = len(call.output_shape) - 1
        out = call.produce(axis, call.output_shape[axis])
        return activate(call, call.site(out, axis, shifts=False), layer.activation)
    if axes.several is not None and axes.several.known:
        return _several_flow(layer, call, axes.several)
    if not axes.simple:
        return call.pin_all("an EinsumDense that reads or makes channels along several axes")
    # Keras on TensorFlow adds a bias of shape (n, 1) along the last axis where that is n long, too:
    # a constant becomes no bias of another axis.
    folds = State.CONSTANT if axes.output == -1 and not axes.per_position else State.ZERO
    call.consume(call.input, read, folds=folds, beside=beside)
    axis = len(call.output_shape) + axes.output
    out = call.produce(axis, call.output_shape[axis])
    out = out.crossed_by(call.mixed(beside, layer.bias_axes is not None))
    return activate(call, call.site(out, axis), layer.activation)


def _several_flow(layer, call, axes):
    """Heads, of which a gate inside scales each; or what is made of all heads."""
    read = [len(call.input.shape) + axis for axis in axes.reads]
    wide = [axis for axis in read if axis in call.input.wide_axes]
    call.consume(call.input, (wide or read)[0])
    axis = len(call.output_shape) + axes.output
    made = call.produce(axis, call.output_shape[axis])
    if axes.one:
        return activate(call, call.site(made, axis), layer.activation)
    made = call.gate_outputs(made, HEADS)
    if layer.activation is keras.activations.linear:
        return made
    return apply_function(call, made, layer.activation)


HEADS = "heads"


@gate_factors.register
def _einsum_gates(layer: layers.EinsumDense, gates):
    axes = EinsumAxes(layer).several
    kernel, bias = (axes.along(gates[HEADS], axis) for axis in (axes.kernel_out, axes.output))
    return [kernel, *[bias] * (len(layer.weights) - 1)]


def _several_narrow(layer, part, axes):
    old, read = _own_weights(layer), part.call.consumed[0] - len(part.call.input.shape)
    shape = list(layer.get_config()["output_shape"])
    if axes.one:
        order = (axes.reads[read], axes.kernel_out)
        kernel = np.moveaxis(old["kernel"], order, (-2, -1))
        bias = old["bias"].ravel() if "bias" in old else None
        kernel, bias = with_bias(part, kernel, bias, -2, -1)
        kernel = np.moveaxis(kernel, (-2, -1), order)
        bias = bias if bias is None else bias.reshape(-1, *[1] * (-1 - axes.output))
    else:
        kernel = take(
            take(old["kernel"], axes.reads[read], part.keep_in[0]), axes.kernel_out, part.keep_out
        )
        bias = take(old["bias"], axes.output, part.keep_out) if "bias" in old else None
    shape[axes.output] = kernel.shape[axes.kernel_out]
    letters = None if bias is None else layer.bias_axes or axes.letter
    config = {"output_shape": tuple(shape), "bias_axes": letters}
    return config, [kernel] if bias is None else [kernel, bias]


@narrow.register
def _einsum_narrow(layer: layers.EinsumDense, part):
    axes = EinsumAxes(layer)
    old = _own_weights(layer)
    if axes.whole_kernel:
        kernel = take(old["kernel"], -1, part.keep_out)
        return {"output_shape": kernel.shape}, [kernel]
    if axes.several is not None:
        return _several_narrow(layer, part, axes.several)
    kernel = np.moveaxis(old["kernel"], (axes.kernel_in, axes.kernel_out), (-2, -1))
    if axes.per_position:
        part = dataclasses.replace(part, constants=None)
    bias = old["bias"].ravel() if "bias" in old else None
    kernel, bias = with_bias(part, kernel, bias, -2, -1)
    kernel = np.moveaxis(kernel, (-2, -1), (axes.kernel_in, axes.kernel_out))
    shape = layer.get_config()["output_shape"]
    shape = [shape] if isinstance(shape, int) else list(shape)
    for axis, size in part.beside.items():
        shape[axis - 1] = size
    shape[axes.output] = kernel.shape[axes.kernel_out]
    config = {"output_shape": tuple(shape), "bias_axes": None if bias is None else axes.letter}
    if bias is None:
        return config, [kernel]
    # Keras stores a bias with an axis of 1 for each letter of the outputs behind it.
    return config, [kernel, bias.reshape(-1, *[1] * (-1 - axes.output))]


@macs.register
def _einsum_macs(layer: layers.EinsumDense, call):
    axes = EinsumAxes(layer)
    if axes.whole_kernel and call.input.labels.size == 1:
        made = labels_along(call.outputs[0], len(call.output_shape) - 1)
        return Term(times(positions_of(call.input.shape), *layer.kernel.shape[:-1]), (made,))
    if axes.several is not None and axes.several.known:
        return _several_macs(layer, call, axes.several)
    if not axes.simple:  # nothing is removed: inputs times what each of them is multiplied with
        reads, kernel = layer.equation.replace(" ", "").split("->")[0].split(",")
        free = [
            size
            for letter, size in zip(kernel, layer.kernel.shape)
            if letter not in reads.replace("...", "")
        ]
        return Term(times(positions_of(call.input.shape), *free), ())
    axis = len(call.input.shape) + axes.input
    out = len(call.output_shape) + axes.output
    factors = labels_along(call.input, axis), labels_along(call.outputs[0], out)
    # Keras leaves sizes of the output open where the user did.
    return product_term(call.input.shape, axis, factors, call.outputs[0], out)


def _several_macs(layer, call, axes):
    axis = call.consumed.get(0, len(call.input.shape) + next(iter(axes.reads)))
    gone = {axes.kernel_out, *axes.reads.values()}
    made = [n for a, n in enumerate(layer.kernel.shape) if a - len(layer.kernel.shape) not in gone]
    positions = times(positions_of(call.input.shape, axis), *made)
    out = labels_along(call.outputs[0], len(call.output_shape) + axes.output)
    return Term(positions, (labels_along(call.input, axis), out))


@reading_variable.register
def _dense_reads(layer: layers.Dense):
    return layer.kernel, 0


@reading_variable.register
def _einsum_reads(layer: layers.EinsumDense):
    axes = EinsumAxes(layer)
    return (layer.kernel, axes.kernel_in % len(layer.kernel.shape)) if axes.simple else None


@linear_of.register
def _einsum_linear(layer: layers.EinsumDense):
    axes = EinsumAxes(layer)
    if not axes.simple or axes.per_position:
        return None
    order = (axes.kernel_in % 2, axes.kernel_out % 2)
    return Linear(layer.kernel, layer.bias, Entries(axes.input), order)


@producing_variable.register
def _einsum_weights(layer: layers.EinsumDense, inside=None):
    axes = EinsumAxes(layer)
    if axes.several is not None:
        return layer.kernel, axes.several.kernel_out % len(layer.kernel.shape)
    return layer.kernel, len(layer.kernel.shape) - 1 if axes.whole_kernel else axes.kernel_out


# --- Embedding -----------------------------------------------------------------------------------


@flow.register
def _embedding_flow(layer: layers.Embedding, call):
    axis = len(call.output_shape) - 1
    return call.site(call.produce(axis, layer.output_dim), axis)


@narrow.register
def _embedding_narrow(layer: layers.Embedding, part):
    """A row is one position's output: what is added to outputs is added to each row."""
    table = take(weights_of(layer)["embeddings"], 1, part.keep_out)
    table = table if part.shift is None else table + part.shift
    return {"output_dim": table.shape[1]}, [table]


@producing_variable.register
def _embedding_weights(layer: layers.Embedding, inside=None):
    return layer.embeddings, 1
