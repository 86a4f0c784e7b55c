"""Graphs of calls that ask how large what they read is: made for some sizes, then for any.

A symbolic tensor does not know how large its batch is, nor how long a sequence of any length, so
that `ops.shape(x)[1]` is `None`, with which few operations can do. Such a call is read with sizes
that nothing else in a model is a multiple of. Where such a size is in a shape, that of the tensor
is meant; and what is made of a size alone, such as the positions of a sequence, is made of the
tensor instead.
"""

import contextlib
import contextvars
import dataclasses

import keras
from keras import ops

from resrep_keras.graph.from_sizes import made_of_sizes, ones_along, times_ones
from resrep_keras.graph.recording import is_symbolic, symbolic_tensors
from resrep_keras.graph.seen_calls import made_with, played_again
from resrep_keras.keras_adapter import input_like, is_array, is_layer, is_variable, operation_class

SIZE = 97
# Lengths, the first that a call takes: it may know how many positions there are at most.
LENGTHS = ((89, 83, 79, 73, 71), (31, 29, 23, 19, 17), (13, 11, 7))
MOST = 7  # so many open lengths are told apart
# A batch of windows, of which so many may make one example.
WINDOWS = 576


def open_axes(tensors):
    """``(position, axis)`` of each size beside the batch that symbolic tensors leave open."""
    return [
        (position, axis)
        for position, tensor in enumerate(tensors)
        for axis, size in enumerate(tensor.shape)
        if axis and size is None
    ]


@dataclasses.dataclass(frozen=True)
class OpenSizes:
    """Stand-ins for sizes that are open.

    Args:
        kinds: ``{(position, axis): number}``: which of them are the same, from 0 on.
        lengths: The stand-in of each number.
        windows: Rows of the batch come in multiples of this number.
        reshapes: Layers that are made for graphs of the same call, in their order.
        told: What parts have said of their outputs, by the part and the shapes of its inputs.
    """

    kinds: dict
    lengths: tuple
    windows: int = 1
    reshapes: list = dataclasses.field(default_factory=list, compare=False)
    told: dict = dataclasses.field(default_factory=dict, compare=False)

    def inputs(self, tensors):
        """Inputs like symbolic tensors, of these sizes."""
        return [input_like(x, self._shape(p, x, self._batch)) for p, x in enumerate(tensors)]

    def of_length(self, tensors, length):
        """Inputs like symbolic tensors, with about so many entries along each open axis."""
        lengths = tuple(max(2, length - 3 * number) for number in range(len(self.lengths)))
        other = dataclasses.replace(self, lengths=lengths)
        batch = None if self.windows == 1 else self.windows
        return [input_like(x, other._shape(p, x, batch)) for p, x in enumerate(tensors)]

    @property
    def _batch(self):
        return SIZE * self.windows

    def _shape(self, position, tensor, batch):
        kinds = {axis: number for (own, axis), number in self.kinds.items() if own == position}
        sizes = [self.lengths[kinds[a]] if a in kinds else n for a, n in enumerate(tensor.shape)]
        return tuple([batch, *sizes[1:]] if sizes[:1] == [None] else sizes)

    def making(self, inputs, tensors):
        """While it lasts, what `keras.ops` makes of these sizes alone is made of the inputs."""
        return made_of_sizes(self._sources(inputs, tensors))

    def for_any(self, graph, tensors):
        """The graph of `inputs`, on inputs like `tensors`.

        Raises:
            ValueError: A size is used otherwise than in a shape.
        """
        inputs = [input_like(tensor) for tensor in tensors]
        rewriting = _Rewriting(self._sources(inputs, tensors), self._batch, self.reshapes)
        return played_again(graph, inputs, rewriting.call)

    def _sources(self, inputs, tensors):
        """``{stand-in: (an input that has it, its axis)}``, of few axes where there are several."""
        places = [(self._batch, p, 0) for p, x in enumerate(tensors) if x.shape[:1] == (None,)]
        places += [(self.lengths[number], *place) for place, number in self.kinds.items()]
        places = [place for place in places if inputs[place[1]].dtype != "string"]
        places.sort(key=lambda place: -len(inputs[place[1]].shape))
        return {size: (inputs[position], axis) for size, position, axis in places}


_FITTING: contextvars.ContextVar = contextvars.ContextVar("fitting")


@contextlib.contextmanager
def fitting_kept():
    """While it lasts, what fits one layer is taken for what fits others of its kind."""
    token = _FITTING.set({})
    try:
        yield
    finally:
        _FITTING.reset(token)


def first_fitting(layer, tensors, fits):
    """The first `OpenSizes` that fit, of as many different lengths as do; else `None`.

    Args:
        layer: The layer that is called.
        tensors: Symbolic tensors.
        fits: Tells whether a call takes an `OpenSizes`.
    """
    key = type(layer), tuple((tuple(x.shape), x.dtype) for x in tensors)
    known = _FITTING.get({})
    if known.get(key) is None:
        known[key] = _found(tensors, fits)
    found = known[key]
    return found and OpenSizes(found.kinds, found.lengths)


def _found(tensors, fits):
    axes = open_axes(tensors)
    for lengths in LENGTHS if axes else ((),):
        found = OpenSizes(dict.fromkeys(axes, 0), lengths)
        if fits(found):
            return _told_apart(found, fits) if len(axes) <= MOST else found
    return None


