"""A layer of one's own: rules from outside the library, and the guide that explains them."""

import inspect
import re
import unittest.mock

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.costs.quantities import QUANTITIES
from resrep_keras.graph.flow import flow
from resrep_keras.graph.trace import recording_of
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.surgery.rebuild import rebuild
from resrep_keras.surgery.remove import remove_channels
from tests import helpers, paths, zoo

own_layer = paths.examples("own_layer")
own_layer.register_rules()
OWN = ("first", "second", "third", "fourth")
GUIDE = (paths.ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@keras.saving.register_keras_serializable("test_extension")
class Stranger(own_layer.WeightNormConv2D):
    """Overrides `call`, so that it inherits no rule, and takes channels in another order."""

    def call(self, inputs):
        return super().call(inputs[..., ::-1])[..., ::-1]


@keras.saving.register_keras_serializable("test_extension")
class Unfinished(own_layer.WeightNormConv2D):
    """Has one rule of three."""

    def call(self, inputs):
        return super().call(inputs)


flow.register(Unfinished)(own_layer.pass_channels)


def net(kind=own_layer.WeightNormConv2D, seed=0):
    """The layer with all that its rules must cope with: borders, a batch norm, constants."""
    x = inputs = keras.Input((8, 8, 3))
    x = kind(6, activation="relu", name="first")(x)
    x = kind(8, strides=2, use_bias=False, name="second")(x)
    x = layers.Activation("sigmoid")(layers.BatchNormalization()(x))
    x = kind(7, kernel_size=1, use_bias=False, activation="relu", name="third")(x)
    x = kind(5, name="fourth")(x)
    x = layers.Dense(3, name="outputs")(layers.GlobalMaxPooling2D()(x))
    model = zoo.randomise(keras.Model(inputs, x), seed)
    for name in OWN:  # longer kernels: outputs depend on inputs
        scale = model.get_layer(name).scale
        scale.assign(8.0 * keras.ops.convert_to_numpy(scale))
    return model


def statuses(model):
    return {row.layer: row.status for row in resrep_keras.explain(model).rows}


# --- with rules and without ----------------------------------------------------------------------


def test_without_rules_the_layer_is_pinned_and_the_reason_names_the_registration():
    model = net(Stranger)
    assert statuses(model) == {"outputs": "pinned"}
    pins = {pin.layer: pin.text for pin in resrep_keras.trace(model).pins}
    text = (
        "Stranger has no rule for how channels pass through it (it overrides call, on which the "
        "rule of WeightNormConv2D relies), and tried on arrays, choosing channels {} gives other "
        "values{}; register one with resrep_keras.graph.flow.flow.register(Stranger)"
    )
    for name in OWN:  # nothing of what the first one reads could go
        before = text.format("before it", ", also where all others are zero")
        behind = text.format("behind it", ": its outputs depend on how many they are")
        assert pins[name] in (before, behind)


def test_a_stranger_leaves_the_rest_of_the_model_prunable():
    x = inputs = keras.Input((8, 8, 3))
    x = Stranger(4)(layers.Conv2D(5, 3, name="before")(x))
    x = layers.Conv2D(6, 3, name="after")(x)
    model = keras.Model(inputs, layers.Dense(2, name="outputs")(x))
    assert statuses(model) == {"before": "pinned", "after": "prunable", "outputs": "pinned"}


def test_with_rules_the_layer_is_prunable():
    found = statuses(net())
    assert found.pop("outputs") == "pinned"
    assert found == dict.fromkeys(OWN, "prunable")


def test_a_missing_narrow_rule_is_named():
    with pytest.raises(
        ValueError,
        match=r"Unfinished 'first' has no rule for fewer channels. Register one with "
        r"resrep_keras.surgery.narrow.narrow.register\(Unfinished\)",
    ):
        resrep_keras.wrap(net(Unfinished), resrep_keras.ResRep(0.1))


def test_without_a_macs_rule_the_layer_counts_what_its_call_multiplies():
    assert resrep_keras.count_macs(net(Unfinished)) == resrep_keras.count_macs(net())


# --- laws -----------------------------------------------------------------------------------------


def test_macs_are_those_of_a_convolution():
    x = inputs = keras.Input((8, 8, 3))
    for filters, size, strides in ((6, 3, 1), (8, 3, 2), (7, 1, 1), (5, 3, 1)):
        x = layers.Conv2D(filters, size, strides, padding="same")(x)
    x = layers.Dense(3)(layers.GlobalMaxPooling2D()(x))
    assert resrep_keras.count_macs(net()) == resrep_keras.count_macs(keras.Model(inputs, x))


def test_macs_of_unknown_sizes_say_what_to_give():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, own_layer.WeightNormConv2D(4, name="first")(inputs))
    with pytest.raises(ValueError, match=r"'first' depends on its input shape.*input_shape="):
        resrep_keras.count_macs(model)
    assert resrep_keras.count_macs(model, input_shape=(5, 6, 3)) == 5 * 6 * 9 * 3 * 4


def test_wrap_changes_no_output():
    model = net()
    assert helpers.difference(model, resrep_keras.wrap(model)) <= 1e-6


@pytest.mark.parametrize(("kernel_size", "status"), [(1, "prunable"), (3, "pinned")])
def test_a_border_takes_no_constants(kernel_size, status):
    """sigmoid(0) is a constant; where a kernel also reads zeros beyond the border, it must stay."""
    x = inputs = keras.Input((8, 8, 3))
    x = own_layer.WeightNormConv2D(4, activation="sigmoid", name="first")(x)
    x = own_layer.WeightNormConv2D(4, kernel_size, name="second")(x)
    assert statuses(keras.Model(inputs, layers.Dense(2)(x)))["first"] == status


