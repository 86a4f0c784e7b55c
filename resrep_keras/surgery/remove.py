"""remove_channels(model, keep): the smaller model."""

import functools

import numpy as np
from keras import ops

from resrep_keras.graph.flow import has_rule, rule_of
from resrep_keras.graph.labels import State
from resrep_keras.graph.trace import trace
from resrep_keras.surgery.fold import compactors_by_site, fold, insert_compactors
from resrep_keras.surgery.forward import evaluate, example_inputs
from resrep_keras.surgery.narrow import Part, narrow
from resrep_keras.surgery.rebuild import rebuild


def remove_channels(model, keep, exact=True):
    """Remove channels, as if they were zero where a compactor would stand.

    The outputs are those of the model whose removed channels are zero behind their producers
    (and batch normalisation). What such zeros become on their way, a constant behind a later batch
    normalisation say, is folded into the bias of the layer that reads it.

    Args:
        model: A built Keras model.
        keep: ``{layer name: bool (channels,)}``, `True` = kept; layers that are left out keep all.
        exact: See `trace`. Defaults to `True`.

    Returns:
        A Functional model of the same layer names.

    Raises:
        ValueError: A mask is of the wrong shape, removes pinned channels or a whole layer.

    Example:

    >>> keep = np.arange(64) < 32
    >>> slim = remove_channels(keras.applications.VGG16(weights=None), {"block1_conv1": keep})
    """
    graph = trace(model, exact=exact)
    kept = graph.keep_array(keep)
    sites = {
        site.name: site
        for group in graph.groups
        if not kept[group.channels].all()
        for site in group.sites
    }
    masked = insert_compactors(model, sites.values(), diagonal=set(sites))
    dead = {
        compactor.name: _dead(sites[name].channels, kept)
        for name, compactor in compactors_by_site(masked).items()
    }
    return narrow_dead(fold(masked, dead), keep, exact)


def check_rules(graph, groups):
    """Raise before training where a layer whose channels may go has no rule for fewer of them.

    Raises:
        ValueError: Names the layer and what to register.
    """
    free = np.zeros(graph.num_channels + 1, bool)  # the last entry stands for id -1
    for group in groups:
        free[group.channels[~group.pinned]] = True
    for call in graph.calls:
        labels = [flow.labels for flow in (*call.inputs, *call.outputs)]
        touched = any(
            free[graph.channel_of[each]].any() for each in (*labels, *call.inside.values())
        )
        if (
            touched
            and getattr(call.operation, "weights", ())
            and not has_rule(narrow, call.operation)
        ):
            rule_of(narrow, call.operation)(call.operation, None)


def _dead(channels, kept):
    return np.where(channels < 0, False, ~kept[np.maximum(channels, 0)])


def narrow_dead(model, keep, exact=True):
    """Remove channels that are zero at their sites already; see `remove_channels`."""
    return narrow_parts(model, parts_of(model, keep, exact))


def parts_of(model, keep, exact=True):
    """``{layer name: Part}`` of the layers that lose channels which are zero at their sites."""
    graph = trace(model, exact=exact)
    kept = graph.keep_array(keep)
    constants = _read_constants(model, graph, kept)
    parts = {}
    for call in graph.calls:
        if call.name in parts or not _holds_channels(call.operation):
            continue
        part = part_of(graph, call, kept, constants.get(call.name))
        everything = [*part.keep_in, part.keep_out, *part.inside.values()]
        if not all(keep.all() for keep in everything):
            parts[call.name] = part
    return parts


def narrow_parts(model, parts):
    """Rebuild a model with what `parts_of` leaves of its layers."""
    return rebuild(
        model,
        {
            name: functools.partial(rule_of(narrow, part.call.operation), part.call.operation, part)
            for name, part in parts.items()
        },
    )


def channel_vectors(call):
    """The labels along each channel axis that the weights of a call can depend on.

    Returns:
        ``{key: labels}``; a key is the position of an input, ``"out"``, or the name of channels
        that the layer holds inside.
    """
    vectors = {
        position: _label_vector(flow, _axis_in(call, position))
        for position, flow in enumerate(call.inputs)
    }
    return {**vectors, "out": _label_vector(call.outputs[0], call.axis_out), **call.inside}


def part_of(graph, call, kept, constants=None):
    """What a keep array leaves of the layer of a call: a `Part`."""
    keep = {key: graph.kept_labels(labels, kept) for key, labels in channel_vectors(call).items()}
    return make_part(graph, call, keep, kept, constants)


def make_part(graph, call, keep, kept, constants=None):
    """A `Part` of given selections; see `channel_vectors`."""
    first = call.outputs[0]
    axis = first.channel_axis if call.axis_out is None else call.axis_out
    return Part(
        keep_in=tuple(keep[position] for position in range(len(call.inputs))),
        keep_out=keep["out"],
        constants=constants,
        inside={name: keep[name] for name in call.inside},
        output_shape=_with(first.shape, axis, int(keep["out"].sum())),
        widths=tuple(
            int(graph.kept_labels(_label_vector(flow, _within(call.axis_in, flow)), kept).sum())
            for flow in call.outputs
        ),
        call=call,
    )


def _holds_channels(operation):
    return bool(getattr(operation, "weights", ())) or has_rule(narrow, operation)


def _axis_in(call, position):
    return _within(call.consumed.get(position, call.axis_in), call.inputs[position])


def _within(axis, flow):
    return axis if axis is not None and axis < len(flow.shape) else None


def _label_vector(flow, axis):
    """The labels along the channel axis; it is found from the labels where no layer says."""
    axis = flow.channel_axis if axis is None else axis
    labels = flow.labels
    if axis and flow.shape[axis] is not None:
        labels = flow.expanded([axis]).labels
    return labels.ravel()


def _with(shape, axis, size):
    return (*shape[:axis], size, *shape[axis + 1 :])


def _read_constants(model, graph, kept):
    """``{layer name: values (channels,)}`` where weights read removed channels that are not zero.

    Their values do not depend on the input, so one forward pass on any input shows them.
    """
    readers = {}
    for call in graph.calls:
        if 0 not in call.consumed:
            continue
        flow = call.input.expanded([call.axis_in])
        removed = ~graph.kept_labels(flow.labels, kept)
        if (removed & (flow.state > State.ZERO)).any():
            readers[call.name] = call.axis_in
    values = {}

    def visit(step, first):
        if step.name in readers:
            value = np.asarray(ops.convert_to_numpy(first), np.float64)
            axis = readers[step.name]
            values[step.name] = np.moveaxis(value, axis, -1).reshape(-1, value.shape[axis])[0]

    if readers:
        evaluate(graph.recording, example_inputs(model, batch_size=1), visit)
    return values
