"""PruningState: what pruning has to remember, in variables that outlive an optimizer."""

import keras
import numpy as np
from keras import ops

NOTE = "note."  # before the names of notes among the values that are saved


class PruningState:
    """Variables by name, which belong to a model.

    `compile` makes a new optimizer, whose own state begins anew. Masks, plans and sums of a pruning
    run must not: they are kept here, and each `OptimizerWrapper` of the model goes on with them.
    They are saved with the model, too, so that one that is loaded and compiled anew goes on.

    Attributes:
        notes: ``{name: value}``, what code that is traced must know of a variable, which it cannot
            read.
    """

    def __init__(self):
        # Keras looks for variables in lists and dicts of a model, and not in here.
        self._variables, self._loaded = {}, {}
        self.notes = {}

    def variable(self, name, shape, dtype, initializer="zeros", aggregation="none"):
        """The variable of a name; a new one where there is none of this shape and dtype."""
        known = self._variables.get(name)
        if known is None or (tuple(known.shape), known.dtype) != (tuple(shape), dtype):
            known = self._variables[name] = keras.Variable(
                keras.initializers.get(initializer),
                shape=tuple(shape),
                dtype=dtype,
                trainable=False,
                aggregation=aggregation,
                name=name.replace("/", "_"),
            )
            value = self._loaded.pop(name, None)
            if value is not None and value.shape == tuple(shape):
                known.assign(value)
        return known

    def values(self):
        """``{name: array}`` of what is remembered, to be saved with the model."""
        made = {name: ops.convert_to_numpy(x) for name, x in self._variables.items()}
        notes = {f"{NOTE}{name}": np.array(value) for name, value in self.notes.items()}
        return {**self._loaded, **made, **notes}

    def load(self, values):
        """Go on with what another process remembered: variables that are there, and new ones."""
        for name, value in values.items():
            known = self._variables.get(name)
            if name.startswith(NOTE):
                self.notes[name.removeprefix(NOTE)] = value.item()
            elif known is None or tuple(known.shape) != value.shape:
                self._loaded[name] = value
            else:
                known.assign(value)
