"""All that is public, with what its arguments may be."""

import functools
import inspect

import keras
import numpy as np

import resrep_keras as rk
from resrep_keras.costs.comparison import Conditions
from resrep_keras.deploy.reported import Report, Row
from resrep_keras.methods.channels.one_shot import OneShot
from resrep_keras.methods.channels.schedules import PaperSchedule, PlannedSchedule, Schedule
from resrep_keras.methods.gradients.pruner import GradientPruner
from resrep_keras.methods.method import Method
from tests.conditions.drawn_arguments import (
    BOOL,
    FUNCTION,
    PATH,
    SHAPE,
    Kind,
    instance,
    is_number,
    number,
    one_of,
    or_none,
    per_layer,
    required,
    share,
)
from tests.conditions.drawn_calls import Target

# --- models: so small that a call which is accepted takes no time ---------------------------------


@functools.cache
def dense():
    inputs = keras.Input((4,), name="features")
    x = keras.layers.Dense(6, "relu", name="dense")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(x), name="small")


@functools.cache
def compiled():
    model = keras.models.clone_model(dense())
    model.compile("sgd", "mse")
    return model


@functools.cache
def convolutional():
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, name="conv2d", use_bias=False)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Conv2D(3, 1, name="conv2d_1", use_bias=False)(x)
    return keras.Model(inputs, keras.layers.BatchNormalization()(x), name="convolutional")


@functools.cache
def wrapped():
    return rk.wrap(dense(), rk.ResRep(0.3))


@functools.cache
def with_pruned_gradients():
    return rk.wrap(convolutional(), rk.ActivationGradientPruning(0.5))


@functools.cache
def learning_tasks():
    model = rk.wrap(dense(), rk.MAS(samples=2))
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@functools.cache
def graph():
    return rk.trace(dense())


@functools.cache
def explanation():
    return rk.explain(dense())


@functools.cache
def compactor_and_optimizer():
    model = wrapped()
    kernel = next(layer.kernel for layer in model.layers if isinstance(layer, rk.Compactor))
    optimizer = rk.PenaltyOptimizer("sgd")
    optimizer.build(model.trainable_variables)
    return kernel, optimizer


def _model(make, *others):
    made = (lambda: make(), *others)
    return required(Kind(made, lambda value: isinstance(value, keras.Model) and value.built, made))


DENSE = _model(dense)
WRAPPED = _model(wrapped)
METHOD = instance(Method, lambda: rk.ResRep(0.3), lambda: rk.MagnitudePruning(0.3))
INNER = required(
    Kind(
        (lambda: "sgd", lambda: keras.optimizers.Adam()),
        lambda value: isinstance(value, keras.optimizers.Optimizer) or value == "sgd",
    )
)

# --- settings -------------------------------------------------------------------------------------

QUANTITIES = ("macs", "params", "file_bytes", "activation_bytes", "latency")


def _quantities(kind):
    def allows(value):
        return isinstance(value, dict) and all(
            key in QUANTITIES and kind.allows(one) for key, one in value.items()
        )

    return allows


SHARES = _quantities(share())
LARGEST = _quantities(number(low=0, open_low=True))


def _is_reduction(value):
    return value is None or share().allows(value) or (SHARES(value) and len(value) > 0)


def _is_names(value):
    return isinstance(value, (list, tuple, set, frozenset)) and all(
        isinstance(entry, str) for entry in value
    )


def _is_exclude(value):
    named = callable(value) and getattr(value, "__name__", "<").isidentifier()
    return _is_names(value) or (named and inspect.isroutine(value))


