"""All methods, one row each. Add a row, and a method gets every law of tests/laws."""

import dataclasses
import typing

import keras
import numpy as np
import pytest
from keras import ops

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.fpgm import FPGM
from resrep_keras.methods.channels.group_lasso import GroupLasso
from resrep_keras.methods.channels.magnitude import MagnitudePruning
from resrep_keras.methods.channels.network_slimming import NetworkSlimming
from resrep_keras.methods.channels.random_pruning import RandomPruning
from resrep_keras.methods.channels.schedules import PaperSchedule
from resrep_keras.methods.channels.taylor import TaylorPruning
from resrep_keras.methods.sparse.densities import sparse_kernels
from resrep_keras.methods.sparse.masks import first_masks
from tests import helpers, zoo

ResRep, AOFP, GraNet = resrep_keras.ResRep, resrep_keras.AOFP, resrep_keras.GraNet
ANPyC, EWC, MAS = resrep_keras.ANPyC, resrep_keras.EWC, resrep_keras.MAS
SynapticIntelligence, FineTuning = resrep_keras.SynapticIntelligence, resrep_keras.FineTuning
Gradients, compose = resrep_keras.ActivationGradientPruning, resrep_keras.compose

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
# Enough where two methods differ in their scores alone. The others are for slow runs.
FEW = ("residual", "squeeze_excite", "convolutions", "recurrent", "attention", "operations")


FEWER = ("residual", "attention", "operations")


# --- how a run ends, without the run --------------------------------------------------------------


def choose(model):
    """Channels go at random until the target is met, from compactors that are no identities."""
    helpers.scramble(model)
    choose_diagonal(model)


def choose_diagonal(model, method=None):
    """The same, with compactors that stay as they are."""
    method = method or model.method
    channel_state = ChannelState(model, method.input_shape, method.exact)
    scores = np.random.default_rng(0).uniform(size=channel_state.graph.num_channels)
    channel_state.switch_off(method.choose(channel_state, scores))


def select(model):
    """Channels go by the scores of the method; what it measures in training is drawn."""
    optimizer = model.method.optimizer(keras.optimizers.SGD(), model)
    optimizer.build(model.trainable_variables)
    for number, variable in enumerate(optimizer.variables):
        if variable.path.endswith("squared"):
            variable.assign(np.random.default_rng(number).uniform(size=variable.shape))
    model.method.update(ChannelState(model), optimizer, model.method.plan(0, 10, 1), 0)


def thin_out(model):
    """The smallest weights become zero."""
    kernels = sparse_kernels(model.trainable_variables, model.method.exclude)
    sparsity = model.method.final_sparsity
    for kernel, mask in zip(kernels, first_masks(kernels, sparsity, "magnitude", "global")):
        kernel.assign(ops.where(mask, kernel, ops.zeros_like(kernel.value)))


def nothing(model):
    """What is trained otherwise is left as it is."""
    del model


