"""What of a model can be pruned, and whether the slim model computes what it should: one row."""

import collections
import tempfile
import time

import keras
import numpy as np
from common import PeakMemory, mask_at_random

import resrep_keras
from resrep_keras.costs.budget import removable
from resrep_keras.costs.macs import MacCost
from resrep_keras.graph.trace import told_at_its_sizes
from resrep_keras.surgery.forward import example_inputs, run

SMALL = 1e-6  # a target that any model can meet of which anything may go


def reachable(graph):
    """Shares of channels and MACs that can be pruned, and why the others cannot."""
    groups = [group for group in graph.groups if group.prunable]
    total = sum(len(p.channels) for g in graph.groups for p in g.producers)
    free = {c for g in groups for c in g.channels[~g.pinned].tolist()}
    own = sum(len(p.channels) for g in groups for p in g.producers)
    cost = MacCost(graph)
    gone = np.ones(graph.num_channels, bool)
    gone[list(free)] = False
    floor = np.ones(graph.num_channels, bool)
    floor[removable(groups, np.zeros(graph.num_channels))[0]] = False
    reasons, kinds = collections.Counter(), collections.Counter()
    for group in graph.groups:
        if not group.prunable:
            channels = sum(len(p.channels) for p in group.producers)
            reasons[group.pinned_by.text.split(",")[0]] += channels
            kinds[group.pinned_by.kind.name] += channels
    return {
        "channels": total,
        "channels_reachable": own,
        "macs": cost(),
        "macs_reachable": 1 - cost(gone) / max(1, cost()),
        "largest_target_reduction": 1 - cost(floor) / max(1, cost()),
        "kept": dict(reasons),
        "kept_kinds": dict(kinds),
    }


def measure(name, dense, seed=0, share=0.3, formats=("keras", "saved_model", "tflite"), shape=None):
    """A row: what can be pruned, and the differences after random channels have gone.

    Args:
        name: What the row is called.
        dense: The model; it is let go of.
        seed: Of masks and inputs.
        share: Of the channels that may go, those that do.
        formats: The files that are written, read and run.
        shape: The `input_shape` of a model of unknown sizes.
    """
    begin = time.perf_counter()
    graph = resrep_keras.trace(dense, shape)
    row = {"model": name, "calls": len(graph.calls), "trace_seconds": time.perf_counter() - begin}
    row["layers_with_weights"] = sum(bool(layer.weights) for layer in dense.layers)
    if shape is not None:  # why what stays closed keeps channels is told, as by explain
        graph = told_at_its_sizes(graph)
    row |= reachable(graph)
    weight_bytes = 4 * dense.count_params()
    inputs = example_inputs(dense, input_shape=shape)
    row["parameters"] = [dense.count_params()]
    target = {"macs" if row["macs"] else "params": SMALL}  # lookups alone multiply nothing
    method = resrep_keras.ResRep(target, coupled=True, input_shape=shape)
    begin = time.perf_counter()
    wrapped = resrep_keras.wrap(dense, method)
    row["wrap_seconds"] = time.perf_counter() - begin
    row["wrap_difference"] = largest_difference(run(dense, inputs), run(wrapped, inputs))
    removed, channels = mask_at_random(wrapped, seed, share)
    expected = run(wrapped, inputs)
    row["masks_change"] = largest_difference(run(dense, inputs), expected)
    row["output_spread"] = spread(expected)
    begin = time.perf_counter()
    with PeakMemory() as memory:
        slim = resrep_keras.finalize(wrapped, strict=True)
    row["finalize_seconds"] = time.perf_counter() - begin
    row["finalize_memory_of_limit"] = memory.peak / (3 * weight_bytes + 1e9)
    row["share_removed"] = removed / channels
    row["macs_left"] = slim.certificate.macs_left
    row["parameters"].append(slim.count_params())
    drawn = drawn_outputs(slim, inputs)
    found = largest_difference(expected, run(slim, inputs), drawn)
    # The certificate is of equal draws.
    row["difference"] = max(found, slim.certificate.max_relative) if drawn else found
    # Masks that change nothing would prove nothing, nor would an output that is always the same.
    if row["masks_change"] < max(1e-4, 100 * row["difference"]):
        raise ValueError(f"the masks change the output by {row['masks_change']:.0e} only")
    del dense, wrapped
    paths = {"keras": "m.keras", "saved_model": "m", "tflite": "m.tflite"}
    with tempfile.TemporaryDirectory() as folder:
        for kind in formats:
            path = f"{folder}/{paths[kind]}"
            row[f"{kind}_difference"] = resrep_keras.export(slim, path)
    return row, slim


def drawn_outputs(model, inputs):
    """Positions of the outputs that are drawn at random, also in inference."""
    pairs = zip(*(keras.tree.flatten(run(model, inputs)) for _ in range(2)))
    return [position for position, (one, two) in enumerate(pairs) if (one != two).any()]


def largest_difference(expected, actual, but=()):
    """The largest over all outputs, each as a share of the largest that is expected of it.

    Args:
        expected, actual: Outputs.
        but: Positions of those that are left out.
    """
    pairs = zip(keras.tree.flatten(expected), keras.tree.flatten(actual), strict=True)
    return max(
        float(np.abs(a - b).max() / (np.abs(a).max() or 1.0))
        for position, (a, b) in enumerate(pairs)
        if position not in but
    )


def spread(outputs):
    """How far two examples are apart, at the output where they are the furthest."""
    flat = keras.tree.flatten(outputs)
    return max(float(np.abs(x[0] - x[1]).max() / (np.abs(x).max() or 1.0)) for x in flat)
