"""export(model, path): write a model, read it back, compare."""

import keras
import numpy as np

from resrep_keras.common.checks import check_bool, check_path
from resrep_keras.common.files import written_beside
from resrep_keras.deploy.formats import FORMATS
from resrep_keras.graph.trace import recording_of
from resrep_keras.graph.unroll import check_model
from resrep_keras.surgery.forward import example_inputs, run
from resrep_keras.surgery.insert import compactors_by_site


def export(model, path, sparse=False, input_shape=None):
    """Write a slim model, reload it and compare both on random inputs.

    The ending of the path names the format: `.keras`, `.tflite` (float32, batch size 1), or a
    folder for a SavedModel. The file is written beside its place and then renamed.

    Args:
        model: Functional or Sequential model without compactors.
        path: File or folder to write; what stands there is replaced.
        sparse: Whether a `.tflite` file stores kernels that are mostly zero without their zeros,
            for models that `GraNet` has made sparse. It is smaller on disk; few kernels run
            faster, see `docs/sparsity.md`. Defaults to `False`.
        input_shape: Shape without batch of the random inputs where the model leaves sizes open, see
            `resrep_keras.graph.sizes`. Defaults to `None`, by which such a size is 64.

    Returns:
        The largest difference of any output value between the model and the file, as a share of the
        largest output value. The `tolerance` of a format, see `resrep_keras.deploy.formats`, says
        how much of it is rounding.

    Raises:
        TypeError: Not a Keras model.
        ValueError: The model is not finalized, the ending is unknown or not `.tflite` where
            `sparse` is set, or the backend cannot do it.
    """
    check_model(model)
    path, sparse = check_path("path", path), check_bool("sparse", sparse)
    if compactors_by_site(recording_of(model)):
        raise ValueError(
            f"Model '{model.name}' has compactors. Export the slim model that "
            "resrep_keras.finalize(model) returns."
        )
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        endings = " or ".join(suffix for suffix in FORMATS if suffix)
        raise ValueError(
            f"Expected a path that ends in {endings}, or a folder without an ending for a "
            f"SavedModel; got '{path}'."
        )
    settings = {"sparse": True} if sparse else {}
    _check_settings(form, settings, path)
    inputs = example_inputs(model, batch_size=1, input_shape=input_shape)
    with written_beside(path) as fresh:
        form.write(model, fresh, **settings)
    expected, actual = keras.tree.flatten(run(model, inputs)), form.run(path, inputs)
    return max(
        float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12)) for a, b in zip(expected, actual)
    )


def _check_settings(form, settings, path):
    for name, value in settings.items():
        if name not in form.settings:
            able = " or ".join(other.ending for other in FORMATS.values() if name in other.settings)
            raise ValueError(f"Expected a path that {able} with {name}={value!r}; got '{path}'.")