NAMES = Kind((lambda: ["stem"], lambda: ()), _is_names)
EXCLUDE = Kind((lambda: ["stem"], lambda: ()), _is_exclude)
COUNT = number(1, 2, low=1, whole=True)
SEED = number(0, 3, low=0, whole=True)
SHARE_FROM_0 = number(0.0, 0.2, low=0, high=1, open_high=True)
FROM_0 = number(0.0, 1e-3, low=0)
MULTIPLE = Kind(
    (lambda: 2, lambda: "auto"),
    lambda value: (isinstance(value, str) and value == "auto") or COUNT.allows(value),
)
TOTAL = {"total_steps": or_none(COUNT)}
CHANNELS = {
    "target_reduction": Kind((lambda: 0.5, lambda: {"params": 0.4}), _is_reduction),
    "at_most": Kind((lambda: {"params": 200},), lambda v: v is None or LARGEST(v)),
    "min_channels": per_layer(COUNT),
    "min_share": per_layer(SHARE_FROM_0),
    "channel_multiple": per_layer(MULTIPLE),
    "exclude": EXCLUDE,
    "scope": one_of("all", "blocks"),
    "coupled": BOOL,
    "threads": COUNT,
    "input_shape": SHAPE,
    "exact": BOOL,
    **TOTAL,
}
AT = number(0.1, 0.5, low=0, high=1, open_high=True)
SPARSITY = number(0.6, 0.9, low=0, high=1, open_high=True)
SPARSE = {
    "initial_sparsity": SPARSITY,
    "begin": SHARE_FROM_0,
    "end": number(0.5, low=0, open_low=True, high=1),
    "interval": or_none(COUNT),
    "regrow_rate": SHARE_FROM_0,
    "regrow_end": number(0.5, low=0, high=1),
    "distribution": one_of("erk", "uniform", "magnitude"),
    "growth": one_of("gradient", "random"),
    "scope": one_of("global", "layer"),
    "exclude": NAMES,
    "seed": SEED,
}
GRADIENTS = {
    "fifo_depth": SEED,
    "threshold": one_of("normal", "lognormal"),
    "rounding": one_of("stochastic", "deterministic"),
    "seed": or_none(SEED),
}
SCHEDULE = instance((Schedule, type(None)), PlannedSchedule, PaperSchedule)
RESREP = {
    **CHANNELS,
    "penalty_strength": FROM_0,
    "momentum": SHARE_FROM_0,
    "schedule": SCHEDULE,
    "compactor_rate": FROM_0,
    "score": one_of("norm", "fisher", "root_fisher", "norm_fisher"),
    "guard": FROM_0,
    "normalization": one_of("none", "layer", "cost"),
    "compactor": one_of("auto", "full", "diagonal"),
    "threshold": FROM_0,
    "slim_every": or_none(COUNT),
}
AOFP = {
    **CHANNELS,
    "max_damage": FROM_0,
    "interval": or_none(COUNT),
    "warmup": SHARE_FROM_0,
    "search_end": share(0.5),
    "seed": SEED,
}
STRENGTH = {"at": AT, "strength": or_none(FROM_0)}
TASKS = {"heads": or_none(NAMES), **TOTAL}
METHODS = {
    rk.ResRep: RESREP,
    rk.AOFP: AOFP,
    rk.MagnitudePruning: {
        **CHANNELS,
        "at": AT,
        "order": number(1, 2, low=1, high=2, whole=True),
    },
    rk.FPGM: {**CHANNELS, "at": AT},
    rk.RandomPruning: {**CHANNELS, "at": AT, "seed": SEED},
    rk.TaylorPruning: {**CHANNELS, "at": share(0.2)},
    rk.NetworkSlimming: {**CHANNELS, **STRENGTH},
    rk.GroupLasso: {**CHANNELS, **STRENGTH, "growth": or_none(FROM_0)},
    rk.GraNet: {"final_sparsity": SPARSITY, **SPARSE, **TOTAL},
    rk.ActivationGradientPruning: {
        "rate": per_layer(SHARE_FROM_0),
        "exclude": EXCLUDE,
        **GRADIENTS,
        **TOTAL,
    },
    rk.ANPyC: {
        "strength": FROM_0,
        "variant": one_of("released", "absolute"),
        "accumulate": one_of("sum", "max"),
        "initial_percent": or_none(number(50, low=0, open_low=True, high=100, open_high=True)),
        "decay": number(0.8, low=0, open_low=True, high=1),
        "percent_step": number(10, low=1, high=100, whole=True),
        "retrain_epochs": SEED,
        "clip_before_mean": BOOL,
        "importance_batch_size": COUNT,
        "from_logits": or_none(BOOL),
        **TASKS,
    },
    rk.EWC: {
        "strength": FROM_0,
        "samples": or_none(COUNT),
        "from_logits": or_none(BOOL),
        **TASKS,
    },
    rk.MAS: {"strength": FROM_0, "samples": or_none(COUNT), **TASKS},
    rk.SynapticIntelligence: {
        "strength": FROM_0,
        "damping": number(0.1, low=0, open_low=True),
        **TASKS,
    },
    rk.FineTuning: {"strength": number(0, low=0, high=0), **TASKS},
}
PRESETS = {
    "ResRep.paper": (rk.ResRep.paper, RESREP),
    "AOFP.paper": (rk.AOFP.paper, AOFP),
    "GraNet.sparse_to_sparse": (
        rk.GraNet.sparse_to_sparse,
        {**SPARSE, "final_sparsity": SPARSITY, **TOTAL},
    ),
    "GraNet.gmp": (rk.GraNet.gmp, {**SPARSE, "final_sparsity": SPARSITY, **TOTAL}),
    **{
        f"GraNet.{name}": (
            getattr(rk.GraNet, name),
            {
                "sparsity": SPARSITY,
                **{k: v for k, v in SPARSE.items() if k != "initial_sparsity"},
                **TOTAL,
            },
        )
        for name in ("rigl", "set", "static")
    },
}


