"""What is frozen when a model is wrapped stays as it is, to the bit; it may lose inputs."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras as rk
from resrep_keras.graph.trace import frozen_layers, recording_of
from resrep_keras.keras_adapter import is_frozen
from resrep_keras.methods.channels.channel_state import ChannelState
from tests.helpers import kill, random_keep, scramble
from tests.sampling import sample


def is_choice(less, more):
    """Whether an array is what is left of another one, in its order, along one axis."""
    axes = [axis for axis, (a, b) in enumerate(zip(less.shape, more.shape)) if a != b]
    if less.ndim != more.ndim or len(axes) > 1:
        return False
    if not axes:
        return np.array_equal(less, more)
    rest = iter(np.moveaxis(more, axes[0], 0))
    return all(
        any(np.array_equal(one, other) for other in rest) for one in np.moveaxis(less, axes[0], 0)
    )


def frozen_weights(model):
    """``{name of a frozen layer: its weights}``"""
    recording = recording_of(model)
    names = frozen_layers(recording)
    return {
        call.name: [np.array(keras.ops.convert_to_numpy(w)) for w in call.operation.weights]
        for call in recording.all_calls()
        if call.name in names
    }


def check_frozen(before, slim, narrower=()):
    """Frozen weights of the slim model are a choice of those before; some layers are narrower."""
    after = {
        call.name: [keras.ops.convert_to_numpy(w) for w in call.operation.weights]
        for call in recording_of(slim).all_calls()
        if call.name in before
    }
    assert before and after.keys() == before.keys()
    for name, weights in before.items():
        assert len(after[name]) == len(weights), name
        for less, more in zip(after[name], weights):
            assert is_choice(less, more), name
    less = {n for n, w in before.items() if any(a.size < b.size for a, b in zip(after[n], w))}
    assert less == set(narrower)


def random_statistics(model, seed=0):
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        name = weight.path.split("/")[-1]
        if name in ("gamma", "moving_variance", "scale"):
            weight.assign(generator.uniform(0.5, 2.0, weight.shape))
        elif name in ("beta", "moving_mean", "bias"):
            weight.assign(generator.normal(0.0, 0.3, weight.shape))


def images(*made):
    x = inputs = keras.Input((8, 8, 3))
    for layer in made:
        x = layer(x)
    outputs = layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, outputs)


def conv(name, filters=8, size=3, **given):
    return layers.Conv2D(filters, size, name=name, **{"activation": "relu", **given})


def norm(name, **given):
    return layers.BatchNormalization(name=name, **given)


def middle():
    frozen = conv("frozen", activation=None, trainable=False)
    return images(conv("first"), frozen, norm("norm"), layers.ReLU(), conv("last"))


def whole_block():
    return images(
        conv("first"),
        conv("frozen", activation=None, use_bias=False, trainable=False),
        norm("frozen_norm", trainable=False),
        layers.ReLU(),
        conv("last"),
    )


def norm_alone():
    """The compactor stands in front of a frozen normalisation; `last` takes up its constants."""
    return images(
        conv("first", activation=None),
        norm("frozen_norm", trainable=False),
        layers.ReLU(),
        conv("last"),
    )


def norm_without_scale():
    return images(
        conv("first", activation=None),
        norm("frozen_norm", scale=False, center=False, trainable=False),
        layers.ReLU(),
        conv("last"),
    )


def norm_and_padding():
    """No bias of a padded convolution holds the constants: `first` stays whole."""
    return images(
        conv("first", activation=None),
        norm("frozen_norm", trainable=False),
        layers.ReLU(),
        conv("last", padding="same"),
    )


def reader_of_constants():
    """A frozen reader takes up no constant: they are made zero in front of it."""
    return images(conv("first"), norm("norm"), conv("frozen", trainable=False), conv("last"))


def sigmoid_reader():
    return images(
        conv("first", activation="sigmoid"), conv("frozen", trainable=False), conv("last")
    )


def depthwise():
    return images(
        conv("first"),
        layers.DepthwiseConv2D(3, name="frozen", trainable=False),
        norm("frozen_norm", trainable=False),
        layers.ReLU(),
        conv("last"),
    )


def bias_alone():
    model = images(conv("first"), conv("frozen"), conv("last"))
    model.get_layer("frozen").bias.trainable = False
    return model


def spectral():
    inner = layers.SpectralNormalization(conv("inner"), name="frozen", trainable=False)
    return images(conv("first"), inner, conv("last"))


def stream():
    """The channels that are added to a frozen layer's stay with them."""
    inputs = keras.Input((8, 8, 3))
    x = conv("first", padding="same")(inputs)
    y = conv("frozen", padding="same", trainable=False)(conv("inside", padding="same")(x))
    x = layers.Add()([x, y])
    outputs = layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(conv("last")(x)))
    return keras.Model(inputs, outputs)


