"""WrappedModel: the model that fit() runs on."""

import contextlib
import inspect

import keras

from resrep_keras.keras_adapter import deep_models
from resrep_keras.methods.callback import FitCall, InFit, TrainingData
from resrep_keras.optimizers.state import PruningState
from resrep_keras.optimizers.wrapper import find_wrapper
from resrep_keras.training.backup import Backup, seeds
from resrep_keras.training.early_removal.callback import EarlyRemoval
from resrep_keras.training.early_removal.slimming import (
    check_slimming,
    sample_inputs,
    slims,
    spec_of,
    zeros_like_spec,
)
from resrep_keras.training.own_methods import combine, find_class


@keras.saving.register_keras_serializable("resrep_keras")
class WrappedModel(keras.Model):
    """A Functional model with compactors that carries its pruning method.

    `compile` wraps the optimizer, and `fit` adds the method's callback; all else is Keras, or
    the `train_step` and the like of the dense model's own class. Made by `resrep_keras.wrap`.
    """

    call_follows_graph = True
    training_class = None  # whose training methods it has, if not those of Keras

    def __init__(self, inputs, outputs, name=None, **kwargs):
        self.method = kwargs.pop("method", None)
        baseline = kwargs.pop("baseline", None)
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        self._loss_spec, self._sample_inputs = lambda: None, None
        self._pruning_state = PruningState()  # which each compile() hands on
        # In functions: Keras would wrap attributes that are dicts.
        self._baseline = lambda: baseline
        self._settings = lambda: kwargs

    @property
    def baseline(self):
        """What `wrap` noted of the dense model, JSON values; see `Method.insert`."""
        return self._baseline()

    def compile(self, optimizer="rmsprop", *args, **kwargs):
        with replicas_of(self):
            optimizer = keras.optimizers.get(optimizer)
            _check_accumulation(self, optimizer)
            if find_wrapper(optimizer) is None:
                if hasattr(optimizer, "inner_optimizer"):  # a loss scale stays outside
                    inner = optimizer.inner_optimizer
                    optimizer.inner_optimizer = self.method.optimizer(inner, self)
                else:
                    optimizer = self.method.optimizer(optimizer, self)
        wrapper = find_wrapper(optimizer)
        if wrapper is not None:
            self._pruning_state = wrapper.share_state(self._pruning_state)
        # In a function: Keras would track what is in an attribute.
        self._compiled_with = lambda: (args, kwargs)
        super().compile(optimizer, *args, **kwargs)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)  # else loaded optimizer state is dropped

    def call(self, inputs, training=None, mask=None, **kwargs):
        outputs = None if self.method is None else self.method.forward(self, inputs, training)
        if outputs is None:
            return super().call(inputs, training=training, mask=mask, **kwargs)
        return outputs

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if slims(self.method):  # what a cut builds the metrics anew with
            spec = keras.tree.map_structure(spec_of, (y, y_pred, sample_weight))
            self._loss_spec = lambda: spec
        given = {"x": x, "y": y, "y_pred": y_pred, "sample_weight": sample_weight}
        compute = super().compute_loss
        if "training" in inspect.signature(compute).parameters:  # one's own may lack it
            given["training"] = training
        return compute(**given)

    def heir(self, model, baseline):
        """A wrapped model of the graph of `model`, in which fewer channels are left."""
        with deep_models():
            heir = type(self)(
                model.input,
                model.output,
                name=self.name,
                method=self.method,
                baseline=baseline,
                **self._settings(),
            )
        heir.dtype_policy = self.dtype_policy
        heir._loss_spec = self._loss_spec
        heir._sample_inputs = self._sample_inputs
        return heir

    def compile_like(self, model, optimizer):
        """Compile with what `model` was compiled with, but for the optimizer."""
        args, kwargs = model._compiled_with()
        self.compile(optimizer, *args, **kwargs)

    def build_metrics(self):
        """Make the variables of losses and metrics, which `fit` does once where it starts."""
        spec = self._loss_spec()
        if spec is not None:
            y, y_pred, sample_weight = keras.tree.map_structure(zeros_like_spec, spec)
            given = {"y": y, "y_pred": y_pred, "sample_weight": sample_weight}
            super().compute_loss(x=None, **given)
            self.compute_metrics(x=None, **given)
            self.reset_metrics()

    @property
    def in_fit(self):
        """Whether `fit` is running."""
        return self._sample_inputs is not None

    def sample_inputs(self):
        """Some inputs of the data that `fit` runs on, or `None`."""
        return self._sample_inputs() if self.in_fit else None

    def fit(self, *args, **kwargs):
        bound = inspect.signature(keras.Model.fit).bind(self, *args, **kwargs).arguments
        bound.pop("self")
        callbacks = bound.get("callbacks")
        in_list = isinstance(callbacks, keras.callbacks.CallbackList)
        if in_list:
            present = callbacks.callbacks
        else:
            present = keras.tree.flatten(callbacks) if callbacks else []
        present = self._with_own(present)
        if in_list:
            for callback in present:
                if callback not in callbacks.callbacks:
                    callbacks.append(callback)
        else:
            bound["callbacks"] = present
        if slims(self.method):
            check_slimming(self, present)
        backups = [callback for callback in present if isinstance(callback, Backup)]
        resumed = max((backup.epoch for backup in backups), default=0)
        bound["initial_epoch"] = resumed or bound.get("initial_epoch", 0)
        data = bound.get("x")
        told = [callback for callback in present if isinstance(callback, InFit)]
        data = TrainingData(bound.get("x"), bound.get("y"), bound.get("sample_weight"))
        for callback in told:
            callback.fit_call = FitCall(tuple(present), data)
        self._sample_inputs = lambda: sample_inputs(data.x)
        try:
            return super().fit(**bound)
        finally:
            self._sample_inputs = None
            for callback in told:
                callback.fit_call = None

    def _with_own(self, callbacks):
        """The callbacks and those of the method; a backup comes last, what runs behind it is lost."""
        own = self.method.callback()
        pruning = next((c for c in callbacks if isinstance(c, type(own))), own)
        first = [] if pruning in callbacks else [pruning]
        present = sorted([*first, *callbacks], key=lambda c: isinstance(c, Backup))
        if slims(self.method):
            present.insert(present.index(pruning) + 1, EarlyRemoval(self.method, pruning))
        return present

    def load_weights(self, filepath, *args, **kwargs):
        # A compiled optimizer has no state to load into before it is built.
        if self.compiled and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        super().load_weights(filepath, *args, **kwargs)

    def save_own_variables(self, store):
        super().save_own_variables(store)
        for number, seed in enumerate(seeds(self)):  # Keras leaves them out
            store[f"seed.{number}"] = seed

    def load_own_variables(self, store):
        own = seeds(self)
        if len(store.keys()) == len(own):  # weights may come from a model without dropout
            for number, seed in enumerate(own):
                seed.assign(store[f"seed.{number}"])

    def get_config(self):
        config = super().get_config()
        config["method"] = keras.saving.serialize_keras_object(self.method)
        config["baseline"] = self.baseline
        # By which compile() scales the loss; lost, the optimizer's saved state would not fit it.
        config["dtype_policy"] = keras.saving.serialize_keras_object(self.dtype_policy)
        if self.training_class is not None:
            config["training_class"] = keras.saving.get_registered_name(self.training_class)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        training_class = config.pop("training_class", None)
        if training_class is not None and cls.training_class is None:
            cls = combine(cls, find_class(training_class, custom_objects))
            return cls.from_config(config, custom_objects=custom_objects)
        policy = config.pop("dtype_policy", None)
        method = keras.saving.deserialize_keras_object(
            config.pop("method"), custom_objects=custom_objects
        )
        baseline = config.pop("baseline")
        with deep_models():
            model = super().from_config(config, custom_objects=custom_objects)
        model.method = method
        model._baseline = lambda: baseline
        if policy is not None:
            model.dtype_policy = keras.saving.deserialize_keras_object(policy)
        return model


def replicas_of(model):
    """Scope of the `tf.distribute` strategy that a model was made in; nothing on other backends."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def _check_accumulation(model, optimizer):
    """Keras's own error comes at the first step and speaks of control flow."""
    strategy = getattr(model, "distribute_strategy", None)
    replicas = getattr(strategy, "num_replicas_in_sync", 1)
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    steps = optimizer.gradient_accumulation_steps
    if replicas > 1 and steps:
        raise ValueError(
            f"Optimizer '{optimizer.name}' has gradient_accumulation_steps={steps}, which Keras "
            f"cannot do on {replicas} replicas of a tf.distribute strategy. Expected an optimizer "
            "without it: give each replica a larger batch, or train on one device."
        )
