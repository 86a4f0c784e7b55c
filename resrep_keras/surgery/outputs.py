"""What becomes of the output channels of a layer: selected, scaled too, or mixed."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Selected:
    """Some channels stay, as they are.

    Args:
        mask: Bool `(channels,)`, `True` = kept.
    """

    mask: np.ndarray

    only_selects = True

    @property
    def width(self):
        """Number of channels that are left."""
        return int(self.mask.sum())

    def take(self, array, axis):
        """The array of the layer for what is left along its channel axis."""
        return np.compress(self.mask, array, axis)


@dataclasses.dataclass(frozen=True)
class Scaled(Selected):
    """Some channels stay, each times a factor: what a diagonal compactor does.

    Args:
        mask: As in `Selected`.
        factors: Float `(channels,)`.
    """

    factors: np.ndarray

    only_selects = False

    def take(self, array, axis):
        last = np.moveaxis(super().take(array, axis), axis, -1)
        return np.moveaxis(last * self.factors[self.mask], -1, axis)


@dataclasses.dataclass(frozen=True)
class Mixed(Selected):
    """Each channel that stays is a sum over all: what a full compactor does.

    Args:
        mask: As in `Selected`.
        matrix: Float `(channels, channels)`; a column for each channel that is made.
    """

    matrix: np.ndarray

    only_selects = False

    def take(self, array, axis):
        last = np.moveaxis(array, axis, -1)
        return np.moveaxis(last @ self.matrix[:, self.mask], -1, axis)
