"""What a user can do about channels that are pinned."""

import re

# What to do about a reason to pin: a pattern, and the words, which may repeat parts of the reason.
REMEDIES = (
    (  # before the others: it quotes another reason
        r"also called on",
        "use a layer of its own for each call, or call it on tensors that share their channels.",
    ),
    (
        r"(\w+) has no rule for how channels pass",
        r"Register what \1 does with channels: resrep_keras.graph.flow.flow.register(\1). Where it "
        r"has weights, also resrep_keras.surgery.narrow.narrow.register(\1) and "
        r"resrep_keras.costs.macs.macs.register(\1).",
    ),
    (r"an output of the model", "nothing: the channels are the model's answer."),
    (
        r"a model input",
        "nothing where the input is added to as it is; put a convolution or dense layer between the "
        "input and the sum, and its channels may go.",
    ),
    (
        r"exact=False allows it",
        "exact=False allows it; removing channels then changes outputs, and training makes up for it.",
    ),
    (
        r"no bias can hold",
        "let removed channels be zero here: put a BatchNormalization behind the activation in front "
        "of it, use an activation with f(0) = 0 (relu, swish, tanh), or padding='valid' in a "
        "convolution. A layer that is called more than once has one bias for all calls: use one "
        "layer per call.",
    ),
    (r"of unknown size", "give input_shape, or build the model for a fixed input size."),
    (
        r"an activation that mixes channels",
        "nothing where it is the model's last softmax; else use an activation that works on each "
        "entry by itself.",
    ),
    (
        r"broadcast",
        "nothing where a single channel scales all others; else give both tensors the same number "
        "of channels, by a convolution or dense layer.",
    ),
    (r"stateful", "build the layer with stateful=False."),
    (r"a single channel", "nothing: a layer keeps at least one channel."),
    (
        r"no compactor can stand",
        "let the layer's rule call `call.site` behind `call.produce`; see resrep_keras.graph.call.",
    ),
)
OTHERWISE = (
    "replace it with layers that treat each channel by itself, or move it to where fewer channels "
    "pass; all other channels are pruned as before."
)


def remedy(reason):
    """What a user can do where channels are pinned for `reason`.

    Args:
        reason: Text of a pin of a `ChannelGraph`, without the name of the layer.

    Returns:
        A sentence.

    Example:

    >>> remedy("an output of the model")
    "nothing: the channels are the model's answer."
    """
    for pattern, words in REMEDIES:
        found = re.search(pattern, reason)
        if found:
            return found.expand(words)
    return OTHERWISE
