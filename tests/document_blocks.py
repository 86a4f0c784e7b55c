"""The Python blocks of README and docs, run page by page as a reader would type them.

The blocks of a page run in their order in one namespace, in a folder of their own. What the pages
take for given, `dense`, `x_train` and the like, stands in `given`; runs are shortened to a few
epochs. A block below `<!-- needs: package -->` runs where that package is installed.
"""

import importlib.util
import json
import pathlib
import re

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

import resrep_keras

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
BLOCK = re.compile(r"(?:<!-- needs: (\w+) -->\n)?```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
EPOCHS = 5  # the fewest of the planned schedule
EXAMPLES = 320


@keras.saving.register_keras_serializable("document_blocks")
class MyPointwiseLayer(layers.Layer):
    """A layer of the reader's own."""

    def call(self, inputs):
        return 2 * inputs


def blocks(page):
    """The `(package, code)` of each Python block of a page; None where it needs no package."""
    return [(needs or None, code) for needs, code in BLOCK.findall(page.read_text("utf-8"))]


def cells(notebook):
    """The `(None, code)` of each code cell of a notebook."""
    content = json.loads(notebook.read_text("utf-8"))
    found = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    return [(None, "".join(cell["source"])) for cell in found]


def given():
    """What the pages take for given: a compiled dense net, its slim model, and digits."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32").reshape(-1, 8, 8, 1)
    x_train, y_train = x[:EXAMPLES], y[:EXAMPLES]
    x_test, y_test = x[-EXAMPLES:], y[-EXAMPLES:]
    return {
        "keras": keras,
        "layers": layers,
        "np": np,
        "resrep_keras": resrep_keras,
        "MyPointwiseLayer": MyPointwiseLayer,
        "dense": _dense(),
        **{"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test},
        **{"x": x_train, "y": y_train, "x_val": x_test, "y_val": y_test},
    }


def _dense():
    outputs = inputs = keras.Input((8, 8, 1), name="image")
    for name, width in (("stem", 20), ("body_1", 24), ("body_2", 24)):
        outputs = layers.Conv2D(width, 3, padding="same", use_bias=False, name=name)(outputs)
        outputs = layers.ReLU()(layers.BatchNormalization(name=f"{name}_norm")(outputs))
    outputs = layers.GlobalAveragePooling2D()(outputs)
    outputs = layers.Dense(16, activation="relu", name="head_hidden")(outputs)
    outputs = layers.Dense(10, activation="softmax", name="head")(outputs)
    model = keras.Model(inputs, outputs, name="dense")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def shortened(code):
    """The same code with few epochs."""
    return re.sub(r"\b((?:\w+_)?epochs=)\d+", rf"\g<1>{EPOCHS}", code)


def run(parts, name):
    """Run the parts of one page; those whose package is not installed are passed over."""
    namespace = {**given(), "__name__": f"document_blocks_{name}"}
    if any(re.search(r"\bslim\b", code) for _, code in parts):
        namespace["slim"] = resrep_keras.prune(namespace["dense"])
    for number, (needs, code) in enumerate(parts):
        if needs is not None and importlib.util.find_spec(needs) is None:
            continue
        exec(compile(shortened(code), f"<{name}, block {number}>", "exec"), namespace)
    return namespace
