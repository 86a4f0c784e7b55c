"""Everything that knows how Keras is built: what it does not export, or has in some versions only.

Nothing is built when this module is imported: no model, layer or symbolic tensor, so that Keras's
automatic names are those of a program that does not import the library.
"""

import collections
import contextlib
import functools
import inspect
import sys

import keras
from keras.src.backend.common import global_state
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask  # noqa: F401
from keras.src.layers.layer import CallContext
from keras.src.models.functional import Functional
from keras.src.saving import serialization_lib

# --- classes ---------------------------------------------------------------------------------


def is_functional(model):
    """Whether a model was made from `(inputs, outputs)`; a Sequential model was not."""
    return isinstance(model, Functional)


def is_layer(operation):
    """Whether an operation is a layer, and no raw operation of `keras.ops`."""
    return isinstance(operation, keras.layers.Layer)


def layer_classes(*names):
    """Those of the classes in `keras.layers` that this version of Keras has."""
    return _present(_exported(keras.layers, name) for name in names)


def operation_class(name):
    """The operation class behind a function of `keras.ops`, which Keras does not export.

    Args:
        name: Name of the function, such as `"add"` or `"image.resize"`; of `keras.activations` in
            the form `"activations.relu"`.

    Raises:
        ValueError: This version of Keras has no such function, or no class behind it.
    """
    kind = _operation(name)
    if kind is None:
        words = f"Keras {keras.__version__} does not have an operation behind keras.ops.{name}"
        raise ValueError(f"{words}; use another version.")
    return kind


def operation_classes(*names):
    """Those of the operation classes that this version of Keras has."""
    return _present(_operation(name) for name in names)


def application_classes(builder, *names):
    """Layer classes that stand beside a builder of `keras.applications` and are not exported.

    Args:
        builder: The function that builds the application.
        *names: Names of classes; those that this version of Keras lacks are left out.
    """
    return _present(_exported(_module_of(builder), name) for name in names)


def _exported(module, name):
    for part in name.split("."):
        module = getattr(module, part, None)
    return module


def _module_of(function):
    return sys.modules[function.__module__]


def _operation(name):
    inside = keras if name.startswith("activations.") else keras.ops
    function = _exported(inside, name)
    if function is None:
        return None
    # `expand_dims` is of `ExpandDims`, `batch_normalization` of `BatchNorm`, `abs` of `absolute`.
    short = name.rpartition(".")[2].replace("_", "")
    short = {"abs": "absolute"}.get(short, short.replace("normalization", "norm"))
    for key, value in vars(_module_of(function)).items():
        if key.lower() == short and inspect.isclass(value) and issubclass(value, keras.Operation):
            return value
    return None


def _present(kinds):
    return tuple(kind for kind in kinds if kind is not None)


# --- layers and operations -------------------------------------------------------------------


def weights_of_operation(operation):
    """The weights of a layer; `()` for a raw operation, which has none."""
    return operation.weights if is_layer(operation) else ()


def activation_setting(layer):
    """The function in the attribute `activation` of a layer; `None` where it has none."""
    return getattr(layer, "activation", None)


def activity_setting(operation):
    """What a layer adds to the loss for its outputs, or `None`; `None` of a raw operation too."""
    return operation.activity_regularizer if is_layer(operation) else None


def is_frozen(operation):
    """Whether any of the weights that a layer would train stays as it is (`trainable=False`)."""
    if not is_layer(operation):
        return False
    return any(
        (not layer.trainable and bool(layer.weights))
        or not all(variable.trainable for variable in layer._trainable_variables)
        for layer in operation._flatten_layers()
    )


def has_state(operation):
    """Whether a call of a layer may change variables: statistics, seeds; not what is frozen."""
    parts = operation._flatten_layers() if is_layer(operation) else ()
    return any(part._non_trainable_variables or part._seed_generators for part in parts)


def is_array(value):
    """Whether a value is a tensor, symbolic or not, a variable or a NumPy array."""
    return hasattr(value, "shape")


def data_format(layer):
    """`"channels_first"` or `"channels_last"`, which a layer without that setting means."""
    return getattr(layer, "data_format", None) or "channels_last"


def is_variable(value):
    return isinstance(value, keras.Variable)


