"""quality(dense, slim, data): the loss and metrics of both, as `evaluate` tells them."""

import keras
import numpy as np

from resrep_keras.common.checks import came
from resrep_keras.common.retracing import quiet_about_tracing
from resrep_keras.graph.unroll import as_functional, is_graph
from resrep_keras.keras_adapter import is_array, is_functional
from resrep_keras.surgery.forward import check_data
from resrep_keras.training.own_methods import compile_objects, own_hooks, settings_of


def quality(dense, slim, data):
    """Evaluate two models alike: with the loss and metrics that the dense one is compiled with.

    Where only the slim model is compiled, with its own. Neither changes: what is evaluated are
    models over their layers, with fresh metrics.

    Args:
        dense, slim: The models.
        data: `(x, y)` or `(x, y, sample_weight)`, a data set of batches, or whatever else
            `evaluate` takes and can be read twice.

    Returns:
        ``{name: (dense value, slim value)}``, with the names that `evaluate` gives.

    Raises:
        TypeError: Data that can be read once only, such as a generator, or are no arrays.
        ValueError: Neither is compiled, in a way that can be copied; the data never end, or do not
            fit the inputs. What losses and metrics of the user's own raise comes as it is.
    """
    check_test_data(dense, data)
    source = next((model for model in (dense, slim) if model.compiled), None)
    if source is None:
        raise ValueError(
            "Expected a compiled model, dense or slim, whose loss and metrics say what quality is; "
            "got two that are not compiled. Call dense.compile(loss=..., metrics=[...]), or give "
            "no test_data."
        )
    return in_pairs(*(evaluate(compiled_as(source, model), data) for model in (dense, slim)))


def in_pairs(first, second):
    """``{name: (first value, second value)}`` of the names that two dicts have in common."""
    return {name: (value, second[name]) for name, value in first.items() if name in second}


def check_test_data(model, data):
    """Raise where data are nothing that a model can be evaluated on, twice.

    Raises:
        TypeError, ValueError: See `quality`.
    """
    _check(data)
    _check_rows(model, data)


def _check(data):
    if isinstance(data, (tuple, list)):
        if len(data) not in (2, 3):
            raise ValueError(
                "Expected test_data to be (x, y) or (x, y, sample_weight), or a data set; got "
                f"{len(data)} values."
            )
        return
    try:
        once = iter(data) is data
    except Exception as error:  # whatever an object of the user raises
        raise TypeError(f"Expected test_data to be (x, y) or a data set; {came(data)}.") from error
    if once:
        raise TypeError(
            "Expected test_data that can be read twice, once for each model; got "
            f"{type(data).__name__}, which is used up by the first. Give arrays or a data set."
        )
    if _never_ends(data):
        raise ValueError(
            "Expected test_data that end; got a data set that repeats itself for ever. Give "
            "data.take(number of batches)."
        )


def _check_rows(model, data):
    """Raise where rows of the data are nothing that a model could be evaluated on."""
    if not isinstance(data, (tuple, list)):
        data = _first_batch(data)
    parts = (*data, None, None, None) if isinstance(data, (tuple, list)) else (data, None, None)
    x, y, weight = parts[:3]
    words = "Expected test_data of arrays with as many rows each, and at least one"
    lengths = [_rows_of(leaf, words) for leaf in keras.tree.flatten((x, y, weight))]
    lengths = {n for n in lengths if n is not None}
    if x is None or len(lengths) > 1 or not all(lengths):
        raise ValueError(f"{words}; got {sorted(lengths) or 'no'} rows.")
    if y is None and model.compiled and not own_hooks(type(model)):
        needs = model.get_compile_config().get("loss")
        if needs:
            raise ValueError(f"Expected test_data with the targets that the loss {needs} needs.")
    if is_graph(model) and not isinstance(x, dict):  # Keras finds the entries of a dict by name
        first = keras.tree.map_structure(lambda leaf: leaf[:1], x)
        check_data(model, first, "test_data", any_number=True)


def _first_batch(data):
    if isinstance(data, keras.utils.PyDataset):
        return data[0]
    if is_array(data):
        return (data,)
    return next(iter(data), ())


def _rows_of(leaf, words):
    """The number of rows of an array; `None` of a sparse or ragged one."""
    if leaf is None:
        return None
    if not is_array(leaf) or len(leaf.shape) == 0:
        raise TypeError(f"{words}; {came(leaf)}.")
    return leaf.shape[0]


def _never_ends(data):
    """Whether a data set says that it repeats itself for ever."""
    batches = getattr(data, "num_batches", 0)  # of a PyDataset
    cardinality = getattr(data, "cardinality", None)  # of a tf.data.Dataset: -1
    return batches is None or (callable(cardinality) and int(cardinality()) == -1)


def compiled_as(source, model):
    """A model over the layers of `model` that is compiled as `source` is.

    Raises:
        ValueError: `source` is compiled in a way that cannot be copied.
    """
    if model.compiled and not is_graph(model):
        return model
    hooks = own_hooks(type(source))
    settings = settings_of(source) if hooks and is_functional(source) else None
    if hooks and settings is None:
        return _by_itself(model, source, hooks)
    plain = as_functional(model)
    if hooks:
        plain = type(source)(plain.input, plain.output, name=model.name, **settings)
    # Without the optimizer, which is of no use here, and whose slots take room.
    config = {k: v for k, v in source.get_compile_config().items() if k != "optimizer"}
    try:
        with keras.saving.custom_object_scope(compile_objects(source)):
            plain.compile(**keras.saving.deserialize_keras_object(config))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Model '{source.name}' is compiled with objects that cannot be copied ({error}). Give "
            "them a get_config() that holds every argument of their constructor, or give no "
            "test_data."
        ) from error
    return plain


def _by_itself(model, source, hooks):
    if not model.compiled:
        kind = type(source).__name__
        raise ValueError(
            f"Model '{source.name}' is a {kind}, whose own {', '.join(hooks)} model '{model.name}' "
            f"cannot have, because {kind} is not made from (inputs, outputs, name) and what its "
            f"get_config() holds. Compile '{model.name}', too, or give no test_data."
        )
    return model


def evaluate(model, data):
    """What `evaluate` tells, ``{name: number}``; several numbers of one metric by their places."""
    x, y, weight = (*data, None)[:3] if isinstance(data, (tuple, list)) else (data, None, None)
    with quiet_about_tracing():
        told = model.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
    numbers = {}
    for name, value in told.items():
        value = np.asarray(keras.ops.convert_to_numpy(value), np.float64)
        if value.ndim == 0:
            numbers[name] = float(value)
        for place in np.ndindex(value.shape) if value.ndim else ():
            numbers[f"{name}[{', '.join(map(str, place))}]"] = float(value[place])
    return numbers
