"""Every call of a model, in order: the only place that walks a Keras model."""

import keras


class _Probe(keras.Operation):
    """A weightless stand-in for a call, so that a model is read without being called again."""

    def __init__(self, specs):
        super().__init__()
        self._specs = specs

    def call(self, *tensors):
        raise NotImplementedError("A probe only stands for shapes.")

    def compute_output_spec(self, *tensors):
        return self._specs


def is_symbolic(value):
    return isinstance(value, keras.KerasTensor)


def symbolic_tensors(args, kwargs):
    """The symbolic tensors among the arguments of a call, flattened."""
    return [value for value in keras.tree.flatten((args, kwargs)) if is_symbolic(value)]


def check_model(model):
    """Raise unless `model` is a built Functional or Sequential model.

    Raises:
        TypeError: Not a Keras model.
        ValueError: An unbuilt Sequential or a subclassed model.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected a keras.Model; got {model!r} of type {type(model).__name__}.")
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(
            f"Sequential model '{model.name}' has no graph yet because its input shape is unknown. "
            "Start it with keras.Input(shape) or call model.build(input_shape) first."
        )
    if not isinstance(model, (keras.Sequential, keras.Function)):
        raise ValueError(
            f"Expected a Functional or Sequential model; got '{model.name}' of the subclass "
            f"{type(model).__name__}. Rebuild it as keras.Model(inputs, model.call(inputs))."
        )


def inputs_of(model):
    """The symbolic inputs of a model, in the structure in which it is called."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def as_functional(model):
    """A plain, uncompiled Functional model over the same layers."""
    check_model(model)
    outputs = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    return keras.Model(inputs_of(model), outputs, name=model.name)


def walk(model, call, inputs=None):
    """Rebuild `model`, answering each call with ``call(operation, *args, **kwargs)``.

    The order of calls is a function of the model alone, so that two walks can be matched by
    position. Layers are handed over as they are; raw `keras.ops` nodes are operations, too.

    Args:
        model: Functional or Sequential model.
        call: Returns the symbolic outputs of one call.
        inputs: Symbolic inputs in the structure of `model.input`. Defaults to copies.
    """
    return keras.models.clone_model(
        as_functional(model),
        input_tensors=inputs,
        clone_function=lambda operation: operation,
        call_function=call,
    )


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


def record(model, visit, input_shape=None):
    """Call ``visit(operation, args, kwargs, outputs)`` for each call; touch no layer.

    Args:
        input_shape: Shape without batch that replaces unknown sizes of a single-input model.

    Returns:
        The symbolic inputs and outputs of the recorded graph, flattened.
    """

    def call(operation, *args, **kwargs):
        specs = output_specs(operation, args, kwargs)
        outputs = _Probe(specs)(*symbolic_tensors(args, kwargs))
        visit(operation, args, kwargs, keras.tree.flatten(outputs))
        return outputs

    inputs = None
    if input_shape is not None:
        inputs = keras.tree.map_structure(
            lambda x: keras.Input(tuple(input_shape), dtype=x.dtype, name=x.name),
            inputs_of(model),
        )
    probed = walk(model, call, inputs)
    return probed.inputs, probed.outputs