def _config(result):
    return result.get_config()


def method_targets():
    for kind, arguments in METHODS.items():
        yield Target(kind.__name__, kind, arguments, _config, "method")
    for name, (call, arguments) in PRESETS.items():
        yield Target(name, call, arguments, _config, "method")
    config = Kind(
        (lambda: rk.ResRep(0.3).get_config(),),
        lambda value: isinstance(value, dict) and all(key in RESREP for key in value),
    )
    for kind in (rk.ResRep, PlannedSchedule):
        yield Target(
            f"{kind.__name__}.from_config",
            lambda config, kind=kind: kind.from_config(config),
            {"config": config},
            kind="method",
            share=0.2,
        )


def schedule_targets():
    planned = {
        "warmup": SHARE_FROM_0,
        "selection_end": share(0.3),
        "forgetting": share(0.1),
        "selections": number(3, 20, low=1, high=10_000, open_high=True, whole=True),
    }
    paper = {"warmup_epochs": SEED, "interval": COUNT, "channels_per_selection": COUNT}
    run = {
        "first": required(SEED),
        "last": required(number(100, low=0, whole=True)),
        "steps_per_epoch": required(COUNT),
    }
    for kind, arguments in ((PlannedSchedule, planned), (PaperSchedule, paper)):
        yield Target(kind.__name__, kind, arguments, _config, "schedule")
        plan = kind().plan
        yield Target(f"{kind.__name__}.plan", plan, run, kind="schedule", share=0.3)


# --- layers, optimizers, callbacks ----------------------------------------------------------------


def layer_targets():
    activation = Kind(
        (lambda: "relu", lambda: None),
        lambda v: v is None or v == "relu" or (callable(v) and not inspect.isclass(v)),
    )
    compactor = {"diagonal": BOOL, "axis": number(-1, 1, whole=True), "activation": activation}

    def kept(layer):
        config = layer.get_config()
        return {name: config[name] for name in ("diagonal", "axis")}

    yield Target("Compactor", rk.Compactor, compactor, kept, "layer")
    pooling = {
        "units": required(COUNT),
        "heads": COUNT,
        "return_attention": BOOL,
        "penalty": FROM_0,
    }
    yield Target("SelfAttentionPooling", rk.SelfAttentionPooling, pooling, _pooling, "layer")
    pruner = {"rate": SHARE_FROM_0, **GRADIENTS}
    yield Target("GradientPruner", GradientPruner, pruner, _config, "layer", share=0.5)


def _pooling(layer):
    config = layer.get_config()
    return {name: config[name] for name in ("units", "heads", "return_attention", "penalty")}


def optimizer_targets():
    penalty = {
        "inner_optimizer": INNER,
        "penalty_strength": FROM_0,
        "momentum": SHARE_FROM_0,
        "compactor_rate": FROM_0,
    }

    def kept(optimizer):
        config = optimizer.get_config()
        return {name: config[name] for name in config if name != "inner_optimizer"}

    yield Target("PenaltyOptimizer", rk.PenaltyOptimizer, penalty, kept, "optimizer", share=0.4)
    sparse = {"inner_optimizer": INNER, "final_sparsity": SPARSITY, **SPARSE}
    yield Target("SparseOptimizer", rk.SparseOptimizer, sparse, kept, "optimizer", share=0.4)
    yield Target(
        "method.optimizer",
        lambda inner: rk.ResRep(0.3).optimizer(inner),
        {"inner": INNER},
        kind="optimizer",
        share=0.2,
        says=("optimizer",),
    )


