"""Programs in forks of a process that has imported what takes the time, and has run nothing."""

import os
import pathlib
import runpy
import signal
import sys
import time
import traceback


def fork(work):
    """Start `work()` in a fork of this process, which ends with it; returns its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    try:
        work()
        code = 0
    except SystemExit as end:
        code = end.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def run_program(path, arguments, stdout=None, stderr=None):
    """Be the program at a path; what it says goes to the files, where they are given."""
    for stream, file in ((1, stdout), (2, stderr)):
        if file is not None:
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.path[0] = str(pathlib.Path(path).parent)  # as for a script
    sys.argv = [str(path), *arguments]
    runpy.run_path(str(path), run_name="__main__")


def wait(process, seconds):
    """The exit code of a fork; `None` where it was not done in so many seconds, and was killed."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        number, status = os.waitpid(process, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None
