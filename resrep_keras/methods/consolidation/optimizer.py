"""ConsolidationOptimizer: the user's optimizer, and a pull towards what earlier tasks need."""

import dataclasses

import keras
import numpy as np
from keras import ops

from resrep_keras.common.checks import check_bool, check_number, check_optional
from resrep_keras.common.eager import eagerly
from resrep_keras.common.untracked import Untracked
from resrep_keras.keras_adapter import number_of_replicas
from resrep_keras.methods.consolidation.outputs import TASK
from resrep_keras.methods.consolidation.path_integral import PathIntegral
from resrep_keras.optimizers.transfer import read_slots
from resrep_keras.optimizers.wrapper import (
    OptimizerWrapper,
    in_norms_dtype,
    keep_where,
)


@dataclasses.dataclass(frozen=True)
class Held:
    """A variable of the trunk, and what is remembered of it.

    Args:
        variable: The variable.
        importance: Of each weight for the tasks that have ended.
        reference: Its values at the end of the last one; before, those at the start.
        mask: Bool, `False` where a weight is held at zero; `None` where nothing is pruned.
        needed: Bool, the last mask of the task before, whose `False` are free; or `None`.
        slots: What the inner optimizer holds for it.
    """

    variable: keras.Variable
    importance: keras.Variable
    reference: keras.Variable
    mask: keras.Variable | None
    needed: keras.Variable | None
    slots: tuple


