"""Parameters of a model."""

from resrep_keras.graph.unroll import check_model


def count_params(model):
    """Count all scalar weights of a model, as `keras.Model.count_params` does.

    Returns:
        An int; weights that are not trainable (batch statistics) are included.
    """
    check_model(model)
    return int(model.count_params())
