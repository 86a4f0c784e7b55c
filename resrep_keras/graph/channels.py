"""Channel labels, the groups they form, and the graph that holds both.

A *channel label* is an integer that names one channel wherever it flows. Every tensor carries an
array of labels that broadcasts against it: a convolution's output of shape
``(batch, height, width, channels)`` has labels of shape ``(1, 1, 1, channels)``. Because the array
has the tensor's rank, Flatten, Reshape and Concatenate act on labels as NumPy acts on arrays.
"""

import dataclasses
import enum

import numpy as np


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
    """

    labels: np.ndarray
    shape: tuple
    state: np.ndarray = None
    origins: frozenset = frozenset()

    def __post_init__(self):
        if self.state is None:
            self.state = np.full(self.labels.shape, State.ZERO, np.int8)

    @property
    def channel_axis(self):
        """The only axis along which labels differ; the last one where none does."""
        axes = [axis for axis, size in enumerate(self.labels.shape) if size > 1]
        if len(axes) > 1:
            return None
        return axes[0] if axes else len(self.shape) - 1

    def replace(self, **changes):
        return dataclasses.replace(self, **changes)

    def map(self, function, shape):
        """Apply one NumPy function to labels and state."""
        return self.replace(
            labels=canonical(function(self.labels)),
            state=self._canonical_state(function),
            shape=tuple(shape),
        )

    def _canonical_state(self, function):
        labels, state = function(self.labels), function(self.state)
        target = canonical(labels).shape
        for axis, size in enumerate(target):
            if size == 1 and state.shape[axis] > 1:
                state = state.max(axis=axis, keepdims=True)
        return state

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
    """Union-find over channel labels, with the reason why a class is pinned."""

    def __init__(self):
        self._parent = []
        self._next = []  # circular lists: the members of each class
        self._reason = {}
        self._anchor = set()

    def __len__(self):
        return len(self._parent)

    def fresh(self, count):
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        self._next.extend(range(start, start + count))
        return np.arange(start, start + count, dtype=np.int64)

    def fresh_pinned(self, reason):
        """One label that stands for all channels of a pinned tensor."""
        label = int(self.fresh(1)[0])
        self._reason[label] = reason
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
                self._reason.setdefault(other, self._reason[pinned])
                continue
            low, high = min(a, b), max(a, b)
            self._parent[high] = low
            self._next[low], self._next[high] = self._next[high], self._next[low]
            if high in self._reason:
                self._reason.setdefault(low, self._reason[high])

    def pin(self, labels, reason):
        for label in np.unique(labels):
            self._reason.setdefault(self.find(int(label)), reason)

    def pin_for(self, labels, reason):
        """Pin for a reason that goes before others."""
        self._reason.update((self.find(int(label)), reason) for label in np.unique(labels))

    def reason(self, label):
        return self._reason.get(self.find(int(label)))


@dataclasses.dataclass(frozen=True)
class Producer:
    """A layer that makes new channels; `channels` are their ids, in the layer's own order.

    Args:
        layer: The layer's name.
        channels: Ids of its channels.
        follows: Whether it is multiplied into a stream whose own zeros suffice, so that it needs no
            compactor.
        inside: Name of channels that the layer holds inside, such as heads; `None` for outputs.
    """

    layer: str
    channels: np.ndarray
    follows: bool = False
    inside: str | None = None

    @property
    def name(self):
        return self.layer if self.inside is None else f"{self.layer}.{self.inside}"


@dataclasses.dataclass(frozen=True)
class Site:
    """A place where a compactor makes removed channels exactly zero.

    Args:
        layer: Name of the layer behind whose calls it stands.
        channels: Channel ids along the channel axis, -1 where pinned.
        axis: Channel axis of the tensor.
        gate: Whether only a diagonal may stand here (it must merge into a depthwise layer or
            a batch normalisation).
        inside: Name of the layer's own inner channels that are scaled, `None` for its outputs.
        activates: Whether the layer applies its `activation` last, so that the compactor takes it
            over.
    """

    layer: str
    channels: np.ndarray
    axis: int
    gate: bool = False
    inside: str | None = None
    activates: bool = False

    @property
    def name(self):
        return self.layer if self.inside is None else f"{self.layer}.{self.inside}"


@dataclasses.dataclass(frozen=True)
class ChannelGroup:
    """Channels that are scored and kept in one place.

    Args:
        name: Name of the first producer.
        channels: Channel ids of the group.
        producers: The layers that make these channels.
        sites: Where compactors stand.
        pinned: Bool array; True where a channel must be kept.
        reason: Why the group cannot be pruned, or `None`.
        inexact: Why removing its channels changes outputs, or `None` where it does not; see the
            argument `exact` of `trace`.
        reasons: Why each pinned channel is pinned, `None` for the others.
    """

    name: str
    channels: np.ndarray
    producers: tuple
    sites: tuple
    pinned: np.ndarray
    reason: str | None = None
    inexact: str | None = None
    reasons: tuple = ()

    @property
    def size(self):
        return len(self.channels)

    @property
    def coupled(self):
        """Whether several producers must be zero at once (a residual stream)."""
        return sum(not producer.follows for producer in self.producers) > 1

    @property
    def prunable(self):
        """Whether a method may remove channels: not all are pinned, and a compactor can stand."""
        return self.reason is None and self.size > 1 and bool(self.sites)

    @property
    def pinned_by(self):
        """The node that keeps all channels of a group that is not prunable, and its reason."""
        if self.reason is not None:
            name, _, reason = self.reason.partition(": ")
            return name, reason
        alone = self.size == 1
        return self.name, "it has a single channel" if alone else "no compactor can stand behind it"


@dataclasses.dataclass(frozen=True)
class ChannelGraph:
    """Everything that is known of a model's channels; see `trace`.

    Args:
        calls: One `Call` for each call of a layer or operation, in the order of execution.
        groups: The `ChannelGroup`s, in order of their first producer.
        pins: Pairs `(layer name, reason)`, one for each place that pins channels.
        num_channels: Number of channel ids; keep arrays have this length.
        channel_of: Channel id of each label, -1 where the label is pinned for good.
        tape: The recorded calls as they are nested in inner tapes; see `graph.walk`.
    """

    calls: tuple
    groups: tuple
    pins: tuple
    num_channels: int
    channel_of: np.ndarray
    tape: object = None

    def group(self, name):
        """The group to which the producer called `name` belongs."""
        for group in self.groups:
            if any(producer.name == name for producer in group.producers):
                return group
        known = ", ".join(group.name for group in self.groups)
        raise ValueError(
            f"Expected the name of a layer that makes channels ({known}); got '{name}'."
        )

    def keep_array(self, keep):
        """Turn ``{producer name: bool (channels,)}`` into one bool per channel id.

        Raises:
            ValueError: A name, a shape or a dtype is wrong, a pinned channel would be removed,
                or coupled layers disagree.
        """
        kept = np.ones(self.num_channels, bool)
        wanted = np.ones(self.num_channels, bool)
        for name, mask in keep.items():
            group = self.group(name)
            channels = next(p.channels for p in group.producers if p.name == name)
            mask = np.asarray(mask)
            if mask.dtype != bool or mask.shape != channels.shape:
                raise ValueError(
                    f"Expected a bool array of shape {channels.shape} as keep mask of layer "
                    f"'{name}'; got dtype {mask.dtype}, shape {mask.shape}."
                )
            kept[channels] &= mask
            wanted[channels[mask]] = True
        for group in self.groups:
            position = kept[group.channels]
            if not position[group.pinned].all():
                raise ValueError(
                    f"Layer '{group.name}' has pinned channels that the keep mask removes: "
                    f"{group.reason or 'they are part of an output'}. Keep them."
                )
            if not position.any():
                raise ValueError(
                    f"The keep mask of layer '{group.name}' removes all {group.size} channels; "
                    "keep at least one."
                )
        for name, mask in keep.items():
            channels = next(p.channels for p in self.group(name).producers if p.name == name)
            if not np.array_equal(kept[channels], np.asarray(mask)):
                raise ValueError(
                    f"The keep mask of layer '{name}' disagrees with that of a layer coupled to it; "
                    "coupled layers keep the same channels."
                )
        return kept

    def keep_by_producer(self, kept):
        """The inverse of `keep_array`: one mask for each producer that loses a channel."""
        masks = {p.name: kept[p.channels] for group in self.groups for p in group.producers}
        return {name: mask for name, mask in masks.items() if not mask.all()}

    def kept_labels(self, labels, kept):
        """Bool array shaped like `labels`: True where the channel is kept."""
        ids = self.channel_of[labels]
        return np.where(ids < 0, True, kept[np.maximum(ids, 0)])