@keras.saving.register_keras_serializable("resrep_keras")
class ConsolidationOptimizer(OptimizerWrapper):
    """Trains the trunk and one head, and pulls the trunk to where earlier tasks left it.

    The inner optimizer gets, for a variable `w` of the trunk,

    ```
    g = dL/dw + 2 * strength * importance * (w - reference)
    ```

    as its gradient, so that its clipping, accumulation and loss scale are those of the objective
    and penalty together. A variable that the current task does not read is left as it is, whatever
    momentum or weight decay would do to it. Made by the methods of consolidation for one model.

    Args:
        inner_optimizer: A `keras.optimizers.Optimizer` or its name.
        strength: Strength of the penalty, 0 or larger.
        trunk: Paths of the variables that are held.
        tasks: ``{path: numbers of the tasks that read it}``, for those that not all read.
        integrates: Whether it sums up `-dL/dw * change of w` over the steps of a task.
        prunes: Whether weights may be masked, which stay zero.
        num_tasks: The number of tasks. Defaults to `None`: it is open.
        name: Name of the optimizer.

    Raises:
        TypeError, ValueError: As `OptimizerWrapper`; a `MultiOptimizer` for several tasks.

    Attributes:
        task: Int variable, the number of the current task.
        held: A list of `Held`.
    """

    integral = None  # while the base class sets itself up

    def __init__(
        self,
        inner_optimizer,
        strength=1.0,
        trunk=(),
        tasks=None,
        integrates=False,
        prunes=False,
        num_tasks=None,
        name=None,
    ):
        strength = check_number("strength", strength, at_least=0)
        super().__init__(inner_optimizer, name=name)
        if tasks and self.rate_optimizer is not self.inner_optimizer:
            raise ValueError(
                f"Expected one optimizer for all variables, such as keras.optimizers.Adam(); got a "
                f"{type(self.inner_optimizer).__name__}, which takes no step without the heads of "
                "other tasks."
            )
        self.strength = strength
        self.integrates = check_bool("integrates", integrates)
        self.prunes = check_bool("prunes", prunes)
        self.num_tasks = check_optional(
            "num_tasks", num_tasks, check_number, at_least=1, whole=True
        )
        self._trunk = Untracked(tuple(trunk))
        self._tasks = Untracked({path: tuple(each) for path, each in (tasks or {}).items()})
        if integrates:
            self.integral = PathIntegral(
                self.keep,
                scale=lambda: self.loss_scale_factor,
                accumulation=lambda: self.rate_optimizer.gradient_accumulation_steps,
            )

    def make_state(self, variables):
        with eagerly():  # a single batch builds it while its step is traced
            self._build(variables)

    def _build(self, variables):
        super().make_state(variables)
        self.task = self.keep("task", (), "int32")
        paths = set(self._trunk.value)
        trunk = [variable for variable in variables if variable.path in paths]
        slots = read_slots(self.inner_optimizer, variables) if self.prunes else {}
        held = [self._hold(variable, slots.get(id(variable), ())) for variable in trunk]
        self._held = Untracked({id(each.variable): each for each in held})
        if self.integral is not None:
            self.integral.build(trunk)
        self._read_task()

    def _hold(self, variable, slots):
        path, shape, dtype = variable.path, variable.shape, in_norms_dtype(variable)
        masks = [None, None]
        if self.prunes:
            masks = [
                self.keep(f"{path}_{kind}", shape, "bool", "ones") for kind in ("mask", "needed")
            ]
        return Held(
            variable,
            self.keep(f"{path}_importance", shape, dtype),
            self.keep(
                f"{path}_reference", shape, dtype, lambda shape, dtype: _copy(variable, dtype)
            ),
            *masks,
            tuple(slots),
        )

    @property
    def held(self):
        return list(self._held.value.values())

    # The task -------------------------------------------------------------------------------------

    @property
    def task_number(self):
        """The number of the current task, also while a step is traced."""
        return self.state.notes.get(TASK, 0)

    @property
    def is_over(self):
        """Whether the last task has ended."""
        return self.num_tasks is not None and self.task_number >= self.num_tasks

    def is_read(self, variable):
        """Whether the current task reads a variable."""
        return self.task_number in self._tasks.value.get(variable.path, (self.task_number,))

    def _read_task(self):
        """Note the number of the task where a step that is traced finds it."""
        self.state.notes[TASK] = int(ops.convert_to_numpy(self.task))

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self._read_task()

    def begin(self):
        """Before the first step of all: whatever was loaded meanwhile, training starts here."""
        if not self.steps_done:
            for each in self.held:
                each.reference.assign(_copy(each.variable, each.reference.dtype))

    def largest_importance(self):
        """The largest importance of a weight."""
        return max(
            float(np.max(ops.convert_to_numpy(each.importance), initial=0)) for each in self.held
        )

    def end_task(self, importance, accumulate="sum"):
        """Hold the trunk where it is, and go on to the next task.

        Args:
            importance: A list of arrays, one for each of `held`.
            accumulate: `"sum"` or `"max"`.
        """
        join = {"sum": ops.add, "max": ops.maximum}[accumulate]
        for each, found in zip(self.held, importance):
            each.importance.assign(
                join(each.importance.value, ops.cast(found, each.importance.dtype))
            )
            each.reference.assign(_copy(each.variable, each.reference.dtype))
            if self.integral is not None:
                integral = self.integral.integral(each.variable)
                integral.assign(ops.zeros_like(integral.value))
            if self.prunes:
                each.needed.assign(ops.copy(each.mask.value))
                each.mask.assign(ops.ones_like(each.mask.value))
        self.task.assign_add(1)
        self._read_task()

    def set_masks(self, masks):
        """Hold weights at zero until the task ends; `masks` are arrays, one for each of `held`."""
        for each, mask in zip(self.held, masks):
            each.mask.assign(mask)
            keep_where(each.mask.value, (each.variable, *each.slots))

    # A step ---------------------------------------------------------------------------------------

    def update_variables(self, grads, variables):
        pairs = [pair for pair in zip(grads, variables) if self.is_read(pair[1])]
        held = [v for _, v in pairs if id(v) in self._held.value]
        if self.integral is not None:
            self.integral.begin(held)
        self.inner_optimizer.apply([self._pulled(g, v) for g, v in pairs], [v for _, v in pairs])
        if self.integral is not None:
            seen = [(g, v) for g, v in pairs if id(v) in self._held.value and g is not None]
            self.integral.apply(*(list(column) for column in zip(*seen)))
        if self.prunes:
            for each in map(self._held.value.get, map(id, held)):
                keep_where(each.mask.value, (each.variable, *each.slots))

    def _pulled(self, gradient, variable):
        """The gradient of objective and penalty."""
        held = self._held.value.get(id(variable))
        if held is None or gradient is None:
            return gradient
        if self.strength:
            away = ops.cast(variable, held.reference.dtype) - held.reference
            pull = 2 * self.strength * self._scale() * held.importance * away
            gradient = ops.convert_to_tensor(gradient)
            gradient = gradient + ops.cast(pull, gradient.dtype)
        if self.prunes:
            gradient = ops.convert_to_tensor(gradient)
            gradient = gradient * ops.cast(held.mask, gradient.dtype)
        return gradient

    def _scale(self):
        """For a gradient that is scaled with the loss, and summed over replicas."""
        return (self.loss_scale_factor or 1.0) / number_of_replicas(self.task.value)

    @property
    def variables(self):
        beside = [] if self.integral is None else self.integral.variables
        return super().variables + beside

    def own_config(self):
        return {
            "strength": self.strength,
            "trunk": list(self._trunk.value),
            "tasks": {path: list(tasks) for path, tasks in self._tasks.value.items()},
            "integrates": self.integrates,
            "prunes": self.prunes,
            "num_tasks": self.num_tasks,
        }


def _copy(variable, dtype):
    """A value of its own: JAX gives the buffers of a training step away, one owner each."""
    return ops.copy(ops.cast(variable, dtype))
