"""Consolidation: base of the methods that learn one task after the other without forgetting."""

import dataclasses

from keras import ops

from resrep_keras.common.checks import came, check_number, setting
from resrep_keras.graph.trace import recording_of, trace
from resrep_keras.methods.baseline import Baseline
from resrep_keras.methods.certificate import compare
from resrep_keras.methods.consolidation.callback import TaskCallback
from resrep_keras.methods.consolidation.optimizer import ConsolidationOptimizer
from resrep_keras.methods.consolidation.outputs import current_task, heads_of, view_of
from resrep_keras.methods.consolidation.places import places_of
from resrep_keras.methods.method import Method
from resrep_keras.methods.patterns import check_names
from resrep_keras.methods.wrapped import baseline_of
from resrep_keras.surgery.rebuild import rebuild


@dataclasses.dataclass(eq=False, repr=False)
class Consolidation(Method):
    """Base of the methods that hold weights where earlier tasks need them.

    Each output of the model is a task. `fit` trains the *trunk*, which several outputs read, and
    the head of the current task; `resrep_keras.end_task` goes on to the next one. From the second
    task on, the objective has the penalty

    ```
    strength * sum_j importance_j * (w_j - reference_j) ** 2
    ```

    over the weights of the trunk, biases included, with their values at the end of the last task
    as the reference. What a method is, is how it measures importance.

    Args:
        strength: Strength of the penalty, 0 or larger. There is no factor of one half.
        heads: For a model with one output, names or patterns of the layers that are no part of the
            trunk: trained in each task, and never held. Defaults to `None`: all is trunk. By name
            only.
        total_steps: As in `Method`; nothing is planned here, and the length of a run does not
            matter.
    """

    strength: float = setting(1.0, check_number, at_least=0)
    heads: tuple | None = setting(None, check_names, kw_only=True)

    # Without types, else they would be settings.
    reads_labels = False  # whether importance is measured by them
    integrates = False  # whether it is measured along the way
    accumulate = "sum"  # what becomes of the importance of several tasks
    prunes = False

    def measure(self, model, wrapper, data):
        """The importance of the trunk's weights for the current task.

        Args:
            model: The wrapped model.
            wrapper: Its `ConsolidationOptimizer`.
            data: The `TaskData` of the task.

        Returns:
            A list of tensors, one for each of `wrapper.held`.
        """
        raise NotImplementedError

    def free(self, model, wrapper, data, retrain):
        """Free weights that the current task does not need, before importance is measured.

        Args:
            model, wrapper, data: As for `measure`.
            retrain: ``retrain(epochs)`` trains on the data of the task.
        """
        del model, wrapper, data, retrain

    # What a method answers ------------------------------------------------------------------------

    def insert(self, model):
        recording = recording_of(model)
        copy = rebuild(recording, checked=True)
        paths = {call.name: list(call.path) for call in recording.calls if call.path}
        places_of(copy, self.heads, paths)
        return copy, Baseline(paths=paths)

    def optimizer(self, inner, model=None):
        if baseline_of(model) is None:
            raise TypeError(
                f"Expected model to be the wrapped model that {type(self).__name__} trains, by "
                "which the trunk is known: method.optimizer(optimizer, resrep_keras.wrap(dense, "
                f"method)); {came(model)}."
            )
        places = places_of(model, self.heads, baseline_of(model).paths)
        return ConsolidationOptimizer(
            inner,
            strength=self.strength,
            trunk=places.trunk,
            tasks=places.tasks,
            integrates=self.integrates,
            prunes=self.prunes,
            num_tasks=len(heads_of(model)) if len(heads_of(model)) > 1 else None,
        )

    def callback(self):
        return TaskCallback()

    def forward(self, model, inputs, training):
        if len(heads_of(model)) == 1:
            return None
        return view_of(model, current_task(model)).call(inputs, training=training)

    def phase(self, model):
        return current_task(model)

    def finalize(self, model, data=None, keep_batch_norm=False):
        """A plain copy with all heads; no weight is another."""
        del keep_batch_norm  # all stay
        graph = trace(model)
        return compare(model, graph, rebuild(graph.recording), data)


def check_importance(importance, wrapper):
    """Raise where importance is no number.

    Raises:
        ValueError: Names the variable.
    """
    for found, each in zip(importance, wrapper.held):
        if not bool(ops.all(ops.isfinite(found))):
            raise ValueError(
                f"The importance of variable '{each.variable.path}' is NaN or infinite. Expected "
                "finite outputs for all of x, and gradients of them: look for NaN in the data and "
                "for a training that has diverged, or lower the learning rate."
            )
