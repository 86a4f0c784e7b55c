"""Every public callable, called with what belongs elsewhere: refused in words, or obeyed.

python -m tests.conditions.drawn_calls [calls]    # prints the figures by kind

For each argument stands here, apart from the library, what it may be. A call gets good values but
for one or two arguments, which get what users and their configuration files put there by mistake.
"""

import collections
import contextlib
import dataclasses
import pathlib
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable

import numpy as np

import resrep_keras as rk
from tests.conditions.drawn_arguments import ODD, keep_what_was_given

PACKAGE = pathlib.Path(rk.__file__).parent
LONGEST = 60  # seconds of one call


@dataclasses.dataclass(frozen=True)
class Target:
    """Something public to call.

    Args:
        name: Its name; what stands before a dot is its kind in the figures.
        call: The callable, which takes `arguments` by name.
        arguments: ``{name: Kind}``.
        kept: What the result has kept of the arguments, ``{name: value}``; an argument that is
            left out there is not looked at.
        kind: What it is, for the figures.
        share: How often it is called, in shares of others: less where a good call takes long.
    """

    name: str
    call: Callable
    arguments: dict
    kept: Callable = lambda result: {}
    kind: str = "function"
    share: float = 1.0
    says: tuple = ()  # other names by which errors may call an argument


class Endless(BaseException):
    """A call that has not ended in time."""


@contextlib.contextmanager
def ends(seconds):
    """Raise `Endless` where the block takes longer."""

    def stop(*_):
        raise Endless

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclasses.dataclass
class Outcome:
    """What became of one call.

    Args:
        target: The `Target`.
        wrong: ``{argument: value}`` of those that were drawn.
        word: `"accepted"`, `"refused"`, or what is wrong with it: `"foreign"`, `"endless"`,
            `"no words"`, `"ignored"`.
        text: The error, or what was accepted.
    """

    target: Target
    wrong: dict
    word: str
    text: str = ""

    def __str__(self):
        given = ", ".join(f"{name}={_shown(value)}" for name, value in self.wrong.items())
        return f"{self.word}: {self.target.name}({given}): {self.text}"


def _shown(value):
    try:
        return repr(value)[:80]
    except Exception:  # an object that cannot say what it is
        return f"<{type(value).__name__}>"


def outcome_of(target, given, wrong):
    """Make one call and judge it."""
    try:
        with ends(LONGEST), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = target.call(**given)
    except Endless:
        return Outcome(target, wrong, "endless", f"not done after {LONGEST} s")
    except Exception as error:
        if _raised_by_the_user(target, wrong):
            return Outcome(target, wrong, "refused", f"by what was given: {error}")
        if not isinstance(error, (TypeError, ValueError)):
            return Outcome(target, wrong, "foreign", _last_line(error))
        return _judge_refusal(target, wrong, error)
    for name, value in wrong.items():
        if not target.arguments[name].allows(value):
            return Outcome(target, wrong, "ignored", f"{name} was accepted")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of a lambda that is saved
            kept = target.kept(result)
    except Exception as error:
        return Outcome(target, wrong, "foreign", f"cannot be kept: {_last_line(error)}")
    for name, value in wrong.items():
        if name in kept and not keep_what_was_given(value, kept[name]):
            return Outcome(target, wrong, "ignored", f"{name} is kept as {kept[name]!r}")
    return Outcome(target, wrong, "accepted")


def _raised_by_the_user(target, wrong):
    """Whether a function was given that may be, and was called."""
    kinds = ((target.arguments[name], value) for name, value in wrong.items())
    return any(kind.called and kind.allows(value) for kind, value in kinds)


def _last_line(error):
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"[:300]


def _judge_refusal(target, wrong, error):
    place = pathlib.Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    if PACKAGE not in place.parents:
        return Outcome(target, wrong, "foreign", _last_line(error))
    text = str(error)
    names = "|".join(re.escape(name) for name in [*target.arguments, *target.says])
    if len(text) < 30 or not re.search(r"xpected|cannot|[Nn]ot|has|is|keep", text):
        return Outcome(target, wrong, "no words", _last_line(error))
    if not re.search(names, text, re.IGNORECASE):
        return Outcome(target, wrong, "no words", f"names no argument: {_last_line(error)}")
    return Outcome(target, wrong, "refused", text)


def draw(target, generator):
    """Arguments of one call: `(all that is given, those that were drawn)`."""
    names = list(target.arguments)
    number = min(len(names), 1 + (generator.uniform() < 0.3))
    chosen = [names[i] for i in generator.choice(len(names), number, replace=False)]
    given = {}
    for name, kind in target.arguments.items():
        if name not in chosen and (kind.required or generator.uniform() < 0.2):
            given[name] = kind.good[generator.integers(len(kind.good))]()
    wrong = {}
    for name in chosen:
        kind = target.arguments[name]
        values = [*ODD, *kind.odd, *kind.good]
        wrong[name] = values[generator.integers(len(values))]()
    return {**given, **wrong}, wrong


def run(targets, calls, seed=0, report=None):
    """Yield the `Outcome`s of so many calls."""
    generator = np.random.default_rng(seed)
    shares = np.array([target.share for target in targets])
    numbers = np.maximum(1, np.ceil(calls * shares / shares.sum()).astype(int))
    for target, number in zip(targets, numbers):
        begin = time.perf_counter()
        for _ in range(number):
            given, wrong = draw(target, generator)
            yield outcome_of(target, given, wrong)
        if report is not None:
            report(target, number, time.perf_counter() - begin)


def table(outcomes):
    """The figures by kind, as lines."""
    words = ("called", "accepted", "refused", "foreign", "endless", "no words", "ignored")
    rows = collections.defaultdict(collections.Counter)
    for outcome in outcomes:
        for key in (outcome.target.kind, "all"):
            rows[key]["called"] += 1
            rows[key][outcome.word] += 1
    last = rows.pop("all")
    lines = [f"{'':22}" + "".join(f"{word:>10}" for word in words)]
    for key, row in [*sorted(rows.items()), ("all", last)]:
        lines.append(f"{key:22}" + "".join(f"{row[word]:>10,}" for word in words))
    return "\n".join(lines)


def main():
    """Run the calls, and print what became of them."""
    from tests.conditions.drawn_targets import targets

    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    seconds = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        outcomes = list(
            run(targets(), calls, report=lambda t, n, s: seconds.update({t.name: (n, s)}))
        )
    bad = [o for o in outcomes if o.word not in ("accepted", "refused")]
    seen = collections.Counter()
    for outcome in bad:
        key = (outcome.word, outcome.target.name, *outcome.wrong)
        seen[key] += 1
        if seen[key] <= 2:
            print(outcome)
    for name, (number, spent) in sorted(seconds.items(), key=lambda pair: -pair[1][1])[:12]:
        print(f"{spent:6.1f} s  {number:5} x {name}")
    print(table(outcomes))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
