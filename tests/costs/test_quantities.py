"""Targets about each quantity: predicted equals what the slim model has, and limits are met."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras import MagnitudePruning, ResRep
from resrep_keras.costs.activations import ActivationCost
from resrep_keras.costs.params import ParamCost, weight_shapes
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.tflite.convert import to_tflite
from tests import helpers, zoo

needs_tensorflow = pytest.mark.tensorflow_only


def masked(name, seed, coupled=True):
    """A wrapped model with random dead channels, its channel_state and the keep array."""
    method = ResRep(0.01, coupled=coupled)
    model = resrep_keras.wrap(zoo.build(name), method)
    channel_state = ChannelState(model)
    kept = helpers.random_keep(channel_state.graph, channel_state.groups, seed)
    helpers.kill(model, kept, channel_state)
    return model, channel_state, kept


@pytest.mark.parametrize("name", zoo.ZOO)
def test_predicted_costs_are_those_of_the_slim_model(name):
    model, channel_state, kept = masked(name, seed=3)
    slim = resrep_keras.finalize(model)
    folded = channel_state.folded
    predicted = ParamCost(folded.graph)(folded.keep(kept))
    actual = resrep_keras.count_params(slim)
    # A layer that may have to take up constants is counted with the bias for them.
    with_room = [
        slim.get_layer(call.name).weights[0].shape[-1]
        for call in folded.graph.calls
        if len(weight_shapes(folded.graph, call)) > len(getattr(call.operation, "weights", ()))
    ]
    assert actual <= predicted <= actual + sum(with_room)
    try:
        memory = ActivationCost(folded.graph)(folded.keep(kept))
    except ValueError as error:
        assert "not all known" in str(error)
        return
    assert memory == ActivationCost(resrep_keras.trace(slim))()


def test_activation_memory_by_hand():
    """Two branches of a residual block: 4-byte values alive while the second convolution runs."""
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(6, 3, padding="same")(inputs)
    x = layers.ReLU()(x)
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.Add()([inputs, x])
    model = keras.Model(inputs, x)
    # Input, hidden map (the activation runs in place), output of the second convolution.
    assert ActivationCost(resrep_keras.trace(model))() == 4 * 64 * (4 + 6 + 4)


@needs_tensorflow
@pytest.mark.parametrize("name", ["residual", "vgg", "mobilenet_block", "concatenate"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_file_is_never_larger_than_predicted(name, seed):
    model, channel_state, kept = masked(name, seed)
    channel_state.baseline = ResRep(target_reduction={"file_bytes": 0.1}).baseline(
        zoo.build(name), channel_state
    )
    slim = resrep_keras.finalize(model)
    predicted = channel_state.predicted("file_bytes")(kept)
    actual = len(to_tflite(slim))
    assert actual <= predicted <= 1.1 * actual + 1500


LIMITS = [
    {"target_reduction": {"params": 0.5}},
    {"target_reduction": {"macs": 0.3, "params": 0.6}},
    {"target_reduction": None, "at_most": {"params": 500}},
    {"target_reduction": {"activation_bytes": 0.2}},
    {"target_reduction": 0.4, "at_most": {"params": 600, "activation_bytes": 10_000}},
]


@pytest.mark.parametrize("settings", LIMITS, ids=str)
@pytest.mark.parametrize("method", [ResRep, MagnitudePruning])
def test_all_limits_are_met(method, settings):
    dense = zoo.build("vgg")
    model = resrep_keras.wrap(dense, method(**settings))
    channel_state = ChannelState(model)
    scores = np.random.default_rng(0).uniform(size=channel_state.graph.num_channels)
    kept = model.method.choose(channel_state, scores)
    helpers.kill(model, kept, channel_state)
    slim = resrep_keras.finalize(model, strict=True)
    counts = {
        "macs": resrep_keras.count_macs,
        "params": resrep_keras.count_params,
        "activation_bytes": lambda m: ActivationCost(resrep_keras.trace(m))(),
    }
    shares = model.method.reductions()
    for name, share in shares.items():
        assert counts[name](slim) <= (1 - share) * counts[name](dense) * (1 + 1e-12)
    for name, most in model.method.at_most.items():
        assert counts[name](slim) <= most
    # Not more than needed: with the last block of channels back, a limit is missed.
    assert any(
        limit.cost(kept) > 0.6 * limit.at_most for limit in model.method.limits(channel_state)
    )


@needs_tensorflow
def test_bytes_of_the_file_are_never_exceeded():
    """From wrap to the converted file, with a share and with a number of bytes."""
    dense = zoo.build("vgg")
    whole = len(to_tflite(dense))
    for settings in (
        {"target_reduction": {"file_bytes": 0.15}},
        {"at_most": {"file_bytes": 7_000}},
    ):
        model = resrep_keras.wrap(dense, ResRep(**{"target_reduction": None, **settings}))
        channel_state = ChannelState(model)
        scores = np.random.default_rng(1).uniform(size=channel_state.graph.num_channels)
        helpers.kill(model, model.method.choose(channel_state, scores), channel_state)
        slim = resrep_keras.finalize(model, strict=True)
        most = settings.get("at_most", {"file_bytes": 0.85 * whole})["file_bytes"]
        assert len(to_tflite(slim)) <= most
        (name, value, at_most), *_ = slim.certificate.limits
        assert (name, value) == ("file_bytes", len(to_tflite(slim))) and at_most <= most


# --- settings of single layers -------------------------------------------------------------------


def widths_left(dense, method, scores=None):
    """``{layer: channels kept}`` of the layers that may lose some."""
    channel_state = ChannelState(resrep_keras.wrap(dense, method))
    scores = np.zeros(channel_state.graph.num_channels) if scores is None else scores
    kept = method.choose(channel_state, scores)
    return {
        producer.name: int(kept[producer.channels].sum())
        for group in channel_state.groups
        for producer in group.producers
    }


def convolutions(dense):
    return {x.name: x.filters for x in dense.layers if isinstance(x, layers.Conv2D)}


def test_minimum_by_name_goes_before_patterns():
    dense = zoo.build("chain")
    first, second, *_ = convolutions(dense)
    left = widths_left(dense, ResRep(0.4, min_channels={"*": 5, first: 2}))
    assert 2 <= left[first] < 5 <= left[second]


def test_largest_reduction_of_a_layer():
    dense = zoo.build("chain")
    first, second, *_ = convolutions(dense)
    left = widths_left(dense, ResRep(0.3, min_share={first: 0.7}))
    assert left[first] == np.ceil(0.7 * convolutions(dense)[first])
    assert left[second] < 0.7 * convolutions(dense)[second]


@keras.saving.register_keras_serializable("test_targets")
def is_first(layer):
    return layer.get_config().get("kernel_size") == (3, 3) and layer.name.endswith("first")


@pytest.mark.parametrize(
    "exclude", [["*first"], ["s*nd", "first"], is_first], ids=["pattern", "patterns", "function"]
)
def test_exclude_by_pattern_or_function(exclude):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="first")(inputs)
    x = layers.Conv2D(8, 3, name="second")(x)
    x = layers.Conv2D(8, 3, name="third")(x)
    dense = keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(2, 1)(x)))
    method = ResRep(0.1, exclude=exclude)
    model = resrep_keras.wrap(dense, method)
    free = (
        {"second", "third"} if not isinstance(exclude, list) or "s*nd" not in exclude else {"third"}
    )
    assert model.baseline["exclude"] == [n for n in ("first", "second", "third") if n not in free]
    found = {x.name for x in model.layers if isinstance(x, resrep_keras.Compactor)}
    assert found == {f"{name}_compactor" for name in free}
    config = keras.saving.serialize_keras_object(method)
    assert keras.saving.deserialize_keras_object(config) == method


@pytest.mark.parametrize("multiple", [2, 3, {"*": 2}])
def test_widths_are_multiples_and_the_target_is_met(multiple):
    dense = zoo.build("chain")
    scores = np.random.default_rng(2).uniform(size=1000)
    left = widths_left(dense, ResRep(0.4, channel_multiple=multiple), scores)
    before = convolutions(dense)
    number = 2 if isinstance(multiple, dict) else multiple
    assert any(left[name] < before[name] for name in left)
    for name, width in left.items():
        assert width % number == 0 or width == before[name]


BAD = [
    (lambda: ResRep(None), ValueError, "target_reduction or at_most to say how far.*got neither"),
    (lambda: ResRep({}), ValueError, "name a quantity; got an empty dict"),
    (lambda: ResRep({"flops": 0.5}), ValueError, "one of activation_bytes.*params; got 'flops'"),
    (lambda: ResRep({"params": 1.5}), ValueError, r"target_reduction\['params'\].*got 1.5"),
    (lambda: ResRep(at_most=3), TypeError, "at_most to be a dict.*got 3 of type int"),
    (lambda: ResRep(at_most={"params": 0}), ValueError, r"at_most\['params'\].*above 0; got 0"),
    (lambda: ResRep(min_channels={3: 4}), TypeError, "names or patterns of layers.*the key 3"),
    (lambda: ResRep(channel_multiple=0), ValueError, "channel_multiple to be an int of 1 or more"),
    (lambda: ResRep(exclude=lambda layer: True), TypeError, "function with a name.*got a lambda"),
    (lambda: ResRep(exclude=[3]), TypeError, "entries of exclude.*got 3 of type int"),
    (lambda: ResRep(exclude=3), TypeError, "list of layer names or patterns.*got 3"),
    (
        lambda: resrep_keras.wrap(zoo.build("chain"), ResRep(exclude=list)),
        TypeError,
        "takes a layer and returns.*of type Conv2D it raised TypeError",
    ),
    (lambda: ResRep(input_shape="224"), TypeError, "input_shape to be a tuple"),
    (
        lambda: resrep_keras.wrap(zoo.build("chain"), ResRep(min_channels={"nope*": 2})),
        ValueError,
        r"entry of min_channels .* \(.*conv2d.*\); got 'nope\*'",
    ),
    (
        lambda: resrep_keras.wrap(zoo.build("chain"), ResRep(None, {"params": 10**9})),
        ValueError,
        "meets its target already: params .* with at most 1,000,000,000 allowed.*nothing to prune",
    ),
    (
        lambda: resrep_keras.wrap(zoo.build("chain"), ResRep(None, {"params": 3})),
        ValueError,
        r"cannot be reached.*The smallest at_most is \d+",
    ),
]


@pytest.mark.parametrize(("act", "error", "text"), BAD, ids=range(len(BAD)))
def test_bad_targets_are_answered_in_words(act, error, text):
    with pytest.raises(error, match=text):
        act()
