"""Widths found by pruning, handed to a fresh model that is trained from scratch."""

import keras
import numpy as np

from resrep_keras.common.checks import check_instance, check_number, shown
from resrep_keras.graph.trace import recording_of, trace
from resrep_keras.graph.unroll import check_model
from resrep_keras.surgery.layer_state import lost_initializers
from resrep_keras.surgery.rebuild import rebuild
from resrep_keras.surgery.remove import remove_channels
from resrep_keras.training.compiling import compile_slim


def widths_of(model: keras.Model) -> dict[str, int]:
    """How many channels each layer of a model makes.

    Args:
        model: A built Keras model, slim or dense.

    Returns:
        ``{layer name: channels}``. Channels inside a layer, such as heads, have names such as
        `"attention.heads"`.

    Raises:
        TypeError: Not a Keras model.
        ValueError: A model without a graph.

    Example:

    >>> resrep_keras.widths_of(slim)
    {'conv1': 11, 'conv2': 22, 'conv3': 22, 'classifier': 10}
    """
    graph = trace(model)
    return {p.name: len(p.channels) for group in graph.groups for p in group.producers}


def redesign(dense: keras.Model, widths: dict[str, int]) -> keras.Model:
    """A fresh model of the layers of `dense` in other widths, its weights initialised anew.

    It keeps what `finalize` folds away, such as batch normalisation, so that it trains from scratch
    like the dense model did. Weights whose initializer is an array, such as a pretrained embedding,
    get the channels of the array that are left.

    Args:
        dense: The model that was pruned; it is left as it is.
        widths: ``{layer name: channels}`` as from `widths_of`; layers that are left out keep all.

    Returns:
        A Functional model, compiled as `dense` is; uncompiled where `dense` is, or is trained by
        methods of its own class.

    Raises:
        TypeError, ValueError: A name is unknown, a width not in 1 to that of the dense layer,
            layers that share channels differ, or channels of an output would go.

    Example:

    >>> fresh = resrep_keras.redesign(dense, resrep_keras.widths_of(slim))

    Reference:
        Ding et al., ICML 2019: pruning as a way to design the width of a network.
    """
    check_model(dense, "dense")
    check_instance(
        "widths", widths, dict, "a dict {layer name: channels} as widths_of() returns it"
    )
    graph = trace(dense, exact=False)
    producers = {p.name: len(p.channels) for group in graph.groups for p in group.producers}
    keep = {}
    for name, width in widths.items():
        if not isinstance(name, str) or name not in producers:
            raise ValueError(
                f"Expected widths to name layers of model '{dense.name}' that make channels "
                f"({', '.join(producers)}); got {shown(name)}."
            )
        check_number(f"widths['{name}']", width, at_least=1, whole=True)
        if width > producers[name]:
            raise ValueError(
                f"Expected widths['{name}'] to be at most {producers[name]}, the channels of the "
                f"dense layer; got {width}."
            )
        if width < producers[name]:
            keep[name] = _spread(graph, name, width)
    narrow = remove_channels(dense, keep, exact=False)
    fresh = rebuild(recording_of(narrow), fresh=True)
    _take_arrays(graph, narrow, fresh, keep)
    compile_slim(dense, fresh)
    return fresh


def _take_arrays(graph, narrow, fresh, keep):
    """Where an initializer is an array of the dense shape, take what is left of the array."""
    lost = {
        layer.name: lost_initializers(graph.calls_by_name[layer.name].operation, layer)
        for layer in narrow.layers
        if layer.name in graph.calls_by_name
    }
    if not any(lost.values()):
        return
    arrays = remove_channels(rebuild(graph.recording, fresh=True), keep, exact=False)
    for name, stems in lost.items():
        pairs = zip(fresh.get_layer(name).weights, arrays.get_layer(name).weights)
        for variable, array in pairs:
            if stems and variable.name.startswith(stems):
                variable.assign(array)


def _spread(graph, name, width):
    """A keep mask of so many channels, spread evenly so that each layer behind a split has some."""
    group = graph.group(name)
    channels = next(p.channels for p in group.producers if p.name == name)
    evenly = np.zeros(len(channels), bool)
    evenly[np.arange(width) * len(channels) // width] = True
    last = evenly | np.isin(channels, group.channels[group.pinned])
    order = np.concatenate([channels[~last], channels[last]])
    going = graph.removable(np.ones(graph.num_channels, bool), order)
    # Channels that stand in several places, such as those of a grouped convolution, go together.
    gone = np.cumsum([0, *((channels == channel).sum() for channel in going)])
    if len(channels) - width not in gone:
        possible = ", ".join(map(str, sorted(set(len(channels) - gone))))
        raise ValueError(
            f"Expected widths['{name}'] to leave something for each layer that reads a part of the "
            f"channels ({possible}); got {width}."
        )
    return ~np.isin(channels, going[: list(gone).index(len(channels) - width)])
