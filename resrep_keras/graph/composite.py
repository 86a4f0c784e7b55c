"""The graph inside a subclassed model, or inside a layer that is made of other layers.

Its `call` is run on symbolic tensors, which shows what it calls. Where that would not be the same
as calling it, it stays closed.
"""

import contextlib
import functools

import keras
from keras import ops

from resrep_keras.common.training_flag import has_training_argument, trains_by_default
from resrep_keras.graph.from_sizes import made_as_ever
from resrep_keras.graph.masks import attach_masks, with_masks_said
from resrep_keras.graph.open_sizes import WINDOWS, OpenSizes, first_fitting, open_axes
from resrep_keras.graph.own_weights import OwnWeights, as_tensor, like_numbers
from resrep_keras.graph.probe import in_words
from resrep_keras.graph.recording import (
    dense_like,
    free_name,
    is_symbolic,
    replaced,
    spec_like,
    specs_told,
    symbolic_tensors,
    with_sizes,
)
from resrep_keras.graph.same_numbers import OTHERS, difference
from resrep_keras.graph.seen_calls import calls_seen, differing_calls
from resrep_keras.keras_adapter import (
    call_with_values,
    called_from,
    global_random_state,
    input_like,
    is_array,
    is_layer,
    is_optional,
    is_variable,
)

# Most of what a layer holds; it is looked through often.
_PLAIN = {bool, int, float, str, type(None)}


class Closed(Exception):
    """A call that cannot be opened: its text is the one reason."""


class Raises(Closed):
    """A call that cannot be opened because something raised."""


def open_call(layer, args, kwargs, whole=False, alone=False):
    """The graph that the `call` of a layer or model makes of symbolic tensors, and these.

    In the graph no call says whether it is in training, which it takes from what it is part of.
    Returns `None` where a layer holds no others: there is nothing to be opened, unless no copy can
    be made of it.

    Args:
        layer: The layer or model.
        args, kwargs: Arguments of its call.
        whole: Whether it is a model that is in no other one: it may hold nothing but weights, and
            those that its `call` does not use are left behind.
        alone: Whether a layer is opened that holds no others.

    Raises:
        Closed: The graph would not be the same; it says why.
    """
    inner = sublayers(layer)
    if not (inner or whole or alone) and no_config(layer) is None:
        return None
    tensors = list({id(value): value for value in symbolic_tensors(args, kwargs)}.values())
    # What it does without an optional input, and what the regularizer adds, no graph can show.
    if layer.activity_regularizer is not None:
        raise Closed("it has an activity_regularizer")
    if any(map(is_optional, tensors)):
        raise Closed("it reads an input that may be left out (optional=True)")
    given = layer, args, kwargs, tensors, inner, whole
    try:
        return _opened(_Reader(*given)), tensors
    except Raises as closed:
        reasons = [closed]
    for sizes in _stand_ins(given, tensors, reasons):
        try:
            return _opened(_Reader(*given, sizes=sizes)), tensors
        except Closed as closed:
            reasons.append(closed)
    raise reasons[1 if open_axes(tensors) else 0]


def _stand_ins(given, tensors, reasons):
    """Sizes for a call that may ask for those that are open; at last, for windows.

    Why others do not fit goes to `reasons`.
    """

    def fits(sizes):
        reader = _Reader(*given, sizes=sizes)
        try:
            with reader.parts_told():
                found = _difference(reader, reader.in_inference(), OTHERS)
        except Closed as closed:
            found = str(closed)
        reasons.extend([] if found is None else [Closed(found)])
        return found is None

    if open_axes(tensors):
        found = first_fitting(given[0], tensors, fits)
        yield from () if found is None else (found,)
    if any(x.shape[:1] == (None,) for x in tensors):
        yield OpenSizes({}, ())
        yield OpenSizes({}, (), WINDOWS)


def no_config(layer):
    """Why a layer has no configuration of which a copy could be made; `None` where it has one."""
    try:
        layer.get_config()
    except NotImplementedError:  # of Keras, which cannot make one of all arguments
        return "it has no get_config()"
    except Exception as error:  # whatever a get_config() of the user's raises
        return f"its get_config() raises {in_words(error)}"
    return None


def _opened(reader):
    """The graph of a reader that computes what its layer computes."""
    with reader.parts_told():
        graph = reader.graph()
        found = _difference(reader, graph)
    if found is not None:
        raise Closed(reader.fixed or found)
    return graph


def _difference(reader, graph, more_sizes=()):
    try:
        return reader.difference(graph, more_sizes)
    except Exception as error:  # a user's own code may fail on arrays in any way
        raise Raises(f"it raises {in_words(error)} on random arrays") from error


