"""What activation-gradient pruning has left of gradients, and of the products they go into."""

import keras

from resrep_keras.common.checks import check_instance, check_number, shown
from resrep_keras.costs.macs import MacCost
from resrep_keras.graph.trace import trace
from resrep_keras.graph.unroll import check_model
from resrep_keras.methods.gradients.method import pruners_of, zeros_of
from resrep_keras.methods.gradients.places import Places
from resrep_keras.methods.wrapped import baseline_of


def gradient_sparsity(model: keras.Model) -> dict[str, float]:
    """The fraction of zeros in each gradient that is pruned.

    Args:
        model: A model made by `wrap(model, ActivationGradientPruning())`, and trained.

    Returns:
        ``{name of a convolution: fraction}``: the running mean over about the last 100 steps, of
        the gradient at its output or at its input, whichever is pruned. A convolution that has seen
        no pruned gradient yet is left out. Only TensorFlow measures; on other backends it is empty.

    Raises:
        ValueError: A model without pruners.

    Example:

    >>> resrep_keras.gradient_sparsity(model)
    {'conv2d': 0.75, 'conv2d_1': 0.79}
    """
    check_model(model)
    pruners = pruners_of(model)
    zeros = {name: zeros_of(pruners[at["pruner"]]) for name, at in _places(model).items()}
    return {name: fraction for name, fraction in zeros.items() if fraction is not None}


def backward_macs(model: keras.Model, zeros: dict[str, float] | None = None) -> tuple[int, int]:
    """Count the multiply-adds of the backward pass of all convolutions, for one example.

    Both products of a convolution, for the gradient of its weights and for that of its input, have
    the gradient at its output as a factor, and take as many multiply-adds as the forward pass. Of
    a gradient with a share `z` of zeros, ``1 - z`` of them are left.

    These are counted multiply-adds, not seconds: dense kernels multiply with zeros, too, and get no
    faster. Zeros that activations add are counted in neither number; the first layer needs
    no gradient of its input, and frozen layers none of their weights. Dense and separable layers,
    and what stands in a `TimeDistributed`, are left out.

    Args:
        model: A model made by `wrap(model, ActivationGradientPruning())`.
        zeros: ``{name of a convolution: fraction}`` as `gradient_sparsity` returns it, which is the
            default. Convolutions that are left out count as dense.

    Returns:
        ``(dense, pruned)``, ints.

    Raises:
        ValueError: A model without pruners; nothing was measured; an unknown name; a size that the
            count depends on is unknown.
    """
    places = _places(model)
    if zeros is not None:
        words = "a dict {name of a convolution: fraction}, as gradient_sparsity() returns it"
        check_instance("zeros", zeros, dict, words)
    if zeros is None:
        zeros = gradient_sparsity(model)
        if not zeros:
            raise ValueError(
                f"Model '{model.name}' has measured no pruned gradient. Expected one that was "
                "trained for more steps than fifo_depth, on TensorFlow; or give "
                "zeros={'conv2d': 0.5}, say."
            )
    unknown = [name for name in zeros if name not in places]
    if unknown:
        raise ValueError(
            f"Expected zeros to name convolutions whose gradient is pruned ({', '.join(places)}); "
            f"got {shown(unknown[0])}."
        )
    for name, fraction in zeros.items():
        check_number(f"zeros['{name}']", fraction, at_least=0, at_most=1)
    density = {
        cheaper: 1 - fraction
        for name, fraction in zeros.items()
        for cheaper in places[name]["cheaper"]
    }
    macs = MacCost(trace(model)).by_layer()
    wanted = Places(model).gradients()
    dense = {name: macs[name] * sum(gradients) for name, gradients in wanted.items()}
    pruned = sum(number * density.get(name, 1.0) for name, number in dense.items())
    return sum(dense.values()), round(pruned)


def _places(model):
    check_model(model)
    baseline = baseline_of(model)
    if baseline is None or not baseline.places:
        raise ValueError(
            f"Model '{model.name}' has no gradients that are pruned. Expected one made by "
            "resrep_keras.wrap(model, ActivationGradientPruning())."
        )
    return baseline.places
