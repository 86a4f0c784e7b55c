"""Channel groups, the layers that make them, and the graph that holds all that is known of them."""

import dataclasses
import functools
import typing

import numpy as np

from resrep_keras.common.checks import as_array, check_instance, shown
from resrep_keras.common.types import Arrays
from resrep_keras.graph.labels import State
from resrep_keras.graph.pins import Pin, PinKind
from resrep_keras.keras_adapter import weights_of_operation


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
        axis: Channel axis of the tensor; counted from the last where calls make several ranks.
        diagonal: Whether only a diagonal may stand here (it must merge into a depthwise layer or
            a batch normalisation).
        inside: Name of the layer's own inner channels that are scaled, `None` for its outputs.
        activates: Whether the layer applies its `activation` last, so that the compactor takes it
            over.
    """

    layer: str
    channels: np.ndarray
    axis: int
    diagonal: bool = False
    inside: str | None = None
    activates: bool = False

    @property
    def name(self):
        return self.layer if self.inside is None else f"{self.layer}.{self.inside}"


@dataclasses.dataclass(frozen=True)
class ReadChannels:
    """Channels of which one must stay, since a layer with weights reads no others.

    Args:
        reader: Name of the layer.
        channels: Their ids.
    """

    reader: str
    channels: np.ndarray


@dataclasses.dataclass(frozen=True)
class ChannelGroup:
    """Channels that are scored and kept in one place.

    Args:
        name: Name of the first producer.
        channels: Channel ids of the group.
        producers: The layers that make these channels.
        sites: Where compactors stand.
        pinned: Bool array; True where a channel must be kept.
        reason: The `Pin` that keeps all channels, or `None`.
        inexact: The `Pin` that says why removing its channels changes outputs, or `None` where it
            does not; see the argument `exact` of `trace`.
        reasons: The `Pin` of each channel, `None` where there is none.
    """

    name: str
    channels: np.ndarray
    producers: tuple
    sites: tuple
    pinned: np.ndarray
    reason: Pin | None = None
    inexact: Pin | None = None
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
        """The `Pin` that keeps all channels of a group that is not prunable."""
        if self.reason is not None:
            return self.reason
        if self.size == 1 and len(self.producers[0].channels) > 1:
            text = "a reshape behind it mixes all its channels, so that none can go alone"
            return Pin(self.name, text, PinKind.SINGLE)
        if self.size == 1:
            return Pin(self.name, "it has a single channel", PinKind.SINGLE)
        return Pin(self.name, "no compactor can stand behind it", PinKind.NO_SITE)


@dataclasses.dataclass(frozen=True)
class ChannelGraph:
    """Everything that is known of a model's channels; see `trace`.

    Args:
        calls: One `Call` for each call of a layer or operation, in the order of execution.
        groups: The `ChannelGroup`s, in order of their first producer.
        pins: The `Pin`s, one for each place that pins channels and each reason.
        num_channels: Number of channel ids; keep arrays have this length.
        channel_of: Channel id of each label, -1 where it is pinned for good, and for `WHOLE`.
        recording: The `Recording` that was traced, with its calls as they are nested.
        holds: What removed channels hold at the sites, see `trace_recording`.
        frozen: Names of the layers that are left whole, see `trace_recording`.
        known: What was found out of calls that are alike, see there.
    """

    calls: tuple
    groups: tuple
    pins: tuple
    num_channels: int
    channel_of: np.ndarray
    recording: object = None
    holds: State = State.ZERO
    frozen: frozenset = frozenset()
    known: dict = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def calls_by_name(self):
        """``{name: Call}``; of a layer that is called more than once, its first call."""
        return {call.name: call for call in reversed(self.calls)}

    @functools.cached_property
    def paths(self):
        """``{layer name: names of the models and composite layers around it}``, where any are."""
        return {name: call.path for name, call in self.calls_by_name.items() if call.path}

    @functools.cached_property
    def makers(self):
        """``{id of a tensor: Call}``: the call that makes it."""
        return {tensor: call for call in self.calls for tensor in call.output_ids}

    @functools.cached_property
    def _producing(self):
        """Names of the layers whose outputs are channels of their own."""
        producers = [producer for group in self.groups for producer in group.producers]
        return {producer.layer for producer in producers if producer.inside is None}

    def producer_before(self, call: typing.Any) -> str | None:
        """Name of the producer of what a site behind a call passes.

        That is the call itself, or what a batch normalisation reads; `None` where neither makes
        channels, as at a depthwise layer.
        """
        source = self.makers.get(call.input_ids[0]) if call.input_ids else None
        names = [call.name, *([] if source is None else [source.name])]
        return next((name for name in names if name in self._producing), None)

    @functools.cached_property
    def read_channels(self):
        """The `ReadChannels` of which a keep array leaves one each, beside that of each producer.

        There is one for each tensor that a layer with weights reads where it has not all channels
        of any producer, as behind a split. What is pinned needs none.
        """
        pinned = np.zeros(self.num_channels, bool)
        owner = np.zeros(self.num_channels, np.int64)
        for position, group in enumerate(self.groups):
            pinned[group.channels] = group.pinned
            owner[group.channels] = position
        found = {}
        for call in self.calls:
            weighs = bool(weights_of_operation(call.operation))
            read = [part.labels for flow in call.inputs for part in flow.parts] * weighs
            for labels in (*read, *call.gathered):
                ids = np.unique(self.channel_of[labels])
                if len(ids) and ids[0] >= 0 and not pinned[ids].any():
                    for channels in self._without_whole(ids, owner[ids]):
                        found.setdefault(channels.tobytes(), ReadChannels(call.name, channels))
        return tuple(found.values())

    def _without_whole(self, ids, owners):
        """The smallest share of `ids` in one group, unless all channels of a producer are there."""
        shares = [(self.groups[owner], ids[owners == owner]) for owner in np.unique(owners)]
        for group, share in shares:
            if any(np.isin(p.channels, share).all() for p in group.producers):
                return
        # One channel of the largest share is more than enough for a tensor of several groups.
        yield max((share for _, share in shares), key=len)

    def removable(self, kept: np.ndarray, channels: Arrays) -> np.ndarray:
        """Those of `channels`, one by one, that can go and leave each producer and reader one.

        Args:
            kept: A keep array.
            channels: Channel ids that it keeps, in the order in which they go.
        """
        needed = [p.channels for group in self.groups for p in group.producers]
        needed = [np.unique(c) for c in (*needed, *(read.channels for read in self.read_channels))]
        left = np.array([kept[c].sum() for c in needed])
        member: list = [[] for _ in range(self.num_channels)]
        for number, ids in enumerate(needed):
            for channel in ids.tolist():
                member[channel].append(number)
        going = []
        for channel in dict.fromkeys(np.asarray(channels).tolist()):
            if (left[member[channel]] > 1).all():
                left[member[channel]] -= 1
                going.append(channel)
        return np.array(going, np.int64)

    def with_one_each(self, kept: np.ndarray) -> np.ndarray:
        """A keep array that leaves each producer and each reader a channel, be it the first."""
        kept = kept.copy()
        producers = [p.channels for group in self.groups for p in group.producers]
        for channels in (*producers, *(read.channels for read in self.read_channels)):
            if not kept[channels].any():
                kept[channels[0]] = True
        return kept

    def group(self, name: str) -> ChannelGroup:
        """The group to which the producer called `name` belongs."""
        return self._group(name, "name")

    def _group(self, name, argument):
        check_instance(argument, name, str, "the name of a layer that makes channels")
        for group in self.groups:
            if any(producer.name == name for producer in group.producers):
                return group
        known = ", ".join(group.name for group in self.groups)
        raise ValueError(
            f"Expected {argument} to be that of a layer that makes channels ({known}); got "
            f"{shown(name)}."
        )

    def keep_array(self, keep: dict[str, Arrays]) -> np.ndarray:
        """Turn ``{producer name: bool (channels,)}`` into one bool per channel id.

        Raises:
            ValueError: A name, a shape or a dtype is wrong, a pinned channel would be removed,
                or coupled layers disagree.
        """
        check_instance("keep", keep, dict, "a dict {layer name: bool (channels,)}")
        kept = np.ones(self.num_channels, bool)
        wanted = np.ones(self.num_channels, bool)
        for name, mask in keep.items():
            group = self._group(name, "each name in keep")
            channels = next(p.channels for p in group.producers if p.name == name)
            mask = as_array(f"the keep mask of layer '{name}'", mask)
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
            for producer in group.producers:
                if not kept[producer.channels].any():
                    raise ValueError(
                        f"The keep mask of layer '{producer.name}' removes all "
                        f"{len(producer.channels)} channels; keep at least one."
                    )
        for read in self.read_channels:
            if not kept[read.channels].any():
                raise ValueError(
                    f"The keep masks remove all {len(read.channels)} channels that layer "
                    f"'{read.reader}' reads; keep at least one."
                )
        for name, mask in keep.items():
            channels = next(p.channels for p in self.group(name).producers if p.name == name)
            if not np.array_equal(kept[channels], np.asarray(mask)):
                raise ValueError(
                    f"The keep mask of layer '{name}' disagrees with that of a layer coupled to "
                    "it; coupled layers keep the same channels."
                )
        return kept

    def keep_by_producer(self, kept: Arrays) -> dict[str, np.ndarray]:
        """The inverse of `keep_array`: one mask for each producer that loses a channel."""
        kept = as_array("kept", kept)
        if kept.dtype != bool or kept.shape != (self.num_channels,):
            raise ValueError(
                f"Expected kept to be a bool array with one entry for each of {self.num_channels} "
                f"channel ids; got dtype {kept.dtype}, shape {kept.shape}."
            )
        masks = {p.name: kept[p.channels] for group in self.groups for p in group.producers}
        return {name: mask for name, mask in masks.items() if not mask.all()}

    def kept_labels(self, labels: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Bool array shaped like `labels`: True where the channel is kept."""
        ids = self.channel_of[labels]
        return np.where(ids < 0, True, kept[np.maximum(ids, 0)])
