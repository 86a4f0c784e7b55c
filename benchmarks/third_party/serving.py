"""Processes that have imported what takes the time, and answer in forks of their own."""

import os
import signal
import subprocess
import sys
import traceback

LONGEST = 900  # seconds of an answer


class Server:
    """A process that reads lines and answers each with a line.

    Args:
        command: Its command.
        prefix: Of its answers; other lines, such as packages print, are passed over.
        settings: Its environment. Defaults to that of this process.
    """

    def __init__(self, command, prefix, settings=None):
        self.prefix = prefix
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=settings
        )

    def ask(self, line):
        """The answer to a line.

        Raises:
            RuntimeError: The process has ended.
        """
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        for said in self._process.stdout:
            if said.startswith(self.prefix):
                return said.removeprefix(self.prefix).strip()
        raise RuntimeError(f"'{' '.join(self._process.args)}' ended.")

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def fork(work, log):
    """Run `work()` in a fork that says what it says into a file; its exit code."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    code = 1
    try:
        signal.alarm(LONGEST)
        to = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for stream in (1, 2):
            os.dup2(to, stream)
        work()
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
