"""export(model, path): write a model, read it back, compare."""

import keras

from resrep_keras.common.checks import check_bool, check_path
from resrep_keras.common.files import write
from resrep_keras.deploy.formats import FORMATS
from resrep_keras.graph.trace import recording_of
from resrep_keras.graph.unroll import check_model
from resrep_keras.methods.certificate import tolerance_of
from resrep_keras.surgery.forward import check_data, example_inputs, run
from resrep_keras.surgery.heads import UNKNOWN, largest_difference
from resrep_keras.surgery.insert import compactors_by_site


def export(model, path, sparse=False, input_shape=None, data=None):
    """Write a slim model, reload it and compare both on the same inputs.

    The ending of the path names the format: `.keras`, `.tflite` (float32, batch size 1), or a
    folder for a SavedModel. Inputs and outputs are called as in the model: by the keys of a dict,
    else by Keras's names, in the default signature of both. The file is written beside its place,
    read back there, and only then renamed.

    Args:
        model: Functional or Sequential model without compactors.
        path: File or folder to write. A file takes the place of a file; a folder that of an empty
            one or of a SavedModel that holds nothing else. What stands there stays until the new
            one is read back.
        sparse: Whether a `.tflite` file stores kernels that are mostly zero without their zeros,
            for models that `GraNet` has made sparse. It is smaller on disk; few kernels run
            faster, see `docs/sparsity.md`. Defaults to `False`.
        input_shape: Shape without batch of the random inputs where the model leaves sizes open, see
            `resrep_keras.graph.sizes`. Defaults to `None`, by which such a size is 64.
        data: Inputs of the model, of which the first example is compared in the place of random
            ones. Defaults to `None`.

    Returns:
        The largest difference of any output value between the model and the file, as a share of the
        largest output value. What is not-a-number in both is no difference. The `tolerance` of a
        format, see `resrep_keras.deploy.formats`, says how much of it is rounding.

    Raises:
        TypeError: Not a Keras model.
        ValueError: The model is not finalized, the ending is unknown or not `.tflite` where
            `sparse` is set, something else stands at the path, the backend cannot do it, the file,
            read back, differs by more than rounding, or an output is nothing but not-a-number, so
            that it cannot be compared. Nothing is written then.
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
    written = form.prepare(model)
    if data is None:
        inputs = example_inputs(model, batch_size=1, input_shape=input_shape)
    else:
        inputs = keras.tree.map_structure(
            lambda value: value if value is None else value[:1], check_data(model, data)
        )
    expected = keras.tree.flatten(run(written, inputs))

    def read(fresh):
        outputs = form.run(fresh, written, inputs)
        _check(form, written, largest_difference(expected, outputs), path, data)
        return outputs

    outputs = write(
        path,
        lambda fresh: form.write(written, fresh, **settings),
        read,
        folder=form.may_replace is not None,
        may_replace=form.may_replace,
    )
    own = expected if written is model else keras.tree.flatten(run(model, inputs))
    return largest_difference(own, outputs).relative


def _check(form, model, found, path, data):
    if found is UNKNOWN:
        raise ValueError(
            f"The {form.name} for '{path}' cannot be compared with model '{model.name}': an output "
            f"of both is nothing but not-a-number on {'random inputs' if data is None else 'data'}."
            " Give data that the model is made for; where it is not a number on these either, "
            "training has diverged. Nothing is kept; what stood there is."
        )
    difference = found.relative
    limit = max(form.refused, tolerance_of(model))
    if not difference <= limit:
        raise ValueError(
            f"The {form.name} that was written for '{path}', read back, differs from model "
            f"'{model.name}' by {difference:.2g} of the largest output; up to {limit:.2g} can be "
            "rounding. It is not kept; what stood there is. The cause is a layer that computes "
            "otherwise when it is loaded or converted, such as one whose get_config() forgets an "
            "argument."
        )


def _check_settings(form, settings, path):
    for name, value in settings.items():
        if name not in form.settings:
            able = " or ".join(other.ending for other in FORMATS.values() if name in other.settings)
            raise ValueError(f"Expected a path that {able} with {name}={value!r}; got '{path}'.")
