"""Whether a copy computes what its model does; where it does not, which call parts first."""

import warnings

import keras
import numpy as np

from resrep_keras.common.training_flag import has_training_argument
from resrep_keras.graph.probe import in_words
from resrep_keras.graph.sizes import leaves_open
from resrep_keras.graph.trace import recording_of
from resrep_keras.graph.unroll import inputs_of
from resrep_keras.keras_adapter import call_with_values
from resrep_keras.layers.compactor import Compactor
from resrep_keras.surgery.forward import (
    as_numbers,
    evaluate,
    fitting_sizes,
    random_inputs,
)

SIZES = (32, 64, 128)  # for unknown sizes: the first that the model makes numbers of
# Largest relative difference of what a call and its copy make of the same inputs. An identity
# compactor multiplies by ones and adds zeros, and all else is the same operation on the same
# weights, so that on CPUs nothing differs: 0 over the models of the tests, in any dtype. What is
# allowed is the order in which a device may add up; what its products round is measured.
AGREEMENT = {"float64": 1e-10, "float32": 1e-5, "half": 5e-3}
AMPLIFIED = 100  # of outputs, behind many calls each of which rounds


def check_copy(model, copy, input_shape=None):
    """Run a model and its copy once on the same random inputs; no state of theirs changes.

    Outputs that differ by more than `agreement_of` get a second look: each call and its copy then
    read the same inputs, and none may differ by more.

    Args:
        model: The model.
        copy: What should compute the same.
        input_shape: Sizes that the model leaves open.

    Raises:
        ValueError: The two differ. Names the first layer where they part.
    """
    inputs, expected = _first_run(model, copy, input_shape)
    if inputs is None:
        return
    try:
        found = _outputs(copy, inputs)
    except Exception:  # the model itself runs: the second look tells which call raises
        found = None
    tolerance = agreement_of(copy)
    far = float("inf") if found is None else _largest_difference(expected, found)
    if far <= tolerance and not any(map(_tells_nothing, expected)):
        return
    _check_calls(model, copy, inputs, tolerance)
    again = _largest_difference(expected, _outputs(model, inputs))
    if not far <= AMPLIFIED * tolerance and again <= tolerance:
        raise ValueError(
            f"The copy of model '{model.name}' does not compute what the model does: its outputs "
            f"are {far:.2g} of the largest one away, though each layer does the same as its copy. "
            "The call() of the model, or of a layer made of layers, does something else than its "
            "layers show. Move that into a layer of its own, which stays whole."
        )


def agreement_of(model):
    """Largest relative difference that passes as rounding where a model and its copy are compared.

    That of the coarsest dtype that a layer computes in, see `AGREEMENT`; or what products lose on
    this device, where that is more: a GPU may round the factors of float32 to 11 bits.
    """
    inputs = keras.layers.InputLayer  # which has a dtype of its own, and computes nothing
    dtypes = {x.compute_dtype for x in model.layers if not isinstance(x, inputs)}
    if dtypes & {"float16", "bfloat16"}:
        return AGREEMENT["half"]
    floats = {dtype for dtype in dtypes if keras.backend.is_float_dtype(dtype)}
    if floats == {"float64"}:
        return AGREEMENT["float64"]
    x = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(size=(256, 256)), "float32")
    product = keras.ops.matmul(x, keras.ops.eye(256, dtype="float32"))
    lost = _difference(as_numbers(x), as_numbers(product))
    return max(AGREEMENT["float32"], 4 * lost)


def _first_run(model, copy, input_shape):
    """Random inputs that a model takes, and its outputs; `(None, None)` where there are none."""
    error, run = None, (None, None)
    tensors = inputs_of(model)
    sizes = SIZES[:1]
    if leaves_open(tensors):  # else nobody needs to read a model; of the two the copy is flat
        sizes = fitting_sizes(recording_of(copy), SIZES, input_shape)
    for size in sizes:
        try:
            inputs = random_inputs(tensors, 2, 0, size, input_shape)
            run = inputs, _outputs(model, inputs)
        except Exception as raised:  # the inputs may not be such as the model is made for
            error = raised
        else:
            if all(np.isfinite(output).all() for output in run[1]):
                return run  # where too little is left of small inputs, outputs are no numbers
    if run[0] is None:
        warnings.warn(
            f"Model '{model.name}' does not run on random inputs ({in_words(error)}), so that "
            "the wrapped model was not compared with it. Compare both on inputs of yours.",
            stacklevel=4,
        )
    return run


