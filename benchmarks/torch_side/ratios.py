"""Which pruning ratio leaves a share of the multiply-adds; plain Python, for either side."""


def ratio_for(share_left, target, tolerance=0.005, tries=12):
    """`(ratio, share)`: the pruning ratio whose share of multiply-adds is nearest to a target.

    Shares fall in steps, since channels are whole. A share above the target counts only within the
    tolerance; where neither side of the step is within it, the one below the target is taken.

    Args:
        share_left: Tells what a ratio between 0 and 1 leaves, in general less the higher it is.
        target: The share to be left.
        tolerance: By how much it may be exceeded.
        tries: How often the interval of ratios is halved.
    """
    low, high = 0.0, 1.0
    above, below = None, None
    for _ in range(tries):
        ratio = (low + high) / 2
        share = share_left(ratio)
        if share > target:
            low, above = ratio, (ratio, share)
        else:
            high, below = ratio, (ratio, share)
    if below is None or (above and above[1] - target <= min(tolerance, target - below[1])):
        return above
    return below
