"""LassoTraining: what the methods share that press channels down before they choose."""

import dataclasses
import typing

import keras

from resrep_keras.common.checks import check_number, setting
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.one_shot import OneShot
from resrep_keras.methods.channels.schedules import summed_rate
from resrep_keras.optimizers.lasso import LassoOptimizer

# A short run would ask for so much that nothing but the penalty counts; and what it is under
# optimizers that divide by the size of gradients, where no sum of rates tells what it does.
LARGEST_PLANNED, UNDER_OTHERS = 0.02, 1e-3


@dataclasses.dataclass(eq=False, repr=False)
class LassoTraining(OneShot):
    """Base of the methods with a penalty on the model's own variables until the selection.

    A subclass answers `scores`, and `penalised`: the variables, and along which axis their channels
    lie.

    Args:
        at: Share of the run with the penalty; the selection ends it.
        strength: Strength of the penalty, 0 or larger; `None` for what shrinks by `planned_pull`
            what nothing holds, until the selection.
        **settings: Those of `ChannelSettings`, and `total_steps`.
    """

    at: float = 0.2
    strength: float | None = setting(None, check_number, at_least=0)

    trained_by = LassoOptimizer
    planned_pull: typing.ClassVar[float]

    def penalised(self, channel_state):
        """Pairs `(variable, channel axis)`."""
        raise NotImplementedError

    def optimizer(self, inner, model=None):
        if model is None:
            raise ValueError(
                f"{type(self).__name__} puts its penalty on variables of the model. Expected the "
                "wrapped model as second argument: method.optimizer(inner, model)."
            )
        channel_state = ChannelState(model, self.input_shape, self.exact)
        positions = {id(variable): i for i, variable in enumerate(model.trainable_variables)}
        penalised = [
            (positions[id(variable)], axis % len(variable.shape), *more)
            for variable, axis, *more in self.penalised(channel_state)
            if id(variable) in positions  # neither frozen nor computed from other variables
        ]
        return self.make_optimizer(inner, penalised, channel_state)

    def make_optimizer(self, inner, penalised, channel_state):
        """The optimizer that pulls at the variables of these positions."""
        del channel_state
        return self.trained_by(inner, strength=self.strength, penalised=penalised)

    def check(self, channel_state, plan, last, optimizer):
        super().check(channel_state, plan, last, optimizer)
        if self.strength is None and optimizer is not None and not optimizer.planned():
            optimizer.strength.assign(self.planned_strength(plan, optimizer))

    def planned_strength(self, plan, optimizer):
        """The strength that shrinks by `planned_pull` what nothing holds, until the selection.

        ```
        sum of the learning rates * strength / (1 - momentum) = planned_pull
        ```
        """
        rates = optimizer.rate_optimizer
        if not isinstance(rates, keras.optimizers.SGD):
            return UNDER_OTHERS
        every, late = optimizer.steps_per_update, optimizer.steps_before
        begin, end = optimizer.steps_done - late, max(0, plan.steps[0] - late)
        summed = summed_rate(rates, begin, end) / every
        most = LARGEST_PLANNED * summed / (1 - rates.momentum)
        return LARGEST_PLANNED * min(1.0, self.planned_pull / max(most, 1e-30))

    def update(self, channel_state, optimizer, plan, step):
        super().update(channel_state, optimizer, plan, step)
        if optimizer is not None:
            optimizer.strength.assign(0.0)
