"""export(model, path): write a model, read it back, compare."""

import keras

from resrep_keras.common.checks import check_bool, check_number, check_optional, check_path
from resrep_keras.common.types import Data, InputShape, Path
from resrep_keras.deploy.exported import Exported
from resrep_keras.deploy.formats import FORMATS, format_of
from resrep_keras.deploy.judge import check_judge
from resrep_keras.deploy.writing import Writing
from resrep_keras.graph.trace import recording_of
from resrep_keras.graph.unroll import check_model
from resrep_keras.surgery.insert import compactors_by_site
from resrep_keras.tflite.quantization import check_quantization

# Of what only some formats take: else it is an error.
DEFAULTS = {"sparse": False, "batch_size": 1, "quantization": None, "inference_type": None}


def export(
    model: keras.Model,
    path: Path,
    sparse: bool = False,
    input_shape: InputShape = None,
    data: Data = None,
    *,
    quantization: str | None = None,
    calibration_data: Data = None,
    inference_type: str | None = None,
    batch_size: int | None = 1,
    test_data: Data = None,
    latency: bool = False,
    tolerance: float | None = None,
) -> Exported:
    """Write a slim model, reload it and compare both on the same inputs.

    The ending of the path names the format: `.keras`, `.tflite`, `.onnx`, `.openvino` (a folder
    with a file `.xml`, and its weights), or none for a SavedModel, a folder, too. Inputs and
    outputs are called as in the model: by the keys of a dict, else by Keras's names, in the default
    signature. All but `.tflite` take any number of examples. The file is written beside its place,
    run there, and only then renamed.

    ONNX files need `pip install "resrep-keras[onnx]"`, OpenVINO `"resrep-keras[openvino]"`.

    Args:
        model: Functional or Sequential model without compactors.
        path: File or folder to write. A file takes the place of a file; a folder that of an empty
            one or of one that holds nothing but this format. What stands there stays until the new
            one is read back.
        sparse: Whether a `.tflite` file stores kernels that are mostly zero without their zeros,
            for models that `GraNet` has made sparse. It is smaller on disk; few kernels run
            faster, see `docs/sparsity.md`. Defaults to `False`.
        input_shape: Shape without batch of the random inputs where the model leaves sizes open, see
            `resrep_keras.graph.sizes`. Defaults to `None`, by which such a size is 64.
        data: Inputs of the model, of which up to 32 are compared: arrays, or a data set of batches.
            Defaults to those of `test_data`, else to `calibration_data`, else to random ones.
        quantization: How a `.tflite` file holds numbers: `"float16"` (weights of half the size),
            `"dynamic"` (weights in int8, which need no data), `"int8"` (all integers, a quarter of
            the size, fastest on phones and the only choice for most microcontrollers) or
            `"int16x8"` (activations in int16: larger and slower, where int8 is not accurate
            enough). Defaults to `None`: float32.
        calibration_data: Some hundred inputs as the model will read them, for `"int8"` and
            `"int16x8"`: arrays in the structure of its inputs, or a data set of batches, with
            labels or without, of which the first 500 examples are read.
        inference_type: Type of the inputs and outputs of such a file, which nothing in float32
            shall be left in: `"int8"` or `"uint8"` with `"int8"`, `"int16"` with `"int16x8"`.
            Scales and zero points stand in the file. Defaults to `None`: floats stay floats there.
        batch_size: How many examples a `.tflite` file takes at once; `None` for any number, which
            keeps some kernels from being used. Defaults to `1`.
        test_data: `(x, y)` or `(x, y, sample_weight)` of arrays, or a data set of such batches,
            that model and file are both judged on by the loss and metrics that the model is
            compiled with. Defaults to none.
        latency: Whether to time the file. Defaults to `False`.
        tolerance: Largest difference with which the file is kept. Defaults to what can be rounding,
            see `resrep_keras.deploy.formats`, and to any with `quantization`.

    Returns:
        An `Exported`: `print` it. It is a float, the largest difference of any output value between
        the model and the file, as a share of the largest output value; what is not-a-number in both
        is none. Its attributes are what was measured: `bytes`, `quality`, `seconds` and others.

    Raises:
        ImportError: A package that the format needs is not installed.
        TypeError: Not a Keras model, or an argument of another kind.
        ValueError: The model is not finalized, the ending is unknown, or not one that an argument
            is for, calibration data are missing, something else stands at the path, the backend or
            the converter cannot do it, the file, read back, differs by more than `tolerance`, or an
            output is nothing but not-a-number, so that it cannot be compared. Nothing is written
            then.

    Example:

    >>> result = resrep_keras.export(
    ...     slim, "slim.tflite", quantization="int8", calibration_data=x_train[:200],
    ...     test_data=(x_test, y_test),
    ... )
    >>> print(result)
    """
    check_model(model)
    path, sparse = check_path("path", path), check_bool("sparse", sparse)
    latency = check_bool("latency", latency)
    batch_size = check_optional("batch_size", batch_size, check_number, at_least=1, whole=True)
    tolerance = check_optional("tolerance", tolerance, check_number, at_least=0)
    if compactors_by_site(recording_of(model)):
        raise ValueError(
            f"Model '{model.name}' has compactors. Export the slim model that "
            "resrep_keras.finalize(model) returns."
        )
    form = format_of(path)
    any_number = form.is_open and batch_size is None  # as it is anyway
    settings = {"sparse": sparse, "batch_size": 1 if any_number else batch_size}
    settings |= {"quantization": quantization, "inference_type": inference_type}
    settings = {name: value for name, value in settings.items() if value != DEFAULTS[name]}
    _check_settings(form, settings, path)
    check_quantization(model, quantization, calibration_data, inference_type, sparse)
    if test_data is not None:
        check_judge(model, test_data)
    given = {"data": data, "test_data": test_data, "calibration_data": calibration_data}
    return Writing(model, form, path, settings, given, input_shape)(tolerance, latency)


def _check_settings(form, settings, path):
    for name, value in settings.items():
        if name not in form.settings:
            able = " or ".join(other.ending for other in FORMATS.values() if name in other.settings)
            raise ValueError(f"Expected a path that {able} with {name}={value!r}; got '{path}'.")
