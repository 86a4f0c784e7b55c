"""OptimizerWrapper: an optimizer that does something of its own around another one."""

import operator

import keras
from keras import ops

from resrep_keras.common.checks import check_optimizer
from resrep_keras.common.untracked import Untracked
from resrep_keras.keras_adapter import (
    call_with_values,
    chooses_by_function,
    parts_of_optimizer,
    wrapped_optimizer,
)
from resrep_keras.layers.around import prunes
from resrep_keras.optimizers.state import PruningState


class _OfInner:
    """A setting that every optimizer of Keras has: that of the inner optimizer, read and set."""

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, wrapper, owner=None):
        if wrapper is None:
            return self
        inner = wrapper.inner_optimizer
        return None if inner is None else operator.attrgetter(self.name)(inner)

    def __set__(self, wrapper, value):
        if wrapper.inner_optimizer is not None:
            setattr(wrapper.inner_optimizer, self.name, value)


class OptimizerWrapper(keras.optimizers.Optimizer):
    """Base of the optimizers that prune: it wraps the user's own and looks like it from outside.

    Whatever is set on it, such as `weight_decay` or `clipnorm`, is set on the inner optimizer.

    A subclass overrides `make_state` to make variables of its own by `keep`, and
    `update_variables` to change gradients before the inner optimizer, or variables and slots after
    it.

    Args:
        inner_optimizer: A `keras.optimizers.Optimizer` or its name.
        name: Name of the optimizer.

    Attributes:
        state: The `PruningState` that its own variables are kept in; that of the model, where
            `compile` of a wrapped model has given it one.
        steps: Int variable, the steps that were applied.
        plan: Int variable `(2,)`, the steps between which the current run goes; see
            `resrep_keras.PruningCallback`.

    Raises:
        TypeError: `inner_optimizer` wraps an optimizer itself: what scales the loss goes outside,
            `LossScaleOptimizer(wrapper)`.
        ValueError: `use_ema`, whose average would revive what is pruned.
    """

    inner_optimizer = None  # while the base class sets itself up
    weight_decay = _OfInner()
    clipnorm = _OfInner()
    clipvalue = _OfInner()
    global_clipnorm = _OfInner()
    use_ema = _OfInner()
    ema_momentum = _OfInner()
    ema_overwrite_frequency = _OfInner()
    gradient_accumulation_steps = _OfInner()
    loss_scale_factor = _OfInner()  # a LossScaleOptimizer around this one sets it to None
    allows_averages = False  # whether what is pruned stays so where `use_ema` averages the rest

    def __init__(self, inner_optimizer, name=None):
        inner_optimizer = check_optimizer("inner_optimizer", inner_optimizer)
        check_inner(inner_optimizer, type(self).__name__, self.allows_averages)
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner_optimizer
        self.state, self._kept = PruningState(), Untracked({})

    def share_state(self, state):
        """Go on with what a model remembers; returns what it remembers from now on.

        That is `state`, or the wrapper's own where it has been built before.
        """
        if not self.built:
            self.state = state
        return self.state

    def keep(self, name, shape, dtype, initializer="zeros", aggregation="only_first_replica"):
        """A variable of the `state`, which is one of the optimizer's, too: found there, or made."""
        while name in self._kept.value:
            name += "_"
        variable = self.state.variable(name, shape, dtype, initializer, aggregation)
        self._kept.value[name] = variable
        return variable

    def kept(self):
        """The variables that are kept in the `state`."""
        return list(self._kept.value.values())

    def build(self, variables):
        # A file of the older format, `.h5`, is read with no variables: fit() gives them.
        if self.built or not variables:
            return
        # The settings may have changed since this wrapper was made.
        check_inner(self.inner_optimizer, type(self).__name__, self.allows_averages)
        managed = tuple(variables)
        self._managed = Untracked(managed)
        self.plan = self.keep("plan", (2,), "int32")
        self.steps = self.keep("steps", (), "int32")
        self.make_state(managed)
        # Not that of the base class: averages and accumulated gradients are the inner optimizer's.
        self.built = True

    def make_state(self, variables):
        """Build the inner optimizer, and whatever stands beside it."""
        self.inner_optimizer.build(list(variables))

    def apply(self, grads, trainable_variables=None):
        if not self.built:
            self.build(list(trainable_variables))
        variables = (
            list(self._managed.value) if trainable_variables is None else list(trainable_variables)
        )
        self.update_variables(list(grads), variables)
        self.steps.assign_add(1)

    def update_variables(self, grads, variables):
        """Update `variables` from their gradients, some of which may be `None`."""
        self.inner_optimizer.apply(grads, variables)

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        if not self.built:
            raise ValueError(
                "Expected a built optimizer; call optimizer.build(model.trainable_variables) first."
            )
        self._check_as_built("trainable_variables", trainable_variables, self._managed.value)
        self._check_as_built("optimizer_variables", optimizer_variables, self.variables)
        mapping = [
            (variable, ops.convert_to_tensor(value))  # a loss scale gives variables
            for variable, value in [
                *zip(self._managed.value, trainable_variables),
                *zip(self.variables, optimizer_variables),
            ]
        ]
        _, changes = call_with_values(self.apply, mapping, grads)
        values = {id(variable): value for variable, value in [*mapping, *changes]}
        return tuple(
            [values[id(variable)] for variable in variables]
            for variables in (self._managed.value, self.variables)
        )

    def _check_as_built(self, name, values, variables):
        """What is `trainable` may have changed since: values would go to other variables."""
        if len(values) != len(variables):
            raise ValueError(
                f"Expected as many `{name}` as the optimizer was built with, {len(variables)}; got "
                f"{len(values)}. Where a layer was frozen or thawed, compile the model again."
            )

    @property
    def variables(self):
        # Keras may have found some of those that are kept, in attributes.
        kept = self.kept()
        known = {id(variable) for variable in kept}
        own = [variable for variable in super().variables if id(variable) not in known]
        return own + kept + self.inner_optimizer.variables

    @property
    def rate_optimizer(self):
        """The optimizer whose settings hold where the wrapped one is a `MultiOptimizer`."""
        return parts_of_optimizer(self.inner_optimizer)[-1]

    @property
    def steps_per_update(self):
        """Steps that gradients are accumulated over, 1 or more."""
        return self.rate_optimizer.gradient_accumulation_steps or 1

    @property
    def steps_done(self):
        """The value of `steps`, also where replicas hold one each: `int(steps)` fails there."""
        return int(ops.convert_to_numpy(self.steps))

    @property
    def steps_before(self):
        """The steps before the last `compile()`: rates are counted from there, `steps` are not."""
        updates = int(ops.convert_to_numpy(self.rate_optimizer.iterations))
        return self.steps_done - updates * self.steps_per_update

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Exclude variables from the weight decay of the inner optimizer; before it is built."""
        self.inner_optimizer.exclude_from_weight_decay(var_list=var_list, var_names=var_names)

    def finalize_variable_values(self, var_list):
        """Where the inner optimizer has `use_ema`, let its averages take the variables' place."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)

    def own_config(self):
        """The settings of the wrapper itself, by the names of its constructor's arguments."""
        return {}

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        return {"name": self.name, "inner_optimizer": inner, **self.own_config()}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        inner = keras.saving.deserialize_keras_object(
            config.pop("inner_optimizer"), custom_objects=custom_objects
        )
        return cls(inner, **config)