def forget_targets():
    def is_kernel(value):
        return value is compactor_and_optimizer()[0]

    def is_shrink(value):
        array = np.asarray(value)
        return array.shape == (6,) and bool((array >= 0).all())

    kernel = required(Kind((lambda: compactor_and_optimizer()[0],), is_kernel))
    shrink = required(
        Kind((lambda: np.zeros(6),), is_shrink, (lambda: -np.ones(6), lambda: np.full(6, np.nan)))
    )
    yield Target(
        "PenaltyOptimizer.forget",
        lambda kernel, shrink: compactor_and_optimizer()[1].forget(kernel, shrink),
        {"kernel": kernel, "shrink": shrink},
        kind="optimizer",
        share=0.5,
    )
    for name in ("forgetting", "squared_changes"):
        yield Target(
            f"PenaltyOptimizer.{name}",
            lambda kernel, name=name: getattr(compactor_and_optimizer()[1], name)(kernel),
            {"kernel": kernel},
            kind="optimizer",
            share=0.3,
        )


def _is_callbacks(value):
    callback = keras.callbacks.Callback
    return isinstance(value, (list, tuple)) and all(isinstance(one, callback) for one in value)


def callback_targets():
    method = or_none(METHOD)
    yield Target("PruningCallback", rk.PruningCallback, {"method": method}, vars, "callback", 0.3)
    board = {"log_dir": required(PATH), "histograms": BOOL, "figures": BOOL}
    yield Target("PruningBoard", rk.PruningBoard, board, vars, "callback", 0.3)
    backup = {
        "backup_dir": required(PATH),
        "callbacks": Kind((list,), _is_callbacks),
        "delete_checkpoint": BOOL,
    }
    yield Target("Backup", rk.Backup, backup, vars, "callback", 0.5)
    checkpoint = {
        "filepath": required(
            Kind((lambda: "best.keras",), lambda v: PATH.allows(v) and str(v).endswith(".keras"))
        ),
        "monitor": Kind((lambda: "val_loss",), lambda value: isinstance(value, str)),
        "mode": one_of("min", "max", "auto"),
        "verbose": number(0, 1, low=0, high=2, whole=True),
        "initial_value_threshold": or_none(number(0.5)),
        "save_weights_only": Kind((lambda: True,), lambda value: False),
    }

    def make(**given):
        given.setdefault("filepath", "best.keras")
        return rk.PrunedCheckpoint(**given)

    wrong_only = {**checkpoint}
    del wrong_only["save_weights_only"]
    yield Target("PrunedCheckpoint", make, wrong_only, kind="callback", share=0.5)


# --- functions ------------------------------------------------------------------------------------


def _score(model):
    return 0.5


def _train(model):
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def _is_widths(value):
    return isinstance(value, dict) and all(
        name in ("dense", "head") and number(low=1, high=6, whole=True).allows(width)
        for name, width in value.items()
    )


def _is_zeros(value):
    return isinstance(value, dict) and all(
        isinstance(name, str) and is_number(share_) and 0 <= share_ <= 1
        for name, share_ in value.items()
    )


