"""What need not be told."""

import contextlib
import logging


@contextlib.contextmanager
def _without(words):
    """Without TensorFlow's messages that have these words."""
    logger = logging.getLogger("tensorflow")

    def other(record):
        return words not in record.getMessage()

    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


def quiet_about_tracing():
    """Without TensorFlow's warning of functions that are traced often.

    It counts those of all models as one function; each of them is traced once, as it must be.
    """
    return _without("triggered tf.function retracing")


def quiet_about_folders():
    """Without TensorFlow's message of each SavedModel it writes: they are temporary folders."""
    return _without("Assets written to")