class Companion(keras.optimizers.Optimizer):
    """Base of the optimizers that stand beside the inner one of a wrapper, for compactors alone.

    Each is an optimizer of Keras in its own right, so that gradient accumulation, loss scaling and
    replicas are Keras's business; the settings are those of the inner optimizer, at any time.

    Args:
        scale: Returns the loss scale of now, or `None`.
        accumulation: Returns the steps that gradients are accumulated over, or `None`.
        **kwargs: Arguments of the base class.
    """

    _scale_of_now = _accumulation_of_now = staticmethod(lambda: None)

    def __init__(self, scale, accumulation=None, **kwargs):
        super().__init__(**kwargs)
        self._scale_of_now = scale
        if accumulation is not None:
            self._accumulation_of_now = accumulation

    @property
    def loss_scale_factor(self):
        return self._scale_of_now()

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor):
        """The base class sets what it was made with: nothing."""

    @property
    def gradient_accumulation_steps(self):
        return self._accumulation_of_now()

    @gradient_accumulation_steps.setter
    def gradient_accumulation_steps(self, steps):
        """As for `loss_scale_factor`."""


@prunes.register
def _wrapper_prunes(optimizer: OptimizerWrapper):
    del optimizer
    return True


def find_wrapper(optimizer):
    """The `OptimizerWrapper` in a chain of wrappers (loss scaling, say), or `None`."""
    while optimizer is not None and not isinstance(optimizer, OptimizerWrapper):
        optimizer = wrapped_optimizer(optimizer)
    return optimizer


def in_norms_dtype(variable):
    """Squares of small float16 numbers are zero: norms need float32 at least."""
    return variable.dtype if variable.dtype == "float64" else "float32"


def inverse(norm):
    """1 / norm, and 0 where the norm is 0: what is zero stays zero."""
    positive = norm > 0
    return ops.where(positive, 1 / ops.where(positive, norm, 1.0), 0.0)


def keep_where(mask, variables):
    """Set variables, such as weights and what an optimizer holds for them, to zero off the mask."""
    for variable in variables:
        value = variable.value
        # What is not finite stays: training has diverged, and zeros would hide it.
        zero = ops.where(ops.isfinite(value), ops.zeros_like(value), value)
        variable.assign(ops.where(mask, value, zero))


def check_inner(inner, wrapper, allows_averages=False):
    """Raise where an optimizer cannot be wrapped by the class called `wrapper`."""
    if isinstance(inner, OptimizerWrapper):
        raise TypeError(
            f"Expected a plain optimizer as `inner_optimizer`; got a {type(inner).__name__}."
        )
    if wrapped_optimizer(inner) is not None:
        kind = type(inner).__name__
        raise TypeError(
            f"Expected a plain optimizer as `inner_optimizer`; got a {kind}. What wraps an "
            f"optimizer goes outside: {kind}({wrapper}(optimizer))."
        )
    if chooses_by_function(inner):
        raise ValueError(
            f"Optimizer '{inner.name}' chooses its optimizers by a function, so that the learning "
            "rate of compactors is not known. Give it an OptimizerMap with a default optimizer."
        )
    for part in parts_of_optimizer(inner):
        if part.use_ema and not allows_averages:
            raise ValueError(
                f"Optimizer '{part.name}' has use_ema=True, whose running average of the weights "
                "would not match what is pruned. Set use_ema=False while pruning; average the slim "
                "model."
            )
