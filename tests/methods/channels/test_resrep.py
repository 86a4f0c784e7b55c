"""ResRep as a user meets it: targets, plans, the paper's settings."""

import itertools

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras import ResRep
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.schedules import PaperSchedule
from resrep_keras.optimizers.wrapper import find_wrapper
from tests import helpers, paths, zoo
from tests.conditions.training import data, loss, wrapped
from tests.sampling import sample_pairs

pytestmark = pytest.mark.tensorflow_only


SCHEDULES = {
    "sgd_cosine": lambda steps: keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.05, steps), momentum=0.9
    ),
    "sgd_constant": lambda steps: keras.optimizers.SGD(0.01),
    "adam_constant": lambda steps: keras.optimizers.Adam(),
}


RUNS = list(itertools.product(SCHEDULES, (5, 9)))


@pytest.mark.parametrize(
    ("name", "run"), sample_pairs(["residual", "chain", "squeeze_excite"], RUNS), ids=str
)
def test_defaults_meet_the_target_in_any_run_of_five_epochs_or_more(name, run):
    optimizer, epochs = run
    x, y = data()
    model = resrep_keras.wrap(zoo.build(name))
    model.compile(SCHEDULES[optimizer](epochs * 4), loss())
    history = model.fit(x, y, batch_size=16, epochs=epochs, verbose=0)
    slim = resrep_keras.finalize(model, strict=True)
    dense = resrep_keras.count_macs(zoo.ZOO[name]())
    assert resrep_keras.count_macs(slim) <= 0.5 * dense
    assert slim.certificate.max_relative <= 1e-4
    assert history.history["macs_left"][-1] == slim.certificate.macs_left


@pytest.mark.parametrize("normalization", ["none", "layer"])
def test_normalization_decides_what_is_compared(normalization):
    model = wrapped(
        method=ResRep(0.05, normalization=normalization, score="norm", guard=0), name="chain"
    )
    first, second = helpers.compactors(model)[:2]
    first.kernel.assign(first.kernel * 3.0)  # a large layer with one relatively small channel
    first.kernel.assign(first.kernel * np.array([0.5, 1, 1, 1, 1, 1]))
    channel_state = ChannelState(model)
    scores = model.method.scores(channel_state)
    in_first = scores[channel_state.compactors[0][1]].min()
    in_second = scores[channel_state.compactors[1][1]].min()
    assert (in_first < in_second) == (normalization == "layer")
    assert second.column_norms().max() == 1


@pytest.fixture(scope="module")
def trained():
    """A wrapped model after a few steps, and its state and optimizer."""
    model = wrapped(method=ResRep(0.05, coupled=True), name="residual")
    x, y = data()
    model.fit(x, y, batch_size=16, epochs=1, verbose=0)
    return model, ChannelState(model), find_wrapper(model.optimizer)


@pytest.mark.parametrize("score", ["fisher", "root_fisher", "norm_fisher"])
def test_a_score_by_the_loss_is_that_of_the_optimizer(score, trained):
    _, state, optimizer = trained
    worth = np.zeros(state.graph.num_channels)
    for layer, ids in state.behind_producers:
        worth[ids[ids >= 0]] += optimizer.squared_changes(layer.kernel)[ids >= 0]
    found = ResRep(score=score, guard=0).scores(state, optimizer)
    known = np.isfinite(found)
    assert known.any() and worth[known].max() > 0
    norms, root = state.norms()[known], np.sqrt(worth[known])
    expected = {"fisher": root**2, "root_fisher": root, "norm_fisher": norms * root}[score]
    np.testing.assert_allclose(found[known], expected, rtol=1e-6)


@pytest.mark.parametrize("score", ["norm", "root_fisher"])
def test_a_guard_keeps_layers_from_collapsing(score, trained):
    """The last channel of a layer costs as much as the layer, however little each is worth."""
    _, state, optimizer = trained
    plain = ResRep(score=score, guard=0).scores(state, optimizer)
    found = ResRep(score=score, guard=1.0).scores(state, optimizer)
    for group in state.groups:
        own = plain[group.channels]
        assert own.sum() > 1.5 * own.max()
        np.testing.assert_allclose(found[group.channels].max(), own.sum(), rtol=1e-6)
        assert (np.argsort(own) == np.argsort(found[group.channels])).all()


