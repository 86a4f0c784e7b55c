"""A recording: the calls of a model in the order of execution, to be played again."""

import dataclasses
import functools
import itertools

import keras

from resrep_keras.keras_adapter import input_name, is_layer


class Probe(keras.Operation):
    """A weightless stand-in for a call, so that a model is read without being called again."""

    def __init__(self, specs):
        super().__init__()
        self._specs = specs

    def call(self, *tensors):
        raise NotImplementedError("A probe only stands for shapes.")

    def compute_output_spec(self, *tensors):
        return self._specs


@dataclasses.dataclass
class RecordedCall:
    """One call on a recording.

    Args:
        operation: Layer or raw `keras.ops` operation.
        name: Its name, unique on the recording.
        args, kwargs: Arguments; symbolic tensors stand for what the recording is played with.
        outputs: Symbolic outputs in their structure.
        inner: Recording that `operation` applies to each entry of axis 1, or `None`.
        path: Names of the models and composite layers around the call.
        closed: What raised where its inside was looked at, in words, or `None`.
    """

    operation: object
    name: str
    args: tuple
    kwargs: dict
    outputs: object
    inner: "Recording | None" = None
    path: tuple = ()
    closed: str | None = None


@dataclasses.dataclass
class Recording:
    """The calls of a model in the order of execution; `inputs` and `outputs` keep its structure.

    `trainable` is the flag of the model itself: at `False` none of its variables is trained.
    """

    name: str
    inputs: object
    outputs: object
    calls: list
    trainable: bool = True

    def run(self, inputs, call):
        """Play the recording: answer each call with ``call(recorded, *args, **kwargs)``.

        Values are let go of after their last use.
        """
        last = {}
        for position, recorded in enumerate(self.calls):
            for tensor in symbolic_tensors(recorded.args, recorded.kwargs):
                last[id(tensor)] = position
        for tensor in keras.tree.flatten(self.outputs):
            last[id(tensor)] = len(self.calls)
        values = {}
        for tensor, value in zip(keras.tree.flatten(self.inputs), keras.tree.flatten(inputs)):
            values[id(tensor)] = value

        look_up = functools.partial(replaced, values)
        for position, recorded in enumerate(self.calls):
            args, kwargs = keras.tree.map_structure(look_up, (recorded.args, recorded.kwargs))
            answers = keras.tree.flatten(call(recorded, *args, **kwargs))
            for tensor, value in zip(keras.tree.flatten(recorded.outputs), answers):
                if id(tensor) in last:
                    values[id(tensor)] = value
            for tensor in symbolic_tensors(recorded.args, recorded.kwargs):
                if last[id(tensor)] == position:
                    values.pop(id(tensor), None)
        return keras.tree.map_structure(look_up, self.outputs)

    def names(self):
        """The names of its inputs, and of all operations that it calls."""
        inputs = {input_name(tensor) for tensor in keras.tree.flatten(self.inputs)}
        return inputs | {recorded.name for recorded in self.all_calls()}

    def all_calls(self):
        """The calls, those of inner recordings in front of the call that holds them."""
        for recorded in self.calls:
            if recorded.inner is not None:
                yield from recorded.inner.all_calls()
            yield recorded


def resized(recording, inputs):
    """The same calls on inputs of other sizes, such as those that a model leaves open."""
    calls = []

    def call(recorded, *args, **kwargs):
        outputs, inner = output_specs(recorded.operation, args, kwargs), recorded.inner
        if inner is not None:
            tensor = symbolic_tensors(args, kwargs)[0]
            shape = (tensor.shape[0], *tensor.shape[2:])
            entry = keras.KerasTensor(shape, dtype=tensor.dtype, name=inner.inputs.name)
            inner = resized(inner, entry)
        calls.append(
            dataclasses.replace(recorded, args=args, kwargs=kwargs, outputs=outputs, inner=inner)
        )
        return outputs

    outputs = recording.run(inputs, call)
    return dataclasses.replace(recording, inputs=inputs, outputs=outputs, calls=calls)


def free_name(name, taken):
    """The name, or one with a number behind it where the name is taken."""
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
    return next(each for each in names if each not in taken)


def is_symbolic(value):
    return isinstance(value, keras.KerasTensor)


def symbolic_tensors(args, kwargs):
    """The symbolic tensors among the arguments of a call, flattened."""
    return [value for value in keras.tree.flatten((args, kwargs)) if is_symbolic(value)]


