"""Latency of the slim model on this machine, predicted for any keep array from timed layers.

Each layer is timed alone with LiteRT at several widths. Kernels compute many channels at a time, so
that latency falls in steps, and not always: 32 channels can take less than 24. The sum over the
layers is then fitted to whole models that are timed, and checked on one more.
"""

import dataclasses
import functools

import keras
import numpy as np

from resrep_keras.common.progress import in_sight
from resrep_keras.costs.macs import rows_made
from resrep_keras.costs.rows import rows_of
from resrep_keras.costs.terms import UnknownSize
from resrep_keras.graph.flow import rule_of
from resrep_keras.graph.recording import replaced
from resrep_keras.keras_adapter import input_like
from resrep_keras.surgery.narrow import can_narrow, narrow
from resrep_keras.surgery.parts import channel_vectors, part_of
from resrep_keras.surgery.rebuild import copy_operation, with_arguments
from resrep_keras.surgery.remove import remove
from resrep_keras.tflite.convert import check_backend, to_tflite, to_tflite_quickly
from resrep_keras.tflite.run import seconds_alone

STEP = 8  # widths are timed at multiples of this number,
POINTS = 8  # of which about so many, from the narrowest to the dense one
GAIN = 0.97  # a narrower layer that takes a larger share than this of a wider one's time is no gain
WHOLE_SECONDS = 0.5  # for which a whole model is timed, at least
SHARES = (1.0, 0.75, 0.55, 0.4, 0.25, 0.5)  # of the channels in whole models; the last is the check


@functools.singledispatch
def is_fused(layer):
    """Whether an interpreter makes a layer part of the one before it, at no cost of its own."""
    return False


@dataclasses.dataclass(frozen=True)
class LatencyTable:
    """Seconds of one layer by its numbers of channels.

    Args:
        name: The layer's name.
        outputs: Timed numbers of output channels, ascending; the last is the dense one.
        seconds: At each of `outputs`, with all inputs.
        inputs: Timed numbers of input channels, ascending.
        shares: At each of `inputs`, the share of the time that is left, with all outputs.
    """

    name: str
    outputs: tuple
    seconds: tuple
    inputs: tuple = ()
    shares: tuple = ()

    def __call__(self, outputs, inputs=None):
        """Between two timed widths the larger time counts: either can be a step."""
        above = min(int(np.searchsorted(self.outputs, outputs)), len(self.outputs) - 1)
        below = above if self.outputs[above] == outputs else max(0, above - 1)
        seconds = max(self.seconds[above], self.seconds[below])
        if inputs is None or not self.inputs:
            return seconds
        return seconds * self._share(inputs)

    def _share(self, inputs):
        """Linear between the timed numbers of inputs, and down to no time for none."""
        if inputs >= self.inputs[0] or len(self.inputs) < 2:
            return float(np.interp(inputs, self.inputs, self.shares))
        slope = (self.shares[1] - self.shares[0]) / (self.inputs[1] - self.inputs[0])
        return max(0.0, self.shares[0] - max(slope, 0.0) * (self.inputs[0] - inputs))

    def efficient(self):
        """The timed widths that take less time than each wider one; the dense one is among them."""
        found, least = [], float("inf")
        for width, seconds in sorted(zip(self.outputs, self.seconds), reverse=True):
            if seconds < GAIN * least:
                found.append(width)
            least = min(least, seconds)
        return tuple(reversed(found))


class LatencyCost:
    """Seconds of one call on this machine, for any keep array.

    Args:
        graph: `ChannelGraph` of a model without compactors.
        facts: What `measure_latency` has found.
    """

    unit = "seconds"

    def __init__(self, graph, facts):
        self._scale, self._rest = facts["scale"], facts["rest"]
        self.tables = {row["name"]: LatencyTable(**row) for row in facts["tables"]}
        self._calls = [
            (self.tables[call.name], call.repeats, *_ids(graph, call))
            for call in graph.calls
            if call.name in self.tables
        ]

    def layers(self, kept=None):
        """The seconds of each layer alone, before they are fitted to the whole model."""
        return sum(
            repeats * table(_count(outputs, kept), _count(inputs, kept))
            for table, repeats, outputs, inputs in self._calls
        )

    def __call__(self, kept=None):
        return self._scale * self.layers(kept) + self._rest


