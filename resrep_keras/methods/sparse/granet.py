"""GraNet: gradual pruning of single weights, with neuroregeneration."""

import dataclasses

import keras

from resrep_keras.common.checks import check_number
from resrep_keras.graph.trace import recording_of, trace
from resrep_keras.methods.baseline import Baseline
from resrep_keras.methods.certificate import compare
from resrep_keras.methods.method import Method
from resrep_keras.methods.sparse.densities import density_of, named_by_path, sparse_kernels
from resrep_keras.methods.sparse.masks import numbers_at
from resrep_keras.methods.sparse.optimizer import SparseOptimizer
from resrep_keras.methods.sparse.settings import SparseSettings
from resrep_keras.methods.wrapped import baseline_of
from resrep_keras.optimizers.wrapper import find_wrapper
from resrep_keras.surgery.rebuild import rebuild
from resrep_keras.surgery.zero_channels import without_zero_channels


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(eq=False, repr=False)
class GraNet(SparseSettings, Method):
    """Makes single weights zero while the model trains: sparse kernels of the same shapes.

    From a dense model to a sparse one this is GraNet; from a sparse one to a sparser one, GraNet-ST
    (`GraNet.sparse_to_sparse`); other settings make gradual magnitude pruning, RigL, SET and static
    sparse training.

    `finalize` leaves exact zeros in a plain model. A channel whose weights are all zero is removed
    where that changes no output; nothing else becomes smaller in memory or faster by itself.

    Args:
        **settings: Those of `SparseSettings`, the first of which is `final_sparsity`, and
            `total_steps`.

    Raises:
        ValueError: A setting out of range.

    Example:

    >>> model = resrep_keras.wrap(dense, resrep_keras.GraNet(final_sparsity=0.95))
    >>> model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    >>> history = model.fit(x, y, epochs=20)
    >>> sparse = resrep_keras.finalize(model)

    Reference:
        Liu et al., "Sparse Training via Boosting Pruning Plasticity with Neuroregeneration",
        NeurIPS 2021.
    """

    def __post_init__(self):
        SparseSettings.__post_init__(self)
        Method.__post_init__(self)

    # Settings by the names of other methods --------------------------------------------------

    @classmethod
    def sparse_to_sparse(cls, final_sparsity=0.9, initial_sparsity=0.5, **settings):
        """GraNet-ST: gradual pruning with neuroregeneration, from a sparse beginning."""
        return cls(final_sparsity, initial_sparsity, **settings)

    @classmethod
    def gmp(cls, final_sparsity=0.9, **settings):
        """Gradual magnitude pruning (Zhu and Gupta, 2017): nothing grows again."""
        return cls(final_sparsity, **{"regrow_rate": 0.0, **settings})

    @classmethod
    def rigl(cls, sparsity=0.9, **settings):
        """RigL (Evci et al., ICML 2020): a fixed sparsity, growth by gradient."""
        return cls(*_twice(sparsity), **settings)

    @classmethod
    def set(cls, sparsity=0.9, **settings):
        """SET (Mocanu et al., 2018): a fixed sparsity, growth at random."""
        return cls(*_twice(sparsity), **{"growth": "random", **settings})

    @classmethod
    def static(cls, sparsity=0.9, **settings):
        """A sparse model whose masks never change."""
        return cls(*_twice(sparsity), **{"regrow_rate": 0.0, **settings})

    # What a method answers ------------------------------------------------------------------------

    def insert(self, model):
        recording = recording_of(model)
        paths = {call.name: call.path for call in recording.all_calls() if call.path}
        copy = rebuild(recording, checked=True)
        self.kernels(copy, paths)  # raises where there are none
        return copy, Baseline(paths=paths)

    def optimizer(self, inner, model=None):
        names = [field.name for field in dataclasses.fields(SparseSettings)]
        settings = {name: vars(self)[name] for name in names}
        if model is not None:
            settings["exclude"] = self.excluded(model)
        return SparseOptimizer(inner, **settings)

    def check_run(self, first, last):
        length = last - first
        if self.interval is None or not self.changes:
            return
        begin, end = (round(share * length) for share in (self.begin, self.end))
        gradual = self.initial_sparsity < self.final_sparsity
        room = (end if gradual else length) - begin
        if self.interval > room:
            phase = "gradual pruning" if gradual else "the run"
            raise ValueError(
                f"Expected an interval of at most {room} steps, so that the masks are made anew "
                f"once before {phase} ends; got {self.interval} in a run of {length} steps with "
                f"begin={self.begin}" + (f", end={self.end}" if gradual else "") + ". Train for "
                "more epochs or steps, or set a smaller interval."
            )

    def logs(self, model):
        kept, total = self._kept(model)
        return {"sparsity": 1 - kept / total}

    def target_met(self, model):
        shapes = [kernel.shape for kernel in self.kernels(model)]
        goal = numbers_at(shapes, self.final_sparsity, self.distribution, self.scope)
        return self._kept(model)[0] <= sum(goal)

    def finalize(self, model, data=None, keep_batch_norm=False):
        del keep_batch_norm  # all stay
        graph = trace(model, spare_frozen=True)
        slim = without_zero_channels(graph) or rebuild(graph.recording)
        return compare(model, graph, slim, data, self._missed(model))

    def kernels(self, model, paths=None):
        """The variables of a wrapped model that are made sparse."""
        return sparse_kernels(model.trainable_variables, self.excluded(model, paths))

    def excluded(self, model, paths=None):
        """`exclude` by the names that a wrapped model, in which nothing is nested, has left.

        Args:
            model: The wrapped model.
            paths: See `Baseline`. Defaults to what was noted of the model.
        """
        baseline = baseline_of(model)
        noted = {} if baseline is None else baseline.paths
        return named_by_path(model.weights, self.exclude, noted if paths is None else paths)

    def _missed(self, model):
        if not self.target_met(model):
            kept, total = self._kept(model)
            yield (
                f"The target is not met: final_sparsity={self.final_sparsity:.4g}, but "
                f"{1 - kept / total:.4f} of the weights are zero. Train for the whole run that "
                "fit() was started with."
            )

    def _kept(self, model):
        """How many weights are kept, and how many there are."""
        wrapper = find_wrapper(model.optimizer) if model.compiled else None
        if wrapper is not None and wrapper.built:
            masks = wrapper.masks().values()
            return sum(int(m.sum()) for m in masks), sum(m.size for m in masks)
        found = density_of(model, self.excluded(model))["total"]  # loaded without its optimizer
        return found["size"] - found["zeros"], found["size"]


def _twice(sparsity):
    """A sparsity that stays as it is, as the final and the initial one."""
    check_number("sparsity", sparsity, at_least=0, below=1)
    return sparsity, sparsity
