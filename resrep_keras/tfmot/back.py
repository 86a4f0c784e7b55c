"""from_tf_keras(model, trained): weights that were trained in tf_keras, in Keras 3 again."""

from resrep_keras.common.checks import check_instance
from resrep_keras.graph.trace import recording_of
from resrep_keras.graph.unroll import check_model
from resrep_keras.keras_adapter import is_layer
from resrep_keras.surgery.rebuild import rebuild
from resrep_keras.tflite.precision import in_float32
from resrep_keras.tflite.scopes import with_scope_names
from resrep_keras.tfmot.packages import keras_2

TFMOT = "tensorflow_model_optimization"


def from_tf_keras(model, trained):
    """Copy a model with the weights that its copy in tf_keras has now.

    So what tfmot's clustering (`strip_clustering`) or pruning (`strip_pruning`) leaves goes on as
    any other model: `resrep_keras.export`, `report`, `model.save`.

    Args:
        model: The model of Keras 3.
        trained: What became of `to_tf_keras(model)`: with layers of the same names and shapes.

    Returns:
        A `keras.Model`, not compiled, with the names of `model`.

    Raises:
        TypeError: Not a Keras model, or not one of tf_keras.
        ValueError: A layer with weights is missing, or of another shape.

    Example:

    >>> copy = resrep_keras.tfmot.to_tf_keras(slim)
    >>> clustered = tfmot.clustering.keras.cluster_weights(copy, **settings)
    >>> clustered.fit(x_train, y_train)
    >>> stripped = tfmot.clustering.keras.strip_clustering(clustered)
    >>> slim = resrep_keras.tfmot.from_tf_keras(slim, stripped)
    """
    check_model(model)
    check_instance("trained", trained, keras_2().Model, "a model of tf_keras")
    if any(type(layer).__module__.startswith(TFMOT) for layer in trained.layers):
        raise ValueError(
            f"Model '{trained.name}' still has layers of tensorflow-model-optimization in it. Give "
            "what strip_clustering or strip_pruning returns, or, after quantisation-aware "
            "training, write it by resrep_keras.tfmot.export."
        )
    recording = recording_of(with_scope_names(in_float32(model)), whole=True)
    layers = {layer.name: layer for layer in trained.submodules if hasattr(layer, "get_weights")}
    changes = {}
    for recorded in recording.all_calls():
        if is_layer(recorded.operation) and recorded.inner is None:
            weights = _weights(recorded, layers, trained)
            changes[recorded.name] = lambda weights=weights: ({}, weights)
    return rebuild(recording, changes)


def _weights(recorded, layers, trained):
    own = recorded.operation.get_weights()
    if not own:
        return None
    if recorded.name not in layers:
        raise ValueError(
            f"Expected what became of to_tf_keras(model); '{trained.name}' has no layer "
            f"'{recorded.name}'."
        )
    found = layers[recorded.name].get_weights()
    if not found:  # constants there, such as statistics
        return own
    if [w.size for w in own] != [w.size for w in found]:
        raise ValueError(
            f"Layer '{recorded.name}' has weights of the shapes {[w.shape for w in own]}, in "
            f"'{trained.name}' {[w.shape for w in found]}."
        )
    return [w.reshape(mine.shape) for w, mine in zip(found, own)]
