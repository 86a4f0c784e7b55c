"""LassoTraining: what the methods share that press channels down before they choose."""

import dataclasses

from resrep_keras.common.checks import check_number, setting
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.one_shot import OneShot
from resrep_keras.optimizers.lasso import LassoOptimizer


@dataclasses.dataclass(eq=False, repr=False)
class LassoTraining(OneShot):
    """Base of the methods with a penalty on the model's own variables until the selection.

    A subclass answers `scores`, and `penalised`: the variables, and along which axis their channels
    lie.

    Args:
        at: Share of the run with the penalty; the selection ends it.
        strength: Strength of the penalty, 0 or larger.
        **settings: Those of `ChannelSettings`, and `total_steps`.
    """

    at: float = 0.5
    strength: float = setting(1e-4, check_number, at_least=0)

    trained_by = LassoOptimizer

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
            (positions[id(variable)], axis % len(variable.shape))
            for variable, axis in self.penalised(channel_state)
            if id(variable) in positions  # neither frozen nor computed from other variables
        ]
        return self.trained_by(inner, strength=self.strength, penalised=penalised)

    def update(self, channel_state, optimizer, plan, step):
        super().update(channel_state, optimizer, plan, step)
        if optimizer is not None:
            optimizer.strength.assign(0.0)
