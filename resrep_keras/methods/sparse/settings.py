"""The settings of sparse training, which its method and its optimizer share."""

import dataclasses

from resrep_keras.common.checks import check_choice, check_number, check_settings, setting
from resrep_keras.methods.patterns import check_names
from resrep_keras.methods.sparse.masks import STARTS


@dataclasses.dataclass(eq=False, repr=False)
class SparseSettings:
    """How many weights become zero, when, and which grow again.

    Args:
        final_sparsity: Share of the weights that is zero in the end, in [0, 1). Defaults to `0.9`.
        initial_sparsity: Share that is zero from the beginning of the run on, in [0, 1). Masks hold
            behind the first step, whose gradient is that of the dense weights. Defaults to `0.0`.
        begin, end: Shares of the run at which gradual pruning begins and ends. Default to `0.0` and
            `0.5`.
        interval: Steps between updates of the masks, of which the first comes that many steps
            after `begin`. Defaults to a hundredth of the run.
        regrow_rate: Share of a layer's weights that each update drops and grows elsewhere at the
            beginning of the run, in [0, 1); it falls like a cosine to 0.005 at the end. `0` grows
            nothing. Defaults to `0.5`.
        regrow_end: Share of the run after which nothing grows any more, in [0, 1]; at `0` weights
            grow once, with the first update. Defaults to `1.0`.
        distribution: How an initial sparsity is spread: `"erk"` (see
            `resrep_keras.methods.sparse.densities.erk`) or `"uniform"`, at random positions, or
            `"magnitude"`, the largest weights. Defaults to `"erk"`.
        growth: `"gradient"` or `"random"`. Defaults to `"gradient"`.
        scope: Whether gradual pruning compares weights of all layers, `"global"`, or gives each
            layer its own sparsity by `distribution`, `"layer"`. Defaults to `"global"`.
        exclude: Names of layers, or of models and layers around them, paths of kernels, or patterns
            of any of these, that stay dense. Defaults to none.
        seed: Of initial masks and random growth. Defaults to `0`.

    Raises:
        TypeError: A setting of another kind.
        ValueError: A setting out of range.
    """

    final_sparsity: float = setting(0.9, check_number, at_least=0, below=1)
    initial_sparsity: float = setting(0.0, check_number, at_least=0, below=1)
    begin: float = setting(0.0, check_number, at_least=0, below=1)
    end: float = setting(0.5, check_number, above=0, at_most=1)
    interval: int | None = setting(None, check_number, at_least=1, whole=True)
    regrow_rate: float = setting(0.5, check_number, at_least=0, below=1)
    regrow_end: float = setting(1.0, check_number, at_least=0, at_most=1)
    distribution: str = setting("erk", check_choice, known=tuple(STARTS))
    growth: str = setting("gradient", check_choice, known=("gradient", "random"))
    scope: str = setting("global", check_choice, known=("global", "layer"))
    exclude: tuple = setting((), check_names)
    seed: int = setting(0, check_number, at_least=0, whole=True)

    def __post_init__(self):
        check_settings(self)
        check_number("final_sparsity", self.final_sparsity, at_least=self.initial_sparsity, below=1)
        check_number("end", self.end, above=self.begin, at_most=1)

    @property
    def changes(self):
        """Whether masks change during a run."""
        return self.regrow_rate > 0 or self.initial_sparsity < self.final_sparsity
