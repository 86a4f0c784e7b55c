"""What an error says of what was given to a command: words instead of a traceback."""

import sys

# What the library, Keras and the file system raise of what will not do.
MISTAKES = (ValueError, TypeError, OSError, ImportError)


def words_of(error):
    """What an error says of what was given; `None` of one that is no mistake of the user's."""
    if isinstance(error, MISTAKES):
        return str(error)
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and isinstance(error, tensorflow.errors.OpError):
        cause = _cause(error.message)
        return f"TensorFlow cannot compute with what was given (--traceback tells where): {cause}"
    return None


def _cause(message):
    """The first line of a message of TensorFlow that tells what was wrong, not where."""
    told = "an operation has failed"
    for line in message.splitlines():
        where = line.startswith((" ", "\t", "Detected at node", "Graph execution error", "Stack"))
        if line.strip() and not where:
            return line.strip()
    return told
