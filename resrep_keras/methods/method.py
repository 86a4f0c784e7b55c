"""What every pruning method is: a small serialisable value, and the questions that it answers.

A method holds settings, no state. What changes during training lives in variables of the model and
its optimizer.
"""

import dataclasses
import inspect
import json

import keras

from resrep_keras.common.checks import (
    check_config,
    check_instance,
    check_number,
    check_settings,
    setting,
)
from resrep_keras.methods.callback import MethodCallback


def check_savable(method):
    """Raise where the settings of a method cannot be saved with the model that it prunes.

    Raises:
        TypeError: Names the method.
    """
    try:
        json.dumps(keras.saving.serialize_keras_object(method))
    except (TypeError, ValueError, NotImplementedError) as error:
        raise TypeError(
            f"The settings of {type(method).__name__} cannot be saved with the model ({error}). "
            "Expected numbers, texts, lists and dicts of them, functions with a name, and objects "
            "of Keras that have a get_config()."
        ) from error


@dataclasses.dataclass(eq=False, repr=False)
class Method:
    """Base of the methods; those that remove channels go on from `ChannelMethod`.

    A subclass is a dataclass whose fields are its settings, its target the first. A field made by
    `resrep_keras.common.checks.setting` says what it may be; what concerns several of them is
    checked in `__post_init__`. One with a constructor of its own keeps each argument as an
    attribute of its name.

    Args:
        total_steps: Steps of the run, for data whose length `fit` cannot tell, such as a
            generator's. By name only. Defaults to what `fit` says.

    Attributes:
        input_shape: Shape of one input, without batch, for a model with unknown sizes. A setting of
            `ChannelSettings`; `None` where a method has none.
        exact: Whether channels stay whose removal changes outputs. A setting of `ChannelSettings`.
        slim_every: Epochs between removals of dead channels while `fit` runs. A setting of
            `ResRep`; `None` for the methods that wait for `finalize`.
    """

    total_steps: int | None = setting(None, check_number, at_least=1, whole=True, kw_only=True)

    # Without types: an entry here, even a ClassVar, would come first among a subclass's arguments.
    input_shape = None
    exact = True
    slim_every = None

    def __post_init__(self):
        check_settings(self)

    @property
    def trains(self):
        """Whether the method trains the model with an optimizer of its own."""
        return type(self).optimizer is not Method.optimizer

    # The questions ----------------------------------------------------------------------------

    def insert(self, model):
        """The model to train: `(copy, baseline)`.

        Args:
            model: A built Keras model; it is left as it is.

        Returns:
            A Functional copy that computes the same outputs, and the `Baseline` to keep beside it.

        Raises:
            ValueError: The method finds nothing in the model that it could work on.
        """
        raise NotImplementedError

    def optimizer(self, inner, model=None):
        """The optimizer to train the copy with.

        Args:
            inner: The user's own `keras.optimizers.Optimizer`.
            model: The wrapped model, for methods that treat some of its variables in a way of their
                own.
        """
        del model
        return inner

    def callback(self):
        """A fresh callback to train the copy with, a `MethodCallback`."""
        return MethodCallback()

    def forward(self, model, inputs, training):
        """The outputs of the wrapped model, where the method does more in a call than its graph."""
        del model, inputs, training
        return None

    def phase(self, model):
        """A value on which depends what a call of the wrapped model does.

        Where it has changed, `fit`, `evaluate` and `predict` trace the model anew.
        """
        del model
        return None

    def check_run(self, first, last):
        """Raise a `ValueError` where the steps from `first` to `last` cannot do what is asked."""

    def end_of_run(self, model, data):
        """Called once, where a run of `fit` or of a training loop ends; does nothing.

        Args:
            model: The wrapped model, trained.
            data: The `TrainingData` that `fit` was given; `None` in a training loop of one's own.
        """
        del model, data

    def finalize(self, model, data=None, keep_batch_norm=False):
        """The slim model: a plain copy of the trained one, without what the method put into it.

        Args:
            model: The wrapped model; it is left as it is.
            data: Inputs to compare both models on beside random ones.
            keep_batch_norm: Whether batch normalisations stay that a method would fold into the
                layers before them.

        Returns:
            A `Finalized`: the model, its certificate, and the problems that are to be told.
        """
        raise NotImplementedError

    def logs(self, model):
        """What is logged at the end of each epoch: ``{name: number}``."""
        del model
        return {}

    def target_met(self, model):
        """Whether the model is pruned as far as it is going to be."""
        del model
        return True

    # A value ----------------------------------------------------------------------------------

    def get_config(self):
        settings = self._settings().items()
        return {name: keras.saving.serialize_keras_object(value) for name, value in settings}

    @classmethod
    def from_config(cls, config):
        check_config(cls, config)
        return cls(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash(repr(self))

    def __repr__(self):
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"{type(self).__name__}({settings})"

    def _settings(self):
        """``{name: value}`` of the constructor's arguments."""
        return {name: vars(self)[name] for name in inspect.signature(type(self)).parameters}


def check_method(name, method):
    """Return a pruning method.

    Raises:
        TypeError: Something else, or the class of one.
    """
    words = "a pruning method such as resrep_keras.ResRep(target_reduction=0.5)"
    return check_instance(name, method, Method, words)
