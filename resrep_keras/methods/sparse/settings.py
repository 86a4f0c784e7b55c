"""The settings of sparse training, which its method and its optimizer share."""

import dataclasses

from resrep_keras.common.checks import check_number
from resrep_keras.methods.sparse.masks import STARTS

CHOICES = {
    "distribution": STARTS,
    "growth": ("gradient", "random"),
    "scope": ("global", "layer"),
}


@dataclasses.dataclass(eq=False, repr=False)
class SparseSettings:
    """How many weights become zero, when, and which grow again.

    Args:
        final_sparsity: Share of the weights that is zero in the end, in [0, 1). Defaults to `0.9`.
        initial_sparsity: Share that is zero from the beginning of the run on, in [0, 1). Masks hold
            behind the first step, whose gradient is that of the dense weights. Defaults to `0.0`.
        begin, end: Shares of the run at which gradual pruning begins and ends. Default to `0.0` and
            `0.5`.
        interval: Steps between updates of the masks. Defaults to a hundredth of the run.
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
        exclude: Layers, paths of kernels or patterns of either that stay dense. Defaults to none.
        seed: Of initial masks and random growth. Defaults to `0`.

    Raises:
        TypeError: A setting of another kind.
        ValueError: A setting out of range.
    """

    final_sparsity: float = 0.9
    initial_sparsity: float = 0.0
    begin: float = 0.0
    end: float = 0.5
    interval: int | None = None
    regrow_rate: float = 0.5
    regrow_end: float = 1.0
    distribution: str = "erk"
    growth: str = "gradient"
    scope: str = "global"
    exclude: tuple = ()
    seed: int = 0

    def __post_init__(self):
        check_number("initial_sparsity", self.initial_sparsity, at_least=0, below=1)
        check_number("final_sparsity", self.final_sparsity, at_least=self.initial_sparsity, below=1)
        check_number("begin", self.begin, at_least=0, below=1)
        check_number("end", self.end, above=self.begin, at_most=1)
        check_number("regrow_rate", self.regrow_rate, at_least=0, below=1)
        check_number("regrow_end", self.regrow_end, at_least=0, at_most=1)
        if self.interval is not None:
            check_number("interval", self.interval, at_least=1, whole=True)
        check_number("seed", self.seed, at_least=0, whole=True)
        for name, known in CHOICES.items():
            given = vars(self)[name]
            if given not in known:
                raise ValueError(f"Expected {name} to be one of {', '.join(known)}; got {given!r}.")
        exclude = self.exclude
        if isinstance(exclude, str) or not all(isinstance(each, str) for each in exclude):
            raise TypeError(
                "Expected exclude to be a list of layers, paths of kernels or patterns; got "
                f"{exclude!r}."
            )
        self.exclude = tuple(exclude)
