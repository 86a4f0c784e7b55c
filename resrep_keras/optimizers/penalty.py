"""PenaltyOptimizer: momentum SGD with group lasso for compactors beside the user's own."""

import typing

import keras
import numpy as np
from keras import ops

from resrep_keras.common.checks import as_array, check_instance, check_number, shown
from resrep_keras.keras_adapter import place_of_variable
from resrep_keras.layers.compactor import is_compactor_kernel
from resrep_keras.optimizers.wrapper import Companion, OptimizerWrapper, in_norms_dtype, inverse

# Of the average of squared slopes, per update.
MEMORY = 0.98


class _GroupLassoSGD(Companion):
    """Momentum SGD with the group-lasso gradient, for compactor kernels alone."""

    def __init__(self, learning_rate, penalty_strength, momentum, rate, keep, **kwargs):
        super().__init__(learning_rate=learning_rate, name="group_lasso_sgd", **kwargs)
        self._keep = keep
        self.penalty_strength = penalty_strength
        self.momentum = momentum
        self.rate = rate

    _slots = staticmethod(lambda: ())  # while it is not built

    def build(self, variables):
        super().build(variables)
        slots = [
            # What is known of a channel outlives the optimizer; momentum does not.
            (
                self.add_variable_from_reference(variable, name="velocity"),
                *(
                    self._keep(
                        f"{variable.path}_{name}",
                        variable.shape[-1:],
                        variable.dtype,
                        "zeros",
                        "none",
                    )
                    for name in ("shrink", "effect", "seen")
                ),
            )
            for variable in variables
        ]
        self._slots = lambda: slots  # else Keras would list those of the model here, too

    def slots(self, variable):
        """Velocity, shrink, effect and number of the updates seen, of a kernel."""
        return self._slots()[place_of_variable(self, variable)]

    @property
    def variables(self):
        # Between updates of accumulated gradients, Keras takes back what is listed here.
        return super().variables + [kept for _, _, *watched in self._slots() for kept in watched]

    def update_step(self, gradient, variable, learning_rate):
        velocity, shrink, *watched = self.slots(variable)
        dtype = in_norms_dtype(variable)
        kernel, gradient, amount, speed, rate = (
            ops.cast(value, dtype)
            for value in (variable, gradient, shrink, velocity, learning_rate)
        )
        self._watch(gradient, kernel, *watched)
        gradient = gradient + self.penalty_strength * kernel * inverse(column_norms(kernel))
        forgetting = amount > 0
        speed = ops.where(forgetting, 0.0, self.momentum * speed + gradient)
        kernel = kernel - self.rate * rate * speed
        left = ops.maximum(1 - amount * inverse(column_norms(kernel)), 0.0)
        kernel = ops.where(forgetting, left, 1.0) * kernel
        self.assign(velocity, ops.cast(speed, velocity.dtype))
        self.assign(variable, ops.cast(kernel, variable.dtype))

    def _watch(self, gradient, kernel, effect, seen):
        """Average the squared slope of the objective along each column, over recent updates."""
        axes = tuple(range(len(kernel.shape) - 1))
        along = gradient * kernel
        slope = (ops.sum(along, axis=axes) if axes else along) * ops.reshape(
            inverse(column_norms(kernel)), (-1,)
        )
        before, updates = (ops.cast(value, slope.dtype) for value in (effect, seen))
        # The objective does not reach a masked column: what was seen before counts.
        reached = ops.cast(slope != 0, slope.dtype)
        updates = updates + reached
        # The first updates weigh alike, so that no average starts from zero.
        share = reached * ops.maximum(1 - MEMORY, 1 / ops.maximum(updates, 1.0))
        self.assign(effect, ops.cast(before + share * (slope**2 - before), effect.dtype))
        self.assign(seen, ops.cast(updates, seen.dtype))


def column_norms(kernel):
    """Euclidean norm over all axes but the last, kept as axes of 1."""
    axes = tuple(range(len(kernel.shape) - 1))
    return (
        ops.sqrt(ops.sum(ops.square(kernel), axis=axes, keepdims=True)) if axes else ops.abs(kernel)
    )


