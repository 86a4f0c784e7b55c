"""Flags of the examples: checked before training, and kept beside what a run has made."""

import json
import sys

from absl import flags

import resrep_keras
from resrep_keras.common.files import write_text

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # what is defined here belongs to the example that asks for it


def count(name, default, text):
    """A flag of an int of 1 or more."""
    flags.DEFINE_integer(name, default, text, lower_bound=1)


def whole(name, default, text):
    """A flag of an int of 0 or more."""
    flags.DEFINE_integer(name, default, text, lower_bound=0)


def share(name, default, text):
    """A flag of a number between 0 and 1, both excluded."""
    flags.DEFINE_float(name, default, text)
    within(name, lambda value: 0 < value < 1, "a number between 0 and 1, both excluded")


def rate(name, default, text):
    """A flag of a number above 0."""
    flags.DEFINE_float(name, default, text)
    within(name, lambda value: 0 < value < float("inf"), "a number above 0")


def numbers(name, default, text, kind, check, words):
    """A flag of numbers with commas between them."""
    flags.DEFINE_list(name, default, text)

    def all_within(values):
        try:
            return bool(values) and all(check(kind(value)) for value in values)
        except ValueError:
            return False

    within(name, all_within, words)


def within(name, check, words):
    """Refuse a value of a flag for which `check` is not true; `words` say what is expected."""
    flags.register_validator(name, lambda value: value is None or check(value), f"expected {words}")


def wrapped(dense, method):
    """`resrep_keras.wrap(dense, method)`; a target that is out of reach ends the program in words.

    Asked of an untrained net, it costs a second, and no training for nothing.
    """
    try:
        return resrep_keras.wrap(dense, method)
    except ValueError as error:
        raise SystemExit(f"{sys.argv[0]}: {error}") from error


def keep(folder, *, but=("output_dir",)):
    """Write the flags of this run to `flags.json` in a folder that holds what it makes.

    A run that finds other flags there would go on with, or report, what was made by these.

    Args:
        folder: A `pathlib.Path`, which is made where it is missing.
        but: Flags that change nothing of what is made; the first names the folder.
    """
    own = FLAGS.flags_by_module_dict()[sys.argv[0]]
    given = {flag.name: flag.value for flag in own if flag.name not in but}
    path = folder / "flags.json"
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name in given if name not in before or before[name] != given[name]]
        if not other:
            return
        was, now = (
            " ".join(f"--{name}={values.get(name)}" for name in other) for values in (before, given)
        )
        raise SystemExit(
            f"'{folder}' holds a run with {was}; got {now}. Give the same flags to go on with it, "
            f"or another --{but[0]}."
        )
    write_text(path, json.dumps(given, indent=1) + "\n")
