"""Only what need not be told is left out."""

import logging

import pytest

from resrep_keras.common.retracing import quiet_about_folders, quiet_about_tracing


@pytest.mark.parametrize(
    "quiet, message, argument",
    [
        (quiet_about_tracing, "%d calls triggered tf.function retracing.", 5),
        (quiet_about_folders, "Assets written to: %s", "/tmp/folder/assets"),
    ],
)
def test_only_this_message_is_left_out(quiet, message, argument):
    logger, heard = logging.getLogger("tensorflow"), []
    listener = logging.Handler()
    listener.emit = lambda record: heard.append(record.getMessage())
    logger.addHandler(listener)
    try:
        with quiet():
            logger.warning(message, argument)
            logger.warning("other")
        logger.warning(message, argument)
    finally:
        logger.removeHandler(listener)
    assert heard == ["other", message % argument]
