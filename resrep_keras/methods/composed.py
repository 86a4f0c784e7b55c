"""compose: methods of different kinds in one run."""

import operator

import keras

from resrep_keras.graph.flow import register_all
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.scored import ScoredCompactor
from resrep_keras.methods.baseline import Baseline
from resrep_keras.methods.gradients.places import Role, role
from resrep_keras.methods.method import Method, check_method


@keras.saving.register_keras_serializable("resrep_keras")
class Composed(Method):
    """Several methods that work on one model at once; made by `compose`."""

    def __init__(self, methods):
        methods = list(methods)
        for method in methods:
            check_method("each of methods", method)
        if len(methods) < 2:
            raise ValueError(f"Expected two methods or more to compose; got {methods}.")
        _check_together(methods)
        # What takes something away comes first: it traces the model as it is.
        self.methods = sorted(methods, key=lambda method: not method.trains)

    # The settings of a run are those of the method that takes something away ----------------------

    @property
    def lead(self):
        """The method that comes first, and decides how far a run goes."""
        return self.methods[0]

    @property
    def total_steps(self):
        return _the_one("total_steps", [method.total_steps for method in self.methods])

    @property
    def input_shape(self):
        return _the_one("input_shape", [method.input_shape for method in self.methods])

    @property
    def exact(self):
        return all(method.exact for method in self.methods)

    @property
    def threshold(self):
        return self.lead.threshold

    @property
    def trains(self):
        return any(method.trains for method in self.methods)

    # What a method answers ------------------------------------------------------------------------

    def insert(self, model):
        baseline = Baseline()
        for method in self.methods:
            model, noted = method.insert(model)
            baseline = baseline.joined(noted)
        return model, baseline

    def optimizer(self, inner, model=None):
        for method in self.methods:
            inner = method.optimizer(inner, model)
        return inner

    def callback(self):
        return self.lead.callback()

    def check_run(self, first, last):
        for method in self.methods:
            method.check_run(first, last)

    def end_of_run(self, model, data):
        for method in self.methods:
            method.end_of_run(model, data)

    def forward(self, model, inputs, training):
        answers = (method.forward(model, inputs, training) for method in self.methods)
        return next((answer for answer in answers if answer is not None), None)

    def phase(self, model):
        return tuple(method.phase(model) for method in self.methods)

    def finalize(self, model, data=None, keep_batch_norm=False):
        """The first method's: what the others put into a model is in no graph that is read."""
        return self.lead.finalize(model, data, keep_batch_norm)

    def logs(self, model):
        return {name: value for m in self.methods for name, value in m.logs(model).items()}

    def target_met(self, model):
        return all(method.target_met(model) for method in self.methods)

    # What a callback asks where channels go -------------------------------------------------------

    def baseline(self, dense, channel_state):
        return self.lead.baseline(dense, channel_state)

    def limits(self, channel_state):
        return self.lead.limits(channel_state)

    def plan(self, first, last, steps_per_epoch):
        return self.lead.plan(first, last, steps_per_epoch)

    def prepare_run(self, model, channel_state):
        self.lead.prepare_run(model, channel_state)

    def check(self, channel_state, plan, last, optimizer):
        self.lead.check(channel_state, plan, last, optimizer)

    def update(self, channel_state, optimizer, plan, step):
        self.lead.update(channel_state, optimizer, plan, step)


def compose(*methods: Method) -> Composed:
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


def _the_one(name, values):
    """The value of a setting that one method has, or several agree on; `None` where none has it."""
    known = [value for value in values if value is not None]
    if any(value != known[0] for value in known):
        raise ValueError(
            f"Expected methods of one run to agree on {name}; got {known}. Set it on one of them, "
            "or the same on each."
        )
    return known[0] if known else None


def _check_together(methods):
    training = [method for method in methods if method.trains]
    if len(training) > 1:
        names = " and ".join(type(method).__name__ for method in training)
        raise ValueError(
            f"{names} both train the model with an optimizer of their own, and do not go together "
            "in one run. Use one after the other: finalize() the first, and wrap() the slim model "
            "with the second."
        )
    for name in ("total_steps", "input_shape"):
        _the_one(name, [operator.attrgetter(name)(method) for method in methods])
    kinds = [type(method) for method in methods]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"Expected each method once; got {[kind.__name__ for kind in kinds]}.")
    if any(method.slim_every is not None for method in methods):
        raise ValueError(
            "slim_every rebuilds the model in the middle of training, without what other methods "
            "have put into it. Set slim_every=None; finalize() removes the channels at the end."
        )


@register_all(role, Compactor, ScoredCompactor)
def _compactor(layer):
    """A compactor takes over the activation of the layer before it."""
    linear = layer.activation is keras.activations.linear
    return Role.PASSAGE if linear else Role.ACTIVATION
