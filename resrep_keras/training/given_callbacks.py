"""The callbacks that a user gives to `fit`, in any of their forms."""

import keras


def callbacks_of(given):
    """The callbacks that are given to `fit`: one, a list of them, a `CallbackList`, or `None`."""
    if isinstance(given, keras.callbacks.CallbackList):
        return list(given.callbacks)
    return keras.tree.flatten(given) if given else []


def with_callbacks(given, callbacks):
    """What to give `fit` instead, so that it runs `callbacks`.

    Args:
        given: What the user gave. A `CallbackList` stays the same object.
        callbacks: The callbacks of `given` and others, in their order.
    """
    if not isinstance(given, keras.callbacks.CallbackList):
        return callbacks
    known = set(map(id, given.callbacks))
    for callback in callbacks:
        if id(callback) not in known:  # Keras tells only those that the list was made of
            callback.set_model(given.model)
            callback.set_params(given.params)
    given.callbacks[:] = callbacks
    return given
