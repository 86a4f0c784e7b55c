"""The copy that `wrap` makes is the same program as the dense model, for models of every kind.

Each law runs over the zoo, over the awkward models, and over the smallest application of each
family; over all applications in slow runs. `python -m tests.laws.test_same_program` prints how many
pairs of model and law there are.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np
import pytest
from keras import ops

import resrep_keras
from resrep_keras.graph.trace import recording_of
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.gated import Gated
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.surgery.forward import example_inputs
from tests import awkward, helpers, paths, zoo

families = paths.benchmarks("families")

pytestmark = [
    pytest.mark.tensorflow_only,
    # Some of the layers that nobody has a rule for.
    pytest.mark.filterwarnings("ignore:The MACs of these layers are not known"),
    pytest.mark.filterwarnings("ignore:The slim model is without constraints"),
]


def method_for(subject):
    return resrep_keras.ResRep(0.02, coupled=True, input_shape=subject.input_shape)


# --- the models -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model to compare with its copy.

    Args:
        build: Makes the model.
        inputs: Makes inputs from a model and a seed.
        tolerance: Largest relative difference in float64.
        input_shape: For a method, where sizes are unknown.
    """

    build: object
    inputs: object
    tolerance: float = 1e-10
    input_shape: object = None


def _subjects():
    for name in zoo.ZOO:
        yield name, Subject(functools.partial(zoo.build, name), _drawn)
    for name, entry in awkward.AWKWARD.items():
        if entry.refused is None:
            inputs = functools.partial(awkward.inputs_of, name)
            build = functools.partial(awkward.build, name)
            yield name, Subject(build, inputs, entry.tolerance, entry.input_shape)
    for name in families.ALL:
        yield name, Subject(functools.partial(families.build, name), _drawn)


def _drawn(model, seed):
    return example_inputs(model, seed=seed)


SUBJECTS = dict(_subjects())


class Pair:
    """A model and its copy, and which layer of one is which of the other."""

    def __init__(self, name, dtype):
        self.subject = subject = SUBJECTS[name]
        self.tolerance = max(subject.tolerance, 1e-10 if dtype == "float64" else 1e-5)
        self.dense = subject.build()
        self.wrapped = resrep_keras.wrap(self.dense, method_for(subject))
        self.inputs = subject.inputs(self.dense, 1)
        own = resrep_keras.trace(self.dense, spare_frozen=True).recording  # as it was wrapped
        copies = _layers(recording_of(self.wrapped))
        self.layers = {name: (layer, copies[name]) for name, layer in _layers(own).items()}
        self._trained = None
        self._before = [[ops.copy(v.value) for v in model.variables] for model in self.models]

    @property
    def models(self):
        return self.dense, self.wrapped

    @property
    def variables(self):
        """Pairs of variables, each once."""
        pairs = {}
        for layer, copy in self.layers.values():
            for pair in zip(layer.variables, copy.variables, strict=True):
                pairs[id(pair[0])] = pair
        return list(pairs.values())

    def trained(self):
        """What one call in training makes of each model: a pair of dicts, made once."""
        if self._trained is None:
            self._trained = tuple(map(self._train, range(2)))
        return self._trained

    def _train(self, number):
        import tensorflow as tf

        model, variables = self.models[number], [p[number] for p in self.variables]
        with tf.GradientTape() as tape:
            outputs = model(self.inputs, training=True)
            losses = sum(ops.cast(loss, "float64") for loss in model.losses)
            draw = np.random.default_rng(0).normal
            flat = keras.tree.flatten(outputs)
            loss = sum(ops.sum(x * ops.cast(draw(size=x.shape), x.dtype)) for x in flat)
            loss = ops.cast(loss, "float64") + losses
        trained = [pair[number].value for pair in self.variables if pair[0].trainable]
        gradients = tape.gradient(loss, trained, unconnected_gradients="zero")
        return {
            "outputs": outputs,
            "losses": losses,
            # All together: one that is zero but for rounding has no scale of its own.
            "gradients": [np.concatenate([np.ravel(tf.convert_to_tensor(g)) for g in gradients])]
            if trained
            else [],
            "variables": [ops.copy(v.value) for v in variables],
        }

    def restored(self):
        for model, values in zip(self.models, self._before):
            for variable, value in zip(model.variables, values):
                variable.assign(value)
        return self


def _layers(recording):
    """``{name: layer}`` of all that is called, gates taken off; what is in a wrapper for it."""
    found = {}
    for call in recording.all_calls():
        layer = call.operation
        known = isinstance(layer, keras.layers.Layer) and not isinstance(layer, Compactor)
        if known and call.inner is None:
            found[call.name] = layer.layer if isinstance(layer, Gated) else layer
    return found


