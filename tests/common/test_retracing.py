"""Only what need not be told is left out."""

import logging

from resrep_keras.common.retracing import quiet_about_tracing


def test_only_the_warning_of_tracing_is_left_out():
    logger, heard = logging.getLogger("tensorflow"), []
    listener = logging.Handler()
    listener.emit = lambda record: heard.append(record.getMessage())
    logger.addHandler(listener)
    try:
        with quiet_about_tracing():
            logger.warning("%d calls triggered tf.function retracing.", 5)
            logger.warning("other")
        logger.warning("2 calls triggered tf.function retracing.")
    finally:
        logger.removeHandler(listener)
    assert heard == ["other", "2 calls triggered tf.function retracing."]
