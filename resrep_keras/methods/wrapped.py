"""What a wrapped model carries: its method, and what was noted of the dense model.

Questions, so that what stands below the class of wrapped models can ask any model.
"""

import functools


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
