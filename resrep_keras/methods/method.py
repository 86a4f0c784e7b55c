"""The questions a pruning method answers.

A method is a small serialisable value: it holds settings, no state. What changes during training
lives in variables of the model and its optimizer.
"""

import inspect
import math
from fractions import Fraction

import keras
import numpy as np

from resrep_keras.budget import check_share, choose_keep
from resrep_keras.costs.macs import MacCost


class Method:
    """Base of the methods: which channels may go, how many, and how that is found out.

    Args:
        target_reduction: Share of the dense MACs to remove, between 0 and 1, both excluded.
        min_channels: Channels that each layer keeps at least, 1 or more.
        min_share: The same as a share of the layer's channels, in [0, 1).
        exclude: Names of layers that keep all channels.
        coupled: Whether to prune channels that several layers must give up at once, such as those
            of a residual stream.
        input_shape: Shape of one input, without batch, for a model with unknown sizes.
        exact: Whether channels stay whose removal changes outputs, because something is computed
            over all channels together (layer normalisation).
    """

    def __init__(
        self,
        target_reduction=0.5,
        min_channels=1,
        min_share=0.0,
        exclude=(),
        coupled=False,
        input_shape=None,
        exact=True,
    ):
        check_share("target_reduction", target_reduction)
        if not isinstance(min_channels, int) or min_channels < 1:
            raise ValueError(
                f"Expected min_channels to be an int of 1 or more; got {min_channels!r}."
            )
        if not isinstance(min_share, (int, float)) or not 0 <= min_share < 1:
            raise ValueError(f"Expected min_share in [0, 1); got {min_share!r}.")
        if isinstance(exclude, str):
            raise TypeError(
                f"Expected exclude to be a list of layer names; got the str {exclude!r}."
            )
        self.target_reduction = float(target_reduction)
        self.min_channels = min_channels
        self.min_share = float(min_share)
        self.exclude = tuple(exclude)
        self.coupled = bool(coupled)
        self.input_shape = None if input_shape is None else tuple(input_shape)
        self.exact = bool(exact)

    # The questions ----------------------------------------------------------------------------

    def prepare(self, graph):
        """Where compactors go: ``(sites, names of diagonal ones)``.

        Raises:
            ValueError: Nothing can be pruned, a name is unknown, or the target is out of reach.
        """
        groups = self.groups(graph)
        cost = MacCost(graph)
        flat = np.zeros(graph.num_channels)
        self.choose(graph, groups, flat, cost, self.target(cost))
        sites = {site.name: site for group in groups for site in group.sites}
        return list(sites.values()), self.diagonal(graph, sites, cost.by_layer())

    def diagonal(self, graph, sites, layer_macs):
        """Names of the sites where a full matrix would be wrong or too dear."""
        del graph, layer_macs
        return set(sites)

    def optimizer(self, inner):
        """The optimizer to train the wrapped model with."""
        return inner

    def plan(self, first, last, steps_per_epoch):
        """The `Plan` of selections for the steps from `first` to `last`."""
        raise NotImplementedError

    def check(self, compaction, plan, last, optimizer):
        """Raise a `ValueError` where `plan` cannot meet the target by step `last`."""

    def update(self, compaction, optimizer, plan, step):
        """Select channels after `step` steps: read norms, write keep masks."""
        raise NotImplementedError

    threshold = 1e-5

    # What methods share -----------------------------------------------------------------------

    def groups(self, graph):
        """The groups that may lose channels."""
        for name in self.exclude:
            graph.group(name)
        groups = [
            group
            for group in graph.groups
            if group.prunable
            and (self.coupled or not group.coupled)
            and not any(producer.name in self.exclude for producer in group.producers)
        ]
        if not groups:
            unknown = [f"{name}: {why}" for name, why in graph.pins if "has no rule" in why]
            found = [f"{g.name}: {g.reason or 'coupled or excluded'}" for g in graph.groups]
            reasons = "; ".join([*unknown[:3], *found[:5]])
            raise ValueError(
                "The model has no channels that can be pruned. Expected at least one convolution or "
                f"dense layer that is not an output. Found: {reasons or 'no such layer'}."
            )
        return groups

    def target(self, cost):
        """The largest cost that meets `target_reduction`."""
        return math.floor(cost() * (1 - Fraction(repr(self.target_reduction))))

    def choose(self, graph, groups, scores, cost, target, allowance=None):
        return choose_keep(
            graph, scores, cost, target, groups, self.min_channels, self.min_share, allowance
        )

    # A value ----------------------------------------------------------------------------------

    def get_config(self):
        names = inspect.signature(type(self).__init__).parameters
        config = {name: getattr(self, name) for name in names if name != "self"}
        return {name: keras.saving.serialize_keras_object(value) for name, value in config.items()}

    @classmethod
    def from_config(cls, config):
        return cls(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash(repr(self))

    def __repr__(self):
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({settings})"