def test_macs_left_falls_to_the_target_and_is_logged():
    model = wrapped()
    x, y = data()
    left = model.fit(x, y, batch_size=8, epochs=6, verbose=0).history["macs_left"]
    assert left == sorted(left, reverse=True) and left[-1] <= 0.5 < left[0]


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_unknown_number_of_steps_is_learnt_in_the_first_epoch():
    x, y = data()

    def batches():
        for start in range(0, 64, 16):
            yield x[start : start + 16], y[start : start + 16]

    import tensorflow as tf

    spec = (tf.TensorSpec((None, 8, 8, 3)), tf.TensorSpec((None,), tf.int64))
    stream = tf.data.Dataset.from_generator(batches, output_signature=spec)
    model = wrapped()
    with pytest.raises(ValueError, match=r"steps_per_epoch=.*ResRep\(total_steps="):
        model.fit(stream, epochs=1, verbose=0, shuffle=False)
    model.fit(stream, epochs=6, verbose=0, shuffle=False)
    resrep_keras.finalize(model, strict=True)


def test_paper_settings_in_a_short_run_are_refused_before_the_first_step():
    model = wrapped(method=ResRep.paper())
    before = model.get_weights()
    x, y = data()
    with pytest.raises(ValueError, match=r"cannot meet its target: \d+ selections are needed"):
        model.fit(x, y, epochs=5, verbose=0)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_paper_settings_work_where_the_budget_allows():
    schedule = PaperSchedule(warmup_epochs=1, interval=4, channels_per_selection=2)
    method = ResRep.paper(schedule=schedule, penalty_strength=0.1, momentum=0.9)
    model = wrapped(method=method, optimizer=keras.optimizers.SGD(0.05))
    x, y = data()
    model.fit(x, y, batch_size=8, epochs=12, verbose=0)
    kept = [np.array(layer.keep_mask).sum() for layer in helpers.compactors(model)]
    assert sum(kept) < sum(layer.keep_mask.shape[0] for layer in helpers.compactors(model))


def code_of_the_paper(norms, masked, macs, target):
    """One selection of the authors' code: four channels more than are masked, or to the target.

    Args:
        norms: ``{layer: norms of its columns}``.
        masked: Number of channels masked so far.
        macs: Function of ``{layer: width}``.
        target: Share of the MACs that may be left.
    """
    widths = {layer: len(values) for layer, values in norms.items()}
    ascending = sorted((value, key, i) for key, values in norms.items() for i, value in
                       enumerate(values))  # fmt: skip
    dense, found = macs(widths), {layer: np.ones(len(v), bool) for layer, v in norms.items()}
    for _, layer, place in ascending[: masked + 4]:
        if macs(widths) <= target * dense:
            break
        widths[layer] -= 1
        found[layer][place] = False
    return found


def test_the_papers_selections_are_those_of_its_code():
    """Redone from scratch each time, so that a masked channel may be released."""
    net = paths.examples("paper_nets").resnet_cifar((8, 8, 3), 5, depth=8, width=4)
    schedule = PaperSchedule(warmup_epochs=0, interval=1)
    model = resrep_keras.wrap(net, ResRep.paper(target_reduction=0.4, schedule=schedule))
    state, plan = ChannelState(model), schedule.plan(0, 9, 1)
    layers = {layer.name: layer for layer, _ in state.compactors}
    names = [f"layer{stage}_0_bn1_compactor" for stage in (1, 2, 3)]
    assert list(layers) == names and resrep_keras.ResRep.paper().threshold == 1e-5

    def macs(widths):
        """Of the stem, the convolutions of each block, the projections and the head."""
        total, inputs = 8 * 8 * 9 * 3 * 4 + 16 * 5, 4
        for name, side, outputs in zip(names, (8, 4, 2), (4, 8, 16)):
            total += side**2 * 9 * widths[name] * (inputs + outputs)
            total += side**2 * inputs * outputs if inputs != outputs else 0
            inputs = outputs
        return total

    assert macs({name: w for name, w in zip(names, (4, 8, 16))}) == resrep_keras.count_macs(net)
    generator, masked, released, reached = np.random.default_rng(0), 0, 0, False
    before = {name: np.ones(layers[name].keep_mask.shape, bool) for name in names}
    for step in plan.steps:
        for layer in layers.values():
            scale = generator.uniform(0.2, 1, layer.kernel.shape[-1])
            layer.kernel.assign(np.eye(len(scale))[None, None] * scale)
        norms = {name: layer.column_norms() for name, layer in layers.items()}
        expected = code_of_the_paper(norms, masked, macs, 0.6)
        model.method.update(state, None, plan, step)
        for name, layer in layers.items():
            np.testing.assert_array_equal(np.array(layer.keep_mask), expected[name])
            released += (~before[name] & expected[name]).sum()
        before, masked = expected, sum((~kept).sum() for kept in expected.values())
        reached = reached or masked < 4 * (step - plan.steps[0] + 1)
    assert released and reached  # both have occurred


