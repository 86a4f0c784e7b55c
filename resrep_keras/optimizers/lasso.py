"""LassoOptimizer: a group lasso on some of the model's own variables, until it is told to stop."""

import keras
from keras import ops

from resrep_keras.common.checks import check_number
from resrep_keras.keras_adapter import number_of_replicas
from resrep_keras.optimizers.frozen_compactors import FrozenCompactorsOptimizer
from resrep_keras.optimizers.wrapper import in_norms_dtype, inverse


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
        strength: Strength of the penalty at the start, 0 or larger.
        penalised: Pairs `(position of a variable, its channel axis)`, counted in the trainable
            variables of the model, by which Keras knows the state of optimizers, too.
        name: Name of the optimizer.

    Attributes:
        strength: Float variable, the strength of now.

    Raises:
        ValueError: When it is built, variables of other numbers or ranks.

    Reference:
        Yuan and Lin, "Model selection and estimation in regression with grouped variables", Journal
        of the Royal Statistical Society B, 2006.
    """

    def __init__(self, inner_optimizer, strength, penalised=(), name=None):
        strength = check_number("strength", strength, at_least=0)
        super().__init__(inner_optimizer, name=name)
        self.first_strength = float(strength)
        self.penalised = tuple((int(position), int(axis)) for position, axis in penalised)

    def build_parts(self, variables):
        super().build_parts(variables)
        ranks = [len(variable.shape) for variable in variables]
        for position, axis in self.penalised:
            if position >= len(ranks) or axis >= ranks[position]:
                raise ValueError(
                    f"Expected the trainable variables of the model that this optimizer was made "
                    f"for, with axis {axis} in number {position}; got {len(ranks)} variables"
                    + (f", that one of rank {ranks[position]}" if position < len(ranks) else "")
                    + ". Compile the model anew with a plain optimizer."
                )
        first = keras.initializers.Constant(self.first_strength)
        self.strength = self.keep("strength", (), "float32", first)

    def apply_parts(self, grads, variables):
        managed, axes = self._managed.value, {}
        for position, axis in self.penalised:
            axes.setdefault(id(managed[position]), []).append(axis)
        grads = [
            self._penalise(gradient, variable, axes.get(id(variable), ()))
            for gradient, variable in zip(grads, variables)
        ]
        super().apply_parts(grads, variables)

    def _penalise(self, gradient, variable, axes):
        dtype = in_norms_dtype(variable)
        weights = ops.cast(variable, dtype)
        for axis in axes:
            others = tuple(a for a in range(len(variable.shape)) if a != axis)
            # sqrt(n) / norm is one over the root of the mean square.
            sizes = ops.sqrt(ops.mean(ops.square(weights), axis=others, keepdims=True))
            pull = ops.cast(self._scaled_strength(), dtype) * weights * inverse(sizes)
            pull = ops.cast(pull, variable.dtype)
            gradient = pull if gradient is None else ops.convert_to_tensor(gradient) + pull
        return gradient

    def _scaled_strength(self):
        """The strength for a gradient that is scaled with the loss, and summed over replicas."""
        replicas = number_of_replicas(self.strength.value)
        return self.strength * ((self.loss_scale_factor or 1.0) / replicas)

    def own_config(self):
        return {"strength": self.first_strength, "penalised": self.penalised}
