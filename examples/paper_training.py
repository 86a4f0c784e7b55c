"""How ResRep's experiments are trained and measured; `reproduce_paper.py` is the program."""

import csv
import dataclasses
import functools
import math

import coupled_decay
import keras
import paper_data
import tensorflow as tf

import resrep_keras
from resrep_keras.common.tables import markdown_table
from resrep_keras.methods.channels.schedules import PaperSchedule


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What the published code sets for a net.

    Args:
        dataset: The tfds name of its data.
        batch_size: Images in a step.
        epochs: Epochs of pruning; the rate falls by a cosine from 0.01 to 0.
        dense_epochs: Epochs of training before, at 0.1, and a tenth from half and from three
            quarters on; 0 for weights that are downloaded.
        reduction: Share of the MACs to remove.
        steps: Steps of pruning.
    """

    dataset: str
    batch_size: int
    epochs: int
    dense_epochs: int
    reduction: float
    steps: int


PAPER = {
    "resnet56": Experiment("cifar10", 64, 480, 240, 0.529, 480 * (50_000 // 64)),
    "resnet50": Experiment("imagenet2012", 256, 180, 0, 0.545, 180 * (1_281_167 // 256)),
}


# Momentum 0.99 carries a masked column past zero again and again; in this many steps the rate that
# falls to 0 brings it to rest there.
ENOUGH = 3_000


def make_method(net, epochs, steps, rate, reduction=None, planned=False):
    """`ResRep.paper()`; in a shorter run with its schedule scaled, and a penalty that suffices.

    Selections come after the same shares of the run as in the paper. There, a masked column could
    shrink by 19 times its norm at 1e-4, here by 3 times; to keep the 19 would need a penalty that
    is as many times stronger as the run is shorter, also on the columns that should stay.

    Args:
        net: A key of `PAPER`.
        epochs: Epochs of pruning.
        steps: Steps of all of them.
        rate: The learning rate at their start.
        reduction: Share of the MACs to remove; `None` for the paper's.
        planned: Whether to take this package's default method instead.
    """
    paper = PAPER[net]
    reduction = paper.reduction if reduction is None else reduction
    if planned:
        return resrep_keras.ResRep(target_reduction=reduction, scope="blocks")
    if steps >= paper.steps:
        return resrep_keras.ResRep.paper(target_reduction=reduction)
    share = steps / paper.steps
    interval = max(1, round(200 * share))
    schedule = PaperSchedule(
        warmup_epochs=max(1, round(5 * epochs / paper.epochs)),
        interval=interval,
        channels_per_selection=max(4, math.ceil(4 * interval / (200 * share))),
    )
    # The mean of a cosine is half of its begin, and momentum 0.99 multiplies it by 100.
    strength = max(1e-4, 3 / (steps * rate / 2 * 100))
    print(f"{share:.4f} of the paper's steps: {schedule}, penalty_strength={strength:.3g}")
    if steps < ENOUGH:
        print(
            f"Fewer than {ENOUGH} steps: channels will stay. Train longer, or --schedule=planned."
        )
    return resrep_keras.ResRep.paper(
        target_reduction=reduction, schedule=schedule, penalty_strength=strength
    )


def dense_schedule(rate, steps):
    """A tenth from half of the steps on, and a hundredth from three quarters on."""
    rates = [rate, rate / 10, rate / 100]
    return keras.optimizers.schedules.PiecewiseConstantDecay([steps // 2, steps * 3 // 4], rates)


def cosine(rate, steps):
    return keras.optimizers.schedules.CosineDecay(rate, steps)


def train(model, images, folder, epochs, batch_size, schedule, seed=0):
    """Fit with a backup in a folder, from which an interrupted run goes on as if it were not.

    Args:
        model: A dense or wrapped model.
        images: The `paper_data.Images`.
        folder: A `pathlib.Path`, whose name is that of the stage.
        epochs: To train for in all.
        batch_size: Images in a step of all devices together.
        schedule: Function of the number of steps that returns a learning rate.
        seed: An int.
    """
    folder.mkdir(parents=True, exist_ok=True)
    backup = resrep_keras.Backup(folder / "backup", delete_checkpoint=False)
    batches, steps = paper_data.training_batches(images, batch_size, seed, backup.epoch, epochs)
    model.compile(
        optimizer=coupled_decay.CoupledDecaySGD(schedule(epochs * steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(5, name="top5")],
    )
    model.fit(
        batches,
        steps_per_epoch=steps,
        shuffle=False,
        initial_epoch=backup.epoch,
        epochs=epochs,
        validation_data=paper_data.test_batches(images, batch_size),
        verbose=2,
        callbacks=[
            keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False),
            keras.callbacks.CSVLogger(folder / "epochs.csv", append=True),
            backup,  # it stays until the finished model is written
        ],
    )


def measured(model, images, batch_size):
    """Top-1 and top-5 accuracy in percent, MACs and parameters."""
    top1 = keras.metrics.SparseCategoricalAccuracy()
    top5 = keras.metrics.SparseTopKCategoricalAccuracy(5)
    # Not `evaluate`, in which workers would wait for each other: only one of them measures.
    logits_of = tf.function(functools.partial(model, training=False))
    for x, y in paper_data.test_batches(images, batch_size):
        logits = logits_of(x)
        top1.update_state(y, logits)
        top5.update_state(y, logits)
    return {
        "top1": round(100 * float(top1.result()), 3),
        "top5": round(100 * float(top5.result()), 3),
        "macs": resrep_keras.count_macs(model),
        "parameters": resrep_keras.count_params(model),
    }


def read_epochs(path):
    """What was logged at the end of each epoch; of one that was trained twice, the later.

    Nothing, where several machines have trained: they test the slim model only.
    """
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = {int(row["epoch"]): row for row in csv.DictReader(file)}
    return [
        {
            "epoch": epoch + 1,
            "top1": round(100 * float(row["val_accuracy"]), 3),
            "macs_left": round(float(row["macs_left"]), 4),
        }
        for epoch, row in sorted(rows.items())
    ]


def page_of(result):
    dense, slim, epochs = result["dense"], result["slim"], result["epochs"]
    rows = [
        (
            name,
            *(f"{values[key]:.2f}" for key in ("top1", "top5")),
            *(f"{values[key]:,}" for key in ("macs", "parameters")),
        )
        for name, values in (("dense", dense), ("slim", slim))
    ]
    return "\n".join(
        [
            "# The paper's experiment",
            "",
            f"`{result['command']}`",
            "",
            f"{result['machine']}, seed {result['seed']}, {result['images']:,} training images.",
            f"Method: `{result['method']}`.",
            "",
            *markdown_table(("model", "top-1 (%)", "top-5 (%)", "MACs", "parameters"), rows),
            "",
            f"{slim['macs'] / dense['macs']:.4f} of the MACs are left. Wrapped and slim model "
            f"differ by {result['largest_relative_difference']:.1e} of the largest output.",
            *_falls(epochs),
            "",
        ]
    )


def _falls(epochs):
    if not epochs:
        return
    lowest = min(epochs, key=lambda row: row["top1"])
    yield (
        f"While pruning, top-1 was {epochs[0]['top1']:.2f} % after the first of {len(epochs)} "
        f"epochs, {lowest['top1']:.2f} % at its lowest (epoch {lowest['epoch']}) and "
        f"{epochs[-1]['top1']:.2f} % after the last one."
    )