@functools.lru_cache(maxsize=1)  # the laws of a model follow each other
def _pair(name, dtype):
    return Pair(name, dtype)


@contextlib.contextmanager
def _floats(dtype):
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


# --- the laws -------------------------------------------------------------------------------------


def close(expected, actual, tolerance):
    """Equal, but for rounding; not finite at the same places."""
    for a, b in zip(keras.tree.flatten(expected), keras.tree.flatten(actual), strict=True):
        a, b = (np.asarray(ops.convert_to_numpy(x), np.float64) for x in (a, b))
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
        finite = np.isfinite(a)
        scale = max(np.abs(a[finite]).max(initial=0), 1e-6)
        assert np.abs(a - b)[finite].max(initial=0) <= tolerance * scale


def outputs_in_inference(pair):
    expected, actual = (model(pair.inputs, training=False) for model in pair.models)
    keras.tree.assert_same_structure(expected, actual)
    close(expected, actual, pair.tolerance)


def outputs_in_training(pair):
    """With the same seeds, which are part of the copy; what the call changes is equal, too."""
    expected, actual = pair.trained()
    close(expected["outputs"], actual["outputs"], pair.tolerance)
    close(expected["variables"], actual["variables"], pair.tolerance)


def losses(pair):
    expected, actual = pair.trained()
    close(expected["losses"], actual["losses"], pair.tolerance)


def gradients(pair):
    expected, actual = pair.trained()
    close(expected["gradients"], actual["gradients"], 10 * pair.tolerance)


def what_is_trainable(pair):
    trained, copied = ({id(v) for v in model.trainable_variables} for model in pair.models)
    for variable, copy in pair.variables:
        assert (id(variable) in trained) == (id(copy) in copied), variable.path


def nothing_is_lost(pair):
    """Each variable of the dense model is one of a layer that the copy has, too."""
    known = {id(v) for v, _ in pair.variables}
    assert not [v.path for v in pair.dense.variables if id(v) not in known]
    copied = {id(v) for _, v in pair.variables}
    more = [v for v in pair.wrapped.variables if id(v) not in copied]
    assert all("compactor" in v.path for v in more), [v.path for v in more]


def one_step(pair):
    """A step of training moves every variable alike: compactors are still the identity in it."""
    if not pair.dense.trainable_variables:
        return
    # Both are called, since a recurrent layer may have a state.
    shapes, _ = (keras.tree.map_structure(ops.shape, m(pair.inputs)) for m in pair.models)
    draw = np.random.default_rng(3).normal
    outputs = keras.tree.map_shape_structure(lambda shape: draw(size=shape), shapes)
    for model in pair.models:
        optimizer = keras.optimizers.SGD(
            0.01, momentum=0.9, nesterov=True, weight_decay=0.1, clipnorm=1.0
        )
        loss = keras.tree.map_structure(lambda x: "mse", outputs)
        model.compile(optimizer, loss, run_eagerly=True)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        model.train_on_batch(pair.inputs, outputs)
    close(*zip(*pair.variables), 10 * pair.tolerance)


def names_and_flags(pair):
    dense, wrapped = pair.models
    assert dense.name == wrapped.name
    inputs, copied = recording_of(dense).inputs, recording_of(wrapped).inputs
    keras.tree.assert_same_structure(inputs, copied)
    if hasattr(dense, "input_names"):  # a subclassed model has none
        assert dense.input_names == wrapped.input_names
        assert dense.output_names == wrapped.output_names
        for ours, theirs in zip(wrapped.inputs, dense.inputs, strict=True):
            assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
            assert ours.sparse == theirs.sparse and ours.name == theirs.name
        optional = [
            [x._keras_history.operation.optional for x in model.inputs] for model in pair.models
        ]
        assert optional[0] == optional[1]
    for name, (layer, copy) in pair.layers.items():
        assert copy.name == name and type(layer) is type(copy)
        assert layer.dtype_policy == copy.dtype_policy


def state_beyond_weights(pair):
    """What Keras's own hooks would save, they save of the copy."""
    for layer, copy in pair.layers.values():
        (store, assets), (copied, copied_assets) = _saved(layer), _saved(copy)
        assert store.keys() == copied.keys() and assets == copied_assets
        for key, value in store.items():
            np.testing.assert_array_equal(value, copied[key])


