"""Penalties on some of the model's own variables, until they are told to stop."""

import keras
import numpy as np
from keras import ops

from resrep_keras.common.checks import check_number
from resrep_keras.keras_adapter import number_of_replicas
from resrep_keras.optimizers.frozen_compactors import FrozenCompactorsOptimizer
from resrep_keras.optimizers.wrapper import in_norms_dtype, inverse

UNPLANNED = -1.0


@keras.saving.register_keras_serializable("resrep_keras")
class LassoOptimizer(FrozenCompactorsOptimizer):
    """Holds compactors, and adds the gradient of a group lasso to that of penalised variables.

    ```
    g = dL/dw + strength * sqrt(n) * w_i / ||w_i||        w_i: the n weights of channel i
    ```

    For a vector, whose channels are single numbers, this is `strength * sign(w)`: the subgradient
    of the L1 norm. The factor `sqrt(n)` lets channels of many and of few weights shrink alike. The
    inner optimizer treats it as part of the loss: its clipping, accumulation and loss scale are
    those of any gradient.

    Args:
        inner_optimizer: The `keras.optimizers.Optimizer` (or its name) for all other variables.
        strength: Strength of the penalty at the start, 0 or larger; `None` where it is planned
            later, and 0 until then.
        penalised: Pairs `(position of a variable, its channel axis)`, counted in the trainable
            variables of the model, by which Keras knows the state of optimizers, too.
        name: Name of the optimizer.

    Attributes:
        strength: Float variable, the strength of now; `UNPLANNED` before it is known.

    Raises:
        ValueError: When it is built, variables of other numbers or ranks.

    Reference:
        Yuan and Lin, "Model selection and estimation in regression with grouped variables", Journal
        of the Royal Statistical Society B, 2006.
    """

    def __init__(self, inner_optimizer, strength, penalised=(), name=None):
        if strength is not None:
            strength = float(check_number("strength", strength, at_least=0))
        super().__init__(inner_optimizer, name=name)
        self.first_strength = strength
        self.penalised = tuple((int(position), int(axis)) for position, axis in penalised)

    def make_state(self, variables):
        super().make_state(variables)
        ranks = [len(variable.shape) for variable in variables]
        for position, axis in self.penalised:
            if position >= len(ranks) or axis >= ranks[position]:
                raise ValueError(
                    f"Expected the trainable variables of the model that this optimizer was made "
                    f"for, with axis {axis} in number {position}; got {len(ranks)} variables"
                    + (f", that one of rank {ranks[position]}" if position < len(ranks) else "")
                    + ". Compile the model anew with a plain optimizer."
                )
        first = UNPLANNED if self.first_strength is None else self.first_strength
        first = keras.initializers.Constant(first)
        self.strength = self.keep("strength", (), "float32", first)

    def planned(self):
        """Whether the strength is known, be it 0 by now."""
        return float(ops.convert_to_numpy(self.strength)) != UNPLANNED

    def update_variables(self, grads, variables):
        managed, places = self._managed.value, {}
        for place, (position, _) in enumerate(self.penalised):
            places.setdefault(id(managed[position]), []).append(place)
        pulls = self._pulls([managed[position] for position, _ in self.penalised])
        grads = [
            self._penalise(gradient, variable, pulls, places.get(id(variable), ()))
            for gradient, variable in zip(grads, variables)
        ]
        super().update_variables(grads, variables)

    def _penalise(self, gradient, variable, pulls, places):
        dtype = in_norms_dtype(variable)
        for place in places:
            weights = ops.cast(variable, dtype)
            pull = ops.cast(self._scaled_strength(), dtype) * pulls(place, weights)
            pull = ops.cast(pull, variable.dtype)
            gradient = pull if gradient is None else ops.convert_to_tensor(gradient) + pull
        return gradient

    def _pulls(self, variables):
        """A function of the place in `penalised` and the weights: what they are pulled by."""
        del variables

        def pull(place, weights):
            _, axis = self.penalised[place]
            # sqrt(n) / norm is one over the root of the mean square.
            others = _all_but(axis, weights)
            return weights * inverse(ops.sqrt(ops.mean(ops.square(weights), others, keepdims=True)))

        return pull

    def _scaled_strength(self):
        """The strength for a gradient that is scaled with the loss, and summed over replicas."""
        replicas = number_of_replicas(self.strength.value)
        strength = ops.maximum(self.strength, 0.0)
        return strength * ((self.loss_scale_factor or 1.0) / replicas)

    def own_config(self):
        return {"strength": self.first_strength, "penalised": self.penalised}


