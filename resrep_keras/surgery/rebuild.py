"""Rebuild a model with some of its layers changed, left out or followed by others."""

import functools
import inspect
import warnings

import keras

from resrep_keras.graph.inheritance import changed_on_object
from resrep_keras.graph.recording import is_symbolic, symbolic_tensors
from resrep_keras.graph.unroll import is_graph
from resrep_keras.keras_adapter import (
    automatic_names_kept,
    deep_models,
    freeze_alone,
    input_like,
    is_layer,
    weights_of_operation,
)
from resrep_keras.surgery.held import of_keras, settings_that_differ
from resrep_keras.surgery.layer_state import (
    PostponedInitializers,
    copy_adapted_state,
    copy_state,
)
from resrep_keras.surgery.own_objects import own_objects
from resrep_keras.surgery.twins import Twins


@deep_models()
@automatic_names_kept()
def rebuild(
    recording,
    change=None,
    behind=None,
    drop=(),
    source=None,
    around=None,
    before=None,
    fresh=False,
    checked=False,
):
    """Copy a model with all that its layers hold, so that the copy shares no variable with it.

    Args:
        recording: The `Recording` of the model; nested and subclassed models are written out flat.
        change: ``{name: function}`` that returns `(config changes, weights or None)`; `None` keeps
            the weights. It is called when the layer is made, so that one layer's arrays are held
            at a time.
        behind: ``{name: layer}``; the layer is called on the output of each call of `name`.
        drop: Names of operations that hand their input through.
        source: ``{name: layer}`` to copy in the place of `name`.
        around: ``{name: function}`` that makes another layer of the copy, one that holds it.
        before: ``{name: layer}``; each call of `name` reads the output of the layer on what it read
            first. Other readers of that tensor are left as they are.
        fresh: Whether weights are initialised anew. What is no weight is taken over all the same.
        checked: Whether to raise where a copy has other settings than its layer: before training,
            after which it would lose the run.

    Returns:
        An uncompiled Functional model with the names of the original.
    """
    given = (change or {}, behind or {}, frozenset(drop), source or {}, around or {}, before or {})
    return _Rebuilder(*given, fresh, checked)(recording)


class _Rebuilder:
    def __init__(self, change, behind, drop, source, around, before, fresh, checked):
        self._change = change
        self._behind = behind
        self._drop = drop
        self._source = source
        self._around = around
        self._before = before
        self._fresh = fresh
        self._checked = checked
        self._copies = {}
        self._pending = {}  # what is to be done once the copy is built
        self._config = {}
        self._twins = None

    def __call__(self, recording):
        self._twins = Twins(recording)
        inputs = keras.tree.map_structure(input_like, recording.inputs)
        outputs = recording.run(inputs, self._call)
        model = keras.Model(inputs, outputs, name=recording.name)
        if not recording.trainable:  # whatever its layers say
            freeze_alone(model)
        return model

    def _call(self, recorded, *args, **kwargs):
        if recorded.name in self._drop:
            outputs = symbolic_tensors(args, kwargs)[0]
        else:
            if recorded.name in self._before:
                args, kwargs = _read_behind(self._before[recorded.name], args, kwargs)
            copy = self._copy(recorded, symbolic_tensors(args, kwargs))
            args, kwargs = with_arguments(
                recorded, self._config.get(recorded.name, {}), args, kwargs
            )
            args, kwargs = self._twins.arguments(recorded, args, kwargs)
            outputs = copy(*args, **kwargs)
            inside = () if recorded.inner is None else recorded.inner.all_calls()
            for name in {recorded.name, *(inner.name for inner in inside)} & self._pending.keys():
                self._pending.pop(name)()
        behind = self._behind.get(recorded.name)
        return outputs if behind is None else behind(outputs)

    def _copy(self, recorded, tensors=()):
        key = id(recorded.operation)
        if key not in self._copies:
            make = self._repeated if recorded.inner is not None else self._single
            self._copies[key] = make(recorded, tensors)
        return self._copies[key]

    def _single(self, recorded, tensors):
        del tensors
        operation = self._source.get(recorded.name, recorded.operation)
        change = self._change.get(recorded.name)
        self._config[recorded.name], new_weights = ({}, None) if change is None else change()
        changes = {**_renamed(operation, recorded.name), **self._config[recorded.name]}
        copy = self._twins.copy_of(operation)
        if copy is None:
            with self._twins.scope(operation):
                copy = _copy_of_call(recorded, operation, changes)
            if is_layer(copy) and copy is not operation:
                copy.name = recorded.name  # whether or not its configuration holds a name
            if self._checked and is_layer(operation):
                _check_settings(recorded.name, operation, copy, changes)
        initializers = None if self._fresh else PostponedInitializers(copy)

        def once_built():
            self._twins.note(operation, copy)
            if self._fresh:
                copy_adapted_state(operation, copy)
            else:
                initializers.put_back()
                copy_state(operation, copy, new_weights)

        self._pending[recorded.name] = once_built
        return self._around.get(recorded.name, lambda layer: layer)(copy)

    def _repeated(self, recorded, tensors):
        """A layer that applies another one at each entry of axis 1."""
        entry = recorded.inner.inputs
        shape = tensors[0].shape  # with the channels that are left
        alone = len(recorded.inner.calls) == 1 and recorded.inner.calls[0].inner is None
        inside = {inner.name for inner in recorded.inner.calls}
        if alone and not inside & (self._behind.keys() | self._before.keys() | self._drop):
            layer = self._copy(recorded.inner.calls[0])
        else:
            inputs = input_like(entry, (shape[0], *shape[2:]))
            outputs = recorded.inner.run(inputs, self._call)
            layer = keras.Model(inputs, outputs, name=recorded.inner.name)
        change = self._change.get(recorded.name, lambda: ({}, None))
        config = {**recorded.operation.get_config(), **change()[0]}
        config.pop("layer")
        return type(recorded.operation)(
            layer, **{**config, **_renamed(recorded.operation, recorded.name)}
        )


