"""The pictures of `docs/how_it_works.md`.

python docs/pictures.py

`norms.svg` is a run on scikit-learn's embedded digits: a minute on two cores.
"""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib
import numpy as np
from keras import layers
from matplotlib.patches import FancyArrowPatch, Rectangle
from sklearn.datasets import load_digits

import resrep_keras

matplotlib.use("svg")
import matplotlib.pyplot as plt

FOLDER = pathlib.Path(__file__).parent / "pictures"
KEPT, GONE, LINE = "#2f6f9f", "#c8553d", "#444444"
EPOCHS, CHANNELS, SEED = 20, 24, 0


def write(figure, name):
    figure.savefig(FOLDER / name, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


class Norms(keras.callbacks.Callback):
    """Keeps the norms of a compactor's columns after each epoch."""

    def __init__(self, compactor):
        super().__init__()
        self.compactor, self.rows = compactor, []

    def on_train_begin(self, logs=None):
        self.keep()

    def on_epoch_end(self, epoch, logs=None):
        self.keep()

    def keep(self):
        kernel = keras.ops.convert_to_numpy(self.compactor.kernel)
        self.rows.append(np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), axis=0))


def run():
    """Norms, epoch by epoch, of one layer's compactor, and which of its channels stay."""
    keras.utils.set_random_seed(SEED)
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32").reshape(-1, 8, 8, 1)
    outputs = inputs = keras.Input((8, 8, 1))
    for width in (CHANNELS, CHANNELS):
        outputs = layers.Conv2D(width, 3, padding="same", use_bias=False)(outputs)
        outputs = layers.ReLU()(layers.BatchNormalization()(outputs))
    outputs = layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(outputs))
    dense = keras.Model(inputs, outputs)
    steps = EPOCHS * -(-len(x) // 32)
    for model, epochs in ((dense, 5), (None, EPOCHS)):
        model = resrep_keras.wrap(dense, resrep_keras.ResRep(0.5)) if model is None else model
        rate = keras.optimizers.schedules.CosineDecay(0.05, steps)
        optimizer = keras.optimizers.SGD(rate, momentum=0.9)
        model.compile(optimizer, "sparse_categorical_crossentropy")
        compactors = [one for one in model.layers if isinstance(one, resrep_keras.Compactor)]
        callbacks = [Norms(compactors[0])] if compactors else []
        model.fit(x, y, epochs=epochs, batch_size=32, verbose=0, callbacks=callbacks)
    kept = keras.ops.convert_to_numpy(compactors[0].keep_mask).astype(bool)
    return np.array(callbacks[0].rows), kept


def draw_norms():
    norms, kept = run()
    figure, axes = plt.subplots(figsize=(7, 3.6))
    epochs = np.arange(len(norms))
    for channel, row in enumerate(norms.T):
        axes.plot(epochs, row, color=KEPT if kept[channel] else GONE, linewidth=1.1)
    axes.annotate(
        f"{kept.sum()} remember", (EPOCHS, norms[-1, kept].mean()), xytext=(6, 0), color=KEPT,
        textcoords="offset points", va="center",
    )  # fmt: skip
    axes.annotate(
        f"{(~kept).sum()} forget", (EPOCHS, norms[-1, ~kept].max()), xytext=(6, 0), color=GONE,
        textcoords="offset points", va="center",
    )  # fmt: skip
    axes.set(xlabel="epoch", ylabel="norm of a compactor's column", ylim=(0, None))
    axes.set(xlim=(0, EPOCHS), xticks=range(0, EPOCHS + 1, 5))
    axes.spines[["top", "right"]].set_visible(False)
    write(figure, "norms.svg")


def box(axes, x, height, words, gone=0.0, width=1.0):
    """A layer as a box; the share `gone` of its channels is shown as forgotten."""
    axes.add_patch(Rectangle((x, -height / 2), width, height, facecolor="white", edgecolor=LINE))
    part = height * gone
    axes.add_patch(Rectangle((x, -height / 2), width, height - part, facecolor=KEPT, alpha=0.25))
    if gone:
        axes.add_patch(
            Rectangle((x, height / 2 - part), width, part, facecolor=GONE, alpha=0.35, hatch="///")
        )
    axes.text(x + width / 2, -height / 2 - 0.15, words, ha="center", va="top", fontsize=9)


def arrow(axes, start, end):
    axes.add_patch(
        FancyArrowPatch((start, 0), (end, 0), arrowstyle="-|>", mutation_scale=12, color=LINE)
    )


def draw_compactor():
    figure, axes = plt.subplots(figsize=(9, 2.8))
    box(axes, 0, 2, "convolution")
    arrow(axes, 1, 1.6)
    box(axes, 1.6, 2, "batch norm")
    arrow(axes, 2.6, 3.2)
    box(axes, 3.2, 2, "compactor", gone=0.4)
    arrow(axes, 4.2, 4.8)
    box(axes, 4.8, 2, "activation", gone=0.4)
    axes.text(6.7, 0.1, "finalize", ha="center", fontsize=10)
    arrow(axes, 6.1, 7.3)
    box(axes, 7.6, 1.2, "convolution")
    arrow(axes, 8.6, 9.2)
    box(axes, 9.2, 1.2, "activation")
    axes.text(3.7, 1.15, "columns at zero", ha="center", color=GONE, fontsize=9)
    axes.set(xlim=(-0.2, 10.4), ylim=(-1.6, 1.5))
    axes.set_aspect("equal")
    axes.axis("off")
    write(figure, "compactor.svg")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    matplotlib.rcParams["svg.hashsalt"] = "resrep_keras"
    draw_compactor()
    draw_norms()
