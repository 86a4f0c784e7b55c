"""What AOFP makes of the damages that it has measured: the next move, and what a channel does."""

import numpy as np


def next_step(means, candidates, max_damage):
    """What a layer does at the end of a half-round.

    Args:
        means: Mean damage of each channel, float `(channels,)`; infinite where it was never drawn.
        candidates: Bool `(channels,)`, the search set.
        max_damage: What the worst of the chosen channels may do.

    Returns:
        `("move", channels)`: these can go, in the order of their damage; `("halve", channels)`:
        they are the next search set; `("stay", none)`: the round ends with nothing.
    """
    number = int(candidates.sum()) // 2
    order = np.argsort(np.where(candidates, means, np.inf), kind="stable")
    chosen = order[:number]
    if number and means[chosen[-1]] < max_damage:
        return "move", chosen
    return ("halve", chosen) if number > 1 else ("stay", chosen[:0])


def own_damages(means, candidates):
    """What each channel does by itself, of what halves with it do on average.

    A mean over halves says more of their size than of the channel, and cannot be compared with that
    of another layer. Where damages add up, halves of `g` of the `n` channels do with channel `j`

    ```
    T_j = d_j + (g - 1) / (n - 1) * (S - d_j),        S = d_1 + ... + d_n = mean(T) * n / g
    ```

    which is solved for `d_j`.

    Args:
        means: Mean damages `T`, float `(channels,)`; infinite where a channel was never drawn.
        candidates: Bool `(channels,)`, the search set of which halves were drawn.

    Returns:
        Float `(channels,)`; infinite where nothing is known, negative where chance made it so.
    """
    known = candidates & np.isfinite(means)
    number, found = int(candidates.sum()), np.full(len(means), np.inf)
    half = number // 2
    if known.any():
        total = means[known].mean() * number / half
        others = (half - 1) / (number - 1)
        found[known] = (means[known] - others * total) / (1 - others)
    return found


def without_chance(damages):
    """Damages of one layer drawn to their mean until none is negative; their sum stays.

    Few draws make some of the estimates too small and others too large.
    """
    known = np.isfinite(damages)
    least, mean = damages[known].min(initial=0.0), damages[known].mean() if known.any() else 0.0
    if mean <= 0:
        return np.where(known, 0.0, damages)
    share = mean / (mean - least) if least < 0 else 1.0
    return np.where(known, mean + share * (np.where(known, damages, mean) - mean), damages)
