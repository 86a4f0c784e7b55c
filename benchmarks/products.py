"""The products of a model's TensorFlow graph, counted from shapes alone: nothing of the library.

A product that is summed over some axis counts once for each entry and each summed entry. Recurrent
layers are unrolled first, so that no loop hides any; how often other loops run is to be told.

Three kinds are no work of the model, but of the way in which TensorFlow does it, and are counted
apart: convolutions whose kernel is a constant of zeros and ones, by which patches are cut out,
positions that are computed and cut off again, where a dilated convolution goes over blocks, and
products of a constant single number with a row, which sum nothing: Keras writes the outer product
by which a layer takes up a vector as a product of matrices.
"""

import dataclasses
import math

import keras

from resrep_keras.surgery.forward import example_inputs


@dataclasses.dataclass
class Counted:
    """Multiply-accumulates of a graph.

    Args:
        all: All of them.
        moving: Of convolutions by a constant, which cut out patches.
        cut_off: At positions that a dilated convolution computes and cuts off again.
        outer: Of a constant single number with a row.
    """

    all: int = 0
    moving: int = 0
    cut_off: int = 0
    outer: int = 0

    def add(self, other, times=1):
        for field in dataclasses.fields(self):
            more = times * getattr(other, field.name)
            setattr(self, field.name, getattr(self, field.name) + more)


def products(model, inputs=None, trips=None):
    """Multiply-accumulates of one example in the graph that TensorFlow makes of `model`, all.

    See `count_products`.
    """
    return count_products(model, inputs, trips).all


def count_products(model, inputs=None, trips=None):
    """What of one example is `Counted` in the graph that TensorFlow makes of `model`.

    Args:
        model: The model.
        inputs: One example in the structure in which the model takes it. Defaults to random values.
        trips: How often each loop that is left runs. Defaults to `None`: there is none.

    Raises:
        NotImplementedError: A loop is left, whose steps the graph does not tell.
    """
    import tensorflow as tf

    recurrent = [x for x in every_layer(model) if isinstance(x, keras.layers.RNN)]
    before = [layer.unroll for layer in recurrent]
    given = example_inputs(model, 1) if inputs is None else inputs

    @tf.function(autograph=False)
    def run(*tensors):
        return model(keras.tree.pack_sequence_as(given, tensors), training=False)

    try:
        for layer in recurrent:
            layer.unroll = True
        graph = run.get_concrete_function(*map(_spec, keras.tree.flatten(given))).graph
    finally:
        for layer, value in zip(recurrent, before):
            layer.unroll = value
    return _of_graph(graph, trips)


def _spec(value):
    import tensorflow as tf

    return tf.TensorSpec(value.shape, value.dtype)


def every_layer(layer):
    """A layer and those that it holds, at any depth."""
    found, todo = [], [layer]
    while todo:
        found.append(todo.pop())
        held = list(found[-1]._layers)  # those of any layer, which no public attribute names
        todo += [x for x in held if not any(x is other for other in found)]
    return found


def _of_graph(graph, trips):
    counted = Counted()
    for operation in graph.get_operations():
        if operation.type in COUNTS:
            counted.add(_of_operation(operation))
        elif operation.type in ("PartitionedCall", "StatefulPartitionedCall"):
            name = operation.get_attr("f").name
            counted.add(_of_graph(graph._get_function(name).graph, trips))
        elif trips is not None and operation.type in ("While", "StatelessWhile"):
            name = operation.get_attr("body").name
            counted.add(_of_graph(graph._get_function(name).graph, trips), trips)
        elif operation.type in ("While", "StatelessWhile", "If", "StatelessIf"):
            raise NotImplementedError(f"A {operation.type} in the graph: {operation.name}.")
    return counted


def _of_operation(operation):
    whole = COUNTS[operation.type](operation, *(x.shape for x in operation.inputs))
    if operation.type == "MatMul" and _is_number(operation.inputs[0]):
        return Counted(whole, outer=whole)
    if operation.type not in ("Conv2D", "Conv3D"):
        return Counted(whole)
    if _is_constant(operation.inputs[1].op):
        return Counted(whole, moving=whole)
    (made,) = operation.outputs
    joined = [x for x in made.consumers() if x.type == "BatchToSpaceND"]
    if not joined:
        return Counted(whole)
    kept = _size(joined[0].outputs[0].shape)
    return Counted(whole, cut_off=whole - whole * kept // _size(made.shape))


def _is_number(tensor):
    """Whether a matrix has a single entry, a constant."""
    return tensor.shape.as_list() == [1, 1] and _is_constant(tensor.op)


def _is_constant(operation):
    """Whether neither a weight nor an input is read for it, which are placeholders here."""
    seen, todo = set(), [operation]
    while todo:
        found = todo.pop()
        if found.type == "Placeholder":
            return False
        if found.name not in seen:
            seen.add(found.name)
            todo.extend(tensor.op for tensor in found.inputs)
    return True


def _size(shape):
    return math.prod(shape.as_list())


def _convolution(operation, inputs, kernel):
    """Positions of the output, whose channels the kernel has already."""
    return _size(operation.outputs[0].shape) // kernel[-1] * _size(kernel)


def _depthwise(operation, inputs, kernel):
    return _size(operation.outputs[0].shape) // (kernel[-2] * kernel[-1]) * _size(kernel)


def _transposed(operation, sizes, kernel, inputs):
    """Positions of the input, whose channels are the last axis of the kernel."""
    return _size(inputs) // kernel[-1] * _size(kernel)


def _matmul(operation, first, second):
    flag = "transpose_a" if operation.type == "MatMul" else "adj_x"
    summed = first[-2] if operation.get_attr(flag) else first[-1]
    return _size(operation.outputs[0].shape) * summed


def _einsum(operation, *shapes):
    before, made = operation.get_attr("equation").decode().split("->")
    sizes = {}
    for term, shape in zip(before.split(","), shapes):
        dots = shape.rank - len(term.replace("...", ""))
        letters = term.replace("...", "".join(chr(200 + i) for i in range(dots)))
        sizes.update(zip(letters, shape.as_list()))
    summed = len(shapes) > 1 and any(x not in made and ord(x) < 200 for x in sizes)
    return math.prod(sizes.values()) if summed else 0


COUNTS = {
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "DepthwiseConv2dNative": _depthwise,
    "Conv2DBackpropInput": _transposed,
    "Conv3DBackpropInputV2": _transposed,
    "MatMul": _matmul,
    "BatchMatMul": _matmul,
    "BatchMatMulV2": _matmul,
    "Einsum": _einsum,
}
