"""Which channels may go, and how many: by hand, and in a model."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras import ResRep
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.settings import ChannelSettings, minimum_of, multiples
from tests import zoo


@pytest.mark.parametrize(
    ("channels", "min_channels", "min_share", "least"),
    [
        (10, 1, 0.0, 1),
        (10, 4, 0.0, 4),
        (10, 4, 0.5, 5),
        (10, 1, 0.31, 4),  # 3.1 channels are 4
        (3, 8, 0.0, 3),  # never more than there are
    ],
)
def test_what_a_layer_keeps_at_least(channels, min_channels, min_share, least):
    assert minimum_of(channels, min_channels, min_share) == least


@pytest.mark.parametrize(
    ("number", "channels", "widths"),
    [
        (4, 12, (4, 8, 12)),
        (4, 10, (4, 8, 10)),  # or all of them
        (8, 5, (5,)),
        (1, 3, (1, 2, 3)),
    ],
)
def test_widths_that_a_layer_may_keep(number, channels, widths):
    assert multiples(number, channels) == widths


def test_settings_are_kept_in_one_form():
    settings = ChannelSettings(0.5, exclude=["a", "b*"], input_shape=[8, 8, 3], coupled=np.True_)
    assert settings.target_reduction == 0.5 and settings.at_most == {}
    assert settings.exclude == ("a", "b*") and settings.input_shape == (8, 8, 3)
    assert settings.coupled is True


@pytest.mark.parametrize(
    ("target", "shares"),
    [(0.4, {"macs": 0.4}), ({"params": 0.5, "macs": 0.1},) * 2, (None, {})],
)
def test_one_number_is_a_target_of_macs(target, shares):
    assert ChannelSettings(target, at_most={"params": 5}).reductions() == shares


@pytest.mark.parametrize(
    ("multiple", "answer"), [(1, False), ("auto", True), ({"a": 8, "*": "auto"}, True), ({}, False)]
)
def test_layers_are_timed_where_widths_are_automatic(multiple, answer):
    assert ChannelSettings(channel_multiple=multiple).times_widths() == answer


# --- in a model ----------------------------------------------------------------------------------


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
    assert model.baseline.exclude == tuple(n for n in ("first", "second", "third") if n not in free)
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
    (
        lambda: ResRep(min_channels={3: 4}),
        TypeError,
        "names or patterns.*got 3 of type int as a key",
    ),
    (lambda: ResRep(channel_multiple=0), ValueError, "channel_multiple to be an int of 1 or more"),
    (
        lambda: ResRep(exclude=lambda layer: True),
        TypeError,
        "a function with a name.*got <func",
    ),
    (lambda: ResRep(exclude=[3]), TypeError, "entries of exclude.*got 3 of type int"),
    (lambda: ResRep(exclude=3), TypeError, "list of layer names or patterns.*got 3"),
    (
        lambda: resrep_keras.wrap(zoo.build("chain"), ResRep(exclude=divmod)),
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
