"""PruningBoard: a pruning run in TensorBoard, as it goes on."""

import keras
import numpy as np

from resrep_keras.common.checks import check_bool, check_path
from resrep_keras.common.files import check_writable
from resrep_keras.common.types import Path
from resrep_keras.deploy.run_plots import plot_norms, plot_progress
from resrep_keras.methods.callback import InFit, wrapped_in
from resrep_keras.methods.channels.callback import PruningCallback
from resrep_keras.methods.pruning_log import QUANTILES, log_of

FOLDER = "pruning"  # the name of the run in TensorBoard, beside "train" and "validation"
PARTS = {"kept": "remember", "masked": "forget"}
NAMED = {0.0: "least", 0.5: "median", 1.0: "largest"}  # of the quantiles


class PruningBoard(InFit, keras.callbacks.Callback):
    """Writes a pruning run for TensorBoard: scalars, histograms of compactor norms, and figures.

    It stands beside `keras.callbacks.TensorBoard`, which writes losses and metrics, and writes in
    the folder `pruning` of the same `log_dir`: at each selection and at the end of each epoch the
    costs that are left, how many channels remember, are being forgotten, or are zero, and the
    norms of both; histograms of the norms of each compactor, and two figures.

    Args:
        log_dir: The folder that TensorBoard is started with. It is made where it is missing.
        histograms: Whether to write histograms at the end of each epoch, in `fit`. Defaults to
            `True`.
        figures: Whether to write figures when the run ends; they need matplotlib, of the extra
            `reports`. Defaults to `True`.

    Raises:
        ImportError: matplotlib, or TensorFlow, is not installed.
        ValueError: A folder in which nothing can be written; before the first step, a model that
            holds no wrapped one.

    Example:

    >>> boards = [keras.callbacks.TensorBoard("logs"), resrep_keras.PruningBoard("logs")]
    >>> model.fit(train, epochs=30, callbacks=boards)  # then: tensorboard --logdir logs
    """

    def __init__(self, log_dir: Path, histograms: bool = True, figures: bool = True) -> None:
        super().__init__()
        self.log_dir = check_path("log_dir", log_dir)
        self.histograms = check_bool("histograms", histograms)
        self.figures = check_bool("figures", figures)
        if self.figures:
            _check_matplotlib()
        self._pruned = self._writer = self._pruning = self._last = None

    def set_model(self, model):
        super().set_model(model)
        self._pruned = next(wrapped_in(model), None)
        if self._pruned is None:
            raise ValueError(
                f"Model '{model.name}' holds no pruning method. Expected a model made by "
                "resrep_keras.wrap(model), or one that has it among its layers."
            )

    def on_train_begin(self, logs=None):
        import tensorflow as tf

        check_writable(self.log_dir)
        self._writer = tf.summary.create_file_writer(str(self.log_dir / FOLDER))
        callbacks = () if self.fit_call is None else self.fit_call.callbacks
        self._pruning = next((c for c in callbacks if isinstance(c, PruningCallback)), None)
        self._last = None

    def on_epoch_begin(self, epoch, logs=None):
        log = log_of(self._pruned)
        if self._last is None and log is not None and len(log.entries) > 1:
            self._last = log.entries[-2]  # what an earlier run has noted; the last is the start

    def on_epoch_end(self, epoch, logs=None):
        self._write_new()
        if self.histograms:
            self._write_histograms(epoch)
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._write_new()
        log = log_of(self._pruned)
        if self.figures and log is not None:
            self._write_figures(log)
        self._writer.close()
        self._writer = self._pruning = None  # a callback can be used once more, or copied

    # ------------------------------------------------------------------------------------------

    def _write_new(self):
        import tensorflow as tf

        with self._writer.as_default():
            for entry in self._new_entries():
                for name, value in _scalars(entry).items():
                    tf.summary.scalar(name, value, step=entry.step)

    def _new_entries(self):
        """The entries of the log that are not yet written."""
        log = log_of(self._pruned)
        entries = [] if log is None else log.entries
        last = self._last
        known = next((n for n, entry in enumerate(entries) if entry is last), -1)
        if last is not None and known < 0:  # it was thinned out
            entries = [entry for entry in entries if entry.step > last.step]
        new = entries[known + 1 :]
        self._last = new[-1] if new else last
        return new

    def _write_histograms(self, epoch):
        import tensorflow as tf

        pairs = [] if self._pruning is None else self._pruning.channel_state.compactors
        with self._writer.as_default():
            for layer, _ in pairs:
                values = layer.column_norms()
                tf.summary.histogram(f"norms/{layer.name}", values, step=epoch, buckets=30)

    def _write_figures(self, log):
        import tensorflow as tf

        step = log.entries[-1].step
        with self._writer.as_default():
            if log.with_norms:
                pixels = _pixels(plot_norms(log))
                tf.summary.image("channels that remember and forget", pixels, step=step)
            tf.summary.image("quality and cost", _pixels(plot_progress(log)), step=step)


def _scalars(entry):
    """``{name in TensorBoard: value}``; losses and metrics are those of Keras's own callback."""
    own = {n: v for n, v in entry.values.items() if n.endswith("_left") or n in OWN_LOGS}
    told = {f"pruning/{name}": value for name, value in own.items()}
    norms = entry.norms
    if norms is None:
        return told
    told["channels/remember"] = norms.num_kept
    told["channels/being forgotten"] = norms.num_masked
    told["channels/zero or gone"] = norms.num_zero
    told["norms/sum, which the penalty presses"] = norms.total
    for part, words in PARTS.items():
        pairs = zip(QUANTILES, vars(norms)[part])
        told |= {f"norms/{words}, {NAMED[q]}": value for q, value in pairs if q in NAMED}
    return told


# What methods without compactors log.
OWN_LOGS = ("channels", "sparsity", "gradient_zeros")


def _pixels(figure):
    """A figure as an array `(1, height, width, 4)`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[None]


def _check_matplotlib():
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            f'Figures need matplotlib ({error}): pip install "resrep-keras[reports]", or give '
            "figures=False."
        ) from error
    del matplotlib
