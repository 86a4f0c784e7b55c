"""Training that is compiled once, for many runs: each sets all variables back to a start."""

import time

import keras
import numpy as np
import trials
from absl import flags
from keras import ops

import resrep_keras
from resrep_keras.optimizers.wrapper import find_wrapper

FLAGS = flags.FLAGS
BATCH = 125  # without a smaller batch at the end of an epoch, which would be compiled, too
# Of ResRep's update: the name of a number in its optimizer, and in the method.
UPDATE = {"penalty_strength": "penalty_strength", "momentum": "momentum", "rate": "compactor_rate"}

NETS = {
    "resnet": lambda *shape: trials.nets.small_resnet(*shape, width=30),
    "resnet_wide": trials.nets.small_resnet,
    "vgg": trials.nets.small_vgg,
    "mobilenet": trials.nets.small_mobilenet,
    "densenet": trials.nets.small_densenet,
}


def make(net):
    return NETS[net]((28, 28, 1), 10)


class Program:
    """A net, dense or wrapped, and its compiled training step.

    Methods whose wrapped models and training steps are equal may take turns.

    Args:
        net: A name of `NETS`.
        method: The method that wraps it, `None` for the dense net.
        steps: Length of a run.
        data: What a step is compiled for; what Keras builds in the first, draws random numbers.

    Attributes:
        seconds: How long it has taken to wrap and compile.
    """

    def __init__(self, net, method, steps, data):
        begin = time.perf_counter()
        dense = make(net)
        self.layers = [layer.name for layer in dense.layers if layer.weights]
        self.model = dense if method is None else resrep_keras.wrap(dense, method)
        trials.compile_for(self.model, steps)
        self._settings = self._as_variables()
        self.model.optimizer.build(self.model.trainable_variables)
        variables = [*self.model.variables, *self.model.optimizer.variables]
        self.start = [(v, np.array(ops.convert_to_numpy(v))) for v in variables]
        self.model.train_on_batch(*(part[:BATCH] for part in data[0]))
        trials.accuracy(self.model, data)
        self.seconds = round(time.perf_counter() - begin, 1)

    def _as_variables(self):
        """Let the numbers of ResRep's update change between runs: `{name: variable}`."""
        own = getattr(find_wrapper(self.model.optimizer), "compactor_optimizer", None)
        if own is None:
            return {}
        found = {}
        for name in UPDATE:
            found[name] = keras.Variable(getattr(own, name), dtype="float32", trainable=False)
            setattr(own, name, found[name])
        return found

    def begin(self, weights, seed):
        """Set all back; `weights` are those of a dense net, `None` for random ones."""
        for variable, value in self.start:
            variable.assign(value)
        if weights is None:
            keras.utils.set_random_seed(seed)
            fresh = keras.models.clone_model(self.model)
            weights = [fresh.get_layer(name).get_weights() for name in self.layers]
        for name, values in zip(self.layers, weights):
            self.model.get_layer(name).set_weights(values)

    def weights(self):
        return [self.model.get_layer(name).get_weights() for name in self.layers]

    def fit(self, method, data, epochs, seed):
        """Train; returns what is known of the run."""
        begin = time.perf_counter()
        callbacks = []
        if method is not None:
            self.model.method = method
            for name, variable in self._settings.items():
                variable.assign(getattr(method, UPDATE[name]))
            callbacks = [method.callback()]
        keras.utils.set_random_seed(1000 + seed)
        x, y = data[0]
        self.model.fit(x, y, BATCH, epochs, verbose=0, callbacks=callbacks)
        result = {
            "accuracy": trials.accuracy(self.model, data),
            "seconds": round(time.perf_counter() - begin, 2),
        }
        for callback in callbacks:
            state = callback.channel_state
            kept = state.graph.keep_by_producer(state.kept())
            result["macs_left"] = round(callback.macs_left(), 4)
            result["target_met"] = bool(callback.target_met())
            result["removed"] = {name: int((~mask).sum()) for name, mask in kept.items()}
        return result
