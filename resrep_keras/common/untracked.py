"""Untracked: a value that Keras leaves as it is."""


class Untracked:
    """Holds a value in an attribute of a layer, model or optimizer, hidden from Keras.

    Keras takes the layers, variables and metrics that it finds in attributes for parts of what has
    the attribute, and puts lists and dicts into wrappers of its own. It does not look in here.

    >>> model.note = Untracked({"layer": layer})
    >>> model.note.value["layer"] is layer
    True

    Args:
        value: The value.
    """

    def __init__(self, value):
        self.value = value