BAD = [
    (lambda: ResRep(0), ValueError, "target_reduction to be a number above 0 and below 1; got 0"),
    (lambda: ResRep(1), ValueError, "above 0 and below 1; got 1"),
    (lambda: ResRep(1.5), ValueError, "got 1.5"),
    (lambda: ResRep(float("nan")), ValueError, "got nan"),
    (lambda: ResRep("half"), TypeError, "a number above 0 and below 1; got 'half' of type str"),
    (lambda: ResRep(True), TypeError, "got True of type bool"),
    (lambda: ResRep(min_channels=0), ValueError, "min_channels to be an int of 1 or more; got 0"),
    (
        lambda: ResRep(min_share=1.0),
        ValueError,
        "min_share to be a number of 0 or more and below 1; got 1.0",
    ),
    (lambda: ResRep(exclude="conv"), TypeError, "list of layer names.*got 'conv' of type str"),
    (lambda: ResRep(compactor="none"), ValueError, "'auto', 'full' or 'diagonal'; got 'none'"),
    (lambda: ResRep(score="l1"), ValueError, "'norm', 'fisher', 'root_fisher' or 'norm_fisher'"),
    (lambda: ResRep(compactor_rate=-1), ValueError, "compactor_rate to be a number of 0 or more"),
    (lambda: ResRep(guard=-1), ValueError, "guard to be a number of 0 or more; got -1"),
    (lambda: ResRep(scope="stem"), ValueError, "'all' or 'blocks'; got 'stem'"),
    (lambda: ResRep(normalization="l"), ValueError, "'none', 'layer' or 'cost'; got 'l'"),
    (
        lambda: ResRep(penalty_strength=-1),
        ValueError,
        "penalty_strength to be a number of 0 or more; got -1",
    ),
]


@pytest.mark.parametrize(("act", "error", "text"), BAD, ids=range(len(BAD)))
def test_bad_input_is_answered_in_words(act, error, text):
    with pytest.raises(error, match=text):
        act()


def test_no_channel_is_chosen_before_an_update_has_told_what_it_is_worth():
    """Eight steps make an update: the selections after two to seven of them know nothing."""
    dense = zoo.build("residual")
    model = resrep_keras.wrap(dense, ResRep(0.4))
    model.compile(keras.optimizers.SGD(0.01, gradient_accumulation_steps=8), loss())
    masked = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: masked.append(
            int((~ChannelState(model).kept()).sum())
        )
    )
    x, y = data()
    model.fit(x, y, batch_size=8, epochs=5, verbose=0, callbacks=[look])
    steps = len(x) // 8
    assert masked[:6] == [0] * 6 and masked[steps * 5 // 4] > 0
    resrep_keras.finalize(model, strict=True)


def test_a_run_in_which_no_update_comes_before_the_last_selection_is_refused():
    model = wrapped(method=ResRep(0.4))
    model.compile(keras.optimizers.SGD(0.01, gradient_accumulation_steps=16), loss())
    x, y = data()
    with pytest.raises(ValueError, match="no update comes before the last selection"):
        model.fit(x, y, batch_size=8, epochs=5, verbose=0)