def global_random_state():
    """The variable of Keras's own random generator, in a list; it is made at its first use."""
    generator = global_state.get_global_attribute("global_seed_generator")
    return [] if generator is None else [generator.state]


def exchange_random_generator(generator):
    """Make this one Keras's own random generator; returns the one before, `None` for none."""
    before = global_state.get_global_attribute("global_seed_generator")
    global_state.set_global_attribute("global_seed_generator", generator)
    return before


@contextlib.contextmanager
def called_from(layer, training):
    """While it lasts, layers are told whether they train as inside of a call of `layer`."""
    before = global_state.get_global_attribute("current_call_ctx")
    context = CallContext(entry_layer=layer)
    context.training = training
    global_state.set_global_attribute("current_call_ctx", context)
    try:
        yield
    finally:
        global_state.set_global_attribute("current_call_ctx", before)


def call_with_values(function, values, *args, **kwargs):
    """Call a layer or function while variables have other values; no variable is changed.

    These `values` are pairs `(variable, value)`. Returned are the outputs, and such pairs of those
    variables that the call would have assigned another value, such as the state of generators.
    """
    return _call_in_scope(function, values, False, args, kwargs)[:2]


def call_with_losses(layer, values, *args, **kwargs):
    """What `call_with_values` returns for a layer, and the losses that the call would add."""
    return _call_in_scope(layer, values, True, args, kwargs)


def _call_in_scope(function, values, collect_losses, args, kwargs):
    with keras.StatelessScope(list(values), collect_losses=collect_losses) as scope:
        before = [(variable, scope.get_current_value(variable)) for variable, _ in values]
        outputs = function(*args, **kwargs)
        after = [scope.get_current_value(variable) for variable, _ in before]
        losses = list(scope.losses)
        if collect_losses:  # who asked has them now: the layer must not count them once more
            function._clear_losses()
    changes = [(v, new) for (v, old), new in zip(before, after) if new is not old]
    return outputs, changes, losses


def variables_asked(function, *args, **kwargs):
    """The ids of the variables whose values a call of a function asks for."""
    asked = set()
    with keras.StatelessScope() as scope:
        known = scope.get_current_value
        scope.get_current_value = lambda variable: asked.add(id(variable)) or known(variable)
        function(*args, **kwargs)
    return asked


# --- inputs ----------------------------------------------------------------------------------


def input_name(tensor):
    """The name of the input layer that a symbolic tensor comes from; else the tensor's own."""
    layer = _input_layer(tensor)
    return tensor.name if layer is None else layer.name


def is_optional(tensor):
    """Whether a symbolic tensor is an input that may be `None`."""
    layer = _input_layer(tensor)
    return layer is not None and layer.optional


def input_like(tensor, shape=None):
    """A fresh input with the flags, the dtype and both names (layer's, tensor's) of a tensor."""
    fresh = keras.KerasTensor(
        tensor.shape if shape is None else shape,
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        ragged=tensor.ragged,
        ragged_rank=tensor.ragged_rank,
        row_splits_dtype=tensor.row_splits_dtype,
        name=tensor.name,
    )
    flags = {"ragged": tensor.ragged, "optional": is_optional(tensor)}
    return keras.Input(tensor=fresh, name=input_name(tensor), **flags)


def _input_layer(tensor):
    history = getattr(tensor, "_keras_history", None)
    layer = None if history is None else history.operation
    return layer if isinstance(layer, keras.layers.InputLayer) else None


@contextlib.contextmanager
def automatic_names_kept():
    """Let what is made inside count nothing for the names that Keras gives by itself.

    Else the name of a model's next unnamed layer or input would tell how often it was looked at.
    """
    counts = global_state.get_global_attribute(
        "object_name_uids", default=collections.defaultdict(int), set_to_default=True
    )
    before = dict(counts)
    try:
        yield
    finally:
        counts.clear()
        counts.update(before)


@contextlib.contextmanager
def shared_copies(copies):
    """While it lasts, the configuration of a layer makes its copy, of ``{id of a layer: copy}``."""
    with serialization_lib.ObjectSharingScope():
        global_state.get_global_attribute("shared_objects/id_to_obj_map").update(copies)
        seen = global_state.get_global_attribute("shared_objects/id_to_config_map")
        seen.update({key: {} for key in copies})
        yield