def function_targets():
    model, exact = {"model": DENSE}, {"input_shape": SHAPE, "exact": BOOL}
    quick = 0.3
    wrap = {**model, "method": or_none(METHOD), "teacher": or_none(_model(dense, lambda: None))}
    yield Target("wrap", rk.wrap, wrap, share=0.5)
    losses = keras.distillation.LogitsDistillation, keras.distillation.DistillationLoss
    distillation = {
        "teacher": Kind((dense,), lambda v: v is None or isinstance(v, keras.Model)),
        "weight": number(2.0, low=0, open_low=True),
        "temperature": number(4.0, low=0, open_low=True),
        "loss": Kind((losses[0], lambda: None), lambda v: v is None or isinstance(v, losses[1])),
    }
    yield Target("Distillation", rk.Distillation, distillation, vars)
    data = Kind((lambda: np.ones((2, 4), "float32"), lambda: None), _is_data)
    yield Target(
        "finalize",
        rk.finalize,
        {"model": WRAPPED, "strict": BOOL, "data": data, "keep_batch_norm": BOOL},
        share=0.5,
    )
    rows = np.arange(80.0, dtype="float32").reshape(20, 4) % 7
    data = Kind((lambda: rows, lambda: None), _is_data)
    given = {"model": DENSE, "data": data, "strict": BOOL, "repair": BOOL}
    one_shot = or_none(instance(OneShot, lambda: rk.MagnitudePruning(0.3)))
    yield Target("prune", rk.prune, {**given, "method": one_shot}, share=0.2)
    yield Target(
        "MagnitudePruning.prune",
        lambda model, **given: rk.MagnitudePruning(0.3).prune(model, **given),
        given,
        share=0.3,
    )
    yield Target("trace", rk.trace, {**model, **exact})
    yield Target("explain", rk.explain, {**model, **exact}, share=0.5)
    yield Target("count_macs", rk.count_macs, {**model, "input_shape": SHAPE})
    yield Target("count_params", rk.count_params, model, share=0.5)
    yield Target("widths_of", rk.widths_of, model, share=0.5)
    widths = required(Kind((lambda: {"dense": 3},), _is_widths, (lambda: {"dense": 9},)))
    yield Target("redesign", rk.redesign, {"dense": DENSE, "widths": widths}, share=0.5)
    yield Target(
        "search",
        rk.search,
        {
            "dense": DENSE,
            "fit": required(Kind((lambda: _train,), FUNCTION.allows, called=True)),
            "evaluate": required(Kind((lambda: _score,), FUNCTION.allows, called=True)),
            "target_accuracy_drop": FROM_0,
            "method": or_none(instance(Method, lambda: rk.ResRep(0.3))),
            "rounds": required(number(1, low=1, whole=True)),
            "first_reduction": share(0.3),
        },
        share=quick,
    )
    yield Target(
        "pruning_plasticity",
        rk.pruning_plasticity,
        {
            "model": DENSE,
            "train": required(Kind((lambda: _train,), FUNCTION.allows, called=True)),
            "evaluate": required(Kind((lambda: _score,), FUNCTION.allows, called=True)),
            "sparsity": share(0.5),
            "regrow_rate": SHARE_FROM_0,
            "interval": or_none(COUNT),
            "regrow_end": number(0.5, low=0, high=1),
            "scope": one_of("global", "layer"),
            "exclude": NAMES,
        },
        share=quick,
    )
    yield Target(
        "compose",
        lambda first, second: rk.compose(first, second),
        {
            "first": required(instance(Method, lambda: rk.ResRep(0.3))),
            "second": required(instance(Method, lambda: rk.ActivationGradientPruning())),
        },
        share=0.5,
        says=("methods",),
    )
    pruned = _model(with_pruned_gradients)
    zeros = or_none(Kind((lambda: {"conv2d": 0.5},), _is_zeros))
    yield Target("gradient_sparsity", rk.gradient_sparsity, {"model": pruned}, share=0.5)
    yield Target("backward_macs", rk.backward_macs, {"model": pruned, "zeros": zeros}, share=0.5)


def task_targets():
    def is_batches(value):
        if isinstance(value, np.ndarray):
            return value.ndim == 2 and value.shape[1] == 4
        return hasattr(value, "__iter__") and not isinstance(value, (str, dict))

    model = _model(learning_tasks)
    x = required(Kind((lambda: np.ones((2, 4), "float32"),), is_batches, called=True))
    y = or_none(Kind((lambda: np.ones((2, 2), "float32"),), _is_data))
    yield Target("end_task", rk.end_task, {"model": model, "x": x, "y": y, "last": BOOL}, share=0.5)
    yield Target("free_capacity", rk.free_capacity, {"model": model}, share=0.3)
    matrix = required(Kind((lambda: [[0.9, np.nan], [0.5, 0.8]],), _is_matrix))
    for function in (rk.average_accuracy, rk.forgetting, rk.learning_accuracy):
        yield Target(function.__name__, function, {"accuracies": matrix}, share=0.3)
    task = required(number(0, 1, low=0, whole=True))
    yield Target("task_model", rk.task_model, {"model": model, "task": task}, share=0.5)


def sequence_targets():
    pairs = required(Kind((lambda: [_pair(), _pair()],), _is_pairs))
    yield Target(
        "fit_tasks",
        lambda model, tasks, **given: rk.fit_tasks(model, tasks, **{"verbose": 0, **given}),
        {
            "model": required(instance(keras.Model, two_tasks)),
            "tasks": pairs,
            "epochs": Kind((lambda: 1,), lambda v: callable(v) or COUNT.allows(v)),
            "batch_size": COUNT,
            "restart": one_of("task", "fit", "never"),
            "seed": or_none(SEED),
        },
        share=0.2,
    )


@functools.cache
def two_tasks():
    trunk = keras.layers.Dense(3)(inputs := keras.Input((4,)))
    heads = [keras.layers.Dense(2)(trunk), keras.layers.Dense(2)(trunk)]
    model = rk.wrap(keras.Model(inputs, heads), rk.FineTuning())
    model.compile("sgd", "mse")
    return model


def _pair():
    return np.ones((2, 4), "float32"), np.eye(2, dtype="float32")