def _saved(layer):
    """What a layer puts into a store of variables, and ``{file: bytes}`` of its assets."""
    store = {}
    layer.save_own_variables(store)
    with tempfile.TemporaryDirectory() as folder:
        if hasattr(layer, "save_assets"):  # few have it
            layer.save_assets(folder)
        return store, {p.name: p.read_bytes() for p in pathlib.Path(folder).iterdir()}


def slim_equals_masked(pair):
    """Channels go at random, from compactors that are no identities where they may train."""
    generator = np.random.default_rng(0)
    for layer in helpers.compactors(pair.wrapped):
        if layer.kernel.trainable:
            noise = generator.normal(0.0, 0.1, layer.kernel.shape)
            layer.kernel.assign(ops.convert_to_numpy(layer.kernel) + noise)
    channel_state = ChannelState(pair.wrapped, pair.subject.input_shape)
    kept = helpers.random_keep(channel_state.graph, channel_state.groups, 0)
    helpers.kill(pair.wrapped, kept, channel_state)
    shape = pair.subject.input_shape
    with pytest.MonkeyPatch.context() as patch:  # any masks meet so small a target
        method = resrep_keras.ResRep(1e-4, coupled=True, input_shape=shape)
        patch.setattr(pair.wrapped, "method", method)
        slim = resrep_keras.finalize(pair.wrapped, strict=True, data=pair.inputs)
    masked = pair.wrapped(pair.inputs, training=False)
    actual = slim(pair.inputs, training=False)
    keras.tree.assert_same_structure(masked, actual)
    close(masked, actual, max(1e-4, pair.tolerance))
    macs = resrep_keras.count_macs(slim, shape)
    assert channel_state.cost()(kept) == macs


def pruned_equals_masked(pair):
    shape = pair.subject.input_shape
    method = resrep_keras.MagnitudePruning(0.02, coupled=True, input_shape=shape)
    slim = method.prune(pair.dense, data=pair.inputs, repair=False)
    macs = [resrep_keras.count_macs(model, shape) for model in (pair.dense, slim)]
    assert macs[1] < macs[0]
    assert slim.certificate.data_max_relative <= max(1e-4, pair.tolerance)


STRUCTURE = (what_is_trainable, nothing_is_lost, names_and_flags)
NUMBERS = (
    outputs_in_training,
    losses,
    gradients,
    one_step,
    outputs_in_inference,
    state_beyond_weights,
    slim_equals_masked,
    pruned_equals_masked,
)
# In every run a model is built and wrapped once, in float64; once more in float32 in slow runs.
LAWS = [(law, "float64") for law in (*STRUCTURE, *NUMBERS)]
SLOW = [(law, "float32") for law in NUMBERS]

ORDER = (
    "A shared batch normalisation is called twice, on tensors that do not depend on each other. In "
    "which order a Functional model does that is Keras's choice, and another one in a flat model; "
    "moving averages depend on it."
)
NOT_TOLD = (
    "Keras's train_step does not tell a model whose call() takes no `training` that it trains. The "
    "copy, a Functional model, is told."
)
# (name of the model, law): why it does not hold.
EXCEPTIONS = {
    ("nested", "outputs_in_training"): ORDER,
    ("nested", "one_step"): ORDER,
    ("subclassed", "one_step"): NOT_TOLD,
    ("subclassed_with_dropout", "one_step"): NOT_TOLD,
}


# Of which TensorFlow has no kernel for float64 on a CPU.
WITHOUT_FLOAT64 = ("three_dimensions", "channels_first")
# An application is built once, and these laws say it all: a step is made of loss and gradients.
OF_APPLICATIONS = (what_is_trainable, nothing_is_lost, names_and_flags, one_step)
# A step of these in float64 takes 10 to 25 s; what they are made of is in the zoo and the others.
LONG_STEPS = (
    "VGG16 DenseNet121 InceptionV3 InceptionResNetV2 Xception NASNetMobile ConvNeXtTiny".split()
)
# A run of the slim model takes as long: of relatives, the smaller one is in every run.
LONG_RUNS = (
    "ResNet50V2 DenseNet121 InceptionResNetV2 Xception EfficientNetB0 EfficientNetV2B0 "
    "NASNetMobile ConvNeXtTiny"
).split()
LONG = {
    *((name, one_step) for name in LONG_STEPS),
    *((name, slim_equals_masked) for name in LONG_RUNS),
}
# Other laws say it of the zoo in every run, in float32: tests/laws/test_wrap.py, test_finalize.py,
# and tests/laws/test_methods.py of one-shot pruning.
SAID_OF_THE_ZOO = (outputs_in_inference, slim_equals_masked, pruned_equals_masked)


