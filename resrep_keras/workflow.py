"""wrap, the model that fit() runs on, and finalize."""

import contextlib
import dataclasses
import inspect
import warnings

import keras
import numpy as np

from resrep_keras.callbacks import PruningCallback, find_penalty_optimizer
from resrep_keras.checkpoints import Backup, seeds
from resrep_keras.costs.latency import to_tflite
from resrep_keras.graph.tape import deep_models
from resrep_keras.graph.trace import trace
from resrep_keras.graph.unroll import Functional, check_model
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.gated import Gated
from resrep_keras.methods.compaction import Compaction
from resrep_keras.methods.resrep import ResRep
from resrep_keras.slimming import (
    check_slimming,
    sample_inputs,
    slims,
    spec_of,
    zeros_like_spec,
)
from resrep_keras.surgery.fold import fold, insert_compactors
from resrep_keras.surgery.forward import example_inputs, play
from resrep_keras.surgery.remove import check_rules, narrow_dead
from resrep_keras.training import combine, find_class, own_hooks, settings_of, warn_of_lost

# Largest relative difference that passes as rounding, where layers compute in 32 bits or in 16.
TOLERANCE, HALF_TOLERANCE = 1e-3, 5e-2


@keras.saving.register_keras_serializable("resrep_keras")
class WrappedModel(keras.Model):
    """A Functional model with compactors that carries its pruning method.

    `compile` wraps the optimizer, and `fit` adds a `PruningCallback`; all else is Keras, or
    the `train_step` and the like of the dense model's own class. Made by `resrep_keras.wrap`.
    """

    training_class = None  # whose training methods it has, if not those of Keras

    def __init__(self, inputs, outputs, name=None, **kwargs):
        self.method = kwargs.pop("method", None)
        baseline = kwargs.pop("baseline", None)
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        self._loss_spec, self._sample_inputs = lambda: None, None
        # In a function: Keras would wrap an attribute that is a dict.
        self._baseline = lambda: baseline

    @property
    def baseline(self):
        """What `wrap` noted of the dense model, JSON values; see `Method.baseline`."""
        return self._baseline()

    def compile(self, optimizer="rmsprop", *args, **kwargs):
        with _replicas_of(self):
            optimizer = keras.optimizers.get(optimizer)
            _check_accumulation(self, optimizer)
            if find_penalty_optimizer(optimizer) is None:
                if hasattr(optimizer, "inner_optimizer"):  # a loss scale stays outside
                    optimizer.inner_optimizer = self.method.optimizer(optimizer.inner_optimizer)
                else:
                    optimizer = self.method.optimizer(optimizer)
        # In a function: Keras would track what is in an attribute.
        self._compiled_with = lambda: (args, kwargs)
        super().compile(optimizer, *args, **kwargs)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)  # else loaded optimizer state is dropped

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
                model.input, model.output, name=self.name, method=self.method, baseline=baseline
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
        if isinstance(callbacks, keras.callbacks.CallbackList):
            present = callbacks.callbacks
        else:
            present = keras.tree.flatten(callbacks) if callbacks else []
        pruning = next((c for c in present if isinstance(c, PruningCallback)), None)
        if pruning is None:
            pruning = PruningCallback()
            if isinstance(callbacks, keras.callbacks.CallbackList):
                callbacks.append(pruning)
            else:
                present = [pruning, *present]
        backups = [callback for callback in present if isinstance(callback, Backup)]
        for callback in (pruning, *backups):
            callback.others = tuple(present)
        resumed = max((backup.epoch for backup in backups), default=0)
        bound["initial_epoch"] = resumed or bound.get("initial_epoch", 0)
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            # A backup comes last: what runs behind it would be lost.
            bound["callbacks"] = sorted(present, key=lambda c: isinstance(c, Backup))
        if slims(self.method):
            check_slimming(self, present)
        data = bound.get("x")
        self._sample_inputs = lambda: sample_inputs(data)
        try:
            return super().fit(**bound)
        finally:
            self._sample_inputs = None

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


@dataclasses.dataclass(frozen=True)
class Certificate:
    """How far the slim model's outputs are from the wrapped model's, on the same inputs.

    Args:
        max_absolute: Largest absolute difference of any output value, on random inputs.
        max_relative: The same as a share of the largest absolute output value.
        macs_dense: MACs before.
        macs_slim: MACs after.
        macs_left: Their ratio.
        data_max_absolute, data_max_relative: The differences on the data given to `finalize`, or
            `None`.
        limits: Triples `(quantity, value of the slim model, largest value allowed)`. The bytes of the
            file are those of the converted model, a latency is predicted.
        inexact: Pairs `(layer name, reason)` of the groups that lost channels though that changes
            outputs; empty unless the method was made with `exact=False`.
    """

    max_absolute: float
    max_relative: float
    macs_dense: int
    macs_slim: int
    macs_left: float
    data_max_absolute: float | None = None
    data_max_relative: float | None = None
    limits: tuple = ()
    inexact: tuple = ()


