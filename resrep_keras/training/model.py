"""WrappedModel: the model that fit() runs on."""

import dataclasses
import inspect
import json
import pathlib
import tempfile
import warnings

import keras
import numpy as np

from resrep_keras.common.untracked import Untracked
from resrep_keras.keras_adapter import (
    deep_models,
    number_of_replicas,
    strategy_scope,
    training_class,
    wrapped_optimizer,
    writes_older_format,
)
from resrep_keras.layers.around import warn_of_model_around
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.gated import Gated
from resrep_keras.methods.callback import TrainingData, told_of_fit
from resrep_keras.methods.pruning_log import PruningLog, keep_log, log_of
from resrep_keras.methods.wrapped import baseline_of, method_of, notes_of
from resrep_keras.optimizers.state import PruningState
from resrep_keras.optimizers.wrapper import find_wrapper
from resrep_keras.training.backup import Backup, seeds
from resrep_keras.training.distillation import Distillation, Distilled, taught_by
from resrep_keras.training.early_removal.member import EarlyRemoval
from resrep_keras.training.given_callbacks import callbacks_of, with_callbacks
from resrep_keras.training.own_methods import find_class

REMEMBERED = "pruning."  # before the names of what the method remembers, in files
LOG = "log"


@keras.saving.register_keras_serializable("resrep_keras")
class WrappedModel(keras.Model):
    """A Functional model with compactors that carries its pruning method.

    `compile` wraps the optimizer, and `fit` adds the method's callback; all else is Keras, or
    the `train_step` and the like of the dense model's own class. Made by `resrep_keras.wrap`.

    Args:
        *args, **kwargs: Inputs, outputs and name, as `keras.Model` takes them, and by their names
            what the constructor of the dense model's own class takes.
        method: The method.
        baseline: The `Baseline`: what the method noted of the dense model.
        distillation: A `Distillation` whose teacher is to be set, see `set_teacher`.
    """

    call_follows_graph = True
    training_class = None  # whose training methods it has, if not those of Keras

    # The names by which each version of Keras tells that a model may be saved with its graph.
    def __init__(self, *args, baseline=None, distillation=None, **kwargs):
        if "method" not in kwargs:  # only Keras makes such a call, to clone a model
            raise ValueError(
                "A wrapped model cannot be cloned by keras.models.clone_model, which hands on no "
                "pruning method. Wrap the dense model again, and set_weights(); or use "
                "type(model).from_config(model.get_config())."
            )
        self.method = method = kwargs.pop("method")
        self.baseline = baseline
        self.distilled = Untracked(None if distillation is None else Distilled(distillation))
        self._pruning_state = PruningState()  # which each compile() hands on
        removes_early = method is not None and method.slim_every is not None
        settings = {name: kwargs[name] for name in kwargs.keys() - {"inputs", "outputs", "name"}}
        self.early_removal = EarlyRemoval(settings) if removes_early else None
        super().__init__(*args, **kwargs)

    def call(self, inputs, training=None, mask=None, **kwargs):
        if training is True:
            self._warn_inside_another()
        outputs = None if self.method is None else self.method.forward(self, inputs, training)
        if outputs is None:
            return super().call(inputs, training=training, mask=mask, **kwargs)
        return outputs

    def _warn_inside_another(self):
        """Tell, once, of a model around this one that trains it with an optimizer of its own."""
        if self.method is None or not self.method.trains:
            return  # what this method does is in its layers
        if self.trainable_variables:
            warn_of_model_around(f"Model '{self.name}'", "wrapped.method.callback()")

    # Training ---------------------------------------------------------------------------------

    def compile(self, optimizer="rmsprop", *args, **kwargs):
        if self.early_removal is not None:
            self.early_removal.note_compile(args, kwargs)
        with strategy_scope(self):
            optimizer = self._with_pruning(keras.optimizers.get(optimizer))
        super().compile(optimizer, *args, **kwargs)

    def _with_pruning(self, optimizer):
        """The optimizer with that of the method in it, on the state of the model."""
        _check_accumulation(self, optimizer)
        inner = wrapped_optimizer(optimizer)
        if find_wrapper(optimizer) is None and inner is None:
            optimizer = self.method.optimizer(optimizer, self)
        elif find_wrapper(optimizer) is None:  # a loss scale stays outside
            optimizer.inner_optimizer = self.method.optimizer(inner, self)
        wrapper = find_wrapper(optimizer)
        if wrapper is not None:
            self._pruning_state = wrapper.share_state(self._pruning_state)
        return optimizer

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if self.early_removal is not None:
            self.early_removal.note_loss(y, y_pred, sample_weight)
        given = {"x": x, "y": y, "y_pred": y_pred, "sample_weight": sample_weight}
        compute = super().compute_loss
        own = {}
        if "training" in inspect.signature(compute).parameters:  # one's own may lack it
            own["training"] = training
        loss, distilled = compute(**given, **own), self.distilled.value
        if distilled is None or not training:
            return loss
        del given["y"]
        return loss + keras.ops.cast(distilled.loss(self, **given), loss.dtype)

    def set_teacher(self, teacher):
        """Learn from the outputs of a teacher from now on, as `wrap(..., teacher=...)` does.

        For a model that was loaded, whose file holds no teacher, or to go on without one.

        Args:
            teacher: A trained `keras.Model`, which is then learnt from as before, a `Distillation`,
                or `None`.

        Raises:
            TypeError, ValueError: A teacher that does not fit the model.
        """
        before = self.distilled.value
        if before is not None and isinstance(teacher, keras.Model):
            teacher = dataclasses.replace(before.settings, teacher=teacher)
        self.distilled.value = None if teacher is None else taught_by(self, teacher)
        self.train_function = None  # which may have been traced with another one

    def fit(self, *args, **kwargs):
        if self.distilled.value is not None:
            self.distilled.value.check(self.name)
        bound = inspect.signature(keras.Model.fit).bind(self, *args, **kwargs).arguments
        bound.pop("self")
        given = bound.get("callbacks")
        callbacks = self._with_own(callbacks_of(given))
        bound["callbacks"] = with_callbacks(given, callbacks)
        backups = [callback for callback in callbacks if isinstance(callback, Backup)]
        resumed = max((backup.epoch for backup in backups), default=0)
        bound["initial_epoch"] = resumed or bound.get("initial_epoch", 0)
        data = TrainingData(bound.get("x"), bound.get("y"), bound.get("sample_weight"))
        validates = bound.get("validation_data") is not None or bound.get("validation_split")
        with told_of_fit(callbacks, data, bool(validates)):
            history = super().fit(**bound)
        if self.distilled.value is not None:
            self.distilled.value.warn_unless_asked(self)
        return history

    def make_train_function(self, force=False):
        return super().make_train_function(force or self._has_changed("train"))

    def make_test_function(self, force=False):
        return super().make_test_function(force or self._has_changed("test"))

    def make_predict_function(self, force=False):
        return super().make_predict_function(force or self._has_changed("predict"))

    def _has_changed(self, kind):
        """Whether calls of the model do something else since such a function was made."""
        made = notes_of(self).setdefault("phases", {})
        now = None if self.method is None else self.method.phase(self)
        before, made[kind] = made.get(kind, now), now
        return before != now

    def _with_own(self, callbacks):
        """The callbacks and those of the method; a backup comes last: what is behind it is lost."""
        own = self.method.callback()
        pruning = next((c for c in callbacks if isinstance(c, type(own))), None)
        if pruning is None:
            pruning, callbacks = own, [own, *callbacks]
        callbacks = sorted(callbacks, key=lambda callback: isinstance(callback, Backup))
        if self.early_removal is not None:
            callbacks = self.early_removal.join(self, callbacks, pruning)
        return callbacks

    # Saving -----------------------------------------------------------------------------------

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)  # else loaded optimizer state is dropped

    def get_compile_config(self):
        config = super().get_compile_config()
        if config and self.optimizer is not None and "optimizer" not in config:
            # Keras takes it out of what was compiled where it writes a file of the older format.
            config["optimizer"] = keras.saving.serialize_keras_object(self.optimizer)
        return config

    def export(self, filepath, *args, **kwargs):
        if any(isinstance(each, (Compactor, Gated)) for each in self.layers):
            warnings.warn(
                f"Model '{self.name}' is exported with its compactors and all of its channels, so "
                "that nothing gets smaller. Export what resrep_keras.finalize(model) returns.",
                stacklevel=2,
            )
        return super().export(filepath, *args, **kwargs)

    def quantize(self, *args, **kwargs):
        raise ValueError(
            f"Model '{self.name}' is wrapped, and trained in floats. Quantize what "
            "resrep_keras.finalize(model) returns."
        )

    def __reduce__(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.keras"
            self.save(path)
            return _unpickled, (self.training_class, path.read_bytes())

    def __deepcopy__(self, memo):
        function, arguments = self.__reduce__()
        memo[id(self)] = copy = function(*arguments)
        if self.distilled.value is not None:  # no part of the model, and so not copied
            copy.set_teacher(self.distilled.value.settings)
        return copy

    def save_own_variables(self, store):
        super().save_own_variables(store)
        for number, seed in enumerate(seeds(self)):  # Keras leaves them out
            store[f"seed.{number}"] = seed
        for name, value in self._pruning_state.values().items():
            store[REMEMBERED + name.replace("/", "|")] = value
        log = log_of(self)
        if log is not None:
            store[LOG] = np.frombuffer(json.dumps(log.to_dict()).encode(), np.uint8)

    def load_own_variables(self, store):
        # Before the optimizer is: one that is not built has no state to load into.
        if self.compiled and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        own, keys = seeds(self), list(store.keys())
        if sum(key.startswith("seed.") for key in keys) == len(own):  # else of another model
            for number, seed in enumerate(own):
                seed.assign(store[f"seed.{number}"])
        kept = [key for key in keys if key.startswith(REMEMBERED)]
        names = [key.removeprefix(REMEMBERED).replace("|", "/") for key in kept]
        self._pruning_state.load({n: np.array(store[key]) for n, key in zip(names, kept)})
        told = np.array(store[LOG]).tobytes().decode() if LOG in keys else None
        keep_log(self, None if told is None else PruningLog.from_dict(json.loads(told)))

    def get_config(self):
        if writes_older_format() and self._pruning_state.values():
            warnings.warn(
                f"A file in the older format (.h5) of model '{self.name}' does not hold what the "
                "pruning run remembers (its plan, its step, what it has measured): a model that is "
                "loaded from it begins a new run. Save it as .keras.",
                stacklevel=2,
            )
        config = super().get_config()
        config["method"] = keras.saving.serialize_keras_object(self.method)
        config["baseline"] = keras.saving.serialize_keras_object(self.baseline)
        if self.distilled.value is not None:
            config["distillation"] = self.distilled.value.settings.get_config()
        # By which compile() scales the loss; lost, the optimizer's saved state would not fit it.
        config["dtype_policy"] = keras.saving.serialize_keras_object(self.dtype_policy)
        if self.training_class is not None:
            config["training_class"] = keras.saving.get_registered_name(self.training_class)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        kind = config.pop("training_class", None)
        if kind is not None and cls.training_class is None:
            cls = training_class(cls, find_class(kind, custom_objects))
            return cls.from_config(config, custom_objects=custom_objects)
        policy = config.pop("dtype_policy", None)
        if "distillation" in config:
            settings = config["distillation"]
            config["distillation"] = Distillation.from_config(settings, custom_objects)
        config["method"] = keras.saving.deserialize_keras_object(
            config["method"], custom_objects=custom_objects
        )
        config["baseline"] = keras.saving.deserialize_keras_object(config["baseline"])
        with deep_models():
            model = super().from_config(config, custom_objects=custom_objects)
        if policy is not None:
            model.dtype_policy = keras.saving.deserialize_keras_object(policy)
        return model


# A file of the older format, `.h5`, names the class of a model without its package.
keras.saving.get_custom_objects()[WrappedModel.__name__] = WrappedModel


def _unpickled(kind, content):
    """The model of a `.keras` file, whose dense model's class was `kind`; pickles are not safe."""
    names = {} if kind is None else {keras.saving.get_registered_name(kind): kind}
    with tempfile.TemporaryDirectory() as folder, keras.saving.custom_object_scope(names):
        path = pathlib.Path(folder) / "model.keras"
        path.write_bytes(content)
        return keras.saving.load_model(path, safe_mode=False)


@method_of.register
def _method(model: WrappedModel):
    return model.method


@baseline_of.register
def _baseline(model: WrappedModel):
    return model.baseline


def _check_accumulation(model, optimizer):
    """Keras's own error comes at the first step and speaks of control flow."""
    while wrapped_optimizer(optimizer) is not None:
        optimizer = wrapped_optimizer(optimizer)
    steps, replicas = optimizer.gradient_accumulation_steps, number_of_replicas(model)
    if replicas > 1 and steps:
        raise ValueError(
            f"Optimizer '{optimizer.name}' has gradient_accumulation_steps={steps}, which Keras "
            f"cannot do on {replicas} replicas of a tf.distribute strategy. Expected an optimizer "
            "without it: give each replica a larger batch, or train on one device."
        )
