"""Fisher scores: what the loss says of each channel of a model, on examples, without training."""

import keras
import numpy as np
from keras import ops

from resrep_keras.common.gradients import gradients_of
from resrep_keras.surgery.examples import MOST
from resrep_keras.surgery.forward import play, replay
from resrep_keras.surgery.masked import AtSites

LARGEST = 2**27  # numbers that are held for the gradients of a batch


def fisher_scores(channels, model, examples):
    """The squared first-order change of the loss if a channel went, a mean over examples.

    With `y` what a channel is at a position, and `L` the loss of one example,

    ```
    score = mean over examples of (sum over positions of dL/dy * y) ** 2
    ```

    Channels that several layers make (a residual stream) add up their changes before they are
    squared. Without labels `L` is the sum of all outputs, each with a sign that is drawn for each
    example, so that the mean of its square is that of the squared changes of the outputs. Of
    probabilities it is twice the roots: that is the Fisher information of the classes.

    Args:
        channels: The `PrunableChannels` of the model.
        model: The model, compiled with a loss where there are labels.
        examples: The `Examples`.

    Returns:
        Float64 `(num_channels,)`; infinite where a channel cannot be looked at.

    Reference:
        Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, equation 8,
        here example by example.
    """
    gates = Gates(channels.graph, _batch_size(channels.graph.recording, len(examples)))
    batches = [each for each in examples.batches(gates.size) if _length(each[0]) == gates.size]
    compute = gradients_of(
        _loss(model, channels.graph.recording, gates, examples), gates.variables, model.variables
    )
    total = np.zeros(channels.graph.num_channels)
    for number, (x, y) in enumerate(batches):
        signs = y if y is not None else _signs(channels.graph.recording, x, number)
        rows, whole = (np.asarray(ops.convert_to_numpy(each)) for each in compute(x, signs))
        total += np.square(rows.astype("float64")).sum(0) + np.square(whole.astype("float64"))
    total /= len(batches) * gates.size
    return np.where(gates.seen, total, np.inf)


def check_loss(model, examples):
    """Raise where there are labels, and no loss that takes them.

    Raises:
        ValueError: Says what to do.
    """
    plain = type(model).compute_loss is keras.Model.compute_loss
    if examples.y is not None and (not model.compiled or (plain and model.loss is None)):
        raise ValueError(
            f"Expected model '{model.name}' to be compiled with a loss, which takes the labels in "
            "data; it has none. Call model.compile(loss=...) before, or give inputs alone."
        )


class Gates(AtSites):
    """Factors of 1 behind the layers that make channels, by which the loss is differentiated.

    Args:
        graph: The `ChannelGraph`.
        size: Number of examples of a batch.

    Attributes:
        variables: One factor for each example and channel id; and one for each channel id alone,
            where it scales weights inside a layer.
        seen: Bool, one for each channel id, whether it has a factor.
    """

    def __init__(self, graph, size):
        behind, inside, made = {}, {}, set()
        self.size, self.seen = size, np.zeros(graph.num_channels, bool)
        for site in (site for group in graph.groups for site in group.sites):
            producer = graph.producer_before(graph.calls_by_name[site.layer])
            if site.inside is not None:
                inside.setdefault(site.layer, {})[site.inside] = site.channels
            elif producer is None or producer in made:
                continue  # the same channels once more, behind a depthwise layer, say
            else:
                made.add(producer)
                behind[site.layer] = site.channels, site.axis
            self.seen[site.channels[site.channels >= 0]] = True
        ones = np.ones((size, graph.num_channels), "float32")
        self.variables = [keras.Variable(value, dtype="float32") for value in (ones, ones[0])]
        super().__init__(graph, behind, inside)

    def factors(self, what, examples=None):
        rows, whole = (ops.convert_to_tensor(variable) for variable in self.variables)
        source = whole[None] if examples is None else rows
        taken = ops.where(what < 0, 1.0, ops.take(source, np.maximum(what, 0), axis=1))
        if examples is None:
            return taken[0]
        return ops.repeat(taken, examples // self.size, axis=0)  # entries that joined the batch


def _loss(model, recording, gates, examples):
    """A function of inputs, and of labels or signs."""

    def of_batch(x, y):
        outputs = replay(recording, x, around=gates)
        if examples.y is not None:
            return gates.size * model.compute_loss(x=x, y=y, y_pred=outputs, training=False)
        parts = zip(keras.tree.flatten(outputs), y)
        return sum(ops.sum(ops.cast(_spread(out), "float32") * sign) for out, sign in parts)

    return of_batch


def _spread(output):
    """Twice the roots of probabilities; anything else is left as it is."""
    total = ops.sum(output, axis=-1) if len(output.shape) > 1 and output.shape[-1] > 1 else None
    if total is None:
        return output
    small = ops.all(output >= 0) & ops.all(ops.abs(total - 1) < 1e-2)
    roots = 2 * ops.sqrt(ops.maximum(output, 1e-12))
    return ops.where(small, roots, output)


def _signs(recording, x, number):
    """Signs for all outputs; what is no number has none."""
    generator = np.random.default_rng(number)
    shapes = [np.shape(value) for value in keras.tree.flatten(play(recording, x))]
    return [generator.choice([-1.0, 1.0], shape).astype("float32") for shape in shapes]


def _batch_size(recording, examples):
    """How many examples: all but less than one of each hundred can be split into such batches."""
    held = sum(
        np.prod([size or 1 for size in tensor.shape[1:]], dtype=np.int64)
        for call in recording.calls
        for tensor in keras.tree.flatten(call.outputs)
    )
    most = int(min(MOST, max(1, LARGEST // int(held))))
    return examples // -(-examples // most)


def _length(x):
    return len(next(each for each in keras.tree.flatten(x) if each is not None))