@pytest.mark.parametrize("compactor", ["full", "diagonal"])
@pytest.mark.parametrize("seed", range(3))
def test_slim_equals_masked_and_costs_what_was_predicted(compactor, seed):
    wrapped = resrep_keras.wrap(
        net(seed=seed), resrep_keras.ResRep(target_reduction=0.01, compactor=compactor)
    )
    helpers.scramble(wrapped, seed)
    channel_state = ChannelState(wrapped)
    kept = helpers.random_keep(channel_state.graph, channel_state.groups, seed)
    helpers.kill(wrapped, kept, channel_state)
    slim = resrep_keras.finalize(wrapped, strict=True)

    first, second = helpers.outputs_of(slim)[0]
    assert np.abs(first - second).max() > 1e-2, "outputs that ignore the input prove nothing"
    assert helpers.difference(wrapped, slim, seed) <= 1e-4
    assert slim.certificate.max_relative <= 1e-4
    assert channel_state.cost()(kept) == resrep_keras.count_macs(slim) == slim.certificate.macs_slim
    for name in OWN:
        assert slim.get_layer(name).filters == kept[_channels(channel_state, name)].sum()


def _channels(channel_state, name):
    return next(p.channels for p in channel_state.graph.group(name).producers if p.name == name)


def test_constants_reach_the_bias():
    """A removed channel leaves sigmoid(offset) behind, which 'third' has no bias for at first."""
    model = net()
    keep = np.arange(8) % 2 == 0
    slim = remove_channels(model, {"second": keep})
    assert helpers.difference(_with_zeros(model, keep), slim) <= 1e-6
    assert not model.get_layer("third").use_bias and slim.get_layer("third").use_bias
    assert slim.get_layer("second").filters == 4


def _with_zeros(model, keep):
    """The model with zeros behind the batch norm of 'second' where channels are removed."""
    copy = rebuild(recording_of(model))
    norm = next(x for x in copy.layers if isinstance(x, layers.BatchNormalization))
    for weight in (norm.gamma, norm.beta):
        weight.assign(keras.ops.convert_to_numpy(weight) * keep)
    return copy


def test_magnitude_pruning_scores_by_the_kernel():
    model = net()
    layer = model.get_layer("first")
    scale = np.array([1.0, 1e-3, 1.0, 1.0, 1.0, 1.0])
    layer.scale.assign(scale)
    method = resrep_keras.MagnitudePruning(target_reduction=0.01, exclude=OWN[1:])
    slim = method.prune(model)
    assert slim.get_layer("first").filters == 5
    lengths = keras.ops.convert_to_numpy(slim.get_layer("first").scale)
    np.testing.assert_allclose(lengths, np.ones(5), rtol=1e-5)


def test_slim_and_wrapped_models_are_saved_and_loaded(tmp_path):
    wrapped = resrep_keras.wrap(net())
    wrapped.save(tmp_path / "wrapped.keras")
    loaded = keras.models.load_model(tmp_path / "wrapped.keras")
    assert helpers.difference(wrapped, loaded) <= 1e-6
    slim = resrep_keras.MagnitudePruning(target_reduction=0.3).prune(net())
    assert resrep_keras.export(slim, tmp_path / "slim.keras") <= 1e-6


def test_the_example_names_the_status_of_a_layer():
    assert own_layer.status(own_layer.small_net(), "second") == "prunable"
    assert own_layer.status(net(Stranger), "second").startswith("pinned (Stranger has no rule")


# --- the guide ------------------------------------------------------------------------------------


def test_the_guide_runs():
    namespace = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    assert len(blocks) == GUIDE.count("```python")
    # One's own rows are gone again at the end.
    with unittest.mock.patch.dict(QUANTITIES), unittest.mock.patch.dict(zoo.ZOO):
        for block in blocks:
            exec(compile(block, "docs/extending.md", "exec"), namespace)


@pytest.mark.parametrize(
    "rule", [own_layer.pass_channels, own_layer.with_fewer_channels, own_layer.multiply_accumulates]
)
def test_the_guide_quotes_the_rules_of_the_example(rule):
    assert inspect.getsource(rule) in GUIDE


def test_the_guide_names_each_word_of_a_rule():
    """Each method of `Call` with which a rule answers stands in the guide."""
    from resrep_keras.graph.call import Call

    inner = {"begin", "detach"}
    words = {n for n, v in vars(Call).items() if inspect.isfunction(v) and n[0] != "_"} - inner
    assert not {word for word in words if f"call.{word}(" not in GUIDE}


def test_a_method_of_ones_own_needs_scores_alone(tmp_path):
    """The method in docs/methods.md, from wrapping to the slim model."""
    page = (paths.ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    (block,) = re.findall(
        r"^```python\n(import dataclasses.*?)^```$", page, re.DOTALL | re.MULTILINE
    )
    namespace = {"__name__": "test_extension"}
    exec(compile(block, "docs/methods.md", "exec"), namespace)
    method = namespace["LastChannels"](target_reduction=0.4)
    model = resrep_keras.wrap(zoo.build("chain"), method)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32")
    model.fit(x, np.arange(32) % 3, epochs=1, verbose=0)
    for layer in helpers.compactors(model):
        mask = np.asarray(layer.keep_mask)
        assert mask[: mask.sum()].all()  # the first ones stay
    slim = resrep_keras.finalize(model, strict=True)
    assert slim.certificate.macs_left <= 0.6
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").method == method
