"""PruningState: what pruning has to remember, in variables that outlive an optimizer."""

import keras


class PruningState:
    """Variables by name, which belong to a model.

    `compile` makes a new optimizer, whose own state begins anew. Masks, plans and sums of a pruning
    run must not: they are kept here, and each `OptimizerWrapper` of the model goes on with them.

    Attributes:
        notes: ``{name: value}``, what code that is traced must know of a variable, which it cannot
            read.
    """

    def __init__(self):
        # Keras looks for variables in lists and dicts of a model, and not in here.
        self._variables = {}
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
        return known
