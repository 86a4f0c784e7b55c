"""Channel labels: integers that name channels wherever they flow.

A *channel label* is an integer that names one channel. Every tensor carries an
array of labels that broadcasts against it: a convolution's output of shape
``(batch, height, width, channels)`` has labels of shape ``(1, 1, 1, channels)``. Because the array
has the tensor's rank, Flatten, Reshape and Concatenate act on labels as NumPy acts on arrays.
"""

import dataclasses
import enum

import numpy as np

# Stands for a label where nothing can be removed: no graph knows it as a channel.
WHOLE = -1


class State(enum.IntEnum):
    """What the entries of a removed channel hold, from the easiest to the hardest to remove."""

    ZERO = 0  # exactly zero
    CONSTANT = 1  # one input-independent value, the same at every position
    FIXED = 2  # input-independent values that differ between positions (borders)
    VARYING = 3  # depends on the input


@dataclasses.dataclass
class Flow:
    """What one tensor carries: labels, the state of removed channels, and where it arose.

    Args:
        labels: Integer array with the tensor's rank; an axis has size 1 where labels do not
            depend on it.
        shape: Shape of the tensor; `None` for unknown sizes.
        state: `State` values, same shape as `labels`; what each channel holds once removed.
        origins: Indices of the calls that turned zeros into constants upstream.
        across: Another `Flow` of the same tensor, whose labels lie along another axis: an entry
            goes where either of its labels does. `None` where there is none.
    """

    labels: np.ndarray
    shape: tuple
    state: np.ndarray | None = None
    origins: frozenset = frozenset()
    across: "Flow | None" = None

    def __post_init__(self):
        if self.state is None:
            self.state = np.full(self.labels.shape, State.ZERO, np.int8)

    @property
    def wide_axes(self):
        """The axes along which labels differ."""
        return [axis for axis, size in enumerate(self.labels.shape) if size > 1]

    @property
    def channel_axis(self):
        """The only axis along which labels differ; the last one where none does."""
        axes = self.wide_axes
        if len(axes) > 1:
            return None
        return axes[0] if axes else len(self.shape) - 1

    @property
    def parts(self):
        """This flow and those across, each by itself."""
        if self.across is None:
            return (self,)
        return (dataclasses.replace(self, across=None), *self.across.parts)

    def crossed_by(self, parts):
        """This flow with others across, of which those count that have channels."""
        across = None
        for part in reversed([part for part in parts if part.wide_axes]):
            across = part.replace(across=across, shape=self.shape)
        return self.replace(across=across)

    def each(self, function):
        """What a function makes of this flow and of those across."""
        first, *others = map(function, self.parts)
        return first.crossed_by(others)

    def moved(self, axis, shape):
        """A flow whose only channel axis is another one, of another shape."""
        target = [-1 if other == axis else 1 for other in range(len(shape))]
        labels, state = (np.reshape(a, target) for a in (self.labels, self.state))
        return self.replace(labels=labels, state=state, shape=tuple(shape))

    def replace(self, **changes):
        """The flow with other fields; flows across get its shape."""
        if self.across is not None and "shape" in changes and "across" not in changes:
            changes["across"] = self.across.replace(shape=changes["shape"])
        return dataclasses.replace(self, **changes)

    def map(self, function, shape):
        """Apply one NumPy function to labels and state."""
        return self.replace(
            labels=canonical(function(self.labels)),
            state=self._canonical_state(function),
            shape=tuple(shape),
            across=self.across and self.across.map(function, shape),
        )

    def _canonical_state(self, function):
        labels, state = function(self.labels), function(self.state)
        target = canonical(labels).shape
        for axis, size in enumerate(target):
            if size == 1 and state.shape[axis] > 1:
                state = state.max(axis=axis, keepdims=True)
        return state

    def only_along(self, axis):
        """Labels along one axis alone: those of the first entry of all others.

        Constants may differ between what comes together.
        """
        labels, state = self.labels, self.state
        for other in self.wide_axes:
            if other != axis:
                labels = labels.take([0], other)
                state = state.max(axis=other, keepdims=True)
        state = np.where(state == State.CONSTANT, State.FIXED, state).astype(np.int8)
        return self.replace(labels=labels, state=state)

    def along(self, axis=None):
        """Labels and state along one axis; `WHOLE` where channels lie along another one.

        Args:
            axis: The axis; its size is 1 here where it is unknown. Defaults to that of the
                channels.
        """
        if not self.shape:
            return self
        if self.across is not None:
            part = next((part for part in self.parts if axis in part.wide_axes), self.parts[0])
            return part.along(axis)
        if axis is None:
            axis = self.wide_axes[0] if len(self.wide_axes) == 1 else len(self.shape) - 1
        shape = [1] * len(self.shape)
        shape[axis] = self.shape[axis] or 1
        if self.labels.size > self.labels.shape[axis]:
            return self.replace(labels=np.full(shape, WHOLE), state=np.zeros(shape, np.int8))
        return self.expanded([axis]) if self.shape[axis] else self

    def labels_along(self, axis=None):
        """The labels of `along` in a row."""
        return self.along(axis).labels.ravel()

    def expanded(self, axes=None):
        """Labels and state as functions of full size along `axes` (default: all but batch)."""
        axes = range(1, len(self.shape)) if axes is None else axes
        shape = list(self.labels.shape)
        for axis in axes:
            shape[axis] = self.shape[axis]
        return self.replace(
            labels=np.broadcast_to(self.labels, shape), state=np.broadcast_to(self.state, shape)
        )


