"""Whether each benchmark can be started: its imports and its flags, and nothing else of it.

python -m tests.benchmark_arguments    # what .ci/run does

Each is run in a fork of a process that has imported what takes the time, and has run nothing.
"""

import sys

import keras  # noqa: F401
import tensorflow  # noqa: F401

import resrep_keras  # noqa: F401
from tests import forks
from tests.paths import ROOT

LONGEST = 120  # seconds


def main():
    failed = []
    paths = sorted((ROOT / "benchmarks").glob("*.py"))
    for path in paths:
        process = forks.fork(lambda path=path: forks.run_program(path, ["--only_check_args"]))
        if forks.wait(process, LONGEST) != 0:
            failed.append(path.name)
    print(f"{len(paths) - len(failed)} benchmarks can be started", flush=True)
    sys.exit(f"Cannot be started: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