# --- the rows -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    """What the laws have to know of a method.

    Args:
        name: Names the tests.
        make: Makes the method, with a target that every member of the zoo can meet.
        finish: Brings a wrapped model to where a run ends.
        train: Makes the method for a run of 8 epochs of 4 steps. Defaults to `make`.
        settings: Methods that differ from the defaults in what they set.
        members: The members of the zoo that every run takes. Defaults to all.
        refused: ``{member: what it is told}``, where the method finds nothing to work on.
        removes: `"channels"`, `"weights"` or `"nothing"`.
        trains: Whether every run of the tests trains it; the others wait for slow runs.
        own_compactors: Whether its compactors differ from those of other rows, so that any masks
            are tried over the whole zoo: in slow runs, but for one row, which is over all in every
            run. tests/laws/test_methods.py removes channels of each row in every run.
    """

    name: str
    make: typing.Callable
    finish: typing.Callable
    train: typing.Callable | None = None
    settings: tuple = ()
    members: tuple = tuple(zoo.ZOO)
    refused: dict = dataclasses.field(default_factory=dict)
    removes: str = "channels"
    trains: bool = True
    own_compactors: bool = False

    def trained(self):
        return (self.train or self.make)()


def baseline(kind, *settings, **more):
    return Row(
        kind.__name__,
        lambda: kind(0.1, coupled=True),
        select,
        train=lambda: kind(0.4, at=0.5),
        settings=settings,
        members=FEW if more else FEWER,
        **more,
    )


def consolidation(kind, *settings, **more):
    members = ("residual",)
    return Row(
        kind.__name__, kind, nothing, settings=settings, members=members, removes="nothing", **more
    )


UNMEASURED = {
    **dict.fromkeys(
        ("recurrent", "bidirectional", "time_distributed"), r"AOFP finds no .* are for ResRep"
    ),
    "convolutional_lstm": r"cannot be reached.* AOFP measures no damage of 'conv2d\w*', since "
    r"'conv_lstm2d\w*', which reads its channels, cannot be called twice in a step",
}
WITHOUT_CONVOLUTION = dict.fromkeys(
    "mlp spatial grouped_constants einsum_dense recurrent encoder_decoder bidirectional embedding "
    "convolutional_lstm attention attention_pooling time_distributed operations".split(),
    "Nothing to prune in model .*: expected a convolution",
)

ROWS = [
    Row(
        "ResRep",
        lambda: ResRep(0.2),
        choose,
        train=lambda: ResRep(0.4),
        settings=(
            ResRep(0.3, min_channels=2, exclude=("conv2d",)),
            ResRep({"params": 0.3}, at_most={"macs": 9000}, min_share={"a*": 0.1}, threads=2),
            ResRep.paper(schedule=PaperSchedule(1, 10, 2), channel_multiple="auto"),
            ResRep(None, {"params": 10}, compactor="diagonal", slim_every=2, total_steps=40),
        ),
        members=FEW,
        own_compactors=True,
    ),
    Row(
        "ResRep-diagonal",
        lambda: ResRep(0.2, compactor="diagonal"),
        choose,
        members=FEW,
        own_compactors=True,
    ),
    Row(
        "ResRep-coupled",
        lambda: ResRep(0.1, coupled=True),
        choose,
        members=FEW,
        own_compactors=True,
    ),
    Row(
        "ResRep-coupled-full",
        lambda: ResRep(0.1, coupled=True, compactor="full"),
        choose,
        members=FEW,
        own_compactors=True,
    ),
    Row(
        "AOFP",
        lambda: AOFP(0.05),
        choose_diagonal,
        train=lambda: AOFP(0.3, max_damage=1.0, interval=2, search_end=0.5),
        settings=(
            AOFP(0.4, max_damage=0.02, interval=7, at_most={"params": 900}, seed=3),
            AOFP(None, warmup=0.1, search_end=0.7, channel_multiple=4, input_shape=(8, 8, 3)),
        ),
        members=FEW,
        own_compactors=True,
        refused=UNMEASURED,
    ),
    Row(
        "AOFP-coupled",
        lambda: AOFP(0.05, coupled=True),
        choose_diagonal,
        train=lambda: AOFP(0.3, max_damage=1.0, interval=2, search_end=0.5, coupled=True),
        members=FEW,
        own_compactors=True,
        refused=UNMEASURED,
    ),
    baseline(
        MagnitudePruning,
        MagnitudePruning(0.3, order=2, at=0.2),
        MagnitudePruning(0.7, order=2, total_steps=9),
        own_compactors=True,
    ),
    baseline(RandomPruning, RandomPruning({"params": 0.3}, seed=4, exclude=("conv*",))),
    baseline(FPGM, FPGM(None, {"params": 100}, min_channels={"a*": 3})),
    baseline(TaylorPruning, TaylorPruning(0.3, at=0.2, coupled=True)),
    baseline(NetworkSlimming, NetworkSlimming(0.3, strength=0.5)),
    baseline(
        GroupLasso,
        GroupLasso(0.3, strength=0.5, min_share=0.2, exact=False),
        GroupLasso(0.3, growth=4.0, at=0.3),
    ),
    Row(
        "GraNet",
        lambda: GraNet(0.3),
        thin_out,
        train=lambda: GraNet(0.8, interval=2),
        settings=(
            GraNet(0.8),
            GraNet.sparse_to_sparse(0.8, total_steps=7),
            GraNet.gmp(0.8, interval=2),
            GraNet.rigl(0.8),
            GraNet.set(0.8, seed=3),
            GraNet.static(0.8, distribution="uniform"),
            GraNet(0.8, scope="layer", exclude=("head",)),
        ),
        members=FEW,
        removes="weights",
    ),
    Row(
        "ActivationGradientPruning",
        lambda: Gradients(0.9, seed=0),
        nothing,
        settings=(
            Gradients({"a": 0.5}, 0, "lognormal", "deterministic", ["b"], 3),
            Gradients({"a": 0.9, "*": 0.5}, 3, seed=5),
        ),
        members=FEW,
        refused=WITHOUT_CONVOLUTION,
        removes="nothing",
    ),
    Row(
        "ANPyC",
        lambda: ANPyC(0.1),
        nothing,
        train=lambda: ANPyC(0.1, initial_percent=None),
        settings=(
            ANPyC(0.3, "absolute", "max", 40, 0.7, 5, 2, False, 64),
            ANPyC(2, initial_percent=None, from_logits=False, heads=("head*",), total_steps=3),
        ),
        members=("residual", "operations", "recurrent"),
        removes="nothing",
    ),
    consolidation(EWC, EWC(3, 200, True), EWC(0.5, samples=None, heads=["a"]), trains=False),
    consolidation(MAS, MAS(3, 200), MAS(0.5, None, heads=["a"]), trains=False),
    consolidation(SynapticIntelligence, SynapticIntelligence(3, 0.5)),
    consolidation(FineTuning, FineTuning(heads=("b", "a*")), trains=False),
    Row(
        "composed",
        lambda: compose(Gradients(0.9, seed=0), ResRep(0.1)),
        lambda model: choose_diagonal(model, model.method.lead),
        settings=(
            compose(Gradients(0.5), ResRep(0.3)),
            compose(GraNet(0.7, total_steps=9), Gradients(0.5)),
        ),
        members=FEW,
        refused=WITHOUT_CONVOLUTION,
    ),
]


# --- what tests are made of -----------------------------------------------------------------------


def _pairs():
    for number, row in enumerate(ROWS):
        # Other backends than TensorFlow compile each shape anew. Each member in every third row.
        names = row.members[number % 3 :: 3] if ON_TENSORFLOW else ("residual",)
        for name in zoo.SAMPLE:
            if name not in row.refused:
                marks = () if name in names else pytest.mark.slow
                yield pytest.param(row, name, marks=marks, id=f"{row.name}-{name}")


def _own_compactors():
    rows = [row for row in ROWS if row.own_compactors]
    over_all = "ResRep-coupled-full"
    for row in rows if ON_TENSORFLOW else [r for r in rows if r.name == over_all]:
        for name in zoo.ZOO:
            if name not in row.refused:
                every_run = zoo.ZOO if ON_TENSORFLOW else zoo.IN_EVERY_RUN
                over_zoo = row.name == over_all and name in every_run
                marks = () if over_zoo else pytest.mark.slow
                yield pytest.param(row, name, marks=marks, id=f"{row.name}-{name}")


def _refusals():
    for row in ROWS:
        for name, text in row.refused.items():
            yield pytest.param(row, name, text, id=f"{row.name}-{name}")


each_method = pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=() if row.trains else pytest.mark.slow, id=row.name)
        for row in ROWS
        if row.settings
    ],
)
each_third_method = pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=() if number % 3 == 1 else pytest.mark.slow, id=row.name)
        for number, row in enumerate(row for row in ROWS if row.settings and row.trains)
    ],
)
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
each_row_and_member = pytest.mark.parametrize(("row", "name"), [*_pairs()])
each_compactor_and_member = pytest.mark.parametrize(("row", "name"), [*_own_compactors()])
each_refusal = pytest.mark.parametrize(("row", "name", "text"), [*_refusals()])
each_setting = pytest.mark.parametrize(
    "method",
    [pytest.param(m, id=f"{row.name}-{i}") for row in ROWS for i, m in enumerate(row.settings)],
)
