"""What a rule relies on: a subclass inherits it only where nothing of that is another's.

The rule of a layer knows what its `call` computes, and with it each function that `call` uses, each
layer inside and each weight.
"""

import inspect
import weakref

import keras

from resrep_keras.keras_adapter import is_layer

# What a class may override without computing anything else: how it is made, saved and described.
HARMLESS = frozenset(
    "build get_config from_config get_build_config build_from_config compute_output_shape "
    "compute_output_spec compute_mask save_own_variables load_own_variables save_assets "
    "load_assets enable_lora quantize quantized_build".split()
)
# What a class need not define itself to be called by it.
CALLED = frozenset(("call", "__call__", "__getattribute__", "__getattr__"))


def change_of(layer, base):
    """What a layer does in another way than `base`, for which a rule is registered.

    Args:
        layer: A layer or operation.
        base: Its class, or one that it inherits from.

    Returns:
        Words that go on from the name of the layer's class, or `None`.
    """
    kind = type(layer)
    functions, names = _used_by(base)
    for other in kind.__mro__[: kind.__mro__.index(base)]:
        changed = sorted(vars(other).keys() & (functions | names))
        if changed:
            return f"overrides {' and '.join(changed)}"
    changed = changed_on_object(layer, base)
    if changed:
        return f"has {' and '.join(changed)} set on the object"
    return _part_of_another_class(layer, base) or _unknown_weights(layer, base)


def changed_on_object(layer, base=None):
    """Names of functions that were set on a layer, where its class defines them."""
    return sorted(vars(layer).keys() & _used_by(base or type(layer))[0])


def _used_by(base):
    """Functions and properties that `base` calls, and all names in them."""
    if base not in _USED:
        _USED[base] = _find_used(base)
    return _USED[base]


_USED: weakref.WeakKeyDictionary = (
    weakref.WeakKeyDictionary()
)  # names only: no class lives longer for it


def _find_used(base):
    functions, names = set(CALLED), set()
    for name, value in _defined(base):
        if _matters(name):
            functions.add(name)
            names.update(each for each in _names_in(value) if _matters(each))
    return frozenset(functions), frozenset(names)


def _matters(name):
    return name in CALLED or not (name in HARMLESS or name.startswith("__"))


def _defined(base):
    """`(name, function or property)` of a class, down to the base of all layers."""
    for kind in base.__mro__:
        if kind in (keras.layers.Layer, keras.Operation, object):
            return
        for name, value in vars(kind).items():
            if inspect.isroutine(value) or isinstance(value, property):
                yield name, value


def _names_in(value):
    """The attributes, and whatever else has a name, in the code of a function."""
    functions = (value.fget, value.fset) if isinstance(value, property) else (value,)
    functions = map(inspect.unwrap, filter(None, functions))
    todo = [function.__code__ for function in functions if inspect.isfunction(function)]
    for code in todo:
        yield from code.co_names
        todo += [constant for constant in code.co_consts if inspect.iscode(constant)]


def _is_of_keras(kind):
    return kind.__module__.partition(".")[0] == keras.__name__


# --- what a layer holds ---------------------------------------------------------------------------


def _part_of_another_class(layer, base):
    """Layers of Keras know the layers that they are made of; a wrapper, or an RNN, takes any."""
    takes_any = issubclass(base, keras.layers.Wrapper) or base is keras.layers.RNN
    if takes_any or not _is_of_keras(base):
        return None
    for name, part in vars(layer).items():
        if is_layer(part) and not name.endswith("activation"):
            if not _is_of_keras(type(part)):
                return f"has a {type(part).__name__} as {name}"
            changed = changed_on_object(part)
            if changed:
                return f"has {' and '.join(changed)} set on its {name}"
    return None


def _unknown_weights(layer, base):
    """Weights that the code of `base` has no name for."""
    if type(layer) is base or not is_layer(layer):
        return None
    known = {each for _, value in _defined(base) for each in _names_in(value)}
    unknown = [
        name
        for name, value in vars(layer).items()
        if name not in known and (_has_weights(value) if is_layer(value) else _is_weight(value))
    ]
    return f"has weights of its own in {' and '.join(unknown)}" if unknown else None


def _has_weights(layer):
    return bool(layer.weights) or not layer.built


def _is_weight(value):
    return isinstance(value, keras.Variable)
