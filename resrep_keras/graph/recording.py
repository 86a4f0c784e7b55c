"""A recording: the calls of a model in the order of execution, to be played again."""

import dataclasses
import functools

import keras


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
class Step:
    """One call on a recording.

    Args:
        operation: Layer or raw `keras.ops` operation.
        name: Its name, unique on the recording.
        args, kwargs: Arguments; symbolic tensors stand for what the recording is played with.
        outputs: Symbolic outputs in their structure.
        inner: Recording that `operation` applies to each entry of axis 1, or `None`.
        path: Names of the models and composite layers around the call.
    """

    operation: object
    name: str
    args: tuple
    kwargs: dict
    outputs: object
    inner: "Recording | None" = None
    path: tuple = ()


@dataclasses.dataclass
class Recording:
    """The calls of a model in the order of execution; `inputs` and `outputs` keep its structure."""

    name: str
    inputs: object
    outputs: object
    steps: list

    def run(self, inputs, call):
        """Play the recording: answer each step with ``call(step, *args, **kwargs)``.

        Values are let go of after their last use.
        """
        last = {}
        for position, step in enumerate(self.steps):
            for tensor in symbolic_tensors(step.args, step.kwargs):
                last[id(tensor)] = position
        for tensor in keras.tree.flatten(self.outputs):
            last[id(tensor)] = len(self.steps)
        values = {}
        for tensor, value in zip(keras.tree.flatten(self.inputs), keras.tree.flatten(inputs)):
            values[id(tensor)] = value

        look_up = functools.partial(replaced, values)
        for position, step in enumerate(self.steps):
            args, kwargs = keras.tree.map_structure(look_up, (step.args, step.kwargs))
            answers = keras.tree.flatten(call(step, *args, **kwargs))
            for tensor, value in zip(keras.tree.flatten(step.outputs), answers):
                if id(tensor) in last:
                    values[id(tensor)] = value
            for tensor in symbolic_tensors(step.args, step.kwargs):
                if last[id(tensor)] == position:
                    values.pop(id(tensor), None)
        return keras.tree.map_structure(look_up, self.outputs)

    def all_steps(self):
        """The steps, those of inner tapes in front of the step that holds them."""
        for step in self.steps:
            if step.inner is not None:
                yield from step.inner.all_steps()
            yield step


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
        specs = operation.output if same else operation.compute_output_spec(*args, **kwargs)
    except (AttributeError, ValueError):
        specs = operation.compute_output_spec(*args, **kwargs)
    return keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), specs)


# --- what happens at each entry of axis 1 ---------------------------------------------------------


class Enter:
    """Stands before the calls of an inner recording: axis 1 is taken away."""


class Leave:
    """Stands behind the calls of an inner recording: axis 1 comes back."""


def around(step):
    """The steps before and behind the inner recording of `step`."""
    tensor = symbolic_tensors(step.args, step.kwargs)[0]
    recording = step.inner
    enter = Step(Enter(), step.name, (tensor,), {}, recording.inputs)
    return enter, Step(Leave(), step.name, (recording.outputs,), {}, step.outputs)
