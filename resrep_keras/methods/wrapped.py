"""What a wrapped model carries: its method, and what was noted of it.

Questions, so that what stands below the class of wrapped models can ask any model.
"""

import functools

from resrep_keras.common.untracked import Untracked


@functools.singledispatch
def method_of(model):
    """The method of a wrapped model; `None` for any other model."""
    del model
    return None


@functools.singledispatch
def baseline_of(model):
    """The `Baseline` of a wrapped model; `None` for any other model."""
    del model
    return None


def notes_of(model):
    """A dict in the model itself: what a method has found out about it, not saved with it.

    It lives as long as the model, however it may hold on to it. Keras, which writes what it finds
    in dicts of a model into its files, does not look in.
    """
    return vars(model).setdefault("_notes_of_method", Untracked({})).value
