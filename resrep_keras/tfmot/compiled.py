"""compile_as(model, copy): compile a copy in tf_keras as its model is."""

import warnings

from resrep_keras.keras_adapter import compile_arguments
from resrep_keras.tfmot.counterparts import NotTaken
from resrep_keras.tfmot.settings import in_keras_2

ARGUMENTS = ("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics", "run_eagerly")


def compile_as(model, copy):
    """Compile a copy of a model, if that is compiled, with the same things as tf_keras has them.

    Where it has not, a warning says so, and the copy is not compiled. Functions of the user's own
    go on as they are.
    """
    if not model.compiled:
        return
    given = compile_arguments(model)
    try:
        made = {name: in_keras_2(given[name]) for name in ARGUMENTS if name in given}
    except NotTaken as problem:
        warnings.warn(
            f"The copy of model '{model.name}' in tf_keras is not compiled, for the model is "
            f"compiled with {problem}. Call compile on the copy.",
            stacklevel=3,
        )
        return
    copy.compile(**made)
