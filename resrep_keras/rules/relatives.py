"""What trying has shown of a layer holds for others that differ in the number of channels alone.

A network has layers of one class at many widths. The first is tried in full; of the others one
choice of channels shows whether the same holds. That is done for layers that multiply nothing and
whose channels stay in their places.
"""

import dataclasses

import numpy as np

from resrep_keras.rules.passing import Search, find_passing
from resrep_keras.surgery.alike import relatives_key
from resrep_keras.surgery.choosing import axes_that_shrink, copy_for
from resrep_keras.surgery.trial import Unlike


def find_among_relatives(call, trial, axes, width, find_cost):
    """As `find_passing`, with its cost; that of a relative where it holds.

    Args:
        call: The `Call`.
        trial: Its `Trial`.
        axes, width: See `find_passing`.
        find_cost: A function of `Passes` that answers with what the layer multiplies.

    Raises:
        Unlike: See `find_passing`.
    """
    key = relatives_key(call, width)
    key = None if key is None else (key, tuple(axes.items()))
    found = None if key is None else _of_relative(call.known.get(key), trial, axes, width)
    if found is not None:
        return found
    found = find_passing(trial, axes, width)
    found = dataclasses.replace(found, cost=find_cost(found))
    if key is not None and found.cost == {} and _stay_in_place(found):
        call.known[key] = found
    return found


def _stay_in_place(passes):
    return all(np.array_equal(sources, np.arange(passes.width)) for _, sources in passes.outputs)


def _of_relative(passes, trial, axes, width):
    """The `Passes` of a relative for another number of channels; `None` where they do not hold."""
    if passes is None:
        return None
    outputs = tuple((axis, np.arange(width)) for axis, _ in passes.outputs)
    found = dataclasses.replace(passes, axes=axes, width=width, outputs=outputs)
    search = Search(trial, axes, width)
    choice = search.choices[0]
    try:
        (copy,), setting = copy_for(trial, axes, width, [len(choice)])
        shrink = axes_that_shrink(trial, copy, width, len(choice))
        if setting != found.key or shrink != found.weights:
            return None
        search.check(found, copy, choice, 0)
    except Unlike:
        return None
    return found
