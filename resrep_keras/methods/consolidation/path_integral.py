"""PathIntegral: how much each weight has lowered the loss on its way."""

from keras import ops

from resrep_keras.keras_adapter import place_of_variable
from resrep_keras.optimizers.wrapper import Companion, in_norms_dtype


class PathIntegral(Companion):
    """Sums up `-gradient * change` of each weight over the steps; it changes no variable.

    The gradient is that of the objective, as Keras has summed it over replicas and accumulated it.

    Args:
        keep: Makes a variable that outlives the optimizer, see `OptimizerWrapper.keep`.
        **kwargs: As for `Companion`.
    """

    def __init__(self, keep, **kwargs):
        super().__init__(learning_rate=0.0, name="path_integral", **kwargs)
        self._keep = keep

    def build(self, variables):
        super().build(variables)
        places = [
            (
                self._keep(f"{v.path}_integral", v.shape, in_norms_dtype(v), "zeros", "none"),
                self.add_variable_from_reference(v, name="before"),
            )
            for v in variables
        ]
        self._places = lambda: places  # else Keras would list the integrals here, too

    def integral(self, variable):
        """The sums of a variable."""
        return self._places()[place_of_variable(self, variable)][0]

    def begin(self, variables):
        """Note where the variables are before they are updated."""
        for variable in variables:
            self._places()[place_of_variable(self, variable)][1].assign(variable)

    def update_step(self, gradient, variable, learning_rate):
        del learning_rate
        integral, before = self._places()[place_of_variable(self, variable)]
        gradient, now, before = (
            ops.cast(value, integral.dtype) for value in (gradient, variable, before)
        )
        self.assign_add(integral, -gradient * (now - before))
