"""Loads slim models where the package of the model can be imported and this library cannot.

    python loading.py <folder of third_party> <list>

Reads folders from its input, a line each. In each it loads `slim.keras`, in a fork of its own, runs
it on `inputs.npz` and writes `outputs.npz`; answers with `ok`, or with what went wrong.
"""

import importlib
import os
import sys


def load_and_run(folder):
    import keras
    import numpy as np

    model = keras.models.load_model(f"{folder}/slim.keras")
    given = np.load(f"{folder}/inputs.npz")
    inputs = keras.tree.pack_sequence_as(model.input, [given[key] for key in given])
    outputs = keras.tree.flatten(model(inputs, training=False))
    np.savez(f"{folder}/outputs.npz", *[np.asarray(x, "float64") for x in outputs])


def answer(folder):
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        try:
            load_and_run(folder)
            words = "ok"
        except Exception as error:  # which is the answer
            words = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        os.write(writing, words.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(process, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read() or "it died"


if __name__ == "__main__":
    sys.modules["resrep_keras"] = None
    sys.path.insert(0, sys.argv[1])
    importlib.import_module(f"third_party.{sys.argv[2]}")
    for line in sys.stdin:
        print(f"loading: {answer(line.strip())}", flush=True)