def half_a_concatenation():
    """Half of a stream's channels are those of a frozen layer."""
    inputs = keras.Input((8, 8, 3))
    a, b = conv("frozen", trainable=False)(inputs), conv("first")(inputs)
    x = layers.Add()([layers.Concatenate()([a, b]), conv("both", 16)(inputs)])
    outputs = layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(conv("last")(x)))
    return keras.Model(inputs, outputs)


def backbone(unfrozen=()):
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            conv("a", activation=None),
            norm("a_norm"),
            layers.ReLU(),
            conv("b"),
        ],
        name="backbone",
    )
    inner.trainable = False
    for name in unfrozen:
        inner.get_layer(name).trainable = True
    return images(inner, conv("last"))


def partly_frozen_backbone():
    return backbone(["b"])


def outer():
    model = images(conv("first"), conv("frozen"), conv("last"))
    model.trainable = False
    for name in ("first", "last", "head"):
        model.get_layer(name).trainable = True
    return model


def sequence(*made):
    x = inputs = keras.Input((5, 6))
    for layer in made:
        x = layer(x)
    x = layers.Dense(6, activation="relu", name="last")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def first_dense():
    return layers.Dense(8, activation="relu", name="first")


def lstm():
    frozen = layers.LSTM(7, return_sequences=True, name="frozen", trainable=False)
    return sequence(first_dense(), frozen)


def both_directions():
    inner = layers.GRU(7, return_sequences=True, name="gru")
    frozen = layers.Bidirectional(inner, name="frozen", trainable=False)
    frozen.trainable = False
    return sequence(first_dense(), frozen)


def at_each_time():
    inner = layers.Dense(7, activation="relu", name="frozen")
    wrapper = layers.TimeDistributed(inner, name="times")
    wrapper.trainable = False
    return sequence(first_dense(), wrapper)


def attention():
    inputs = keras.Input((5, 6))
    x = first_dense()(inputs)
    x = layers.MultiHeadAttention(4, 4, name="frozen", trainable=False)(x, x)
    x = layers.Dense(6, activation="relu", name="last")(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    model.get_layer("frozen").trainable = False
    return model


# Model, and its frozen layers that lose inputs.
MODELS = {
    middle: ["frozen"],
    whole_block: ["frozen"],
    norm_alone: ["frozen_norm"],
    norm_without_scale: ["frozen_norm"],
    norm_and_padding: [],
    reader_of_constants: ["frozen"],
    sigmoid_reader: [],
    depthwise: ["frozen", "frozen_norm"],
    bias_alone: ["frozen"],
    spectral: ["frozen"],
    stream: ["frozen"],
    half_a_concatenation: [],
    backbone: [],
    partly_frozen_backbone: [],
    outer: ["frozen"],
    lstm: ["frozen"],
    both_directions: ["frozen"],
    at_each_time: ["frozen"],
    attention: ["frozen"],
}


# Each by one of the two ways in every run, by both in slow ones.
@pytest.mark.parametrize("build", sample([*MODELS]), ids=lambda build: build.__name__)
def test_finalize_chooses_inputs_and_no_more(build):
    dense = build()
    random_statistics(dense)
    before = frozen_weights(dense)
    wrapped = rk.wrap(dense, rk.ResRep(0.01, coupled=True))
    scramble(wrapped)
    channel_state = ChannelState(wrapped)
    kept = random_keep(channel_state.graph, channel_state.groups, 0)
    kill(wrapped, kept, channel_state)
    wrapped.method = None
    slim = rk.finalize(wrapped, strict=True)
    check_frozen(before, slim, MODELS[build])
    assert slim.count_params() < dense.count_params()


@pytest.mark.parametrize("build", sample([*MODELS], first=1), ids=lambda build: build.__name__)
def test_prune_chooses_inputs_and_no_more(build):
    dense = build()
    random_statistics(dense)
    before = frozen_weights(dense)
    slim = rk.MagnitudePruning(0.05, coupled=True).prune(dense)
    check_frozen(before, slim, {n for n in MODELS[build] if n in narrower_of(before, slim)})
    assert slim.count_params() < dense.count_params()


def narrower_of(before, slim):
    return {
        call.name
        for call in recording_of(slim).all_calls()
        if call.name in before
        and sum(w.size for w in before[call.name])
        > sum(int(np.prod(w.shape)) for w in call.operation.weights)
    }


METHODS = [
    rk.ResRep(0.3),
    rk.ResRep(0.3, slim_every=1),
    rk.ResRep(0.3, compactor="full"),
    rk.AOFP(0.3, max_damage=0.9),
    rk.MagnitudePruning(0.3, at=0.2),
    rk.FPGM(0.3, at=0.2),
    rk.TaylorPruning(0.3),
    rk.GroupLasso(0.3),
    rk.RandomPruning(0.3),
    rk.compose(rk.ResRep(0.3), rk.ActivationGradientPruning(0.5)),
]


@pytest.mark.parametrize(
    "method", sample(METHODS), ids=lambda m: f"{type(m).__name__}{m.slim_every or ''}"
)
def test_training_leaves_frozen_layers_alone(method):
    dense = images(
        conv("first"),
        conv("frozen", activation=None, trainable=False),
        norm("frozen_norm", trainable=False),
        layers.ReLU(),
        conv("middle"),
        conv("last", 8, 1),
    )
    random_statistics(dense)
    before = frozen_weights(dense)
    wrapped = rk.wrap(dense, method)
    wrapped.compile(keras.optimizers.SGD(1e-3), "mse")
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 3))
    wrapped.fit(x, np.zeros((32, 2)), batch_size=8, epochs=15, verbose=0)
    slim = rk.finalize(wrapped, strict=True)
    check_frozen(before, slim, narrower_of(before, slim))
    assert slim.certificate.macs_left < 0.75