def _copy_of_call(recorded, operation, changes):
    """What `copy_operation` answers; where it raises, it is told why it is asked at all."""
    try:
        return copy_operation(operation, changes)
    except ValueError as error:
        if recorded.closed is None:
            raise
        raise ValueError(
            f"Layer '{recorded.name}' of type {type(operation).__name__} is copied whole, and not "
            f"written out as the calls inside, because {recorded.closed}. {error}"
        ) from error


def _read_behind(layer, args, kwargs):
    """Arguments of a call that reads the output of `layer` in the place of its first tensor."""
    first = symbolic_tensors(args, kwargs)[0]
    output = layer(first)
    return keras.tree.map_structure(lambda x: output if x is first else x, (args, kwargs))


def _renamed(operation, name):
    return {} if operation.name == name else {"name": name}


def with_arguments(recorded, changes, args, kwargs):
    """Arguments of a call of a changed operation: a raw operation's settings may be among them."""
    if isinstance(recorded.operation, keras.layers.Layer) or not changes:
        return args, kwargs
    parameters = inspect.signature(recorded.operation.call).parameters
    names = list(parameters)
    for name in set(changes) & set(names):
        position = names.index(name)
        if parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            new = changes[name][position:]
            kept = [a if is_symbolic(b) else b for a, b in zip(args[position:], new, strict=True)]
            args = (*args[:position], *kept)
        elif position < len(args):
            args = (*args[:position], changes[name], *args[position + 1 :])
        else:
            kwargs = {**kwargs, name: changes[name]}
    return args, kwargs


@functools.singledispatch
def copy_operation(operation, changes):
    """A fresh layer or operation of the same configuration, some entries changed.

    Functions among its settings are those of the original. What has no weights and cannot be made
    from its configuration is shared with the original: it holds nothing that training could change.

    Raises:
        ValueError: A layer with weights cannot be made from its configuration.
    """
    try:
        if isinstance(operation, keras.Model) and is_graph(operation) and not changes:
            return keras.models.clone_model(
                operation, clone_function=lambda layer: copy_operation(layer, {})
            )
        copy = _from_config(operation, changes)
    except (NotImplementedError, TypeError, ValueError) as error:
        if not changes and not weights_of_operation(operation):
            return operation
        raise ValueError(
            f"Layer '{operation.name}' of type {type(operation).__name__} cannot be copied from "
            f"its configuration. {_remedy(operation)}The error was: {error}"
        ) from error
    if is_layer(operation):
        _check_functions(operation, copy)
    return copy


def _check_settings(name, layer, copy, changes):
    for key, value, found in settings_that_differ(layer, copy, changes):
        raise ValueError(
            f"Layer '{name}' of type {type(layer).__name__} has {key}={value!r}, and its copy, "
            f"made from its configuration, {key}={found!r}. Give it a get_config() that holds "
            "every constructor argument."
        )


def _check_functions(layer, copy):
    lost = [name for name in changed_on_object(layer) if name not in changed_on_object(copy)]
    if lost:
        raise ValueError(
            f"Layer '{layer.name}' of type {type(layer).__name__} has {' and '.join(lost)} set on "
            "the object, which a copy of it would not have. Write a subclass that overrides it."
        )


def _from_config(operation, changes):
    """By the configuration alone where the class is the user's own and may read it in its way."""
    own = own_objects(operation)
    if own.functions and not of_keras(operation):
        try:
            with warnings.catch_warnings(), own.by_name(functions=False):
                warnings.simplefilter("ignore", UserWarning)  # a lambda cannot be saved
                return type(operation).from_config(_config(operation, changes))
        except (NotImplementedError, OSError, TypeError, ValueError):  # a lambda has no source
            pass
    with own.by_name():
        return _made(type(operation), _config(operation, changes))


def _made(kind, config):
    """Made from what its constructors take, where a configuration tells more than that."""
    try:
        return kind.from_config(config)
    except (TypeError, ValueError):
        taken = taken_by(kind)
        if set(config) <= taken:
            raise
        return kind.from_config({key: value for key, value in config.items() if key in taken})


def taken_by(kind):
    """Names of what the constructor of a class takes, and those that it hands arguments on to."""
    taken = set()
    for base in kind.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters
            taken |= set(parameters)
            if all(each.kind is not each.VAR_KEYWORD for each in parameters.values()):
                break
    return taken


def _remedy(operation):
    """What to do where a configuration does not hold what the constructor takes."""
    parameters = inspect.signature(type(operation).__init__).parameters.values()
    named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    needed = {p.name for p in parameters if p.name in named and p.default is p.empty} - {"self"}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    try:
        config = set(operation.get_config())
    except NotImplementedError:
        config = set()
    if needed <= config and (takes_all or config <= named):
        return ""
    return (
        "Give it a get_config() that holds every constructor argument, and a constructor that "
        "passes **kwargs on to keras.layers.Layer. "
    )


def _config(operation, changes):
    config = operation.get_config()
    if isinstance(operation, keras.layers.Layer):
        return {**config, **changes}
    arguments = inspect.signature(operation.call).parameters
    return {**config, **{k: v for k, v in changes.items() if k not in arguments or k in config}}
