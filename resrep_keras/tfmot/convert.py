"""to_tf_keras(model): the same model in tf_keras (Keras 2), which tfmot works on."""

import typing

import keras
import numpy as np

from resrep_keras.common.types import InputShape
from resrep_keras.graph.flow import rule_of
from resrep_keras.graph.trace import recording_of
from resrep_keras.graph.unroll import check_model
from resrep_keras.keras_adapter import input_name, is_layer
from resrep_keras.methods.certificate import tolerance_of
from resrep_keras.surgery.forward import example_inputs, run
from resrep_keras.surgery.heads import largest_difference
from resrep_keras.tflite.precision import in_float32
from resrep_keras.tflite.scopes import with_scope_names
from resrep_keras.tfmot.counterparts import Followed, NotTaken, counterpart
from resrep_keras.tfmot.doubles import difference_in_float64
from resrep_keras.tfmot.packages import keras_2, tensorflow_of_keras_2


def to_tf_keras(model: keras.Model, input_shape: InputShape = None) -> typing.Any:
    """Rebuild a Keras 3 model in tf_keras, with its weights, for tensorflow-model-optimization.

    Models inside of it are written out flat, as tfmot wants it. Layers keep their names, and
    so do inputs and outputs. Operations such as `x + y` or `keras.ops.relu` become the layers that
    tfmot knows, where there are such. Both models are run on the same random inputs: a copy that
    differs by more than rounding is refused. Where float32 leaves it open what is rounding, which a
    deep net may blow up to any size, both are run in float64.

    `import resrep_keras` imports neither tf_keras nor tfmot, and `tf.keras` stays Keras 3.

    Args:
        model: A built Keras model without compactors, on the TensorFlow backend. One of a mixed
            policy becomes float32.
        input_shape: Shape without batch of the random inputs where the model leaves sizes open, see
            `resrep_keras.graph.sizes`. Defaults to `None`, by which such a size is 64.

    Returns:
        A `tf_keras.Model`, not compiled, that shares nothing with the original.

    Raises:
        ImportError: tf_keras is not installed.
        TypeError: Not a Keras model.
        ValueError: Layers or operations have no counterpart in tf_keras: all of them are named,
            and nothing is built then. Or Keras runs on another backend.

    Example:

    >>> slim = resrep_keras.finalize(model)
    >>> copy = resrep_keras.tfmot.to_tf_keras(slim)
    """
    check_model(model)
    keras_2()  # what is missing is told first
    own = with_scope_names(in_float32(model))
    copy = _Copy(recording_of(own, whole=True))
    with tensorflow_of_keras_2():
        copy = copy.model()
    inputs = example_inputs(own, input_shape=input_shape)
    expected = keras.tree.flatten(run(own, inputs))
    found = [np.asarray(v, np.float64) for v in keras.tree.flatten(copy(inputs, training=False))]
    apart = largest_difference(expected, found)
    if not apart.relative <= tolerance_of(own):
        apart = difference_in_float64(own, copy, inputs) or apart
    if not apart.relative <= tolerance_of(own):
        raise ValueError(
            f"The copy of model '{model.name}' in tf_keras differs from it by {apart.relative:.2g} "
            "of the largest output, which is more than rounding. A layer computes something else "
            "there; a rule for it is registered by resrep_keras.tfmot.counterpart.register(its "
            "class)."
        )
    return copy


class _Copy:
    def __init__(self, recording):
        self._recording = recording
        self._made = {}
        problems = []
        for recorded in recording.all_calls():
            key = self._key(recorded)
            if recorded.inner is None and key not in self._made:
                try:
                    self._made[key] = rule_of(counterpart, recorded.operation)(
                        recorded.operation, recorded
                    )
                except NotTaken as problem:
                    problems.append(_in_words(recorded, problem))
            elif recorded.inner is not None and not _repeats(recorded.operation):
                problems.append(_in_words(recorded, "no counterpart in tf_keras"))
        if problems:
            raise ValueError(_all_in_words(recording, problems))

    def _key(self, recorded):
        return id(recorded.operation) if is_layer(recorded.operation) else recorded.name

    def model(self):
        tf_keras = keras_2()
        inputs = keras.tree.map_structure(_input_like, self._recording.inputs)
        outputs = self._recording.run(inputs, self._call)
        model = tf_keras.Model(inputs, outputs, name=self._recording.name)
        if not self._recording.trainable:
            model.trainable = False
        for recorded in self._recording.all_calls():
            if is_layer(recorded.operation) and recorded.inner is None:
                _copy_weights(recorded, self._made[self._key(recorded)])
        return model

    def _call(self, recorded, *args, **kwargs):
        given = {name: value for name, value in kwargs.items() if value is not None}
        return self._callable(recorded)(*args, **given)

    def _callable(self, recorded):
        if recorded.inner is None:
            return self._made[self._key(recorded)]
        key = id(recorded.operation)
        if key not in self._made:
            self._made[key] = self._repeated(recorded)
        return self._made[key]

    def _repeated(self, recorded):
        """A layer that applies another one, or several, at each entry of axis 1."""
        tf_keras, inner = keras_2(), recorded.inner
        alone = self._made.get(id(inner.calls[0].operation)) if len(inner.calls) == 1 else None
        if not isinstance(alone, tf_keras.layers.Layer):
            inputs = _input_like(inner.inputs)
            alone = tf_keras.Model(inputs, inner.run(inputs, self._call), name=inner.name)
        return tf_keras.layers.TimeDistributed(alone, name=recorded.name)


def _repeats(operation):
    return type(operation) is keras.layers.TimeDistributed


def _input_like(tensor):
    return keras_2().Input(
        batch_shape=tuple(tensor.shape), dtype=tensor.dtype, name=input_name(tensor)
    )


def _copy_weights(recorded, made):
    layer = made.layer if isinstance(made, Followed) else made
    weights = recorded.operation.get_weights()
    if not isinstance(layer, keras_2().layers.Layer) or not weights or not layer.weights:
        return  # a function, or constants
    sizes = [w.size for w in weights], [int(np.prod(w.shape)) for w in layer.weights]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"Layer '{recorded.name}' of type {type(recorded.operation).__name__} has weights of "
            f"the sizes {sizes[0]}; in tf_keras they are {sizes[1]}."
        )
    layer.set_weights([w.reshape(own.shape) for w, own in zip(weights, layer.weights)])


def _in_words(recorded, problem):
    kind = type(recorded.operation)
    what = f"layer '{recorded.name}' of type {kind.__name__}"
    if not is_layer(recorded.operation):
        what = f"operation '{recorded.name}' ({kind.__name__} of keras.ops)"
    return f"{what} has {problem}"


def _all_in_words(recording, problems):
    listed = "\n  ".join(problems)
    return (
        f"tf_keras cannot take model '{recording.name}':\n  {listed}\n"
        "Replace each by layers that Keras 2 has, too, or register what it is there: "
        "resrep_keras.tfmot.counterpart.register(its class). Without tf_keras, "
        "resrep_keras.export(..., quantization='int8') and slim.quantize('int8') take any model."
    )
