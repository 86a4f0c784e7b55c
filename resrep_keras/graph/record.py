"""Every call of a model, in order: the only place that reads a Keras model's graph.

`record(model)` returns a `Recording`: a flat list of the calls of layers and raw operations. Nested
models are written out in place, and so are subclassed models and layers that are made of other
layers.
"""

import dataclasses
import functools

import keras

from resrep_keras.common.training_flag import has_training_argument
from resrep_keras.graph.composite import Closed, no_config
from resrep_keras.graph.open_sizes import fitting_kept
from resrep_keras.graph.own_products import OwnProducts
from resrep_keras.graph.own_weights import is_holder
from resrep_keras.graph.recording import (
    Probe,
    RecordedCall,
    Recording,
    free_name,
    is_symbolic,
    output_specs,
    replaced,
    spec_like,
    symbolic_tensors,
)
from resrep_keras.graph.sizes import sized
from resrep_keras.graph.unroll import as_functional, is_graph, open_operation
from resrep_keras.keras_adapter import (
    automatic_names_kept,
    deep_models,
    input_like,
    input_name,
    is_functional,
)


class _Uncopied(Exception):
    """A part stays closed, and has no configuration to make a copy of: what holds it has."""


class _Recorder:
    """Writes the calls of a model on one list, opening what is nested."""

    def __init__(self, is_known, whole):
        self._is_known, self._whole = is_known, whole
        self.calls = []
        self._holders = {}
        self._around = 0  # how many composite layers are open here

    def read(self, functional, tensors, path, training=None, flags=True):
        """Write the calls of a graph on `tensors`; returns its outputs in their structure.

        Without `flags`, no call says whether it is in training.
        """
        inputs = keras.tree.map_structure(
            lambda x, like: input_like(like, x.shape),
            keras.tree.pack_sequence_as(functional.input, tensors),
            functional.input,
        )
        # The graph is cloned over placeholders; `real` has what they stand for.
        real = {id(p): t for p, t in zip(keras.tree.flatten(inputs), tensors)}

        def answer(operation, *args, **kwargs):
            stand_ins = symbolic_tensors(args, kwargs)
            args, kwargs = keras.tree.map_structure(
                functools.partial(replaced, real), (args, kwargs)
            )
            if not flags:
                kwargs = {key: value for key, value in kwargs.items() if key != "training"}
            if training is not None and has_training_argument(operation):
                kwargs = {**kwargs, "training": training}
            if is_holder(operation):  # one for each weight, however often its layer is called
                operation = self._holders.setdefault(id(operation.kernel), operation)
            outputs = self.call(operation, args, kwargs, path)
            specs = keras.tree.map_structure(spec_like, outputs)
            placeholders = Probe(specs)(*stand_ins)
            for placeholder, output in zip(
                keras.tree.flatten(placeholders), keras.tree.flatten(outputs)
            ):
                real[id(placeholder)] = output
            keep.append(placeholders)
            return placeholders

        keep = []
        outputs = keras.models.clone_model(
            functional,
            input_tensors=inputs,
            clone_function=lambda operation: operation,
            call_function=answer,
        ).output
        return keras.tree.map_structure(lambda x: real[id(x)], outputs)

    def call(self, operation, args, kwargs, path):
        """Write one call, or the calls inside it; returns its outputs."""
        if not self._whole and is_transparent(operation):
            return symbolic_tensors(args, kwargs)[0]
        inner, closed = inner_layer(operation), None
        if inner is None and not self._is_known(operation):
            try:
                opened = open_operation(operation, args, kwargs)
            except Closed as error:
                opened, closed = None, str(error)
            if opened is not None:
                try:
                    return self._read_inside(operation, kwargs, path, *opened)
                except _Uncopied as error:
                    if is_graph(operation):  # what holds it stays closed
                        raise
                    closed = str(error)
            elif closed is not None and self._around:
                uncopied = no_config(operation)
                if uncopied is not None:
                    words = f"of its part '{operation.name}' no copy can be made: {uncopied}"
                    raise _Uncopied(f"{words}, and {closed}")
        outputs = output_specs(operation, args, kwargs)
        recording = None
        if inner is not None and len(symbolic_tensors(args, kwargs)) == 1:
            tensor = symbolic_tensors(args, kwargs)[0]
            recording = self._inner_recording(inner, tensor, (*path, operation.name))
        self.calls.append(
            RecordedCall(operation, operation.name, args, kwargs, outputs, recording, path, closed)
        )
        return outputs

    def _read_inside(self, operation, kwargs, path, functional, tensors):
        """Write the calls inside of one, or none of them where a part could not be copied."""
        calls, inside = list(self.calls), (*path, operation.name)
        flags = is_graph(operation)  # else Keras's
        self._around += not flags
        try:
            outputs = self.read(functional, tensors, inside, kwargs.get("training"), flags)
            if not flags:
                own = OwnProducts(self.calls[len(calls) :], outputs, self._holders)
                self.calls[len(calls) :] = own.calls()
            return outputs
        except _Uncopied:
            self.calls[:] = calls
            raise
        finally:
            self._around -= not flags

    def _inner_recording(self, layer, tensor, path):
        recorder = _Recorder(self._is_known, self._whole)
        recorder._holders = self._holders
        shape = (tensor.shape[0], *tensor.shape[2:])
        entry = keras.KerasTensor(shape, dtype=tensor.dtype, name=f"{layer.name}_entry")
        outputs = recorder.call(layer, (entry,), {}, path)
        return Recording(layer.name, entry, outputs, recorder.calls)