def replaced(values, value):
    return values[id(value)] if is_symbolic(value) else value


def output_specs(operation, args, kwargs):
    """Shapes and dtypes of a call's outputs, without calling the layer where they are known."""
    tensors = symbolic_tensors(args, kwargs)
    try:
        known = keras.tree.flatten(operation.input)
        same = [(x.shape, x.dtype) for x in known] == [(x.shape, x.dtype) for x in tensors]
        specs = operation.output if same else specs_told(operation, args, kwargs)
    except (AttributeError, ValueError):
        specs = specs_told(operation, args, kwargs)
    specs = keras.tree.map_structure(spec_like, with_sizes(operation, args, kwargs, specs))
    # Keras calls the product with a number sparse.
    if not is_layer(operation) and not vars(operation).get("sparse"):
        if not any(tensor.sparse for tensor in tensors):
            specs = keras.tree.map_structure(dense_like, specs)
    return specs


def specs_told(operation, args, kwargs, tell=None):
    """What an operation says of its outputs; what is seen where it takes not what its call does."""
    try:
        return (tell or operation.compute_output_spec)(*args, **kwargs)
    except TypeError:
        specs = specs_seen(operation, args, kwargs)
        if specs is None:
            raise
        return specs


def with_sizes(operation, args, kwargs, specs):
    """What is said of a call's outputs; where sizes get lost, what the backend sees in the call.

    Some layers, such as an `EinsumDense`, only say with which sizes they were built.
    """
    tensors = symbolic_tensors(args, kwargs)
    if _all_known(tensors):
        for sizes in ((None,), (1, 2)):  # some ask how large the batch is
            if _all_known(keras.tree.flatten(specs)):
                break
            seen = [specs_seen(operation, *_for_batch(n, args, kwargs)) for n in sizes]
            specs = specs if None in seen else _with_batch_of(specs, *seen)
    return specs


def _all_known(tensors):
    return all(None not in x.shape[1:] for x in tensors)


def _for_batch(batch_size, args, kwargs):
    """Arguments of a call for a batch of this size, where theirs has none."""

    def sized(value):
        if not is_symbolic(value) or value.shape[:1] != (None,):
            return value
        return keras.KerasTensor((batch_size, *value.shape[1:]), dtype=value.dtype)

    return keras.tree.map_structure(sized, (args, kwargs))


def _with_batch_of(specs, *seen):
    """What was seen of batches, with the first sizes that are told for any.

    Sizes that differ between batches depend on how large they are: an axis may be that of examples.
    """
    told, *found = map(keras.tree.flatten, (specs, *seen))
    if any(len(told) != len(each) for each in found):
        return specs
    merged = []
    for one, *others in zip(told, *found):
        sizes = [set(each) for each in zip(*(other.shape for other in others))]
        known = [each.pop() if len(each) == 1 else None for each in sizes]
        other = others[0]
        merged.append(
            keras.KerasTensor((*one.shape[:1], *known[1:]), dtype=other.dtype, sparse=other.sparse)
        )
    return keras.tree.pack_sequence_as(specs, merged)


def specs_seen(operation, args, kwargs):
    """Shapes and dtypes of outputs as the backend sees them in `call`; `None` where it raises."""
    try:
        return keras.Operation.compute_output_spec(operation, *args, **kwargs)
    except Exception:  # whatever a call raises that only runs on arrays
        return None


def spec_like(tensor):
    """A symbolic tensor of the same kind that no operation has made."""
    return keras.KerasTensor(
        tensor.shape, dtype=tensor.dtype, sparse=tensor.sparse, ragged=tensor.ragged
    )


def dense_like(tensor):
    """A symbolic tensor of the same shape and dtype that is not sparse."""
    return keras.KerasTensor(tensor.shape, dtype=tensor.dtype, ragged=tensor.ragged)


# --- what happens at each entry of axis 1 ---------------------------------------------------------


class Enter:
    """Stands before the calls of an inner recording: axis 1 is taken away."""


class Leave:
    """Stands behind the calls of an inner recording: axis 1 comes back."""


def around(recorded):
    """The calls before and behind the inner recording of `recorded`."""
    tensor = symbolic_tensors(recorded.args, recorded.kwargs)[0]
    recording = recorded.inner
    enter = RecordedCall(Enter(), recorded.name, (tensor,), {}, recording.inputs)
    return enter, RecordedCall(Leave(), recorded.name, (recording.outputs,), {}, recorded.outputs)
