"""TaskCallback: what `fit` has to check where a model learns one task after the other."""

import warnings

import keras

from resrep_keras.common.checks import shown
from resrep_keras.keras_adapter import compile_arguments
from resrep_keras.methods.callback import MethodCallback


class TaskCallback(MethodCallback):
    """Refuses a run behind the last task, or one in which the penalty would diverge.

    Raises:
        ValueError: Either of these.
    """

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._checked, self._task = False, self._optimizer().task_number
        if self._optimizer().num_tasks is not None:
            check_losses(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        if self._checked:
            return
        self._checked = True
        # A backup may have brought another task back, after the step was made.
        self.model.make_train_function()
        optimizer = self._optimizer()
        if optimizer.task_number != self._task:
            warnings.warn(
                f"The backup goes on with task {optimizer.task_number}, where the model was at "
                f"task {self._task}: fit() must be given the data of task {optimizer.task_number}.",
                stacklevel=2,
            )
        if optimizer.is_over:
            raise ValueError(
                f"All {optimizer.num_tasks} tasks of model '{self.pruned.name}' have ended, one "
                "for each output. Expected no further fit(); make a model with more outputs for "
                "more tasks."
            )
        optimizer.begin()
        check_stable(optimizer)

    def _plans(self):
        return False  # whatever the length of a run


def check_losses(model):
    """Raise where a model that gives one output at a time has a loss for each.

    Raises:
        TypeError: Says how losses that differ are given.
    """
    arguments = compile_arguments(model)
    for name in ("loss", "loss_weights"):
        if isinstance(arguments.get(name), (list, tuple, dict)):
            raise TypeError(
                f"Expected compile({name}=...) to be that of one output, since '{model.name}' "
                f"gives that of the current task; got {shown(arguments[name])}. Where tasks have "
                "losses of their own, compile() again behind end_task(); nothing is forgotten."
            )


def check_stable(optimizer):
    """Raise where gradient descent on the penalty alone would diverge; warn where it is clipped.

    With the curvature `h = 2 * strength * importance`, gradient descent is stable below `rate * h =
    2`, with momentum `m` below `2 + 2 m`, in Nesterov's form below `(2 + 2 m) / (1 + 2 m)`.

    Raises:
        ValueError: Names the largest rate and strength that would do.
    """
    inner = optimizer.rate_optimizer
    if type(inner) is not keras.optimizers.SGD:
        return
    curvature = 2 * optimizer.strength * optimizer.largest_importance()
    rate = float(keras.ops.convert_to_numpy(inner.learning_rate))
    bound = 2 + 2 * inner.momentum
    if inner.nesterov:
        bound /= 1 + 2 * inner.momentum
    if rate * curvature < bound:
        return
    text = (
        f"learning_rate={rate:.3g} and strength={optimizer.strength:.3g} are too large for each "
        f"other: with a largest importance of {curvature / 2 / optimizer.strength:.3g}, "
        f"learning_rate * 2 * strength * importance is {rate * curvature:.3g}, and from "
        f"{bound:.3g} on gradient descent on the penalty "
    )
    remedy = (
        f"Expected a learning_rate below {bound / curvature:.3g}, or a strength below "
        f"{optimizer.strength * bound / (rate * curvature):.3g}; or another optimizer, such as "
        "keras.optimizers.Adam()."
    )
    clips = (inner.clipnorm, inner.clipvalue, inner.global_clipnorm)
    if any(clip is not None for clip in clips):
        warnings.warn(f"{text}swings to and fro, held by clipping only. {remedy}", stacklevel=2)
    else:
        raise ValueError(f"{text}diverges. {remedy}")
