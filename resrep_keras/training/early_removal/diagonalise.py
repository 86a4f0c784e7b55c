"""Take dead channels out of a model that still trains: its compactors stay, smaller.

A full compactor mixes: its column `j` reads every channel. So it is made diagonal first, the layer
before it taking up the mixing; then row and column of a dead channel go at no loss.
"""

import dataclasses
import functools

import numpy as np
from keras import ops

from resrep_keras.graph.flow import rule_of
from resrep_keras.layers.compactor import Compactor
from resrep_keras.surgery.constraints import without_broken
from resrep_keras.surgery.fold import kept_columns, kernel_of
from resrep_keras.surgery.mixed_norms import MixedNorm, covariances, is_batch_norm
from resrep_keras.surgery.narrow import narrow
from resrep_keras.surgery.outputs import Mixed
from resrep_keras.surgery.parts import part_of
from resrep_keras.surgery.rebuild import rebuild


def diagonalise(graph, kept, inputs=None):
    """Move the mixing of full compactors into the layers before them.

    With the kernel `W` of a layer, the scale `s` and the offset `beta` of its batch normalisation
    and the compactor `Q`, whose columns have the signed norms `n`:

    ```
    B = diag(s) Q diag(1 / (s n))        W' = W B        mean' = mean B
    beta' = beta Q diag(1 / n)           Q' = diag(n)
    ```

    Without a batch normalisation `s` is 1. The new variance is the one of the mixed channels, and
    the new scale what makes `s` of it, so that nothing changes in inference and little in training.
    A `Q` that mixes nothing leaves the layers before it as they are.

    Args:
        graph: `ChannelGraph` of a model with compactors.
        kept: Bool, one for each channel id; the columns of others become zero.
        inputs: Inputs that show how the channels vary together; without any they are taken as
            independent. This changes how training goes on, not what the model computes.

    Returns:
        A Functional model of the same widths and layers, `None` where nothing changes.
    """
    found, dead = {}, {}
    for call in graph.calls:
        if isinstance(call.operation, Compactor):
            dead[call.name] = ~kept_columns(graph, call, kept)
            found[call.name] = (call.operation, graph.makers[call.input_ids[0]])
    matrices = {
        name: np.where(dead[name], 0.0, kernel_of(layer)) for name, (layer, _) in found.items()
    }
    mixing = {name for name, matrix in matrices.items() if _mixes(matrix)}
    norms = {found[name][1].name for name in mixing if is_batch_norm(found[name][1])}
    measured = covariances(graph, norms, inputs)
    everything = np.ones(graph.num_channels, bool)
    change = {}
    for name in mixing:
        compactor, source = found[name]
        norm, unit = _signed_norms(matrices[name])
        change[name] = functools.partial(_diagonal, compactor, norm)
        if is_batch_norm(source):
            mixer = MixedNorm(source.operation, unit, norm != 0, measured.get(source.name))
            change[source.name] = functools.partial(_within_constraints, source, mixer.weights)
            unit = mixer.matrix
            source = graph.makers[source.input_ids[0]]
        mixed = Mixed(np.ones(len(norm), bool), unit)
        part = dataclasses.replace(part_of(graph, source, everything), keep_out=mixed)
        rule = functools.partial(rule_of(narrow, source.operation), source.operation, part)
        change[source.name] = functools.partial(_within_constraints, source, rule)
    for name in found.keys() - mixing:
        if dead[name].any():
            vector = matrices[name] if matrices[name].ndim == 1 else np.diag(matrices[name])
            change[name] = functools.partial(_diagonal, found[name][0], vector)
    return rebuild(graph.recording, change) if change else None


def _within_constraints(call, rule):
    """Settings and weights of a layer that takes up a mixing."""
    config, weights = rule()
    return without_broken(call.operation, config, weights, folded=True), weights


def _mixes(matrix):
    return matrix.ndim > 1 and (matrix != np.diag(np.diag(matrix))).any()


def _signed_norms(matrix):
    """Norm of each column, with the sign of its diagonal, and the columns divided by it."""
    norm = np.sqrt((matrix**2).sum(axis=0)) * np.where(np.diag(matrix) < 0, -1, 1)
    zero = norm == 0
    return norm, np.where(zero, np.eye(len(norm)), matrix / np.where(zero, 1, norm))


def _diagonal(compactor, vector):
    """Weights of a compactor that scales channels by a vector."""
    kernel = vector if compactor.diagonal else np.diag(vector)
    mask = ops.convert_to_numpy(compactor.keep_mask)
    return {}, [kernel.reshape(compactor.kernel.shape), mask]
