"""The settings of the methods that remove channels: which may go, and how many."""

import dataclasses
import math
import typing

from resrep_keras.common.checks import (
    check_bool,
    check_choice,
    check_instance,
    check_number,
    check_settings,
    setting,
    shown,
)
from resrep_keras.costs.quantities import QUANTITIES
from resrep_keras.graph.sizes import check_input_shape
from resrep_keras.methods.patterns import check_exclude, check_patterns, check_per_layer


def check_count(name, value):
    return check_number(name, value, at_least=1, whole=True)


def check_share(name, value):
    return check_number(name, value, at_least=0, below=1)


def check_multiple(name, value):
    return value if isinstance(value, str) and value == "auto" else check_count(name, value)


def check_reduction(name, value):
    """Return a `target_reduction` as it is kept: a float, ``{quantity: float}`` or `None`."""
    if value is None:
        return None
    if not isinstance(value, dict):
        return float(check_number(name, value, above=0, below=1))
    if not value:
        raise ValueError(f"Expected {name} to name a quantity; got an empty dict.")
    return {
        quantity: float(check_number(f"{name}[{quantity!r}]", share, above=0, below=1))
        for quantity, share in _quantities(name, value)
    }


def check_at_most(name, value):
    """Return `at_most` as a dict of positive numbers."""
    words = "a dict such as {'file_bytes': 400_000}"
    check_instance(name, value, dict, words)
    return {
        quantity: check_number(f"{name}[{quantity!r}]", number, above=0)
        for quantity, number in _quantities(name, value)
    }


def _input_shape(name, value):
    del name
    return check_input_shape(value)


def _quantities(name, value):
    for quantity, number in value.items():
        if not isinstance(quantity, str) or quantity not in QUANTITIES:
            known = ", ".join(sorted(QUANTITIES))
            raise ValueError(f"Expected {name} to name one of {known}; got {shown(quantity)}.")
        yield quantity, number


@dataclasses.dataclass(eq=False, repr=False)
class ChannelSettings:
    """Which channels may go, and how many: the settings that all methods share that remove some.

    Args:
        target_reduction: Share of the dense MACs to remove, between 0 and 1, both excluded; or
            ``{quantity: share}`` such as ``{"params": 0.6, "latency": 0.4}``, of which all are met;
            or `None`, where `at_most` says it all. Quantities are `"macs"`, `"params"`,
            `"file_bytes"` (of the float32 `.tflite` file), `"activation_bytes"` (peak memory of
            activations, see `costs.activations`) and `"latency"` (of one call with LiteRT on this
            machine). Defaults to `0.5`.
        at_most: ``{quantity: largest value}``, such as ``{"file_bytes": 400_000}``, in parameters,
            bytes or seconds; met beside `target_reduction`. Defaults to no limit.
        min_channels: Channels that each layer keeps at least, 1 or more; or ``{pattern: number}``
            by the layers' names, such as ``{"stem*": 16}``. Where another layer reads only a part
            of them, as behind a split, one of that part stays in any case. Defaults to `1`.
        min_share: The same as a share of the layer's channels, in [0, 1): a layer loses at most a
            share of ``1 - min_share``. Also by pattern. Defaults to `0`.
        channel_multiple: Layers that lose channels keep a multiple of this number, which suits
            devices that compute so many at a time. Also by pattern. With `"auto"`, the widths are
            those that timing this machine has shown to be fast, and no rounding is done where the
            rounded model would be slower. Defaults to `1`.
        exclude: Names or patterns of layers that keep all channels, or a function that takes a
            layer and returns whether it does. Here as in the settings by pattern, the name of a
            nested model or of a layer made of layers stands for all inside. Defaults to none.
        scope: `"all"` channels, or those inside of residual `"blocks"` only, as far as the model
            has any: not the stream that is summed, nor what lies before the first block. Defaults
            to `"all"`.
        coupled: Whether to prune channels that several layers must give up at once, such as those
            of a residual stream. Defaults to `False`.
        threads: Number of threads for a target of latency. Defaults to `1`.
        input_shape: Shape without batch, such as ``(224, 224, 3)``, for a model that leaves sizes
            open; for several inputs a list or dict of shapes in their structure, such as
            ``[(10, 4), (7, 5)]``. Known sizes must be as they are. Defaults to `None`.
        exact: Whether channels stay whose removal changes outputs, because something is computed
            over all channels together (layer normalisation). Defaults to `True`.

    Raises:
        TypeError: A setting of another kind.
        ValueError: A setting out of range.
    """

    target_reduction: float | dict | None = setting(0.5, check_reduction)
    at_most: dict | None = setting(None, check_at_most)
    min_channels: int | dict = setting(1, check_per_layer, check=check_count)
    min_share: float | dict = setting(0.0, check_per_layer, check=check_share)
    channel_multiple: int | str | dict = setting(1, check_per_layer, check=check_multiple)
    exclude: tuple | typing.Callable = setting((), check_exclude)
    scope: str = setting("all", check_choice, known=("all", "blocks"))
    coupled: bool = setting(False, check_bool)
    threads: int = setting(1, check_number, at_least=1, at_most=1024, whole=True)
    input_shape: tuple | dict | None = setting(None, _input_shape)
    exact: bool = setting(True, check_bool)

    def __post_init__(self):
        check_settings(self)
        self.at_most = self.at_most or {}

    def reductions(self):
        """``{quantity: share to remove}``."""
        one = self.target_reduction
        return {} if one is None else one if isinstance(one, dict) else {"macs": one}

    def times_widths(self):
        """Whether `channel_multiple` has layers timed."""
        setting = self.channel_multiple
        return "auto" in (setting.values() if isinstance(setting, dict) else (setting,))

    def check_layers(self, names):
        """Raise a `ValueError` where a pattern of a setting fits none of the layers' names.

        Args:
            names: ``{layer: names of the models and composite layers around it}``.
        """
        for name in ("min_channels", "min_share", "channel_multiple"):
            setting = vars(self)[name]
            if isinstance(setting, dict):
                check_patterns(name, setting, names)


def minimum_of(channels, min_channels, min_share):
    """How many of its channels a layer keeps at least."""
    return min(channels, max(1, min_channels, math.ceil(min_share * channels)))


def multiples(number, channels):
    """The numbers of channels that a layer of so many may keep: multiples, or all of them."""
    return (*range(number, channels, number), channels)
