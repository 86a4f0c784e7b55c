"""Long work tells how far it is: a line on the standard error, set by rich."""

import keras

from resrep_keras.common.checks import came


def check_verbose(verbose):
    """Return `0`, `1` or `"auto"`.

    Raises:
        ValueError: Something else.
    """
    if isinstance(verbose, (str, int)) and verbose in ("auto", 0, 1):
        return verbose
    raise ValueError(f"Expected verbose to be 'auto', 0 or 1; {came(verbose)}.")


def in_sight(values, words, verbose="auto"):
    """Go through a list, and show how far, with the time that is left.

    >>> for call in in_sight(calls, "timing layers"):
    ...     ...

    Args:
        values: A list.
        words: What is being done.
        verbose: `0` for silence, `1` for a line; `"auto"` for one where the standard error is a
            terminal or a notebook, unless `keras.config.disable_interactive_logging()` was called.
            Defaults to `"auto"`.
    """
    if verbose == 0 or (verbose == "auto" and not keras.config.is_interactive_logging_enabled()):
        return iter(values)
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = verbose == "auto" and not (console.is_terminal or console.is_jupyter)
    return track(values, description=words, console=console, disable=hidden)
