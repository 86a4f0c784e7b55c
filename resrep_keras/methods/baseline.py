"""What `wrap` notes of the dense model, and what becomes of it while a wrapped one trains."""

import dataclasses
import json

import keras


@dataclasses.dataclass(frozen=True)
class Removal:
    """What `slim_every` has removed so far.

    Args:
        channels: Their number.
        widths: ``{producer name: channels of the dense model}``, of the layers that could lose
            some.
        differences: Of the outputs at each removal, as shares of the largest.
    """

    channels: int = 0
    widths: dict = dataclasses.field(default_factory=dict)
    differences: tuple = ()

    def __bool__(self):
        return bool(self.differences)

    def then(self, channels, widths, difference):
        """The record after one more removal; the widths noted first are the dense ones."""
        return Removal(
            self.channels + channels, {**widths, **self.widths}, (*self.differences, difference)
        )


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(frozen=True)
class Baseline:
    """What is known of the dense model while a wrapped one trains; saved with it.

    Args:
        dense: ``{quantity: value}`` of the dense model, such as its MACs.
        facts: ``{quantity: JSON values}``, what predicts it for fewer channels.
        exclude: Names of the layers that keep all channels.
        frozen: Names of the layers that were frozen, and are left whole.
        paths: ``{layer: names of the models and composite layers around it}``.
        removal: The `Removal` of channels while `fit` runs.
        places: Where gradients are pruned, ``{convolution: {"pruner": layer, "at": "input" or
            "output", "cheaper": convolutions}}``.
    """

    dense: dict = dataclasses.field(default_factory=dict)
    facts: dict = dataclasses.field(default_factory=dict)
    exclude: tuple = ()
    frozen: tuple = ()
    paths: dict = dataclasses.field(default_factory=dict)
    removal: Removal = Removal()
    places: dict = dataclasses.field(default_factory=dict)

    def joined(self, other):
        """Both in one, for methods on one model; where both know something, this one's."""
        return Baseline(
            dense={**other.dense, **self.dense},
            facts={**other.facts, **self.facts},
            exclude=self.exclude or other.exclude,
            frozen=self.frozen or other.frozen,
            paths={**other.paths, **self.paths},
            removal=self.removal or other.removal,
            places={**other.places, **self.places},
        )

    def around(self, producer):
        """Names of the models and composite layers around a producer, the outermost first."""
        own = () if producer.inside is None else (producer.layer,)
        return (*self.paths.get(producer.layer, ()), *own)

    def get_config(self):
        """JSON values: Keras would give tuples a form of their own."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_config(cls, config):
        removal = Removal(**config["removal"])
        removal = dataclasses.replace(removal, differences=tuple(removal.differences))
        names = {name: tuple(config.get(name, ())) for name in ("exclude", "frozen")}
        return cls(**{**config, **names, "removal": removal})