def _laws(name):
    if name in families.ALL:
        return [(law, "float64") for law in (*OF_APPLICATIONS, slim_equals_masked)]
    if name in WITHOUT_FLOAT64:
        return [(law, "float32") for law in (*STRUCTURE, *NUMBERS)]
    if name in zoo.ZOO:  # of which other laws say these in float32, see below
        said = [(law, "float64") for law in SAID_OF_THE_ZOO]
        return [pair for pair in LAWS + SLOW if pair not in said]
    return LAWS + SLOW


def _slow(name, law, dtype):
    if name in families.ALL:
        return name not in families.SMALLEST or (name, law) in LONG
    if name in WITHOUT_FLOAT64:
        return False
    # A step is made of loss and gradients.
    made_of = law in (losses, gradients) and (name, "one_step") not in EXCEPTIONS
    # Each third model in every run, another third for the next law.
    turn = law in NUMBERS and (list(SUBJECTS).index(name) + NUMBERS.index(law)) % 3
    return made_of or bool(turn) or (law, dtype) in SLOW


def _pairs():
    for name in SUBJECTS:
        for law, dtype in _laws(name):
            if (name, law.__name__) not in EXCEPTIONS:
                yield pytest.param(
                    name,
                    law,
                    dtype,
                    marks=pytest.mark.slow if _slow(name, law, dtype) else (),
                    id=f"{name}-{law.__name__}-{dtype}",
                )


@pytest.mark.parametrize("name, law, dtype", list(_pairs()))
def test_same_program(name, law, dtype):
    with _floats(dtype):
        law(_pair(name, dtype).restored())


REFUSED = [name for name, entry in awkward.AWKWARD.items() if entry.refused]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_copied_is_refused(name):
    with pytest.raises(ValueError, match=awkward.AWKWARD[name].refused):
        resrep_keras.wrap(awkward.build(name), resrep_keras.ResRep(0.05))


# --- once more, in another process ----------------------------------------------------------------

# Models that Keras itself does not bring back from a file.
IN_MEMORY = {
    "functions_as_settings": "Functions and Lambda layers are for one process.",
    "own_kernel_property": "Dense saves what its property `kernel` gives, not its weight.",
}

ELSEWHERE = """
import sys
import keras, numpy as np
from tests import awkward, zoo
import resrep_keras
for name in sys.argv[2:]:
    model = keras.models.load_model(f"{sys.argv[1]}/{name}.keras")
    inputs = keras.tree.pack_sequence_as(
        model.input, [np.load(f"{sys.argv[1]}/{name}_{i}.npy") for i in range(len(model.inputs))]
    )
    tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
    outputs = keras.tree.flatten(model(tensors, training=False))
    np.savez(f"{sys.argv[1]}/{name}_out.npz", *[np.asarray(x) for x in outputs])
"""


@pytest.mark.parametrize(
    "models",
    [
        pytest.param([n for n in awkward.AWKWARD if n in SUBJECTS], id="awkward"),
        # Slim, all of these go to another process in every run: tests/laws/test_standalone.py.
        pytest.param(list(zoo.ZOO), id="zoo", marks=pytest.mark.slow),
    ],
)
def test_wrapped_models_are_the_same_in_another_process(tmp_path, models):
    names = [name for name in models if name not in IN_MEMORY]
    for name in names:
        pair = _pair(name, "float32").restored()
        pair.wrapped.save(tmp_path / f"{name}.keras")
        for number, value in enumerate(keras.tree.flatten(pair.inputs)):
            np.save(tmp_path / f"{name}_{number}.npy", _array(value))
        outputs = keras.tree.flatten(pair.dense(pair.inputs))
        np.savez(tmp_path / f"{name}_expected.npz", *[np.asarray(x) for x in outputs])
    subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path), *names],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    wrong = []
    for name in names:
        expected, actual = (
            list(np.load(tmp_path / f"{name}_{which}.npz").values())
            for which in ("expected", "out")
        )
        try:
            close(expected, actual, max(1e-5, SUBJECTS[name].tolerance))
        except AssertionError:
            wrong.append(name)
    assert not wrong


def _array(value):
    dense = ops.convert_to_tensor(value, sparse=False)
    array = ops.convert_to_numpy(dense)
    return array.astype("U") if array.dtype == object else array


if __name__ == "__main__":
    from collections import Counter

    kinds = Counter("slow" if parameters.marks else "in every run" for parameters in _pairs())
    print(f"{len(SUBJECTS)} models, {len(LAWS)} laws; pairs: {dict(kinds)}")
    print(f"exceptions: {EXCEPTIONS}, refused: {REFUSED}, in memory only: {IN_MEMORY}")
