"""Long work tells how far it is: a line on the standard error, set by rich."""

import contextlib

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
    console = _console(verbose)
    if console is None:
        return iter(values)
    from rich.progress import track

    return track(values, description=words, console=console)


@contextlib.contextmanager
def silence(wanted=True):
    """Where it is wanted, nothing of Keras's or of this library's shows how far it is."""
    was_on = keras.config.is_interactive_logging_enabled()
    if wanted:
        keras.config.disable_interactive_logging()
    try:
        yield
    finally:
        if was_on:
            keras.config.enable_interactive_logging()


def tell(words, verbose="auto"):
    """Write a line where `in_sight` would show one.

    Args:
        words, verbose: See `in_sight`.
    """
    console = _console(verbose)
    if console is not None:
        console.print(words, markup=False, highlight=False, soft_wrap=True)


def _console(verbose):
    """What to write on; `None` for silence."""
    if verbose == 0 or (verbose == "auto" and not keras.config.is_interactive_logging_enabled()):
        return None
    from rich.console import Console

    console = Console(stderr=True)
    hidden = verbose == "auto" and not (console.is_terminal or console.is_jupyter)
    return None if hidden else console