def wrap(model, method=None):
    """Copy a model with compactors, ready to be trained and pruned at once.

    The copy computes the same outputs. Where `model` is compiled, the copy is compiled alike, with
    the optimizer wrapped; compile it with any Keras optimizer otherwise, and call `fit`. A
    `train_step` or `compute_loss` of the model's own class is kept where that class is made from
    `(inputs, outputs)`, with what its `get_config` says; a warning tells where it is not.

    Args:
        model: Built Functional or Sequential `keras.Model`; it is left as it is. The copy is made
            in the same `tf.distribute` strategy.
        method: A method such as `ResRep(...)`. Defaults to `ResRep()`, which removes half of the
            MACs.

    Returns:
        A `keras.Model`.

    Raises:
        TypeError: `model` is not a Keras model, or `method` not a method.
        ValueError: The model is wrapped already, has no graph or nothing to prune, or the target is
            out of reach; the text names the largest that is not.

    Example:

    >>> model = resrep_keras.wrap(dense)
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> history = model.fit(x, y, epochs=20)
    >>> slim = resrep_keras.finalize(model)
    """
    method = ResRep() if method is None else method
    if not hasattr(method, "prepare"):
        raise TypeError(
            f"Expected a pruning method such as resrep_keras.ResRep(target_reduction=0.5); got "
            f"{method!r} of type {type(method).__name__}."
        )
    graph = trace(model, method.input_shape, method.exact)
    if any(isinstance(call.operation, (Compactor, Gated)) for call in graph.calls):
        raise ValueError(
            f"Model '{model.name}' is wrapped already: it has compactors. Train it, or finalize it "
            "before wrapping it again."
        )
    sites, diagonal = method.prepare(graph)
    check_rules(graph, method.groups(graph))
    with _replicas_of(model):
        copy = insert_compactors(model, sites, diagonal)
        compaction = Compaction(copy, method.input_shape, method.exact)
        compaction.baseline = method.baseline(model, compaction)
        method.check_target(compaction)
        kind, settings = _kind_of_wrapped(model)
        with deep_models():
            wrapped = kind(
                copy.input,
                copy.output,
                name=model.name,
                method=method,
                baseline=compaction.baseline,
                **settings,
            )
        wrapped.dtype_policy = model.dtype_policy  # by which compile() scales the loss
        if model.compiled:
            compile_alike(model, wrapped)
    return wrapped


def _kind_of_wrapped(model):
    """The class of the wrapped model, and what its constructor takes from the dense one."""
    hooks = own_hooks(type(model))
    settings = settings_of(model) if hooks and isinstance(model, Functional) else None
    if settings is not None:
        return combine(WrappedModel, type(model)), settings
    if hooks:
        warn_of_lost(model, hooks)
    return WrappedModel, {}


def _replicas_of(model):
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


def compile_alike(model, wrapped):
    """Compile a copy of a model as the model itself is compiled, with an optimizer of its own."""
    functions = {
        value.__name__: value
        for value in keras.tree.flatten(model.loss)
        if inspect.isfunction(value)
    }
    try:
        with keras.saving.custom_object_scope(functions):
            wrapped.compile_from_config(model.get_compile_config())
    except Exception as error:  # whatever a user's own objects raise
        warnings.warn(
            f"Model '{model.name}' is compiled with objects that cannot be copied ({error}); call "
            "compile() on the wrapped model.",
            stacklevel=3,
        )