def test_granet_thins_out_no_frozen_kernel():
    dense = backbone()
    before = frozen_weights(dense)
    wrapped = rk.wrap(dense, rk.GraNet(0.5))
    wrapped.compile(keras.optimizers.SGD(1e-2), "mse")
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 3))
    wrapped.fit(x, np.zeros((32, 2)), batch_size=8, epochs=10, verbose=0)
    slim = rk.finalize(wrapped, strict=True)
    check_frozen(before, slim)
    assert (np.array(slim.get_layer("last").kernel) == 0).mean() > 0.3


def test_a_model_that_is_frozen_whole_is_refused_with_the_reason():
    dense = images(conv("first"), conv("last"))
    dense.trainable = False
    with pytest.raises(ValueError, match=r"no channels that can be pruned.*trainable=False"):
        rk.wrap(dense)


def test_explain_says_what_is_frozen():
    text = str(rk.explain(middle()))
    assert "its weights are frozen (trainable=False)" in text and "set trainable=True" in text
    (row,) = [row for row in rk.explain(middle()).rows if row.layer == "frozen"]
    assert row.status == "pinned" and row.prunable == 0


def test_remove_channels_does_what_it_is_asked_for():
    slim = rk.surgery.remove.remove_channels(middle(), {"frozen": np.arange(8) < 5})
    assert slim.get_layer("frozen").filters == 5


def test_what_is_frozen_is_noted_with_the_model(tmp_path):
    """Thawed, or saved and loaded, in between: it was frozen when compactors were put in."""
    dense = backbone()
    before = frozen_weights(dense)
    wrapped = rk.wrap(dense, rk.ResRep(0.05))
    assert set(wrapped.baseline.frozen) == {"a", "a_norm", "b"}
    wrapped.save(tmp_path / "wrapped.keras")
    loaded = keras.saving.load_model(tmp_path / "wrapped.keras")
    assert set(loaded.baseline.frozen) == {"a", "a_norm", "b"}
    for layer in loaded.layers:
        layer.trainable = True
    assert not any(is_frozen(layer) for layer in loaded.layers)
    state = ChannelState(loaded)
    assert [group.name for group in state.groups] == ["last"]
    loaded.method = None
    check_frozen(before, rk.finalize(loaded, strict=True))


@pytest.mark.parametrize("method", [rk.ResRep(0.3), rk.TaylorPruning(0.3)], ids=repr)
def test_frozen_compactors_are_told_before_the_first_step(method):
    wrapped = rk.wrap(images(conv("first"), conv("last")), method)
    wrapped.get_layer("first_compactor").trainable = False
    wrapped.compile("sgd", "mse")
    kernel = np.array(wrapped.get_layer("first").kernel)
    with pytest.raises(ValueError, match="The compactors first_compactor are frozen"):
        wrapped.fit(np.zeros((80, 8, 8, 3)), np.zeros((80, 2)), batch_size=4, verbose=0)
    assert np.array_equal(kernel, wrapped.get_layer("first").kernel)


