"""pruning_plasticity: how well a model recovers when it is pruned at this point of its training."""

import collections.abc
import dataclasses
import typing

import keras
from keras import ops

from resrep_keras.common.checks import check_function, check_number
from resrep_keras.graph.unroll import check_model
from resrep_keras.methods.sparse.densities import density_of
from resrep_keras.methods.sparse.granet import GraNet
from resrep_keras.methods.sparse.masks import first_masks
from resrep_keras.workflow.search import score_of
from resrep_keras.workflow.wrap import wrap


@dataclasses.dataclass(frozen=True)
class Plasticity:
    """What pruning at one point of training does to a score, usually the accuracy.

    Args:
        before: Score of the model as it was given.
        pruned: Score right after pruning.
        after: Score after the training that followed.
        sparsity: Share of the weights that was set to zero.
        regrow_rate: See `pruning_plasticity`.
    """

    before: float
    pruned: float
    after: float
    sparsity: float
    regrow_rate: float

    @property
    def value(self):
        """The pruning plasticity: `after - before`, the higher the better."""
        return self.after - self.before


def pruning_plasticity(
    model: keras.Model,
    train: collections.abc.Callable[[keras.Model], object],
    evaluate: collections.abc.Callable[[keras.Model], float],
    sparsity: float = 0.5,
    regrow_rate: float = 0.0,
    interval: int | None = None,
    regrow_end: float = 1.0,
    scope: str = "global",
    exclude: typing.Any = (),
) -> Plasticity:
    """Prune a model at once by magnitude, train it on, and compare.

    ```
    plasticity = score after k more epochs - score before pruning
    ```

    Early in training a net gets over it, and late it does not: asked at several points of a run,
    this tells until when pruning may go on.

    Args:
        model: A Keras model at some point of its training; it is left as it is.
        train: A function of a model, which compiles it and fits it for the k epochs, at the
            learning rate of this point. The masks are held by the optimizer that `compile` wraps,
            whose momentum begins at zero.
        evaluate: A function of a model that returns its score, a number; larger is better.
        sparsity: Share of the weights that is set to zero, above 0 and below 1. Defaults to `0.5`.
        regrow_rate: Share of a layer's weights that is dropped and grown elsewhere, by gradient, at
            each update of the masks while `train` runs; it falls to 0.005, see `SparseSettings`.
            Defaults to `0.0`, fixed masks.
        interval: Steps between these updates. Defaults to a hundredth of the training.
        regrow_end: Share of the training after which nothing grows any more; with `0` weights grow
            once, at the first update. Defaults to `1.0`.
        scope: `"global"`, the smallest weights of all layers together, or `"layer"`, the same share
            of each. Defaults to `"global"`.
        exclude: See `SparseSettings`. Defaults to none.

    Returns:
        A `Plasticity`.

    Raises:
        ValueError: A setting out of range, or `train` has not held the masks.

    Reference:
        Liu et al., "Sparse Training via Boosting Pruning Plasticity with Neuroregeneration",
        NeurIPS 2021, section 3.

    Note:
        The paper grows weights once, right after pruning: that is `interval=1, regrow_end=0`, by
        the gradient of the first batch. By default regrowth goes on while `train` runs, as in
        GraNet.
    """
    check_model(model)
    check_function("train", train, "a function that trains a model")
    check_function("evaluate", evaluate, "a function that maps a model to its score")
    sparsity = check_number("sparsity", sparsity, above=0, below=1)
    spread: dict[str, typing.Any] = {"distribution": "magnitude", "scope": scope}
    method = GraNet(
        final_sparsity=sparsity,
        initial_sparsity=sparsity,
        interval=interval,
        regrow_rate=regrow_rate,
        regrow_end=regrow_end,
        exclude=exclude,
        **spread,
    )
    before = score_of(evaluate, model)
    pruned = wrap(model, method)
    kernels, exclude = method.kernels(pruned), method.excluded(pruned)
    for kernel, mask in zip(kernels, first_masks(kernels, sparsity, **spread)):
        kernel.assign(ops.where(mask, kernel, ops.zeros_like(kernel.value)))
    score = score_of(evaluate, pruned)
    zeros = density_of(pruned, exclude)["total"]["zeros"]
    train(pruned)
    found = density_of(pruned, exclude)["total"]
    if found["zeros"] < zeros:
        raise ValueError(
            f"Expected train to keep {zeros} weights at zero; {found['zeros']} are left. It has to "
            "call compile() and fit() of the model that it is given, so that the optimizer is "
            "wrapped."
        )
    return Plasticity(
        before=before,
        pruned=score,
        after=score_of(evaluate, pruned),
        sparsity=zeros / found["size"],
        regrow_rate=float(regrow_rate),
    )