def canonical(labels):
    """Shrink to size 1 every axis along which all slices are equal."""
    for axis, size in enumerate(labels.shape):
        if size > 1 and (labels == labels.take([0], axis)).all():
            labels = labels.take([0], axis)
    return labels


class Labels:
    """Union-find over channel labels, with what pins a class: the first `Pin` that met it."""

    def __init__(self):
        self._parent = []
        self._next = []  # circular lists: the members of each class
        self._pins = {}
        self._anchor = set()

    def __len__(self):
        return len(self._parent)

    def fresh(self, count):
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        self._next.extend(range(start, start + count))
        return np.arange(start, start + count, dtype=np.int64)

    def fresh_pinned(self, pin):
        """One label that stands for all channels of a pinned tensor."""
        label = int(self.fresh(1)[0])
        self._pins[label] = pin
        self._anchor.add(label)
        return label

    def find(self, label):
        parent = self._parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    def members(self, label):
        """All labels of the class of `label`."""
        found, other = [label], self._next[label]
        while other != label:
            found.append(other)
            other = self._next[other]
        return found

    def roots(self):
        """The class of each label, as an array that is indexed by label."""
        return np.array([self.find(label) for label in range(len(self))], dtype=np.int64)

    def union(self, first, second):
        """Make two equally shaped arrays of labels equal, entry by entry."""
        pairs = {(int(a), int(b)) for a, b in zip(first.ravel(), second.ravel())}
        for a, b in sorted(pairs):
            a, b = self.find(a), self.find(b)
            if a == b:
                continue
            # An anchor stands for many channels: joining it would join them all with each other.
            if a in self._anchor or b in self._anchor:
                pinned, other = (a, b) if a in self._anchor else (b, a)
                self._pins.setdefault(other, self._pins[pinned])
                continue
            low, high = min(a, b), max(a, b)
            self._parent[high] = low
            self._next[low], self._next[high] = self._next[high], self._next[low]
            if high in self._pins:
                self._pins.setdefault(low, self._pins[high])

    def pin(self, labels, pin):
        for label in np.unique(labels):
            self._pins.setdefault(self.find(int(label)), pin)

    def pin_for(self, labels, pin):
        """Pin with a `Pin` that goes before others."""
        self._pins.update((self.find(int(label)), pin) for label in np.unique(labels))

    def pin_of(self, label):
        """What pins a label, or `None`."""
        return self._pins.get(self.find(int(label)))