def test_a_frozen_wrapped_model_is_told_or_finalized():
    wrapped = rk.wrap(images(conv("first"), conv("last")), rk.ResRep(0.3))
    wrapped.trainable = False
    wrapped.compile("sgd", "mse")
    with pytest.raises(ValueError, match="are frozen"):
        wrapped.fit(np.zeros((80, 8, 8, 3)), np.zeros((80, 2)), batch_size=4, verbose=0)
    channel_state = ChannelState(wrapped)
    kill(wrapped, random_keep(channel_state.graph, channel_state.groups, 0), channel_state)
    wrapped.method = None
    slim = rk.finalize(wrapped, strict=True)
    assert slim.get_layer("first").filters < 8


# --- names of what is around a layer --------------------------------------------------------------


class Block(layers.Layer):
    """A layer that is made of layers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.one, self.two = conv("one", size=1), conv("two", size=1)

    def call(self, x):
        return self.two(self.one(x))


def nested():
    inner = keras.Sequential([keras.Input((8, 8, 3)), conv("a"), conv("b")], name="backbone")
    return images(inner, Block(name="block"), conv("last", 8, 1))


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (["backbone"], {"one", "two", "last"}),
        (["back*"], {"one", "two", "last"}),
        (["block"], {"a", "b", "last"}),
        (["block", "a"], {"b", "last"}),
    ],
)
def test_exclude_takes_the_name_of_what_is_around(exclude, left):
    wrapped = rk.wrap(nested(), rk.ResRep(0.05, exclude=exclude))
    assert {group.name for group in ChannelState(wrapped).groups} == left
    slim = rk.RandomPruning(0.05, exclude=exclude).prune(nested())
    dense = {n: w for n, w in rk.widths_of(nested()).items() if n not in left}
    assert {n: rk.widths_of(slim)[n] for n in dense} == dense


def test_settings_by_pattern_take_the_name_of_what_is_around():
    method = rk.ResRep(0.2, min_channels={"backbone": 7, "b": 2, "block": 6}, min_share={"b*": 0.5})
    wrapped = rk.wrap(nested(), method)
    state = ChannelState(wrapped)
    producers = {p.name: p for g in state.groups for p in g.producers}
    found = {name: method.minimum(state, producer) for name, producer in producers.items()}
    # `backbone` and `block` fit "b*" as well: at least 8 * 0.5 of their layers.
    assert found == {"a": 7, "b": 4, "one": 6, "two": 6, "last": 1}
    multiple = rk.RandomPruning(0.2, channel_multiple={"backbone": 4}).prune(nested())
    assert {rk.widths_of(multiple)[name] for name in "ab"} <= {4, 8}


def test_gradient_pruning_takes_the_name_of_what_is_around():
    inner = keras.Sequential(
        [keras.Input((8, 8, 3)), conv("a", activation=None), norm("n"), layers.ReLU()],
        name="backbone",
    )
    dense = images(inner, conv("b", activation=None), norm("m"), layers.ReLU())
    wrapped = rk.wrap(dense, rk.ActivationGradientPruning(0.5, exclude=["backbone"]))
    assert set(wrapped.baseline.places) == {"b"}
    wrapped = rk.wrap(dense, rk.ActivationGradientPruning({"backbone": 0.5}))
    assert set(wrapped.baseline.places) == {"a"}


def test_a_name_that_fits_nothing_is_told_with_what_there_is():
    with pytest.raises(ValueError, match=r"stand in \(backbone, block\); got 'backbones'"):
        rk.wrap(nested(), rk.ResRep(0.2, exclude=["backbones"]))


# --- frozen and thawed again ---------------------------------------------------------------------


def names_of(model):
    """Names of the variables that train, without those of compactors."""
    return sorted(
        "/".join(v.path.split("/")[-2:])
        for v in model.trainable_variables
        if "compactor" not in v.path
    )


def freeze_layer(model):
    model.get_layer("backbone").get_layer("a").trainable = False


def freeze_backbone(model):
    model.get_layer("backbone").trainable = False


def freeze_backbone_but_b(model):
    freeze_backbone(model)
    model.get_layer("backbone").get_layer("b").trainable = True


def freeze_all_but_last(model):
    model.trainable = False
    model.get_layer("last").trainable = True


def freeze_variable(model):
    model.get_layer("backbone").get_layer("a").bias.trainable = False


@pytest.mark.parametrize(
    "freeze",
    [freeze_layer, freeze_backbone, freeze_backbone_but_b, freeze_all_but_last, freeze_variable],
    ids=lambda freeze: freeze.__name__,
)
def test_thawing_a_wrapped_model_does_what_keras_does_to_a_dense_one(freeze):
    inner = [keras.Input((8, 8, 3)), conv("a"), norm("a_norm"), conv("b")]
    dense = images(keras.Sequential(inner, name="backbone"), conv("last"))
    freeze(dense)
    wrapped = rk.wrap(dense, rk.ResRep(0.05))
    assert names_of(wrapped) == names_of(dense) and wrapped.trainable == dense.trainable
    for value in (True, False, True):  # one that has the value already ignores it, on TensorFlow
        dense.trainable = wrapped.trainable = value
        assert names_of(wrapped) == names_of(dense)
    assert names_of(wrapped) == sorted(
        f"{layer}/{name}"
        for layer, names in {
            **dict.fromkeys(("a", "b", "last", "head"), ("kernel", "bias")),
            "a_norm": ("gamma", "beta"),
        }.items()
        for name in names
    )


def test_a_model_that_is_frozen_around_its_layers_is_told_and_trains_once_it_is_thawed():
    wrapped = rk.wrap(outer(), rk.ResRep(0.05, total_steps=400))
    wrapped.compile("sgd", "mse")
    x, y = np.ones((8, 8, 8, 3)), np.zeros((8, 2))
    with pytest.raises(ValueError, match=r"All weights .* frozen .*model.trainable = True"):
        wrapped.fit(x, y, verbose=0)
    wrapped.trainable = True
    wrapped.compile("sgd", "mse")
    before = np.array(wrapped.get_layer("frozen").kernel)
    wrapped.fit(x, y, verbose=0)
    assert not np.array_equal(before, wrapped.get_layer("frozen").kernel)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("value", [True, False])
def test_flags_set_between_two_fits_act_once_compiled_as_those_of_a_dense_model(value, compiled):
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3))
    moved = {}
    for kind in ("dense", "wrapped"):
        model = images(conv("first"), conv("thawed", trainable=not value), conv("last"))
        if kind == "wrapped":
            model = rk.wrap(model, rk.ResRep(0.05, total_steps=400))
        model.compile("sgd", "mse")
        model.fit(x, np.zeros((8, 2)), verbose=0)
        model.get_layer("thawed").trainable = value
        if compiled:
            model.compile("sgd", "mse")
        before = np.array(keras.ops.convert_to_numpy(model.get_layer("thawed").kernel))
        if keras.backend.backend() == "jax" and not compiled:  # Keras refuses it, in words
            with pytest.raises(ValueError, match="the optimizer was built with"):
                model.fit(x, np.zeros((8, 2)), verbose=0)
            moved[kind] = not value
            continue
        model.fit(x, np.zeros((8, 2)), verbose=0)
        after = keras.ops.convert_to_numpy(model.get_layer("thawed").kernel)
        moved[kind] = not np.array_equal(before, after)
    assert moved["dense"] == moved["wrapped"] == (value == compiled)


# --- weights that stay dense ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exclude", "dense"),
    [
        (["backbone"], {"a", "b"}),
        (["back*", "head"], {"a", "b", "head"}),
        (["backbone/a/kernel"], {"a"}),
        (["backbone/b", "block"], {"b", "one", "two"}),
        (["one", "last/kernel"], {"one", "last"}),
    ],
)
def test_granet_leaves_dense_what_a_name_around_it_excludes(exclude, dense, tmp_path):
    method = rk.GraNet(0.5, 0.5, 0.0, distribution="uniform", exclude=exclude, regrow_rate=0.0)
    wrapped = rk.wrap(nested(), method)
    wrapped.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3))
    wrapped.fit(x, np.zeros((8, 2)), batch_size=4, verbose=0)
    wrapped.save(tmp_path / "wrapped.keras")
    for model in (wrapped, keras.saving.load_model(tmp_path / "wrapped.keras")):
        assert model.method.target_met(model) and model.method == method
        slim = rk.finalize(model, strict=True)
        full = {
            layer.name
            for layer in slim.layers
            if layer.name in {"a", "b", "one", "two", "last", "head"}
            and (np.array(layer.kernel) != 0).all()
        }
        assert full == dense


def test_granet_refuses_a_name_that_fits_nothing():
    with pytest.raises(ValueError, match=r"entry of exclude to fit a layer .*got 'backbones'"):
        rk.wrap(nested(), rk.GraNet(0.5, exclude=["backbones"]))
