"""What a keep array leaves of each layer: its `Part`."""

from resrep_keras.keras_adapter import weights_of_operation
from resrep_keras.surgery.constants import read_constants
from resrep_keras.surgery.narrow import Part, can_narrow
from resrep_keras.surgery.outputs import Selected


def parts_of(graph, kept):
    """``{layer name: Part}`` of the layers that lose channels.

    Args:
        graph: A `ChannelGraph`.
        kept: Bool, one for each channel id.
    """
    constants = read_constants(graph, kept)
    parts = {}
    for call in graph.calls:
        if call.name in parts or not _holds_channels(call):
            continue
        part = part_of(graph, call, kept, constants.get(call.name))
        everything = [*part.keep_in, part.keep_out.mask, *part.inside.values()]
        narrower = tuple(part.output_shape) != tuple(call.outputs[0].shape)
        if narrower or not all(keep.all() for keep in everything):
            parts[call.name] = part
    return parts


def channel_vectors(call):
    """The labels along each channel axis that the weights of a call can depend on.

    Returns:
        ``{key: labels}``; a key is the position of an input, ``"out"``, or the name of channels
        that the layer holds inside.
    """
    vectors = {
        position: flow.labels_along(_axis_in(call, position))
        for position, flow in enumerate(call.inputs)
    }
    return {**vectors, "out": call.outputs[0].labels_along(call.axis_out), **call.inside}


def part_of(graph, call, kept, constants=None):
    """What a keep array leaves of the layer of a call: a `Part`."""
    keep = {key: graph.kept_labels(labels, kept) for key, labels in channel_vectors(call).items()}
    return make_part(graph, call, keep, kept, constants)


def make_part(graph, call, keep, kept, constants=None):
    """A `Part` of given selections; see `channel_vectors`."""
    first = call.outputs[0]
    axis = first.channel_axis if call.axis_out is None else call.axis_out
    beside = {
        other.channel_axis: int(graph.kept_labels(other.labels, kept).sum())
        for other in first.parts[1:]
    }
    shape = tuple(beside.get(axis, size) for axis, size in enumerate(first.shape))
    return Part(
        keep_in=tuple(keep[position] for position in range(len(call.inputs))),
        keep_out=Selected(keep["out"]),
        constants=constants,
        inside={name: keep[name] for name in call.inside},
        output_shape=_with(shape, axis, int(keep["out"].sum())),
        beside=beside,
        widths=tuple(
            int(graph.kept_labels(flow.labels_along(_within(call.axis_in, flow)), kept).sum())
            for flow in call.outputs
        ),
        call=call,
    )


def _holds_channels(call):
    return bool(weights_of_operation(call.operation)) or can_narrow(call)


def _axis_in(call, position):
    return _within(call.consumed.get(position, call.axis_in), call.inputs[position])


def _within(axis, flow):
    return axis if axis is not None and axis < len(flow.shape) else None


def _with(shape, axis, size):
    if axis is None:  # channels along several axes, all of them kept
        return shape
    return (*shape[:axis], size, *shape[axis + 1 :])