@keras.saving.register_keras_serializable("resrep_keras")
class PenaltyOptimizer(OptimizerWrapper):
    """Wraps an optimizer so that compactors are trained by the ResRep update.

    Compactor kernels never reach the inner optimizer: under Adam a penalty, however small, becomes
    a full-size step. With the objective's gradient `dL/dK` (already reset for masked columns by
    the layer), the inner optimizer's current `learning_rate` and the columns `K_j` they get

    ```
    g = dL/dK + penalty_strength * K_j / ||K_j||
    v = momentum * v + g
    K = K - compactor_rate * learning_rate * v
    ```

    A column that is being forgotten (see `forget`) gets a proximal step in place of the gradient's,
    which reaches exact zero after a known number of steps and stays there:

    ```
    K_j = K_j * max(0, 1 - shrink_j / ||K_j||)
    ```

    Beside that it averages what each column is worth to the loss, see `squared_changes`.

    Args:
        inner_optimizer: The `keras.optimizers.Optimizer` (or its name) for all other variables.
            Its clipping and weight decay do not touch compactors; its learning rate, gradient
            accumulation and loss scale do, of a `MultiOptimizer` those of the last optimizer, the
            default of its `OptimizerMap`.
        penalty_strength: Strength of the group lasso, 0 or larger. Defaults to `1e-4`.
        momentum: Momentum of compactors, in [0, 1). Defaults to `0.99`.
        compactor_rate: Learning rate of compactors as a share of the inner optimizer's. Behind
            layers without a normalisation their gradients are large. Defaults to `1.0`.
        name: Name of the optimizer.

    Raises:
        TypeError: `inner_optimizer` wraps penalties already, or scales the loss, which must be
            done outside: `LossScaleOptimizer(PenaltyOptimizer(...))`.
        ValueError: A setting out of range, or `use_ema`, whose average would revive channels.

    Example:

    >>> optimizer = resrep_keras.PenaltyOptimizer(keras.optimizers.Adam(1e-3))

    Reference:
        Ding et al., ICCV 2021, equations 8 to 11; settings of section 4.

    Note:
        The learning rate multiplies the buffer from outside, as in the authors' code. Keras's SGD
        keeps it inside, where under a decaying rate its residue holds channels above the threshold.
    """

    compactor_optimizer = None  # while the base class sets itself up
    _trained_compactors: frozenset = frozenset()  # ids of their kernels, once it is built

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer | str,
        penalty_strength: float = 1e-4,
        momentum: float = 0.99,
        name: str | None = None,
        compactor_rate: float = 1.0,
        **kwargs: typing.Any,
    ) -> None:
        if kwargs:
            raise ValueError(
                f"Unknown arguments {sorted(kwargs)}: clipping, weight decay, schedules and the "
                "like belong to `inner_optimizer`."
            )
        strength = check_number("penalty_strength", penalty_strength, at_least=0)
        momentum = check_number("momentum", momentum, at_least=0, below=1)
        rate = check_number("compactor_rate", compactor_rate, at_least=0)
        super().__init__(inner_optimizer, name=name)
        self.penalty_strength = float(strength)
        self.momentum = float(momentum)
        self.compactor_rate = float(rate)
        self.compactor_optimizer = _GroupLassoSGD(
            learning_rate=lambda: self.rate_optimizer.learning_rate,
            penalty_strength=self.penalty_strength,
            momentum=self.momentum,
            rate=self.compactor_rate,
            keep=self.keep,
            scale=lambda: self.loss_scale_factor,
            accumulation=lambda: self.rate_optimizer.gradient_accumulation_steps,
        )

    def make_state(self, variables):
        compactors, others = split_compactors(variables)
        self._trained_compactors = frozenset(map(id, compactors))
        self.compactor_optimizer.build(compactors)
        self.inner_optimizer.build(others)

    def update_variables(self, grads, variables):
        # Where the objective does not reach a compactor, its penalty and its forgetting go on.
        grads = [
            ops.zeros_like(variable)
            if gradient is None and is_compactor_kernel(variable)
            else gradient
            for gradient, variable in zip(grads, variables)
        ]
        for optimizer, part in zip(
            (self.compactor_optimizer, self.inner_optimizer),
            split_compactors(list(zip(grads, variables)), variables),
        ):
            if part:
                optimizer.apply(*(list(column) for column in zip(*part)))

    def forget(self, kernel, shrink):
        """Set how much norm each column of a compactor kernel loses in every coming update.

        With gradient accumulation, an update comes once in `steps_per_update` steps.

        Args:
            kernel: The `kernel` variable of a `Compactor` that this optimizer was built with.
            shrink: `(channels,)`, 0 for columns that follow their gradient.
        """
        values = as_array("shrink", shrink)
        target = self._slots_of(kernel)[1]
        if values.shape != tuple(target.shape) or not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError(
                f"Expected shrink to be numbers of 0 or more of shape {tuple(target.shape)}, one "
                f"for each column; got shape {values.shape}: {shown(values)}."
            )
        target.assign(values)

    def forgetting(self, kernel):
        """The amounts that `forget` has set, NumPy `(channels,)`."""
        return ops.convert_to_numpy(self._slots_of(kernel)[1])

    def squared_changes(self, kernel):
        """What the loss would change by to first order if a column went, squared.

        The mean over recent updates of `(sum of dL/dK_j * K_j / ||K_j||) ** 2`, times
        `||K_j|| ** 2`. The objective does not reach a masked column, of which the mean from before
        it was masked counts.

        Args:
            kernel: The `kernel` variable of a `Compactor` that this optimizer was built with.

        Returns:
            Float64 `(channels,)`; 0 for a column that no gradient has reached.
        """
        effect = np.asarray(ops.convert_to_numpy(self._slots_of(kernel)[2]), np.float64)
        values = np.asarray(ops.convert_to_numpy(kernel), np.float64)
        return effect * np.square(values.reshape(-1, values.shape[-1])).sum(axis=0)

    def _slots_of(self, kernel):
        words = "the kernel of a Compactor that this optimizer is built with"
        check_instance("kernel", kernel, keras.Variable, words)
        if id(kernel) not in self._trained_compactors:
            raise ValueError(f"Expected kernel to be {words}; got {shown(kernel)}.")
        return self.compactor_optimizer.slots(kernel)

    @property
    def variables(self):
        kept = {id(variable) for variable in self.kept()}
        own = [v for v in self.compactor_optimizer.variables if id(v) not in kept]
        return super().variables + own

    def own_config(self):
        return {
            "penalty_strength": self.penalty_strength,
            "momentum": self.momentum,
            "compactor_rate": self.compactor_rate,
        }


def split_compactors(items, variables=None):
    """Items of compactor kernels, and of all others; by default the variables themselves."""
    marks = [
        is_compactor_kernel(variable) for variable in (items if variables is None else variables)
    ]
    return (
        [item for item, mark in zip(items, marks) if mark],
        [item for item, mark in zip(items, marks) if not mark],
    )
