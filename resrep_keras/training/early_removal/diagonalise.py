"""Take dead channels out of a model that still trains: its compactors stay, smaller.

A full compactor mixes: its column `j` reads every channel. So it is made diagonal first, the layer
before it taking up the mixing; then row and column of a dead channel go at no loss.
"""

import dataclasses
import functools

import numpy as np
from keras import layers, ops

from resrep_keras.graph.flow import rule_of
from resrep_keras.layers.compactor import Compactor
from resrep_keras.surgery.constraints import without_broken
from resrep_keras.surgery.fold import kept_columns, kernel_of
from resrep_keras.surgery.forward import evaluate
from resrep_keras.surgery.narrow import batch_norm_weights, narrow
from resrep_keras.surgery.outputs import Mixed
from resrep_keras.surgery.parts import part_of
from resrep_keras.surgery.rebuild import rebuild

# Below this share of a batch normalisation's typical scale, a scale is not divided by.
SMALLEST_SCALE = 1e-3


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
    norms = {found[name][1].name for name in mixing if _is_batch_norm(found[name][1])}
    covariances = _covariances(graph, norms, inputs)
    everything = np.ones(graph.num_channels, bool)
    change = {}
    for name in mixing:
        compactor, source = found[name]
        norm, unit = _signed_norms(matrices[name])
        change[name] = functools.partial(_diagonal, compactor, norm)
        if _is_batch_norm(source):
            mixer = _NormMixer(source.operation, unit, norm != 0, covariances.get(source.name))
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


def _is_batch_norm(call):
    return isinstance(call.operation, layers.BatchNormalization)


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


class _NormMixer:
    """A batch normalisation behind a layer that takes up the mixing.

    Args:
        layer: The batch normalisation.
        unit: The compactor's columns, each of norm 1.
        used: Which columns are in use.
        covariance: Covariance of the layer's inputs, or `None`.
    """

    def __init__(self, layer, unit, used, covariance):
        self._layer, self._unit, self._covariance = layer, unit, covariance
        scale, _, _, variance = batch_norm_weights(layer)
        scale = scale / np.sqrt(variance + layer.epsilon)
        typical = np.sqrt((scale**2).mean()) or 1.0
        self._new_scale = np.where(abs(scale) < SMALLEST_SCALE * typical, typical, scale)
        mixed = scale[:, None] * unit / self._new_scale
        self.matrix = np.where(used, mixed, np.eye(len(scale)))
        self._used = used

    def weights(self):
        scale, offset, mean, variance = batch_norm_weights(self._layer)
        new_variance = (self.matrix**2).T @ variance
        if self._covariance is not None:
            alone = (self.matrix**2).T @ np.diag(self._covariance)
            together = ((self._covariance @ self.matrix) * self.matrix).sum(axis=0)
            known = (alone > 0) & (together > 0)
            new_variance = new_variance * np.where(known, together / np.where(known, alone, 1), 1)
        new_scale = self._new_scale * np.sqrt(new_variance + self._layer.epsilon)
        new_scale = np.where(self._used, new_scale, scale)
        new_variance = np.where(self._used, new_variance, variance)
        offsets = [offset @ self._unit] if self._layer.center else []
        return {"scale": True}, [new_scale, *offsets, mean @ self.matrix, new_variance]


def _covariances(graph, names, inputs):
    """``{batch normalisation: covariance (channels, channels) of its input}``."""
    found = {}

    def visit(step, first):
        if step.name in names:
            values = np.asarray(ops.convert_to_numpy(first), np.float64)
            channels = np.moveaxis(values, step.operation.axis, -1)
            channels = channels.reshape(-1, channels.shape[-1])
            found[step.name] = np.atleast_2d(np.cov(channels, rowvar=False, bias=True))

    if names and inputs is not None:
        evaluate(graph.recording, inputs, visit)
    return found