@keras.saving.register_keras_serializable("resrep_keras")
class GroupNormOptimizer(LassoOptimizer):
    """Holds compactors, and pulls at all weights of a channel, harder where these are small.

    The weights of channel `k` are slices `w` of several variables, its members: what makes it,
    scales it and reads it. With `n_k` the root of the mean, over them, of their squared norms,

    ```
    gamma_k = 2 ** (growth * (max n - n_k) / (max n - min n))     over the channels of a layer
    g = dL/dw + strength * gamma_k * w
    ```

    Args:
        inner_optimizer: The `keras.optimizers.Optimizer` (or its name) for all other variables.
        strength: Strength of the penalty at the start, as in `LassoOptimizer`.
        penalised: Triples `(position of a variable, its channel axis, channels)`; `channels` has
            for each entry along the axis the number of its channel, -1 for none.
        growth: How much harder the smallest channel is pulled, as a power of 2.
        sizes: For each group of coupled channels how many these are; numbers go on from group to
            group.
        name: Name of the optimizer.

    Reference:
        Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, equation 4.
    """

    def __init__(self, inner_optimizer, strength, penalised=(), growth=4.0, sizes=(), name=None):
        pairs = [(position, axis) for position, axis, _ in penalised]
        super().__init__(inner_optimizer, strength, pairs, name=name)
        self.channels = tuple(tuple(map(int, numbers)) for _, _, numbers in penalised)
        self.growth = float(check_number("growth", growth, at_least=0))
        self.sizes = tuple(map(int, sizes))

    def _pulls(self, variables):
        factors = self._factors(variables)

        def pull(place, weights):
            _, axis = self.penalised[place]
            shape = [1] * len(weights.shape)
            shape[axis] = -1
            own = ops.take(factors, self._places(place), axis=0)
            return weights * ops.cast(ops.reshape(own, shape), weights.dtype)

        return pull

    def _places(self, place):
        """The channels of a member, the last place for those that are none."""
        numbers = np.array(self.channels[place], "int32")
        return np.where(numbers < 0, sum(self.sizes), numbers).astype("int32")

    def _factors(self, variables):
        """`gamma` of each channel, and 0 behind them: float32 `(channels + 1,)`."""
        total = sum(self.sizes)
        members, squares = np.zeros(total + 1), []
        for place, variable in enumerate(variables):
            weights = ops.cast(variable, "float32")
            others = _all_but(self.penalised[place][1], weights)
            squares.append(ops.sum(ops.square(weights), others))
            members[np.unique(self._places(place))] += 1
        places = np.concatenate([self._places(place) for place in range(len(squares))])
        sums = ops.segment_sum(ops.concatenate(squares), places, num_segments=total + 1)
        norms = ops.sqrt(sums[:total] / np.maximum(members[:total], 1).astype("float32"))
        groups = np.repeat(np.arange(len(self.sizes), dtype="int32"), self.sizes)

        def largest(values):
            found = ops.segment_max(values, groups, num_segments=len(self.sizes))
            return ops.take(found, groups, axis=0)

        most, span = largest(norms), largest(norms) + largest(-norms)
        factors = 2.0 ** (self.growth * (most - norms) * inverse(span))
        return ops.concatenate([factors, ops.zeros((1,))])

    def own_config(self):
        triples = [(*pair, numbers) for pair, numbers in zip(self.penalised, self.channels)]
        return {
            **super().own_config(),
            "penalised": triples,
            "growth": self.growth,
            "sizes": self.sizes,
        }


def _all_but(axis, tensor):
    return tuple(a for a in range(len(tensor.shape)) if a != axis)
