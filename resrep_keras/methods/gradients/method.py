"""ActivationGradientPruning: training in which the gradients of activations are mostly zeros."""

import dataclasses
import typing

import keras
import numpy as np

from resrep_keras.common.checks import check_choice, check_number, setting
from resrep_keras.costs.macs import MacCost
from resrep_keras.graph.trace import trace, trace_recording
from resrep_keras.methods.baseline import Baseline
from resrep_keras.methods.certificate import compare
from resrep_keras.methods.gradients.places import Places
from resrep_keras.methods.gradients.pruner import (
    DEPTHS,
    ROUNDINGS,
    SEEDS,
    THRESHOLDS,
    GradientPruner,
    check_rate,
)
from resrep_keras.methods.method import Method
from resrep_keras.methods.patterns import (
    ask_exclude,
    check_exclude,
    check_patterns,
    check_per_layer,
    for_layer,
    is_named,
)
from resrep_keras.surgery.rebuild import rebuild


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(eq=False, repr=False)
class ActivationGradientPruning(Method):
    """Sets most entries of the gradients of activations to zero, so that their mean stays.

    It changes training only: `finalize` returns the model with the weights that were trained.
    Hardware and kernels that leave out products with zero need fewer multiply-adds for the backward
    pass, see `backward_macs`. The dense kernels of TensorFlow and JAX do not: here training gets
    slower by the pruning itself.

    A `GradientPruner` is put between a convolution and the normalisation behind it, and in front
    of a convolution with an activation behind it, unless that is the first one. Dense layers and
    separable convolutions have none.

    Args:
        rate: How strongly gradients are pruned, in [0, 1); or ``{name or pattern of convolutions:
            rate}``, where the others are not pruned. See `GradientPruner`. Defaults to `0.9`.
        fifo_depth, threshold, rounding: As in `GradientPruner`.
        exclude: Names or patterns of convolutions that are left alone, or a function that takes a
            layer and returns whether it is. Defaults to `()`.
        seed: An int, from which each pruner gets one of its own. Defaults to `None`.
        total_steps: As in `Method`; nothing is planned here, and the length of a run does not
            matter.

    Raises:
        TypeError, ValueError: A setting of a wrong kind, or out of bounds.

    Example:

    >>> method = resrep_keras.ActivationGradientPruning(rate=0.9)
    >>> model = resrep_keras.wrap(dense, method)
    >>> history = model.fit(x, y, epochs=20)  # logs "gradient_zeros"
    >>> trained = resrep_keras.finalize(model)

    Reference:
        Ye et al., "Accelerating CNN Training by Pruning Activation Gradients", ECCV 2020.

    Note:
        The paper speaks of batch normalisation; here other normalisations, which fill zeros in as
        well, count like it.
    """

    rate: float | dict = setting(0.9, check_per_layer, check=check_rate)
    fifo_depth: int = setting(5, check_number, **DEPTHS)
    threshold: str = setting("normal", check_choice, known=THRESHOLDS)
    rounding: str = setting("stochastic", check_choice, known=ROUNDINGS)
    exclude: tuple | typing.Callable = setting((), check_exclude)
    seed: int | None = setting(None, check_number, **SEEDS)

    def insert(self, model):
        """A copy with pruners; the baseline says where they stand and what they make cheaper."""
        if pruners_of(model):
            raise ValueError(
                f"Model '{model.name}' is wrapped already. Train it, or finalize it before "
                "wrapping it again."
            )
        places = Places(model)
        chosen = self.choose(places)
        if not chosen:
            raise ValueError(
                f"Nothing to prune in model '{model.name}': expected a convolution in front of a "
                "normalisation, or one in front of an activation that is not the first, with a "
                f"rate above 0; found {len(places.convolutions)} convolutions, "
                f"rate={self.rate!r} and exclude={self.exclude!r}. Register layers of your own "
                "with resrep_keras.methods.gradients.places.role."
            )
        pruners = {
            place.name: self._pruner(place.name, position, places)
            for position, place in enumerate(chosen)
        }
        copy = rebuild(
            places.recording,
            behind={p.name: pruners[p.name] for p in chosen if p.at == "output"},
            before={p.name: pruners[p.name] for p in chosen if p.at == "input"},
            checked=True,
        )
        return copy, Baseline(
            dense={"macs": _count(places.recording)},
            places={
                place.name: {
                    "pruner": pruners[place.name].name,
                    "at": place.at,
                    "cheaper": list(place.cheaper),
                }
                for place in chosen
            },
        )

    def choose(self, places):
        """The places whose gradient is pruned.

        Raises:
            ValueError: A name or pattern fits no convolution.
        """
        convolutions, around = places.convolutions, places.paths
        if isinstance(self.rate, dict):
            check_patterns("rate", self.rate, around)
        if not callable(self.exclude):
            check_patterns("exclude", self.exclude, around)

        def wanted(name):
            if callable(self.exclude):
                excluded = ask_exclude(self.exclude, convolutions[name])
            else:
                excluded = is_named(name, self.exclude, around[name])
            return not excluded and for_layer(self.rate, name, 0.0, around[name]) > 0

        return [place for place in places.find() if wanted(place.name)]

    def _pruner(self, name, position, places):
        own = f"{name}_gradient_pruner"
        while own in places.names:
            own += "_"
        return GradientPruner(
            rate=for_layer(self.rate, name, 0.0, places.paths[name]),
            fifo_depth=self.fifo_depth,
            threshold=self.threshold,
            rounding=self.rounding,
            seed=None if self.seed is None else self.seed + position,
            name=own,
        )

    def finalize(self, model, data=None, keep_batch_norm=False):
        """A plain copy of the trained model; the pruners are in no graph that is read."""
        del keep_batch_norm  # all stay
        graph = trace(model)
        return compare(model, graph, rebuild(graph.recording), data)

    def logs(self, model):
        """`gradient_zeros`, the mean fraction of zeros over pruned gradients; see `zeros_of`."""
        zeros = [z for z in map(zeros_of, pruners_of(model).values()) if z is not None]
        return {"gradient_zeros": float(np.mean(zeros))} if zeros else {}


def _count(recording):
    """MACs of a forward pass, or `None` where they depend on sizes that are unknown."""
    try:
        return MacCost(trace_recording(recording))()
    except ValueError:
        return None


def pruners_of(model):
    """``{name: GradientPruner}`` of the layers of a model."""
    return {layer.name: layer for layer in model.layers if isinstance(layer, GradientPruner)}


def zeros_of(pruner):
    """The running mean of the fraction of zeros behind a pruner; `None` before it has pruned.

    On other backends than TensorFlow, nothing is measured.
    """
    if not int(keras.ops.convert_to_numpy(pruner.measured)):
        return None
    return float(keras.ops.convert_to_numpy(pruner.zeros))