def finalize(model, strict=False, data=None):
    """Remove the dead channels of a trained wrapped model.

    A channel is dead where its compactor column is zero, or masked and below the method's
    threshold, however it came to be so. Compactors are folded into the layers before them.

    Args:
        model: A model made by `wrap`; it is left as it is.
        strict: Whether to raise where this function warns. Defaults to `False`.
        data: Inputs to compare both models on beside random ones: arrays in the structure that the
            model is called with, the batch first. Defaults to none.

    Returns:
        A plain Functional `keras.Model` with the layer names of the dense model, which can be
        compiled, trained, saved, and loaded without this package. Its attribute `certificate` is a
        `Certificate`: how far its outputs are from those of `model`.

    Raises:
        TypeError: Not a Keras model.
        ValueError: A model without compactors; with `strict`, a target that is not met, a masked
            channel above the threshold, or outputs that differ.

    Example:

    >>> slim = resrep_keras.finalize(model, data=x_val[:100])
    >>> slim.certificate.data_max_relative < 1e-4
    True
    """
    check_model(model)
    method = getattr(model, "method", None)
    exact = getattr(method, "exact", True)
    compaction = Compaction(model, getattr(method, "input_shape", None), exact)
    if compaction.baseline is None and method is not None:
        compaction.baseline = method.baseline(model, compaction)
    dead = compaction.dead(method.threshold if method else ResRep.threshold)
    keep = compaction.graph.keep_by_producer(~dead)
    slim = narrow_dead(fold(model, compaction.dead_columns(dead)), keep, exact)
    limits = [] if method is None else method.limits(compaction)
    values = [_value(limit, slim, ~dead) for limit in limits]
    certificate = _certify(model, slim, compaction, dead, data)
    certificate = dataclasses.replace(
        certificate,
        limits=tuple((limit.name, value, limit.at_most) for limit, value in zip(limits, values)),
    )
    half = any(layer.compute_dtype in ("float16", "bfloat16") for layer in model.layers)
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    tolerance = float("inf") if certificate.inexact else tolerance
    complaints = [
        *_above_threshold(compaction, dead),
        *_missed(limits, values),
        *_differing(certificate, tolerance),
    ]
    for complaint in complaints:
        if strict:
            raise ValueError(complaint)
        warnings.warn(complaint, stacklevel=2)
    slim.certificate = certificate
    return slim


def _certify(model, slim, compaction, dead, data):
    shape = None if compaction.input_shape is None else tuple(compaction.input_shape)
    absolute, relative = _differences(model, slim, example_inputs(model, input_shape=shape))
    on_data = (None, None) if data is None else _differences(model, slim, data)
    cost = compaction.cost()
    dense = cost() if compaction.baseline is None else compaction.baseline["dense"]["macs"]
    return Certificate(
        max_absolute=absolute,
        max_relative=relative,
        macs_dense=dense,
        macs_slim=cost(~dead),
        macs_left=cost(~dead) / max(1, dense),
        data_max_absolute=on_data[0],
        data_max_relative=on_data[1],
        inexact=tuple(
            (group.name, group.inexact)
            for group in compaction.groups
            if group.inexact and dead[group.channels].any()
        ),
    )


def _differences(model, slim, inputs):
    """Largest absolute difference, and largest as a share of the output it belongs to."""
    pairs = list(zip(*(keras.tree.flatten(play(m, inputs)) for m in (model, slim))))
    absolute = [float(np.abs(a - b).max()) for a, b in pairs]
    scale = [max(float(np.abs(a).max()), 1e-12) for a, _ in pairs]
    return max(absolute), max(d / s for d, s in zip(absolute, scale))


def _value(limit, slim, kept):
    """What the slim model has of a limited quantity; the file is converted, not predicted."""
    return len(to_tflite(slim)) if limit.name == "file_bytes" else limit.cost(kept)


def _above_threshold(compaction, dead):
    norms = compaction.norms()
    masked = ~compaction.kept() & ~dead & (norms > 0)  # a layer keeps one channel, be it zero
    if masked.any():
        worst = norms[masked].max()
        yield (
            f"{int(masked.sum())} masked channels are still above the threshold (largest norm "
            f"{worst:.2g}) and were kept. Train to the end of the planned run before finalize()."
        )


def _missed(limits, values):
    missed = []
    for limit, value in zip(limits, values):
        if value <= limit.at_most:
            continue
        share = 1 - limit.at_most / limit.dense
        missed.append(
            f"target_reduction={share:.4g} of {limit.name}, but {1 - value / limit.dense:.4f} of the "
            f"{limit.cost.unit} are removed"
            if limit.relative
            else f"at_most['{limit.name}']={limit.at_most:,}, but the slim model has {value:,.6g}"
        )
    if missed:
        yield (
            f"The target is not met: {'; '.join(missed)}. Train for the whole run that "
            "fit() was started with; early stopping and the restoring of best weights bring the "
            "unpruned model back."
        )


def _differing(certificate, tolerance):
    for difference in (certificate.max_relative, certificate.data_max_relative or 0.0):
        if not difference <= tolerance:  # NaN fails, too
            yield f"Slim and wrapped model differ by {difference:.2g} of the largest output."
