"""Dense layers, their general form as an einsum, and embeddings."""

import dataclasses

import numpy as np
from keras import layers

from resrep_keras.costs.macs import labels_along, macs, positions_of, times
from resrep_keras.costs.terms import Term
from resrep_keras.graph.flow import activate, flow
from resrep_keras.graph.labels import State
from resrep_keras.graph.own_weights import makes_all
from resrep_keras.surgery.channel_weights import producing_variable, reading_variable
from resrep_keras.surgery.linear import Entries, Linear, linear_of
from resrep_keras.surgery.narrow import narrow, take, weights_of, with_bias

# --- Dense ---------------------------------------------------------------------------------------


@flow.register
def _dense_flow(layer: layers.Dense, call):
    axis = len(call.input.shape) - 1
    folds = State.FIXED if axis == 1 else State.CONSTANT
    call.consume(call.input, axis, folds=folds)
    out = call.produce(axis, layer.units)
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
    return Term(positions_of(call.output_shape, axis), factors)


@linear_of.register
def _dense_linear(layer: layers.Dense):
    return Linear(layer.kernel, layer.bias, Entries())


# --- EinsumDense ---------------------------------------------------------------------------------


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


@flow.register
def _einsum_flow(layer: layers.EinsumDense, call):
    axes = EinsumAxes(layer)
    if axes.whole_kernel and call.input.labels.size == 1:
        axis = len(call.output_shape) - 1
        out = call.produce(axis, call.output_shape[axis])
        return activate(call, call.site(out, axis, shifts=False), layer.activation)
    if not axes.simple:
        return call.pin_all("an EinsumDense that reads or makes channels along several axes")
    # Keras on TensorFlow adds a bias of shape (n, 1) along the last axis where that is n long, too:
    # a constant becomes no bias of another axis.
    folds = State.CONSTANT if axes.output == -1 and not axes.per_position else State.ZERO
    call.consume(call.input, len(call.input.shape) + axes.input, folds=folds)
    axis = len(call.output_shape) + axes.output
    out = call.produce(axis, call.output_shape[axis])
    return activate(call, call.site(out, axis), layer.activation)


@narrow.register
def _einsum_narrow(layer: layers.EinsumDense, part):
    axes = EinsumAxes(layer)
    old = weights_of(layer)
    if axes.whole_kernel:
        kernel = take(old["kernel"], -1, part.keep_out)
        return {"output_shape": kernel.shape}, [kernel]
    kernel = np.moveaxis(old["kernel"], (axes.kernel_in, axes.kernel_out), (-2, -1))
    if axes.per_position:
        part = dataclasses.replace(part, constants=None)
    bias = old["bias"].ravel() if "bias" in old else None
    kernel, bias = with_bias(part, kernel, bias, -2, -1)
    kernel = np.moveaxis(kernel, (-2, -1), (axes.kernel_in, axes.kernel_out))
    shape = layer.get_config()["output_shape"]
    shape = [shape] if isinstance(shape, int) else list(shape)
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
    return Term(positions_of(call.input.shape, axis), factors)


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
