"""Whether each benchmark can be started: its imports and its flags, and nothing else of it.

python -m tests.benchmark_arguments    # what .ci/run does

Each is run in a fork of a process that has imported what takes the time, and has run nothing.
"""

import functools
import sys

import keras  # noqa: F401
import tensorflow  # noqa: F401

import resrep_keras  # noqa: F401
from tests import forks
from tests.paths import ROOT

LONGEST = 120  # seconds


def _start(path):
    forks.run_program(path, ["--only_check_args"])


def main():
    failed = []
    paths = sorted((ROOT / "benchmarks").glob("*.py"))
    for pair in (paths[i : i + 2] for i in range(0, len(paths), 2)):
        started = {path.name: forks.fork(functools.partial(_start, path)) for path in pair}
        codes = {name: forks.wait(process, LONGEST) for name, process in started.items()}
        failed += [name for name, code in codes.items() if code != 0]
    print(f"{len(paths) - len(failed)} benchmarks can be started", flush=True)
    sys.exit(f"Cannot be started: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
