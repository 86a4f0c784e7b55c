"""Imports Keras without the notes on the machine that TensorFlow prints meanwhile.

No variable of the environment keeps them back (TensorFlow 2.21). Warnings and errors come through;
`--verbosity=0` brings back what `absl.app` shows by default.
"""

import os
import sys
import tempfile

from absl import logging

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

NOTES = (b"I0000", b"WARNING: All log messages before absl::InitializeLog()")


def import_keras():
    """Import Keras, and with it the backend that it is set to."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            import keras  # noqa: F401
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            said.seek(0)
            os.write(2, b"".join(line for line in said if not line.startswith(NOTES)))


logging.set_verbosity(logging.WARNING)
import_keras()