@functools.singledispatch
def is_transparent(operation):
    """Whether an operation hands its input on and matters in training only: it is left out."""
    del operation
    return False


@functools.singledispatch
def inner_layer(operation):
    """The layer that `operation` applies to each entry of axis 1, or `None`."""
    return None


@deep_models()
@automatic_names_kept()
@fitting_kept()
def record(model, input_shape=None, is_known=lambda operation: False, whole=False):
    """Read a model's calls; touch no layer of a Functional or Sequential model.

    Args:
        model: A built Keras model.
        input_shape: Sizes that the model leaves open, see `resrep_keras.graph.sizes`.
        is_known: Tells which layers are written down as they are, whatever they hold.
        whole: Whether to write down operations that matter in training only, too.
    """
    functional = as_functional(model, input_shape)
    inputs = sized(functional.input, input_shape)
    recorder = _Recorder(is_known, whole)
    outputs = recorder.read(functional, keras.tree.flatten(inputs), (), flags=is_graph(model))
    recording = Recording(model.name, inputs, outputs, recorder.calls, model.trainable)
    last = _name_outputs(recording, model.output_names) if is_functional(model) else []
    _name_apart(recording, last)
    return recording


def with_opened(recording, is_known, graph_of):
    """A recording with the calls inside of some calls in their places; itself where none opens.

    Args:
        recording: The `Recording`.
        is_known: See `record`.
        graph_of: The graph inside a recorded call and its input tensors, or `None`.
    """
    recorder = _Recorder(is_known, False)
    tensors = {}

    def given(value):
        return tensors.get(id(value), value) if is_symbolic(value) else value

    for recorded in recording.calls:
        opened = graph_of(recorded)
        args, kwargs = keras.tree.map_structure(given, (recorded.args, recorded.kwargs))
        if opened is None:
            recorder.calls.append(dataclasses.replace(recorded, args=args, kwargs=kwargs))
            continue
        functional, inputs = opened
        inside = functional, [given(x) for x in inputs]
        made = recorder._read_inside(recorded.operation, kwargs, recorded.path, *inside)
        pairs = zip(keras.tree.flatten(recorded.outputs), keras.tree.flatten(made))
        tensors.update((id(old), new) for old, new in pairs)
    if not tensors:
        return recording
    outputs = keras.tree.map_structure(given, recording.outputs)
    found = Recording(
        recording.name, recording.inputs, outputs, recorder.calls, recording.trainable
    )
    _name_apart(found, _name_outputs(found, _output_names(recording)))
    return found


def _output_names(recording):
    """The name of the operation that makes each output; that of an input which is one."""
    makers = {
        id(tensor): recorded.operation.name
        for recorded in recording.calls
        for tensor in keras.tree.flatten(recorded.outputs)
    }
    return [makers.get(id(x), input_name(x)) for x in keras.tree.flatten(recording.outputs)]


def _name_outputs(recording, names):
    """Let each output be that of an operation of the output's name; returns their calls.

    The output of a nested model has the model's name, by which losses and metrics find it. As the
    model is written out, an `Identity` layer of that name goes behind it.
    """
    makers = {
        id(tensor): recorded
        for recorded in recording.calls
        for tensor in keras.tree.flatten(recorded.outputs)
    }
    outputs, layers, last = [], {}, []
    for tensor, name in zip(keras.tree.flatten(recording.outputs), names, strict=True):
        maker = makers.get(id(tensor))
        if maker is not None and maker.operation.name != name:
            layer = layers.setdefault(name, keras.layers.Identity(name=name, dtype=_policy(tensor)))
            same = spec_like(tensor)
            maker, tensor = RecordedCall(layer, name, (tensor,), {}, same), same
            recording.calls.append(maker)
        outputs.append(tensor)
        last += [maker] * (maker is not None)
    recording.outputs = keras.tree.pack_sequence_as(recording.outputs, outputs)
    return last


def _policy(tensor):
    """A dtype policy by which a layer leaves a tensor as it is; whole numbers are never cast."""
    return tensor.dtype if "float" in tensor.dtype else "float32"


def _name_apart(recording, last):
    """Give each operation a name of its own: where two share one, that of its model goes before.

    Args:
        recording: The `Recording`.
        last: Calls whose operations have their names by right, as outputs are called after them.
    """
    owners = {input_name(x): None for x in keras.tree.flatten(recording.inputs)}
    names = {}
    for recorded in (*last, *recording.all_calls()):
        key = id(recorded.operation)
        if key not in names:
            name, around = recorded.operation.name, list(recorded.path)
            while name in owners and around:
                name = f"{around.pop()}_{name}"
            name = free_name(name, owners)
            owners[name], names[key] = key, name
        recorded.name = names[key]
