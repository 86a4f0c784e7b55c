"""Batch normalisations that stay where a compactor behind them is taken up by the layer before."""

import numpy as np
from keras import layers, ops

from resrep_keras.surgery.forward import evaluate
from resrep_keras.surgery.narrow import batch_norm_weights

# Below this share of a batch normalisation's typical scale, a scale is not divided by.
SMALLEST_SCALE = 1e-3


def is_batch_norm(call):
    """Whether a call is that of a batch normalisation."""
    return isinstance(call.operation, layers.BatchNormalization)


class MixedNorm:
    """A batch normalisation behind a layer that takes up the mixing of a compactor.

    With its scale `s`, its offset `beta` and the columns `Q`:

    ```
    B = diag(s) Q diag(1 / s)    mean' = mean B    beta' = beta Q    variance' = variance (B * B)
    ```

    The layer in front is multiplied by `B`. The new variance is the one that `B` makes of channels
    that are independent, or vary together as told; the new scale is what makes `s` of it. So the
    outputs are those of the columns behind the layer in inference, and close to them in training.
    A `Q` that selects channels leaves each of them its statistics.

    Args:
        layer: The batch normalisation.
        columns: `Q`, float `(channels, channels)`.
        used: Which columns are in use.
        covariance: Covariance of the layer's inputs, or `None`.

    Attributes:
        matrix: `B`.
    """

    def __init__(self, layer, columns, used, covariance=None):
        self._layer, self._columns, self._covariance = layer, columns, covariance
        scale, _, _, variance = batch_norm_weights(layer)
        scale = scale / np.sqrt(variance + layer.epsilon)
        typical = np.sqrt((scale**2).mean()) or 1.0
        self._new_scale = np.where(abs(scale) < SMALLEST_SCALE * typical, typical, scale)
        mixed = scale[:, None] * columns / self._new_scale
        self.matrix = np.where(used, mixed, np.eye(len(scale)))
        self._used = used

    def weights(self):
        """Changes of the layer's settings, and its weights."""
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
        offsets = [offset @ self._columns] if self._layer.center else []
        return {"scale": True}, [new_scale, *offsets, mean @ self.matrix, new_variance]


def covariances(graph, names, inputs):
    """``{batch normalisation: covariance (channels, channels) of its input}``.

    Args:
        graph: `ChannelGraph` of the model.
        names: Names of the batch normalisations.
        inputs: Inputs of the model; without any, nothing is found.
    """
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