# --- models ----------------------------------------------------------------------------------


@contextlib.contextmanager
def deep_models(limit=20_000):
    """Let Keras, which maps a graph by recursion, take a model of thousands of layers in a row."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, limit))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def become(model, other):
    """Let `model` be the same as `other` from now on, so that whoever holds it goes on with it.

    What the user or a callback has put on `model` stays there.
    """
    kept = {
        name: value
        for name, value in vars(model).items()
        if name not in vars(other) and not name.startswith("_")
    }
    object.__setattr__(model, "__dict__", vars(other))
    for name, value in kept.items():
        setattr(model, name, value)


def freeze_alone(model):
    """Set `trainable=False` on a model whose layers keep the flags that they have."""
    model._trainable = False


def writes_older_format():
    """Whether Keras is writing a file of the older format, `.h5`, now."""
    return bool(global_state.get_global_attribute("use_legacy_config"))


@functools.cache
def training_class(wrapped, kind):
    """A class that prunes like `wrapped`, and trains like `kind`, a class of Functional models."""
    combined = type(f"{wrapped.__name__}{kind.__name__}", (wrapped, kind), {"training_class": kind})
    # It is saved as the class of wrapped models, whose from_config combines both again.
    for each in (combined, wrapped):
        keras.saving.register_keras_serializable("resrep_keras", name=wrapped.__name__)(each)
    return combined


def compile_arguments(model):
    """What a model was compiled with, by the names of arguments of `compile`."""
    return dict(model._compile_config.config)


# --- training --------------------------------------------------------------------------------


def trains_on_copies(model):
    """Whether `fit` trains on copies of the variables, which are there before it starts (JAX)."""
    return hasattr(model, "jax_state_sync")


def sync_state(model):
    """Write what `fit` has trained so far into the variables, where it trains on copies."""
    if trains_on_copies(model):
        model.jax_state_sync()


def outermost_training():
    """The layer or model whose call, in training, is running now; `None` where none is."""
    context = global_state.get_global_attribute("current_call_ctx")
    trains = context is not None and vars(context).get("training") is True
    return context.entry_layer if trains else None


def _strategy_of(value):
    """The `tf.distribute` strategy of a model or backend tensor; `None` on other backends."""
    return getattr(value, "distribute_strategy", None)


def number_of_replicas(value):
    """On how many replicas of a `tf.distribute` strategy a model or backend tensor lives."""
    strategy = _strategy_of(value)
    return 1 if strategy is None else strategy.num_replicas_in_sync


def place_of_variable(optimizer, variable):
    """The position of a variable, or its copy on a replica, in what an optimizer is built for."""
    try:
        return optimizer._get_variable_index(variable)
    except KeyError as error:
        raise ValueError(
            f"Optimizer '{optimizer.name}' was not built for variable '{variable.path}', which was "
            "frozen then. Set trainable=True, and compile the model again."
        ) from error


def strategy_scope(model):
    """The scope of the strategy that a model was made in; one that does nothing without."""
    strategy = _strategy_of(model)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def wrapped_optimizer(optimizer):
    """The optimizer inside a `LossScaleOptimizer` or another one of its kind, or `None`."""
    return getattr(optimizer, "inner_optimizer", None)


def chooses_by_function(optimizer):
    """Whether a `MultiOptimizer` gets its optimizers from a function: they are not known."""
    return getattr(optimizer, "optimizers", None) == []


def parts_of_optimizer(optimizer):
    """The optimizers of a `MultiOptimizer`, or the one that is given."""
    return getattr(optimizer, "optimizers", None) or [optimizer]


def rate_function(optimizer):
    """The schedule or function that tells an optimizer its learning rate; `None` for a number."""
    rate = getattr(optimizer, "_learning_rate", None)
    return rate if callable(rate) else None


def decay_exclusions(optimizer, variables):
    """What `exclude_from_weight_decay` was given: which of `variables`, and a pattern or `None`."""
    keys = getattr(optimizer, "_exclude_from_weight_decay", ())
    listed = [variable for variable in variables if optimizer._var_key(variable) in keys]
    return listed, getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
