"""compose: methods of different kinds in one run."""

import keras

from resrep_keras.layers.compactor import Compactor
from resrep_keras.methods.gradients.places import Role, role
from resrep_keras.methods.method import Method


@keras.saving.register_keras_serializable("resrep_keras")
class Composed(Method):
    """Several methods that work on one model at once; made by `compose`."""

    def __init__(self, methods):
        methods = list(methods)
        for method in methods:
            if not isinstance(method, Method):
                raise TypeError(
                    f"Expected pruning methods such as resrep_keras.ResRep(); got {method!r} of type "
                    f"{type(method).__name__}."
                )
        if len(methods) < 2:
            raise ValueError(f"Expected two methods or more to compose; got {methods}.")
        _check_together(methods)
        # What takes something away comes first: it traces the model as it is.
        self.methods = sorted(methods, key=lambda method: not _trains(method))

    @property
    def removes_channels(self):
        return self.methods[0].removes_channels

    def __getattr__(self, name):
        """Settings and answers of the method that removes channels are those of all of them."""
        lead = vars(self).get("methods", [None])[0]
        if lead is None or name.startswith("__") or not lead.removes_channels:
            raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'.")
        return getattr(lead, name)

    def insert(self, model):
        baseline = {}
        for method in self.methods:
            model, noted = method.insert(model)
            baseline = {**noted, **baseline}
        return model, baseline

    def optimizer(self, inner, model=None):
        for method in self.methods:
            inner = method.optimizer(inner, model)
        return inner

    def callback(self):
        return self.methods[0].callback()  # of what removes channels, if anything does

    def end_of_run(self, model, data):
        for method in self.methods:
            method.end_of_run(model, data)

    def forward(self, model, inputs, training):
        answers = (method.forward(model, inputs, training) for method in self.methods)
        return next((answer for answer in answers if answer is not None), None)

    def finalize(self, model, data=None):
        """The first method's: what the others put into a model is in no graph that is read."""
        return self.methods[0].finalize(model, data)

    def logs(self, model):
        return {name: value for m in self.methods for name, value in m.logs(model).items()}

    def target_met(self, model):
        return all(method.target_met(model) for method in self.methods)


def compose(*methods):
    """Methods of different kinds in one run, such as ResRep with pruned activation gradients.

    At most one of them may train the model with an optimizer of its own. What removes channels and
    what makes single weights zero do not go together: compactors mix channels, and folding them
    fills the zeros in. Prune channels first, then wrap the slim model again:

    >>> slim = resrep_keras.finalize(model)
    >>> sparse_model = resrep_keras.wrap(slim, resrep_keras.GraNet(final_sparsity=0.9))

    Args:
        *methods: Two methods or more.

    Returns:
        A method for `wrap`.

    Raises:
        TypeError: Something else than methods.
        ValueError: Methods that do not go together, and why.

    Example:

    >>> method = resrep_keras.compose(
    ...     resrep_keras.ResRep(target_reduction=0.5), resrep_keras.ActivationGradientPruning(0.9)
    ... )
    >>> model = resrep_keras.wrap(dense, method)
    """
    return Composed(methods)


def _trains(method):
    """Whether a method trains the model with an optimizer of its own."""
    return type(method).optimizer is not Method.optimizer


def _check_together(methods):
    training = [method for method in methods if _trains(method)]
    if len(training) > 1:
        names = " and ".join(type(method).__name__ for method in training)
        raise ValueError(
            f"{names} both train the model with an optimizer of their own, and do not go together in "
            "one run. Use one after the other: finalize() the first, and wrap() the slim model with "
            "the second."
        )
    kinds = [type(method) for method in methods]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"Expected each method once; got {[kind.__name__ for kind in kinds]}.")
    if any(getattr(method, "slim_every", None) is not None for method in methods):
        raise ValueError(
            "slim_every rebuilds the model in the middle of training, without what other methods "
            "have put into it. Set slim_every=None; finalize() removes the channels at the end."
        )


@role.register
def _compactor(layer: Compactor):
    """A compactor takes over the activation of the layer before it."""
    linear = layer.activation is keras.activations.linear
    return Role.PASSAGE if linear else Role.ACTIVATION