def _told_apart(sizes, fits):
    """The same sizes with more of different lengths, as long as that fits."""
    for number in range(len(sizes.lengths) - 1):
        members = [place for place, own in sizes.kinds.items() if own == number]
        for others in _parts_without_first(members):
            new = max(sizes.kinds.values()) + 1
            apart = dataclasses.replace(sizes, kinds={**sizes.kinds, **dict.fromkeys(others, new)})
            if fits(apart):
                return _told_apart(apart, fits)
    return sizes


def _parts_without_first(members):
    """All parts of a list that are neither empty nor hold its first entry, the last ones first."""
    rest = members[1:]
    for bits in range(1, 2 ** len(rest)):
        yield [member for place, member in enumerate(reversed(rest)) if bits >> place & 1]


class _Rewriting:
    """Plays calls again on inputs whose sizes are open.

    Args:
        sources: ``{stand-in: (input that has this size, axis)}``.
        batch: The stand-in of the batch.
        reshapes: Layers that were made before, and those that are made now.
    """

    def __init__(self, sources, batch, reshapes):
        self._sources, self._reshapes, self._used = sources, reshapes, 0
        self._batch, self._units = batch, {SIZE if n == batch else n for n in sources}

    def call(self, operation, *args, **kwargs):
        args, kwargs = keras.tree.map_structure(self._first_row, (args, kwargs))
        if is_layer(operation):
            return operation(*args, **kwargs)
        given = keras.tree.flatten((tuple(made_with(operation).values()), args, kwargs))
        found = [value for value in given if not is_symbolic(value) and self._has_size(value)]
        return self._rewritten(operation, args, kwargs) if found else operation(*args, **kwargs)

    def _first_row(self, value):
        """Of an array that is the same for each example, such as a causal mask, that of one."""
        if is_symbolic(value) or is_variable(value) or not is_array(value) or not len(value.shape):
            return value
        same = value.shape[0] == self._batch
        return value[:1] if same and ops.convert_to_numpy(ops.all(value == value[:1])) else value

    def _has_size(self, value):
        if is_array(value):
            return any(map(self._has_size, value.shape))
        if isinstance(value, slice):
            return any(map(self._has_size, (value.start, value.stop)))
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and value != 0 and any(value % size == 0 for size in self._units)

    def _rewritten(self, operation, args, kwargs):
        """The output of an operation with an open size in a shape, for any size."""
        tensors = symbolic_tensors(args, kwargs)
        old, new = keras.tree.flatten(operation.input)[0].shape, operation.output.shape
        if isinstance(operation, operation_class("reshape")):
            made = self._reshaped(tensors[0], old, new)
        elif isinstance(operation, _REPEATING):
            made = self._repeated(tensors[0], old, new)
        elif isinstance(operation, operation_class("slice")) and len(tensors) == 1:
            made = self._sliced(operation, *args, **kwargs)
        else:
            made = None
        if made is None:
            what = "the size of the batch" if len(self._sources) == 1 else "sizes that are open"
            raise ValueError(f"{type(operation).__name__} computes with {what}")
        return made

    def _reshaped(self, x, old, new):
        if [n for n in old if n != 1] == [n for n in new if n != 1]:  # only ones come and go
            for axes, move in ((old, ops.squeeze), (new, ops.expand_dims)):
                ones = tuple(axis for axis, n in enumerate(axes) if n == 1)
                x = move(x, ones) if ones else x
            return x
        sizes = [-1 if self._has_size(size) else size for size in new]
        if sizes.count(-1) == 1:
            return ops.reshape(x, sizes)
        if (
            sizes.count(-1) == 2 and old[0] == new[0] == self._batch
        ):  # that of Keras keeps the batch
            return self._reshape_layer(tuple(sizes[1:]), x.dtype)(x)
        return None

    def _reshape_layer(self, sizes, dtype):
        """The one that was made before at this place, so that equal calls are seen to be equal."""
        made, place = self._reshapes, self._used
        self._used += 1
        if place >= len(made) or made[place].target_shape != sizes:
            made[place:] = [keras.layers.Reshape(sizes, dtype=dtype)]
        return made[place]

    def _repeated(self, x, old, new):
        """A tensor that is the same along axes of open size."""
        if len(old) < len(new):
            x = ops.expand_dims(x, tuple(range(len(new) - len(old))))
            old = (1,) * (len(new) - len(old)) + tuple(old)
        for axis, (before, after) in enumerate(zip(old, new)):
            if before == after:
                continue
            if before != 1:
                return None
            if after in self._sources:
                x = times_ones(x, *self._sources[after], axis, len(new))
            elif self._has_size(after):
                return None
            else:
                x = ops.repeat(x, after, axis=axis)
        return x

    def _sliced(self, operation, x, start_indices):
        """Entries from a known one on, as many as a size is."""
        for axis, size in enumerate(operation.output.shape):
            begin = int(start_indices[axis])
            if size in self._sources:
                ones = ones_along(*self._sources[size], "int32")
                x = ops.take(x, ops.cumsum(ones) + (begin - 1), axis=axis)
            elif self._has_size(size):
                return None
            elif x.shape[axis] != size:
                x = x[(*[slice(None)] * axis, slice(begin, begin + size))]
        return x


_REPEATING = tuple(map(operation_class, ("broadcast_to", "tile", "repeat")))
