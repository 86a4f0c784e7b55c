"""The matrix in a layer: what it multiplies the rows with that it reads.

`linear_of` is an open function. A rule says which variable is the matrix, and which numbers of the
input make a row for each position of the output, so that the matrix can be fitted anew to data.
"""

import dataclasses
import functools
import itertools

import numpy as np
from keras import ops


@functools.singledispatch
def linear_of(layer):
    """The `Linear` part of a layer; `None` where it has none that may be fitted anew.

    Everything behind it, the activation say, must work on its outputs one position at a time.
    """
    del layer


@dataclasses.dataclass(frozen=True, eq=False)
class Linear:
    """A matrix of a layer, and the rows that meet it.

    ```
    output[position] = rows[position] @ matrix + bias
    ```

    Args:
        kernel: The variable that holds the matrix.
        bias: The variable `(outputs,)` that is added, or `None`.
        reader: What makes rows of an input: `Entries`, `Windows` or `Filtered`.
        order: The axes of the kernel, inputs first and outputs last. Defaults to its own order.
    """

    kernel: object
    bias: object
    reader: object
    order: tuple | None = None

    @property
    def inputs(self):
        """Numbers in a row."""
        shape = self.kernel.shape
        return int(np.prod(shape)) // shape[self._order()[-1]]

    def matrix(self):
        """The kernel as a float64 array `(inputs, outputs)`."""
        kernel = np.asarray(ops.convert_to_numpy(self.kernel), np.float64)
        kernel = kernel.transpose(self._order())
        return kernel.reshape(-1, kernel.shape[-1])

    def add(self, matrix, offsets=None):
        """Add to the matrix, and to the bias where there is one."""
        order = self._order()
        shape = [self.kernel.shape[axis] for axis in order]
        _add(self.kernel, matrix.reshape(shape).transpose(np.argsort(order)))
        if self.bias is not None and offsets is not None:
            _add(self.bias, offsets.reshape(self.bias.shape))

    def outputs(self, rows):
        """What the layer makes of rows, before anything behind it."""
        made = rows @ self.matrix().astype("float32")
        if self.bias is not None:
            made = made + np.ravel(ops.convert_to_numpy(self.bias)).astype("float32")
        return made

    def _order(self):
        return tuple(range(len(self.kernel.shape))) if self.order is None else self.order


def _add(variable, numbers):
    old = np.asarray(ops.convert_to_numpy(variable), np.float64)
    variable.assign((old + numbers).astype("float32"))


# --- rows -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Entries:
    """Each position is a row by itself.

    Args:
        axis: That of the channels.
    """

    axis: int = -1

    def grid(self, shape):
        """Sizes of the output positions of an input of a shape, examples first."""
        axis = self.axis % len(shape)
        return (*shape[:axis], *shape[axis + 1 :])

    def rows(self, x, places):
        """Float32 `(number, inputs)` of an array, at the places of the output positions."""
        return np.moveaxis(x, self.axis, -1)[places].astype("float32")


@dataclasses.dataclass(frozen=True)
class Windows:
    """A window around each output position is a row, as in a convolution.

    Args:
        axis: That of the channels.
        size, strides, dilation: Of each position axis.
        padding: `"valid"`, `"same"` or `"causal"`.
        transposed: Whether it is a transposed convolution, whose strides spread the input.
    """

    axis: int
    size: tuple
    strides: tuple
    dilation: tuple
    padding: str
    transposed: bool = False

    def grid(self, shape):
        axis = self.axis % len(shape)
        sizes = (*shape[:axis], *shape[axis + 1 :])
        return (sizes[0], *(self._length(n, k) for k, n in enumerate(sizes[1:])))

    def rows(self, x, places):
        taps = self.taps(x, places)
        return taps.reshape(len(taps), -1)

    def taps(self, x, places):
        """Float32 `(number, taps, channels)`: zero beyond the border."""
        x = np.moveaxis(x, self.axis, -1)
        found = [
            self._sources(place, axis, x.shape[1 + axis]) for axis, place in enumerate(places[1:])
        ]
        taps = []
        for tap in itertools.product(*map(range, self.size)):
            where = [found[axis][number] for axis, number in enumerate(tap)]
            inside = functools.reduce(np.logical_and, [there for _, there in where])
            values = x[(places[0], *(np.where(there, at, 0) for at, there in where))]
            taps.append(np.where(inside[:, None], values, 0).astype("float32"))
        return np.stack(taps, axis=1)

    def _sources(self, place, axis, size):
        """For each tap along an axis, which inputs the places read, and whether there are any."""
        stride, begin = self.strides[axis], self._begin(axis, size)
        found = []
        for tap in range(self.size[axis]):
            if self.transposed:
                at, rest = np.divmod(place + begin - tap * self.dilation[axis], stride)
            else:
                at, rest = place * stride - begin + tap * self.dilation[axis], 0
            found.append((at, (rest == 0) & (at >= 0) & (at < size)))
        return found

    def _reach(self, axis):
        return (self.size[axis] - 1) * self.dilation[axis] + 1

    def _length(self, size, axis):
        """Number of output positions."""
        stride, reach = self.strides[axis], self._reach(axis)
        if self.transposed:
            return size * stride + (max(reach - stride, 0) if self.padding == "valid" else 0)
        return -(-size // stride) if self.padding != "valid" else (size - reach) // stride + 1

    def _begin(self, axis, size):
        """How many zeros stand in front of the input; in a transposed one, what is cut off."""
        reach, stride = self._reach(axis), self.strides[axis]
        if self.padding == "valid":
            return 0
        if self.padding == "causal":
            return reach - 1
        length = self._length(size, axis)
        small, large = (size, length) if self.transposed else (length, size)
        return max((small - 1) * stride + reach - large, 0) // 2


@dataclasses.dataclass(frozen=True, eq=False)
class Filtered:
    """Windows that a depthwise kernel has filtered, as in a separable convolution.

    Args:
        windows: The `Windows`.
        kernel: The depthwise kernel, `(*size, channels, multiplier)`.
    """

    windows: Windows
    kernel: object

    def grid(self, shape):
        return self.windows.grid(shape)

    def rows(self, x, places):
        kernel = np.asarray(ops.convert_to_numpy(self.kernel), "float32")
        kernel = kernel.reshape(-1, *kernel.shape[-2:])
        made = np.einsum("ntc,tcm->ncm", self.windows.taps(x, places), kernel)
        return made.reshape(len(made), -1)