def _outputs(model, inputs):
    kwargs = {"training": False} if has_training_argument(model) else {}
    outputs, _ = call_with_values(model, (), inputs, **kwargs)
    return [as_numbers(value) for value in keras.tree.flatten(outputs)]


# --- differences ----------------------------------------------------------------------------------


def _largest_difference(expected, found):
    return max(map(_difference, expected, found), default=0.0)


def _difference(expected, found):
    """The largest difference as a share of the largest value; what is not finite must be equal."""
    if expected.shape != found.shape:
        return float("inf")
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], found[~finite], equal_nan=True):
        return float("inf")
    if not np.isfinite(found[finite]).all():
        return float("inf")
    apart = np.abs(expected[finite] - found[finite]).max(initial=0.0)
    return float(apart / max(np.abs(expected[finite]).max(initial=0.0), 1e-12))


def _tells_nothing(output):
    """Whether an output would hide a difference: saturated, the same for both inputs, or NaN."""
    if not np.isfinite(output).all():
        return True
    return bool(np.isin(output, (0, 1)).all() or (output[:1] == output[1:]).all())


# --- call by call ---------------------------------------------------------------------------------


def _check_calls(model, copy, inputs, tolerance):
    """Compare each call with its copy, on what the calls of the model have made."""
    dense, copied = recording_of(model), recording_of(copy)
    values, names = {}, _names(dense)

    def note(tensor, value):
        values[names[id(tensor)]] = value
        return value

    _evaluate(dense, inputs, behind=note)
    parted = _parted(copied, inputs, values, _names(copied), tolerance)
    if not parted:
        return
    random = {name for (name, _), _ in _parted(dense, inputs, values, names, 0.0)}
    for (name, _), far in parted:
        if name not in random:
            calls = (*copied.all_calls(), *dense.all_calls())
            operation = {c.name: c.operation for c in calls}[name]
            raise ValueError(
                f"The copy of model '{model.name}' does not compute what the model does. The two "
                f"part first at layer '{name}' of type {type(operation).__name__}, {far}. Give it "
                "a get_config() that holds all that it computes with, and save_own_variables() and "
                "load_own_variables() for state that is no weight."
            )


def _parted(recording, inputs, values, names, tolerance):
    """Pairs `(name, how far)` of the calls that make other values than those given."""
    found, current = [], []

    def before(recorded, first):
        del first
        current[:] = [recorded.name]

    def behind(tensor, value):
        name = names[id(tensor)]
        if name not in values:
            return value
        far = _difference(as_numbers(values[name]), as_numbers(value))
        if not far <= tolerance:
            found.append((name, f"by {far:.2g} of the largest value"))
        return values[name]

    try:
        _evaluate(recording, inputs, before=before, behind=behind)
    except Exception as error:  # a copy that does not run, where the model does
        name = current[0] if current else recording.name
        found.append(((name, 0), f"whose copy raises {in_words(error)}"))
    return found


def _names(recording):
    """``{id of a tensor: (layer name, position)}``; behind a compactor, the layer before it counts.

    In front of it the layer lacks its activation: there is no entry that fits.
    """
    names = {}
    for recorded in recording.all_calls():
        is_compactor = isinstance(recorded.operation, Compactor)
        first = id(keras.tree.flatten(recorded.args)[0]) if recorded.args else None
        for position, tensor in enumerate(keras.tree.flatten(recorded.outputs)):
            names[id(tensor)] = (recorded.name, position)
        if is_compactor:
            (output,) = keras.tree.flatten(recorded.outputs)
            names[id(output)], names[first] = names[first], (recorded.name, 0)
    return names


def _evaluate(recording, inputs, **kwargs):
    call_with_values(evaluate, (), recording, inputs, **kwargs)