def _is_pairs(value):
    return isinstance(value, (list, tuple)) and all(
        isinstance(one, tuple) and len(one) == 2 for one in value
    )


def _is_matrix(value):
    try:
        array = np.asarray(value, "float64")
    except (TypeError, ValueError, RuntimeError):
        return False
    if array.ndim != 2 or not 1 <= array.shape[0] <= array.shape[1]:
        return False
    return bool(np.isfinite(array[np.tril_indices(len(array))]).all())


def _is_data(value):
    if value is None:
        return True
    try:
        return np.asarray(value).dtype.kind in "biuf"
    except (TypeError, ValueError, RuntimeError):
        return False


def is_test_data(value):
    pair = isinstance(value, (list, tuple)) and len(value) in (2, 3)
    return value is None or (pair and all(isinstance(one, np.ndarray) for one in value))


def is_left_out(value):
    known = (*QUANTITIES, "quality", "widths")
    return isinstance(value, (list, tuple, set)) and all(
        isinstance(name, str) and name in known for name in value
    )


def file_targets():
    path = required(
        Kind((lambda: "slim.keras",), lambda v: PATH.allows(v), (lambda: "a.txt", lambda: "a/b.h5"))
    )
    yield Target(
        "export",
        rk.export,
        {"model": DENSE, "path": path, "sparse": BOOL},
        kind="file",
        share=0.05,
    )
    count = required(number(1, low=1, high=10_000, whole=True))
    yield Target(
        "report",
        rk.report,
        {
            "dense": _model(compiled),
            "slim": DENSE,
            "threads": number(1, low=1, high=1024, whole=True),
            "batch_size": number(1, low=1, whole=True),
            "repeats": count,
            "test_data": Kind((lambda: (np.ones((2, 4)), np.ones((2, 2))),), is_test_data),
            "leave_out": required(Kind((lambda: ["latency", "file_bytes"],), is_left_out)),
            "input_shape": SHAPE,
        },
        kind="file",
        share=0.3,
    )
    to = {"path": or_none(PATH)}
    measured = Report((Row("MACs", "", 2, 1),), {}, Conditions())
    row = required(Kind((lambda: "MACs",), lambda value: isinstance(value, str)))
    yield Target("Report.row", measured.row, {"name": row}, kind="file", share=0.3)
    page = required(Kind((lambda: "report.md",), lambda v: PATH.allows(v) and _is_page(v)))
    yield Target("Report.save", measured.save, {"path": page}, kind="file", share=0.3)
    texts = {
        "Report.to_json": lambda path=None: measured.to_json(path),
        "Report.to_markdown": lambda path=None: measured.to_markdown(path),
        "Report.to_html": lambda path=None: measured.to_html(path),
        "Explanation.to_json": lambda path=None: explanation().to_json(path),
        "Explanation.to_svg": lambda path=None: explanation().to_svg(path),
    }
    for name, call in texts.items():
        yield Target(name, call, to, kind="file", share=0.3)


def _is_page(path):
    return str(path).lower().endswith((".html", ".md", ".json", ".txt"))


def graph_targets():
    name = required(Kind((lambda: "dense",), lambda value: value == "dense"))
    yield Target(
        "ChannelGraph.group", lambda name: graph().group(name), {"name": name}, kind="graph"
    )

    def is_keep(value):
        return isinstance(value, dict) and all(
            key == "dense" and np.asarray(mask).shape == (6,) for key, mask in value.items()
        )

    keep = required(
        Kind(
            (lambda: {"dense": np.arange(6) < 3},),
            is_keep,
            (lambda: {"dense": np.zeros(6, bool)}, lambda: {"dense": [1, 2]}),
        )
    )
    yield Target(
        "ChannelGraph.keep_array",
        lambda keep: graph().keep_array(keep),
        {"keep": keep},
        kind="graph",
    )

    def is_kept(value):
        array = np.asarray(value)
        return array.dtype == bool and array.shape == (graph().num_channels,)

    kept = required(Kind((lambda: np.ones(graph().num_channels, bool),), is_kept))
    yield Target(
        "ChannelGraph.keep_by_producer",
        lambda kept: graph().keep_by_producer(kept),
        {"kept": kept},
        kind="graph",
    )


def targets():
    """All of them."""
    groups = (
        method_targets,
        schedule_targets,
        layer_targets,
        optimizer_targets,
        forget_targets,
        callback_targets,
        function_targets,
        task_targets,
        sequence_targets,
        file_targets,
        graph_targets,
    )
    return [target for group in groups for target in group()]