def sublayers(layer):
    """The layers that a layer holds in its attributes, at any depth."""
    found, todo = {}, [layer]
    while todo:
        for item in _items(vars(todo.pop())):
            if is_layer(item) and id(item) not in found:
                found[id(item)] = item
                todo.append(item)
    found.pop(id(layer), None)
    return list(found.values())


def unlisted_variables(layer):
    """Variables that Keras does not list among a layer's: the states of stateful recurrent ones."""
    listed = set(map(id, layer.variables))
    items = (item for each in (layer, *sublayers(layer)) for item in _items(vars(each)))
    return [x for x in items if isinstance(x, keras.Variable) and id(x) not in listed]


def _items(value):
    """A value, or the entries of a list, tuple or dict, at any depth; no numbers and texts."""
    found, todo = [], [value]
    while todo:
        value = todo.pop()
        if isinstance(value, (list, tuple)):
            todo += reversed(value)
        elif isinstance(value, dict):
            todo += reversed(value.values())
        elif type(value) not in _PLAIN:
            found.append(value)
    return found


# --- graphs ---------------------------------------------------------------------------------------


def _variables(layer):
    """All variables that a call could change, the state of Keras's own generator included."""
    return [*layer.variables, *unlisted_variables(layer), *global_random_state()]


class _Reader:
    """Reads what the `call` of a layer calls, under several conditions.

    A part that is held and not called gives its weights to the graph as numbers, which would stand
    still in training: these, and random numbers, are not the same when variables are changed.
    """

    def __init__(self, layer, args, kwargs, tensors, parts, whole, sizes=None):
        self._layer, self._args, self._kwargs = layer, args, kwargs
        self._tensors, self._parts, self._whole = tensors, parts, whole
        self._own, self._sizes = OwnWeights(layer, parts), sizes
        self._in_place, self._not_tensors = [], []  # parts that return more than tensors
        self._masked = False  # whether what it is called on has masks
        self._training = False  # whether the graph is the one in training
        self.fixed = None  # where a flag is set that a model around it cannot change, in words
        if "training" not in kwargs and trains_by_default(layer):
            self.fixed = "its call() trains unless it is told otherwise (training=True)"

    def in_inference(self):
        """The graph in inference alone."""
        return self._read(False)[0]

    def graph(self):
        """The graph, once it is known to be the same in training and whatever variables hold."""
        graph, calls = self._with_training(*self._read(False))
        lost = self._lost(graph)
        parts = [part for part in self._parts if set(map(id, part.weights)) & set(map(id, lost))]
        if parts:
            self._own.on_arrays(parts)
            graph, calls = self._with_training(*self._read(False))
            lost = self._lost(graph)
        without_holder = self._own.without_holder()
        if without_holder is not None:
            raise Closed(without_holder)
        fixed = [constant for call in calls for constant in call.constants]
        for variable in filter(is_variable, fixed):
            raise Closed(f"its call() reads '{variable.path}' rather than call the layer of it")
        if lost or any(is_array(value) or isinstance(value, float) for value in fixed):
            self._check_constants(calls)
        if lost and not self._whole:
            raise Closed(f"its call() does not call the layer of '{lost[0].path}'")
        return graph

    def difference(self, graph, more_sizes=()):
        """What layer and graph do differently on random arrays, in words; `None` if nothing."""
        given = self._layer, self._args, self._kwargs
        of_length = self._sizes and functools.partial(self._sizes.of_length, self._tensors)
        found = difference(
            *given, graph, self._tensors, _variables(self._layer), of_length, more_sizes
        )
        return f"{found}; {_MASKS}" if found is not None and self._masked else found

    def _lost(self, graph):
        """The weights that no layer of the graph has."""
        called = {id(weight) for each in graph.layers for weight in each.weights}
        return [weight for weight in self._layer.weights if id(weight) not in called]

    def _read(self, training, changed=()):
        """What a call makes of symbolic inputs, the variables of some ids changed; its calls."""
        sizes, tensors = self._sizes, self._tensors
        inputs = list(map(input_like, tensors)) if sizes is None else sizes.inputs(tensors)
        by_id = dict(zip(map(id, tensors), inputs))
        args, kwargs = keras.tree.map_structure(
            functools.partial(replaced, by_id), (self._args, self._kwargs)
        )
        self._masked = attach_masks(self._layer, args, kwargs)
        if has_training_argument(self._layer):
            kwargs = {**kwargs, "training": training}
        values = [
            (variable, _changed(variable) if id(variable) in changed else variable.value)
            for variable in _variables(self._layer)
        ]
        try:
            with self._stand_ins(inputs, training), called_from(self._layer, training):
                outputs, changes = call_with_values(self._layer.call, values, *args, **kwargs)
                if any(map(is_array, keras.tree.flatten(outputs))):
                    tensor = functools.partial(as_tensor, like_numbers(inputs))
                    outputs = keras.tree.map_structure(tensor, outputs)
            graph = keras.Model(inputs, outputs, name=self._layer.name)
            graph = with_masks_said(graph, inputs) if self._masked else graph
            graph = graph if sizes is None else sizes.for_any(graph, tensors)
        except Exception as error:  # a user's own code may fail on symbolic tensors in any way
            if self._run_in_place():
                return self._read(training, changed)
            raise Raises(f"its call() raises {in_words(error)} on symbolic tensors") from error
        for variable, _ in changes:
            is_weight = any(variable is weight for weight in self._layer.weights)
            raise Closed(f"its call() assigns '{variable.path}'" if is_weight else _DRAWS)
        return graph, calls_seen(graph)

    def _run_in_place(self):
        """From now on, run parts in place that have returned no tensors; tells whether any have."""
        found, self._not_tensors = self._not_tensors, []
        self._in_place += found
        if found:
            self._own = OwnWeights(self._layer, self._parts, tuple(self._in_place))
        return bool(found)

    def _spec_of(self, part, *args, **kwargs):
        """What a part makes of tensors, as if those that Keras calls sparse were not."""
        if not any(tensor.sparse for tensor in self._tensors):
            args, kwargs = keras.tree.map_structure(
                lambda value: dense_like(value) if is_symbolic(value) else value, (args, kwargs)
            )
        tell = functools.partial(type(part).compute_output_spec, part)
        with made_as_ever():
            specs = specs_told(part, args, kwargs, tell)
            if self._sizes is not None and all(map(is_symbolic, keras.tree.flatten(specs))):
                key = id(part), *(tuple(x.shape) for x in symbolic_tensors(args, kwargs))
                if key not in self._sizes.told:
                    self._sizes.told[key] = with_sizes(part, args, kwargs, specs)
                specs = keras.tree.map_structure(spec_like, self._sizes.told[key])
        if not all(map(is_symbolic, keras.tree.flatten(specs))):
            self._not_tensors.append(part)
        return specs

    @contextlib.contextmanager
    def parts_told(self):
        """Parts tell shapes through `_spec_of`, and each has a name of its own in the graph."""
        taken, names = {self._layer.name}, [part.name for part in self._parts]
        for part in self._parts:
            vars(part)["compute_output_spec"] = functools.partial(self._spec_of, part)
            part.name = free_name(part.name, taken)
            taken.add(part.name)
        try:
            yield
        finally:
            for part, name in zip(self._parts, names):
                del vars(part)["compute_output_spec"]
                part.name = name

    @contextlib.contextmanager
    def _stand_ins(self, inputs, training):
        """Own weights are tensors, and so is what is made of open sizes alone."""
        making = contextlib.nullcontext()
        if self._sizes is not None:
            making = self._sizes.making(inputs, self._tensors)
        with self._own.as_tensors(inputs, training), making:
            yield

    def _with_training(self, graph, calls):
        """The graph in training, where that is the one in inference and dropouts more."""
        trained, in_training = self._read(True)
        missing, more = differing_calls(calls, in_training)
        if missing or not all(call.may_matter_in_training_only for call in more):
            names = " and ".join(dict.fromkeys(c.operation.name for c in (*missing, *more)))
            raise Closed(f"its call() is another one in training than in inference: see {names}")
        for seen, other, mode in ((in_training, False, "training"), (calls, True, "inference")):
            for call in (call for call in seen if call.training is other):
                words = f"it calls '{call.operation.name}' with training={other} in {mode}"
                self.fixed = self.fixed or words
        self._training = bool(more)
        return (_without_flags(trained), in_training) if more else (graph, calls)

    def _check_constants(self, calls):
        """Raise where constants of the graph are made of weights or random numbers."""
        weights = set(map(id, self._layer.weights))
        others = set(map(id, _variables(self._layer))) - weights
        for changed, reason in ((weights, _READS), (others, _DRAWS)):
            found = self._read(self._training, changed)[1]
            if [call.key for call in found] != [call.key for call in calls]:
                raise Closed(reason)


def _without_flags(graph):
    """The same graph, in which no call says whether it is in training."""

    def call(operation, *args, **kwargs):
        kwargs.pop("training", None)
        return operation(*args, **kwargs)

    return keras.models.clone_model(
        graph, clone_function=lambda operation: operation, call_function=call
    )


_MASKS = "its input has a mask, which operations do not hand on to the layers that it calls"
_READS = "its call() computes with weights of a layer rather than call it"
_DRAWS = "its call() draws random numbers itself; let a layer of its own draw them"


def _changed(variable):
    return ops.logical_not(variable) if variable.dtype == "bool" else variable + 1
