"""Whether each benchmark can be started: its imports and its flags, and nothing else of it.

python -m tests.benchmark_arguments    # what .ci/run does

Each is run in a fork of a process that has imported what takes the time, and has run nothing.
"""

import os
import runpy
import sys
import traceback

import keras  # noqa: F401
import tensorflow  # noqa: F401

import resrep_keras  # noqa: F401
from tests.paths import ROOT


def start(path):
    """Run a benchmark that only looks at its arguments; never returns."""
    sys.path[0] = str(path.parent)  # as for a script
    sys.argv = [str(path), "--only_check_args"]
    try:
        runpy.run_path(str(path), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def main():
    failed = []
    paths = sorted((ROOT / "benchmarks").glob("*.py"))
    for path in paths:
        process = os.fork()
        if not process:
            start(path)
        if os.waitpid(process, 0)[1]:
            failed.append(path.name)
    print(f"{len(paths) - len(failed)} benchmarks can be started", flush=True)
    sys.exit(f"Cannot be started: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
