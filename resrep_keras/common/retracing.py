"""What need not be told."""

import contextlib
import logging


@contextlib.contextmanager
def quiet_about_tracing():
    """Without TensorFlow's warning of functions that are traced often.

    It counts those of all models as one function; each of them is traced once, as it must be.
    """
    logger = logging.getLogger("tensorflow")

    def other(record):
        return "triggered tf.function retracing" not in record.getMessage()

    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)