def measure_latency(graph, threads):
    """Time the layers of a model, and the model itself at several widths.

    Args:
        graph: `ChannelGraph` of a model without compactors.
        threads: Number of threads of LiteRT.

    Returns:
        JSON values: a `LatencyTable` for each layer, the `scale` and `rest` that fit their sum to
        whole models, and `error`, by which share the fit misses a whole model that it was not
        fitted to.

    Raises:
        UnknownSize: The time depends on a size that is unknown.
        ValueError: The backend is not TensorFlow, or its converter cannot.
    """
    check_backend()
    calls, timer = _timed_calls(graph, threads)
    tables = [timer.table(call) for call in in_sight(calls, "Timing layers at several widths")]
    facts = {
        "threads": threads,
        "tables": [dataclasses.asdict(table) for table in tables],
        "scale": 1.0,
        "rest": 0.0,
    }
    cost = LatencyCost(graph, facts)
    keeps = [_random_keep(graph, share, seed) for seed, share in enumerate(SHARES)]
    whole = np.array(
        [
            seconds_alone(to_tflite(remove(graph, kept)), threads, WHOLE_SECONDS)
            for kept in in_sight(keeps, "Timing whole models")
        ]
    )
    alone = np.array([cost.layers(kept) for kept in keeps])
    facts["scale"], facts["rest"] = _fit(alone[:-1], whole[:-1])
    facts["error"] = float(abs(LatencyCost(graph, facts)(keeps[-1]) / whole[-1] - 1))
    return facts


def layer_seconds(graph, threads, verbose="auto"):
    """Seconds of each layer alone, all of its calls and channels: ``{name: seconds}``.

    Args:
        graph, threads: See `measure_latency`.
        verbose: See `resrep_keras.common.progress.in_sight`. Defaults to `"auto"`.

    Raises:
        UnknownSize, ValueError: See `measure_latency`.
    """
    check_backend()
    calls, timer = _timed_calls(graph, threads)
    kept = np.ones(graph.num_channels, bool)
    found = {}
    for call in in_sight(calls, "Timing layers", verbose):
        seconds = call.repeats * timer.seconds(call, kept)
        found[call.name] = found.get(call.name, 0) + seconds
    return found


def _timed_calls(graph, threads):
    """The calls that take time, and what times them."""
    rows = rows_of(graph, rows_made)
    calls = [call for call in graph.calls if _is_timed(call)]
    for call in calls:
        _check_sizes(call, rows)
    return calls, _Timer(graph, threads, rows)


def _fit(alone, whole):
    """Scale and rest of least relative error; without a rest where that makes no sense."""
    rows = np.stack([alone, np.ones_like(alone)], axis=1) / whole[:, None]
    scale, rest = np.linalg.lstsq(rows, np.ones(len(whole)), rcond=None)[0].tolist()
    if scale > 0 and scale * alone.min() + rest > 0.5 * whole.min():
        return scale, rest
    return float(np.mean(whole / alone)), 0.0


def _is_timed(call):
    return bool(call.inputs) and not rule_of(is_fused, call.operation)(call.operation)


def _check_sizes(call, rows):
    """Raise where nobody knows for how many entries a call is to be timed: one is no answer."""
    sizes = [size for flow in call.inputs for size in flow.shape[1:]]
    if None in (*sizes, call.repeats, *(rows.get(tensor, 1) for tensor in call.input_ids)):
        shapes = " and ".join(str(flow.shape) for flow in call.inputs)
        raise UnknownSize(
            f"The time that layer '{call.name}' takes depends on its input shape {shapes}, and on "
            "how often it is called, which are not all known. Give input_shape, or build the model "
            "for a fixed input size; a size that depends on the data cannot be timed."
        )


def _random_keep(graph, share, seed):
    """About `share` of each group's channels."""
    generator = np.random.default_rng(seed)
    kept = np.ones(graph.num_channels, bool)
    for group in graph.groups:
        free = group.channels[~group.pinned]
        if group.prunable and len(free) > 1:
            most = len(free) - max(1, round(share * len(free)))
            kept[generator.permutation(free)[:most]] = False
            for producer in group.producers:
                if not kept[producer.channels].any():
                    kept[producer.channels] = True
    return kept


def _ids(graph, call):
    """Channel ids along the outputs and along the inputs; `None` where these are the same."""
    vectors = channel_vectors(call)
    outputs, inputs = (_free(graph, graph.channel_of[vectors[key]]) for key in ("out", 0))
    shared = np.intersect1d(outputs[outputs >= 0], inputs[inputs >= 0])
    if not (inputs >= 0).any() or len(shared):
        return outputs, None
    return (inputs, None) if not (outputs >= 0).any() else (outputs, inputs)


def _free(graph, ids):
    """The ids, -1 for those that are always kept: a layer may not even run without them."""
    kept = [group.channels[group.pinned] for group in graph.groups]
    return np.where(np.isin(ids, np.concatenate([*kept, [-1]])), -1, ids)


def _count(ids, kept):
    if ids is None:
        return None
    return len(ids) if kept is None else int(np.where(ids < 0, True, kept[ids]).sum())


_TIMED: dict = {}  # seconds by configuration, input shapes and threads: equal calls are timed once


class _Timer:
    """Times calls alone."""

    def __init__(self, graph, threads, rows):
        self._graph, self._threads, self._rows = graph, threads, rows

    def table(self, call):
        outputs, inputs = _ids(self._graph, call)
        widths = _widths(outputs)
        seconds = [self.seconds(call, _keep_first(self._graph, outputs, n)) for n in widths]
        reads, shares = (), ()
        if inputs is not None:
            reads = tuple(sorted({max(1, len(inputs) // 3), len(inputs)}))
            read = [self.seconds(call, _keep_first(self._graph, inputs, n)) for n in reads]
            shares = tuple(one / read[-1] for one in read)
        return LatencyTable(call.name, widths, tuple(seconds), reads, shares)

    def seconds(self, call, kept):
        model = isolated(self._graph, call, kept, self._rows)
        layer = model.operations[-1]
        shapes = [tuple(x.shape) for x in (*model.inputs, *model.outputs)]
        key = str([type(layer).__name__, layer.get_config(), shapes, self._threads])
        key = key.replace(repr(layer.name), "")
        if key not in _TIMED:
            _TIMED[key] = seconds_alone(to_tflite_quickly(model), self._threads)
        return _TIMED[key]


def _widths(ids):
    """The numbers of channels to time, ascending, up to all of them."""
    size, free = len(ids), int((ids >= 0).sum())
    if not free:
        return (size,)
    distance = STEP * max(1, round(size / (STEP * POINTS)))
    found = {size, *range(distance, size, distance), STEP if size > 32 else STEP // 2}
    return tuple(sorted(n for n in found if max(1, size - free) <= n <= size))


def _keep_first(graph, ids, number):
    """Keep about the first `number` entries of a vector of channel ids, and all other channels."""
    kept = np.ones(graph.num_channels, bool)
    if number < len(ids):
        gone = ids[number:]
        kept[np.setdiff1d(gone[gone >= 0], ids[:number])] = False
    return kept


def isolated(graph, call, kept, rows):
    """A model of one call for one example, with the channels that a keep array leaves.

    Args:
        graph, call, kept: As they are named.
        rows: ``{id of a tensor: how many entries of its first axis belong to one example}``.
    """
    operation = call.operation
    inputs = {
        id(tensor): input_like(tensor, _shape(graph, flow, kept, rows.get(id(tensor), 1)))
        for tensor, flow in zip(call.tensors[0], call.inputs)
    }
    config = {}
    if can_narrow(call) and not kept.all():
        config, _ = rule_of(narrow, operation)(operation, part_of(graph, call, kept))
    args, kwargs = keras.tree.map_structure(
        functools.partial(replaced, inputs), (call.args, call.kwargs)
    )
    args, kwargs = with_arguments(call, config, args, kwargs)
    outputs = copy_operation(operation, config)(*args, **kwargs)
    return keras.Model(list(inputs.values()), outputs)


def _shape(graph, flow, kept, rows):
    shape = [max(1, rows), *flow.shape[1:]]
    for part in flow.parts:
        axis = part.channel_axis
        if axis is not None and part.labels.shape[axis] > 1:
            shape[axis] = int(graph.kept_labels(part.labels, kept).sum())
    return tuple(shape)
